/* SPDX-License-Identifier: Apache-2.0 */
/* Flows: how principals share a worker's time, however many sessions each has.
 *
 * A session belongs to the flow whose number it was attached with. Flows take turns in deficit
 * round robin, counted in nanoseconds: a round gives each KNIT_LANE_FLOW_QUANTUM_NS times its
 * weight, what its calls take is charged, and while it is in debt it is passed over. When all that
 * have calls are in debt, so many rounds pass at once as pay the first of them. So none gets more
 * than its part by more than a quantum and a call, whatever its calls cost and however many wait.
 *
 * A flow takes what rounds gave when it is looked at next. Its credit ends at one round's: who had
 * no calls has saved nothing. Its debt stays when it has no calls, or it would come back without
 * it. When there is nothing to serve all debts are forgotten, for then nobody waited.
 *
 * Debts are bounded. A call counts as KNIT_LANE_FLOW_DEBT_MAX_NS at most, here and in loops, and
 * here nobody owes more: a worker that was stopped in a call, or a machine that slept, looks like a
 * long call, and after an hour of that its principal would wait until others had an hour. So whose
 * calls take longer has more than its part of one worker; of several, the reserve (reserve.h) keeps
 * it to its part. A session owes KNIT_DEBT_MAX_NS inside of its flow at most (deficit.h), and who
 * waits no more in a loop KNIT_FLOW_DEBT_MAX quanta (server/rpc/flow.h).
 *
 * A principal whose callers wait in loops of the daemon too has a part of its weight here, and says
 * so when its sessions wait (places.h).
 *
 * Inside of a flow sessions share its time (deficit.h). A lane whose sessions are of one flow has
 * that order alone. The order is the worker's own: nothing of it is shared but the weight and
 * who waits, and neither claim nor park look at it.
 *
 * Sessions, flows of a lane and flows of a loop reckon alike and share no code: they differ in what
 * a round gives, in where credit and debt end and in how wide the numbers are, and what is left is
 * one division.
 *
 * Threads: the lane's, as its sessions. tests/model/flow.pml is a model of this.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/lane.h"
#include "fastpath/lane/reserve.h"

#define KNIT_LANE_FLOW_QUANTUM_NS  200000
#define KNIT_LANE_FLOW_DEBT_MAX_NS 1000000000
#define KNIT_LANE_FLOW_ROUNDS_MAX                                                                  \
    (KNIT_LANE_FLOW_DEBT_MAX_NS / (KNIT_LANE_FLOW_QUANTUM_NS / KNIT_WEIGHT_ONE) + 1) /* pay that */

/* Who owes so many rounds has had a long call: before its next one a worker looks for calls of
 * others in all lanes. */
#define KNIT_LANE_FLOW_DUE_LONG 10u

/* Of numbers of a loop's flow, which is its own. */
#define KNIT_LANE_FLOW_OF_LOOP ((uint64_t)1 << 63)

enum { KNIT_LANE_FLOW_NO_PLACE = 255 };

static_assert(KNIT_LANE_SESSIONS_MAX <= KNIT_LANE_FLOW_NO_PLACE, "it is no session's place");

struct knit_lane_flow {
    uint64_t number;
    bool is_known;                    /* it was used */
    const struct knit_weight *weight; /* of one of its sessions; NULL = 1 */
    const _Atomic uint32_t *loops;    /* in so many its principal waits too; NULL = in none */
    bool has_waited;                  /* since that was said, see places.h */
    int64_t credit_ns;                /* below 0: debt */
    int64_t watch_ns;                 /* charges by the clock until so much was spent */
    uint32_t round;                   /* as far as which it has taken what rounds give */
    uint32_t own_rounds;              /* of its sessions' deficits, beside the lane's */
    uint32_t sessions;                /* 0 = it is there for its debt alone */
    struct knit_reserve_means means;  /* where the lane has several flows */
    uint8_t first, last;              /* places of its sessions in this turn */
};

