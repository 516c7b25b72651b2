/* SPDX-License-Identifier: Apache-2.0 */
/* Long calls that a loop holds back, so that those of one principal do not take all workers: by the
 * same reckoning as workers hold those of sessions by shared memory (fastpath/lane/reserve.h).
 *
 * A loop decides before it gives a call to a lane, and not the worker behind that, since rings are
 * served in their order: there the call would keep those of other principals waiting. What is held
 * waits in its caller; its flow has no turn for a millisecond (flow.h), or until one of its own
 * long calls has ended, and is looked at again after 10 ms at the latest.
 *
 * Of its own session the loop knows whose calls workers run; calls of other sessions are those of
 * others, but for what the principal has in the lanes by other loops, which is counted in one word
 * for all of them (fastpath/lane/places.h). A loop that finds that it may give a call counts it
 * there at once, by compare and swap, and takes it back where the lanes have no room: so loops that
 * decide at once never give one too many. Long calls of the principal's sessions by shared memory
 * are told by the lanes and count as well, as those of loops do where workers decide
 * (fastpath/lane/lane_reserve.h).
 *
 * Pinned calls are counted and not held: they wait in queues where principals do not matter. Those
 * that must not wait are refused. Nothing is held for longer than ten seconds or eight runs of its
 * task, as a worker may be stopped in one of the principal's calls; nor where lanes have no depth,
 * nor with one worker.
 *
 * Threads: its loop's.
 */
#pragma once

#include "server/rpc/router_private.h"

enum { KNIT_HOLD_LOOK_NS = 1000000 };

/* Whether calls of the task are long for its own flow, though others may call it for less. */
static inline bool knit_hold_may_be_long(const struct knit_caller *caller, uint32_t task)
{
    const struct knit_flow *flow = caller->flow;

    return flow->has_measured &&
           knit_reserve_mean_ns(&flow->means, task, 0) > KNIT_SESSION_SHORT_NS;
}

/* Whether calls of the task are in an account, and may be long: by the task's mean, or by the own
 * one of the flow. */
static inline bool knit_hold_concerns(const struct knit_caller *caller, uint32_t task)
{
    const struct knit_session *session = knit_router_session(caller->router);

    return knit_board_mean_ns(&session->board, task) > KNIT_SESSION_SHORT_NS ||
           knit_hold_may_be_long(caller, task);
}

/* Whether the caller's call of such a task has to wait though there may be room for it. Then its
 * flow is held. Else, if it is long, it is counted until knit_hold_give_back() or
 * knit_hold_end(). */
bool knit_hold_holds(struct knit_caller *caller, struct knit_record *record);

/* The same for any task. */
static inline bool knit_hold_must_wait(struct knit_caller *caller, struct knit_record *record)
{
    return knit_hold_concerns(caller, record->task) && knit_hold_holds(caller, record);
}

/* There was no room for it. */
void knit_hold_give_back(struct knit_caller *caller, struct knit_record *record);

/* A call of such a task was published: it is in an account until knit_hold_end(). */
void knit_hold_begin(struct knit_caller *caller, struct knit_record *record, uint32_t slot);

/* A call was published. */
static inline void knit_hold_note_call(
    struct knit_caller *caller, struct knit_record *record, uint32_t slot)
{
    if (!knit_router_is_inlined(caller->router, slot) &&
        ((record->extras & KNIT_RECORD_LONG) != 0 || knit_hold_concerns(caller, record->task)))
        knit_hold_begin(caller, record, slot);
}

/* The same of a call that is in an account. */
void knit_hold_end_charged(struct knit_router *router, uint32_t slot);

/* A call has ended; if it was a worker's, it was collected just now. */
static inline void knit_hold_end(struct knit_router *router, uint32_t slot)
{
    if (__builtin_expect(router->charges[slot].flow != NULL, 0))
        knit_hold_end_charged(router, slot);
}
