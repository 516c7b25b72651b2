/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of a lane: in which order a worker serves them, that none starves, and that other
 * sessions do not notice. Method: workers driven by hand, and the clock too, for a call that stands
 * while the machine does would come before others; with one lane the completions stand in the order
 * in which calls were served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/recovery.h"
#include "tests/fastpath/hand_clock.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/random.h"

enum {
    SLOTS = 200,
    ARENA = 64 << 10,
    LONG_US = 50, /* ends a turn, and more than a session's burst may take */
    TURNS_MAX = 4000,
    AGE_NS = 100000000,
};

static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
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

static struct knit_session *begin(uint32_t lane_count)
{
    lanes_init(&lanes, lane_count, true, 0);
    return lanes_add_session(&lanes, SLOTS, ARENA, 0)->session;
}

static uint32_t publish_to(
    struct knit_session *session, enum knit_ring ring, uint32_t lane, uint32_t us)
{
    struct knit_session_call call = lanes_call(us == 0 ? LANES_ECHO : LANES_SPIN, &us, sizeof(us));
    uint32_t slot;

    call.ring = ring;
    call.lane = lane;
    call.user = (void *)(uintptr_t)(ring + 1);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    return slot;
}

static void publish(struct knit_session *session, enum knit_ring ring, uint32_t us, uint32_t count)
{
    while (count-- > 0)
        (void)publish_to(session, ring, 0, us);
}

/* The rings of the calls served so far, in their order, behind those that are known. */
static uint32_t collect(struct knit_session *session, uint8_t *rings, uint32_t count)
{
    struct knit_session_outcome outcomes[SLOTS];
    const size_t got = knit_session_collect(session, outcomes, SLOTS - count);

    for (size_t i = 0; i < got; i++)
        rings[count + i] = (uint8_t)((uintptr_t)outcomes[i].user - 1);
    return count + (uint32_t)got;
}

/* Turns until so many were served. */
static void serve(struct knit_session *session, uint8_t *rings, uint32_t wanted)
{
    uint32_t count = 0;

    for (int turns = 0; count < wanted; turns++) {
        assert_true(turns < TURNS_MAX);
        (void)knit_lane_turn(lanes.worker[0]);
        count = collect(session, rings, count);
    }
    assert_int_equal(count, wanted);
}

static uint32_t count_of(const uint8_t *rings, uint32_t count, enum knit_ring ring)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++)
        found += rings[i] == ring;
    return found;
}

/* ---- order ---- */

static void urgent_calls_come_first_and_background_ones_last(void **state)
{
    struct knit_session *session = begin(1);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t us = 0; us <= LONG_US; us += LONG_US) {
        publish(session, KNIT_RING_BACKGROUND, us, 5);
        publish(session, KNIT_RING_NORMAL, us, 5);
        publish(session, KNIT_RING_URGENT, us, 5);
        serve(session, rings, 15);
        for (uint32_t i = 0; i < 15; i++)
            assert_int_equal(rings[i], i < 5    ? KNIT_RING_URGENT
                                       : i < 10 ? KNIT_RING_NORMAL
                                                : KNIT_RING_BACKGROUND);
    }
}

static void calls_of_one_ring_keep_their_order(void **state)
{
    struct knit_session *session = begin(1);
    struct knit_session_outcome outcomes[SLOTS];
    uint32_t slots[KNIT_CLASSES_MAX][30], next[KNIT_CLASSES_MAX] = {0};
    uint32_t count = 0;

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 30; i++) {
        for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++)
            slots[ring][i] = publish_to(session, ring, 0, 0);
    }
    for (int turns = 0; count < 30 * KNIT_CLASSES_MAX; turns++) {
        size_t got;

        assert_true(turns < TURNS_MAX);
        (void)knit_lane_turn(lanes.worker[0]);
        got = knit_session_collect(session, outcomes, SLOTS);
        for (size_t i = 0; i < got; i++) {
            const uintptr_t ring = (uintptr_t)outcomes[i].user - 1;

            assert_int_equal(outcomes[i].slot, slots[ring][next[ring]++]);
        }
        count += (uint32_t)got;
    }
}

static void pinned_and_normal_calls_take_turns(void **state)
{
    struct knit_session *session = begin(1);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    publish(session, KNIT_RING_NORMAL, 0, 20);
    publish(session, KNIT_RING_PINNED, 0, 20);
    serve(session, rings, 40);
    for (uint32_t i = 1; i < 40; i++)
        assert_int_not_equal(rings[i], rings[i - 1]);
}

/* ---- nothing starves ---- */

