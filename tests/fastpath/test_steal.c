/* SPDX-License-Identifier: Apache-2.0 */
/* Which rings of other lanes a worker looks at, and that it comes to all of them. Method: workers
 * driven by hand; lanes without one are vacant, so their calls may be taken at the first look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/lane_bits.h"
#include "fastpath/lane/lane_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/random.h"

enum { SLOTS = 32, LANES = 130, SESSIONS = 12, OWN = 7, OWNER = 5, ARENA = 64 << 10 };

static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
    lanes_init(&lanes, LANES, true, 0);
    for (uint32_t i = 0; i < SESSIONS; i++)
        (void)lanes_add_session(&lanes, SLOTS, ARENA, 0);
    lanes_add_worker(&lanes, OWN, OWNER);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish(uint32_t i, uint32_t lane, uint32_t len)
{
    static const unsigned char bytes[ARENA];
    struct knit_session_call call = lanes_call(LANES_ECHO, bytes, len);
    uint32_t slot;

    call.lane = lane;
    assert_int_equal(knit_session_publish(lanes.session[i].session, &call, &slot), 0);
    return slot;
}

static size_t collect(uint32_t i)
{
    struct knit_session_outcome outcomes[SLOTS];
    size_t count = knit_session_collect(lanes.session[i].session, outcomes, SLOTS);

    for (size_t j = 0; j < count; j++) {
        if (outcomes[j].held)
            knit_session_release(lanes.session[i].session, outcomes[j].slot);
    }
    return count;
}

static void turn(void)
{
    assert_int_equal(knit_lane_turn(lanes.worker[OWN]), KNIT_LANE_RUNNING);
}

static bool is_occupied(uint32_t i, uint32_t lane)
{
    return (atomic_load_explicit(
                &lanes.session[i].request.occupied[lane / 64], memory_order_relaxed) >>
                   lane % 64 &
               1) != 0;
}

/* ---- what a caller says ---- */

static void a_lane_is_occupied_from_publish_to_collect(void **state)
{
    static const uint32_t some[] = {0, OWN, 63, 64, 127, 128, LANES - 1};

    (void)state;
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        assert_false(is_occupied(3, some[i]));
        (void)publish(3, some[i], 8);
        (void)publish(3, some[i], 8);
        assert_true(is_occupied(3, some[i]));
        knit_session_flush(lanes.session[3].session);
        for (size_t got = 0; got < 2; got += collect(3)) {
            assert_true(is_occupied(3, some[i]));
            turn();
        }
        assert_false(is_occupied(3, some[i]));
    }
}

/* The next one may come before the flush too. */
static void a_lane_whose_call_is_collected_before_the_flush_stays_occupied(void **state)
{
    (void)state;
    (void)publish(3, 64, 8);
    for (size_t got = 0; got == 0; got = collect(3))
        turn();
    (void)publish(3, 64, 8);
    assert_true(is_occupied(3, 64));
    knit_session_flush(lanes.session[3].session);
    for (size_t got = 0; got == 0; got = collect(3))
        turn();
    assert_false(is_occupied(3, 64));
}

/* ---- what a worker reads ---- */

/* A turn without calls at home takes one call from elsewhere. */
static void all_rings_are_come_to_in_turn(void **state)
{
    enum { RINGS = 4 };
    uint32_t waits[RINGS] = {0};
    uint32_t session[RINGS], lane[RINGS], slot[RINGS];
    struct knit_session_outcome outcome;
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    for (uint32_t i = 0; i < RINGS; i++) {
        session[i] = (uint32_t)knit_random_below(&random, SESSIONS);
        do {
            lane[i] = (uint32_t)knit_random_below(&random, LANES);
        } while (lane[i] == OWN);
        slot[i] = publish(session[i], lane[i], 8);
    }
    /* Each has one call always; none waits for longer than the others take to be come to. */
    for (uint32_t turns = 0; turns < 2000; turns++) {
        turn();
        for (uint32_t i = 0; i < RINGS; i++) {
            assert_true(++waits[i] <= 2 * RINGS);
            if (!knit_session_collect_slot(lanes.session[session[i]].session, slot[i], &outcome))
                continue;
            waits[i] = 0;
            slot[i] = publish(session[i], lane[i], 8);
        }
    }
}

static void bits_without_calls_cost_looks_and_nothing_else(void **state)
{
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    for (uint32_t i = 0; i < KNIT_LANE_WORDS; i++)
        atomic_store_explicit(
            &lanes.session[2].request.occupied[i], UINT64_MAX, memory_order_relaxed);
    slot = publish(9, 100, 8);
    /* So many rings are read in a scan. */
    for (uint32_t turns = 0; turns <= LANES / KNIT_STEAL_RINGS + 1; turns++)
        turn();
    assert_true(knit_session_collect_slot(lanes.session[9].session, slot, &outcome));
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
}

