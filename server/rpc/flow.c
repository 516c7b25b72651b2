/* SPDX-License-Identifier: Apache-2.0 */
/* A caller keeps its flow from the first wait on, so a flow is looked up once for each. Flows that
 * no caller has are freed when their debt is paid or so old that it is forgotten.
 */
#include "server/rpc/flow.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/rights.h"
#include "fastpath/lane/session_private.h"

enum { MS = 1000000 };

void knit_flows_init(struct knit_flows *flows)
{
    *flows = (struct knit_flows){.held_until_ns = UINT64_MAX};
    TAILQ_INIT(&flows->turn);
    LIST_INIT(&flows->all);
}

static void free_flow(struct knit_flow *flow)
{
    LIST_REMOVE(flow, in_all);
    free(flow);
}

void knit_flows_fini(struct knit_flows *flows)
{
    struct knit_flow *flow;

    while ((flow = LIST_FIRST(&flows->all)) != NULL)
        free_flow(flow);
}

static int64_t quantum_of(const struct knit_flow *flow)
{
    return (int64_t)KNIT_FLOW_QUANTUM_NS / KNIT_WEIGHT_ONE * flow->weight;
}

/* In how many places its principal waits; it is in turn in this one. */
static uint32_t places_of(
    const struct knit_places *places, const struct knit_flow *flow, uint64_t now_ns)
{
    if (places->waiting == NULL)
        return 1;
    return knit_tally_of(places->waiting, flow->number) +
           knit_moments_is_recent(places->waited, flow->number, now_ns);
}

/* Its part of the principal's weight in this loop, now. */
static uint32_t part_of(
    const struct knit_flows *flows, const struct knit_flow *flow, uint64_t now_ns)
{
    const uint64_t part = knit_weight_part(
        (uint64_t)KNIT_WEIGHT_ONE * flow->whole_weight, places_of(&flows->places, flow, now_ns));

    return part < UINT32_MAX ? (uint32_t)part : UINT32_MAX;
}

static void say_weight(const struct knit_flows *flows)
{
    if (flows->lane_weight != NULL)
        knit_weight_store(flows->lane_weight, flows->weights);
}

/* Some may have begun to wait in other places, or do no more. */
static void weigh_again(struct knit_flows *flows)
{
    const uint64_t before = flows->weights;
    struct knit_flow *flow;

    if (flows->places.waiting == NULL)
        return;
    flows->weights = 0;
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    {
        flow->weight = part_of(flows, flow, flows->now_ns);
        flows->weights += flow->weight;
    }
    if (flows->weights != before)
        say_weight(flows);
}

/* Takes what rounds have given since the last look; whoever did not wait then gets no credit. */
static void renew(const struct knit_flows *flows, struct knit_flow *flow)
{
    const uint64_t rounds = flows->rounds - flow->round;

    flow->round = flows->rounds;
    if (flow->credit_ns >= 0 || rounds > (uint64_t)(-flow->credit_ns / quantum_of(flow)))
        flow->credit_ns = 0;
    else
        flow->credit_ns += (int64_t)rounds * quantum_of(flow);
}

/* Flows of callers that are gone, when neither their debt nor their calls matter any more. */
static void purge(struct knit_flows *flows, uint64_t now_ns)
{
    struct knit_flow *flow = LIST_FIRST(&flows->all), *next;

    for (; flow != NULL; flow = next) {
        next = LIST_NEXT(flow, in_all);
        if (flow->refs == 0 && !knit_flow_is_active(flow, now_ns) &&
            (flow->credit_ns >= 0 || now_ns - flow->left_ns > KNIT_FLOW_FORGET_NS))
            free_flow(flow);
    }
}

static const char *name_of(const struct knit_caller *caller)
{
    return caller->principal != NULL ? caller->principal->name : "";
}

static struct knit_flow *find(const struct knit_flows *flows, const char *name)
{
    struct knit_flow *flow;

    LIST_FOREACH(flow, &flows->all, in_all)
    if (strcmp(flow->name, name) == 0)
        return flow;
    return NULL;
}

static struct knit_flow *new_flow(struct knit_flows *flows, const char *name)
{
    const size_t size = strlen(name) + 1;
    struct knit_flow *flow = calloc(1, sizeof(*flow) + size);

