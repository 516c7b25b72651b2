/* SPDX-License-Identifier: Apache-2.0 */
/* Flows: whose turn it is, by what their calls take. Callers are bare structures that wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "server/policy/principals.h"
#include "server/rpc/flow.h"

enum { CALLERS = 8, US = 1000, MS = 1000000 };

static struct knit_principals principals;
static struct knit_flows flows;
static struct knit_turn turn;
static struct knit_caller callers[CALLERS];
static struct knit_tally waiting;
static struct knit_moments waited;

static int setup(void **state)
{
    (void)state;
    memset(callers, 0, sizeof(callers));
    memset(&waiting, 0, sizeof(waiting));
    memset(&waited, 0, sizeof(waited));
    turn = (struct knit_turn){.now_ns = 1000 * UINT64_C(1000000000)};
    knit_flows_init(&flows);
    flows.now_ns = turn.now_ns;
    return knit_principals_init(&principals);
}

static void rest(struct knit_caller *caller)
{
    struct knit_flow *flow = caller->flow;

    if (caller->waiting_in != 0)
        knit_flow_leave(&flows, caller, true);
    caller->waiting_in = 0;
    if (flow != NULL)
        knit_flow_settle(&flows, flow, turn.now_ns);
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < CALLERS; i++) {
        rest(&callers[i]);
        knit_flow_drop(&flows, &callers[i]);
        knit_principals_drop(&principals, callers[i].principal);
    }
    assert_int_equal(flows.count, 0);
    assert_int_equal(flows.waiting, 0);
    assert_int_equal(flows.weights, 0);
    knit_flows_fini(&flows);
    knit_principals_fini(&principals);
    return 0;
}

/* Where the principals of all loops of a test wait. */
static struct knit_places places(void)
{
    return (struct knit_places){.waiting = &waiting, .waited = &waited};
}

/* The caller with that number, of the principal of that name, waits. */
static struct knit_flow *wait(size_t i, const char *name)
{
    struct knit_caller *caller = &callers[i];

    caller->turn = &turn;
    if (caller->principal == NULL)
        caller->principal = knit_principals_named(&principals, KNIT_PRINCIPAL_TOKEN, name);
    assert_non_null(caller->principal);
    assert_non_null(knit_flow_of(&flows, caller));
    knit_flow_enter(&flows, caller, true);
    caller->waiting_in = 1;
    return caller->flow;
}

static uint64_t charged_ns(struct knit_flow *flow, const uint64_t *work_ns, uint32_t turns)
{
    uint64_t sum_ns = 0;

    for (uint32_t i = 0; i < turns; i++) {
        struct knit_flow *next = knit_flows_next(&flows);

        (void)knit_flow_charge(&flows, next, work_ns[next != flow]);
        sum_ns += next == flow ? work_ns[0] : 0;
    }
    return sum_ns;
}

static void connections_of_one_principal_are_one_flow(void **state)
{
    struct knit_flow *greedy;

    (void)state;
    greedy = wait(0, "token:greedy");
    for (size_t i = 1; i < 5; i++)
        assert_ptr_equal(wait(i, "token:greedy"), greedy);
    assert_ptr_not_equal(wait(5, "token:modest"), greedy);
    assert_int_equal(flows.count, 2);
    assert_int_equal(flows.waiting, 6);
    assert_int_equal(greedy->waiting, 5);
}

static void time_is_shared_and_not_calls(void **state)
{
    static const uint64_t work_ns[] = {20 * MS, 100 * US};
    struct knit_flow *greedy;
    uint64_t greedy_ns;

    (void)state;
    greedy = wait(0, "token:greedy");
    (void)wait(1, "token:modest");
    greedy_ns = charged_ns(greedy, work_ns, 2010);
    /* 10 calls of the one take as long as 2000 of the other. */
    assert_in_range(greedy_ns, 9 * 20 * MS, 11 * 20 * MS);
}

/* That of the loop's session is of those that wait. */
static void workers_are_told_the_weight_of_all_that_wait(void **state)
{
    const struct knit_policy_limits limits = {.weight = 3};
    struct knit_weight weight = {0};

    (void)state;
    flows.lane_weight = &weight;
    (void)wait(0, "token:heavy");
    assert_int_equal(weight.value, KNIT_WEIGHT_ONE);
    rest(&callers[0]);
    assert_int_equal(weight.value, 0);
    knit_quota_set(&callers[0].principal->quota, &limits);
    (void)wait(0, "token:heavy");
    (void)wait(1, "token:light");
    (void)wait(2, "token:light");
    assert_int_equal(weight.value, 4 * KNIT_WEIGHT_ONE);
    rest(&callers[0]);
    assert_int_equal(weight.value, KNIT_WEIGHT_ONE);
    flows.lane_weight = NULL;
}

