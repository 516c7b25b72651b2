/* SPDX-License-Identifier: Apache-2.0 */
/* How much a session with a depth puts into its lanes. Method: no worker or one driven by hand; the
 * mean times of tasks are written onto the board as if workers had measured them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/wake.h"
#include "tests/fastpath/lanes.h"

enum { SLOTS = 64, DEPTH_NS = 500000 };

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static struct knit_session *with_lanes(uint32_t count)
{
    lanes_init(&lanes, count, false, 0);
    lanes.depth_ns = DEPTH_NS;
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&lanes.board.park[i].value, KNIT_PARK_AWAKE, memory_order_relaxed);
    return lanes_add_session(&lanes, SLOTS, 65536, 0)->session;
}

static void set_mean(uint32_t task, uint32_t ns)
{
    atomic_store_explicit(&lanes.board.mean_ns[task], ns, memory_order_relaxed);
}

static int publish(struct knit_session *session, uint32_t task, uint32_t lane)
{
    struct knit_session_call call = lanes_call(task, NULL, 0);
    uint32_t slot;

    call.lane = lane;
    return knit_session_publish(session, &call, &slot);
}

/* Until one finds no room. */
static uint32_t fill(struct knit_session *session, uint32_t task, uint32_t lane)
{
    uint32_t count = 0;
    int r;

    while ((r = publish(session, task, lane)) == 0)
        count++;
    assert_int_equal(r, KNIT_SESSION_E_CROWDED);
    return count;
}

static size_t serve_and_collect(struct knit_session *session)
{
    struct knit_session_outcome outcomes[SLOTS];

    (void)knit_lane_turn(lanes.worker[0]);
    return knit_session_collect(session, outcomes, SLOTS);
}

static void a_lane_holds_so_much_work_and_two_calls_in_any_case(void **state)
{
    static const struct {
        uint32_t mean_ns, calls;
    } cases[] = {{0, 2}, {UINT32_MAX, 2}, {5000000, 2}, {250001, 2}, {250000, 2}, {249999, 2},
        {100000, 5}, {10000, 50}};
    struct knit_session *session;

    (void)state;
    session = with_lanes(1);
    lanes_add_worker(&lanes, 0, 5);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_mean(LANES_ECHO, cases[i].mean_ns);
        assert_int_equal(fill(session, LANES_ECHO, KNIT_LANE_ANY), cases[i].calls);
        assert_false(knit_session_has_room(session));
        while (knit_session_in_flight(session) > 0)
            (void)serve_and_collect(session);
        assert_true(knit_session_has_room(session));
    }
    /* What a task wrote there does not make it deeper than there are slots. */
    set_mean(LANES_ECHO, 1);
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_int_equal(publish(session, LANES_ECHO, KNIT_LANE_ANY), 0);
    assert_int_equal(publish(session, LANES_ECHO, KNIT_LANE_ANY), KNIT_SESSION_E_FULL);
}

/* What is counted at the publish is taken away at the end, whatever the mean has become. */
static void a_mean_that_changes_meanwhile_spoils_no_count(void **state)
{
    struct knit_session *session;

    (void)state;
    session = with_lanes(1);
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 50; i++) {
        set_mean(LANES_ECHO, i % 2 == 0 ? 0 : 1000);
        assert_int_equal(publish(session, LANES_ECHO, KNIT_LANE_ANY), 0);
        set_mean(LANES_ECHO, i % 2 == 0 ? 1000 : UINT32_MAX);
        assert_int_equal(serve_and_collect(session), 1);
    }
    set_mean(LANES_ECHO, 0);
    assert_int_equal(fill(session, LANES_ECHO, KNIT_LANE_ANY), 2);
}

static void each_lane_is_filled_before_one_is_crowded(void **state)
{
    struct knit_session *session;

    (void)state;
    session = with_lanes(3);
    assert_int_equal(fill(session, LANES_GATE, KNIT_LANE_ANY), 6);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(knit_session_has_room_in(session, i));
}

