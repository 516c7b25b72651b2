/* SPDX-License-Identifier: Apache-2.0 */
/* Of a call that is observed (KNIT_CELL_TRACED): the trace that it is a part of, from caller to
 * task. Calls that are not do not touch it. A caller that wants to know no more than how long the
 * call ran stores knit_trace_none: the worker measures each call that is observed.
 *
 * Edge: P1 publishes it, as the body of the cell.
 *
 * Threads: each word has one writing side. */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>

#include "proto/trace.h"

/* Request segment. */
struct knit_trace_cell {
    _Atomic uint64_t id[3]; /* of the trace, then of the span */
    _Atomic uint64_t flags;
};

static_assert(sizeof(struct knit_trace_cell) == 32, "no padding: as LAYOUT.md has it");

static const struct knit_trace knit_trace_none = {.flags = 0};

/* The flags' word names the call as well, so that the host, which looks at any time, does not take
 * the trace of an earlier call of the slot for that of this one. */
#define KNIT_TRACE_GEN_SHIFT 8u

/* Before the call, which is of that generation, is published. relaxed: P1. */
static inline void knit_trace_store(
    struct knit_trace_cell *cell, const struct knit_trace *trace, uint64_t gen)
{
    uint64_t words[3];

    memcpy(words, trace->id, sizeof(trace->id));
    memcpy(words + 2, trace->span, sizeof(trace->span));
    for (int i = 0; i < 3; i++)
        atomic_store_explicit(&cell->id[i], words[i], memory_order_relaxed);
    atomic_store_explicit(
        &cell->flags, gen << KNIT_TRACE_GEN_SHIFT | trace->flags, memory_order_relaxed);
}

/* Behind the claim. False: it is none. relaxed: P1. */
KNIT_MUST_CHECK static inline bool knit_trace_load(
    const struct knit_trace_cell *cell, struct knit_trace *ret_trace)
{
    uint64_t words[3];

    for (int i = 0; i < 3; i++)
        words[i] = atomic_load_explicit(&cell->id[i], memory_order_relaxed);
    memcpy(ret_trace->id, words, sizeof(ret_trace->id));
    memcpy(ret_trace->span, words + 2, sizeof(ret_trace->span));
    ret_trace->flags =
        (uint8_t)(atomic_load_explicit(&cell->flags, memory_order_relaxed) & KNIT_TRACE_SAMPLED);
    return knit_trace_is_valid(ret_trace);
}

/* The same of the host's, for who looks at a call that is claimed: that of generation gen. False:
 * it is none of that call, or none. relaxed: P1; and it is said to people alone. */
KNIT_MUST_CHECK static inline bool knit_trace_load_of(
    const struct knit_trace_cell *cell, uint64_t gen, struct knit_trace *ret_trace)
{
    return atomic_load_explicit(&cell->flags, memory_order_relaxed) >> KNIT_TRACE_GEN_SHIFT ==
               gen &&
           knit_trace_load(cell, ret_trace);
}
