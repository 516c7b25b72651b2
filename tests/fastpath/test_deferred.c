/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes of calls whose job returned before, on a lane alone: from any thread, of any size,
 * whatever the lane's thread does, until its session goes or the worker retires. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

static struct lanes lanes;

static int teardown(void **state)
{
    struct lanes_deferred *left;

    (void)state;
    while ((left = lanes_take_deferred(&lanes, true)) != NULL)
        free(left);
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish(
    struct knit_session *session, uint32_t task, const void *payload, size_t len)
{
    struct knit_session_call call = lanes_call(task, payload, len);
    uint32_t slot;

    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_flush(session);
    return slot;
}

static uint32_t count_of(const _Atomic uint32_t *count)
{
    return atomic_load_explicit(count, memory_order_seq_cst);
}

static struct lanes_deferred *await_deferred(void)
{
    struct lanes_deferred *deferred = NULL;

    assert_true(KNIT_WAIT_UNTIL((deferred = lanes_take_deferred(&lanes, true)) != NULL, 10000));
    return deferred;
}

static void a_worker_with_deferred_calls_takes_new_ones(void **state)
{
    struct knit_session *session;
    struct knit_session_outcome outcome;
    uint32_t slots[8], echo;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    for (uint8_t i = 0; i < 8; i++)
        slots[i] = publish(session, LANES_DEFER, &i, 1);
    echo = publish(session, LANES_ECHO, "x", 1);
    lanes_wait_for(session, echo, &outcome);
    for (int i = 0; i < 8; i++)
        assert_false(knit_session_collect_slot(session, slots[i], &outcome));
    /* The last one first. */
    for (int i = 7; i >= 0; i--) {
        struct lanes_deferred *deferred = lanes_take_deferred(&lanes, false);

        assert_non_null(deferred);
        lanes_finish(deferred);
        lanes_wait_for(session, slots[i], &outcome);
        assert_int_equal(outcome.len, 1);
        assert_int_equal(*(const uint8_t *)outcome.payload, i);
    }
    assert_int_equal(count_of(&lanes.finished), 8);
}

static void outcomes_of_every_size_come_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 40, 41, 103, 104, 105, 1023, 1024, 1025, 30000};
    struct knit_session *session;
    uint8_t bytes[30000];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 4, 262144, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t slot = publish(session, LANES_DEFER, bytes, sizes[i]);
        struct knit_session_outcome outcome;

        lanes_finish(await_deferred());
        lanes_wait_for(session, slot, &outcome);
        assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
        assert_int_equal(outcome.len, sizes[i]);
        assert_memory_equal(outcome.payload, bytes, sizes[i]);
        if (outcome.held)
            knit_session_release(session, slot);
    }
}

/* The thread that brings it writes it, but for what needs a block of the session whose task runs:
 * that one waits for the task. */
static void a_long_task_delays_no_outcome_but_large_ones_of_its_own_session(void **state)
{
    static const uint8_t large[4000] = {1};
    struct knit_session *own, *other;
    struct knit_session_outcome outcome;
    uint32_t small, big, other_big, gate;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    own = lanes_add_session(&lanes, 8, 65536, 0)->session;
    other = lanes_add_session(&lanes, 8, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    small = publish(own, LANES_DEFER, "s", 1);
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.to_come) == 1, 10000));
    big = publish(own, LANES_DEFER, large, sizeof(large));
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.to_come) == 2, 10000));
    other_big = publish(other, LANES_DEFER, large, sizeof(large));
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.to_come) == 3, 10000));
    gate = publish(own, LANES_GATE, NULL, 0);
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.at_gate) == 1, 10000));
    lanes_finish(await_deferred());
    lanes_wait_for(own, small, &outcome);
    lanes_finish(await_deferred());
    lanes_finish(await_deferred());
    lanes_wait_for(other, other_big, &outcome);
    assert_int_equal(outcome.len, sizeof(large));
    assert_false(knit_session_collect_slot(own, big, &outcome));
    assert_false(knit_session_collect_slot(own, gate, &outcome));
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    lanes_wait_for(own, big, &outcome);
    assert_int_equal(outcome.len, sizeof(large));
    lanes_wait_for(own, gate, &outcome);
}

