/* SPDX-License-Identifier: Apache-2.0 */
/* However many sessions are idle, a call of any of them is found within KNIT_POLL_LOOKS looks.
 * Method: a worker driven by hand, a turn at a time; one session keeps it busy, so that a turn
 * makes one look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/lane_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/random.h"

enum { SLOTS = 32, SESSIONS = LANES_SESSIONS_MAX, BUSY = 0 };

static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
    lanes_init(&lanes, 1, false, 0);
    for (uint32_t i = 0; i < SESSIONS; i++)
        (void)lanes_add_session(&lanes, SLOTS, 65536, 0);
    lanes_add_worker(&lanes, 0, 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish_in(enum knit_ring ring, uint32_t i, uint32_t task, uint32_t us)
{
    struct knit_session_call call = lanes_call(task, &us, sizeof(us));
    uint32_t slot;

    call.ring = ring;
    assert_int_equal(knit_session_publish(lanes.session[i].session, &call, &slot), 0);
    return slot;
}

static uint32_t publish(uint32_t i, uint32_t task, uint32_t us)
{
    return publish_in(KNIT_RING_NORMAL, i, task, us);
}

static size_t collect(uint32_t i)
{
    struct knit_session_outcome outcomes[SLOTS];

    return knit_session_collect(lanes.session[i].session, outcomes, SLOTS);
}

/* The busy session has calls, which are short. */
static void turn(void)
{
    lanes.worker[0]->mean_ns[LANES_ECHO] = 100;
    lanes.worker[0]->unmeasured = UINT32_MAX;
    (void)collect(BUSY);
    while (knit_session_slots_free(lanes.session[BUSY].session) > 0)
        (void)publish(BUSY, LANES_ECHO, 0);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
}

/* All but the busy one are cold. */
static void settle(void)
{
    for (uint32_t i = 0; i < 4 * KNIT_POLL_LOOKS; i++)
        turn();
}

static uint32_t turns_until_answered(uint32_t i)
{
    uint32_t turns = 0;

    for (; collect(i) == 0; turns++) {
        assert_true(turns <= KNIT_POLL_LOOKS);
        turn();
    }
    return turns;
}

static void idle_sessions_become_cold(void **state)
{
    (void)state;
    turn();
    assert_int_equal(lanes.worker[0]->poll.hot_count, SESSIONS);
    settle();
    assert_int_equal(lanes.worker[0]->poll.hot_count, 1);
    assert_int_equal(lanes.worker[0]->poll.hot[0], BUSY);
}

static void a_call_of_a_cold_session_is_found_within_the_looks(void **state)
{
    (void)state;
    settle();
    for (uint32_t i = 1; i < SESSIONS; i++) {
        (void)publish(i, LANES_ECHO, 0);
        assert_true(turns_until_answered(i) <= KNIT_POLL_LOOKS);
        /* It is hot now. */
        (void)publish(i, LANES_ECHO, 0);
        assert_int_equal(turns_until_answered(i), 1);
    }
}

/* Also in rings that the session has not used before, and when it has used several for long. */
static void a_call_of_another_ring_is_found_as_soon(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        settle();
        assert_int_equal(lanes.worker[0]->poll.hot_count, 1);
        for (uint32_t i = 1; i < SESSIONS; i++) {
            const enum knit_ring ring = i % KNIT_CLASSES_MAX;

            (void)publish_in(ring, i, LANES_ECHO, 0);
            assert_true(turns_until_answered(i) <= KNIT_POLL_LOOKS);
            (void)publish_in(KNIT_RING_URGENT, i, LANES_ECHO, 0);
            assert_int_equal(turns_until_answered(i), 1);
        }
    }
}

static void after_a_long_call_all_are_looked_at(void **state)
{
    (void)state;
    settle();
    for (uint32_t i = 2; i < SESSIONS; i += 7) {
        /* Each of another session, which has credit. */
        (void)publish(i - 1, LANES_SPIN, 50);
        (void)turns_until_answered(i - 1);
        assert_true(lanes.worker[0]->was_long);
        (void)publish(i, LANES_ECHO, 0);
        assert_int_equal(turns_until_answered(i), 1);
        settle();
    }
}

/* It has slept for a millisecond, or not at all because its last looks found the call. */
static void after_a_sleep_all_are_looked_at(void **state)
{
    uint32_t slot;
    struct knit_session_outcome outcome;

    (void)state;
    settle();
    for (uint32_t i = 1; i < SESSIONS; i += 7) {
        while (knit_session_in_flight(lanes.session[BUSY].session) > 0) {
            assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
            (void)collect(BUSY);
        }
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        slot = publish(i, LANES_ECHO, 0);
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        assert_true(knit_session_collect_slot(lanes.session[i].session, slot, &outcome));
        settle();
    }
}

