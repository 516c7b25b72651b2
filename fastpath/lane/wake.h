/* SPDX-License-Identifier: Apache-2.0 */
/* Waking the two kinds of sleepers: a caller that waits for answers, a worker that is parked.
 *
 * A caller announces its sleep in `waiting`; the worker or host that answered raises `notified` to
 * that number and sends the wake-up. `notified` is raised and never lowered nor exchanged, so two
 * workers that answer two sleeps cannot undo each other. bell.h says why both sides fence.
 *
 * Edges:
 *   W2 sleep  fence between the answer and the load of `waiting`, here, with the session's fence
 *             between `waiting` and its look at the replies
 *   W3 bell   lane_bell changed, release, with the parking worker's acquire: what was done before
 *
 * Threads: any. Nothing blocks. Security: `waiting` is the caller's to write; the most it gains is
 * to be woken itself. */
#pragma once

#include "fastpath/lane/bell.h"
#include "fastpath/lane/layout.h"

/* The number of the sleep that the caller has announced; 0 = it is awake. W2 lies before this. */
static inline uint32_t knit_wake_waiting(const struct knit_request_view *request)
{
    /* relaxed: ordered by the fence. */
    return atomic_load_explicit(request->waiting, memory_order_relaxed);
}

/* The core that the caller waited on last, counted from 1; any value. A hint, so relaxed. */
static inline uint32_t knit_wake_caller_core(const struct knit_request_view *request)
{
    return atomic_load_explicit(request->core, memory_order_relaxed);
}

/* True: this raised `notified` to that sleep, so the wake-up is this one's to send. */
static inline bool knit_wake_raise(const struct knit_reply_view *reply, uint32_t waiting)
{
    uint32_t notified = atomic_load_explicit(reply->notified, memory_order_relaxed);

    do {
        if ((int32_t)(waiting - notified) <= 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        reply->notified, &notified, waiting, memory_order_release, memory_order_relaxed));
    return true;
}

/* bell_fd: of an event loop, see knit_bell_notify(); -1 = it has none. */
static inline void knit_wake_caller(
    const struct knit_reply_view *reply, uint32_t waiting, int bell_fd, bool bell_is_pipe)
{
    if ((waiting & 1) != 0)
        knit_bell_wake(reply->notified, 1);
    else
        knit_bell_notify(bell_fd, bell_is_pipe);
}

/* Has the lane's worker look again, if it is parked or about to park. */
static inline void knit_wake_worker(const struct knit_pool_view *pool, uint32_t lane)
{
    _Atomic uint32_t *bell = &pool->lane_bell[lane].value;

    /* W3, release. Changed before the wake, so that a worker which is about to sleep does not. */
    atomic_fetch_add_explicit(bell, 1, memory_order_release);
    knit_bell_wake(bell, 1);
}
