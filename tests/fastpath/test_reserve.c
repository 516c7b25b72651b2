/* SPDX-License-Identifier: Apache-2.0 */
/* The reserve: long calls of a principal leave workers to others. Method: as in test_flows.c, two
 * workers and a clock driven by hand; the words of other lanes are written by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/lane_private.h"
#include "tests/fastpath/hand_clock.h"
#include "tests/fastpath/lanes.h"

enum { SLOTS = 256, LANES = 3, LONG_US = 2500 };

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

/* A long call of flow 1 runs in that lane, or none. */
static void say_running(uint32_t lane, bool is_running)
{
    atomic_store_explicit(&lanes.pool.note[lane].long_call, is_running ? (uint64_t)1 << 32 | 3 : 0,
        memory_order_relaxed);
}

static void turn_of(uint32_t worker)
{
    assert_int_equal(knit_lane_turn(lanes.worker[worker]), KNIT_LANE_RUNNING);
}

/* Workers 0 and 1 know that the task is long; the other flow has called lately, if at all. */
static void begin_two(struct knit_session **ret_greedy, struct knit_session **ret_other, bool calls)
{
    *ret_greedy = add_session(1, 1);
    *ret_other = add_session(2, 1);
    for (uint32_t i = 0; i < 2; i++) {
        lanes_add_worker(&lanes, i, 5 + i);
        lanes.worker[i]->mean_ns[LANES_SPIN] = LONG_US * 1000;
        turn_of(i);
    }
    if (calls)
        (void)lanes_publish(*ret_other, 1, LANES_ECHO, 0);
    turn_of(1);
    assert_int_equal(lanes_collect(*ret_other), calls);
}

/* The greedy one's long call in lane 1 has to wait, since lane 0 runs one of its calls. */
static void begin_held(struct knit_session **ret_greedy, struct knit_session **ret_other)
{
    begin_two(ret_greedy, ret_other, true);
    say_running(0, true);
    (void)lanes_publish(*ret_greedy, 1, LANES_SPIN, LONG_US);
    turn_of(1);
    assert_int_equal(lanes_collect(*ret_greedy), 0);
}

static void long_calls_leave_a_worker_to_others(void **state)
{
    struct knit_session *greedy, *other;

    (void)state;
    begin_held(&greedy, &other);
    /* Not where it is stolen either; and what is not long is not held. */
    (void)lanes_publish(other, 1, LANES_ECHO, 0);
    turn_of(1);
    assert_int_equal(lanes_collect(other), 1);
    assert_int_equal(lanes_collect(greedy), 0);
    say_running(0, false);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 1);
}

/* Those of loops run as calls of the loops' own flows. */
static void calls_that_loops_have_given_count_as_well(void **state)
{
    struct knit_session *greedy, *other;

    (void)state;
    begin_two(&greedy, &other, true);
    knit_tally_more(&lanes.long_calls, 1);
    (void)lanes_publish(greedy, 1, LANES_SPIN, LONG_US);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 0);
    knit_tally_less(&lanes.long_calls, 1);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 1);
}

/* A loop in which nobody else waits may have others that call. */
static void who_waits_in_a_loop_too_leaves_a_worker_as_well(void **state)
{
    struct knit_session *greedy, *loop;

    (void)state;
    begin_two(&greedy, &loop, true);
    knit_tally_more(&lanes.waiting, 1);
    knit_weight_store(&lanes.session[1].weight, KNIT_WEIGHT_ONE / 2);
    say_running(0, true);
    (void)lanes_publish(greedy, 1, LANES_SPIN, LONG_US);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 0);
}

/* Others may call the same task for less, or for more. */
static void calls_are_long_by_what_those_of_their_flow_took(void **state)
{
    struct knit_session *greedy, *other;
    struct knit_reserve_means *means;
    uint32_t *mean_ns;

    (void)state;
    begin_two(&greedy, &other, true);
    means = &lanes.worker[1]->sessions[0]->flow->means;
    mean_ns = &lanes.worker[1]->mean_ns[LANES_SPIN];
    say_running(0, true);
    *mean_ns = 100000;
    knit_reserve_note_run(means, LANES_SPIN, LONG_US * 1000);
    (void)lanes_publish(greedy, 1, LANES_SPIN, 100);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 0);
    *mean_ns = LONG_US * 1000;
    means->of[LANES_SPIN].ns = 100000;
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 1);
    assert_true(means->of[LANES_SPIN].ns != 100000);
}

static void nothing_is_held_where_nobody_else_was_active(void **state)
{
    struct knit_session *greedy, *other;

    (void)state;
    begin_two(&greedy, &other, false);
    say_running(0, true);
    (void)lanes_publish(greedy, 1, LANES_SPIN, LONG_US);
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 1);
}

/* A worker that was stopped, or a task, may have left any word. */
static void nothing_is_held_for_good(void **state)
{
    struct knit_session *greedy, *other;

    (void)state;
    begin_held(&greedy, &other);
    lanes.worker[1]->sessions[0]->home.stood_ns -= KNIT_RESERVE_HELD_NS + 1;
    turn_of(1);
    assert_int_equal(lanes_collect(greedy), 1);
}

/* Or the worker that may run calls of that principal would run those of its own lane alone. */
static void what_is_held_has_its_turn_elsewhere(void **state)
{
    struct knit_session *greedy, *other;

    (void)state;
    begin_held(&greedy, &other);
    say_running(0, false);
    (void)lanes_publish(greedy, 0, LANES_SPIN, LONG_US);
    (void)lanes_publish(greedy, 0, LANES_SPIN, LONG_US);
    turn_of(0);
    assert_int_equal(lanes_collect(greedy), 2);
    assert_int_equal(lanes.worker[0]->reserve.own, 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(long_calls_leave_a_worker_to_others),
        TEST(calls_that_loops_have_given_count_as_well),
        TEST(who_waits_in_a_loop_too_leaves_a_worker_as_well),
        TEST(calls_are_long_by_what_those_of_their_flow_took),
        TEST(nothing_is_held_where_nobody_else_was_active),
        TEST(nothing_is_held_for_good),
        TEST(what_is_held_has_its_turn_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
