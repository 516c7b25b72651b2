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
    const struct knit_policy_limits limits = {.weight = 7};
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
    const struct knit_policy_limits limits = {.calls_in_flight = 3};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_true(knit_quota_is_limited(&quota));
    assert_int_equal(taken_at_once(&quota, 0, now), 3);
    assert_true(knit_quota_is_over(&quota, now, &over));
    assert_string_equal(over.name, "calls_in_flight");
    assert_int_equal(over.limit, 3);
    knit_quota_give_back(&quota, now);
    assert_false(knit_quota_is_over(&quota, now, &over));
}

/* By how its calls have ended; before one has, by how long the first one takes already. What passes
 * while it has no call in flight counts for nothing. */
static void when_a_call_may_end_is_guessed(void **state)
{
    const struct knit_policy_limits limits = {.calls_in_flight = 2};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;
    uint64_t now_ns = now;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_int_equal(taken_at_once(&quota, 0, now_ns), 2);
    assert_true(knit_quota_is_over(&quota, now_ns + SECOND / 10, &over));
    assert_int_equal(over.guess_ns, SECOND / 10);
    for (int i = 0; i < 50; i++) {
        now_ns += SECOND / 50;
        knit_quota_give_back(&quota, now_ns);
        knit_quota_take(&quota, 0, now_ns);
    }
    assert_true(knit_quota_is_over(&quota, now_ns, &over));
    assert_in_range(over.guess_ns, SECOND / 60, SECOND / 50);
    assert_int_equal(over.wait_ns, 0);
    knit_quota_give_back(&quota, now_ns + SECOND / 50);
    knit_quota_give_back(&quota, now_ns + SECOND / 25);
    now_ns += 1000 * SECOND;
    assert_int_equal(taken_at_once(&quota, 0, now_ns), 2);
    knit_quota_give_back(&quota, now_ns + SECOND / 50);
    knit_quota_take(&quota, 0, now_ns + SECOND / 50);
    assert_true(knit_quota_is_over(&quota, now_ns + SECOND / 50, &over));
    assert_in_range(over.guess_ns, SECOND / 60, SECOND / 40);
}

/* A tenth of a second's at once, and then as many as are paid by the time that passes. */
static void calls_a_second_are_paid_by_time(void **state)
{
    const struct knit_policy_limits limits = {.calls_per_second = 1000};
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
    const struct knit_policy_limits limits = {.bytes_per_second = 1 << 20};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_int_equal(taken_at_once(&quota, 2 << 20, now), 1);
    assert_true(knit_quota_is_over(&quota, now, &over));
    assert_string_equal(over.name, "bytes_per_second");
    assert_int_equal(over.wait_ns, 2 * SECOND - SECOND / 10);
}

static void slots_of_sessions_are_taken_together(void **state)
{
    struct knit_policy_limits limits = {.calls_in_flight = 0};
    struct knit_quota quota = {.is_limited = false};

    (void)state;
    knit_quota_set(&quota, &limits);
    assert_int_equal(knit_quota_take_slots(&quota, 1000), 1000);
    limits.calls_in_flight = 1040;
    knit_quota_set(&quota, &limits);
    assert_int_equal(knit_quota_take_slots(&quota, 64), 40);
    assert_int_equal(knit_quota_take_slots(&quota, 64), 0);
    /* What is over a lower limit stays so. */
    limits.calls_in_flight = 20;
    knit_quota_set(&quota, &limits);
    knit_quota_give_back_slots(&quota, 1000);
    assert_int_equal(knit_quota_take_slots(&quota, 64), 0);
    knit_quota_give_back_slots(&quota, 40);
    assert_int_equal(knit_quota_take_slots(&quota, 64), 20);
}

static void another_rate_begins_anew(void **state)
{
    const struct knit_policy_limits little = {.bytes_per_second = 1},
                                    much = {.bytes_per_second = 1 << 30};
    struct knit_quota quota = {.is_limited = false};
    struct knit_quota_over over;

    (void)state;
    knit_quota_set(&quota, &little);
    assert_int_equal(taken_at_once(&quota, 2 << 20, now), 1);
    knit_quota_set(&quota, &little);
    assert_true(knit_quota_is_over(&quota, now, &over));
    knit_quota_set(&quota, &much);
    assert_false(knit_quota_is_over(&quota, now, &over));
}

/* Its principal is there until they are paid, though nobody has it. */
static void coming_again_pays_nothing(void **state)
{
    const struct knit_policy_limits limits = {.bytes_per_second = 1024};
    struct knit_principal *principal;
    struct knit_principals principals;
    struct knit_quota_over over;

    (void)state;
    assert_int_equal(knit_principals_init(&principals), 0);
    for (int i = 0; i < 3; i++) {
        principal = knit_principals_named(&principals, KNIT_PRINCIPAL_TOKEN, "token:a");
        assert_non_null(principal);
        assert_int_equal(knit_quota_is_over(&principal->quota, knit_clock_ns(), &over), i > 0);
        knit_quota_set(&principal->quota, &limits);
        if (i == 0)
            knit_quota_take(&principal->quota, 1 << 20, knit_clock_ns());
        knit_principals_drop(&principals, principal);
    }
    knit_principals_fini(&principals);
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
    const struct knit_policy_limits limits = {.calls_in_flight = 2}, none = {.weight = 1};
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
    const struct knit_policy_limits limits = {.calls_in_flight = 20};
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
    assert_int_equal(in_flight(quota), 6);
    turns_open_gate();
    turns_expect(one, 3);
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(in_flight(quota), 0);
}

