/* SPDX-License-Identifier: Apache-2.0 */
/* A call's general way (lane_serve.h): of a cell that no correct caller can have written, a call
 * that may not start, an argument outside its cell, a long task, a call that is stolen.
 *
 * What no correct caller can write into a cell evicts the session, but only after a second load of
 * ctrl returned the same: a cell that changes in between was merely read too late.
 */
#include "fastpath/lane/lane_serve.h"

#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_classes.h"
#include "fastpath/lane/note.h"
#include "fastpath/lane/runs.h"
#include "fastpath/lane/state.h"
#include "fastpath/lane/trace.h"

#define COPY_KEPT_BYTES ((size_t)1 << 20) /* a larger copy of an argument is given back */
#define OUTLIER_FACTOR  64u               /* of the mean: what a run counts at most in the next */
#define REFUSED_NS      500u              /* charged for a call that is not started */
#define COPIED_A_NS     8u                /* bytes of an argument, for which one is charged */
#define STAMP_NS        50u               /* charged for a look at when a call was published */

void knit_lane_evict(
    struct knit_lane *lane, struct knit_worker_session *session, const char *reason)
{
    session->is_evicted = true;
    knit_lane_mute_bell(lane, session);
    if (lane->options.on_evict != NULL)
        lane->options.on_evict(lane->options.event_arg, session->in.id, reason);
}

/* NULL, or what no correct caller could have written. */
static const char *check_ready(const struct knit_lane *lane,
    const struct knit_worker_session *session, uint64_t meta, uint64_t offset)
{
    const uint64_t len = knit_meta_len(meta);
    const uint64_t argument_max = lane->options.argument_max_bytes;
    const uint64_t arena = session->in.geometry.request_arena_bytes;

    if ((knit_meta_flags(meta) & ~(KNIT_CELL_IN_ARENA | session->in.geometry.features)) != 0)
        return "flags in a request cell that were not granted";
    if (argument_max != 0 && len > argument_max)
        return "an argument over the limit in a request cell";
    if ((knit_meta_flags(meta) & KNIT_CELL_IN_ARENA) == 0)
        return len <= KNIT_SLAB_BYTES ? NULL : "a length over the slab's in a request cell";
    if (offset > arena || len > arena - offset)
        return "an argument outside the request arena";
    return NULL;
}

bool knit_lane_find(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, struct knit_ready_call *ret)
{
    /* A caller that publishes without end gains one turn of one worker. */
    uint32_t steps = cursor->cells;
    knit_cursor_catch_up(cursor);
    for (;;) {
        const char *wrong = NULL;
        switch (knit_cursor_find(cursor, &steps, ret)) {
        case KNIT_CELL_READY:
            wrong = check_ready(lane, session, ret->head.meta, ret->body[0]);
            break;
        case KNIT_CELL_BAD_SLOT:
            wrong = "a slot that does not exist in a request cell";
            break;
        case KNIT_CELL_BAD_GENERATION:
            wrong = "a generation that skips in a request cell";
            break;
        case KNIT_CELL_EMPTY:
        case KNIT_CELL_CLAIMED:
        default:
            return false;
        }
        if (wrong == NULL)
            return true;
        /* A cell that has changed was read too late: it is read again. */
        if (knit_cursor_is_unchanged(cursor, ret->head.ctrl)) {
            knit_lane_evict(lane, session, wrong);
            return false;
        }
        steps--;
    }
}

/* ---- running ---- */

bool knit_lane_cancelled(const struct knit_lane *lane, const struct knit_job *job)
{
    return knit_lane_is_cancelled_at(&lane->current->in, knit_job_slot(job), knit_job_gen(job));
}

bool knit_lane_stopped(const struct knit_lane *lane, const struct knit_job *job)
{
    return knit_lane_is_stopped_at(&lane->current->in, knit_job_slot(job), knit_job_gen(job));
}

size_t knit_lane_reason(const struct knit_lane *lane, const struct knit_job *job, char *ret_text)
{
    return knit_lane_reason_at(&lane->current->in, knit_job_slot(job), knit_job_gen(job), ret_text);
}

