/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the processor away at random before atomic accesses, so that other threads and processes
 * come in between where they seldom do by themselves. deploy/native/yield.ini includes it before
 * everything else of a build; no file names it.
 *
 * One access in 64 yields, and one in 4096 spins as long as a wake-up takes. The numbers of each
 * thread and source file begin at $KNIT_TEST_SEED, or differ from run to run. Orders are as they
 * were: a stronger one would hide the fence that is missing. The macros of <stdatomic.h> cannot
 * call what they replace, so these call the compiler's functions, as those do.
 */
#pragma once

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline void knit_yield(void)
{
    static _Thread_local uint64_t state;

    if (state == 0) {
        const char *seed = getenv("KNIT_TEST_SEED");

        state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid();
        state = state * 2 + 1;
    }
    state = state * 6364136223846793005u + 1442695040888963407u;
    if (state >> 58 == 0)
        sched_yield();
    if (state >> 52 == 1) {
        for (int i = 0; i < 20000; i++)
            __asm__ __volatile__("" ::: "memory");
    }
}

#define KNIT_YIELDED(function, ...) (knit_yield(), function(__VA_ARGS__))

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_thread_fence
#define atomic_load_explicit(p, order)         KNIT_YIELDED(__atomic_load_n, (p), (order))
#define atomic_store_explicit(p, value, order) KNIT_YIELDED(__atomic_store_n, (p), (value), (order))
#define atomic_exchange_explicit(p, value, order)                                                  \
    KNIT_YIELDED(__atomic_exchange_n, (p), (value), (order))
#define atomic_fetch_add_explicit(p, value, order)                                                 \
    KNIT_YIELDED(__atomic_fetch_add, (p), (value), (order))
#define atomic_compare_exchange_strong_explicit(p, expected, value, order, failed)                 \
    KNIT_YIELDED(__atomic_compare_exchange_n, (p), (expected), (value), 0, (order), (failed))
#define atomic_compare_exchange_weak_explicit(p, expected, value, order, failed)                   \
    KNIT_YIELDED(__atomic_compare_exchange_n, (p), (expected), (value), 1, (order), (failed))
#define atomic_thread_fence(order) KNIT_YIELDED(__atomic_thread_fence, (order))