    if (flow == NULL)
        return NULL;
    flow->whole_weight = 1;
    flow->weight = KNIT_WEIGHT_ONE;
    flow->round = flows->rounds;
    TAILQ_INIT(&flow->fresh);
    TAILQ_INIT(&flow->others);
    memcpy(flow->name, name, size);
    LIST_INSERT_HEAD(&flows->all, flow, in_all);
    return flow;
}

struct knit_flow *knit_flow_of(struct knit_flows *flows, struct knit_caller *caller)
{
    struct knit_flow *flow;

    if (caller->flow != NULL && caller->flow_of == caller->principal)
        return caller->flow;
    knit_flow_drop(flows, caller);
    flow = find(flows, name_of(caller));
    if (flow == NULL) {
        purge(flows, caller->turn->now_ns);
        flow = new_flow(flows, name_of(caller));
    }
    if (flow == NULL)
        return NULL;
    flow->refs++;
    if (caller->principal != NULL) {
        flow->number = caller->principal->number;
        flow->whole_weight = knit_quota_weight(&caller->principal->quota);
    }
    caller->flow = flow;
    caller->flow_of = caller->principal;
    return flow;
}

/* Whoever had it has it no more. */
static void unref(struct knit_flow *flow, uint64_t now_ns)
{
    if (--flow->refs == 0 && flow->credit_ns >= 0 && !flow->is_in_turn &&
        !knit_flow_is_active(flow, now_ns))
        free_flow(flow);
}

void knit_flow_drop(struct knit_flows *flows, struct knit_caller *caller)
{
    struct knit_flow *flow = caller->flow;

    caller->flow = NULL;
    caller->flow_of = NULL;
    if (flow != NULL)
        unref(flow, caller->turn->now_ns);
    (void)flows;
}

static struct knit_share_queue *queue_of(struct knit_flow *flow, bool is_fresh)
{
    return is_fresh ? &flow->fresh : &flow->others;
}

void knit_flow_enter(struct knit_flows *flows, struct knit_caller *caller, bool is_fresh)
{
    struct knit_flow *flow = caller->flow;

    TAILQ_INSERT_TAIL(queue_of(flow, is_fresh), caller, in_waiting);
    flow->waiting++;
    flows->waiting++;
    flow->work_ns += caller->work_ns;
    if (flow->is_in_turn)
        return;
    renew(flows, flow);
    if (caller->principal != NULL)
        flow->whole_weight = knit_quota_weight(&caller->principal->quota);
    if (flows->places.waiting != NULL)
        knit_tally_more(flows->places.waiting, flow->number);
    flow->weight = part_of(flows, flow, caller->turn->now_ns);
    flow->is_in_turn = true;
    flows->count++;
    flows->weights += flow->weight;
    say_weight(flows);
    TAILQ_INSERT_TAIL(&flows->turn, flow, in_turn);
}

void knit_flow_leave(struct knit_flows *flows, struct knit_caller *caller, bool is_fresh)
{
    struct knit_flow *flow = caller->flow;

    TAILQ_REMOVE(queue_of(flow, is_fresh), caller, in_waiting);
    flow->waiting--;
    flows->waiting--;
    flow->work_ns -= caller->work_ns;
}

/* It does not wait: credit it has none, and debt not without end. */
static void bound_of_absent(struct knit_flow *flow)
{
    const int64_t most_ns = KNIT_FLOW_DEBT_MAX * quantum_of(flow);

    if (flow->credit_ns > 0)
        flow->credit_ns = 0;
    if (flow->credit_ns < -most_ns)
        flow->credit_ns = -most_ns;
}

void knit_flow_settle(struct knit_flows *flows, struct knit_flow *flow, uint64_t now_ns)
{
    if (flow->waiting > 0 || !flow->is_in_turn)
        return;
    TAILQ_REMOVE(&flows->turn, flow, in_turn);
    flow->is_in_turn = false;
    if (flows->places.waiting != NULL)
        knit_tally_less(flows->places.waiting, flow->number);
    flows->count--;
    flows->weights -= flow->weight;
    say_weight(flows);
    flow->left_ns = now_ns;
    flow->held_ns = 0;
    bound_of_absent(flow);
    if (flow->refs == 0 && flow->credit_ns >= 0 && !knit_flow_is_active(flow, now_ns))
        free_flow(flow);
}

