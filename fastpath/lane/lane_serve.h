/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on the worker's side, a step at a time: look, claim, run, answer.
 *
 * Each step is an inline function, so that the loop over a home ring is one function without
 * boundaries, also together with what runs the call: knit_lane_serve_with() is that loop, and
 * whoever can run calls makes a function of it (lane_call.c, worker/runner.c). A thief goes the
 * same steps. They hold what is usual: a small argument, no deadline, a short task, a small result.
 * Whatever else a call is, functions of lane_call.c and lane_reply.c do in the same place.
 *
 * Edges, beside those of cursor.h:
 *   S1 settle      claim, then abort, seq_cst; with the session's abort, then claim: one sees the
 *                  other
 *   A1 answer      word release        with the session's word acquire: the outcome's bytes
 *   N1 completion  completion release  with the session's completion acquire: the word
 *
 * Threads: the worker's.
 */
#pragma once

#include "fastpath/lane/lane_private.h"

/* ---- the job -------------------------------------------------------------------------------- */

/* What is the same in all calls of a session. */
KNIT_ALWAYS_INLINE void knit_lane_begin_job(
    struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_job *job = &lane->job;

    lane->current = session;
    job->session = session->in.id;
    job->spare = KNIT_HEAD_SPARE;
    job->result_max = session->result_max;
    job->refusal = 0;
    job->wants_output = false;
    job->was_refused = false;
}

/* A small argument, and nothing that its caller wants beside a result. */
static inline bool knit_lane_is_plain(const struct knit_lane *lane, uint64_t meta)
{
    return (knit_meta_flags(meta) & ~KNIT_CELL_PINNED) == 0 &&
           knit_meta_len(meta) <= lane->inline_max;
}

/* Whether a claimed call may start, and the rest of its job: its own bytes, its deadline. */
bool knit_lane_prepare(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_ready_call *ready, uint64_t abort);

/* After a call that was not plain: the job, and what it took, are as before. */
void knit_lane_put_back(struct knit_lane *lane, struct knit_worker_session *session);

/* The job of a call that was claimed, and its place on the board. False: it may not start.
 * *ret_is_usual: nothing of the job has to be put back. */
KNIT_ALWAYS_INLINE bool knit_lane_take(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_ready_call *ready, bool *ret_is_usual)
{
    const uint32_t slot = knit_ctrl_slot(ready->ctrl);
    const uint64_t gen = knit_ctrl_gen(ready->ctrl);
    struct knit_job *job = &lane->job;
    bool is_usual, may_start = true;
    uint64_t abort;

    job->slot = slot;
    job->gen = gen;
    job->task = knit_meta_task(ready->meta);
    job->epoch = knit_meta_epoch(ready->meta);
    job->deadline_ns = ready->deadline;
    job->len = knit_meta_len(ready->meta);
    job->payload = ready->body;
    job->status = KNIT_STATUS_RESULT;
    /* S1, seq_cst: after the claim. */
    abort = atomic_load_explicit(&session->in.request.abort[slot], memory_order_seq_cst);
    is_usual = knit_lane_is_plain(lane, ready->meta) && ready->deadline == 0 &&
               !knit_abort_refuses(abort, gen) &&
               knit_state_is_served(knit_state_read(&session->in.reply));
    if (__builtin_expect(!is_usual, 0))
        may_start = knit_lane_prepare(lane, session, ready, abort);
    knit_reply_arena_forget(&session->arena, slot);
    /* relaxed: hints for balancers; the host, which acts on them, also reads the claim. */
    atomic_store_explicit(&lane->busy->deadline_ns, job->deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&lane->busy->calls, ++lane->calls, memory_order_relaxed);
    atomic_store_explicit(
        &lane->busy->running, knit_running(session->in.id, slot), memory_order_relaxed);
    *ret_is_usual = is_usual;
    return may_start;
}

/* ---- running -------------------------------------------------------------------------------- */

/* Any job: refused, long, or measured. Afterwards lane->was_long says what it was. */
void knit_lane_run_watched(struct knit_lane *lane, struct knit_cursor *cursor);

/* The call's task is known to be short, and this run of it is not measured; its mean, or 0. */
KNIT_ALWAYS_INLINE uint32_t knit_lane_expected_ns(const struct knit_lane *lane)
{
    const uint32_t mean = lane->mean_ns[lane->job.task];

    return mean < KNIT_SHORT_NS / 2 && lane->unmeasured > 0 ? mean : 0;
}

/* ---- the answer ----------------------------------------------------------------------------- */

/* The numbers of an answer. */
struct knit_lane_answer {
    uint32_t slot, status;
    uint64_t gen;
    size_t len;
};

/* CLAIMED -> ANSWERED. `block`: where the bytes lie in the lane's arena, or KNIT_NO_BLOCK: they go
 * into the cell. */