/* A worker that finds no call at home spins before it parks; so many looks compare all. */
static void an_idle_worker_looks_at_all(void **state)
{
    (void)state;
    lanes.worker[0]->options.park_ms = 60000;
    knit_spin_init(&lanes.worker[0]->spin, 1000);
    settle();
    while (knit_session_in_flight(lanes.session[BUSY].session) > 0) {
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        (void)collect(BUSY);
    }
    for (uint32_t i = 1; i < SESSIONS; i += 7) {
        (void)publish(i, LANES_ECHO, 0);
        for (uint32_t turns = 0; collect(i) == 0; turns++) {
            assert_true(turns < 3);
            assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        }
    }
}

/* It sleeps without a time limit, and so does the caller. */
static void a_parked_worker_is_woken_by_any_session(void **state)
{
    enum { CALLS = 3000 };
    struct knit_random random;

    (void)state;
    lanes_stop_worker(&lanes, 0);
    lanes_start_worker(&lanes, 0, 6);
    knit_random_init(&random);
    for (uint32_t t = 0; t < CALLS; t++) {
        uint32_t some = (uint32_t)knit_random_below(&random, SESSIONS);
        struct knit_session_outcome outcome;

        lanes_wait_for(lanes.session[some].session, publish(some, LANES_ECHO, 0), &outcome);
    }
}

/* Sessions come and go, so places change; each is hot, cold, and hot again at random. */
static void calls_are_found_while_sessions_come_and_go(void **state)
{
    enum { TURNS = 20000, AT_ONCE = 4 };
    uint32_t waits[SESSIONS] = {0}; /* turns; 0 = has no call */
    bool is_attached[SESSIONS];
    struct knit_random random;
    uint32_t waiting = 0, served = 0;

    (void)state;
    knit_random_init(&random);
    for (uint32_t i = 0; i < SESSIONS; i++)
        is_attached[i] = true;
    for (uint32_t t = 0; t < TURNS; t++) {
        uint32_t some = 1 + (uint32_t)knit_random_below(&random, SESSIONS - 1);

        if (is_attached[some] && waits[some] == 0 && waiting < AT_ONCE) {
            (void)publish(some, LANES_ECHO, 0);
            waits[some] = 1;
            waiting++;
        }
        some = 1 + (uint32_t)knit_random_below(&random, SESSIONS - 1);
        if (knit_random_chance(&random, 200) && waits[some] == 0) {
            if (is_attached[some])
                assert_int_equal(knit_lane_detach(lanes.worker[0], some + 1), 0);
            else
                lanes_attach(&lanes, 0, some);
            is_attached[some] = !is_attached[some];
        }
        turn();
        for (uint32_t i = 1; i < SESSIONS; i++) {
            if (waits[i] == 0)
                continue;
            if (collect(i) == 0) {
                assert_true(++waits[i] <= KNIT_POLL_LOOKS + 1);
                continue;
            }
            waits[i] = 0;
            waiting--;
            served++;
        }
    }
    assert_true(served > TURNS / 16);
}

/* A word that changes without a call costs looks and nothing else. */
static void a_word_that_changes_is_no_call(void **state)
{
    struct lanes_session *liar = &lanes.session[5];
    _Atomic uint64_t *ctrl = &liar->request.ring[0].ctrl;

    (void)state;
    settle();
    for (uint64_t i = 0; i < 100; i++) {
        /* Of no lap. */
        atomic_store_explicit(ctrl, i << 32, memory_order_relaxed);
        turn();
    }
    (void)publish(9, LANES_ECHO, 0);
    (void)turns_until_answered(9);
    (void)publish(5, LANES_ECHO, 0);
    (void)turns_until_answered(5);
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
    settle();
    assert_int_equal(lanes.worker[0]->poll.hot_count, 1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(idle_sessions_become_cold),
        TEST(a_call_of_a_cold_session_is_found_within_the_looks),
        TEST(a_call_of_another_ring_is_found_as_soon),
        TEST(after_a_long_call_all_are_looked_at),
        TEST(after_a_sleep_all_are_looked_at),
        TEST(an_idle_worker_looks_at_all),
        TEST(a_parked_worker_is_woken_by_any_session),
        TEST(calls_are_found_while_sessions_come_and_go),
        TEST(a_word_that_changes_is_no_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
