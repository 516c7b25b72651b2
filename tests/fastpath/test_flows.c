/* SPDX-License-Identifier: Apache-2.0 */
/* The flows of a lane share its worker's time by their weights, however many sessions each has and
 * whatever their calls cost. Method: as in test_deficit.c, a worker and a clock driven by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/hand_clock.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/random.h"

enum { SLOTS = 256, LANES = 3, GREEDY = 7, QUANTUM = KNIT_LANE_FLOW_QUANTUM_NS };

static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
    lanes_init(&lanes, LANES, true, 0);
    hand_clock_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hand_clock_stop();
    lanes_fini(&lanes);
    return 0;
}

static struct knit_session *add_session(uint64_t flow, uint32_t weight)
{
    struct lanes_session *session = lanes_add_session(&lanes, SLOTS, 65536, 0);

    session->flow = flow;
    knit_weight_store(&session->weight, KNIT_WEIGHT_ONE * (uint64_t)weight);
    return session->session;
}

static struct knit_lane_flow *flow_of(uint32_t session)
{
    return lanes.worker[0]->sessions[session]->flow;
}

/* ---- shares ---- */

static void a_flow_with_many_sessions_gets_no_more_than_one_with_one(void **state)
{
    enum { COST = 900, TURNS = 6000 };
    struct knit_session *greedy[GREEDY], *modest;
    uint64_t greedy_ns = 0, modest_ns = 0;

    (void)state;
    for (uint32_t i = 0; i < GREEDY; i++)
        greedy[i] = add_session(1, 1);
    modest = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, COST);
    for (uint32_t i = 0; i < TURNS; i++) {
        for (uint32_t j = 0; j < GREEDY; j++)
            lanes_fill(greedy[j], LANES_ECHO, 0);
        lanes_fill(modest, LANES_ECHO, 0);
        lanes_turn(&lanes);
        for (uint32_t j = 0; j < GREEDY; j++)
            greedy_ns += lanes_collect(greedy[j]) * COST;
        modest_ns += lanes_collect(modest) * COST;
    }
    assert_true(greedy_ns < modest_ns + 3 * QUANTUM);
    assert_true(modest_ns < greedy_ns + 3 * QUANTUM);
}

static void flows_share_by_weight_whatever_calls_cost(void **state)
{
    enum { TURNS = 20000, FLOWS = 3 };
    static const uint32_t weight[FLOWS] = {1, 4, 2};
    struct knit_session *sessions[FLOWS];
    uint64_t got_ns[FLOWS] = {0};
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    for (uint32_t i = 0; i < FLOWS; i++)
        sessions[i] = add_session(10 + i, weight[i]);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < TURNS; i++) {
        const uint32_t cost = 1 + (uint32_t)knit_random_below(&random, 999);

        for (uint32_t j = 0; j < FLOWS; j++)
            lanes_fill(sessions[j], LANES_ECHO, 0);
        lanes_pretend(&lanes, LANES_ECHO, cost);
        lanes_turn(&lanes);
        for (uint32_t j = 0; j < FLOWS; j++)
            got_ns[j] += lanes_collect(sessions[j]) * cost;
        for (uint32_t j = 1; j < FLOWS; j++) {
            const int64_t part = (int64_t)(got_ns[0] / weight[0]);

            assert_true(llabs((int64_t)(got_ns[j] / weight[j]) - part) < 2 * QUANTUM + 20000);
        }
    }
    assert_true(got_ns[0] > 4 * QUANTUM);
}

/* It takes effect with the next round. */
static void a_weight_may_change(void **state)
{
    enum { COST = 900, TURNS = 8000 };
    struct knit_session *one, *other;
    uint64_t one_ns = 0, other_ns = 0;

    (void)state;
    one = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, COST);
    for (uint32_t i = 0; i < 2 * TURNS; i++) {
        if (i == TURNS) {
            knit_weight_store(&lanes.session[1].weight, 3 * KNIT_WEIGHT_ONE);
            one_ns = other_ns = 0;
        }
        lanes_fill(one, LANES_ECHO, 0);
        lanes_fill(other, LANES_ECHO, 0);
        lanes_turn(&lanes);
        one_ns += lanes_collect(one) * COST;
        other_ns += lanes_collect(other) * COST;
    }
    assert_true(llabs((int64_t)other_ns - 3 * (int64_t)one_ns) < 10 * QUANTUM);
}

