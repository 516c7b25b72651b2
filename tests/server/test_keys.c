/* SPDX-License-Identifier: Apache-2.0 */
/* The window of idempotency keys: who begins, who waits, who gets what, and what is full. Time is
 * what the test says it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/rpc/keys.h"

#define SECOND_NS UINT64_C(1000000000)
#define BEGIN_NS  (1000 * SECOND_NS)

enum { HERE = 3, THERE = 5 };

static struct knit_keys *keys;
static uint64_t now_ns;
static uint32_t woken[KNIT_KEYS_LOOPS_MAX];

static void count_wake(void *arg)
{
    ++*(uint32_t *)arg;
}

static int setup(void **state)
{
    (void)state;
    keys = knit_keys_new();
    assert_non_null(keys);
    now_ns = BEGIN_NS;
    memset(woken, 0, sizeof(woken));
    knit_keys_enter(keys, HERE, count_wake, &woken[HERE]);
    knit_keys_enter(keys, THERE, count_wake, &woken[THERE]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_null(knit_keys_free(keys));
    return 0;
}

static struct knit_keys_call call_of(const char *principal, const char *key)
{
    return (struct knit_keys_call){.principal = principal,
        .key = knit_span_text(key),
        .task = knit_span_text("task"),
        .params = knit_span("\x91\x07", 2)};
}

static enum knit_keys_verdict begin(
    const struct knit_keys_call *call, struct knit_key_waiter *waiter, struct knit_keys_answer *ret)
{
    return knit_keys_begin(keys, call, waiter, now_ns, ret);
}

/* Of a call that is new, run by HERE, and for which nobody waits. */
static struct knit_key *start(const struct knit_keys_call *call)
{
    struct knit_key_waiter waiter = {.loop = HERE};
    struct knit_keys_answer answer;

    assert_int_equal(begin(call, &waiter, &answer), KNIT_KEYS_NEW);
    assert_non_null(answer.key);
    knit_keys_drop(keys, &waiter);
    return answer.key;
}

static void end(struct knit_key *key, size_t len, bool is_kept)
{
    void *bytes = calloc(1, len + 1);
    const struct knit_keys_ending ending = {
        .outcome = knit_keys_outcome_new(false, knit_span(bytes, len)),
        .is_kept = is_kept,
        .loop = HERE,
        .now_ns = now_ns};

    assert_non_null(ending.outcome);
    free(bytes);
    knit_keys_end(keys, key, &ending);
}

/* The verdict on a call that nobody waits for, and is not begun by this. */
static enum knit_keys_verdict ask(const struct knit_keys_call *call)
{
    struct knit_key_waiter waiter = {.loop = HERE};
    struct knit_keys_answer answer;
    enum knit_keys_verdict verdict = begin(call, &waiter, &answer);

    knit_keys_drop(keys, &waiter);
    if (verdict == KNIT_KEYS_DONE)
        knit_keys_release(keys, answer.outcome);
    if (verdict == KNIT_KEYS_NEW)
        end(answer.key, 0, false);
    return verdict;
}

static void a_key_is_taken_until_60_s_after_its_call(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_key *key = start(&call);

    (void)state;
    now_ns += 3600 * SECOND_NS;
    assert_int_equal(ask(&call), KNIT_KEYS_RUNNING);
    end(key, 5, true);
    assert_int_equal(ask(&call), KNIT_KEYS_DONE);
    now_ns += KNIT_KEYS_S * SECOND_NS - 1;
    assert_int_equal(ask(&call), KNIT_KEYS_DONE);
    assert_int_equal(knit_keys_expire(keys, now_ns), 1);
    now_ns += 1;
    assert_int_equal(ask(&call), KNIT_KEYS_NEW);
    assert_int_equal(knit_keys_stats(keys).entries, 0);
    assert_int_equal(knit_keys_stats(keys).bytes, 0);
}

static void a_call_that_has_not_started_gives_its_key_free(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_key *key = start(&call);

    (void)state;
    end(key, 5, false);
    assert_int_equal(knit_keys_stats(keys).entries, 0);
    assert_int_equal(ask(&call), KNIT_KEYS_NEW);
}

static void another_content_is_another_call(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_keys_call other = call;
    struct knit_key *key = start(&call);

    (void)state;
    for (int done = 0; done < 2; done++) {
        other = call;
        other.task = knit_span_text("tas");
        assert_int_equal(ask(&other), KNIT_KEYS_OTHER);
        other = call;
        other.params = knit_span("\x91\x08", 2);
        assert_int_equal(ask(&other), KNIT_KEYS_OTHER);
        other = call;
        other.output = true;
        assert_int_equal(ask(&other), KNIT_KEYS_OTHER);
        if (done == 0)
            end(key, 1, true);
    }
    assert_int_equal(ask(&call), KNIT_KEYS_DONE);
}

