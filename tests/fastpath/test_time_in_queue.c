/* SPDX-License-Identifier: Apache-2.0 */
/* The time that a call may wait before it starts, on both sides of a lane; test_overtaken.c has the
 * races. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static struct knit_session *with_one_lane(uint32_t slots, uint64_t arena_bytes)
{
    lanes_init(&lanes, 1, false, 0);
    return lanes_add_session(&lanes, slots, arena_bytes, 0)->session;
}

static int refusal_of(const struct knit_session_outcome *outcome)
{
    int code;

    assert_int_equal(outcome->status, KNIT_STATUS_ERROR);
    memcpy(&code, outcome->payload, sizeof(code));
    return code;
}

static void the_end_of_the_time_in_the_queue_ends_no_call_that_has_started(void **state)
{
    struct knit_session_outcome outcome;
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_GATE, NULL, 0);
    _Atomic uint32_t executions[4] = {0};
    uint32_t running, queued, index = 1;

    (void)state;
    session = with_one_lane(4, 65536);
    lanes.executions_count = 4;
    lanes.executions = executions;
    lanes_start_worker(&lanes, 0, 5);
    assert_int_equal(knit_session_publish(session, &call, &running), 0);
    knit_session_flush(session);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.at_gate, memory_order_acquire) == 1, 10000));
    call = lanes_call(LANES_COUNT, &index, 4);
    assert_int_equal(knit_session_publish(session, &call, &queued), 0);
    assert_false(knit_session_withdraw(session, running));
    assert_true(knit_session_withdraw(session, queued));
    assert_false(knit_session_withdraw(session, queued));
    assert_int_equal(knit_session_in_flight(session), 1);
    /* The running one goes on until its gate opens. */
    assert_int_equal(
        knit_session_wait(session, running, knit_clock_ns() + 20000000), KNIT_SESSION_E_TIMEOUT);
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    lanes_wait_for(session, running, &outcome);
    assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    while (knit_session_slots_free(session) < 4)
        (void)knit_session_collect(session, &outcome, 1);
    assert_int_equal(atomic_load_explicit(&executions[1], memory_order_relaxed), 0);
}

/* The caller looks at the claim when the worker has claimed and before it looks at the abort. */
static void a_call_that_is_claimed_and_overdue_is_refused_by_its_worker(void **state)
{
    struct knit_session_outcome outcome;
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot;

    (void)state;
    session = with_one_lane(4, 65536);
    lanes_add_worker(&lanes, 0, 5);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    atomic_store_explicit(&lanes.session[0].request.abort[slot],
        knit_session_gen(session, slot) | KNIT_ABORT_IF_QUEUED, memory_order_seq_cst);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    assert_int_equal(refusal_of(&outcome), KNIT_TIMEOUT);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_abort(session, slot);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    assert_int_equal(refusal_of(&outcome), KNIT_CANCELLED);
}

/* A deadline that is only the last moment to start at is none to the task. */
static void the_last_moment_to_start_at_is_no_deadline_of_the_task(void **state)
{
    struct knit_session_outcome outcome;
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot;

    (void)state;
    session = with_one_lane(4, 65536);
    lanes_add_worker(&lanes, 0, 5);
    call.flags = KNIT_CELL_START_BY;
    call.deadline_ns = 1;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    assert_int_equal(refusal_of(&outcome), KNIT_TIMEOUT);
    for (int i = 0; i < 2; i++) {
        call.deadline_ns = knit_clock_ns() + 60000000000;
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        (void)knit_lane_turn(lanes.worker[0]);
        assert_true(knit_session_collect_slot(session, slot, &outcome));
        assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
        assert_int_equal(knit_board_deadline_ns(&lanes.board, 0), i == 0 ? 0 : call.deadline_ns);
        call.flags = 0;
    }
}

static void what_must_start_at_once_goes_to_an_idle_lane_or_nowhere(void **state)
{
    struct knit_session_outcome outcome;
    struct knit_session *session, *other;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot, more;

    (void)state;
    lanes_init(&lanes, 2, true, 0);
    session = lanes_add_session(&lanes, 8, 65536, 0)->session;
    other = lanes_add_session(&lanes, 8, 65536, 0)->session;
    /* No lane has a worker. */
    assert_int_equal(knit_session_publish_at_once(session, &call, &slot), KNIT_SESSION_E_BUSY);
    lanes_add_worker(&lanes, 1, 6);
    assert_int_equal(knit_session_publish_at_once(session, &call, &slot), 0);
    assert_int_equal(session->slots[slot].lane, 1);
    /* One of this session is queued there. */
    assert_int_equal(knit_session_publish_at_once(session, &call, &more), KNIT_SESSION_E_BUSY);
    lanes_add_worker(&lanes, 0, 5);
    assert_int_equal(knit_session_publish_at_once(session, &call, &more), 0);
    assert_int_equal(session->slots[more].lane, 0);
    call.lane = 1;
    assert_int_equal(knit_session_publish_at_once(session, &call, &more), KNIT_SESSION_E_BUSY);
    call.lane = KNIT_LANE_ANY;
    /* It is answered, though its worker has not seen yet that its rings are empty. */
    (void)knit_lane_turn(lanes.worker[1]);
    assert_true(knit_session_is_answered(session, slot));
    assert_true(knit_board_is_running(&lanes.board, 1));
    assert_int_equal(knit_session_publish_at_once(session, &call, &more), 0);
    assert_int_equal(session->slots[more].lane, 1);
    (void)knit_lane_turn(lanes.worker[1]);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
    /* A call of another session runs there, as far as this one can see. */
    assert_int_equal(knit_session_publish_at_once(other, &call, &slot), KNIT_SESSION_E_BUSY);
    /* A closed session says that it is. */
    atomic_store_explicit(
        &lanes.session[0].reply.state->state, KNIT_STATE_CLOSED, memory_order_release);
    assert_int_equal(knit_session_publish_at_once(session, &call, &slot), KNIT_SESSION_E_CLOSED);
}

#define WITH_LANES(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LANES(the_end_of_the_time_in_the_queue_ends_no_call_that_has_started),
        WITH_LANES(a_call_that_is_claimed_and_overdue_is_refused_by_its_worker),
        WITH_LANES(the_last_moment_to_start_at_is_no_deadline_of_the_task),
        WITH_LANES(what_must_start_at_once_goes_to_an_idle_lane_or_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