/* As loops say in which its callers wait; which of a loop's own flow means nothing. */
static void a_principal_that_waits_in_loops_has_a_part_here(void **state)
{
    enum { COST = 900, TURNS = 8000, BOTH = 5, LOOPS = 2 };
    struct knit_session *both, *other;
    uint64_t both_ns = 0, other_ns = 0;

    (void)state;
    both = add_session(BOTH, 1);
    other = add_session(KNIT_LANE_FLOW_OF_LOOP | BOTH, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, COST);
    for (uint32_t i = 0; i < LOOPS; i++)
        knit_tally_more(&lanes.waiting, BOTH);
    for (uint32_t i = 0; i < TURNS; i++) {
        lanes_fill(both, LANES_ECHO, 0);
        lanes_fill(other, LANES_ECHO, 0);
        lanes_turn(&lanes);
        both_ns += lanes_collect(both) * COST;
        other_ns += lanes_collect(other) * COST;
    }
    assert_true(both_ns > QUANTUM);
    assert_true(llabs((int64_t)other_ns - (1 + LOOPS) * (int64_t)both_ns) < 10 * QUANTUM);
}

static uint32_t waited_ms(uint64_t flow)
{
    return atomic_load_explicit(&lanes.pool.waited->ms[flow], memory_order_relaxed);
}

/* Who calls alone has all there is, and no part to share. */
static void who_waits_for_others_is_said(void **state)
{
    enum { ONE = 1, OTHER = 2, LOOP = 3, TURNS = 400 };
    struct knit_session *sessions[3];

    (void)state;
    sessions[0] = add_session(ONE, 1);
    sessions[1] = add_session(OTHER, 1);
    sessions[2] = add_session(KNIT_LANE_FLOW_OF_LOOP | LOOP, 1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t calling = 1; calling <= 3; calling += 2) {
        for (uint32_t i = 0; i < TURNS; i++) {
            for (uint32_t j = 0; j < calling; j++)
                lanes_fill(sessions[j], LANES_SPIN, 50);
            lanes_turn(&lanes);
            hand_clock_pass(1000000);
            for (uint32_t j = 0; j < calling; j++)
                (void)lanes_collect(sessions[j]);
        }
        assert_int_equal(waited_ms(ONE) != 0, calling > 1);
    }
    assert_true(waited_ms(OTHER) != 0);
    assert_int_equal(waited_ms(LOOP), 0);
}

static void inside_of_a_flow_sessions_share(void **state)
{
    enum { CHEAP = 90, COSTLY = 900, TURNS = 6000 };
    struct knit_session *cheap, *costly, *other;
    uint64_t cheap_ns = 0, costly_ns = 0;

    (void)state;
    cheap = add_session(1, 1);
    costly = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, CHEAP);
    lanes_pretend(&lanes, LANES_ROOM, COSTLY);
    for (uint32_t i = 0; i < TURNS; i++) {
        lanes_fill(cheap, LANES_ECHO, 0);
        lanes_fill(costly, LANES_ROOM, 0);
        lanes_fill(other, LANES_ECHO, 0);
        lanes_turn(&lanes);
        cheap_ns += lanes_collect(cheap) * CHEAP;
        costly_ns += lanes_collect(costly) * COSTLY;
        (void)lanes_collect(other);
    }
    assert_true(cheap_ns > QUANTUM);
    assert_true(llabs((int64_t)cheap_ns - (int64_t)costly_ns) < 4 * KNIT_ROUND_NS);
}

/* However many sessions the one has, and though it has credit for many turns. */
static void a_turn_has_calls_of_two_flows(void **state)
{
    struct knit_session *greedy[GREEDY], *modest;

    (void)state;
    for (uint32_t i = 0; i < GREEDY; i++)
        greedy[i] = add_session(1, 1);
    modest = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, 90);
    for (uint32_t turns = 0; turns < 20; turns++) {
        for (uint32_t i = 0; i < GREEDY; i++)
            lanes_fill(greedy[i], LANES_ECHO, 0);
        lanes_fill(modest, LANES_ECHO, 0);
        lanes_turn(&lanes);
        assert_int_equal(lanes_collect(modest), 8);
        for (uint32_t i = 0; i < GREEDY; i++)
            (void)lanes_collect(greedy[i]);
    }
}

