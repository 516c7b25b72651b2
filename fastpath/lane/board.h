/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the board, as those read them who do not serve the lane: the host and its statistics.
 *
 * The lane's worker writes them without a lock, so what is read may be old as soon as it is read.
 * Every load here is relaxed but for one: a reader decides nothing by these numbers alone that the
 * worker could not undo. To decide about one call the host stops the worker first (death.c); a
 * stopped or dead worker writes nothing, so relaxed loads then give its last values.
 *
 * Threads: any.
 */
#pragma once

#include "fastpath/lane/layout.h"

/* What the board says of a lane, for people. */
struct knit_board_counts {
    bool is_parked;
    bool is_running;
    uint64_t calls;  /* begun, by all workers of the lane */
    uint64_t stolen; /* of them from other lanes */
    uint64_t parks;
    uint64_t busy_ns;
};

static inline struct knit_board_counts knit_board_counts(
    const struct knit_board_view *board, uint32_t lane)
{
    const struct knit_busy_line *busy = &board->busy[lane];
    uint32_t park = atomic_load_explicit(&board->park[lane].value, memory_order_relaxed);

    return (struct knit_board_counts){
        .is_parked = knit_park_state(park) == KNIT_PARK_PARKED,
        .is_running = atomic_load_explicit(&busy->running, memory_order_relaxed) != 0,
        .calls = atomic_load_explicit(&busy->calls, memory_order_relaxed),
        .stolen = atomic_load_explicit(&busy->stolen, memory_order_relaxed),
        .parks = atomic_load_explicit(&busy->parks, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&busy->busy_ns, memory_order_relaxed),
    };
}

/* How many calls the lane's workers have begun. */
static inline uint64_t knit_board_calls(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].calls, memory_order_relaxed);
}

/* The id of the task that was begun last. */
static inline uint32_t knit_board_task(const struct knit_board_view *board, uint32_t lane)
{
    return atomic_load_explicit(&board->busy[lane].task, memory_order_relaxed);
}

/* The call that a lane runs. */
struct knit_board_running {
    uint64_t session; /* 0 = none runs */
    uint32_t slot;    /* of the session; not checked against its geometry */
};

static inline struct knit_board_running knit_board_running(
    const struct knit_board_view *board, uint32_t lane)
{
    uint64_t running = atomic_load_explicit(&board->busy[lane].running, memory_order_relaxed);

    return (struct knit_board_running){running >> 16, (uint32_t)(running & 0xffff) - 1};
}

/* When the running call must be over; 0 = no limit, or none runs. */
static inline uint64_t knit_board_hard_ns(const struct knit_board_view *board, uint32_t lane)
{
    /* L1, acquire: whoever reads this limit reads the call that it belongs to in `running`. */
    return atomic_load_explicit(&board->busy[lane].hard_ns, memory_order_acquire);
}

/* ---- marks of tasks, in the pool segment ---- */

/* relaxed, both: a call more or less that runs under an old mark does not matter. */
static inline enum knit_mark knit_mark_read(const struct knit_pool_view *pool, uint32_t task)
{
    return (enum knit_mark)atomic_load_explicit(&pool->mark[task], memory_order_relaxed);
}

static inline void knit_mark_write(
    const struct knit_pool_view *pool, uint32_t task, enum knit_mark mark)
{
    atomic_store_explicit(&pool->mark[task], (uint8_t)mark, memory_order_relaxed);
}

/* ---- the state of a session, in its reply segment ---- */

/* By the host alone. release: workers see it before their next claim and in knit_aborted(). */
static inline void knit_state_write(
    const struct knit_reply_view *reply, enum knit_session_state state)
{
    atomic_store_explicit(&reply->state->state, (uint32_t)state, memory_order_release);
}
