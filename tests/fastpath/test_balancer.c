/* SPDX-License-Identifier: Apache-2.0 */
/* Which lane each balancer chooses. Method: a board of our own, so that every lane's state is what
 * the test says; distributions are counted over 10,000 choices from a fixed seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fastpath/lane/balancer.h"

#define LANES 4u

static struct knit_park_line park[LANES];
static struct knit_busy_line busy[LANES];
static uint32_t queued[LANES];
static _Atomic uint32_t mean_ns[KNIT_TASKS];

static void board_reset(void)
{
    for (uint32_t i = 0; i < LANES; i++) {
        atomic_store_explicit(&park[i].value, KNIT_PARK_AWAKE, memory_order_relaxed);
        atomic_store_explicit(&busy[i].running, 0, memory_order_relaxed);
        queued[i] = 0;
    }
}

static struct knit_balance balance_of(enum knit_balancer kind, uint32_t lanes)
{
    struct knit_board_view board = {.park = park, .busy = busy, .mean_ns = mean_ns};
    struct knit_balance balance;
    board_reset();
    assert_int_equal(knit_balance_init(&balance, kind, false, lanes, &board, 7), 0);
    return balance;
}

static void names_are_known_with_their_alias(void **state)
{
    enum knit_balancer balancer;
    const char *const others[] = {"firstIdle", "randomLane", "firstIdleOrRandom", "leastLoaded"};

    (void)state;
    assert_true(knit_balancer_parse("robinRound", &balancer));
    assert_int_equal(balancer, KNIT_BALANCER_ROUND_ROBIN);
    assert_true(knit_balancer_parse("roundRobin", &balancer));
    assert_int_equal(balancer, KNIT_BALANCER_ROUND_ROBIN);
    for (size_t i = 0; i < 4; i++) {
        assert_true(knit_balancer_parse(others[i], &balancer));
        assert_string_equal(knit_balancer_name(balancer), others[i]);
    }
    assert_false(knit_balancer_parse("x", &balancer));
    assert_false(knit_balancer_parse("", &balancer));
}

static void round_robin_goes_round_for_each_task(void **state)
{
    struct knit_balance balance;

    (void)state;
    balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(knit_balance_pick(&balance, 1, queued), i % LANES);
    assert_int_equal(knit_balance_pick(&balance, 2, queued), 0);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 0);
    assert_int_equal(knit_balance_pick(&balance, 65535, queued), 0);
    knit_balance_fini(&balance);
}

static void one_call_at_a_time_stays_with_a_worker_that_is_awake(void **state)
{
    struct knit_balance balance;

    (void)state;
    balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    balance.warm_max = 1;
    balance.warm = 2;
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 2);
    assert_int_equal(knit_balance_pick(&balance, 2, queued), 2);
    queued[2] = 1;
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 0);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 1);
    queued[2] = 0;
    atomic_store_explicit(&park[2].value, KNIT_PARK_PARKED, memory_order_relaxed);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 2);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 3);
    atomic_store_explicit(&park[2].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_int_equal(knit_balance_pick(&balance, 2, queued), 0);
    knit_balance_fini(&balance);
}

/* How many lanes a batch of calls of that mean goes to, with more than two cores. */
static uint32_t lanes_of_batch(uint32_t calls, uint32_t mean)
{
    struct knit_balance balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    uint32_t used = 0;

    balance.warm_max = 1;
    balance.warm = 2;
    atomic_store_explicit(&mean_ns[9], mean, memory_order_relaxed);
    for (uint32_t i = 0; i < calls; i++)
        queued[knit_balance_pick(&balance, 9, queued)]++;
    for (uint32_t i = 0; i < LANES; i++)
        used += queued[i] > 0;
    assert_true(queued[2] > 0);
    knit_balance_fini(&balance);
    return used;
}

