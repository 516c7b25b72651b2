/* SPDX-License-Identifier: Apache-2.0 */
/* How callers and siblings find a parked worker, and that wrong bits in `parked` lose none. Method:
 * park words of lanes without a worker are stored by hand, and it is looked at whose bell moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_bits.h"
#include "fastpath/lane/lane_private.h"
#include "tests/fastpath/lanes.h"

enum { SLOTS = 8, LANES = 130, OWN = 7, OWNER = 5, ARENA = 64 << 10 };

static struct lanes lanes;
static struct knit_session *session;

/* A caller whose call waits in the lane of a worker that serves and does not come to it. */
static int setup(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, LANES, true, 0);
    session = lanes_add_session(&lanes, SLOTS, ARENA, 0)->session;
    lanes_add_worker(&lanes, OWN, OWNER);
    call.lane = OWN;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t parks(uint32_t lane, bool is_said)
{
    _Atomic uint32_t *word = &lanes.board.park[lane].value;
    const uint32_t park =
        knit_park_next(atomic_load_explicit(word, memory_order_relaxed), KNIT_PARK_PARKED);

    atomic_store_explicit(word, park, memory_order_relaxed);
    knit_board_say_parked(&lanes.board, lane, is_said);
    return park;
}

static void say_all(uint64_t bits)
{
    for (uint32_t i = 0; i < KNIT_LANE_WORDS; i++)
        atomic_store_explicit(&lanes.board.parked[i], bits, memory_order_relaxed);
}

/* The caller is about to sleep. */
static void caller_searches(void)
{
    assert_true(knit_session_arm(session));
    knit_session_disarm(session);
}

static void sibling_searches(void)
{
    knit_lane_wake_sibling(lanes.worker[OWN]);
}

static uint32_t bell(uint32_t lane)
{
    return atomic_load_explicit(&lanes.session[0].request.bell[lane], memory_order_relaxed);
}

static uint32_t lane_bell(uint32_t lane)
{
    return atomic_load_explicit(&lanes.pool.lane_bell[lane].value, memory_order_relaxed);
}

/* ---- */

static void each_search_wakes_the_next_of_those_that_are_parked(void **state)
{
    static const uint32_t at[] = {0, 63, 64, 128, LANES - 1};

    (void)state;
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        (void)parks(at[i], true);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        assert_int_equal(bell(at[i]), 0);
        assert_int_equal(lane_bell(at[i]), 0);
        caller_searches();
        sibling_searches();
        assert_int_equal(bell(at[i]),
            atomic_load_explicit(&lanes.board.park[at[i]].value, memory_order_relaxed));
        assert_int_equal(lane_bell(at[i]), 1);
    }
    caller_searches();
    sibling_searches();
    assert_int_equal(knit_session_counters(session)->wakes, sizeof(at) / sizeof(at[0]));
}

static void a_worker_says_that_it_is_parked_while_it_is(void **state)
{
    const struct knit_board_view *board = &lanes.board;

    (void)state;
    assert_false(knit_board_is_said_parked(board, OWN));
    knit_lane_announce(lanes.worker[OWN], KNIT_PARK_PARKED);
    assert_true(knit_board_is_said_parked(board, OWN));
    knit_lane_announce(lanes.worker[OWN], KNIT_PARK_AWAKE);
    assert_false(knit_board_is_said_parked(board, OWN));
    /* What a dead worker left. */
    knit_board_say_parked(board, 9, true);
    lanes_add_worker(&lanes, 9, OWNER + 1);
    assert_false(knit_board_is_said_parked(board, 9));
}

static void bits_too_many_cost_looks_and_nothing_else(void **state)
{
    uint32_t park;

    (void)state;
    say_all(UINT64_MAX);
    for (uint32_t i = 0; i < 2 * KNIT_BITS_DOUBTED; i++) {
        caller_searches();
        sibling_searches();
    }
    assert_int_equal(knit_session_counters(session)->wakes, 0);
    for (uint32_t i = 0; i < LANES; i++)
        assert_true(lane_bell(i) == 0 || i == OWN);
    park = parks(LANES - 1, true);
    caller_searches();
    sibling_searches();
    assert_int_equal(bell(LANES - 1), park);
    assert_int_equal(lane_bell(LANES - 1), 1);
}

static void a_bit_that_is_missing_delays_a_wake_and_loses_none(void **state)
{
    const uint32_t park = parks(100, false);

    (void)state;
    for (uint32_t i = 0; bell(100) != park; i++) {
        assert_true(i < KNIT_BITS_DOUBTED);
        caller_searches();
    }
    for (uint32_t i = 0; lane_bell(100) == 0; i++) {
        assert_true(i < KNIT_BITS_DOUBTED);
        sibling_searches();
    }
}

static void a_call_of_its_own_lane_wakes_it_without_the_bit(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    const uint32_t park = parks(100, false);
    uint32_t slot;

    (void)state;
    call.lane = 100;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_flush(session);
    assert_int_equal(bell(100), park);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_search_wakes_the_next_of_those_that_are_parked),
        TEST(a_worker_says_that_it_is_parked_while_it_is),
        TEST(bits_too_many_cost_looks_and_nothing_else),
        TEST(a_bit_that_is_missing_delays_a_wake_and_loses_none),
        TEST(a_call_of_its_own_lane_wakes_it_without_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
