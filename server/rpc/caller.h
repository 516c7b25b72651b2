/* SPDX-License-Identifier: Apache-2.0 */
/* What the router knows of those who call: who they are, what their calls take, why they wait, and
 * how an outcome gets to them. A connection is one kind of caller (server/net/connection.h).
 *
 * A caller brings a message with knit_router_call(). When there is no slot for it the router pauses
 * the caller; the caller keeps the message and brings it again when it is resumed.
 *
 * A caller may end at any time, also inside one of its own functions: it calls knit_router_forget()
 * and knit_attach_end(). Its memory must stay until the turn is over, since the code that called it
 * still reads it, and until the last `held` outcome is released.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/failure.h"
#include "proto/span.h"
#include "server/base/log.h"
#include "server/base/turn.h"
#include "server/policy/credentials.h"
#include "server/policy/principal.h"
#include "server/rpc/in_flight.h"

struct knit_caller;
struct knit_flow;
struct knit_host_grant;
struct knit_keyed_waiter;
struct knit_references;
struct knit_registry_task;
struct knit_router;
struct knit_session_outcome;
struct knit_stage;

/* Why a caller brings no messages now. Bits from KNIT_PAUSE_OWN on are the caller's own. */
enum {
    KNIT_PAUSE_SLOT = 1, /* waits as share.h says: for a slot, arena space, a lane, its limits */
    KNIT_PAUSE_IN_FLIGHT = 2, /* has in_flight_max calls, or its share of slots or of the arena */
    KNIT_PAUSE_OWN = 4,
};

/* None of these fails: a caller that cannot take what it is given ends itself. */
struct knit_caller_ops {
    /* The outcome of a call. If it is `held`, knit_router_release() follows, now or when its bytes
     * are not needed any more. */
    void (*deliver)(
        struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome);
    /* A stage with room; it has none, or one that is full. NULL: small results go to deliver() as
     * well. The whole operation is NULL in callers without stages. */
    struct knit_stage *(*begin_stage)(struct knit_caller *caller);
    /* A value that the call has emitted, of those that are so many: it goes before the outcome, or
     * nowhere. NULL: it takes none. */
    void (*emit)(
        struct knit_caller *caller, uint32_t msgid, struct knit_span value, uint32_t count);
    /* A result that the daemon made itself. */
    void (*reply)(struct knit_caller *caller, uint32_t msgid, struct knit_span result);
    void (*refuse)(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure);
    /* A reply with which descriptors go: response is the whole message. Takes them over when it
     * returns 0; -ENOMEM. NULL unless `takes_descriptors`. */
    int (*hand_over)(struct knit_caller *caller, uint32_t msgid, struct knit_span response,
        const int *fds, uint32_t count);
    /* Its last pause is over: bring messages, in a turn of the caller's own. */
    void (*ready)(struct knit_caller *caller);
    /* It is its turn: bring the messages that waited, now. */
    void (*resume)(struct knit_caller *caller);
    /* Whether nobody but the daemon reads what it sends: not over a network, or encrypted. */
    bool (*is_private)(const struct knit_caller *caller);
    /* It brings no more, and ends when it has what it was answered. */
    void (*end)(struct knit_caller *caller);
    /* It ends. Why is in the log, or its peer has ended it. */
    void (*close)(struct knit_caller *caller);
    /* Memory for it ran out: the log says so, and it ends. */
    void (*close_without_memory)(struct knit_caller *caller);
};

struct knit_caller {
    const struct knit_caller_ops *ops;
    struct knit_router *router;
    struct knit_turn *turn;
    struct knit_principal *principal;
    struct knit_credentials credentials;
    uint64_t token_key;     /* of a principal by token: which; see tokens.h */
    uint64_t address;       /* where it comes from: the key of its tenant */
    size_t *kept_by_tenant; /* what all of its tenant keep by references.h; NULL: it has none */
    struct knit_account account;
    struct knit_in_flight calls;            /* requests that have no outcome yet */
    struct knit_in_flight reported;         /* the same, with those that wait: see reports.h */
    struct knit_references *references;     /* references.h; NULL: there are none */
    LIST_HEAD(, knit_keyed_waiter) keyed;   /* keyed.h: requests with keys that wait */
    struct knit_stage *stage;               /* messages of small results are put there; or NULL */
    const struct knit_registry_task *named; /* the task that it named last; or NULL */
    uint32_t named_epoch;
    enum knit_failure_form form; /* of errors: what it understands */
    bool takes_descriptors;
    bool takes_over;        /* it has the daemon's sockets, to serve in its place */
    bool has_waited;        /* the message that it brings was counted in the router's `waiting` */
    uint8_t pauses;         /* KNIT_PAUSE_* */
    uint16_t waiting_in;    /* enum knit_share_queue_kind */
    uint32_t waiting_calls; /* in its lookahead */
    struct knit_flow *flow; /* flow.h; NULL: it has waited for no lane yet */
    const struct knit_principal *flow_of; /* whose that is */
    uint64_t work_ns;                     /* of its calls that wait, estimated */
    uint64_t session_id;                  /* what it attached; 0 = none */
    uint32_t session_slots;               /* of its principal's, since it attached */
    uint64_t gone_ns; /* since then it brings notifications alone, those that wait; 0 = is here */
    char peer[64];    /* its address, or uid and pid, for the log */
    char name[32];    /* said in $/hello, cut; "" = nothing yet */
    TAILQ_ENTRY(knit_caller) in_waiting;
};

/* Who it is: stands in each line of the log about it. */
#define KNIT_LOG_CALLER(caller)                                                                    \
    KNIT_LOG_TEXT("peer", (caller)->peer),                                                         \
        KNIT_LOG_TEXT("name", (caller)->name[0] != '\0' ? (caller)->name : "none")

static inline void knit_caller_refuse(
    struct knit_caller *caller, uint32_t msgid, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    caller->ops->refuse(caller, msgid, &failure);
}

/* Takes away a reason for pausing. */
static inline void knit_caller_unpause(struct knit_caller *caller, uint8_t reason)
{
    if (!(caller->pauses & reason))
        return;
    caller->pauses &= (uint8_t)~reason;
    if (caller->pauses == 0)
        caller->ops->ready(caller);
}
