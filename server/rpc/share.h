/* SPDX-License-Identifier: Apache-2.0 */
/* Fair shares of a session's slots and of its arena space, and the queues of callers that wait for
 * either.
 *
 * A caller alone gets five eighths of what there is. The more callers fill up their shares the
 * smaller each share is, and some stays free for callers without any.
 *
 * Callers get their turns in the order in which they began to wait, a bounded number of calls each,
 * and while one waits no other overtakes it. Those that wait for arena space have a queue of their
 * own: calls that fit a cell need none and pass them.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fastpath/lane/session.h"
#include "server/rpc/caller.h"

enum {
    KNIT_SHARE_FACTOR = 2,        /* so many slots for each that is free, ... */
    KNIT_SHARE_RESERVE_PART = 16, /* ... but for this part of all, which callers without any get */
};

enum knit_share_queue_kind {
    KNIT_SHARE_NOT_WAITING,
    KNIT_SHARE_WAITING_SLOT,
    KNIT_SHARE_WAITING_ARENA,
};

TAILQ_HEAD(knit_share_queue, knit_caller);

struct knit_share {
    struct knit_session *session; /* borrowed */
    uint32_t slots;
    size_t arena_bytes;
    size_t argument_bytes; /* of all callers in the request arena */
    struct knit_share_queue waiting;
    struct knit_share_queue waiting_arena;
    struct knit_caller *resumed;
    uint32_t turns_left; /* calls the caller that is resumed may still publish */
    bool is_arenas_turn;
};

void knit_share_init(
    struct knit_share *share, struct knit_session *session, uint32_t slots, size_t arena_bytes);

/* Slots that a caller may have when no other has any. */
uint32_t knit_share_alone(uint32_t slots);

/* A caller that has none waits in a queue like all others, for there is nothing of its own that
 * could become free. */
static inline bool knit_share_may_take(uint64_t own, uint64_t taken, uint64_t all)
{
    uint64_t reserve = all / KNIT_SHARE_RESERVE_PART, free = taken < all ? all - taken : 0;

    return own == 0 || (free > reserve && own < KNIT_SHARE_FACTOR * (free - reserve));
}

/* Whether one more call is within the account's share. */
static inline bool knit_share_admits(
    const struct knit_share *share, const struct knit_account *account, size_t argument_bytes)
{
    uint32_t free = knit_session_slots_free(share->session);

    return knit_share_may_take(account->slots, share->slots - free, share->slots) &&
           (argument_bytes == 0 || knit_share_may_take(account->argument_bytes,
                                       share->argument_bytes, share->arena_bytes));
}

/* The queue in which others wait before this caller; NOT_WAITING when it is its turn: no other
 * waits, or it is resumed and may still publish. */
static inline enum knit_share_queue_kind knit_share_must_wait(
    const struct knit_share *share, const struct knit_caller *caller, size_t argument_bytes)
{
    if (share->resumed == caller && share->turns_left > 0)
        return KNIT_SHARE_NOT_WAITING;
    if (!TAILQ_EMPTY(&share->waiting))
        return KNIT_SHARE_WAITING_SLOT;
    if (!TAILQ_EMPTY(&share->waiting_arena) && argument_bytes > 0)
        return KNIT_SHARE_WAITING_ARENA;
    return KNIT_SHARE_NOT_WAITING;
}

/* The caller has published a call. */
static inline void knit_share_note_call(
    struct knit_share *share, struct knit_caller *caller, size_t argument_bytes)
{
    caller->account.slots++;
    caller->account.argument_bytes += argument_bytes;
    share->argument_bytes += argument_bytes;
    if (share->resumed == caller && share->turns_left > 0)
        share->turns_left--;
}

/* The caller's message waits: pauses it. */
void knit_share_wait(
    struct knit_share *share, struct knit_caller *caller, enum knit_share_queue_kind kind);

/* Out of the queue that it waits in, if any. */
void knit_share_leave(struct knit_share *share, struct knit_caller *caller);

/* Callers that waited go on in turn, as long as that brings calls into the lanes. False: none
 * waited. */
bool knit_share_resume(struct knit_share *share);
