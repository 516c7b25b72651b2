/* SPDX-License-Identifier: Apache-2.0 */
/* There are as many places for flows as for sessions, so a new flow always finds one. It takes that
 * of a flow without sessions, whose debt ends with it: a flow whose sessions all leave keeps its
 * debt while there is room.
 */
#include "fastpath/lane/lane_flows.h"

#include "fastpath/lane/lane_private.h"

static struct knit_lane_flow *find(struct knit_lane_flows *flows, uint64_t number)
{
    struct knit_lane_flow *unused = NULL;

    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++) {
        struct knit_lane_flow *flow = &flows->flow[i];

        if (flow->is_known && flow->number == number)
            return flow;
        /* One that was never used rather than one with a debt. */
        if (flow->sessions == 0 && (unused == NULL || (unused->is_known && !flow->is_known)))
            unused = flow;
    }
    *unused = (struct knit_lane_flow){.number = number,
        .is_known = true,
        .credit_ns = KNIT_LANE_FLOW_QUANTUM_NS,
        .round = flows->round};
    return unused;
}

/* Of a loop's own flow there is none: its weight is of those parts already. */
static const _Atomic uint32_t *find_loops(const struct knit_lane *lane, uint64_t number)
{
    const struct knit_tally *waiting = lane->options.rights.waiting;

    return waiting == NULL || (number & KNIT_LANE_FLOW_OF_LOOP) != 0
               ? NULL
               : &waiting->of[number % KNIT_TALLY_PLACES];
}

/* There is one flow. */
static void use_rounds_of_lane(struct knit_lane *lane)
{
    struct knit_lane_flow *flow = lane->sessions[0]->flow;

    for (uint32_t i = 0; i < lane->session_count; i++)
        lane->sessions[i]->deficit.round -= flow->own_rounds;
    flow->own_rounds = 0;
}

void knit_lane_flows_begin(struct knit_lane *lane)
{
    struct knit_lane_flows *flows = &lane->flows;

    knit_lane_let_go(lane);
    lane->reserve.seen[0] = lane->reserve.seen[1] = NULL;
    flows->count = 0;
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++)
        flows->flow[i].sessions = 0;
    /* Those that are there already keep their places. */
    for (uint32_t i = 0; i < lane->session_count; i++)
        if (lane->sessions[i]->flow != NULL)
            lane->sessions[i]->flow->sessions++;
    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_worker_session *session = lane->sessions[i];

        if (session->flow == NULL) {
            session->flow = find(flows, session->in.flow);
            session->flow->sessions++;
            session->deficit.round += session->flow->own_rounds;
        }
        session->flow->weight = session->in.weight;
        session->flow->loops = find_loops(lane, session->in.flow);
    }
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++)
        flows->count += flows->flow[i].sessions != 0;
    if (flows->count == 1)
        use_rounds_of_lane(lane);
}

/* ---- rounds ---- */

/* What a round gives. */
static int64_t quantum_of(const struct knit_lane_flow *flow)
{
    return (int64_t)KNIT_LANE_FLOW_QUANTUM_NS / KNIT_WEIGHT_ONE * knit_lane_flow_weight(flow);
}

void knit_lane_flow_take_rounds(const struct knit_lane_flows *flows, struct knit_lane_flow *flow)
{
    const int64_t quantum_ns = quantum_of(flow);
    uint32_t rounds = flows->round - flow->round;

    flow->round = flows->round;
    if (rounds > KNIT_LANE_FLOW_ROUNDS_MAX)
        rounds = KNIT_LANE_FLOW_ROUNDS_MAX;
    flow->credit_ns += rounds * quantum_ns;
    if (flow->credit_ns > quantum_ns)
        flow->credit_ns = quantum_ns;
}

uint32_t knit_lane_flows_due(struct knit_lane_flow *const *turn, uint32_t count)
{
    int64_t due = INT64_MAX;

    for (uint32_t i = 0; i < count; i++) {
        const struct knit_lane_flow *flow = turn[i];
        int64_t own;

        if (flow->credit_ns > 0)
            return 0;
        own = -flow->credit_ns / quantum_of(flow) + 1;
        if (own < due)
            due = own;
    }
    return (uint32_t)due;
}

void knit_lane_flows_begin_round(
    struct knit_lane_flows *flows, struct knit_lane_flow **turn, uint32_t count)
{
    const uint32_t due = knit_lane_flows_due(turn, count);

    if (due == 0)
        return;
    flows->round += due;
    for (uint32_t i = 0; i < count; i++) {
        turn[i]->has_waited |= count > 1;
        knit_lane_flow_renew(flows, turn[i]);
    }
}

/* ---- a turn ---- */

void knit_lane_flow_again(struct knit_lane *lane, struct knit_lane_flow *flow, uint8_t place)
{
    lane->flows.next[place] = KNIT_LANE_FLOW_NO_PLACE;
    if (flow->first == KNIT_LANE_FLOW_NO_PLACE)
        flow->first = place;
    else
        lane->flows.next[flow->last] = place;
    flow->last = place;
}

uint32_t knit_lane_flows_line_up(
    struct knit_lane *lane, const uint8_t *places, uint32_t count, struct knit_lane_flow **ret_turn)
{
    uint32_t flows = 0;

    for (uint32_t i = 0; i < count; i++)
        lane->sessions[places[i]]->flow->first = KNIT_LANE_FLOW_NO_PLACE;
    for (uint32_t i = 0; i < count; i++) {
        struct knit_lane_flow *flow = lane->sessions[places[i]]->flow;

        if (flow->first == KNIT_LANE_FLOW_NO_PLACE) {
            knit_lane_flow_renew(&lane->flows, flow);
            ret_turn[flows++] = flow;
        }
        knit_lane_flow_again(lane, flow, places[i]);
    }
    return flows;
}

/* If all sessions of the flow are in debt, so many of their rounds pass that one is not. */
static void begin_round_of(struct knit_lane *lane, struct knit_lane_flow *flow)
{
    const uint8_t *next = lane->flows.next;
    uint32_t due = UINT32_MAX, round;

    for (uint8_t place = flow->first; place != KNIT_LANE_FLOW_NO_PLACE; place = next[place]) {
        const uint32_t own = knit_deficit_rounds_due(&lane->sessions[place]->deficit);

        if (own < due)
            due = own;
    }
    if (due == 0)
        return;
    flow->own_rounds += due;
    round = knit_lane_flow_session_rounds(lane->round, flow);
    for (uint8_t place = flow->first; place != KNIT_LANE_FLOW_NO_PLACE; place = next[place])
        knit_deficit_renew(&lane->sessions[place]->deficit, round);
}

uint8_t knit_lane_flow_next(struct knit_lane *lane, struct knit_lane_flow *flow)
{
    uint8_t *next = lane->flows.next;
    uint8_t before = KNIT_LANE_FLOW_NO_PLACE, place = flow->first;

    if (!knit_deficit_has_credit(&lane->sessions[place]->deficit))
        begin_round_of(lane, flow);
    while (!knit_deficit_has_credit(&lane->sessions[place]->deficit)) {
        before = place;
        place = next[place];
    }
    if (before == KNIT_LANE_FLOW_NO_PLACE)
        flow->first = next[place];
    else
        next[before] = next[place];
    if (flow->last == place)
        flow->last = before;
    return place;
}
