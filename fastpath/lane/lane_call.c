/* SPDX-License-Identifier: Apache-2.0 */
/* What is not usual in a call (lane_serve.h): a cell that no correct caller can have written, a
 * call that may not start, an argument in the arena, a long task.
 *
 * What no correct caller can write into a cell evicts the session, but only after a second load of
 * ctrl returned the same: a cell that changes in between was merely read too late.
 */
#include "fastpath/lane/lane_serve.h"

#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/state.h"

#define COPY_KEPT_BYTES ((size_t)1 << 20) /* a larger copy of an argument is given back */
#define OUTLIER_FACTOR  64u               /* of the mean: what a run counts at most in the next */
#define REFUSED_NS      500u              /* charged for a call that is not started */

void knit_lane_evict(
    struct knit_lane *lane, struct knit_worker_session *session, const char *reason)
{
    session->is_evicted = true;
    if (lane->options.on_evict != NULL)
        lane->options.on_evict(lane->options.event_arg, session->in.id, reason);
}

const char *knit_lane_check(const struct knit_lane *lane, const struct knit_worker_session *session,
    const struct knit_ready_call *ready)
{
    const uint64_t argument_max = lane->options.argument_max_bytes;
    uint64_t len = knit_meta_len(ready->meta);
    uint64_t arena, offset;
    if ((knit_meta_flags(ready->meta) & ~KNIT_CELL_FLAGS) != 0)
        return "unknown flags in a request cell";
    if (argument_max != 0 && len > argument_max)
        return "an argument over the limit in a request cell";
    if ((knit_meta_flags(ready->meta) & KNIT_CELL_IN_ARENA) == 0)
        return len <= KNIT_INLINE_MAX ? NULL : "a length over the cell's in a request cell";
    arena = session->in.geometry.request_arena_bytes;
    offset = ready->body[0];
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
            wrong = knit_lane_check(lane, session, ret);
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
        if (knit_cursor_is_unchanged(cursor, ret->ctrl)) {
            knit_lane_evict(lane, session, wrong);
            return false;
        }
        steps--;
    }
}

/* ---- running ---- */

bool knit_lane_cancelled(const struct knit_lane *lane, const struct knit_job *job)
{
    /* acquire: the flag publishes nothing; it only must not be loaded early. With IF_QUEUED it is
     * no generation: that kind does not end what runs. */
    return atomic_load_explicit(
               &lane->current->in.request.abort[job->slot], memory_order_acquire) == job->gen;
}

bool knit_lane_aborted(const struct knit_lane *lane, const struct knit_job *job)
{
    return knit_lane_cancelled(lane, job) ||
           !knit_state_is_served(knit_state_read(&lane->current->in.reply));
}

/* Arguments of untrusted sessions are copied, because they could change while the task reads
 * them. */
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
    memcpy(lane->copy, bytes, len);
    return lane->copy;
}

bool knit_lane_prepare(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_ready_call *ready, uint64_t abort)
{
    const uint32_t flags = knit_meta_flags(ready->meta);
    struct knit_job *job = &lane->job;

    job->wants_output = (flags & KNIT_CELL_OUTPUT) != 0;
    if (knit_abort_refuses(abort, job->gen))
        job->refusal = abort == job->gen ? KNIT_CANCELLED : KNIT_TIMEOUT;
    else if (!knit_state_is_served(knit_state_read(&session->in.reply)))
        job->refusal = KNIT_SHUTDOWN;
    else if (job->deadline_ns != 0 && knit_clock_ns() >= job->deadline_ns)
        job->refusal = KNIT_TIMEOUT;
    if (job->refusal != 0)
        return false;
    if ((flags & KNIT_CELL_START_BY) != 0)
        job->deadline_ns = 0;
    if ((flags & KNIT_CELL_IN_ARENA) != 0) {
        job->payload = session->in.request.arena + ready->body[0];
        if (session->in.trusted)
            job->spare = 0;
        else
            job->payload = private_copy(lane, job->payload, job->len);
        if (job->payload == NULL)
            job->refusal = KNIT_INTERNAL;
    }
    return job->refusal == 0;
}

