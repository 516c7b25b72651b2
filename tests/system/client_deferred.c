/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: calls that end after their task has returned are, for their callers, calls as any other,
 * over every transport; and what the worker does with those that do not end. Method: one list of
 * cases against the real daemon with one worker and module_deferred.c, abort_grace_ms 300;
 * test_later.py runs this program for each URL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"
#include "tests/system/session.h"

enum { DEFERRED_MAX = 64 };

static int64_t call_int(const char *task)
{
    int64_t value;

    succeeds(knit_call(k, &error, task, "() -> int", &value));
    return value;
}

static struct knit_handle *start(const char *task)
{
    struct knit_handle *handle;

    succeeds(knit_start(k, NULL, &handle, &error, task, "() -> int"));
    succeeds(knit_flush(k, &error));
    return handle;
}

/* Its one worker has run the task: a call behind it has been answered. */
static void is_deferred(struct knit_handle *handle)
{
    (void)call_int("held_now");
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
}

static void expect_int(struct knit_handle *handle, int64_t expected)
{
    int64_t value;

    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &value));
    assert_int_equal(value, expected);
    knit_free(handle);
}

static void an_outcome_comes_from_another_thread(void **state)
{
    const void *bytes;
    const char *text;
    size_t len;
    int64_t value;

    (void)state;
    succeeds(knit_call(k, &error, "later", "(int, int) -> int", INT64_C(5), INT64_C(-77), &value));
    assert_int_equal(value, -77);
    succeeds(knit_call(k, &error, "later_text", "(str) -> str", "ab", &text, &len));
    assert_int_equal(len, 4);
    assert_memory_equal(text, "abab", 4);
    for (int64_t size = 0; size <= 1 << 20; size = size * 3 + 90) {
        succeeds(knit_call(k, &error, "later_bytes", "(int) -> bin", size, &bytes, &len));
        assert_int_equal(len, size);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(((const uint8_t *)bytes)[i], (uint8_t)(i * 7));
    }
}

static void errors_are_those_of_any_call(void **state)
{
    int64_t value;

    (void)state;
    assert_int_equal(knit_call(k, &error, "later_failure", "() -> int", &value), KNIT_TASK_FAILED);
    assert_int_equal(knit_call(k, &error, "later_wrong", "() -> int", &value), KNIT_BAD_RESULT);
}

static void the_first_outcome_counts_whoever_gives_it(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(call_int("raced"), 1);
}

static void a_worker_with_deferred_calls_takes_others(void **state)
{
    struct knit_handle *handles[10];

    (void)state;
    for (int64_t i = 0; i < 10; i++)
        succeeds(knit_start(
            k, NULL, &handles[i], &error, "later", "(int, int) -> int", INT64_C(50) - 5 * i, i));
    for (int64_t i = 0; i < 10; i++)
        expect_int(handles[i], i);
}

static void as_many_are_deferred_as_may_be(void **state)
{
    struct knit_handle *handles[DEFERRED_MAX + 3];

    (void)state;
    for (int i = 0; i < DEFERRED_MAX + 3; i++)
        handles[i] = start("hold");
    for (int i = DEFERRED_MAX; i < DEFERRED_MAX + 3; i++) {
        assert_int_equal(knit_await(handles[i], -1, &error), KNIT_TASK_FAILED);
        knit_free(handles[i]);
    }
    assert_int_equal(call_int("held_now"), DEFERRED_MAX);
    for (int i = 0; i < DEFERRED_MAX; i++)
        assert_int_equal(knit_await(handles[i], 0, &error), KNIT_PENDING);
    assert_int_equal(call_int("release"), DEFERRED_MAX);
    for (int i = 0; i < DEFERRED_MAX; i++)
        expect_int(handles[i], i);
    /* Tokens of calls that are over do nothing, also when their places are used again. */
    assert_int_equal(call_int("release"), 0);
    handles[0] = start("hold");
    assert_int_equal(call_int("held_now"), DEFERRED_MAX + 1);
    assert_int_equal(call_int("release"), 1);
    expect_int(handles[0], DEFERRED_MAX);
    (void)call_int("forget");
}

static void what_the_task_printed_comes_with_the_outcome(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    const void *text;
    size_t len;
    bool is_cut;

    (void)state;
    options.output = true;
    succeeds(knit_start(k, &options, &handle, &error, "printed", "() -> int"));
    succeeds(knit_await(handle, -1, &error));
    assert_true(knit_output(handle, &text, &len, &is_cut));
    assert_int_equal(len, 13);
    assert_memory_equal(text, "before\nafter\n", 13);
    expect_int(handle, 5);
}

static void count_value(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    (void)handle, (void)value, (void)len;
    *(uint64_t *)user = count;
}