/* By the clock, which on a busy machine says more than calls ask for. Each turn is one of them. */
static void beside_long_calls_of_many_sessions_a_flow_gets_its_time(void **state)
{
    enum { LONG_US = 5000, SHORT_US = 500, TIMES = 6 };
    struct knit_session *greedy[GREEDY], *modest;
    uint64_t greedy_ns = 0, modest_ns = 0, longest_ns[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < GREEDY; i++)
        greedy[i] = add_session(1, 1);
    modest = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t times = 0; times < TIMES;) {
        const uint32_t *took_ns = &lanes.worker[0]->took_ns;
        size_t of_greedy = 0;

        for (uint32_t j = 0; j < GREEDY; j++)
            lanes_fill(greedy[j], LANES_SPIN, LONG_US);
        lanes_fill(modest, LANES_SPIN, SHORT_US);
        lanes_turn(&lanes);
        for (uint32_t j = 0; j < GREEDY; j++)
            of_greedy += lanes_collect(greedy[j]);
        assert_int_equal(of_greedy + lanes_collect(modest), 1);
        times += (uint32_t)of_greedy;
        *(of_greedy != 0 ? &greedy_ns : &modest_ns) += *took_ns;
        if (longest_ns[of_greedy] < *took_ns)
            longest_ns[of_greedy] = *took_ns;
        assert_true(llabs((int64_t)greedy_ns - (int64_t)modest_ns) <=
                    (int64_t)(2 * QUANTUM + longest_ns[0] + longest_ns[1]));
    }
}

/* Its calls are more than it has credit for, and it has none when the others have their turn. */
static void a_flow_gains_nothing_by_coming_and_going(void **state)
{
    enum { CHEAP = 90, COSTLY = 900, AT_ONCE = 3, TURNS = 6000 };
    struct knit_session *steady, *coming;
    uint64_t steady_ns = 0, coming_ns = 0;

    (void)state;
    steady = add_session(1, 1);
    coming = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, CHEAP);
    lanes_pretend(&lanes, LANES_ROOM, COSTLY);
    for (uint32_t i = 0; i < TURNS; i++) {
        lanes_fill(steady, LANES_ECHO, 0);
        if (knit_session_in_flight(coming) == 0) {
            for (uint32_t j = 0; j < AT_ONCE; j++)
                (void)lanes_publish(coming, 0, LANES_ROOM, 0);
        }
        lanes_turn(&lanes);
        steady_ns += lanes_collect(steady) * CHEAP;
        coming_ns += lanes_collect(coming) * COSTLY;
    }
    assert_true(coming_ns > QUANTUM);
    assert_true(coming_ns < steady_ns + 3 * QUANTUM);
}

/* A task that is short by its mean, in which one call of many takes long: most of these are not
 * measured, and chance says which. It gets 1.5 to 2.5 times as much as the other, and twenty times
 * where only what is measured is charged. */
static void a_flow_gains_nothing_by_calls_that_are_rarely_long(void **state)
{
    enum { ONE_OF = 200, LONG_US = 5000, TURNS = 40000 };
    uint64_t published = 0, rare_ns = 0, plain_ns = 0, before;
    struct knit_session *rare, *plain;

    (void)state;
    rare = add_session(1, 1);
    plain = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < TURNS; i++) {
        size_t of_rare;

        while (knit_session_slots_free(rare) > 0)
            (void)lanes_publish(rare, 0, LANES_SPIN, ++published % ONE_OF == 0 ? LONG_US : 0);
        lanes_fill(plain, LANES_SPIN, 0);
        before = knit_clock_ns();
        lanes_turn(&lanes);
        of_rare = lanes_collect(rare);
        *(of_rare > 0 ? &rare_ns : &plain_ns) += knit_clock_ns() - before;
        (void)lanes_collect(plain);
    }
    assert_true(rare_ns < 5 * plain_ns);
}

