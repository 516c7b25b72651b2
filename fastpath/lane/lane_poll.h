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
#include <stdint.h>

#include "fastpath/lane/lane.h"

#define KNIT_POLL_LOOKS 16u /* a cold session is compared once in so many looks */
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
    uint32_t batch;    /* so many are compared in a look, */
    uint32_t next;     /* from this place on; */
    bool compares_all; /* all of them in the next one */
};

/* The sessions of the lane have changed: all are hot. */
static inline void knit_poll_begin(struct knit_poll *poll, uint32_t count)
{
    static const _Atomic uint64_t unchanging = 0;

    poll->count = poll->hot_count = count;
    poll->next = 0;
    poll->batch = (count + KNIT_POLL_LOOKS - 1) / KNIT_POLL_LOOKS;
    if (poll->batch < KNIT_POLL_FEW)
        poll->batch = KNIT_POLL_FEW;
    for (uint32_t i = 0; i < count; i++) {
        poll->cell[i] = (struct knit_poll_cell){&unchanging, 0};
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

/* Compares the next of the sessions, or all of them, which begins a look. Then all that are hot are
 * peeked at. */
static inline void knit_poll_compare(struct knit_poll *poll, bool all)
{
    const uint32_t count = poll->count;
    uint32_t at, end;

    if (count <= KNIT_POLL_FEW)
        return;
    at = poll->next;
    end = at + poll->batch;
    if (all || poll->compares_all) {
        at = 0;
        end = count;
        poll->compares_all = false;
    }
    if (end > count)
        end = count;
    for (; at < end; at++) {
        /* relaxed: it is loaded again before the call is read. */
        if (atomic_load_explicit(poll->cell[at].ctrl, memory_order_relaxed) != poll->cell[at].word)
            knit_poll_heat(poll, at);
    }
    poll->next = end;
    if (end == count) {
        poll->next = 0;
        knit_poll_cool(poll);
    }
}