/* ---- that wait ---- */

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return knit_counter_read(counter);
}

/* Of another principal than all others. */
static struct turns_caller *connect_stranger(void)
{
    struct turns_caller *stranger = turns_connect();
    struct knit_caller *caller = &stranger->connection->caller;

    knit_principals_drop(&turns.principals, caller->principal);
    caller->principal = knit_principals_named(&turns.principals, KNIT_PRINCIPAL_TOKEN, "token:a");
    assert_non_null(caller->principal);
    return stranger;
}

static void calls_in_flight_wait_and_others_do_not(void **state)
{
    const struct knit_policy_limits limits = {
        .calls_in_flight = 1, .over_limit = KNIT_POLICY_OVER_WAIT};
    struct knit_options options = knit_options();
    struct turns_caller *one, *two, *stranger;
    struct knit_quota *quota;

    (void)state;
    turns.settings.queue_max = 2;
    one = turns_connect();
    two = turns_connect();
    stranger = connect_stranger();
    quota = quota_of(one);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(one, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(one, "echo", 1, 2, 3, NULL));
    TURNS_UNTIL(knit_quota_waiting(quota) == 1);
    /* Their time runs, and nothing that may not wait does. */
    options.timeout_ns = 1000000;
    assert_true(turns_request(two, "echo", 1, 1, 1, &options));
    turns_expect(two, 1);
    assert_int_equal(two->code, KNIT_TIMEOUT);
    options = knit_options();
    options.queue_ns = 0;
    assert_true(turns_request(two, "echo", 1, 2, 1, &options));
    turns_expect(two, 2);
    assert_int_equal(two->code, KNIT_QUOTA);
    /* Nothing that waits so counts for queue_max. */
    assert_true(turns_request(stranger, "room", 1, 1, 1, NULL));
    TURNS_UNTIL(turns.loop.router.outstanding == 2);
    assert_int_equal(turns.loop.router.waiting, 0);
    assert_int_equal(one->responses, 0);
    assert_int_equal(in_flight(quota), 1);
    turns_open_gate();
    turns_expect(one, 4);
    turns_expect(stranger, 1);
    assert_int_equal(one->code, 0);
    assert_int_equal(stranger->code, 0);
    assert_int_equal(in_flight(quota), 0);
    assert_int_equal(knit_quota_waiting(quota), 0);
    assert_int_equal(counted(&turns.loop.turn.counters.calls_over_quota), 1);
    assert_in_range(counted(&turns.loop.turn.counters.waits_for_limit), 2, 10);
}

/* Those that came first go first, whoever has a call just now. */
static void none_overtakes_one_that_waits(void **state)
{
    const struct knit_policy_limits limits = {
        .calls_in_flight = 1, .over_limit = KNIT_POLICY_OVER_WAIT};
    struct turns_caller *callers[8];
    struct knit_quota *quota;

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        callers[i] = turns_connect();
    quota = quota_of(callers[0]);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(callers[0], "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    for (uint32_t i = 1; i < 8; i++) {
        assert_true(turns_request(callers[i], "echo", 1, i, 1, NULL));
        TURNS_UNTIL(knit_quota_waiting(quota) == i);
    }
    turns_open_gate();
    for (uint32_t i = 1; i < 8; i++) {
        turns_expect(callers[i], 1);
        for (uint32_t later = i + 2; later < 8; later++) {
            assert_true(turns_read(callers[later]));
            assert_int_equal(callers[later]->responses, 0);
        }
    }
}

/* Between two looks the loop sleeps: nothing of them is done in a turn that comes sooner. */
static void calls_a_second_wait_for_the_time_that_pays_them(void **state)
{
    const struct knit_policy_limits limits = {
        .calls_per_second = 100, .over_limit = KNIT_POLICY_OVER_WAIT};
    const struct knit_limited *limited = &turns.loop.router.share.limited;
    struct turns_caller *caller;
    struct knit_quota *quota;
    uint64_t began_ns, turn_ns;

    (void)state;
    caller = turns_connect();
    quota = quota_of(caller);
    knit_quota_set(quota, &limits);
    began_ns = knit_clock_ns();
    assert_true(turns_request(caller, "echo", 1, 1, 31, NULL));
    TURNS_UNTIL(knit_quota_waiting(quota) == 1 && limited->next_ns > turns.loop.turn.now_ns);
    turn_ns = turns.loop.turn.now_ns;
    assert_in_range(limited->next_ns, turn_ns + 1, turn_ns + SECOND / 10);
    turns_expect(caller, 31);
    assert_int_equal(caller->code, 0);
    /* 11 at once, 20 at 100 a second. */
    assert_true(knit_clock_ns() - began_ns >= SECOND / 5 - SECOND / 100);
    assert_in_range(counted(&turns.loop.turn.counters.waits_for_limit), 1, 30);
}

