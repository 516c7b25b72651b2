/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that have to wait, and would for too long: which are refused, when, and with what. On a
 * loop whose turns the test makes (turns.h); while the worker waits at the gate, of which no mean
 * is known, its lane has room for one call more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "tests/server/turns.h"

#define MS UINT64_C(1000000)

static int setup(void **state)
{
    turns_depth_ns = 500000;
    return turns_setup(state);
}

static int teardown(void **state)
{
    int r = turns_teardown(state);

    turns_depth_ns = 0;
    return r;
}

/* The worker is at the gate, and the lane is full. */
static struct turns_caller *block(void)
{
    struct turns_caller *blocker = turns_connect();

    assert_true(turns_request(blocker, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(blocker, "echo", 1, 2, 1, NULL));
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.calls_published) == 2);
    return blocker;
}

/* It gets errors with their details. */
static struct turns_caller *connect_caller(void)
{
    struct turns_caller *caller = turns_connect();

    caller->connection->caller.form = KNIT_FAILURE_FULL;
    return caller;
}

static uint64_t refused(void)
{
    return knit_counter_read(&turns.loop.turn.counters.calls_overloaded);
}

static struct knit_options with_timeout(uint64_t ms)
{
    struct knit_options options = knit_options();

    options.timeout_ns = ms * MS;
    return options;
}

/* What is before it is the call in the lane, about 1 ms, and those that wait. */
static void beyond_queue_delay_calls_are_refused_when_they_come(void **state)
{
    enum { DELAY_MS = 10, CALLS = 30, TAKEN = 9 };
    struct turns_caller *caller;

    (void)state;
    turns.settings.queue_delay_ms = DELAY_MS;
    turns_set_mean(LANES_ECHO, MS);
    (void)block();
    caller = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, CALLS, NULL));
    turns_expect(caller, CALLS - TAKEN);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_int_equal(caller->msgid, CALLS);
    assert_int_equal(turns.loop.router.waiting, TAKEN);
    assert_int_equal(turns.loop.router.backlog.waiting_ns, TAKEN * MS);
    assert_in_range(caller->retry_after_ms, DELAY_MS * 3 / 4, DELAY_MS * 5 / 4 + 1);
    assert_int_equal(refused(), CALLS - TAKEN);
    /* By notification, it is only counted. */
    turns_notify(caller, "echo", 3);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.notifications_dropped) == 3);
    turns_open_gate();
    turns_expect(caller, CALLS);
    assert_int_equal(caller->code, 0);
    assert_int_equal(turns.loop.router.backlog.waiting_ns, 0);
}

/* Also the first one of its connection, which then waits for nothing. */
static void a_call_of_another_connection_is_refused_too(void **state)
{
    struct turns_caller *caller, *other;

    (void)state;
    turns.settings.queue_delay_ms = 10;
    turns_set_mean(LANES_ECHO, MS);
    (void)block();
    caller = connect_caller();
    other = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, 9, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 9);
    assert_true(turns_request(other, "echo", 1, 1, 1, NULL));
    turns_expect(other, 1);
    assert_int_equal(other->code, KNIT_OVERLOADED);
    TURNS_UNTIL(other->connection->caller.pauses == 0);
    assert_null(other->connection->lookahead);
    turns_open_gate();
    turns_expect(caller, 9);
    assert_true(turns_request(other, "echo", 1, 2, 1, NULL));
    turns_expect(other, 2);
    assert_int_equal(other->code, 0);
}

