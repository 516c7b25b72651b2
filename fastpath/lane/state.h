/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a session, in its reply segment: open, draining, closed or evicted, and whether the
 * worker of a lane waits for room in its arena.
 *
 * Edges:
 *   E1 state  release, in knit_state_write(), with the acquire of knit_state_read(): a
 *             side that sees the session closed sees what the host answered before
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include "fastpath/lane/layout.h"

static inline enum knit_session_state knit_state_read(const struct knit_reply_view *reply)
{
    /* E1, acquire. */
    return (enum knit_session_state)atomic_load_explicit(
        &reply->state->state, memory_order_acquire);
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

/* By the host. Workers see it before their next claim and in knit_aborted(). */
static inline void knit_state_write(
    const struct knit_reply_view *reply, enum knit_session_state state)
{
    /* E1, release. */
    atomic_store_explicit(&reply->state->state, (uint32_t)state, memory_order_release);
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