/* A policy that lifts the limit, or has them refused, is noticed; and one may leave. */
static void a_new_policy_ends_the_wait(void **state)
{
    struct knit_policy_limits limits = {.calls_in_flight = 1, .over_limit = KNIT_POLICY_OVER_WAIT};
    struct turns_caller *one, *two, *three;
    struct knit_quota *quota;

    (void)state;
    one = turns_connect();
    two = turns_connect();
    three = turns_connect();
    quota = quota_of(one);
    (void)quota_of(two);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(one, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(two, "echo", 1, 1, 1, NULL));
    assert_true(turns_request(three, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(knit_quota_waiting(quota) == 2);
    turns_leave(three);
    TURNS_UNTIL(knit_quota_waiting(quota) == 1);
    limits.over_limit = KNIT_POLICY_OVER_REFUSE;
    knit_quota_set(quota, &limits);
    turns_expect(two, 1);
    assert_int_equal(two->code, KNIT_QUOTA);
    limits.over_limit = KNIT_POLICY_OVER_WAIT;
    knit_quota_set(quota, &limits);
    assert_true(turns_request(two, "echo", 1, 2, 1, NULL));
    TURNS_UNTIL(knit_quota_waiting(quota) == 1);
    limits.calls_in_flight = 2;
    knit_quota_set(quota, &limits);
    TURNS_UNTIL(in_flight(quota) == 2);
    turns_open_gate();
    turns_expect(two, 2);
    assert_int_equal(two->code, 0);
    turns_expect(one, 1);
}

static const struct knit_caller_ops *real_ops;

/* As if what had waited were refused, and a token came before the next call, whose principal is
 * over its limit as well. */
static void resume_as_another(struct knit_caller *caller)
{
    const struct knit_policy_limits limits = {
        .calls_in_flight = 1, .over_limit = KNIT_POLICY_OVER_WAIT};

    caller->ops = real_ops;
    knit_principals_drop(&turns.principals, caller->principal);
    caller->principal = knit_principals_named(&turns.principals, KNIT_PRINCIPAL_TOKEN, "token:a");
    assert_non_null(caller->principal);
    knit_quota_set(&caller->principal->quota, &limits);
    knit_quota_take(&caller->principal->quota, 1, caller->turn->now_ns);
    real_ops->resume(caller);
}

static void who_becomes_another_in_its_turn_waits_with_its_own(void **state)
{
    struct knit_policy_limits limits = {.calls_in_flight = 1, .over_limit = KNIT_POLICY_OVER_WAIT};
    struct turns_caller *one, *two;
    struct knit_caller_ops ops;
    struct knit_caller *caller;
    struct knit_quota *quota, *own;

    (void)state;
    one = turns_connect();
    two = turns_connect();
    caller = &two->connection->caller;
    quota = quota_of(one);
    knit_quota_set(quota, &limits);
    assert_true(turns_request(one, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(two, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(knit_quota_waiting(quota) == 1);
    real_ops = caller->ops;
    ops = *real_ops;
    ops.resume = resume_as_another;
    caller->ops = &ops;
    turns_open_gate();
    turns_expect(one, 1);
    TURNS_UNTIL(caller->ops == real_ops);
    own = &caller->principal->quota;
    assert_int_equal(knit_quota_waiting(quota), 0);
    assert_int_equal(knit_quota_waiting(own), 1);
    knit_quota_give_back(own, turns.loop.turn.now_ns);
    turns_expect(two, 1);
    assert_int_equal(two->code, 0);
    assert_int_equal(knit_quota_waiting(own), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_limits_all_is_taken),
        cmocka_unit_test(calls_in_flight_are_given_back),
        cmocka_unit_test(when_a_call_may_end_is_guessed),
        cmocka_unit_test(another_rate_begins_anew),
        cmocka_unit_test(coming_again_pays_nothing),
        cmocka_unit_test(calls_a_second_are_paid_by_time),
        cmocka_unit_test(a_call_of_many_bytes_is_paid_afterwards),
        cmocka_unit_test(slots_of_sessions_are_taken_together),
        TURNS_TEST(connections_of_a_principal_have_its_calls_together),
        TURNS_TEST(calls_are_given_back_however_they_end),
        TURNS_TEST(calls_in_flight_wait_and_others_do_not),
        TURNS_TEST(none_overtakes_one_that_waits),
        TURNS_TEST(calls_a_second_wait_for_the_time_that_pays_them),
        TURNS_TEST(a_new_policy_ends_the_wait),
        TURNS_TEST(who_becomes_another_in_its_turn_waits_with_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