/* Who does not say where its calls are has them run by the lanes' own workers. */
static void a_call_of_which_its_caller_says_nothing_is_found_at_home(void **state)
{
    struct knit_session_outcome outcome;
    uint32_t slot = publish(2, OWN, 8);

    (void)state;
    atomic_store_explicit(&lanes.session[2].request.occupied[0], 0, memory_order_relaxed);
    turn();
    assert_true(knit_session_collect_slot(lanes.session[2].session, slot, &outcome));
    slot = publish(2, 100, 8);
    atomic_store_explicit(&lanes.session[2].request.occupied[1], 0, memory_order_relaxed);
    turn();
    turn();
    assert_false(knit_session_collect_slot(lanes.session[2].session, slot, &outcome));
    lanes_add_worker(&lanes, 100, OWNER + 1);
    assert_int_equal(knit_lane_turn(lanes.worker[100]), KNIT_LANE_RUNNING);
    assert_true(knit_session_collect_slot(lanes.session[2].session, slot, &outcome));
}

/* ---- what a caller reads ---- */

static _Atomic uint32_t *strays(uint32_t i)
{
    return lanes.session[i].reply.strays;
}

/* Each in another lane than the calls were published to. */
static void a_stolen_call_is_collected_at_the_next_look(void **state)
{
    (void)state;
    for (uint32_t lane = 60; lane < 70; lane++) {
        for (uint32_t i = 0; i < 3; i++)
            (void)publish(3, lane, 8);
        knit_session_flush(lanes.session[3].session);
        for (uint32_t i = 0; i < 3; i++) {
            turn();
            assert_int_equal(collect(3), 1);
        }
    }
}

/* One at a time, of answers in several lanes. */
static void what_a_look_leaves_is_collected_at_the_next_one(void **state)
{
    struct knit_session *session = lanes.session[3].session;
    struct knit_session_outcome outcome;

    (void)state;
    lanes_add_worker(&lanes, 9, OWNER + 1);
    for (uint32_t i = 0; i < 4; i++)
        (void)publish(3, 100 + i, 8);
    for (uint32_t i = 0; i < 2; i++) {
        turn();
        assert_int_equal(knit_lane_turn(lanes.worker[9]), KNIT_LANE_RUNNING);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_false(knit_session_arm(session));
        assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
    }
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
}

/* A task writes the count; it hides an answer for some looks, or until a sleep that nobody ends. */
static void a_count_that_was_put_back_delays_an_answer_and_loses_none(void **state)
{
    struct knit_session *session = lanes.session[3].session;
    uint32_t before, looks = 0;

    (void)state;
    for (int sleeps = 0; sleeps < 2; sleeps++) {
        before = atomic_load_explicit(strays(3), memory_order_relaxed);
        (void)publish(3, 100, 8);
        turn();
        atomic_store_explicit(strays(3), before, memory_order_relaxed);
        if (sleeps == 1) {
            assert_true(knit_session_arm(session));
            knit_session_disarm(session);
            assert_int_equal(collect(3), 1);
        } else {
            while (collect(3) == 0)
                assert_true(++looks < KNIT_BITS_DOUBTED);
        }
    }
}

static void a_count_that_rises_for_nothing_costs_looks_and_nothing_else(void **state)
{
    struct knit_session *session = lanes.session[3].session;

    (void)state;
    (void)publish(3, OWN, 8);
    for (uint32_t i = 0; i < 3; i++) {
        atomic_fetch_add_explicit(strays(3), 77, memory_order_relaxed);
        assert_false(knit_session_arm(session));
        assert_int_equal(collect(3), 0);
        assert_true(knit_session_arm(session));
        knit_session_disarm(session);
    }
    turn();
    assert_int_equal(collect(3), 1);
}

/* ---- replies that wait for room ---- */

/* The call of a session that is cold at home was stolen; its reply waits for room in the arena. */
static void a_deferred_reply_is_sent_although_home_is_busy(void **state)
{
    enum { LARGE = ARENA / 3 + 64 };
    struct knit_session *thrifty = lanes.session[4].session;
    struct knit_session_outcome held[2], last;
    uint32_t slot[3], turns = 0;

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        slot[i] = publish(4, 100, LARGE);
        while (!knit_session_collect_slot(thrifty, slot[i], &held[i]))
            turn();
        assert_true(held[i].held);
    }
    slot[2] = publish(4, 100, LARGE);
    for (uint32_t i = 0; i < 8; i++)
        turn();
    assert_true(lanes.worker[OWN]->sessions[4]->deferred.any);
    for (uint32_t i = 0; i < 2; i++)
        knit_session_release(thrifty, held[i].slot);
    for (; !knit_session_collect_slot(thrifty, slot[2], &last); turns++) {
        assert_true(turns < 100);
        (void)collect(0);
        while (knit_session_slots_free(lanes.session[0].session) > 0)
            (void)publish(0, OWN, 8);
        turn();
    }
    knit_session_release(thrifty, last.slot);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_lane_is_occupied_from_publish_to_collect),
        TEST(a_lane_whose_call_is_collected_before_the_flush_stays_occupied),
        TEST(all_rings_are_come_to_in_turn),
        TEST(bits_without_calls_cost_looks_and_nothing_else),
        TEST(a_call_of_which_its_caller_says_nothing_is_found_at_home),
        TEST(a_stolen_call_is_collected_at_the_next_look),
        TEST(what_a_look_leaves_is_collected_at_the_next_one),
        TEST(a_count_that_was_put_back_delays_an_answer_and_loses_none),
        TEST(a_count_that_rises_for_nothing_costs_looks_and_nothing_else),
        TEST(a_deferred_reply_is_sent_although_home_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
