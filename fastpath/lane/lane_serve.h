/* SPDX-License-Identifier: Apache-2.0 */
/* The loop over a home ring.
 *
 * knit_lane_serve_with() serves calls as most are: a small argument, no deadline, a short task, a
 * small result. Whoever can run calls makes one function of it and of what runs them (lane_call.c,
 * worker/runner.c). Any other call goes the general way, through knit_lane_serve_one(), and so does
 * what a thief claims; both are made of the steps of cursor.h and lane_steps.h.
 *
 * Threads: the worker's.
 */
#pragma once

#include "fastpath/lane/lane_steps.h"

/* Positions ahead of the call that is served. */
#define KNIT_FETCH_AHEAD (2 * KNIT_OWN_AHEAD)

/* Cells of a home ring that are served one after the other, and what the loop over them keeps in
 * registers and on its stack, because each store to shared memory and each call of a task makes the
 * compiler load again what lies elsewhere. Both rings are walked to the end of their laps, so
 * nothing wraps. Lane and session are behind by `cell - first` calls until
 * knit_stretch_settle(). */
struct knit_stretch {
    const struct knit_request_cell *cell, *first, *end;
    const struct knit_request_cell *own_end; /* from here on, what is fetched is of the next lap */
    const struct knit_request_cell *lag_end; /* `head` is raised before this one is claimed */
    _Atomic uint32_t *completion;            /* the next one */
    uint32_t completion_lap;
    uint32_t tag; /* as knit_ctrl_slot_of() takes it */
    int32_t credit_ns;
};

/* At most so many cells, and one at least. */
KNIT_ALWAYS_INLINE void knit_stretch_begin(
    struct knit_stretch *stretch, const struct knit_worker_session *session, uint64_t most)
{
    const struct knit_cursor *home = &session->home;
    const uint32_t cells = home->cells;
    const uint32_t at = (uint32_t)home->q & (cells - 1);
    const uint32_t done = (uint32_t)session->completion_tail & (cells - 1);
    const uint32_t left = cells - (at > done ? at : done);

    stretch->cell = stretch->first = home->ring + at;
    stretch->end = stretch->cell + (most < left ? most : left);
    stretch->own_end = home->ring + cells - KNIT_OWN_AHEAD;
    stretch->lag_end = stretch->cell + knit_cursor_lag_left(home);
    stretch->completion = session->completions + done;
    stretch->completion_lap = knit_completion(0, session->completion_tail, cells);
    stretch->tag = knit_ctrl_tag_first(knit_tag(home->q, cells));
    stretch->credit_ns = session->deficit.ns;
}

/* Lane and session are as the calls so far have made them. */
KNIT_ALWAYS_INLINE void knit_stretch_settle(
    struct knit_stretch *stretch, struct knit_lane *lane, struct knit_worker_session *session)
{
    const uint64_t calls = (uint64_t)(stretch->cell - stretch->first);

    stretch->first = stretch->cell;
    session->home.q += calls;
    session->completion_tail += calls;
    session->deficit.ns = stretch->credit_ns;
    lane->calls += calls;
}

/* Goes on behind the end of a lap. False: as many calls were served as should be. */
KNIT_ALWAYS_INLINE bool knit_stretch_goes_on(struct knit_stretch *stretch, struct knit_lane *lane,
    struct knit_worker_session *session, uint64_t until)
{
    knit_stretch_settle(stretch, lane, session);
    if (lane->calls == until)
        return false;
    knit_stretch_begin(stretch, session, until - lane->calls);
    return true;
}

/* What knit_stretch_claim() has found. */
enum knit_stretch_next {
    KNIT_STRETCH_CLAIMED, /* a call, now this worker's; its argument is copied, or checked */
    KNIT_STRETCH_NONE,    /* nothing is published, or another owner was first */
    KNIT_STRETCH_UNUSUAL, /* what knit_lane_serve_one() knows about */
};

