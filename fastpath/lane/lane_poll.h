/* SPDX-License-Identifier: Apache-2.0 */
/* Which sessions a worker looks at: idle ones cost next to nothing, however many there are.
 *
 * A session is hot while calls came from it lately; each look peeks at the ring of each hot one.
 * The others are cold. Of a cold one no call can come without a store to the cell that is next in
 * its ring, so its place in a dense array holds that cell's address and the word that was there
 * when it was last found empty: four instructions say that nothing has changed. A look compares a
 * sixteenth of them, at least four, by turns; so a call of a cold session is found within
 * KNIT_POLL_LOOKS looks. After a sleep and after a call that was not short all are compared: these
 * cost more than that does. So they are before a worker parks.
 *
 * A word that changes without a call, which no correct caller stores, makes its session hot for a
 * while. That is all.
 *
 * Threads: the worker's, or the visitor that has the sessions (lane_session.c).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/lane.h"

#define KNIT_POLL_LOOKS 16u /* a cold session is compared once in so many looks */
#define KNIT_POLL_STEP  4u  /* so many are compared at once */
#define KNIT_POLL_FEW   4u  /* so few sessions are always hot */

/* The cell that is next in a session's ring, and what is there while nothing is published. */
struct knit_poll_cell {
    const _Atomic uint64_t *ctrl;
    uint64_t word;
};

/* Of the sessions by their places in the lane. */
struct knit_poll {
    struct knit_poll_cell cell[KNIT_LANE_SESSIONS_MAX]; /* of a hot one it may be an old one */
    uint8_t hot[KNIT_LANE_SESSIONS_MAX];                /* places of the hot ones, rising */
    bool is_hot[KNIT_LANE_SESSIONS_MAX];
    bool is_recent[KNIT_LANE_SESSIONS_MAX]; /* had something since all were compared */
    uint32_t count, hot_count;
    const struct knit_poll_cell *end;  /* of whole steps */
    const struct knit_poll_cell *next; /* is compared next, */
    ptrdiff_t batch;                   /* with so many in a look, */
    bool compares_all;                 /* but all of them in the next one */
};

static_assert(KNIT_LANE_SESSIONS_MAX % KNIT_POLL_STEP == 0, "cells are compared by whole steps");

/* The sessions of the lane have changed: all are hot. */
static inline void knit_poll_begin(struct knit_poll *poll, uint32_t count)
{
    static const _Atomic uint64_t unchanging = 0;

    const uint32_t steps = (count + KNIT_POLL_STEP - 1) / KNIT_POLL_STEP;

    poll->count = poll->hot_count = count;
    poll->next = poll->cell;
    poll->end = poll->cell + steps * KNIT_POLL_STEP;
    poll->batch = (ptrdiff_t)((steps + KNIT_POLL_LOOKS - 1) / KNIT_POLL_LOOKS * KNIT_POLL_STEP);
    for (uint32_t i = 0; i < steps * KNIT_POLL_STEP; i++)
        poll->cell[i] = (struct knit_poll_cell){&unchanging, 0};
    for (uint32_t i = 0; i < count; i++) {
        poll->hot[i] = (uint8_t)i;
        poll->is_hot[i] = poll->is_recent[i] = true;
    }
}

/* The session at that place has something, or seems to. */
static inline void knit_poll_heat(struct knit_poll *poll, uint32_t place)
{
    uint32_t at = poll->hot_count;

    poll->is_recent[place] = true;
    if (poll->is_hot[place])
        return;
    poll->is_hot[place] = true;
    poll->hot_count++;
    for (; at > 0 && poll->hot[at - 1] > place; at--)
        poll->hot[at] = poll->hot[at - 1];
    poll->hot[at] = (uint8_t)place;
}

/* All were compared once more: hot ones that had nothing meanwhile are cold. */
static inline void knit_poll_cool(struct knit_poll *poll)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < poll->hot_count; i++) {
        const uint8_t place = poll->hot[i];

        if (poll->is_recent[place])
            poll->hot[kept++] = place;
        else
            poll->is_hot[place] = false;
        poll->is_recent[place] = false;
    }
    poll->hot_count = kept;
}

/* What has changed of the cell since it was empty; 0 = nothing. */
static inline uint64_t knit_poll_difference(const struct knit_poll_cell *cell)
{
    /* relaxed: it is loaded again before the call is read. */
    return atomic_load_explicit(cell->ctrl, memory_order_relaxed) ^ cell->word;
}

/* One of these has changed, if it still has. */
static __attribute__((noinline)) void knit_poll_heat_changed(
    struct knit_poll *poll, const struct knit_poll_cell *first)
{
    for (uint32_t i = 0; i < KNIT_POLL_STEP; i++) {
        if (knit_poll_difference(&first[i]) != 0)
            knit_poll_heat(poll, (uint32_t)(&first[i] - poll->cell));
    }
}

/* Compares the next of the sessions, or all of them, which begins a look. Then all that are hot are
 * peeked at. */
static inline void knit_poll_compare(struct knit_poll *poll, bool all)
{
    const struct knit_poll_cell *cell = poll->next, *end = poll->end;

    if (poll->count <= KNIT_POLL_FEW)
        return;
    if (all || poll->compares_all) {
        cell = poll->cell;
        poll->compares_all = false;
    } else if (end - cell > poll->batch) {
        end = cell + poll->batch;
    }
    for (; cell < end; cell += KNIT_POLL_STEP) {
        if ((knit_poll_difference(&cell[0]) | knit_poll_difference(&cell[1]) |
                knit_poll_difference(&cell[2]) | knit_poll_difference(&cell[3])) != 0)
            knit_poll_heat_changed(poll, cell);
    }
    poll->next = end;
    if (end == poll->end) {
        poll->next = poll->cell;
        knit_poll_cool(poll);
    }
}