bool knit_lane_aborted(const struct knit_lane *lane, const struct knit_job *job)
{
    return knit_lane_cancelled(lane, job) || knit_lane_stopped(lane, job) ||
           !knit_lane_is_served_at(&lane->current->in);
}

/* Arguments of untrusted sessions are copied, because they could change while the task reads them;
 * of trusted ones those at the arena's very end, which have no KNIT_HEAD_SPARE bytes behind. */
static const void *private_copy(struct knit_lane *lane, const void *bytes, size_t len)
{
    if (len > lane->copy_size || lane->copy == NULL) {
        size_t size = len < 65536 ? 65536 : len;
        free(lane->copy);
        lane->copy = malloc(size + KNIT_HEAD_SPARE);
        lane->copy_size = lane->copy != NULL ? size : 0;
        if (lane->copy == NULL)
            return NULL;
    }
    knit_cell_copy_long(lane->copy, bytes, len);
    return lane->copy;
}

/* An argument in the slab, whose length was checked. */
static inline void take_slab(
    struct knit_lane *lane, const struct knit_worker_session *session, uint32_t slot, uint32_t len)
{
    const unsigned char *bytes = knit_slab(session->in.request.slab, slot);

    if (session->in.trusted) {
        lane->is_untidy = true;
        lane->job.payload = bytes;
        return;
    }
    knit_deficit_charge(&lane->current->deficit, len / COPIED_A_NS);
    knit_cell_copy_long(lane->argument, bytes, len);
}

/* An argument in the arena, which was checked. False: there is no memory. */
static bool take_argument(
    struct knit_lane *lane, const struct knit_worker_session *session, uint64_t offset, size_t len)
{
    const void *bytes = session->in.request.arena + offset;

    lane->is_untidy = true;
    lane->job.payload = bytes;
    if (!session->in.trusted ||
        session->in.geometry.request_arena_bytes - offset < len + KNIT_HEAD_SPARE) {
        knit_deficit_charge(&lane->current->deficit, (uint32_t)(len / COPIED_A_NS));
        lane->job.payload = private_copy(lane, bytes, len);
    }
    return lane->job.payload != NULL;
}

/* Not inlined, because the frame would cost arguments in slabs. */
static __attribute__((noinline)) bool fetch_from_arena(struct knit_lane *lane,
    const struct knit_worker_session *session, uint64_t meta, const struct knit_request_cell *cell,
    uint64_t odd)
{
    /* relaxed: as in knit_cursor_copy_argument(). */
    const uint64_t offset = atomic_load_explicit(&cell->body[0], memory_order_relaxed);

    if (odd != knit_meta(0, 0, KNIT_CELL_IN_ARENA, 0) || knit_meta_len(meta) == 0 ||
        check_ready(lane, session, meta, offset) != NULL)
        return false;
    return take_argument(lane, session, offset, knit_meta_len(meta));
}

static struct knit_run_row *row_of(struct knit_lane *lane, uint32_t task)
{
    return lane->options.pool.run + lane->options.index * KNIT_RUN_ROWS + knit_runs_row(task);
}

static void note_wait(struct knit_lane *lane, uint32_t task, uint64_t since_ns)
{
    knit_deficit_charge(&lane->current->deficit, STAMP_NS);
    knit_runs_note_wait(row_of(lane, task), since_ns, knit_clock_ns(), KNIT_STAMPED_EVERY);
}

static bool fetch(struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_request_cell *cell, uint32_t slot, uint64_t meta, uint64_t odd)
{
    const uint32_t len = knit_meta_len(meta);

    if (odd != 0 || len - 1 >= lane->slab_max)
        return fetch_from_arena(lane, session, meta, cell, odd);
    take_slab(lane, session, slot, len);
    return true;
}

/* A usual call but for its stamp. Should another worker claim it, both have counted its wait. */
static __attribute__((noinline)) bool fetch_stamped(struct knit_lane *lane,
    const struct knit_worker_session *session, const struct knit_request_cell *cell, uint32_t slot,
    uint64_t meta, uint64_t odd)
{
    if ((session->in.geometry.features & KNIT_CELL_STAMPED) == 0)
        return false;
    if (odd == 0 && knit_meta_len(meta) - 1 < lane->inline_max)
        knit_cursor_copy_argument(cell, knit_meta_len(meta), lane->argument);
    else if (!fetch(lane, session, cell, slot, meta, odd))
        return false;
    note_wait(lane, knit_meta_task(meta), knit_cell_stamp(cell, meta));
    return true;
}