static void what_waits_in_other_loops_is_before_a_call(void **state)
{
    static struct knit_counters other;
    struct knit_stats_sources stats = {.counters = {&turns.loop.turn.counters, &other}, .loops = 2};
    struct knit_router_backend backend = {.stats = &stats};
    struct turns_caller *caller;

    (void)state;
    turns.loop.router.backend = &backend;
    turns.settings.queue_delay_ms = 10;
    (void)block();
    caller = connect_caller();
    atomic_store_explicit(&other.work_waiting_us, 20000, memory_order_relaxed);
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    atomic_store_explicit(&other.work_waiting_us, 0, memory_order_relaxed);
    assert_true(turns_request(caller, "echo", 1, 2, 1, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 1);
    turns_open_gate();
    turns_expect(caller, 2);
}

/* Who says how long it waits is told at once that this is not enough. */
static void a_call_that_cannot_end_in_time_is_refused_when_it_comes(void **state)
{
    struct knit_options options = with_timeout(150);
    struct turns_caller *caller;

    (void)state;
    turns.settings.queue_delay_ms = 60000;
    turns_set_mean(LANES_ECHO, 100 * MS);
    (void)block();
    caller = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, 1, &options));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_in_range(caller->retry_after_ms, 75, 126);
    options = knit_options();
    options.queue_ns = 50 * MS;
    assert_true(turns_request(caller, "echo", 1, 2, 1, &options));
    turns_expect(caller, 2);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    options = with_timeout(60000);
    assert_true(turns_request(caller, "echo", 1, 3, 1, &options));
    assert_true(turns_request(caller, "echo", 1, 4, 1, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 2);
    turns_open_gate();
    turns_expect(caller, 4);
    assert_int_equal(caller->code, 0);
    assert_int_equal(refused(), 2);
}

/* Or wrong means would shut it out for good. */
static void a_call_that_need_not_wait_is_never_refused(void **state)
{
    const struct knit_options options = with_timeout(60000);
    struct turns_caller *caller;

    (void)state;
    turns.settings.queue_delay_ms = 1;
    turns_set_mean(LANES_ECHO, UINT32_MAX);
    caller = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, 2, &options));
    turns_expect(caller, 2);
    assert_int_equal(caller->code, 0);
}

/* It came when nothing was known of its task. */
static void what_is_left_too_little_time_when_its_turn_comes_is_not_run(void **state)
{
    const struct knit_options options = with_timeout(4000);
    struct turns_caller *caller;
    uint64_t published;

    (void)state;
    turns.settings.queue_delay_ms = 60000;
    (void)block();
    caller = connect_caller();
    assert_true(turns_request(caller, "room", 1, 1, 1, &options));
    TURNS_UNTIL(turns.loop.router.waiting == 1);
    published = knit_counter_read(&turns.loop.turn.counters.calls_published);
    turns_set_mean(LANES_ROOM, UINT32_MAX);
    turns_open_gate();
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_published), published);
    assert_int_equal(turns.loop.router.backlog.waiting_ns, 0);
}

/* Then a call waits until it is overdue, and gets TIMEOUT or what it has in its place. */
static void without_the_setting_none_is_refused(void **state)
{
    const struct knit_options options = with_timeout(150);
    struct turns_caller *caller;

    (void)state;
    turns_set_mean(LANES_ECHO, 100 * MS);
    (void)block();
    caller = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, 1, &options));
    assert_true(turns_request(caller, "echo", 1, 2, 30, NULL));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    turns_open_gate();
    turns_expect(caller, 31);
    assert_int_equal(refused(), 0);
}

static void a_caller_that_leaves_takes_its_work_with_it(void **state)
{
    struct turns_caller *caller;

    (void)state;
    (void)block();
    caller = connect_caller();
    assert_true(turns_request(caller, "echo", 1, 1, 20, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 20);
    assert_true(turns.loop.router.backlog.waiting_ns > 0);
    turns_cancel(caller, 3);
    turns_expect(caller, 1);
    turns_leave(caller);
    assert_int_equal(turns.loop.router.backlog.waiting_ns, 0);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.work_waiting_us), 0);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(beyond_queue_delay_calls_are_refused_when_they_come),
        TEST(a_call_of_another_connection_is_refused_too),
        TEST(what_waits_in_other_loops_is_before_a_call),
        TEST(a_call_that_cannot_end_in_time_is_refused_when_it_comes),
        TEST(a_call_that_need_not_wait_is_never_refused),
        TEST(what_is_left_too_little_time_when_its_turn_comes_is_not_run),
        TEST(without_the_setting_none_is_refused),
        TEST(a_caller_that_leaves_takes_its_work_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
