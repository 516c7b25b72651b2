/* SPDX-License-Identifier: Apache-2.0 */
/* Callers that wait because their principal is over its limits (server/policy/quota.h), where the
 * policy lets it wait: by principal, in the order in which they came.
 *
 * They wait as those do that find no slot: what they have sent stays with them, timeouts run
 * (server/net/lookahead.h), and they stand in no other queue meanwhile, so what others ask for does
 * not wait behind them, nor is it refused for what they have sent. While one waits, on any loop, no
 * other caller of the principal overtakes it; one that has its turn may make 16 calls.
 *
 * A loop looks at a principal when its quota says that a call is paid for, when one of its calls
 * has ended on this loop, and from time to time: for calls that end on other loops, and for a
 * new policy. Where callers wait on several loops all look by time alone, so that none is always
 * the first.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "server/rpc/caller.h"

enum {
    KNIT_LIMITED_LOOK_NS = 10000000,  /* between two looks for calls that end elsewhere, */
    KNIT_LIMITED_SHORT_NS = 1000000,  /* the same where others wait there; no look comes earlier */
    KNIT_LIMITED_LONG_NS = 100000000, /* or later */
};

/* Those of one principal on a loop. */
struct knit_limited_group;

struct knit_limited {
    LIST_HEAD(, knit_limited_group) groups; /* also empty ones, until they are looked at */
    uint64_t next_ns;                       /* none is looked at before; UINT64_MAX = none waits */
    struct knit_caller *resumed;
    uint32_t turns_left; /* calls that it may still publish */
};

static inline bool knit_limited_has_waiting(const struct knit_limited *limited)
{
    return !LIST_EMPTY(&limited->groups);
}

void knit_limited_init(struct knit_limited *limited);
void knit_limited_fini(struct knit_limited *limited);

/* Whether a call of the caller, whose principal may wait, has to. is_its_turn: it is resumed, after
 * it waited for something else. */
KNIT_MUST_CHECK bool knit_limited_must_wait(
    const struct knit_limited *limited, const struct knit_caller *caller, bool is_its_turn);

/* The caller waits from now on; and does no longer. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_limited_enter(struct knit_limited *limited, struct knit_caller *caller);
void knit_limited_leave(struct knit_limited *limited, struct knit_caller *caller);

/* The caller has published a call; a call of the principal has ended. */
static inline void knit_limited_note_call(
    struct knit_limited *limited, const struct knit_caller *caller)
{
    if (limited->resumed == caller && limited->turns_left > 0)
        limited->turns_left--;
}
void knit_limited_note_end(struct knit_limited *limited, const struct knit_principal *principal);

/* At next_ns: those go on whose limits let them, for a bounded time; all that wait, when the router
 * drains, since they are refused then. */
void knit_limited_resume(struct knit_limited *limited, struct knit_turn *turn, bool all);