bool knit_lane_fetch(struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_request_cell *cell, uint32_t slot, uint64_t meta, uint64_t odd)
{
    const uint64_t stamped = knit_meta(0, 0, KNIT_CELL_STAMPED, 0);

    return (odd & stamped) == 0 ? fetch(lane, session, cell, slot, meta, odd)
                                : fetch_stamped(lane, session, cell, slot, meta, odd & ~stamped);
}

static void deny(struct knit_lane *lane, const struct knit_worker_session *session)
{
    struct knit_note_line *line = &lane->options.pool.note[lane->options.index];

    lane->job.refusal = KNIT_DENIED;
    knit_board_count(&line->denied, 1);
    if (lane->options.on_denied != NULL)
        lane->options.on_denied(lane->options.event_arg, session->in.id, knit_job_task(&lane->job));
}

/* Whether a claimed call may start; if not, its job says why. */
static bool may_start(
    struct knit_lane *lane, const struct knit_worker_session *session, uint64_t deadline_ns)
{
    struct knit_job *job = &lane->job;
    const uint64_t abort = knit_lane_abort(&session->in.request.abort[knit_job_slot(job)]);
    const uint32_t state = knit_state_word(&session->in.reply);

    job->deadline_ns = deadline_ns;
    if (knit_state_stops(&session->in.reply, state, knit_job_slot(job), knit_job_gen(job)))
        job->refusal = KNIT_JOB_STOPPED;
    else if (knit_abort_refuses(abort, knit_job_gen(job)))
        job->refusal = abort == knit_job_gen(job) ? KNIT_CANCELLED : KNIT_TIMEOUT;
    else if (!knit_state_is_served(knit_state_of(state)))
        job->refusal = KNIT_SHUTDOWN;
    else if (job->deadline_ns != 0 && knit_clock_ns() >= job->deadline_ns)
        job->refusal = KNIT_TIMEOUT;
    else if (!knit_lane_permits(lane, session, knit_job_task(job)))
        deny(lane, session);
    return job->refusal == 0;
}

static __attribute__((cold, noinline)) void begin_traced(
    struct knit_lane *lane, const struct knit_worker_session *session)
{
    struct knit_job *job = &lane->job;

    job->is_traced = knit_trace_load(&session->in.request.trace[knit_job_slot(job)], &job->trace);
}

/* The rest of the job of a claimed call whose cell was copied and checked. */
static void prepare(struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_ready_call *ready)
{
    struct knit_job *job = &lane->job;
    const uint32_t flags = knit_meta_flags(job->meta);

    if (ready->stamp_ns != 0)
        note_wait(lane, knit_job_task(job), ready->stamp_ns);
    if (!may_start(lane, session, ready->head.deadline))
        return;
    job->wants_output = (flags & KNIT_CELL_OUTPUT) != 0;
    job->wants_progress = (flags & KNIT_CELL_PROGRESS) != 0;
    if ((flags & KNIT_CELL_TRACED) != 0)
        begin_traced(lane, session);
    if ((flags & KNIT_CELL_START_BY) != 0)
        job->deadline_ns = 0;
    if ((flags & KNIT_CELL_IN_ARENA) != 0) {
        if (!take_argument(lane, session, ready->body[0], knit_job_len(job)))
            job->refusal = KNIT_INTERNAL;
    } else if (knit_job_len(job) > KNIT_INLINE_MAX) {
        take_slab(lane, session, knit_job_slot(job), knit_job_len(job));
    } else {
        memcpy(lane->argument, ready->body, sizeof(ready->body));
    }
}

bool knit_lane_tidy(struct knit_lane *lane, struct knit_worker_session *session)
{
    if (lane->room != KNIT_NO_BLOCK)
        knit_reply_arena_return(&session->arena, lane->room);
    lane->room = KNIT_NO_BLOCK;
    lane->job.payload = lane->argument;
    lane->is_untidy = false;
    if (lane->copy_size > COPY_KEPT_BYTES) {
        free(lane->copy);
        lane->copy = NULL;
        lane->copy_size = 0;
    }
    return !lane->was_long;
}