/* Owns the reply line of a call behind the one at `cell`, because a claim, a locked instruction,
 * waits for the stores of the answer before it; and fetches a later request line. Cells of another
 * lap tell nothing. What is read here is hostile and decides nothing. */
KNIT_ALWAYS_INLINE void knit_stretch_fetch_ahead(
    const struct knit_stretch *stretch, const struct knit_cursor *home)
{
    const struct knit_request_cell *cell = stretch->cell + KNIT_OWN_AHEAD;
    const struct knit_request_cell *next = stretch->cell + KNIT_FETCH_AHEAD;
    const struct knit_reply_cell *reply;
    uint32_t slot;

    if (stretch->cell >= stretch->own_end)
        return;
    slot = knit_ctrl_slot_of(atomic_load_explicit(&cell->ctrl, memory_order_relaxed), stretch->tag);
    if (slot >= home->slots)
        return;
    reply = &home->reply[slot];
    knit_line_own(reply);
    knit_line_fetch(next);
    /* Who sends more than fits a line will likely send such again, and be sent such back. */
    if (knit_meta_len(atomic_load_explicit(&cell->meta, memory_order_relaxed)) >
        KNIT_HEAD_WORDS * 8) {
        knit_line_own(&reply->body[KNIT_HEAD_WORDS]);
        knit_line_fetch(&next->body[KNIT_HEAD_WORDS]);
    }
}

/* Claims the call in the next cell if it is as most are. */
KNIT_ALWAYS_INLINE enum knit_stretch_next knit_stretch_claim(struct knit_stretch *stretch,
    struct knit_lane *lane, struct knit_worker_session *session, const struct knit_lane_way *way,
    struct knit_call_head *ret_head)
{
    const struct knit_request_cell *cell = stretch->cell;
    /* P1, acquire. */
    const uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_acquire);
    const uint32_t slot = knit_ctrl_slot_of(ctrl, stretch->tag);
    uint64_t word;
    uint32_t expected_ns;

    ret_head->ctrl = ctrl;
    ret_head->slot = slot;
    if (__builtin_expect(slot >= session->home.slots, 0))
        return knit_ctrl_has_tag(ctrl, stretch->tag) ? KNIT_STRETCH_UNUSUAL : KNIT_STRETCH_NONE;
    if (__builtin_expect(!knit_cursor_is_ready(&session->home.reply[slot],
                             &session->home.claim[slot], ctrl, &ret_head->claim, &word),
            0))
        return KNIT_STRETCH_UNUSUAL;
    knit_stretch_fetch_ahead(stretch, &session->home);
    knit_cursor_copy_head(cell, ret_head);
    expected_ns = knit_lane_expects(lane, ret_head);
    if (__builtin_expect(expected_ns == 0, 0) ||
        !knit_lane_copy_argument(lane, session, cell, ret_head, way, &stretch->credit_ns))
        return KNIT_STRETCH_UNUSUAL;
    /* Should another owner be first, its session has paid for that. */
    stretch->credit_ns -= (int32_t)expected_ns;
    if (__builtin_expect(cell == stretch->lag_end, 0)) {
        knit_stretch_settle(stretch, lane, session);
        knit_cursor_raise_head(&session->home);
        stretch->lag_end += KNIT_HEAD_LAG_MAX;
    }
    return knit_cursor_claim_word(&session->home.claim[slot], ret_head, lane->options.owner)
               ? KNIT_STRETCH_CLAIMED
               : KNIT_STRETCH_NONE;
}

/* Answers the job of a call that was claimed so. */
KNIT_ALWAYS_INLINE void knit_stretch_answer(struct knit_stretch *stretch, struct knit_lane *lane,
    struct knit_worker_session *session, const struct knit_call_head *head)
{
    const struct knit_job *job = &lane->job;
    const struct knit_lane_answer answer = {
        head->slot, job->status, knit_ctrl_gen(head->ctrl), job->result_len, 0};
    struct knit_reply_cell *cell = &session->in.reply.reply[answer.slot];