struct knit_lane_flows {
    struct knit_lane_flow flow[KNIT_LANE_SESSIONS_MAX];
    uint8_t next[KNIT_LANE_SESSIONS_MAX]; /* by place: the next of that flow in this turn */
    uint32_t count;                       /* of those with sessions */
    uint32_t round;
    uint32_t due; /* after a turn: what the one owes that is next in the home rings, in rounds */
};

/* Its principal's, or of those that wait in its loop, in parts of KNIT_WEIGHT_ONE. */
static inline uint32_t knit_lane_flow_whole_weight(const struct knit_lane_flow *flow)
{
    return flow->weight != NULL ? knit_weight_load(flow->weight) : KNIT_WEIGHT_ONE;
}

/* The part of it for these sessions. */
static inline uint32_t knit_lane_flow_weight(const struct knit_lane_flow *flow)
{
    const uint32_t whole = knit_lane_flow_whole_weight(flow);
    /* relaxed: it holds for what comes a moment later. */
    const uint32_t loops =
        flow->loops != NULL ? atomic_load_explicit(flow->loops, memory_order_relaxed) : 0;

    return loops == 0 ? whole : (uint32_t)knit_weight_part(whole, loops + 1);
}

static inline bool knit_lane_flow_is_of_loop(const struct knit_lane_flow *flow)
{
    return (flow->number & KNIT_LANE_FLOW_OF_LOOP) != 0;
}

/* The sessions of the lane have changed: each gets its flow. */
void knit_lane_flows_begin(struct knit_lane *lane);

/* The flows of the sessions at these places, in their order, each with its sessions in theirs.
 * Returns how many. */
uint32_t knit_lane_flows_line_up(struct knit_lane *lane, const uint8_t *places, uint32_t count,
    struct knit_lane_flow **ret_turn);

/* After so many rounds more one of these has credit. */
uint32_t knit_lane_flows_due(struct knit_lane_flow *const *turn, uint32_t count);

/* If all of these are in debt, so many rounds pass that one is not: each waits for the others. */
void knit_lane_flows_begin_round(
    struct knit_lane_flows *flows, struct knit_lane_flow **turn, uint32_t count);

/* Takes the flow's next session with credit out of the turn; it has some. */
uint8_t knit_lane_flow_next(struct knit_lane *lane, struct knit_lane_flow *flow);
/* It has more. */
void knit_lane_flow_again(struct knit_lane *lane, struct knit_lane_flow *flow, uint8_t place);

/* Takes what rounds gave since the last look. */
void knit_lane_flow_take_rounds(const struct knit_lane_flows *flows, struct knit_lane_flow *flow);

static inline void knit_lane_flow_renew(
    const struct knit_lane_flows *flows, struct knit_lane_flow *flow)
{
    if (flows->round != flow->round)
        knit_lane_flow_take_rounds(flows, flow);
}

/* Calls of a session have brought its deficit so far down, and the one that was measured last took
 * so long: a session's debt ends sooner than a flow's. */
static inline void knit_lane_flow_charge(
    struct knit_lane_flow *flow, int32_t spent_ns, uint64_t took_ns)
{
    if (took_ns > KNIT_LANE_FLOW_DEBT_MAX_NS)
        took_ns = KNIT_LANE_FLOW_DEBT_MAX_NS;
    flow->credit_ns -= spent_ns > (int64_t)took_ns ? spent_ns : (int64_t)took_ns;
    if (flow->credit_ns < -KNIT_LANE_FLOW_DEBT_MAX_NS)
        flow->credit_ns = -KNIT_LANE_FLOW_DEBT_MAX_NS;
}

/* The rounds of the deficits of its sessions, where the lane has several flows. */
static inline uint32_t knit_lane_flow_session_rounds(
    uint32_t lane_round, const struct knit_lane_flow *flow)
{
    return lane_round + flow->own_rounds;
}

/* Nobody waits. */
static inline void knit_lane_flows_forget(struct knit_lane_flows *flows)
{
    flows->round += KNIT_LANE_FLOW_ROUNDS_MAX;
}