/* The next calls of short tasks are not measured: 15 on average, a number that no caller can know,
 * or it would make its long ones then. */
static void draw_unmeasured(struct knit_lane *lane, uint64_t now)
{
    lane->unmeasured = lane->drawn = 1 + (uint32_t)(now * 0x9e3779b97f4a7c15u >> 59);
}

static enum knit_run_outcome outcome_of(const struct knit_job *job)
{
    if (job->was_refused)
        return KNIT_RUN_REFUSED;
    if (job->result_len == KNIT_JOB_DEFERRED)
        return KNIT_RUN_DEFERRED;
    return job->status == KNIT_STATUS_RESULT ? KNIT_RUN_RESULT : KNIT_RUN_ERROR;
}

/* The job has run for so long, or was refused. One that was measured because it was its turn stands
 * for all short ones since the last such one. */
static void note_run(struct knit_lane *lane, uint64_t took)
{
    const struct knit_job *job = &lane->job;
    const enum knit_run_outcome outcome = outcome_of(job);
    uint32_t weight = 1;

    lane->passed += lane->drawn - lane->unmeasured;
    if (lane->unmeasured == 0) {
        weight = lane->passed;
        lane->passed = 0;
    }
    knit_runs_note(row_of(lane, knit_job_task(job)), outcome, took, weight);
    if (outcome != KNIT_RUN_REFUSED)
        knit_board_count(&lane->busy->busy_ns, took * weight);
}

/* One run that is very long among short ones says that the worker had to wait for its core. */
static uint32_t next_mean(uint32_t mean, uint64_t took)
{
    const uint64_t most = (uint64_t)mean * OUTLIER_FACTOR;

    if (mean == 0)
        return (uint32_t)took | 1;
    return (uint32_t)(((uint64_t)mean * 7 + (took < most ? took : most)) / 8) | 1;
}

/* Runs the job and updates the mean time of its task. Returns how long it took. */
static uint32_t run_measured(struct knit_lane *lane)
{
    struct knit_job *job = &lane->job;
    uint32_t *mean = &lane->mean_ns[knit_job_task(job)];
    uint64_t start, took;

    job->was_refused = false;
    start = knit_clock_ns();
    lane->options.run(lane->options.run_arg, job);
    took = knit_clock_ns() - start;
    lane->run = knit_meta_of_run(took);
    note_run(lane, took);
    draw_unmeasured(lane, start + took);
    lane->was_long = lane->was_long || took > KNIT_SHORT_NS;
    if (took > UINT32_MAX)
        took = UINT32_MAX;
    lane->took_ns = (uint32_t)took;
    /* A refused call did not run the task. */
    if (job->was_refused)
        return (uint32_t)took | 1;
    *mean = next_mean(*mean, took);
    knit_board_note_mean(&lane->options.board, knit_job_task(job), *mean);
    return (uint32_t)took | 1;
}

void knit_lane_run_measured(struct knit_lane *lane)
{
    const uint32_t charged = lane->mean_ns[knit_job_task(&lane->job)];
    const uint32_t took = run_measured(lane);

    lane->run = 0; /* the loop says it of none of its calls */
    if (took > charged)
        knit_deficit_charge(&lane->current->deficit, took - charged);
    lane->is_untidy = lane->is_untidy || lane->was_long;
}

/* What its flow's calls of the task take, for the reserve. Not while the lane is away: sessions may
 * come and go then, and flows with them. */
static void note_own_mean(struct knit_lane *lane)
{
    if (lane->flows.count > 1 && !lane->job.was_refused)
        knit_reserve_note_run(
            &lane->current->flow->means, knit_job_task(&lane->job), knit_meta_run_ns(lane->run));
}

/* One of a short task that its caller does not observe. */
static bool may_be_unmeasured(const struct knit_lane *lane, uint32_t mean)
{
    return mean != 0 && mean < KNIT_SHORT_NS / 2 &&
           (knit_meta_flags(lane->job.meta) & KNIT_CELL_TRACED) == 0;
}

