/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a call on the worker's side: take, run, answer, as inline functions. cursor.h has
 * those before: look and claim. The loop over a home ring (lane_serve.h) and the general way of a
 * call (lane_call.c) are made of the same ones.
 *
 * What is kept private during a turn and stored at its end, or before a task that is not short:
 * the board's count of calls, and completion_tail.
 *
 * Edges, beside those of cursor.h:
 *   S1 settle      claim, then abort, seq_cst; with the session's abort, then claim: one sees the
 *                  other
 *   A1 answer      word release        with the session's word acquire: the outcome's bytes
 *   N1 completion  completion release  with the session's completion acquire: the word
 *   N2 stray       strays release      with the session's strays acquire: the completion
 *
 * Threads: the worker's.
 */
#pragma once

#include "fastpath/lane/lane_private.h"

/* ---- take ----------------------------------------------------------------------------------- */

/* What is the same in all calls of a session as most are. */
static inline void knit_lane_begin_job(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_job *job = &lane->job;

    lane->current = session;
    job->session = session->in.id;
    job->deadline_ns = 0;
    job->payload = lane->argument;
    job->result_max = session->result_max;
    job->refusal = 0;
    job->status = KNIT_STATUS_RESULT;
    job->wants_output = job->wants_progress = job->is_traced = false;
    job->was_refused = false;
}

/* The job of a call that was claimed. */
KNIT_ALWAYS_INLINE void knit_lane_take(
    struct knit_lane *lane, struct knit_worker_session *session, const struct knit_call_head *head)
{
    struct knit_job *job = &lane->job;

    job->ctrl = head->ctrl;
    job->meta = head->meta;
    /* So that a small result has zeros behind it and not what an earlier one left there. */
    memset(job->body, 0, sizeof(uint64_t));
    knit_reply_arena_forget(&session->arena, head->slot);
}

/* It begins, or is refused: on the board. */
KNIT_ALWAYS_INLINE void knit_lane_show_call(struct knit_lane *lane,
    const struct knit_worker_session *session, const struct knit_call_head *head,
    uint64_t deadline_ns)
{
    struct knit_busy_line *busy = lane->busy;

    /* relaxed: hints for balancers; the host, which acts on them, also reads the claim. */
    atomic_store_explicit(&busy->deadline_ns, deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&busy->running, session->running + head->slot, memory_order_relaxed);
}

/* The slot's abort word, after the claim. */
KNIT_ALWAYS_INLINE uint64_t knit_lane_abort(const _Atomic uint64_t *word)
{
    /* S1, seq_cst. */
    return atomic_load_explicit(word, memory_order_seq_cst);
}

/* Whether its caller may run the task: asked after the claim, of the private copy of its number. */
KNIT_ALWAYS_INLINE bool knit_lane_permits(
    const struct knit_lane *lane, const struct knit_worker_session *session, uint32_t task)
{
    return __builtin_expect(session->in.right == NULL, 1) ||
           knit_right_allows(&lane->options.rights, session->in.right, task);
}

/* ---- answer --------------------------------------------------------------------------------- */

/* The numbers of an answer. */
struct knit_lane_answer {
    uint32_t slot, status;
    uint64_t gen;
    size_t len;
    uint64_t run; /* as knit_meta_of_run() has it; 0 = not measured */
};

/* CLAIMED -> ANSWERED: the bytes are in the cell, in the slab, or in a block that it names. */
KNIT_ALWAYS_INLINE void knit_lane_store_answer(const struct knit_worker_session *session,
    struct knit_reply_cell *cell, const struct knit_lane_answer *answer, uint32_t flags)
{
    /* relaxed: A1 publishes it. */
    atomic_store_explicit(
        &cell->meta, session->reply_meta | answer->run | answer->len, memory_order_relaxed);
    /* A1 answer, release: the one outcome. */
    atomic_store_explicit(
        &cell->word, knit_word(answer->gen, answer->status, flags), memory_order_release);
}

/* The same, with its completion. */
static inline void knit_lane_publish_answer(struct knit_worker_session *session,
    struct knit_reply_cell *cell, const struct knit_lane_answer *answer, uint32_t flags)
{
    const uint64_t position = session->completion_tail;

    knit_lane_store_answer(session, cell, answer, flags);
    /* N1 completion, release. */
    atomic_store_explicit(&session->completions[position & (session->in.geometry.cells - 1)],
        knit_completion(answer->slot, position, session->in.geometry.cells), memory_order_release);
    session->completion_tail = position + 1;
}

/* The completion lies in another lane than its call was published to: its caller looks there when
 * the count has risen. Before the fence W2. */
static inline void knit_lane_note_stray(const struct knit_worker_session *session)
{
    /* N2 stray, release: the completion. */
    (void)atomic_fetch_add_explicit(session->in.reply.strays, 1, memory_order_release);
}

