/* SPDX-License-Identifier: Apache-2.0 */
/* Marks of the pool segment: whether a task may run after workers died in it.
 *
 * The host writes a mark after a death; a worker reads it before each call and lifts PROBATION when
 * a call of the task has ended well. All accesses are relaxed: no other memory depends on a mark,
 * and it does not matter whether a change is seen one call earlier or later.
 *
 * Threads: any.
 */
#pragma once

#include "fastpath/lane/layout.h"

static inline enum knit_mark knit_mark_read(const struct knit_pool_view *pool, uint32_t task)
{
    return (enum knit_mark)atomic_load_explicit(&pool->mark[task], memory_order_relaxed);
}

/* By the host. */
static inline void knit_mark_write(
    const struct knit_pool_view *pool, uint32_t task, enum knit_mark mark)
{
    atomic_store_explicit(&pool->mark[task], (uint8_t)mark, memory_order_relaxed);
}

/* By a worker, after a call that ended well. */
static inline void knit_mark_lift_probation(const struct knit_pool_view *pool, uint32_t task)
{
    uint8_t expected = KNIT_MARK_PROBATION;

    /* Compared and exchanged, so that a quarantine set in between stays. */
    if (knit_mark_read(pool, task) == KNIT_MARK_PROBATION)
        (void)atomic_compare_exchange_strong_explicit(&pool->mark[task], &expected,
            KNIT_MARK_TRUSTED, memory_order_relaxed, memory_order_relaxed);
}
