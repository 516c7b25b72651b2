/* SPDX-License-Identifier: Apache-2.0 */
/* The words of the board: what each lane does, as its worker writes it and as host, callers and
 * tools read it.
 *
 * The worker writes them without a lock, so what is read may be out of date at once. Accesses here
 * are relaxed: the words are counts and hints, and no address is computed from them. To decide
 * about one call the host stops the worker first (timeout.c); a stopped or dead worker writes
 * nothing, so relaxed loads then give its last values. Exceptions are the limit of the running
 * call:
 *
 *   L1 limit  hard_ns release, in knit_board_set_limit(), with the acquire of knit_board_hard_ns():
 *             the host that sees a limit sees `running` and `task` of the call it belongs to
 *
 * and the bit of a lane that is parked, by which those who wake one find it:
 *
 *   B1 parked   its release, behind the park word, with the acquire of knit_lane_bits_next(): that
 *               park word
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include "fastpath/lane/layout.h"

/* ---- park ---- */

/* One of KNIT_PARK_VACANT, _AWAKE, _PARKED; in a damaged board also 3. */
KNIT_ALWAYS_INLINE uint32_t knit_board_park_state(
    const struct knit_board_view *board, uint32_t lane)
{
    /* relaxed: a hint. A worker that starts or wakes at this moment reads its rings by itself. */
    return knit_park_state(atomic_load_explicit(&board->park[lane].value, memory_order_relaxed));
}

/* The lane has no worker: any other worker may claim the calls that are queued there. */
static inline bool knit_board_is_vacant(const struct knit_board_view *board, uint32_t lane)
{
    return knit_board_park_state(board, lane) == KNIT_PARK_VACANT;
}

/* The core that the lane's worker looked for calls on last, counted from 1; 0 = not known. */
static inline uint32_t knit_board_core(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->park[lane].core, memory_order_relaxed);
}

/* By the lane's worker, or by the host in place of a dead one: whether those that search for a
 * parked worker look here. */
static inline void knit_board_say_parked(
    const struct knit_board_view *board, uint32_t lane, bool is_parked)
{
    _Atomic uint64_t *word = &board->parked[lane / 64];
    const uint64_t bit = (uint64_t)1 << lane % 64;

    /* B1, release: who sees the bit sees the park word that was stored before it. */
    if (is_parked)
        (void)atomic_fetch_or_explicit(word, bit, memory_order_release);
    else
        (void)atomic_fetch_and_explicit(word, ~bit, memory_order_release);
}

static inline bool knit_board_is_said_parked(const struct knit_board_view *board, uint32_t lane)
{
    return (atomic_load_explicit(&board->parked[lane / 64], memory_order_acquire) >> lane % 64 &
               1) != 0;
}

/* ---- the running call ---- */

/* The call that a lane runs, by its place. */
struct knit_board_running {
    uint64_t session; /* id; 0 = the lane runs no call */
    uint32_t slot;    /* of the session; not checked against its geometry */
};

static inline struct knit_board_running knit_board_running(
    const struct knit_board_view *board, uint32_t lane)
{
    uint64_t running = atomic_load_explicit(&board->busy[lane].running, memory_order_relaxed);

    return (struct knit_board_running){
        .session = knit_running_session(running), .slot = knit_running_slot(running)};
}

static inline bool knit_board_is_running(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].running, memory_order_relaxed) != 0;
}

/* When no caller waits any more for the call that was begun last; 0 = it has no deadline. */
static inline uint64_t knit_board_deadline_ns(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].deadline_ns, memory_order_relaxed);
}

/* The worker that serves the lane, or served it last. */
static inline uint32_t knit_board_owner(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].owner, memory_order_relaxed);
}

/* When the running call must be over, on CLOCK_MONOTONIC; 0 = it has no hard limit. */
static inline uint64_t knit_board_hard_ns(const struct knit_board_view *board, uint32_t lane)
{
    /* L1, acquire. */
    return atomic_load_explicit(&board->busy[lane].hard_ns, memory_order_acquire);
}

/* Id of the task that was begun last. */
static inline uint32_t knit_board_task(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].task, memory_order_relaxed);
}

/* By the worker, on its own line: the task that is about to run. */
static inline void knit_board_set_task(struct knit_busy_line *busy, uint32_t task)
{
    /* relaxed: the host reads it after the worker's end, or after L1. */
    atomic_store_explicit(&busy->task, task, memory_order_relaxed);
}

/* By the worker: the limit of the task that was set before. */
static inline void knit_board_set_limit(struct knit_busy_line *busy, uint64_t hard_ns)
{
    /* L1, release. */
    atomic_store_explicit(&busy->hard_ns, hard_ns, memory_order_release);
}

/* By the worker, when the task has returned. */
static inline void knit_board_lift_limit(struct knit_busy_line *busy)
{
    /* relaxed: only this worker writes the word. Most calls have no limit and store nothing. */
    if (atomic_load_explicit(&busy->hard_ns, memory_order_relaxed) != 0)
        /* L1, release. */
        atomic_store_explicit(&busy->hard_ns, 0, memory_order_release);
}

/* ---- the time of tasks ---- */

/* What a run of the task takes on average, as workers measured it; 0 = not known. Tasks can write
 * it, so it may be anything. */
static inline uint32_t knit_board_mean_ns(const struct knit_board_view *board, uint32_t task)
{
    return atomic_load_explicit(&board->mean_ns[task % KNIT_TASKS], memory_order_relaxed);
}

/* By a worker that has measured the task. Stores when it differs by more than an eighth, since each
 * store takes the line from all who read it. */
static inline void knit_board_note_mean(
    const struct knit_board_view *board, uint32_t task, uint32_t mean_ns)
{
    uint32_t shown = knit_board_mean_ns(board, task);

    if (mean_ns - shown + shown / 8 > shown / 4)
        atomic_store_explicit(&board->mean_ns[task % KNIT_TASKS], mean_ns, memory_order_relaxed);
}

/* ---- counts ---- */

/* What a lane does and has done, for statistics. */
struct knit_board_counts {
    bool is_parked;
    bool is_running;
    uint64_t calls;  /* begun, by all workers of the lane */
    uint64_t stolen; /* of them from other lanes */
    uint64_t parks;
    uint64_t busy_ns;
};

static inline uint64_t knit_board_calls(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].calls, memory_order_relaxed);
}

static inline struct knit_board_counts knit_board_counts(
    const struct knit_board_view *board, uint32_t lane)
{
    const struct knit_busy_line *busy = &board->busy[lane];

    return (struct knit_board_counts){
        .is_parked = knit_board_park_state(board, lane) == KNIT_PARK_PARKED,
        .is_running = knit_board_is_running(board, lane),
        .calls = atomic_load_explicit(&busy->calls, memory_order_relaxed),
        .stolen = atomic_load_explicit(&busy->stolen, memory_order_relaxed),
        .parks = atomic_load_explicit(&busy->parks, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&busy->busy_ns, memory_order_relaxed)};
}

/* By the worker: raises one of its own counts. Only this worker writes it, so load and store need
 * not be one operation. */
static inline void knit_board_count(_Atomic uint64_t *count, uint64_t more)
{
    atomic_store_explicit(
        count, atomic_load_explicit(count, memory_order_relaxed) + more, memory_order_relaxed);
}