/* Task and arguments, principal and key do not run into each other. */
static void what_stands_together_is_told_apart(void **state)
{
    struct knit_keys_call one = call_of("a", "bc"), other = call_of("ab", "c");

    (void)state;
    (void)start(&one);
    assert_int_equal(ask(&other), KNIT_KEYS_NEW);
    one = call_of("x", "y");
    one.task = knit_span_text("ta");
    one.params = knit_span("sk", 2);
    other = one;
    other.task = knit_span_text("t");
    other.params = knit_span("ask", 3);
    (void)start(&one);
    assert_int_equal(ask(&other), KNIT_KEYS_OTHER);
}

static void a_key_is_one_principals(void **state)
{
    const struct knit_keys_call of_a = call_of("a", "k"), of_b = call_of("b", "k");

    (void)state;
    end(start(&of_a), 1, true);
    assert_int_equal(ask(&of_b), KNIT_KEYS_NEW);
}

static void all_who_wait_get_the_outcome_in_their_loops(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_key_waiter first = {.loop = HERE}, second = {.loop = THERE}, third = second;
    struct knit_keys_answer answer, ignored;

    (void)state;
    assert_int_equal(begin(&call, &first, &answer), KNIT_KEYS_NEW);
    assert_int_equal(begin(&call, &second, &ignored), KNIT_KEYS_RUNNING);
    assert_int_equal(begin(&call, &third, &ignored), KNIT_KEYS_RUNNING);
    assert_true(knit_keys_is_awaited(keys, answer.key));
    assert_null(knit_keys_take(keys, HERE));
    end(answer.key, 3, true);
    assert_int_equal(woken[HERE], 0);
    assert_int_equal(woken[THERE], 1);
    assert_ptr_equal(knit_keys_take(keys, HERE), &first);
    assert_null(knit_keys_take(keys, HERE));
    assert_ptr_equal(knit_keys_take(keys, THERE), &second);
    assert_ptr_equal(knit_keys_take(keys, THERE), &third);
    assert_null(knit_keys_take(keys, THERE));
    assert_ptr_equal(first.outcome, third.outcome);
    assert_int_equal(first.outcome->len, 3);
    knit_keys_release(keys, first.outcome);
    knit_keys_release(keys, second.outcome);
    knit_keys_release(keys, third.outcome);
}

static void who_leaves_leaves_alone(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_key_waiter first = {.loop = HERE}, second = first, third = first;
    struct knit_keys_answer answer, ignored;

    (void)state;
    assert_int_equal(begin(&call, &first, &answer), KNIT_KEYS_NEW);
    assert_int_equal(begin(&call, &second, &ignored), KNIT_KEYS_RUNNING);
    assert_int_equal(begin(&call, &third, &ignored), KNIT_KEYS_RUNNING);
    knit_keys_drop(keys, &first);
    assert_true(knit_keys_is_awaited(keys, answer.key));
    end(answer.key, 3, true);
    knit_keys_drop(keys, &second);
    assert_ptr_equal(knit_keys_take(keys, HERE), &third);
    knit_keys_release(keys, third.outcome);
    knit_keys_drop(keys, &third);
    assert_null(knit_keys_take(keys, HERE));
}

static void a_loop_that_has_ended_is_not_woken(void **state)
{
    const struct knit_keys_call call = call_of("a", "k");
    struct knit_key_waiter waiter = {.loop = THERE};
    struct knit_keys_answer answer;

    (void)state;
    assert_int_equal(begin(&call, &waiter, &answer), KNIT_KEYS_NEW);
    knit_keys_leave(keys, THERE);
    end(answer.key, 3, true);
    assert_int_equal(woken[THERE], 0);
    knit_keys_drop(keys, &waiter);
}

/* The number of keys that one principal has, all ended now. */
static void fill(const char *principal, uint32_t count)
{
    char name[32];

    for (uint32_t i = 0; i < count; i++) {
        struct knit_keys_call call;

        (void)snprintf(name, sizeof(name), "%u", i);
        call = call_of(principal, name);
        end(start(&call), 0, true);
    }
}

static void full_it_refuses_and_forgets_nothing(void **state)
{
    const struct knit_keys_call more = call_of("a", "more"), of_b = call_of("b", "more");
    const struct knit_keys_call there = call_of("a", "0");
    struct knit_key_waiter waiter = {.loop = HERE};
    struct knit_keys_answer answer;

    (void)state;
    fill("a", KNIT_KEYS_OF_ONE_MAX);
    now_ns += 20 * SECOND_NS;
    assert_int_equal(begin(&more, &waiter, &answer), KNIT_KEYS_FULL);
    assert_in_range(answer.retry_ms, 40000, 40001);
    assert_int_equal(ask(&there), KNIT_KEYS_DONE);
    assert_int_equal(ask(&of_b), KNIT_KEYS_NEW);
    now_ns += 40 * SECOND_NS;
    assert_int_equal(ask(&more), KNIT_KEYS_NEW);
    assert_int_equal(knit_keys_stats(keys).entries, 0);
}