static struct knit_flow *with_credit(const struct knit_flows *flows)
{
    struct knit_flow *flow;

    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    if (flow->credit_ns > 0 && !knit_flow_is_held(flows, flow))
        return flow;
    return NULL;
}

/* As many rounds as pay the debt of one of them. All that are not held are in debt, or have
 * nothing. False: all are held. */
static bool give_rounds(struct knit_flows *flows)
{
    int64_t rounds = INT64_MAX;
    struct knit_flow *flow;

    weigh_again(flows);
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    if (!knit_flow_is_held(flows, flow) && -flow->credit_ns / quantum_of(flow) + 1 < rounds)
        rounds = -flow->credit_ns / quantum_of(flow) + 1;
    if (rounds == INT64_MAX)
        return false;
    flows->rounds += (uint64_t)rounds;
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    {
        flow->credit_ns += rounds * quantum_of(flow);
        flow->round = flows->rounds;
        if (knit_flow_is_held(flows, flow) && flow->credit_ns > quantum_of(flow))
            flow->credit_ns = quantum_of(flow);
    }
    return true;
}

struct knit_flow *knit_flows_next(struct knit_flows *flows)
{
    struct knit_flow *flow = TAILQ_FIRST(&flows->turn);

    if (flows->count <= 1) {
        weigh_again(flows);
        return flow == NULL || knit_flow_is_held(flows, flow) ? NULL : flow;
    }
    flow = with_credit(flows);
    if (flow != NULL)
        return flow;
    return give_rounds(flows) ? with_credit(flows) : NULL;
}

void knit_flow_enter_call(struct knit_flow *flow, struct knit_charge *charge, uint64_t now_ns)
{
    if (charge->flow != NULL)
        return;
    *charge = (struct knit_charge){.flow = flow, .put_ms = (uint32_t)(now_ns / MS)};
    flow->refs++;
}

bool knit_flow_charge(struct knit_flows *flows, struct knit_flow *flow, uint64_t work_ns)
{
    flow->credit_ns -= (int64_t)work_ns;
    if (flow->credit_ns > 0)
        return true;
    /* Those that have come since are before it when rounds are given. */
    if (flow->is_in_turn) {
        TAILQ_REMOVE(&flows->turn, flow, in_turn);
        TAILQ_INSERT_TAIL(&flows->turn, flow, in_turn);
    }
    return false;
}

static void note_run(struct knit_flow *flow, uint32_t task, uint64_t run_ns)
{
    knit_reserve_note_run(&flow->means, task, run_ns);
    flow->has_measured = false;
    for (uint32_t i = 0; i < KNIT_RESERVE_TASKS; i++)
        flow->has_measured |= flow->means.of[i].ns > KNIT_SESSION_SHORT_NS;
}

void knit_flow_end_call(struct knit_flow *flow, struct knit_charge *charge, uint32_t task,
    uint64_t run_ns, uint64_t now_ns)
{
    const uint64_t passed_ns = ((uint32_t)(now_ns / MS) - charge->put_ms + UINT64_C(1)) * MS;

    if (run_ns > passed_ns)
        run_ns = passed_ns;
    if (run_ns != 0) {
        note_run(flow, task, run_ns);
        if (charge->ns != 0)
            flow->credit_ns -= (int64_t)knit_flow_cost_ns(run_ns) - (int64_t)charge->ns;
    }
    if (!flow->is_in_turn)
        bound_of_absent(flow);
    charge->flow = NULL;
    unref(flow, now_ns);
}

uint64_t knit_flow_ahead_ns(
    const struct knit_flows *flows, const struct knit_caller *caller, uint64_t all_ns)
{
    const struct knit_flow *flow = caller->flow;
    uint64_t weights, own_ns;

    if (flow == NULL || flows->count == 0 || (flows->count == 1 && flow->is_in_turn))
        return all_ns;
    weights = flows->weights + (flow->is_in_turn ? 0 : flow->weight);
    own_ns = flow->work_ns + (caller->waiting_in == 0 ? caller->work_ns : 0);
    own_ns = own_ns * weights / flow->weight;
    return own_ns < all_ns ? own_ns : all_ns;
}