static void a_later_ring_has_one_call_after_sixteen_of_earlier_ones(void **state)
{
    static const struct {
        enum knit_ring earlier, later;
    } cases[] = {
        {KNIT_RING_URGENT, KNIT_RING_BACKGROUND},
        {KNIT_RING_URGENT, KNIT_RING_NORMAL},
        {KNIT_RING_URGENT, KNIT_RING_PINNED},
        {KNIT_RING_NORMAL, KNIT_RING_BACKGROUND},
        {KNIT_RING_PINNED, KNIT_RING_BACKGROUND},
    };
    struct knit_session *session = begin(1);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        publish(session, cases[i].earlier, 0, 100);
        publish(session, cases[i].later, 0, 10);
        serve(session, rings, 110);
        for (uint32_t served = 17; served <= 5 * 17; served += 17)
            assert_int_equal(count_of(rings, served, cases[i].later), served / 17);
    }
}

/* Though its tasks are long and sixteen of them would take seconds. */
static void a_call_that_has_stood_for_a_tenth_of_a_second_is_next(void **state)
{
    struct knit_session *session = begin(1);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    publish(session, KNIT_RING_URGENT, LONG_US, 4);
    publish(session, KNIT_RING_BACKGROUND, LONG_US, 2);
    serve(session, rings, 1);
    hand_clock_pass(AGE_NS);
    serve(session, &rings[1], 1);
    serve(session, &rings[2], 1);
    assert_int_equal(rings[0], KNIT_RING_URGENT);
    assert_int_equal(rings[1], KNIT_RING_BACKGROUND);
    assert_int_equal(rings[2], KNIT_RING_URGENT);
}

/* Each call takes a tenth of a second, so in each other ring one has always stood for so long. */
static void where_all_calls_are_long_each_ring_has_its_turn(void **state)
{
    struct knit_session *session = begin(1);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    publish(session, KNIT_RING_URGENT, LONG_US, 10);
    publish(session, KNIT_RING_NORMAL, LONG_US, 10);
    publish(session, KNIT_RING_BACKGROUND, LONG_US, 10);
    for (uint32_t served = 0; served < 12; served++) {
        serve(session, &rings[served], 1);
        hand_clock_pass(AGE_NS);
    }
    assert_int_equal(rings[0], KNIT_RING_URGENT);
    assert_int_equal(count_of(rings, 12, KNIT_RING_URGENT), 4);
    assert_int_equal(count_of(rings, 12, KNIT_RING_NORMAL), 4);
    assert_int_equal(count_of(rings, 12, KNIT_RING_BACKGROUND), 4);
}

/* ---- other sessions ---- */

static void urgent_calls_take_nothing_from_another_session(void **state)
{
    struct knit_session *greedy = begin(1);
    struct knit_session *modest = lanes_add_session(&lanes, SLOTS, ARENA, 0)->session;
    uint8_t rings[SLOTS];
    uint32_t urgent = 0, normal = 0;

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    publish(greedy, KNIT_RING_URGENT, 200, 60);
    publish(modest, KNIT_RING_NORMAL, 200, 60);
    while (urgent + normal < 60) {
        (void)knit_lane_turn(lanes.worker[0]);
        urgent = collect(greedy, rings, urgent);
        normal = collect(modest, rings, normal);
    }
    assert_in_range(normal, 28, 32);
}

/* ---- pages ---- */

static bool is_resident(const struct knit_request_cell *ring)
{
    unsigned char page;

    assert_int_equal(mincore((void *)((uintptr_t)ring & ~(uintptr_t)(KNIT_PAGE - 1)), 1, &page), 0);
    return (page & 1) != 0;
}

static void a_ring_that_was_never_used_has_no_pages(void **state)
{
    struct knit_session *session = begin(2);
    struct lanes_session *side = &lanes.session[0];
    const struct knit_request_cell *urgent =
        knit_layout_ring(&side->geometry, &side->request, 1, KNIT_RING_URGENT);
    uint8_t rings[SLOTS];

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 4; i++) {
        publish(session, KNIT_RING_NORMAL, 0, 50);
        serve(session, rings, 50);
        (void)knit_lane_turn(lanes.worker[0]);
    }
    assert_true(is_resident(side->request.ring));
    assert_false(is_resident(urgent));
    (void)publish_to(session, KNIT_RING_URGENT, 1, 0);
    assert_true(is_resident(urgent));
}

/* ---- thieves ---- */