/* Loops look at the clock at different times: what one of them keeps does not stand behind what
 * another one, which is ahead, has kept before. */
static void a_loop_that_is_behind_changes_no_order(void **state)
{
    const struct knit_keys_call ahead = call_of("b", "first"), more = call_of("a", "more");
    struct knit_key_waiter waiter = {.loop = HERE};
    struct knit_keys_answer answer;
    uint64_t end_ns;

    (void)state;
    now_ns += SECOND_NS / 100;
    end(start(&ahead), 0, true);
    now_ns -= SECOND_NS / 100;
    fill("a", KNIT_KEYS_OF_ONE_MAX);
    now_ns += KNIT_KEYS_S * SECOND_NS + SECOND_NS / 200;
    assert_int_equal(begin(&more, &waiter, &answer), KNIT_KEYS_FULL);
    assert_in_range(answer.retry_ms, 1, 10);
    end_ns = now_ns + answer.retry_ms * (SECOND_NS / 1000);
    now_ns = end_ns;
    assert_int_equal(ask(&more), KNIT_KEYS_NEW);
}

static void one_that_may_not_begin_waits_for_what_there_is(void **state)
{
    struct knit_keys_call call = call_of("a", "k");
    struct knit_key *key;

    (void)state;
    call.may_not_begin = true;
    assert_int_equal(ask(&call), KNIT_KEYS_ABSENT);
    call.may_not_begin = false;
    key = start(&call);
    call.may_not_begin = true;
    assert_int_equal(ask(&call), KNIT_KEYS_RUNNING);
    end(key, 0, true);
    assert_int_equal(ask(&call), KNIT_KEYS_DONE);
}

static void all_principals_together_have_a_limit(void **state)
{
    const struct knit_keys_call more = call_of("one", "more");
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < KNIT_KEYS_MAX / KNIT_KEYS_OF_ONE_MAX; i++) {
        (void)snprintf(name, sizeof(name), "p%u", i);
        fill(name, KNIT_KEYS_OF_ONE_MAX);
    }
    assert_int_equal(knit_keys_stats(keys).entries, KNIT_KEYS_MAX);
    assert_int_equal(ask(&more), KNIT_KEYS_FULL);
    now_ns += KNIT_KEYS_S * SECOND_NS;
    assert_int_equal(knit_keys_expire(keys, now_ns), 0);
}

static void outcomes_have_a_limit_of_bytes(void **state)
{
    const struct knit_keys_call call = call_of("a", "k"), other = call_of("a", "l");
    const struct knit_keys_call of_b = call_of("b", "k");

    (void)state;
    end(start(&call), KNIT_KEYS_OF_ONE_BYTES - KNIT_KEYS_ROOM + 1, true);
    assert_int_equal(ask(&other), KNIT_KEYS_FULL);
    assert_int_equal(ask(&call), KNIT_KEYS_DONE);
    assert_int_equal(ask(&of_b), KNIT_KEYS_NEW);
    now_ns += KNIT_KEYS_S * SECOND_NS;
    assert_int_equal(knit_keys_expire(keys, now_ns), 0);
    assert_int_equal(knit_keys_stats(keys).bytes, 0);
}

/* It is remembered that the call has run, and whoever waits has the outcome. */
static void an_outcome_without_room_is_remembered_without_its_bytes(void **state)
{
    const struct knit_keys_call call = call_of("a", "k"), other = call_of("a", "l");
    struct knit_key_waiter waiter = {.loop = HERE};
    struct knit_keys_answer answer;

    (void)state;
    assert_int_equal(begin(&call, &waiter, &answer), KNIT_KEYS_NEW);
    end(answer.key, KNIT_KEYS_OF_ONE_BYTES + 1, true);
    assert_ptr_equal(knit_keys_take(keys, HERE), &waiter);
    assert_int_equal(waiter.outcome->len, KNIT_KEYS_OF_ONE_BYTES + 1);
    knit_keys_release(keys, waiter.outcome);
    assert_int_equal(ask(&call), KNIT_KEYS_LOST);
    assert_int_equal(ask(&other), KNIT_KEYS_NEW);
    assert_int_equal(knit_keys_stats(keys).bytes, 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_is_taken_until_60_s_after_its_call),
        TEST(a_call_that_has_not_started_gives_its_key_free),
        TEST(another_content_is_another_call),
        TEST(what_stands_together_is_told_apart),
        TEST(a_key_is_one_principals),
        TEST(all_who_wait_get_the_outcome_in_their_loops),
        TEST(who_leaves_leaves_alone),
        TEST(a_loop_that_has_ended_is_not_woken),
        TEST(full_it_refuses_and_forgets_nothing),
        TEST(a_loop_that_is_behind_changes_no_order),
        TEST(one_that_may_not_begin_waits_for_what_there_is),
        TEST(all_principals_together_have_a_limit),
        TEST(outcomes_have_a_limit_of_bytes),
        TEST(an_outcome_without_room_is_remembered_without_its_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