/* The bytes of a result that fits the cell. */
KNIT_ALWAYS_INLINE void knit_lane_store_small(
    const struct knit_job *job, struct knit_reply_cell *cell)
{
    if (__builtin_expect(job->result_len <= sizeof(uint64_t) && job->result == job->body, 1)) {
        uint64_t word;

        memcpy(&word, job->body, sizeof(word));
        /* relaxed: A1 publishes it. */
        atomic_store_explicit(&cell->body[0], word, memory_order_relaxed);
    } else {
        knit_cell_store(cell->body, job->result, job->result_len);
    }
}

static inline void knit_lane_answer_small(
    struct knit_lane *lane, struct knit_worker_session *session)
{
    const struct knit_job *job = &lane->job;
    const struct knit_lane_answer answer = {
        knit_job_slot(job), job->status, knit_job_gen(job), job->result_len, lane->run};
    struct knit_reply_cell *cell = &session->in.reply.reply[answer.slot];

    knit_lane_store_small(job, cell);
    knit_lane_publish_answer(session, cell, &answer, 0);
}

/* One that does not: its bytes go into the slab or into a block, or the reply is deferred. */
void knit_lane_answer_large(struct knit_lane *lane, struct knit_worker_session *session);

/* Shows what was kept private. */
static inline void knit_lane_show(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_lane_line *line = session->own_line;

    /* relaxed, both: a count, and only this worker writes the line. */
    atomic_store_explicit(&lane->busy->calls, lane->calls, memory_order_relaxed);
    if (atomic_load_explicit(&line->completion_tail, memory_order_relaxed) ==
        session->completion_tail)
        return;
    atomic_store_explicit(&line->completion_tail, session->completion_tail, memory_order_release);
    if (!session->has_answers)
        lane->answered[lane->answered_count++] = session;
    session->has_answers = true;
}

/* ---- one call ------------------------------------------------------------------------------- */

/* How long the call is expected to take, if its task is known to be short; else 0. */
KNIT_ALWAYS_INLINE uint32_t knit_lane_expects(
    const struct knit_lane *lane, const struct knit_call_head *head)
{
    const uint32_t mean = lane->mean_ns[knit_meta_task(head->meta)];

    return mean < KNIT_SHORT_NS / 2 ? mean : 0;
}

/* How jobs are run, in a function with the loop over a ring. */
struct knit_lane_way {
    /* Runs a job that was taken of this meta word, which is in a register. */
    void (*run)(void *arg, struct knit_job *job, uint64_t meta);
    void *arg;
    /* Calls whose meta differs from this one in a bit of the mask go the general way. */
    uint64_t meta, meta_mask;
};

/* No flag changes nothing. */
#define KNIT_LANE_WAY_FLAGS knit_meta(0, 0, 0xff, 0)

/* An argument in the slab or the arena. False: the call, or the argument, is not as most are. odd:
 * in which bits its meta differs from the way's. */
bool knit_lane_fetch(struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_request_cell *cell, uint32_t slot, uint64_t meta, uint64_t odd);

/* The argument, where the task finds it; before the claim, as all of the cell (cursor.h). False:
 * its caller wants more than a result, or the argument is not right. */
KNIT_ALWAYS_INLINE bool knit_lane_copy_argument(struct knit_lane *lane,
    struct knit_worker_session *session, const struct knit_request_cell *cell,
    const struct knit_call_head *head, const struct knit_lane_way *way, int32_t *credit_ns)
{
    bool is_usual;

    const uint64_t odd = (head->meta ^ way->meta) & way->meta_mask;
    const uint32_t len = knit_meta_len(head->meta);

    if (__builtin_expect((odd | head->deadline) != 0, 0) ||
        __builtin_expect(len - 1 >= lane->inline_max, 0)) {
        if (head->deadline != 0)
            return false;
        session->deficit.ns = *credit_ns;
        is_usual = knit_lane_fetch(lane, session, cell, head->slot, head->meta, odd);
        *credit_ns = session->deficit.ns;
        return is_usual;
    }
    knit_cursor_copy_argument(cell, len, lane->argument);
    return true;
}

/* Runs the job of a short task, and measures it this time. */
void knit_lane_run_measured(struct knit_lane *lane);

/* The next three return false if nothing more may be served of the ring in this turn. */

/* Finds the next call of the home ring and does all for it; looks again at what the loop has seen.
 * False also if there is none, or another owner was first. */
bool knit_lane_serve_one(struct knit_lane *lane, struct knit_worker_session *session);

/* Answers a call that was taken and shown and may not start. */
bool knit_lane_refuse(struct knit_lane *lane, struct knit_worker_session *session);

/* Gives back what a job took beside its slot, where lane->is_untidy says that it did. */
bool knit_lane_tidy(struct knit_lane *lane, struct knit_worker_session *session);

/* A call of the home ring is this worker's. */
static inline void knit_lane_step(struct knit_lane *lane, struct knit_cursor *cursor)
{
    cursor->q++;
    lane->calls++;
}