/* Any job. */
static void run(struct knit_lane *lane, uint32_t mean)
{
    struct knit_deficit *deficit = &lane->current->deficit;

    if (lane->job.refusal != 0) {
        knit_deficit_charge(deficit, REFUSED_NS);
        lane->options.run(lane->options.run_arg, &lane->job);
    } else if (may_be_unmeasured(lane, mean) && --lane->unmeasured != 0) {
        knit_deficit_charge(deficit, mean);
        lane->options.run(lane->options.run_arg, &lane->job);
    } else {
        knit_deficit_charge(deficit, run_measured(lane));
    }
}

/* Runs and answers a call that was taken. */
static void finish(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_cursor *cursor)
{
    const uint32_t mean = lane->mean_ns[knit_job_task(&lane->job)];
    const bool is_short = mean != 0 && mean <= KNIT_SHORT_NS;

    lane->was_long = mean > KNIT_SHORT_NS;
    if (!is_short) {
        bool may_help;

        knit_lane_show(lane, session);
        knit_lane_wake_callers(lane);
        may_help = lane->options.steal ||
                   (cursor != &session->home && knit_board_is_vacant(&lane->options.board,
                                                    knit_lane_of(lane, session, cursor)));
        if (may_help && knit_lane_has_more(lane, session, cursor))
            knit_lane_wake_sibling(lane);
        knit_lane_leave(lane);
    }
    run(lane, mean);
    if (!is_short)
        knit_lane_return(lane);
    if (lane->run != 0)
        note_own_mean(lane);
    if (lane->job.result_len <= KNIT_INLINE_MAX)
        knit_lane_answer_small(lane, session);
    else
        knit_lane_answer_large(lane, session);
    lane->run = 0;
    (void)knit_lane_tidy(lane, session);
}

/* Nothing keeps the lane from the session's next call. */
static bool goes_on(const struct knit_lane *lane, const struct knit_worker_session *session)
{
    return !lane->was_long && !knit_worker_session_is_shut(session);
}

bool knit_lane_refuse(struct knit_lane *lane, struct knit_worker_session *session)
{
    knit_lane_step(lane, &session->home);
    /* Perhaps it may, now or since it was looked at more closely: its argument has been taken. */
    (void)may_start(lane, session, 0);
    finish(lane, session, &session->home);
    knit_lane_begin_job(lane, session);
    return goes_on(lane, session);
}

bool knit_lane_call(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, const struct knit_ready_call *ready)
{
    if (!knit_cursor_claim(cursor, &ready->head, lane->options.owner)) {
        knit_lane_end_long(lane, false);
        return false;
    }
    cursor->stood_ns = 0;
    knit_lane_begin_job(lane, session);
    knit_lane_take(lane, session, &ready->head);
    lane->calls++;
    prepare(lane, session, ready);
    knit_lane_show_call(lane, session, &ready->head, lane->job.deadline_ns);
    finish(lane, session, cursor);
    knit_lane_end_long(lane, knit_lane_of(lane, session, cursor) == lane->options.index);
    if (knit_lane_of(lane, session, cursor) != lane->options.index)
        knit_lane_note_stray(session);
    /* A worker's first call goes this way: until then no task is known to be short. */
    knit_note_answer(&lane->options.pool.note[lane->options.index], lane->options.owner);
    knit_lane_show(lane, session);
    lane->current = NULL;
    return true;
}

bool knit_lane_serve_one(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_ready_call ready;

    if (!knit_lane_find(lane, session, &session->home, &ready))
        return false;
    session->is_held =
        knit_lane_holds(lane, session, &session->home, knit_meta_task(ready.head.meta), true);
    if (session->is_held || !knit_lane_call(lane, session, &session->home, &ready))
        return false;
    knit_lane_begin_job(lane, session);
    return goes_on(lane, session);
}

static inline void run_by_options(void *arg, struct knit_job *job, uint64_t meta)
{
    const struct knit_lane_options *options = arg;

    (void)meta;
    options->run(options->run_arg, job);
}

uint32_t knit_lane_serve(struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    const struct knit_lane_way way = {
        .run = run_by_options, .arg = &lane->options, .meta_mask = KNIT_LANE_WAY_FLAGS};

    return knit_lane_serve_with(lane, session, most, &way);
}
