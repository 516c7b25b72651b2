/* SPDX-License-Identifier: Apache-2.0 */
/* The flows of a loop: all callers of one principal that wait are one flow, however many they are.
 *
 * Flows share the lanes by time, in deficit round robin: each gets KNIT_FLOW_QUANTUM_NS times the
 * weight of its principal, is charged what its calls take, and is passed over while it is in debt.
 * When all that wait are in debt, so many rounds are given at once as pay the first one. So a flow
 * of long calls has its turn as often as it pays for it, and none waits longer than for a quantum
 * of each other one, and a call.
 *
 * A call is charged the mean when it gets a slot, and what its worker has measured when it has
 * ended: no more than the time that has passed here, as a worker may say anything, and no more than
 * a second (lane_flows.h says why). What was charged too much comes back. A call that was not
 * measured, being short by its mean, has cost that. The mean is that of the flow's own calls of the
 * task, if some were measured, else the task's.
 *
 * A flow that waits alone is not charged, and gets all there is. One that waits owes a second for
 * each of its calls in the lanes at most, which are few, since it gets none while it owes. One that
 * waits no more loses its credit, while its debt stays, 64 quanta at most, until rounds or time
 * have paid it. One that is
 * held (hold.h) has no turn for a while, and saves no credit meanwhile.
 *
 * Callers inside a flow have their turns as share.h says. Priorities order the calls of one
 * connection, so they give nobody an advantage over another principal.
 *
 * Threads: its loop's. Each loop has its own flows. For workers the loop's session is one flow
 * (fastpath/lane/lane_flows.h), whose weight is the sum of those that wait here. A principal that
 * waits in several loops has an equal part of its weight in each, or who connects often would get
 * more; its sessions by shared memory are one more such place while workers make them wait
 * (fastpath/lane/places.h). A loop with so little to do that none waits weighs as one principal:
 * what it has in the lanes is served in its turn, and where that does not suffice some wait.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "fastpath/lane/lane_flows.h"
#include "fastpath/lane/reserve.h"
#include "server/rpc/caller.h"

enum {
    KNIT_FLOW_QUANTUM_NS = 200000,
    KNIT_FLOW_UNKNOWN_NS = 50000, /* of a call whose task was not measured yet */
    KNIT_FLOW_DEBT_MAX = 64,      /* quanta, of one that waits no more */
    KNIT_FLOW_FORGET_NS = 100000000,
};

TAILQ_HEAD(knit_share_queue, knit_caller);

struct knit_flow {
    struct knit_share_queue fresh;  /* callers that wait without a call in flight */
    struct knit_share_queue others; /* and with one */
    uint32_t waiting;               /* in both */
    uint32_t passed;                /* turns of fresh ones while others waited */
    uint64_t work_ns;               /* of the calls that wait in them */
    uint32_t refs;                  /* callers and calls that have it */
    uint64_t number;                /* of its principal */
    uint32_t whole_weight;          /* that of its principal when it called last in vain, */
    uint32_t weight;                /* and the part of it for this loop, of KNIT_WEIGHT_ONE */
    int64_t credit_ns;              /* below 0: debt */
    uint64_t round;                 /* as far as which it has taken what rounds give */
    uint64_t left_ns;               /* when it waited last */
    uint64_t active_ns;             /* when one of its calls was published last */
    struct knit_reserve_means means;
    bool has_measured; /* one of them is over KNIT_SESSION_SHORT_NS */
    /* hold.h has these. */
    uint32_t long_calls;              /* in flight */
    struct knit_reserve_average busy; /* with calls of others */
    uint64_t held_ns;                 /* since when; 0 = it is not */
    uint64_t held_until_ns;           /* it has no turn before */
    bool is_in_turn;
    TAILQ_ENTRY(knit_flow) in_turn;
    LIST_ENTRY(knit_flow) in_all;
    char name[]; /* of its principal */
};

/* What a call counts as that takes so long. */
static inline uint32_t knit_flow_cost_ns(uint64_t work_ns)
{
    return work_ns < KNIT_LANE_FLOW_DEBT_MAX_NS ? (uint32_t)work_ns : KNIT_LANE_FLOW_DEBT_MAX_NS;
}

/* What a call has cost its flow so far, of which the flow is told when it has ended. */
struct knit_charge {
    struct knit_flow *flow; /* NULL: it is in no account */
    uint32_t ns;            /* charged when it got its slot; 0 = nothing is */
    uint32_t put_ms;        /* when that was */
};

/* Its calls were published lately, or wait. */
static inline bool knit_flow_is_active(const struct knit_flow *flow, uint64_t now_ns)
{
    return flow->is_in_turn ||
           (flow->active_ns != 0 &&
               now_ns - flow->active_ns < KNIT_RESERVE_ACTIVE_MS * UINT64_C(1000000));
}

struct knit_flows {
    TAILQ_HEAD(, knit_flow) turn; /* those that wait */
    LIST_HEAD(, knit_flow) all;
    uint32_t count;   /* of those that wait, */
    uint64_t weights; /* their sum, */
    uint32_t waiting; /* and their callers */
    uint64_t rounds;
    uint64_t now_ns;                 /* of this turn */
    uint64_t held_until_ns;          /* one that is held is looked at again; UINT64_MAX: none is */
    struct knit_weight *lane_weight; /* what workers give the loop's session by; NULL: nothing */
    struct knit_places places;       /* where else principals wait; NULL: nowhere */
};

void knit_flows_init(struct knit_flows *flows);
/* Accepts a zeroed one. */
void knit_flows_fini(struct knit_flows *flows);

/* The caller's flow. NULL: no memory. */
struct knit_flow *knit_flow_of(struct knit_flows *flows, struct knit_caller *caller);

/* The caller is gone, or is of another principal from now on. It does not wait. */
void knit_flow_drop(struct knit_flows *flows, struct knit_caller *caller);

/* The caller waits in its flow, among those without a call in flight or the others, or no more. */
void knit_flow_enter(struct knit_flows *flows, struct knit_caller *caller, bool is_fresh);
void knit_flow_leave(struct knit_flows *flows, struct knit_caller *caller, bool is_fresh);

/* The flow may have no caller that waits any more. */
void knit_flow_settle(struct knit_flows *flows, struct knit_flow *flow, uint64_t now_ns);

/* The one whose turn it is; NULL: none waits. */
struct knit_flow *knit_flows_next(struct knit_flows *flows);

/* Has no turn now. */
static inline bool knit_flow_is_held(const struct knit_flows *flows, const struct knit_flow *flow)
{
    return flow->held_until_ns > flows->now_ns;
}

/* The call is in an account of the flow's from now on, if it is not yet. */
void knit_flow_enter_call(struct knit_flow *flow, struct knit_charge *charge, uint64_t now_ns);

/* One of its calls has got a slot. False: it is in debt now. */
bool knit_flow_charge(struct knit_flows *flows, struct knit_flow *flow, uint64_t work_ns);

/* A call of the task that is in an account has ended and ran for so long, as its worker says; 0 =
 * that was not measured. */
void knit_flow_end_call(struct knit_flow *flow, struct knit_charge *charge, uint32_t task,
    uint64_t run_ns, uint64_t now_ns);

/* What is before one more call of the caller, where all_ns of work wait: its own flow's work, and
 * what the others get meanwhile. */
uint64_t knit_flow_ahead_ns(
    const struct knit_flows *flows, const struct knit_caller *caller, uint64_t all_ns);