static void a_batch_of_short_calls_goes_to_few_lanes(void **state)
{
    (void)state;
    assert_int_equal(lanes_of_batch(20, 1000), 1);
    assert_int_equal(lanes_of_batch(30, 1000), 2);
    assert_int_equal(lanes_of_batch(50, 1000), 3);
    assert_int_equal(lanes_of_batch(1000, 1000), LANES);
    assert_int_equal(lanes_of_batch(2 * LANES, 20000), LANES);
    assert_int_equal(lanes_of_batch(2 * LANES, UINT32_MAX), LANES);
    /* Not known, or not to be believed. */
    assert_int_equal(lanes_of_batch(2 * LANES, 0), LANES);
    assert_int_equal(lanes_of_batch(200, 1), 1);
    assert_int_equal(lanes_of_batch(800, 1), LANES);
}

/* Its worker is woken by the flush. One without a worker is not filled. */
static void one_sleeping_lane_after_the_other_is_filled(void **state)
{
    struct knit_balance balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    uint32_t first;

    (void)state;
    balance.warm_max = 1;
    balance.warm = 2;
    queued[2] = 1;
    atomic_store_explicit(&mean_ns[9], 1000, memory_order_relaxed);
    atomic_store_explicit(&park[2].value, KNIT_PARK_PARKED, memory_order_relaxed);
    first = knit_balance_pick(&balance, 9, queued);
    assert_int_not_equal(first, 2);
    queued[first]++;
    atomic_store_explicit(&park[first].value, KNIT_PARK_PARKED, memory_order_relaxed);
    assert_int_equal(knit_balance_pick(&balance, 9, queued), first);
    atomic_store_explicit(&park[first].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_int_not_equal(knit_balance_pick(&balance, 9, queued), first);
    knit_balance_fini(&balance);
}

static void many_calls_stay_on_two_cores(void **state)
{
    struct knit_balance balance;

    (void)state;
    balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    balance.warm_max = UINT32_MAX;
    balance.warm = 1;
    queued[1] = 500;
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 1);
    atomic_store_explicit(&park[1].value, KNIT_PARK_PARKED, memory_order_relaxed);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 0);
    knit_balance_fini(&balance);
}

static void round_robin_alone_prefers_a_warm_lane(void **state)
{
    struct knit_board_view board;
    struct knit_balance balance;

    (void)state;
    board = (struct knit_board_view){.park = park, .busy = busy};
    board_reset();
    assert_int_equal(
        knit_balance_init(&balance, KNIT_BALANCER_ROUND_ROBIN, true, LANES, &board, 7), 0);
    assert_true(balance.warm_max >= 1);
    knit_balance_fini(&balance);
    assert_int_equal(knit_balance_init(&balance, KNIT_BALANCER_RANDOM, true, LANES, &board, 7), 0);
    assert_int_equal(balance.warm_max, 0);
    knit_balance_fini(&balance);
}

static void lanes_without_a_worker_are_passed_over(void **state)
{
    struct knit_balance balance;
    const uint32_t expected[] = {0, 2, 3, 0, 2, 3};

    (void)state;
    balance = balance_of(KNIT_BALANCER_ROUND_ROBIN, LANES);
    atomic_store_explicit(&park[1].value, KNIT_PARK_VACANT, memory_order_relaxed);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(knit_balance_pick(&balance, 1, queued), expected[i]);
    for (uint32_t i = 0; i < LANES; i++)
        atomic_store_explicit(&park[i].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_true(knit_balance_pick(&balance, 1, queued) < LANES);
    knit_balance_fini(&balance);
}

static void first_idle_takes_the_first_lane_without_work(void **state)
{
    struct knit_balance balance;

    (void)state;
    balance = balance_of(KNIT_BALANCER_FIRST_IDLE, LANES);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 0);
    atomic_store_explicit(&busy[0].running, 77, memory_order_relaxed);
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 1);
    queued[1] = 1;
    assert_int_equal(knit_balance_pick(&balance, 1, queued), 2);
    queued[2] = queued[3] = 1;
    for (uint32_t i = 0; i < 8; i++) /* all busy: round robin */
        assert_int_equal(knit_balance_pick(&balance, 1, queued), i % LANES);
    knit_balance_fini(&balance);
}

