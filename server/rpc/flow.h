/* SPDX-License-Identifier: Apache-2.0 */
/* The flows of a loop: all callers of one principal that wait are one flow, however many they are.
 *
 * Flows share the lanes by time, in deficit round robin: each gets KNIT_FLOW_QUANTUM_NS times the
 * weight of its principal, is charged what its calls take, by the means of their tasks, and is
 * passed over while it is in debt. When all that wait are in debt, so many rounds are given at once
 * as pay the first one. So a flow of long calls has its turn as often as it pays for it, and none
 * waits longer than for a quantum of each other one, and a call.
 *
 * A flow that waits alone is not charged, and gets all there is. One that waits no more loses its
 * credit, while its debt stays, 64 quanta at most, until rounds or time have paid it.
 *
 * Callers inside a flow have their turns as share.h says. Priorities order the calls of one
 * connection, so they give nobody an advantage over another principal.
 *
 * Threads: its loop's. Each loop has its own flows. For workers the loop's session is one flow
 * (fastpath/lane/lane_flows.h), whose weight is the sum of those that wait here. A principal that
 * waits in several loops has an equal part of its weight in each, or who connects often would get
 * more. A loop with so little to do that none waits weighs as one principal: what it has in the
 * lanes is served in its turn, and where that does not suffice some wait.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

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
    uint32_t refs;                  /* callers that have it */
    uint64_t number;                /* of its principal */
    uint32_t whole_weight;          /* that of its principal, */
    uint32_t weight;                /* and the part of it for this loop, of KNIT_WEIGHT_ONE */
    int64_t credit_ns;              /* below 0: debt */
    uint64_t round;                 /* as far as which it has taken what rounds give */
    uint64_t left_ns;               /* when it waited last */
    bool is_in_turn;
    TAILQ_ENTRY(knit_flow) in_turn;
    LIST_ENTRY(knit_flow) in_all;
    char name[]; /* of its principal */
};

struct knit_flows {
    TAILQ_HEAD(, knit_flow) turn; /* those that wait */
    LIST_HEAD(, knit_flow) all;
    uint32_t count;   /* of those that wait, */
    uint64_t weights; /* their sum, */
    uint32_t waiting; /* and their callers */
    uint64_t rounds;
    struct knit_weight *lane_weight;    /* what workers give the loop's session by; NULL: nothing */
    struct knit_principals *principals; /* NULL: there is one loop */
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

/* One of its calls has got a slot. False: it is in debt now. */
bool knit_flow_charge(struct knit_flows *flows, struct knit_flow *flow, uint64_t work_ns);

/* What is before one more call of the caller, where all_ns of work wait: its own flow's work, and
 * what the others get meanwhile. */
uint64_t knit_flow_ahead_ns(
    const struct knit_flows *flows, const struct knit_caller *caller, uint64_t all_ns);
