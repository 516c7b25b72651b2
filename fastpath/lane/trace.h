/* SPDX-License-Identifier: Apache-2.0 */
/* Of a call that is traced (KNIT_CELL_TRACED): its trace, from caller to task, and the times
 * at which the task began and ended, from the worker to its caller. Calls that are not traced touch
 * neither.
 *
 * Edges: P1 publishes the trace, A1 the times; both as the bodies of cells. A worker that dies
 * leaves the times as far as they are, and those of the slot's last traced call: the caller knows
 * by when it published which are of its own call.
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

/* Reply segment. */
struct knit_times_cell {
    _Atomic uint64_t began_ns, ended_ns; /* CLOCK_MONOTONIC */
};

static_assert(sizeof(struct knit_trace_cell) == 32 && sizeof(struct knit_times_cell) == 16,
    "no padding: as LAYOUT.md has them");

/* Before the call is published. relaxed: P1. */
static inline void knit_trace_store(struct knit_trace_cell *cell, const struct knit_trace *trace)
{
    uint64_t words[3];

    memcpy(words, trace->id, sizeof(trace->id));
    memcpy(words + 2, trace->span, sizeof(trace->span));
    for (int i = 0; i < 3; i++)
        atomic_store_explicit(&cell->id[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&cell->flags, trace->flags, memory_order_relaxed);
}

/* Behind the claim. False: no correct caller has written it. relaxed: P1. */
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

/* By the owner of the claim. relaxed: A1. */
static inline void knit_times_begin(struct knit_times_cell *cell, uint64_t now_ns)
{
    atomic_store_explicit(&cell->began_ns, now_ns, memory_order_relaxed);
}

static inline void knit_times_end(struct knit_times_cell *cell, uint64_t now_ns)
{
    atomic_store_explicit(&cell->ended_ns, now_ns, memory_order_relaxed);
}

/* Of an answered call that was published at since_ns. 0: it has not begun, or nobody has noted its
 * end. Workers wrote them: times that no call has are none. */
static inline void knit_times_load(const struct knit_times_cell *cell, uint64_t since_ns,
    uint64_t now_ns, uint64_t *ret_began_ns, uint64_t *ret_ended_ns)
{
    const uint64_t began_ns = atomic_load_explicit(&cell->began_ns, memory_order_relaxed);
    const uint64_t ended_ns = atomic_load_explicit(&cell->ended_ns, memory_order_relaxed);
    const bool has_begun = began_ns >= since_ns && began_ns <= now_ns;

    *ret_began_ns = has_begun ? began_ns : 0;
    *ret_ended_ns = has_begun && ended_ns >= began_ns && ended_ns <= now_ns ? ended_ns : 0;
}