void knit_lane_put_back(struct knit_lane *lane, struct knit_worker_session *session)
{
    knit_lane_begin_job(lane, session);
    if (lane->copy_size > COPY_KEPT_BYTES) {
        free(lane->copy);
        lane->copy = NULL;
        lane->copy_size = 0;
    }
}

/* The next calls of short tasks are not measured: 15 on average, a number that no caller can know,
 * or it would make its long ones then. */
static void draw_unmeasured(struct knit_lane *lane, uint64_t now)
{
    lane->unmeasured = (uint32_t)(now * 0x9e3779b97f4a7c15u >> 59);
}

/* One run that is very long among short ones says that the worker had to wait for its core. */
static uint32_t next_mean(uint32_t mean, uint64_t took)
{
    const uint64_t most = (uint64_t)mean * OUTLIER_FACTOR;

    if (mean == 0)
        return (uint32_t)took | 1;
    return (uint32_t)(((uint64_t)mean * 7 + (took < most ? took : most)) / 8) | 1;
}

/* Runs the job, charges it to its session, and updates the mean time of its task. */
static void run_measured(struct knit_lane *lane)
{
    struct knit_job *job = &lane->job;
    uint32_t *mean = &lane->mean_ns[job->task];
    uint64_t start, took;

    job->was_refused = false;
    start = knit_clock_ns();
    lane->options.run(lane->options.run_arg, job);
    took = knit_clock_ns() - start;
    draw_unmeasured(lane, start + took);
    lane->was_long = lane->was_long || took > KNIT_SHORT_NS;
    if (took > UINT32_MAX)
        took = UINT32_MAX;
    knit_deficit_charge(&lane->current->deficit, (uint32_t)took | 1);
    /* A refused call did not run the task. */
    if (job->was_refused)
        return;
    if (took > KNIT_SHORT_NS)
        knit_board_count(&lane->busy->busy_ns, took);
    *mean = next_mean(*mean, took);
    knit_board_note_mean(&lane->options.board, job->task, *mean);
}

void knit_lane_run_watched(struct knit_lane *lane, struct knit_cursor *cursor)
{
    struct knit_worker_session *session = lane->current;
    const uint32_t expected_ns = knit_lane_expected_ns(lane);
    const uint32_t mean = lane->mean_ns[lane->job.task];
    const bool is_short = mean != 0 && mean <= KNIT_SHORT_NS;

    lane->was_long = mean > KNIT_SHORT_NS;
    if (!is_short) {
        bool may_help;

        knit_lane_wake_callers(lane);
        may_help = lane->options.steal ||
                   knit_board_is_vacant(&lane->options.board, (uint32_t)(cursor - session->cursor));
        if (may_help && knit_cursor_peek(cursor))
            knit_lane_wake_sibling(lane);
        knit_lane_leave(lane);
    }
    if (lane->job.refusal != 0) {
        knit_deficit_charge(&session->deficit, REFUSED_NS);
        lane->options.run(lane->options.run_arg, &lane->job);
    } else if (expected_ns != 0) {
        lane->unmeasured--;
        knit_deficit_charge(&session->deficit, expected_ns);
        lane->options.run(lane->options.run_arg, &lane->job);
    } else {
        run_measured(lane);
    }
    if (!is_short)
        knit_lane_return(lane);
}

bool knit_lane_call(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, const struct knit_ready_call *ready)
{
    if (!knit_cursor_claim(cursor, ready, lane->options.owner))
        return false;
    cursor->stood_ns = 0;
    knit_lane_begin_job(lane, session);
    (void)knit_lane_finish(lane, session, cursor, ready, lane->options.run, lane->options.run_arg);
    lane->current = NULL;
    return true;
}

uint32_t knit_lane_serve(struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    return knit_lane_serve_with(lane, session, most, lane->options.run, lane->options.run_arg);
}