/* What was measured; the short call is none of these. */
static void an_answer_says_how_long_its_call_ran(void **state)
{
    struct knit_session *session;
    uint32_t slot, took_ns;

    (void)state;
    session = add_session(1, 1);
    lanes_add_worker(&lanes, 0, 5);
    slot = lanes_publish(session, 0, LANES_SPIN, 3000);
    lanes_turn(&lanes);
    took_ns = lanes.worker[0]->took_ns;
    assert_int_equal(lanes_collect(session), 1);
    assert_in_range(knit_session_run_ns(session, slot), took_ns - took_ns / 1024, took_ns);
    lanes_pretend(&lanes, LANES_ECHO, 900);
    slot = lanes_publish(session, 0, LANES_ECHO, 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(session), 1);
    assert_int_equal(knit_session_run_ns(session, slot), 0);
}

/* ---- debts ---- */

static void a_debt_stays_when_the_last_session_leaves(void **state)
{
    struct knit_session *debtor, *other;

    (void)state;
    debtor = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_fill(other, LANES_ECHO, 0);
    (void)lanes_publish(debtor, 0, LANES_SPIN, 3000);
    while (lanes_collect(debtor) == 0) {
        lanes_turn(&lanes);
        (void)lanes_collect(other);
        lanes_fill(other, LANES_ECHO, 0);
    }
    assert_true(flow_of(0)->credit_ns < -QUANTUM);
    assert_int_equal(knit_lane_detach(lanes.worker[0], 1), 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes.worker[0]->flows.count, 1);
    lanes_attach(&lanes, 0, 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes.worker[0]->flows.count, 2);
    assert_int_equal(lanes.worker[0]->sessions[1]->in.id, 1);
    assert_true(flow_of(1)->credit_ns < -QUANTUM);
}

/* It is owed until others had that. */
static void a_call_counts_as_a_second_at_most(void **state)
{
    enum { LONG_US = 1500000, SHORT_US = 1000, DEBT_MAX = KNIT_LANE_FLOW_DEBT_MAX_NS };
    struct knit_session *debtor, *other;
    uint64_t other_ns = 0;

    (void)state;
    debtor = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    (void)lanes_publish(debtor, 0, LANES_SPIN, LONG_US);
    lanes_fill(other, LANES_SPIN, SHORT_US);
    while (lanes_collect(debtor) == 0) {
        lanes_turn(&lanes);
        (void)lanes_collect(other);
        lanes_fill(other, LANES_SPIN, SHORT_US);
    }
    assert_true(flow_of(0)->credit_ns >= -DEBT_MAX);
    assert_true(flow_of(0)->credit_ns < -DEBT_MAX + 2 * QUANTUM);
    (void)lanes_publish(debtor, 0, LANES_SPIN, SHORT_US);
    do {
        lanes_fill(other, LANES_SPIN, SHORT_US);
        lanes_turn(&lanes);
        other_ns += lanes_collect(other) * (uint64_t)lanes.worker[0]->took_ns;
    } while (lanes_collect(debtor) == 0);
    assert_in_range(other_ns, DEBT_MAX - 3000 * SHORT_US, DEBT_MAX + 3000 * SHORT_US);
}

static void a_last_look_minds_no_debt(void **state)
{
    struct knit_session *debtor;

    (void)state;
    debtor = add_session(1, 1);
    (void)add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_turn(&lanes);
    flow_of(0)->credit_ns = -KNIT_LANE_FLOW_DEBT_MAX_NS;
    (void)lanes_publish(debtor, 0, LANES_ECHO, 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 1);
}

static void debts_are_forgotten_when_there_is_nothing_to_do(void **state)
{
    struct knit_session *debtor;

    (void)state;
    debtor = add_session(1, 1);
    (void)add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    (void)lanes_publish(debtor, 0, LANES_SPIN, 3000);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 1);
    assert_true(flow_of(0)->credit_ns < 0);
    lanes_turn(&lanes);
    knit_lane_flow_renew(&lanes.worker[0]->flows, flow_of(0));
    assert_int_equal(flow_of(0)->credit_ns, QUANTUM);
}

/* Lanes 1 and 2 have no worker. */
static void a_thief_pays_and_leaves_debtors_for_last(void **state)
{
    struct knit_session *debtor, *other;

    (void)state;
    debtor = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    (void)lanes_publish(debtor, 1, LANES_SPIN, 3000);
    (void)lanes_publish(debtor, 1, LANES_ECHO, 0);
    (void)lanes_publish(debtor, 2, LANES_ECHO, 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 1);
    assert_true(flow_of(0)->credit_ns < -QUANTUM);
    (void)lanes_publish(other, 1, LANES_ECHO, 0);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 0);
    assert_int_equal(lanes_collect(other), 1);
    /* It takes what there is. */
    lanes_turn(&lanes);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 2);
}