static void a_thief_takes_urgent_calls_first_and_leaves_pinned_ones(void **state)
{
    struct knit_session *session = begin(2);
    uint32_t pinned, normal, urgent;
    struct knit_session_outcome outcome;

    (void)state;
    lanes_add_worker(&lanes, 0, 5);
    lanes_add_worker(&lanes, 1, 6);
    pinned = publish_to(session, KNIT_RING_PINNED, 1, 0);
    normal = publish_to(session, KNIT_RING_NORMAL, 1, 0);
    urgent = publish_to(session, KNIT_RING_URGENT, 1, 0);
    while (!knit_session_has_started(session, urgent)) {
        assert_false(knit_session_has_started(session, normal));
        (void)knit_lane_turn(lanes.worker[0]);
    }
    while (!knit_session_has_started(session, normal))
        (void)knit_lane_turn(lanes.worker[0]);
    for (uint64_t parks = knit_board_counts(&lanes.board, 0).parks, i = 1; i < 5; i++) {
        (void)knit_lane_turn(lanes.worker[0]);
        assert_int_equal(knit_board_counts(&lanes.board, 0).parks, parks + i);
    }
    assert_false(knit_session_has_started(session, pinned));
    assert_true(knit_session_collect_slot(session, normal, &outcome));
    assert_int_equal(outcome.lane, 0);

    lanes_stop_worker(&lanes, 1);
    knit_recovery_vacate(&lanes.board, &lanes.pool, 2, 1);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(session, pinned, &outcome));
    assert_int_equal(outcome.lane, 0);
}

/* ---- nobody serves ---- */

static void calls_of_all_rings_are_refused_when_no_worker_lives(void **state)
{
    struct knit_session *session = begin(2);
    struct lanes_session *side = &lanes.session[0];
    const struct knit_host_session_view view = {
        .geometry = side->geometry, .request = side->request, .reply = side->reply, .bell_fd = -1};
    struct knit_recovery_error error;
    uint32_t slots[2 * KNIT_CLASSES_MAX];

    (void)state;
    knit_recovery_make_error(&error, KNIT_NO_WORKER, KNIT_STARTED_NO, "nobody", 0, 0);
    assert_true(knit_recovery_is_idle(&view));
    for (uint32_t i = 0; i < 2 * KNIT_CLASSES_MAX; i++)
        slots[i] = publish_to(session, i / 2, i % 2, 0);
    assert_false(knit_recovery_is_idle(&view));
    assert_int_equal(knit_recovery_refuse(&view, &error), 2 * KNIT_CLASSES_MAX);
    assert_true(knit_recovery_is_idle(&view));
    for (uint32_t i = 0; i < 2 * KNIT_CLASSES_MAX; i++) {
        struct knit_session_outcome outcome;

        assert_true(knit_session_collect_slot(session, slots[i], &outcome));
        assert_int_equal(outcome.status, KNIT_STATUS_ERROR);
    }
}

/* ---- each once ---- */

/* Workers on threads, calls of random rings and lanes: each runs exactly once. */
static void each_call_of_any_ring_runs_once(void **state)
{
    enum { CALLS = 20000 };
    struct knit_session_outcome outcomes[SLOTS];
    struct knit_session *session;
    struct knit_random random;
    uint32_t published = 0, collected = 0;

    (void)state;
    knit_random_init(&random);
    session = begin(3);
    lanes.executions = calloc(CALLS, sizeof(*lanes.executions));
    lanes.executions_count = CALLS;
    assert_non_null((void *)lanes.executions);
    for (uint32_t i = 0; i < 3; i++)
        lanes_start_worker(&lanes, i, 5 + i);
    while (collected < CALLS) {
        while (published < CALLS && knit_session_slots_free(session) > 0) {
            struct knit_session_call call = lanes_call(LANES_COUNT, &published, sizeof(published));
            uint32_t slot;

            call.ring = (enum knit_ring)knit_random_below(&random, KNIT_CLASSES_MAX);
            call.lane = (uint32_t)knit_random_below(&random, 3);
            assert_int_equal(knit_session_publish(session, &call, &slot), 0);
            published++;
            if (knit_random_below(&random, 20) == 0)
                break;
        }
        (void)knit_session_wait(session, KNIT_SLOT_ANY, knit_clock_ns() + 1000000000);
        collected += (uint32_t)knit_session_collect(session, outcomes, SLOTS);
    }
    for (uint32_t i = 0; i < CALLS; i++)
        assert_int_equal(atomic_load_explicit(&lanes.executions[i], memory_order_relaxed), 1);
    for (uint32_t i = 0; i < 3; i++)
        lanes_stop_worker(&lanes, i);
    free((void *)lanes.executions);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(urgent_calls_come_first_and_background_ones_last),
        TEST(calls_of_one_ring_keep_their_order),
        TEST(pinned_and_normal_calls_take_turns),
        TEST(a_later_ring_has_one_call_after_sixteen_of_earlier_ones),
        TEST(a_call_that_has_stood_for_a_tenth_of_a_second_is_next),
        TEST(where_all_calls_are_long_each_ring_has_its_turn),
        TEST(urgent_calls_take_nothing_from_another_session),
        TEST(a_ring_that_was_never_used_has_no_pages),
        TEST(a_thief_takes_urgent_calls_first_and_leaves_pinned_ones),
        TEST(calls_of_all_rings_are_refused_when_no_worker_lives),
        cmocka_unit_test_teardown(each_call_of_any_ring_runs_once, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
