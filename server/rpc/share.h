/* SPDX-License-Identifier: Apache-2.0 */
/* Fair shares of a session's slots, of its arena space and of its lanes, and the queues of callers
 * that wait for any of these.
 *
 * A caller alone gets five eighths of the slots and of the arena. The more callers fill up their
 * shares the smaller each share is, and some stays free for callers without any.
 *
 * Lanes hold little (depth_ns of session.h); what is beyond waits here, in its caller. Principals
 * share what comes free by time (flow.h), and the callers of each get their turns in the order in
 * which they began to wait, a bounded number of calls each, so that whatever one has sent is in
 * nobody's way. Those without a call in flight go first: a caller with one call waits for what the
 * lanes hold and for no queue. Where such come without end, one of the others has its turn after
 * sixteen of them. While one waits no other of its principal overtakes it.
 *
 * There are queues of their own, in which principals do not matter, for those that wait for arena
 * space, which calls that fit a cell pass, and for each lane, for calls that may go to no other:
 * they stand in the way of no call that may. The three kinds have the first turn by turns.
 *
 * What stands behind a message that waited can take any time, so those that go on have a time as
 * input has, and the others go on in the next turn of the loop.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fastpath/lane/session_private.h"
#include "server/rpc/caller.h"
#include "server/rpc/flow.h"
#include "server/rpc/limited.h"

enum {
    KNIT_SHARE_FACTOR = 2,        /* so many slots for each that is free, ... */
    KNIT_SHARE_RESERVE_PART = 16, /* ... but for this part of all, which callers without any get */
    KNIT_SHARE_TURN_NS = 1000000, /* of a loop's turn for those that go on */
};

enum knit_share_queue_kind {
    KNIT_SHARE_NOT_WAITING,
    KNIT_SHARE_WAITING_FRESH, /* for a slot or for room in a lane, without a call in flight */
    KNIT_SHARE_WAITING_SLOT,  /* the same, with one */
    KNIT_SHARE_WAITING_ARENA,
    KNIT_SHARE_WAITING_LIMIT, /* its principal is over its limits: limited.h */
    KNIT_SHARE_WAITING_LANE,  /* this and the lane's number: for room in that one */
};

struct knit_share {
    struct knit_session *session; /* borrowed */
    uint32_t slots;
    uint32_t lanes;
    size_t arena_bytes;
    size_t argument_bytes;   /* of all callers in the request arena */
    struct knit_flows flows; /* those that wait for any lane */
    struct knit_share_queue
        *queues;                 /* [KNIT_SHARE_WAITING_LANE + lanes]: the others; from ARENA on */
    uint32_t waiting;            /* callers in flows and queues */
    struct knit_limited limited; /* and those that wait for other things than room */
    bool has_freed;              /* a slot since they were resumed last, by a release */
    struct knit_caller *resumed;
    bool is_charged;     /* for its calls, since other flows wait */
    uint32_t turns_left; /* calls the caller that is resumed may still publish */
    bool has_published;  /* it has published some */
    uint64_t now_ns;     /* when those that wait were resumed last */
    uint32_t turn;       /* says which kind of queue is first */
    uint64_t until_ns;   /* when those that are resumed have had their time */
    bool is_cut_short;   /* it ended, and others may go on at once */
};

/* The session is borrowed. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_share_init(
    struct knit_share *share, struct knit_session *session, const struct knit_geometry *geometry);
/* Accepts a zeroed one. */
void knit_share_fini(struct knit_share *share);

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
    uint32_t free = share->session->free;

    return knit_share_may_take(account->slots, share->slots - free, share->slots) &&
           (argument_bytes == 0 || knit_share_may_take(account->argument_bytes,
                                       share->argument_bytes, share->arena_bytes));
}

static inline bool knit_share_has_waiting(const struct knit_share *share, uint32_t kind)
{
    return !TAILQ_EMPTY(&share->queues[kind]);
}

/* The queue in which others wait before this caller's call, which may go to that lane alone unless
 * it is KNIT_LANE_ANY; NOT_WAITING when it is its turn: no other waits, or it is resumed and may
 * still publish. */
static inline uint32_t knit_share_must_wait(const struct knit_share *share,
    const struct knit_caller *caller, size_t argument_bytes, uint32_t lane)
{
    if (share->waiting == 0 || (share->resumed == caller && share->turns_left > 0))
        return KNIT_SHARE_NOT_WAITING;
    if (lane != KNIT_LANE_ANY && knit_share_has_waiting(share, KNIT_SHARE_WAITING_LANE + lane))
        return KNIT_SHARE_WAITING_LANE + lane;
    if (lane == KNIT_LANE_ANY && share->flows.waiting > 0)
        return KNIT_SHARE_WAITING_SLOT;
    if (argument_bytes > 0 && knit_share_has_waiting(share, KNIT_SHARE_WAITING_ARENA))
        return KNIT_SHARE_WAITING_ARENA;
    return KNIT_SHARE_NOT_WAITING;
}

/* Whether there is room in the request arena for so many bytes at once. */
KNIT_MUST_CHECK bool knit_share_has_arena(const struct knit_share *share, size_t argument_bytes);

/* The caller that is resumed has published a call of the task. */
void knit_share_note_turn(struct knit_share *share, uint32_t task, struct knit_charge *charge);

/* The caller has published a call of the task. */
static inline void knit_share_note_call(struct knit_share *share, struct knit_caller *caller,
    uint32_t task, size_t argument_bytes, struct knit_charge *charge)
{
    caller->flow->active_ns = caller->turn->now_ns;
    caller->account.slots++;
    caller->account.argument_bytes += argument_bytes;
    share->argument_bytes += argument_bytes;
    if (share->resumed == caller && share->turns_left > 0)
        knit_share_note_turn(share, task, charge);
}

/* One of the slots that count in the caller's share is free. */
void knit_share_note_end(struct knit_share *share, struct knit_caller *caller);

/* The caller's message waits: pauses it. */
void knit_share_wait(struct knit_share *share, struct knit_caller *caller, uint32_t kind);

/* The same, until its limits let it. */
void knit_share_wait_for_limit(struct knit_share *share, struct knit_caller *caller);

/* Whether the caller's principal is over a limit, and its calls wait then. */
KNIT_MUST_CHECK bool knit_share_is_over_limit(
    const struct knit_share *share, const struct knit_caller *caller);

/* Out of the queue that it waits in, if any. */
void knit_share_leave(struct knit_share *share, struct knit_caller *caller);

/* The same, and the caller is gone. */
void knit_share_part(struct knit_share *share, struct knit_caller *caller);

/* Work of its calls waits, so much more or less. */
void knit_share_note_work(struct knit_caller *caller, int64_t more_ns);

/* Whether some that wait may go on though no event comes. */
static inline bool knit_share_is_due(const struct knit_share *share)
{
    return share->waiting > 0 && (share->is_cut_short || share->has_freed);
}

/* Callers that waited go on in turn, as long as that brings calls into the lanes, and for about
 * most_ns; UINT64_MAX = without end. False: none waited. */
bool knit_share_resume(struct knit_share *share, uint64_t most_ns);