/* Who connects to all loops has no more than who connects to one. */
static void who_waits_in_several_loops_has_a_part_in_each(void **state)
{
    struct knit_weight here = {0}, there = {0};
    struct knit_flows first = {.rounds = 0}, *second = &flows;

    (void)state;
    knit_flows_init(&first);
    first.places = second->places = places();
    first.now_ns = second->now_ns;
    first.lane_weight = &here;
    second->lane_weight = &there;
    (void)wait(1, "token:modest");
    (void)wait(2, "token:greedy");
    assert_int_equal(there.value, 2 * KNIT_WEIGHT_ONE);
    /* The same principal in the other loop. */
    callers[3].turn = &turn;
    callers[3].principal = knit_principals_named(&principals, KNIT_PRINCIPAL_TOKEN, "token:greedy");
    assert_non_null(knit_flow_of(&first, &callers[3]));
    knit_flow_enter(&first, &callers[3], true);
    assert_int_equal(here.value, KNIT_WEIGHT_ONE / 2);
    /* The first one learns it with its next round. */
    assert_non_null(knit_flows_next(second));
    assert_int_equal(there.value, 3 * KNIT_WEIGHT_ONE / 2);
    knit_flow_leave(&first, &callers[3], true);
    knit_flow_settle(&first, callers[3].flow, turn.now_ns);
    knit_flow_drop(&first, &callers[3]);
    (void)knit_flow_charge(second, callers[1].flow, MS);
    (void)knit_flow_charge(second, callers[2].flow, MS);
    assert_non_null(knit_flows_next(second));
    assert_int_equal(there.value, 2 * KNIT_WEIGHT_ONE);
    second->lane_weight = NULL;
    rest(&callers[1]);
    rest(&callers[2]);
    knit_flows_fini(&first);
}

/* As a worker said, for a second. */
static void sessions_that_wait_are_one_place_more(void **state)
{
    struct knit_weight weight = {0};

    (void)state;
    flows.places = places();
    flows.lane_weight = &weight;
    (void)wait(0, "token:both");
    (void)wait(1, "token:modest");
    assert_int_equal(weight.value, 2 * KNIT_WEIGHT_ONE);
    knit_moments_note(&waited, callers[0].flow->number, turn.now_ns);
    for (unsigned rounds = 0; rounds < 2; rounds++) {
        (void)knit_flow_charge(&flows, callers[0].flow, MS);
        (void)knit_flow_charge(&flows, callers[1].flow, MS);
        assert_non_null(knit_flows_next(&flows));
        assert_int_equal(weight.value, (3 + rounds) * KNIT_WEIGHT_ONE / 2);
        flows.now_ns += KNIT_WAITED_MS * (uint64_t)MS;
    }
    rest(&callers[0]);
    assert_int_equal(knit_tally_of(&waiting, callers[0].flow->number), 0);
    flows.lane_weight = NULL;
}

static void weights_divide_it(void **state)
{
    static const uint64_t work_ns[] = {50 * US, 50 * US};
    const struct knit_policy_limits limits = {.weight = 3};
    struct knit_flow *heavy;
    uint64_t heavy_ns;

    (void)state;
    (void)wait(0, "token:heavy");
    rest(&callers[0]);
    knit_quota_set(&callers[0].principal->quota, &limits);
    heavy = wait(0, "token:heavy");
    (void)wait(1, "token:light");
    assert_int_equal(flows.weights, 4 * KNIT_WEIGHT_ONE);
    heavy_ns = charged_ns(heavy, work_ns, 4000);
    assert_in_range(heavy_ns, 2980 * 50 * US, 3020 * 50 * US);
}

/* Nobody waits for longer than a quantum of each other flow, and a call of it. */
static void a_turn_comes_after_a_quantum_of_each_other(void **state)
{
    static const char *const names[] = {
        "token:a", "token:b", "token:c", "token:d", "token:e", "token:f", "token:g"};
    struct knit_flow *mine;
    uint64_t before_ns = 0;

    (void)state;
    for (size_t i = 0; i < CALLERS - 1; i++)
        (void)wait(i, names[i]);
    for (unsigned i = 0; i < 100; i++)
        (void)knit_flow_charge(&flows, knit_flows_next(&flows), 90 * US);
    mine = wait(CALLERS - 1, "token:mine");
    for (struct knit_flow *next; (next = knit_flows_next(&flows)) != mine; before_ns += 90 * US)
        (void)knit_flow_charge(&flows, next, 90 * US);
    assert_true(before_ns <= (CALLERS - 1) * (KNIT_FLOW_QUANTUM_NS + 90 * US));
}

