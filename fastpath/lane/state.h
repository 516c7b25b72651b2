/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a session, in its reply segment: open, draining, closed or evicted, and whether the
 * worker of a lane waits for room in its arena.
 *
 * Edges:
 *   E1 state  release, in knit_state_write(), with the acquire of knit_state_word(): a
 *             side that sees the session closed sees what the host answered before
 *   E2 stop   release, in knit_state_set_stops(), with the same acquire: who sees the bit sees
 *             which calls are meant
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include "fastpath/lane/layout.h"

/* The word as it is. */
static inline uint32_t knit_state_word(const struct knit_reply_view *reply)
{
    /* E1, acquire. */
    return atomic_load_explicit(&reply->state->state, memory_order_acquire);
}

static inline enum knit_session_state knit_state_of(uint32_t word)
{
    return (enum knit_session_state)(word & ~KNIT_STATE_STOPS);
}

static inline enum knit_session_state knit_state_read(const struct knit_reply_view *reply)
{
    return knit_state_of(knit_state_word(reply));
}

/* Its caller may publish. */
static inline bool knit_state_is_open(const struct knit_reply_view *reply)
{
    return knit_state_read(reply) == KNIT_STATE_OPEN;
}

/* Calls that are published may be claimed. */
static inline bool knit_state_is_served(enum knit_session_state state)
{
    return state <= KNIT_STATE_DRAINING;
}

/* The same by one comparison, for whoever looks more closely otherwise: and no call is asked to
 * stop. */
static inline bool knit_state_is_quiet(uint32_t word)
{
    return word <= KNIT_STATE_DRAINING;
}

/* By the host. Workers see it before their next claim and in knit_aborted(). */
static inline void knit_state_write(
    const struct knit_reply_view *reply, enum knit_session_state state)
{
    /* relaxed: the host alone writes the word. */
    const uint32_t bit = atomic_load_explicit(&reply->state->state, memory_order_relaxed);

    /* E1, release. */
    atomic_store_explicit(
        &reply->state->state, (bit & KNIT_STATE_STOPS) | (uint32_t)state, memory_order_release);
}

/* ---- calls that the host asks to stop ------------------------------------------------------- */

/* By the host: whether any is, as `stop` has them. */
static inline void knit_state_set_stops(const struct knit_reply_view *reply, bool are_some)
{
    /* relaxed: the host alone writes the word. */
    const uint32_t word = atomic_load_explicit(&reply->state->state, memory_order_relaxed);

    /* E2, release. */
    atomic_store_explicit(&reply->state->state,
        are_some ? word | KNIT_STATE_STOPS : word & ~KNIT_STATE_STOPS, memory_order_release);
}

/* By the host, before that. */
static inline void knit_state_stop(const struct knit_reply_view *reply, uint32_t slot, uint64_t gen)
{
    /* relaxed: E2 publishes it. */
    atomic_store_explicit(&reply->stop[slot], gen, memory_order_relaxed);
}

/* Whether that call is. word: the state, as it was loaded. */
static inline bool knit_state_stops(
    const struct knit_reply_view *reply, uint32_t word, uint32_t slot, uint64_t gen)
{
    /* relaxed: it is compared, and nothing is read by it. */
    return (word & KNIT_STATE_STOPS) != 0 &&
           atomic_load_explicit(&reply->stop[slot], memory_order_relaxed) == gen;
}

/* The worker of any lane holds a deferred reply: it found no room in its arena. That can happen
 * while little of the arena is in use, when the free parts are small. */
static inline bool knit_state_is_blocked_on_arena(
    const struct knit_reply_view *reply, uint32_t lanes)
{
    for (uint32_t i = 0; i < lanes; i++) {
        /* relaxed: a hint. */
        if (atomic_load_explicit(&reply->lane[i].blocked_on_arena, memory_order_relaxed) != 0)
            return true;
    }
    return false;
}
