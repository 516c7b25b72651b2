/* SPDX-License-Identifier: Apache-2.0 */
/* Notes of the pool segment: what a worker's handler of fatal signals saw just before the worker's
 * end, by which the host tells a task's own fault from a signal that came from elsewhere. They are
 * not on the board, since addresses are nothing for callers. Beside them: whether the worker has
 * answered a call, which does not lag by a turn as the board's `calls` does.
 *
 *   N1 note  owner release, in knit_note_write(), with the acquire of knit_note_read(): who sees a
 *            worker's number sees the rest of that worker's note
 *
 * Threads: a worker writes its own lane's from a signal handler, what it has answered from its own
 * thread; the host reads the note when the worker is reaped, and the answers at any time.
 */
#pragma once

#include "fastpath/lane/layout.h"

struct knit_note {
    int signal;
    int code;         /* si_code */
    uint64_t address; /* that was accessed or executed; 0 for a signal that the task sent itself */
};

static inline void knit_note_write(
    struct knit_note_line *line, uint32_t owner, const struct knit_note *note)
{
    /* relaxed, all but the last: N1 publishes them. */
    atomic_store_explicit(&line->signal, (uint32_t)note->signal, memory_order_relaxed);
    atomic_store_explicit(&line->code, (uint32_t)note->code, memory_order_relaxed);
    atomic_store_explicit(&line->address, note->address, memory_order_relaxed);
    /* N1, release. */
    atomic_store_explicit(&line->owner, owner, memory_order_release);
}

/* False: that worker has noted nothing. */
static inline bool knit_note_read(
    const struct knit_pool_view *pool, uint32_t lane, uint32_t owner, struct knit_note *ret_note)
{
    const struct knit_note_line *line = &pool->note[lane];

    /* N1, acquire. */
    if (atomic_load_explicit(&line->owner, memory_order_acquire) != owner)
        return false;
    /* relaxed: after N1. */
    *ret_note =
        (struct knit_note){.signal = (int)atomic_load_explicit(&line->signal, memory_order_relaxed),
            .code = (int)atomic_load_explicit(&line->code, memory_order_relaxed),
            .address = atomic_load_explicit(&line->address, memory_order_relaxed)};
    return true;
}

/* Which flow the worker served lately, of two: as reserve.h has it. */
static inline uint64_t knit_note_served(const struct knit_note_line *line, uint32_t which)
{
    /* relaxed: a hint. */
    return atomic_load_explicit(&line->served[which], memory_order_relaxed);
}

/* What it says of a long call: the same. */
static inline uint64_t knit_note_long_call(const struct knit_note_line *line)
{
    /* relaxed: a hint; G1 and G2 of lane_reserve.h order what has to be ordered. */
    return atomic_load_explicit(&line->long_call, memory_order_relaxed);
}

/* By the worker, of its own line, after a call. */
static inline void knit_note_answer(struct knit_note_line *line, uint32_t owner)
{
    /* relaxed: the host reads it after the worker's end, or as a hint. */
    atomic_store_explicit(&line->answered_by, owner, memory_order_relaxed);
}

/* Whether that worker, the lane's last, has answered a call. */
static inline bool knit_note_has_answered(
    const struct knit_pool_view *pool, uint32_t lane, uint32_t owner)
{
    return atomic_load_explicit(&pool->note[lane].answered_by, memory_order_relaxed) == owner;
}