static void whoever_waits_alone_is_next_whatever_it_owes(void **state)
{
    struct knit_flow *flow;

    (void)state;
    assert_null(knit_flows_next(&flows));
    flow = wait(0, "token:alone");
    (void)knit_flow_charge(&flows, flow, UINT32_MAX);
    assert_ptr_equal(knit_flows_next(&flows), flow);
    assert_int_equal(flows.rounds, 0);
}

static void debt_outlasts_a_pause_and_credit_does_not(void **state)
{
    struct knit_flow *greedy, *modest;
    unsigned turns = 0;

    (void)state;
    greedy = wait(0, "token:greedy");
    modest = wait(1, "token:modest");
    (void)knit_flows_next(&flows);
    assert_true(greedy->credit_ns > 0 && modest->credit_ns > 0);
    (void)knit_flow_charge(&flows, greedy, UINT32_MAX);
    rest(&callers[0]);
    rest(&callers[1]);
    assert_int_equal(modest->credit_ns, 0);
    assert_int_equal(greedy->credit_ns, -KNIT_FLOW_DEBT_MAX * KNIT_FLOW_QUANTUM_NS);
    (void)wait(0, "token:greedy");
    (void)wait(1, "token:modest");
    for (; knit_flows_next(&flows) == modest; turns++)
        (void)knit_flow_charge(&flows, modest, KNIT_FLOW_QUANTUM_NS);
    assert_in_range(turns, KNIT_FLOW_DEBT_MAX - 2, KNIT_FLOW_DEBT_MAX + 2);
}

/* A new connection does not get rid of it. */
static void debt_outlasts_a_connection_for_a_while(void **state)
{
    struct knit_flow *greedy;

    (void)state;
    greedy = wait(0, "token:greedy");
    (void)wait(1, "token:modest");
    (void)knit_flow_charge(&flows, greedy, UINT32_MAX);
    rest(&callers[0]);
    knit_flow_drop(&flows, &callers[0]);
    assert_ptr_equal(wait(2, "token:greedy"), greedy);
    assert_true(greedy->credit_ns < 0);
    rest(&callers[2]);
    knit_flow_drop(&flows, &callers[2]);
    turn.now_ns += KNIT_FLOW_FORGET_NS + 1;
    (void)wait(3, "token:other");
    assert_true(wait(4, "token:greedy")->credit_ns == 0);
}

/* A call of the flow gets a slot now; one that has it ends after so long. */
static struct knit_charge begin_call(struct knit_flow *flow, uint32_t mean_ns)
{
    struct knit_charge charge = {0};

    knit_flow_enter_call(flow, &charge, turn.now_ns);
    charge.ns = mean_ns;
    (void)knit_flow_charge(&flows, flow, mean_ns);
    return charge;
}

static void end_call(struct knit_charge *charge, uint64_t run_ns, uint64_t after_ns)
{
    knit_flow_end_call(charge->flow, charge, 0, run_ns, turn.now_ns + after_ns);
    assert_null(charge->flow);
}

/* Whatever others' calls of the task take, and so its mean. */
static void a_call_has_cost_what_it_took(void **state)
{
    struct knit_charge dear, cheap, unmeasured;
    struct knit_flow *one, *other;

    (void)state;
    one = wait(0, "token:one");
    other = wait(1, "token:other");
    dear = begin_call(one, 10 * MS);
    cheap = begin_call(other, 10 * MS);
    unmeasured = begin_call(other, MS);
    end_call(&dear, 100 * MS, 120 * MS);
    end_call(&cheap, 1 * MS, 120 * MS);
    end_call(&unmeasured, 0, 120 * MS);
    assert_int_equal(one->credit_ns, -100 * MS);
    assert_int_equal(other->credit_ns, -2 * MS);
    assert_int_equal(knit_reserve_mean_ns(&one->means, 0, 0), 100 * MS);
    assert_int_equal(knit_reserve_mean_ns(&other->means, 0, 0), 1 * MS);
    assert_int_equal(knit_reserve_mean_ns(&other->means, KNIT_RESERVE_TASKS, 7), 7);
}

static void a_call_has_taken_no_longer_than_it_was_away(void **state)
{
    struct knit_charge charge;
    struct knit_flow *flow;

    (void)state;
    flow = wait(0, "token:lied-about");
    (void)wait(1, "token:other");
    charge = begin_call(flow, 1 * MS);
    end_call(&charge, UINT64_C(3600000) * MS, 20 * MS);
    assert_int_equal(flow->credit_ns, -21 * MS);
    assert_int_equal(knit_reserve_mean_ns(&flow->means, 0, 0), 21 * MS);
}