/* The oldest one, with this outcome, whose bytes stay. */
static void finish_with(const uint8_t *bytes, size_t len)
{
    struct lanes_deferred *deferred = await_deferred();

    deferred->finished.bytes = bytes;
    deferred->finished.len = len;
    lanes_finish(deferred);
}

static void outcomes_that_find_no_room_wait_in_their_order(void **state)
{
    enum { CALLS = 6, LEN = 30000 };
    static uint8_t large[CALLS][LEN];
    struct knit_session *session;
    struct knit_session_outcome outcome;
    uint32_t slots[CALLS], index = 0;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    for (int i = 0; i < CALLS; i++) {
        memset(large[i], i, LEN);
        slots[i] = publish(session, LANES_DEFER, "x", 1);
    }
    /* While one waits for room, no call of the session is claimed. */
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.to_come) == CALLS, 10000));
    for (int i = 0; i < CALLS; i++)
        finish_with(large[i], LEN);
    /* Two fit the arena at once; what is released makes room for the next. */
    for (int i = 0; i < CALLS; i++) {
        lanes_wait_for(session, slots[i], &outcome);
        assert_int_equal(outcome.len, LEN);
        assert_int_equal(((const uint8_t *)outcome.payload)[LEN - 1], i);
        knit_session_release(session, slots[i]);
    }
    assert_int_equal(count_of(&lanes.finished), CALLS);
    /* The session is served again. */
    slots[0] = publish(session, LANES_ECHO, &index, 4);
    lanes_wait_for(session, slots[0], &outcome);
}

static void the_outcome_of_a_session_that_is_gone_goes_nowhere(void **state)
{
    static const uint8_t large[30000];
    struct knit_session *session;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 8, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 6; i++)
        (void)publish(session, LANES_DEFER, "x", 1);
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.to_come) == 6, 10000));
    /* Two are written, one waits for room, and two behind it. */
    for (int i = 0; i < 5; i++)
        finish_with(large, sizeof(large));
    assert_int_equal(knit_lane_detach(lanes.worker[0], 1), 0);
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.detached) == 1, 10000));
    assert_int_equal(count_of(&lanes.finished), 5);
    lanes_finish(await_deferred());
    assert_true(KNIT_WAIT_UNTIL(count_of(&lanes.finished) == 6, 10000));
}

/* Its large outcome waits for that task, and so does the end of its session. */
static void a_task_that_ends_its_thread_keeps_no_outcome_back(void **state)
{
    static const uint8_t large[4000];
    struct knit_session *session;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 8, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    (void)publish(session, LANES_DEFER, "x", 1);
    while (count_of(&lanes.to_come) == 0)
        (void)knit_lane_turn(lanes.worker[0]);
    /* As such a task leaves it. */
    lanes.worker[0]->current = lanes.worker[0]->sessions[0];
    knit_lane_leave(lanes.worker[0]);
    finish_with(large, sizeof(large));
    assert_int_equal(knit_lane_detach(lanes.worker[0], 1), 0);
    assert_int_equal(count_of(&lanes.finished), 0);
    lanes.worker[0] = knit_lane_free(lanes.worker[0]);
    assert_int_equal(count_of(&lanes.finished), 1);
    assert_int_equal(count_of(&lanes.detached), 1);
}

static void a_lane_that_retires_waits_for_what_is_to_come(void **state)
{
    struct knit_session *session;
    struct knit_session_outcome outcome;
    uint32_t slot, late;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 8, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    slot = publish(session, LANES_DEFER, "a", 1);
    while (count_of(&lanes.to_come) == 0)
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    knit_lane_retire(lanes.worker[0]);
    assert_true(knit_lane_is_retiring(lanes.worker[0]));
    late = publish(session, LANES_ECHO, "b", 1);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    lanes_finish(await_deferred());
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_STOPPED);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    assert_false(knit_session_collect_slot(session, late, &outcome));
    assert_false(knit_session_has_started(session, late));
}