    knit_lane_store_small(job, cell);
    knit_lane_store_answer(session, cell, &answer, 0);
    /* N1 completion, release. */
    atomic_store_explicit(stretch->completion,
        knit_completion_in_lap(answer.slot, stretch->completion_lap), memory_order_release);
    stretch->completion++;
    stretch->cell++;
}

/* The same, where the result does not fit the cell. If the reply is deferred, nothing more is
 * served in this turn. */
KNIT_ALWAYS_INLINE void knit_stretch_answer_large(
    struct knit_stretch *stretch, struct knit_lane *lane, struct knit_worker_session *session)
{
    knit_stretch_settle(stretch, lane, session);
    knit_lane_step(lane, &session->home);
    knit_lane_answer_large(lane, session);
    stretch->completion++;
    stretch->first = ++stretch->cell;
}

/* Takes the call that was claimed so. False: it may not start. */
KNIT_ALWAYS_INLINE bool knit_stretch_take(
    struct knit_lane *lane, struct knit_worker_session *session, const struct knit_call_head *head)
{
    uint64_t abort;

    knit_lane_take(lane, session, head);
    knit_lane_show_call(lane, session, head, 0);
    abort = knit_lane_abort(&session->in.request.abort[head->slot]);
    return __builtin_expect(!knit_abort_may_refuse(abort, head->ctrl), 1) &&
           __builtin_expect(knit_lane_permits(lane, session, knit_meta_task(head->meta)), 1) &&
           __builtin_expect(knit_state_is_quiet(knit_state_word(&session->in.reply)), 1);
}

/* Serves the session's home ring, in its order: at most so many calls, and while it has credit.
 * Returns how many were answered or deferred. */
KNIT_ALWAYS_INLINE uint32_t knit_lane_serve_with(struct knit_lane *lane,
    struct knit_worker_session *session, uint32_t most, const struct knit_lane_way *way)
{
    const uint64_t before = lane->calls, until = before + most;
    struct knit_stretch stretch;
    struct knit_call_head head;

    knit_cursor_catch_up(&session->home);
    knit_lane_begin_job(lane, session);
    knit_stretch_begin(&stretch, session, most);
    do {
        const enum knit_stretch_next next = knit_stretch_claim(&stretch, lane, session, way, &head);

        if (next == KNIT_STRETCH_NONE)
            break;
        if (__builtin_expect(next == KNIT_STRETCH_UNUSUAL, 0) ||
            !knit_stretch_take(lane, session, &head)) {
            bool goes_on;

            knit_stretch_settle(&stretch, lane, session);
            goes_on = next == KNIT_STRETCH_UNUSUAL ? knit_lane_serve_one(lane, session)
                                                   : knit_lane_refuse(lane, session);
            knit_stretch_begin(&stretch, session, until - lane->calls);
            if (!goes_on)
                break;
            continue;
        }
        if (__builtin_expect(--lane->unmeasured != 0, 1)) {
            way->run(way->arg, &lane->job, head.meta);
        } else {
            session->deficit.ns = stretch.credit_ns;
            knit_lane_run_measured(lane);
            stretch.credit_ns = session->deficit.ns;
        }
        if (__builtin_expect(lane->job.result_len <= KNIT_INLINE_MAX, 1))
            knit_stretch_answer(&stretch, lane, session, &head);
        else
            knit_stretch_answer_large(&stretch, lane, session);
        if (__builtin_expect(lane->is_untidy, 0) && !knit_lane_tidy(lane, session))
            break;
    } while (stretch.credit_ns > 0 &&
             (stretch.cell != stretch.end || knit_stretch_goes_on(&stretch, lane, session, until)));
    knit_stretch_settle(&stretch, lane, session);
    lane->current = NULL;
    if (lane->calls != before)
        knit_lane_show(lane, session);
    return (uint32_t)(lane->calls - before);
}