KNIT_ALWAYS_INLINE void knit_lane_write_answer(struct knit_lane *lane,
    struct knit_worker_session *session, const struct knit_lane_answer *answer, const void *bytes,
    uint64_t block)
{
    struct knit_reply_cell *cell = &session->in.reply.reply[answer->slot];
    const uint32_t cells = session->in.geometry.cells;
    const uint64_t position = session->completion_tail;
    uint32_t flags = 0;

    /* relaxed: A1 publishes these stores. */
    if (block != KNIT_NO_BLOCK) {
        flags = KNIT_CELL_IN_ARENA;
        atomic_store_explicit(&cell->block, block, memory_order_relaxed);
    } else {
        knit_cell_store(cell->body, bytes, answer->len);
    }
    atomic_store_explicit(&cell->meta, knit_meta(lane->options.index, 0, 0, (uint32_t)answer->len),
        memory_order_relaxed);
    /* A1 answer, release: the one outcome. */
    atomic_store_explicit(
        &cell->word, knit_word(answer->gen, answer->status, flags), memory_order_release);

    /* N1 completion, release. */
    atomic_store_explicit(&session->completions[position & (cells - 1)],
        knit_completion(answer->slot, position, cells), memory_order_release);
    session->completion_tail = position + 1;
    atomic_store_explicit(&session->own_line->completion_tail, position + 1, memory_order_release);
    if (!session->has_answers)
        lane->answered[lane->answered_count++] = session;
    session->has_answers = true;
}

/* The same for a result that does not fit the cell: its bytes go into a block, or the reply is
 * deferred. */
void knit_lane_answer_large(struct knit_lane *lane, struct knit_worker_session *session);

/* ---- one call ------------------------------------------------------------------------------- */

/* Runs and answers the call that was claimed at the cursor. False: it was not short, or its reply
 * is deferred, so the turn is over. `run` is called in the usual case, and is the lane's own or
 * does the same. */
KNIT_ALWAYS_INLINE bool knit_lane_finish(struct knit_lane *lane,
    struct knit_worker_session *session, struct knit_cursor *cursor,
    const struct knit_ready_call *ready, knit_lane_run *run, void *arg)
{
    struct knit_job *job = &lane->job;
    bool is_usual;
    const bool may_start = knit_lane_take(lane, session, ready, &is_usual);
    const uint32_t expected_ns = knit_lane_expected_ns(lane);

    if (__builtin_expect(may_start && expected_ns != 0, 1)) {
        lane->unmeasured--;
        knit_deficit_charge(&session->deficit, expected_ns);
        run(arg, job);
    } else {
        knit_lane_run_watched(lane, cursor);
    }
    if (__builtin_expect(job->result_len <= KNIT_INLINE_MAX, 1)) {
        const struct knit_lane_answer answer = {job->slot, job->status, job->gen, job->result_len};

        knit_lane_write_answer(lane, session, &answer, job->result, KNIT_NO_BLOCK);
    } else {
        knit_lane_answer_large(lane, session);
    }
    if (__builtin_expect(lane->room != KNIT_NO_BLOCK, 0)) {
        knit_reply_arena_return(&session->arena, lane->room);
        lane->room = KNIT_NO_BLOCK;
    }
    if (__builtin_expect(!is_usual, 0))
        knit_lane_put_back(lane, session);
    return !lane->was_long;
}

/* NULL, or what no correct caller could have written into that cell. */
const char *knit_lane_check(const struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_ready_call *ready);

/* ---- many calls ----------------------------------------------------------------------------- */

/* The next READY call of the ring; what is not usual in a cell is for knit_lane_find(). */
KNIT_ALWAYS_INLINE bool knit_lane_next(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, struct knit_ready_call *ret)
{
    const enum knit_cell_state state = knit_cursor_look(cursor, ret);

    if (state == KNIT_CELL_EMPTY)
        return false;
    return (state == KNIT_CELL_READY && (knit_lane_is_plain(lane, ret->meta) ||
                                            knit_lane_check(lane, session, ret) == NULL)) ||
           knit_lane_find(lane, session, cursor, ret);
}

/* Serves the session's home ring, in its order: at most so many calls, and while it has credit.
 * Returns how many were answered or deferred. */
KNIT_ALWAYS_INLINE uint32_t knit_lane_serve_with(struct knit_lane *lane,
    struct knit_worker_session *session, uint32_t most, knit_lane_run *run, void *arg)
{
    struct knit_cursor *cursor = session->home;
    struct knit_ready_call ready;
    uint32_t answers = 0;
    bool goes_on = true;

    knit_cursor_catch_up(cursor);
    knit_lane_begin_job(lane, session);
    while (goes_on && knit_lane_next(lane, session, cursor, &ready) &&
           knit_cursor_claim(cursor, &ready, lane->options.owner)) {
        goes_on = knit_lane_finish(lane, session, cursor, &ready, run, arg);
        answers++;
        goes_on = goes_on && answers < most && knit_deficit_has_credit(&session->deficit);
    }
    lane->current = NULL;
    return answers;
}