/* ---- storm ---- */

enum { COMPLETERS = 3, STORM_CALLS = 3000, STORM_LARGE = 3000 };

struct storm {
    _Atomic bool is_over;
};

static void *complete(void *arg)
{
    struct storm *storm = arg;
    uint32_t turn = 0;

    while (!atomic_load_explicit(&storm->is_over, memory_order_acquire)) {
        struct lanes_deferred *deferred = lanes_take_deferred(&lanes, ++turn % 2 == 0);

        if (deferred != NULL)
            lanes_finish(deferred);
        else
            (void)sched_yield();
    }
    return NULL;
}

/* Each outcome is checked against its call: the first four bytes are its number. */
static void check_outcome(
    struct knit_session *session, const struct knit_session_outcome *outcome, uint8_t *seen)
{
    uint32_t number = UINT32_MAX;

    assert_int_equal(outcome->status, KNIT_STATUS_RESULT);
    assert_true(outcome->len >= 4);
    memcpy(&number, outcome->payload, 4);
    assert_true(number < STORM_CALLS);
    assert_int_equal(seen[number], 0);
    seen[number] = 1;
    if (outcome->held)
        knit_session_release(session, outcome->slot);
}

static void many_threads_finish_calls_while_others_run(void **state)
{
    static uint8_t seen[2][STORM_CALLS];
    struct knit_session *session[2];
    uint32_t sent[2] = {0}, got[2] = {0};
    pthread_t threads[COMPLETERS];
    struct storm storm = {0};

    (void)state;
    memset(seen, 0, sizeof(seen));
    lanes_init(&lanes, 2, true, 20);
    for (int i = 0; i < 2; i++)
        session[i] = lanes_add_session(&lanes, 64, 262144, 0)->session;
    for (uint32_t i = 0; i < 2; i++)
        lanes_start_worker(&lanes, i, 5 + i);
    for (int i = 0; i < COMPLETERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, complete, &storm), 0);
    while (got[0] + got[1] < 2 * STORM_CALLS) {
        for (int i = 0; i < 2; i++) {
            static uint8_t argument[STORM_LARGE];
            struct knit_session_call call = lanes_call(sent[i] % 3 != 0 ? LANES_DEFER : LANES_ECHO,
                argument, sent[i] % 50 == 0 ? STORM_LARGE : 4 + sent[i] % 300);
            struct knit_session_outcome outcome;
            uint32_t slot;

            memcpy(argument, &sent[i], 4);
            if (sent[i] < STORM_CALLS && knit_session_publish(session[i], &call, &slot) == 0)
                sent[i]++;
            knit_session_flush(session[i]);
            while (knit_session_collect(session[i], &outcome, 1) == 1) {
                check_outcome(session[i], &outcome, seen[i]);
                got[i]++;
            }
            if (knit_session_slots_free(session[i]) == 0)
                (void)knit_session_wait(session[i], KNIT_SLOT_ANY, knit_clock_ns() + 10000000);
        }
    }
    atomic_store_explicit(&storm.is_over, true, memory_order_release);
    for (int i = 0; i < COMPLETERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(count_of(&lanes.to_come), 0);
    assert_int_equal(count_of(&lanes.evictions), 0);
}

#define WITH_LANES(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LANES(a_worker_with_deferred_calls_takes_new_ones),
        WITH_LANES(outcomes_of_every_size_come_whole),
        WITH_LANES(a_long_task_delays_no_outcome_but_large_ones_of_its_own_session),
        WITH_LANES(outcomes_that_find_no_room_wait_in_their_order),
        WITH_LANES(the_outcome_of_a_session_that_is_gone_goes_nowhere),
        WITH_LANES(a_task_that_ends_its_thread_keeps_no_outcome_back),
        WITH_LANES(a_lane_that_retires_waits_for_what_is_to_come),
        WITH_LANES(many_threads_finish_calls_while_others_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