/* Its worker may have been stopped for an hour, which nobody else did anything in. */
static void a_call_counts_as_a_second_at_most(void **state)
{
    const uint64_t hour_ns = UINT64_C(3600000) * MS;
    struct knit_charge charge;
    struct knit_flow *flow;

    (void)state;
    flow = wait(0, "token:stopped");
    (void)wait(1, "token:other");
    charge = begin_call(flow, 10 * MS);
    end_call(&charge, hour_ns, hour_ns);
    assert_int_equal(flow->credit_ns, -KNIT_LANE_FLOW_DEBT_MAX_NS);
    charge = begin_call(flow, knit_flow_cost_ns(UINT32_MAX));
    assert_int_equal(flow->credit_ns, -2 * (int64_t)KNIT_LANE_FLOW_DEBT_MAX_NS);
    end_call(&charge, hour_ns, hour_ns);
    assert_int_equal(flow->credit_ns, -2 * (int64_t)KNIT_LANE_FLOW_DEBT_MAX_NS);
}

/* What comes back to one that waits no more is no credit, and a call may outlast its caller. */
static void a_call_that_ends_late_leaves_debt_and_no_credit(void **state)
{
    struct knit_charge charge, other;
    struct knit_flow *flow;

    (void)state;
    flow = wait(0, "token:gone");
    (void)wait(1, "token:other");
    charge = begin_call(flow, 10 * MS);
    other = begin_call(flow, 10 * MS);
    rest(&callers[0]);
    knit_flow_drop(&flows, &callers[0]);
    end_call(&charge, MS / 10, 20 * MS);
    assert_in_range(-flow->credit_ns, 1, 10 * MS);
    end_call(&other, 1000 * MS, 2000 * MS);
    assert_ptr_equal(wait(2, "token:gone"), flow);
    assert_int_equal(flow->credit_ns, -KNIT_FLOW_DEBT_MAX * KNIT_FLOW_QUANTUM_NS);
}

static void who_is_held_has_no_turn_and_saves_nothing(void **state)
{
    struct knit_flow *held, *other;

    (void)state;
    held = wait(0, "token:held");
    held->held_until_ns = flows.now_ns + 1;
    assert_null(knit_flows_next(&flows));
    other = wait(1, "token:other");
    for (unsigned i = 0; i < 100; i++) {
        assert_ptr_equal(knit_flows_next(&flows), other);
        (void)knit_flow_charge(&flows, other, MS);
    }
    assert_in_range(held->credit_ns, 0, KNIT_FLOW_QUANTUM_NS);
    other->held_until_ns = flows.now_ns + 1;
    assert_null(knit_flows_next(&flows));
    held->held_until_ns = flows.now_ns;
    assert_ptr_equal(knit_flows_next(&flows), held);
    other->held_until_ns = 0;
}

static void what_another_has_sent_is_not_before_a_call(void **state)
{
    struct knit_flow *greedy;

    (void)state;
    callers[0].work_ns = 1000 * MS;
    greedy = wait(0, "token:greedy");
    assert_int_equal(knit_flow_ahead_ns(&flows, &callers[0], 1000 * MS), 1000 * MS);
    callers[1].work_ns = 2 * MS;
    (void)wait(1, "token:modest");
    assert_int_equal(knit_flow_ahead_ns(&flows, &callers[1], 1002 * MS), 4 * MS);
    assert_int_equal(knit_flow_ahead_ns(&flows, &callers[0], 1002 * MS), 1002 * MS);
    assert_int_equal(greedy->work_ns, 1000 * MS);
}

static void a_caller_that_shows_who_it_is_changes_its_flow(void **state)
{
    struct knit_flow *before;

    (void)state;
    before = wait(0, "token:before");
    (void)wait(1, "token:before");
    rest(&callers[0]);
    knit_principals_drop(&principals, callers[0].principal);
    callers[0].principal = NULL;
    assert_ptr_not_equal(wait(0, "token:after"), before);
    assert_int_equal(before->refs, 1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(connections_of_one_principal_are_one_flow),
        TEST(time_is_shared_and_not_calls),
        TEST(workers_are_told_the_weight_of_all_that_wait),
        TEST(who_waits_in_several_loops_has_a_part_in_each),
        TEST(sessions_that_wait_are_one_place_more),
        TEST(weights_divide_it),
        TEST(a_turn_comes_after_a_quantum_of_each_other),
        TEST(whoever_waits_alone_is_next_whatever_it_owes),
        TEST(debt_outlasts_a_pause_and_credit_does_not),
        TEST(debt_outlasts_a_connection_for_a_while),
        TEST(a_call_has_cost_what_it_took),
        TEST(a_call_has_taken_no_longer_than_it_was_away),
        TEST(a_call_counts_as_a_second_at_most),
        TEST(a_call_that_ends_late_leaves_debt_and_no_credit),
        TEST(who_is_held_has_no_turn_and_saves_nothing),
        TEST(what_another_has_sent_is_not_before_a_call),
        TEST(a_caller_that_shows_who_it_is_changes_its_flow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
