/* SPDX-License-Identifier: Apache-2.0 */
/* Where principals wait for workers, and what loops and workers tell each other of that.
 *
 * A principal has one weight, wherever its calls come from: each event loop in which its callers
 * wait is a place, and so are its sessions by shared memory while workers make them wait. Each
 * place weighs an equal part. Loops count themselves, for the workers and for each other; a worker
 * may die at any time, so it counts nothing and says when it saw sessions wait.
 *
 *     waiting      rights, by loops: in how many of them the principal has callers that wait
 *     long_calls   rights, by loops: how many of its long calls they have given to workers
 *     waited       pool segment, by workers: when its sessions waited last
 *
 * Each is an array by the principal's number. Two of one place in it count for each other: of 100
 * that call, each has such a neighbour with a chance of one in 40.
 *
 * Threads: any. Edges: none but G2 of lane_reserve.h; a weight holds for what comes a moment later.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { KNIT_TALLY_PLACES = 4096, KNIT_WAITED_MS = 1000 };

/* A count of each principal. */
struct knit_tally {
    _Atomic uint32_t of[KNIT_TALLY_PLACES];
};

/* A time of each principal, CLOCK_MONOTONIC. */
struct knit_moments {
    _Atomic uint32_t ms[KNIT_TALLY_PLACES];
};

/* Pointers into a mapping of the host. NULL: the one who has this is alone. */
struct knit_places {
    struct knit_tally *waiting, *long_calls;
    const struct knit_moments *waited;
    const struct knit_note_line *note; /* [lanes]; what workers say of flows, as reserve.h has it */
};

/* One more of what is counted of the principal with that number, one less, and how many there are.
 * relaxed: it is a count. */
static inline void knit_tally_more(struct knit_tally *tally, uint64_t number)
{
    atomic_fetch_add_explicit(&tally->of[number % KNIT_TALLY_PLACES], 1, memory_order_relaxed);
}

static inline void knit_tally_less(struct knit_tally *tally, uint64_t number)
{
    atomic_fetch_sub_explicit(&tally->of[number % KNIT_TALLY_PLACES], 1, memory_order_relaxed);
}

/* One more if there are fewer than `most`: of several that take at once none sees too few. False:
 * there are as many. relaxed: the word alone decides. */
static inline bool knit_tally_take(struct knit_tally *tally, uint64_t number, uint32_t most)
{
    _Atomic uint32_t *count = &tally->of[number % KNIT_TALLY_PLACES];
    uint32_t before = atomic_load_explicit(count, memory_order_relaxed);

    do {
        if (before >= most)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        count, &before, before + 1, memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline uint32_t knit_tally_of(const struct knit_tally *tally, uint64_t number)
{
    return atomic_load_explicit(&tally->of[number % KNIT_TALLY_PLACES], memory_order_relaxed);
}

/* It was now; whether it was lately. relaxed: a hint, which a task could write. */
static inline void knit_moments_note(struct knit_moments *moments, uint64_t number, uint64_t now_ns)
{
    atomic_store_explicit(&moments->ms[number % KNIT_TALLY_PLACES], (uint32_t)(now_ns / 1000000),
        memory_order_relaxed);
}

static inline bool knit_moments_is_recent(
    const struct knit_moments *moments, uint64_t number, uint64_t now_ns)
{
    const uint32_t ms =
        atomic_load_explicit(&moments->ms[number % KNIT_TALLY_PLACES], memory_order_relaxed);

    return (uint32_t)(now_ns / 1000000) - ms < KNIT_WAITED_MS;
}

/* What of a weight each of so many places gets. */
static inline uint64_t knit_weight_part(uint64_t whole, uint32_t places)
{
    return whole < places ? 1 : whole / places;
}
