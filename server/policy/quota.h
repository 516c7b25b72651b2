/* SPDX-License-Identifier: Apache-2.0 */
/* What a principal may ask for: so many calls in flight, so many calls and bytes of arguments a
 * second; and its weight among others.
 *
 * One for all connections of the principal, on all loops. Calls and bytes a second are limited by
 * the time at which what was taken will be paid: it moves on by each call, and may be 100 ms
 * ahead. So a quiet principal may take what a tenth of a second gives at once, and a refused one
 * knows when to come again; or, where the policy says so, its calls wait for that time
 * (server/rpc/limited.h). A principal without limits pays a load and a branch for a call.
 *
 * Sessions by shared memory (`$/attach`) have slots, and no more calls in flight than those. All
 * slots of a principal's sessions together are at most as many as the limit of calls in flight was
 * when each got its own. They are counted apart from the calls by connections, since a session may
 * hold all it has for as long as it likes. Its calls and bytes a second cannot be limited: what its
 * caller writes into a lane no loop sees, and workers would share a word that each call changes.
 * So a principal with such a limit gets no session.
 *
 * Loops look before they take, and others may take in between: the limit is exceeded by a call for
 * each loop at most.
 *
 * Threads: any. Edges: none, the words order nothing.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/policy.h"

/* All zeros: no limits. */
struct knit_quota {
    _Atomic bool is_limited, waits;
    _Atomic uint64_t weight, calls_in_flight, calls_per_second, bytes_per_second;
    _Atomic uint64_t in_flight;          /* calls that were taken and not given back */
    _Atomic uint64_t waiting;            /* callers that wait for it, on all loops */
    _Atomic uint64_t slots;              /* of its sessions by shared memory */
    _Atomic uint64_t ended_ns;           /* when one of its calls ended, or the first one began */
    _Atomic uint64_t interval_ns;        /* from one such end to the next, a moving average */
    _Atomic uint64_t calls_ns, bytes_ns; /* what was taken is paid then */
};

/* The limit that a call is over, and when it is worth to try again. */
struct knit_quota_over {
    const char *name; /* of its key in the policy */
    uint64_t limit;
    uint64_t wait_ns;  /* 0 = when a call has ended */
    uint64_t guess_ns; /* when that may be, by how its calls have ended so far */
};

void knit_quota_set(struct knit_quota *quota, const struct knit_policy_limits *limits);

static inline bool knit_quota_is_limited(const struct knit_quota *quota)
{
    /* relaxed: a limit holds for calls that come a moment later. */
    return atomic_load_explicit(&quota->is_limited, memory_order_relaxed);
}

static inline bool knit_quota_waits(const struct knit_quota *quota)
{
    return atomic_load_explicit(&quota->waits, memory_order_relaxed);
}

static inline uint64_t knit_quota_waiting(const struct knit_quota *quota)
{
    return atomic_load_explicit(&quota->waiting, memory_order_relaxed);
}

static inline void knit_quota_note_waiting(struct knit_quota *quota, int more)
{
    (void)atomic_fetch_add_explicit(&quota->waiting, (uint64_t)more, memory_order_relaxed);
}

uint32_t knit_quota_weight(const struct knit_quota *quota);

/* Whether its calls or bytes a second are limited. */
bool knit_quota_has_rates(const struct knit_quota *quota);

/* Whether one more call is over a limit; changes nothing. */
KNIT_MUST_CHECK bool knit_quota_is_over(
    const struct knit_quota *quota, uint64_t now_ns, struct knit_quota_over *ret_over);

/* Whether what was taken is not paid yet. */
bool knit_quota_owes(const struct knit_quota *quota, uint64_t now_ns);

/* The call has begun; and has ended. */
void knit_quota_take(struct knit_quota *quota, size_t bytes, uint64_t now_ns);
void knit_quota_give_back(struct knit_quota *quota, uint64_t now_ns);

/* A session wants so many slots. Returns how many it has until it gives them back; 0: none. */
KNIT_MUST_CHECK uint32_t knit_quota_take_slots(struct knit_quota *quota, uint32_t slots);
void knit_quota_give_back_slots(struct knit_quota *quota, uint32_t slots);
