/* SPDX-License-Identifier: Apache-2.0 */
/* Marks of the pool segment: whether a task may run after workers died in it.
 *
 * The host writes marks (quarantine.c); a worker reads its task's before each call. All accesses
 * are relaxed: no other memory depends on a mark, and it does not matter whether a change is seen
 * one call earlier or later.
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
