/* SPDX-License-Identifier: Apache-2.0 */
/* A caller keeps its flow from the first wait on, so a flow is looked up once for each. Flows that
 * no caller has are freed when their debt is paid or so old that it is forgotten.
 */
#include "server/rpc/flow.h"

#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/rights.h"
#include "server/policy/principals.h"

void knit_flows_init(struct knit_flows *flows)
{
    *flows = (struct knit_flows){.rounds = 0};
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

/* Its part of the principal's weight in this loop, now. It is in turn. */
static uint32_t part_of(const struct knit_flows *flows, const struct knit_flow *flow)
{
    const uint64_t whole = (uint64_t)KNIT_WEIGHT_ONE * flow->whole_weight;
    const uint64_t part = flows->principals != NULL
                              ? whole / knit_principals_waiting(flows->principals, flow->number)
                              : whole;

    return part == 0 ? 1 : part < UINT32_MAX ? (uint32_t)part : UINT32_MAX;
}

static void say_weight(const struct knit_flows *flows)
{
    if (flows->lane_weight != NULL)
        knit_weight_store(flows->lane_weight, flows->weights);
}

/* Others may have begun to wait in other loops, or do no more. */
static void weigh_again(struct knit_flows *flows)
{
    const uint64_t before = flows->weights;
    struct knit_flow *flow;

    if (flows->principals == NULL)
        return;
    flows->weights = 0;
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    {
        flow->weight = part_of(flows, flow);
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

/* Flows of callers that are gone, when their debt does not matter any more. */
static void purge(struct knit_flows *flows, uint64_t now_ns)
{
    struct knit_flow *flow = LIST_FIRST(&flows->all), *next;

    for (; flow != NULL; flow = next) {
        next = LIST_NEXT(flow, in_all);
        if (flow->refs == 0 &&
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
    caller->flow = flow;
    caller->flow_of = caller->principal;
    return flow;
}

void knit_flow_drop(struct knit_flows *flows, struct knit_caller *caller)
{
    struct knit_flow *flow = caller->flow;

    caller->flow = NULL;
    if (flow != NULL && --flow->refs == 0 && flow->credit_ns >= 0 && !flow->is_in_turn)
        free_flow(flow);
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
    flow->number = caller->principal != NULL ? caller->principal->number : 0;
    flow->whole_weight =
        caller->principal != NULL ? knit_quota_weight(&caller->principal->quota) : 1;
    if (flows->principals != NULL)
        knit_principals_wait(flows->principals, flow->number);
    flow->weight = part_of(flows, flow);
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

void knit_flow_settle(struct knit_flows *flows, struct knit_flow *flow, uint64_t now_ns)
{
    const int64_t most_ns = KNIT_FLOW_DEBT_MAX * quantum_of(flow);

    if (flow->waiting > 0 || !flow->is_in_turn)
        return;
    TAILQ_REMOVE(&flows->turn, flow, in_turn);
    flow->is_in_turn = false;
    if (flows->principals != NULL)
        knit_principals_wait_no_more(flows->principals, flow->number);
    flows->count--;
    flows->weights -= flow->weight;
    say_weight(flows);
    flow->left_ns = now_ns;
    if (flow->credit_ns > 0)
        flow->credit_ns = 0;
    if (flow->credit_ns < -most_ns)
        flow->credit_ns = -most_ns;
    if (flow->refs == 0 && flow->credit_ns >= 0)
        free_flow(flow);
}

static struct knit_flow *with_credit(const struct knit_flows *flows)
{
    struct knit_flow *flow;

    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    if (flow->credit_ns > 0)
        return flow;
    return NULL;
}

/* As many rounds as pay the debt of one of them. All are in debt, or have nothing. */
static void give_rounds(struct knit_flows *flows)
{
    int64_t rounds = INT64_MAX;
    struct knit_flow *flow;

    weigh_again(flows);
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    if (-flow->credit_ns / quantum_of(flow) + 1 < rounds)
        rounds = -flow->credit_ns / quantum_of(flow) + 1;
    flows->rounds += (uint64_t)rounds;
    TAILQ_FOREACH(flow, &flows->turn, in_turn)
    {
        flow->credit_ns += rounds * quantum_of(flow);
        flow->round = flows->rounds;
    }
}

struct knit_flow *knit_flows_next(struct knit_flows *flows)
{
    struct knit_flow *flow;

    if (flows->count <= 1) {
        weigh_again(flows);
        return TAILQ_FIRST(&flows->turn);
    }
    flow = with_credit(flows);
    if (flow != NULL)
        return flow;
    give_rounds(flows);
    return with_credit(flows);
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
