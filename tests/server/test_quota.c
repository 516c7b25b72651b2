/* SPDX-License-Identifier: Apache-2.0 */
/* What a principal may ask for: the limits themselves, then those of connections on a loop whose
 * turns the test makes (turns.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "server/policy/principals.h"
#include "tests/server/turns.h"

#define SECOND UINT64_C(1000000000)

static const uint64_t now = 1000 * SECOND;

static uint64_t taken_at_once(struct knit_quota *quota, size_t bytes, uint64_t now_ns)
{
    struct knit_quota_over over;
    uint64_t count = 0;

    for (; !knit_quota_is_over(quota, now_ns, &over); count++)
        knit_quota_take(quota, bytes, now_ns);
    return count;
}

static void without_limits_all_is_taken(void **state)
{
    const struct knit_quota_limits limits = {.weight = 7};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    assert_false(knit_quota_is_limited(&quota));
    assert_int_equal(knit_quota_weight(&quota), 1);
    knit_quota_set(&quota, &limits);
    assert_false(knit_quota_is_limited(&quota));
    assert_int_equal(knit_quota_weight(&quota), 7);
    assert_false(knit_quota_is_over(&quota, now, &over));
}

static void calls_in_flight_are_given_back(void **state)
{
    const struct knit_quota_limits limits = {.calls_in_flight = 3};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_true(knit_quota_is_limited(&quota));
    assert_int_equal(taken_at_once(&quota, 0, now), 3);
    assert_true(knit_quota_is_over(&quota, now, &over));
    assert_string_equal(over.name, "calls_in_flight");
    assert_int_equal(over.limit, 3);
    knit_quota_give_back(&quota);
    assert_false(knit_quota_is_over(&quota, now, &over));
}

/* A tenth of a second's at once, and then as many as are paid by the time that passes. */
static void calls_a_second_are_paid_by_time(void **state)
{
    const struct knit_quota_limits limits = {.calls_per_second = 1000};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_int_equal(taken_at_once(&quota, 0, now), 101);
    assert_true(knit_quota_is_over(&quota, now, &over));
    assert_string_equal(over.name, "calls_per_second");
    assert_int_equal(over.wait_ns, SECOND / 1000);
    assert_false(knit_quota_is_over(&quota, now + over.wait_ns, &over));
    assert_int_equal(taken_at_once(&quota, 0, now + SECOND / 100), 10);
    assert_int_equal(taken_at_once(&quota, 0, now + 100 * SECOND), 101);
}

static void a_call_of_many_bytes_is_paid_afterwards(void **state)
{
    const struct knit_quota_limits limits = {.bytes_per_second = 1 << 20};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_int_equal(taken_at_once(&quota, 2 << 20, now), 1);
    assert_true(knit_quota_is_over(&quota, now, &over));
    assert_string_equal(over.name, "bytes_per_second");
    assert_int_equal(over.wait_ns, 2 * SECOND - SECOND / 10);
}

/* ---- connections ---- */

static struct knit_quota *quota_of(struct turns_caller *caller)
{
    caller->connection->caller.form = KNIT_FAILURE_FULL;
    return &caller->connection->caller.principal->quota;
}

static uint64_t in_flight(struct knit_quota *quota)
{
    return atomic_load_explicit(&quota->in_flight, memory_order_relaxed);
}

static void connections_of_a_principal_have_its_calls_together(void **state)
{
    const struct knit_quota_limits limits = {.calls_in_flight = 2}, none = {.weight = 1};
    struct turns_caller *one, *other;
    struct knit_quota *quota;

    (void)state;
    one = turns_connect();
    other = turns_connect();
    quota = quota_of(one);
    assert_ptr_equal(quota_of(other), quota);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(one, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(one, "echo", 1, 2, 1, NULL));
    TURNS_UNTIL(in_flight(quota) == 2);
    assert_true(turns_request(other, "echo", 1, 1, 3, NULL));
    turns_expect(other, 3);
    assert_int_equal(other->code, KNIT_QUOTA);
    assert_in_range(other->retry_after_ms, 1, 1000);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_over_quota), 3);
    turns_open_gate();
    turns_expect(one, 2);
    assert_int_equal(one->code, 0);
    assert_int_equal(in_flight(quota), 0);
    assert_true(turns_request(other, "echo", 1, 4, 1, NULL));
    turns_expect(other, 4);
    assert_int_equal(other->code, 0);
    knit_quota_set(quota, &none);
}

/* Whether they were answered, settled early, or left behind. */
static void calls_are_given_back_however_they_end(void **state)
{
    const struct knit_quota_limits limits = {.calls_in_flight = 20};
    struct knit_options options = knit_options();
    struct turns_caller *one, *other;
    struct knit_quota *quota;

    (void)state;
    one = turns_connect();
    other = turns_connect();
    quota = quota_of(one);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(one, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    options.timeout_ns = 1000000;
    assert_true(turns_request(one, "echo", 1, 2, 1, &options));
    assert_true(turns_request(one, "echo", 1, 3, 1, NULL));
    turns_cancel(one, 3);
    turns_notify(one, "echo", 1);
    turns_expect(one, 2);
    assert_true(turns_request(other, "echo", 1, 1, 2, NULL));
    TURNS_UNTIL(in_flight(quota) == 6);
    turns_leave(other);
    assert_int_equal(in_flight(quota), 4);
    turns_open_gate();
    turns_expect(one, 3);
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(in_flight(quota), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_all_is_taken),
        cmocka_unit_test(calls_in_flight_are_given_back),
        cmocka_unit_test(calls_a_second_are_paid_by_time),
        cmocka_unit_test(a_call_of_many_bytes_is_paid_afterwards),
        TURNS_TEST(connections_of_a_principal_have_its_calls_together),
        TURNS_TEST(calls_are_given_back_however_they_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