static void least_loaded_takes_the_lane_with_the_fewest_calls(void **state)
{
    struct knit_balance balance;

    (void)state;
    balance = balance_of(KNIT_BALANCER_LEAST_LOADED, LANES);
    queued[0] = 3;
    queued[1] = 1;
    queued[2] = 2;
    queued[3] = 2;
    for (int i = 0; i < 3; i++)
        assert_int_equal(knit_balance_pick(&balance, 1, queued), 1);
    queued[3] = 1;
    for (uint32_t i = 0; i < 4; i++) /* equally loaded: in turn */
        assert_int_equal(knit_balance_pick(&balance, 2, queued), i % 2 == 0 ? 1 : 3);
    /* Another caller's call weighs less than one of our own, and more than none. */
    queued[0] = queued[2] = 0;
    atomic_store_explicit(&busy[0].running, 77, memory_order_relaxed);
    for (int i = 0; i < 3; i++)
        assert_int_equal(knit_balance_pick(&balance, 3, queued), 2);
    atomic_store_explicit(&park[2].value, KNIT_PARK_VACANT, memory_order_relaxed);
    for (int i = 0; i < 3; i++)
        assert_int_equal(knit_balance_pick(&balance, 3, queued), 0);
    for (uint32_t i = 0; i < LANES; i++)
        atomic_store_explicit(&park[i].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_true(knit_balance_pick(&balance, 1, queued) < LANES);
    knit_balance_fini(&balance);
}

static void random_gives_every_lane_its_share(void **state)
{
    const enum knit_balancer kinds[] = {KNIT_BALANCER_RANDOM, KNIT_BALANCER_FIRST_IDLE_OR_RANDOM};

    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct knit_balance balance = balance_of(kinds[kind], LANES);
        uint32_t count[LANES] = {0};
        for (uint32_t i = 0; i < LANES; i++)
            queued[i] = 1;
        for (int i = 0; i < 10000; i++)
            count[knit_balance_pick(&balance, 1, queued)]++;
        /* Binomial: 2500 expected, standard deviation 43; five of them. */
        for (uint32_t i = 0; i < LANES; i++)
            assert_in_range(count[i], 2500 - 217, 2500 + 217);
        queued[3] = 0;
        if (kinds[kind] == KNIT_BALANCER_FIRST_IDLE_OR_RANDOM)
            assert_int_equal(knit_balance_pick(&balance, 1, queued), 3);
        knit_balance_fini(&balance);
    }
}

static void a_pool_of_one_lane_has_no_choice(void **state)
{
    (void)state;
    for (int kind = 0; kind <= KNIT_BALANCER_LEAST_LOADED; kind++) {
        struct knit_balance balance = balance_of((enum knit_balancer)kind, 1);
        for (int i = 0; i < 10; i++)
            assert_int_equal(knit_balance_pick(&balance, 3, queued), 0);
        knit_balance_fini(&balance);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_known_with_their_alias),
        cmocka_unit_test(round_robin_goes_round_for_each_task),
        cmocka_unit_test(a_batch_of_short_calls_goes_to_few_lanes),
        cmocka_unit_test(one_sleeping_lane_after_the_other_is_filled),
        cmocka_unit_test(many_calls_stay_on_two_cores),
        cmocka_unit_test(round_robin_alone_prefers_a_warm_lane),
        cmocka_unit_test(one_call_at_a_time_stays_with_a_worker_that_is_awake),
        cmocka_unit_test(lanes_without_a_worker_are_passed_over),
        cmocka_unit_test(first_idle_takes_the_first_lane_without_work),
        cmocka_unit_test(least_loaded_takes_the_lane_with_the_fewest_calls),
        cmocka_unit_test(random_gives_every_lane_its_share),
        cmocka_unit_test(a_pool_of_one_lane_has_no_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