static void a_deferred_call_emits(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    uint64_t last = 0;

    (void)state;
    options.progress = true;
    succeeds(
        knit_start(k, &options, &handle, &error, "later_progress", "(int) -> int", INT64_C(10)));
    knit_on_progress(handle, count_value, &last);
    expect_int(handle, 10);
    assert_int_equal(last, 10);
}

static void a_deferred_call_is_cancelled_and_times_out(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    (void)state;
    succeeds(knit_start(
        k, NULL, &handle, &error, "later", "(int, int) -> int", INT64_C(60000), INT64_C(1)));
    succeeds(knit_flush(k, &error));
    is_deferred(handle);
    knit_cancel(handle);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_CANCELLED);
    assert_int_equal(error.started, KNIT_STARTED_YES);
    knit_free(handle);
    options.timeout_ms = 50;
    succeeds(knit_start(
        k, &options, &handle, &error, "later", "(int, int) -> int", INT64_C(60000), INT64_C(1)));
    assert_int_equal(knit_await(handle, -1, &error), KNIT_TIMEOUT);
    knit_free(handle);
}

static bool is_replaced(int64_t pid)
{
    int64_t now;

    return knit_call(k, &error, "pid", "() -> int", &now) == KNIT_OK && now != pid;
}

static void a_hard_timeout_ends_that_call_alone(void **state)
{
    int64_t pid = call_int("pid");
    struct knit_handle *never, *later;

    (void)state;
    succeeds(knit_start(
        k, NULL, &later, &error, "later", "(int, int) -> int", INT64_C(1500), INT64_C(3)));
    never = start("never");
    assert_int_equal(knit_await(never, -1, &error), KNIT_HARD_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(knit_await(later, 0, &error), KNIT_PENDING);
    expect_int(later, 3);
    knit_free(never);
    /* Then its worker goes, and another one serves. */
    assert_true(KNIT_WAIT_UNTIL(is_replaced(pid), 10000));
}

static void a_call_that_goes_on_for_nobody_costs_its_worker(void **state)
{
    int64_t pid = call_int("pid");
    struct knit_handle *handle = start("deaf");

    (void)state;
    is_deferred(handle);
    knit_cancel(handle);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_CANCELLED);
    knit_free(handle);
    assert_true(KNIT_WAIT_UNTIL(is_replaced(pid), 10000));
}

static void all_are_told_when_their_worker_dies(void **state)
{
    struct knit_handle *handles[5];

    (void)state;
    for (int i = 0; i < 4; i++)
        succeeds(knit_start(k, NULL, &handles[i], &error, "later", "(int, int) -> int",
            INT64_C(60000), INT64_C(3)));
    handles[4] = start("crash_later");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(knit_await(handles[i], -1, &error), KNIT_WORKER_DIED);
        assert_int_equal(error.started, KNIT_STARTED_YES);
        knit_free(handles[i]);
    }
    assert_int_equal(call_int("held_now"), 0);
}

static void a_caller_that_leaves_takes_nobody_down(void **state)
{
    struct knit *other = NULL;
    struct knit_handle *handle;
    int64_t pid = call_int("pid");

    (void)state;
    succeeds(knit_open(url, NULL, &other, &error));
    for (int i = 0; i < 3; i++) {
        succeeds(knit_start(other, NULL, &handle, &error, "hold", "() -> int"));
        succeeds(knit_flush(other, &error));
    }
    assert_true(KNIT_WAIT_UNTIL(call_int("held_now") == 3, 10000));
    other = knit_close(other);
    /* Whether the worker has heard of the end or not yet, nobody gets these outcomes. */
    (void)call_int("release");
    (void)call_int("forget");
    assert_int_equal(call_int("pid"), pid);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(an_outcome_comes_from_another_thread),
        WITH_SESSION(errors_are_those_of_any_call),
        WITH_SESSION(the_first_outcome_counts_whoever_gives_it),
        WITH_SESSION(a_worker_with_deferred_calls_takes_others),
        WITH_SESSION(as_many_are_deferred_as_may_be),
        WITH_SESSION(what_the_task_printed_comes_with_the_outcome),
        WITH_SESSION(a_deferred_call_emits),
        WITH_SESSION(a_deferred_call_is_cancelled_and_times_out),
        WITH_SESSION(a_caller_that_leaves_takes_nobody_down),
        WITH_SESSION(a_hard_timeout_ends_that_call_alone),
        WITH_SESSION(a_call_that_goes_on_for_nobody_costs_its_worker),
        WITH_SESSION(all_are_told_when_their_worker_dies),
    };

    if (argc != 2)
        return 2;
    url = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