/* They wait for as much of the others as they owe, in other lanes as in its own. */
static void a_busy_thief_lets_debtors_wait(void **state)
{
    enum { COST = 900 };
    struct knit_session *debtor, *other;
    uint64_t other_ns = 0;
    int64_t debt_ns;

    (void)state;
    debtor = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, COST);
    (void)lanes_publish(debtor, 0, LANES_SPIN, 3000);
    do {
        lanes_fill(other, LANES_ECHO, 0);
        lanes_turn(&lanes);
        (void)lanes_collect(other);
    } while (lanes_collect(debtor) == 0);
    debt_ns = -flow_of(0)->credit_ns;
    assert_true(debt_ns > QUANTUM);
    (void)lanes_publish(debtor, 1, LANES_ECHO, 0);
    do {
        lanes_pretend(&lanes, LANES_ECHO, COST);
        lanes_fill(other, LANES_ECHO, 0);
        lanes.worker[0]->turns = UINT16_MAX;
        lanes.worker[0]->scanned_ns = 0;
        lanes_turn(&lanes);
        other_ns += lanes_collect(other) * COST;
        assert_true((int64_t)other_ns < debt_ns + 3 * QUANTUM);
    } while (lanes_collect(debtor) == 0);
    assert_true((int64_t)other_ns > debt_ns - 2 * QUANTUM);
}

/* It would keep its worker for as long as another one of its calls takes. */
static void whoever_owes_much_waits_for_calls_of_others_in_all_lanes(void **state)
{
    enum { CALLS = 50, LONG_US = 3000 };
    struct knit_session *greedy, *modest;
    size_t of_greedy = 0, of_modest = 0;

    (void)state;
    greedy = add_session(1, 1);
    modest = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 5; i++)
        (void)lanes_publish(greedy, 0, LANES_SPIN, LONG_US);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(greedy), 1);
    lanes_pretend(&lanes, LANES_ECHO, 900);
    for (uint32_t i = 0; i < CALLS; i++)
        (void)lanes_publish(modest, 1 + i % 2, LANES_ECHO, 0);
    while (of_modest < CALLS) {
        lanes_turn(&lanes);
        of_modest += lanes_collect(modest);
        of_greedy += lanes_collect(greedy);
        assert_int_equal(of_greedy, 0);
    }
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(greedy), 1);
}

static void of_two_that_owe_the_one_that_owes_less_is_next(void **state)
{
    enum { MUCH = 4 * KNIT_LANE_FLOW_DUE_LONG, LESS = MUCH / 2 };
    struct knit_session *one, *other;

    (void)state;
    one = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_turn(&lanes);
    lanes_pretend(&lanes, LANES_ECHO, 900);
    for (uint32_t i = 0; i < 2; i++) {
        struct knit_session *next = i == 0 ? other : one;

        knit_lane_flow_renew(&lanes.worker[0]->flows, flow_of(0));
        knit_lane_flow_renew(&lanes.worker[0]->flows, flow_of(1));
        flow_of(0)->credit_ns = -(i == 0 ? MUCH : LESS) * QUANTUM;
        flow_of(1)->credit_ns = -(i == 0 ? LESS : MUCH) * QUANTUM;
        (void)lanes_publish(one, 0, LANES_ECHO, 0);
        (void)lanes_publish(other, 1, LANES_ECHO, 0);
        lanes_turn(&lanes);
        assert_int_equal(lanes_collect(next), 1);
        assert_int_equal(lanes_collect(next == one ? other : one), 0);
        lanes_turn(&lanes);
        assert_int_equal(lanes_collect(next == one ? other : one), 1);
    }
}

