/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a flush is enough for a call to begin while a worker is idle, whatever the workers of its
 * lane do. Method: three workers, of which one or two stand at a gate and the others are parked;
 * the caller publishes, flushes and looks at what the task counts, not at its session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static bool is_parked(uint32_t lane)
{
    return KNIT_WAIT_UNTIL(knit_board_park_state(&lanes.board, lane) == KNIT_PARK_PARKED, 10000);
}

static uint32_t flush_to_lane_0(struct knit_session *session, uint32_t task, uint32_t index)
{
    struct knit_session_call call = {
        .task = task, .lane = 0, .payload = &index, .len = sizeof(index)};
    uint32_t slot;

    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_flush(session);
    return slot;
}

static bool has_run(uint32_t index)
{
    return KNIT_WAIT_UNTIL(
        atomic_load_explicit(&lanes.executions[index], memory_order_acquire) == 1, 10000);
}

static bool are_at_gate(uint32_t count)
{
    return KNIT_WAIT_UNTIL(
        atomic_load_explicit(&lanes.at_gate, memory_order_acquire) == count, 10000);
}

/* The caller enters the session for nothing but publish and flush. */
static void what_is_flushed_behind_a_long_call_begins_by_itself(void **state)
{
    static _Atomic uint32_t executions[4];
    struct knit_session_outcome outcome;
    struct knit_session *session;
    uint32_t stolen, taken;

    (void)state;
    lanes_init(&lanes, 3, true, 0);
    lanes.executions = executions;
    lanes.executions_count = 4;
    session = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    (void)flush_to_lane_0(session, LANES_GATE, 0);
    assert_true(are_at_gate(1));
    lanes_start_worker(&lanes, 1, 6);
    lanes_start_worker(&lanes, 2, 7);

    assert_true(is_parked(1) && is_parked(2));
    stolen = flush_to_lane_0(session, LANES_COUNT, 0); /* the call before it runs */
    assert_true(has_run(0));
    assert_true(is_parked(1) && is_parked(2));
    (void)flush_to_lane_0(session, LANES_COUNT, 1); /* the one before is over, an older one runs */
    assert_true(has_run(1));
    assert_true(is_parked(1) && is_parked(2));
    assert_true(knit_session_collect_slot(session, stolen, &outcome));
    taken = flush_to_lane_0(session, LANES_COUNT, 2);
    assert_true(has_run(2));
    assert_true(is_parked(1) && is_parked(2));
    assert_true(knit_session_collect_slot(session, taken, &outcome));
    (void)flush_to_lane_0(session, LANES_GATE, 0); /* the one before was collected */
    assert_true(are_at_gate(2));
    (void)flush_to_lane_0(session, LANES_COUNT, 3); /* a thief runs the one before */
    assert_true(has_run(3));
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    knit_bell_wake(&lanes.gate, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_flushed_behind_a_long_call_begins_by_itself, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