/* A lane without a worker is used when no other has one. */
static void lanes_without_a_worker_are_passed_over(void **state)
{
    struct knit_session *session;

    (void)state;
    session = with_lanes(3);
    atomic_store_explicit(&lanes.board.park[0].value, KNIT_PARK_VACANT, memory_order_relaxed);
    atomic_store_explicit(&lanes.board.park[2].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_int_equal(fill(session, LANES_GATE, KNIT_LANE_ANY), 2);
    assert_true(knit_session_has_room_in(session, 0));
    assert_false(knit_session_has_room(session));
    atomic_store_explicit(&lanes.board.park[1].value, KNIT_PARK_VACANT, memory_order_relaxed);
    assert_true(knit_session_has_room(session));
    assert_int_equal(fill(session, LANES_GATE, KNIT_LANE_ANY), 4);
}

static void a_call_for_one_lane_finds_no_room_in_others(void **state)
{
    struct knit_session *session;

    (void)state;
    session = with_lanes(2);
    assert_int_equal(fill(session, LANES_GATE, 1), 2);
    assert_false(knit_session_has_room_in(session, 1));
    assert_true(knit_session_has_room_in(session, 0));
    assert_true(knit_session_has_room(session));
    assert_int_equal(fill(session, LANES_GATE, KNIT_LANE_ANY), 2);
}

static void without_a_depth_lanes_are_filled(void **state)
{
    struct knit_session *session;

    (void)state;
    session = with_lanes(1);
    assert_int_equal(fill(session, LANES_GATE, KNIT_LANE_ANY), 2);
    knit_session_fill_lanes(session);
    assert_true(knit_session_has_room(session));
    for (uint32_t i = 2; i < SLOTS; i++)
        assert_int_equal(publish(session, LANES_GATE, KNIT_LANE_ANY), 0);
    assert_int_equal(publish(session, LANES_GATE, KNIT_LANE_ANY), KNIT_SESSION_E_FULL);
    /* Those that were counted end as all others. */
    lanes_add_worker(&lanes, 0, 5);
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    while (knit_session_in_flight(session) > 0)
        (void)serve_and_collect(session);
    assert_int_equal(knit_session_slots_free(session), SLOTS);
}

/* ---- what workers show ---- */

static void workers_show_what_tasks_take(void **state)
{
    struct knit_session *session;
    uint32_t us = 300, slot, shown;
    struct knit_session_call call = lanes_call(LANES_SPIN, &us, sizeof(us));

    (void)state;
    session = with_lanes(1);
    lanes_add_worker(&lanes, 0, 5);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), 0);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_int_equal(serve_and_collect(session), 1);
    shown = knit_board_mean_ns(&lanes.board, LANES_SPIN);
    assert_true(shown >= us * 1000);
    /* Not for each small change, so that lines stay with those who read them. */
    knit_board_note_mean(&lanes.board, LANES_SPIN, shown + shown / 10);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), shown);
    knit_board_note_mean(&lanes.board, LANES_SPIN, shown - shown / 10);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), shown);
    knit_board_note_mean(&lanes.board, LANES_SPIN, shown + shown / 4);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), shown + shown / 4);
    knit_board_note_mean(&lanes.board, LANES_SPIN, 1);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), 1);
    knit_board_note_mean(&lanes.board, LANES_SPIN, UINT32_MAX);
    assert_int_equal(knit_board_mean_ns(&lanes.board, LANES_SPIN), UINT32_MAX);
}

/* A worker that had to wait for its core does not make a short task long; a task that has become
 * long is known as that after a few runs. */
static void one_long_run_among_short_ones_says_little(void **state)
{
    struct knit_session *session;
    uint32_t us = 3000, slot, runs = 0;
    struct knit_session_call call = lanes_call(LANES_SPIN, &us, sizeof(us));

    (void)state;
    session = with_lanes(1);
    lanes_add_worker(&lanes, 0, 5);
    lanes.worker[0]->mean_ns[LANES_SPIN] = 500;
    lanes.worker[0]->unmeasured = 1;
    do {
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        assert_int_equal(serve_and_collect(session), 1);
        if (++runs == 1)
            assert_true(knit_board_mean_ns(&lanes.board, LANES_SPIN) < 10000);
        assert_true(runs <= 50);
    } while (knit_board_mean_ns(&lanes.board, LANES_SPIN) < DEPTH_NS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_lane_holds_so_much_work_and_two_calls_in_any_case, teardown),
        cmocka_unit_test_teardown(a_mean_that_changes_meanwhile_spoils_no_count, teardown),
        cmocka_unit_test_teardown(each_lane_is_filled_before_one_is_crowded, teardown),
        cmocka_unit_test_teardown(lanes_without_a_worker_are_passed_over, teardown),
        cmocka_unit_test_teardown(a_call_for_one_lane_finds_no_room_in_others, teardown),
        cmocka_unit_test_teardown(without_a_depth_lanes_are_filled, teardown),
        cmocka_unit_test_teardown(workers_show_what_tasks_take, teardown),
        cmocka_unit_test_teardown(one_long_run_among_short_ones_says_little, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