/* Each of its calls leaves a debt, but nobody else waits. Lane 1 has no worker. */
static void a_busy_thief_helps_who_calls_alone(void **state)
{
    enum { TURNS_MAX = 1000 };
    const _Atomic uint64_t *stolen;
    struct knit_session *one;

    (void)state;
    one = add_session(1, 1);
    (void)add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    stolen = &lanes.worker[0]->busy->stolen;
    (void)lanes_publish(one, 1, LANES_ECHO, 0);
    for (uint32_t turns = 0; atomic_load_explicit(stolen, memory_order_relaxed) == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        lanes_fill(one, LANES_SPIN, 300);
        lanes.worker[0]->scanned_ns = 0;
        lanes_turn(&lanes);
        (void)lanes_collect(one);
    }
}

/* Of the same flow, beside another one: they take turns. */
static void calls_that_are_helped_keep_none_at_home_waiting(void **state)
{
    enum { TURNS_MAX = 400, CALLS = 40 };
    struct knit_session *home, *helped, *other;
    size_t got = 0;

    (void)state;
    home = add_session(1, 1);
    helped = add_session(1, 1);
    other = add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t turns = 0; got < CALLS; turns++) {
        assert_true(turns < TURNS_MAX);
        lanes_fill(home, LANES_SPIN, 2000);
        while (knit_session_slots_free(helped) > 0)
            (void)lanes_publish(helped, 1, LANES_SPIN, 2000);
        lanes_fill(other, LANES_SPIN, 2000);
        lanes.worker[0]->scanned_ns = 0;
        lanes_turn(&lanes);
        got += lanes_collect(home);
        (void)lanes_collect(helped);
        (void)lanes_collect(other);
    }
}

/* What nobody else wanted is not owed to who comes later. */
static void a_thief_with_nothing_else_gives_rounds(void **state)
{
    struct knit_session *one;

    (void)state;
    one = add_session(1, 1);
    (void)add_session(2, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, 900);
    (void)lanes_publish(one, 1, LANES_SPIN, 3000);
    (void)lanes_publish(one, 1, LANES_ECHO, 0);
    lanes_turn(&lanes);
    assert_true(flow_of(0)->credit_ns < -3000000 + 2 * QUANTUM);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(one), 2);
    assert_true(flow_of(0)->credit_ns > -3000000);
}

static void one_flow_is_not_charged(void **state)
{
    struct knit_session *one, *other;

    (void)state;
    one = add_session(7, 1);
    other = add_session(7, 1);
    lanes_add_worker(&lanes, 0, 5);
    lanes_fill(one, LANES_ECHO, 0);
    lanes_fill(other, LANES_SPIN, 100);
    for (uint32_t i = 0; i < 100; i++)
        lanes_turn(&lanes);
    (void)lanes_collect(one);
    (void)lanes_publish(one, 1, LANES_ECHO, 0);
    while (lanes_collect(one) == 0)
        lanes_turn(&lanes);
    assert_int_equal(lanes.worker[0]->flows.count, 1);
    assert_int_equal(flow_of(0)->credit_ns, QUANTUM);
    assert_ptr_equal(flow_of(0), flow_of(1));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_flow_with_many_sessions_gets_no_more_than_one_with_one),
        TEST(flows_share_by_weight_whatever_calls_cost),
        TEST(a_weight_may_change),
        TEST(a_principal_that_waits_in_loops_has_a_part_here),
        TEST(who_waits_for_others_is_said),
        TEST(inside_of_a_flow_sessions_share),
        TEST(a_turn_has_calls_of_two_flows),
        TEST(beside_long_calls_of_many_sessions_a_flow_gets_its_time),
        TEST(a_flow_gains_nothing_by_coming_and_going),
        TEST(a_flow_gains_nothing_by_calls_that_are_rarely_long),
        TEST(an_answer_says_how_long_its_call_ran),
        TEST(a_debt_stays_when_the_last_session_leaves),
        TEST(a_call_counts_as_a_second_at_most),
        TEST(a_last_look_minds_no_debt),
        TEST(debts_are_forgotten_when_there_is_nothing_to_do),
        TEST(a_thief_pays_and_leaves_debtors_for_last),
        TEST(a_busy_thief_lets_debtors_wait),
        TEST(whoever_owes_much_waits_for_calls_of_others_in_all_lanes),
        TEST(of_two_that_owe_the_one_that_owes_less_is_next),
        TEST(a_busy_thief_helps_who_calls_alone),
        TEST(calls_that_are_helped_keep_none_at_home_waiting),
        TEST(a_thief_with_nothing_else_gives_rounds),
        TEST(one_flow_is_not_charged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
