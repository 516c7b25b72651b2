/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are made more than once, over a stream, by a server that does as the test says. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>
#include <knitting/module.h>

#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

#define ALWAYS UINT32_MAX

static struct knit *k;
static struct knit_error error;

static int start(void **state)
{
    (void)knit_fake_start(state);
    k = knit_fake_open(NULL);
    return 0;
}

/* A server whose task c fails so often. */
static int start_failing(void **state)
{
    return knit_fake_start(state);
}

static void open_retrying(const struct knit_retry_options *retry)
{
    const struct knit_open_options options = {.retry = retry};

    k = knit_close(k);
    k = knit_fake_open(&options);
}

static void fail_with(uint32_t code, uint32_t times)
{
    fake.failure = knit_failure(code, "as the test says");
    fake.failures = times;
    atomic_store_explicit(&fake.attempts, 0, memory_order_relaxed);
}

static uint32_t attempts(void)
{
    return atomic_load_explicit(&fake.attempts, memory_order_relaxed);
}

static int call_c(const struct knit_call_options *options)
{
    int64_t result = 0;
    int code = knit_call_with(k, options, &error, "c", "(int) -> int", (int64_t)7, &result);

    assert_int_equal(result, code == KNIT_OK ? 7 : 0);
    return code;
}

static uint64_t now_ms(void)
{
    return knit_now() / 1000000;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

/* It would run the call each time. */
static void a_server_that_knows_no_keys_gets_none(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    options.key = "k";
    assert_int_equal(
        knit_call_with(k, &options, &error, "echo", "(int)", (int64_t)1), KNIT_BAD_ARGUMENT);
    assert_string_equal(error.message, "option key: the server does not know keys");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_call(k, &error, "echo", "(int)", (int64_t)1), KNIT_OK);
}

static const struct knit_retry_options quick = {.wait_ms = 1, .wait_max_ms = 2};

static void what_has_certainly_not_started_is_made_again(void **state)
{
    static const uint32_t codes[] = {
        KNIT_DRAINING, KNIT_OVERLOADED, KNIT_QUOTA, KNIT_NO_WORKER, KNIT_STALE_EPOCH};

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        open_retrying(&quick);
        fail_with(codes[i], 2);
        assert_int_equal(call_c(NULL), KNIT_OK);
        assert_int_equal(attempts(), 3);
        fail_with(codes[i], 3);
        assert_int_equal(call_c(NULL), (int)codes[i]);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_int_equal(attempts(), 3);
    }
}

static void nothing_else_is(void **state)
{
    static const uint32_t codes[] = {KNIT_BAD_MESSAGE, KNIT_TOO_LARGE, KNIT_QUARANTINED,
        KNIT_UNKNOWN_TASK, KNIT_DENIED, KNIT_BAD_ARGUMENT, KNIT_TIMEOUT, KNIT_CANCELLED,
        KNIT_DUPLICATE, KNIT_WORKER_DIED, KNIT_HARD_TIMEOUT, KNIT_RESULT_TOO_LARGE, KNIT_BAD_RESULT,
        KNIT_INTERNAL, KNIT_SHUTDOWN, KNIT_TASK_FAILED};

    (void)state;
    open_retrying(&quick);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        fail_with(codes[i], ALWAYS);
        assert_int_equal(call_c(NULL), (int)codes[i]);
        assert_int_equal(attempts(), 1);
    }
    /* Whatever its code says otherwise. */
    fail_with(KNIT_OVERLOADED, ALWAYS);
    fake.failure.started = KNIT_STARTED_UNKNOWN;
    assert_int_equal(call_c(NULL), KNIT_OVERLOADED);
    assert_int_equal(attempts(), 1);
    open_retrying(NULL);
    fail_with(KNIT_OVERLOADED, ALWAYS);
    assert_int_equal(call_c(NULL), KNIT_OVERLOADED);
    assert_int_equal(attempts(), 1);
}

static void a_task_that_is_marked_is_also_after_it_may_have_started(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    fake.flags = KNIT_TASK_IDEMPOTENT;
    open_retrying(&quick);
    fail_with(KNIT_WORKER_DIED, 2);
    assert_int_equal(call_c(NULL), KNIT_OK);
    assert_int_equal(attempts(), 3);
    fail_with(KNIT_TIMEOUT, ALWAYS);
    assert_int_equal(call_c(&options), KNIT_TIMEOUT);
    fail_with(KNIT_HARD_TIMEOUT, ALWAYS);
    assert_int_equal(call_c(&options), KNIT_HARD_TIMEOUT);
    assert_int_equal(attempts(), 1);
}

static void the_last_error_tells_of_all_attempts(void **state)
{
    static const struct knit_retry_options patient = {.wait_ms = 3600000, .wait_max_ms = 3600000};
    struct knit_handle *handle;

    (void)state;
    fake.flags = KNIT_TASK_IDEMPOTENT;
    open_retrying(&patient);
    fail_with(KNIT_WORKER_DIED, 1);
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(knit_dispatch(k, &error) == KNIT_OK && attempts() == 1, 10000));
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
    knit_cancel(handle);
    assert_int_equal(knit_await(handle, 10000, &error), KNIT_CANCELLED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    assert_null(knit_free(handle));
}

/* Nobody knows whether the call ran. */
static void after_a_lost_connection_only_what_may_run_twice_is(void **state)
{
    (void)state;
    open_retrying(&quick);
    fail_with(KNIT_OVERLOADED, 0);
    fake.closes = 1;
    assert_int_equal(call_c(NULL), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    assert_int_equal(call_c(NULL), KNIT_OK);
    assert_int_equal(attempts(), 2);
    fake.flags = KNIT_TASK_IDEMPOTENT;
    open_retrying(&quick);
    fail_with(KNIT_OVERLOADED, 0);
    fake.closes = 2;
    assert_int_equal(call_c(NULL), KNIT_OK);
    assert_int_equal(attempts(), 3);
}

static void one_with_a_key_goes_to_the_same_server_again_and_to_no_other(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    (void)state;
    options.key = "k";
    fake.takes_keys = true;
    fake.instance = "one";
    open_retrying(&quick);
    fail_with(KNIT_OVERLOADED, 0);
    fake.closes = 2;
    assert_int_equal(call_c(&options), KNIT_OK);
    assert_int_equal(attempts(), 3);
    fail_with(KNIT_OVERLOADED, 0);
    fake.closes = 1;
    assert_int_equal(
        knit_start(k, &options, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
    fake.instance = "two";
    assert_int_equal(knit_await(handle, 10000, &error), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    assert_non_null(strstr(error.message, "another one"));
    assert_int_equal(attempts(), 1);
    assert_null(knit_free(handle));
}

static void retry_after_ms_is_honoured(void **state)
{
    uint64_t began_ms;

    (void)state;
    open_retrying(&quick);
    fail_with(KNIT_OVERLOADED, 2);
    fake.failure.retry_after_ms = 150;
    began_ms = now_ms();
    assert_int_equal(call_c(NULL), KNIT_OK);
    assert_true(now_ms() - began_ms >= 299);
    assert_int_equal(attempts(), 3);
}

static void what_would_come_too_late_is_not_waited_for(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t began_ms = now_ms();

    (void)state;
    open_retrying(&quick);
    options.timeout_ms = 100000;
    for (int i = 0; i < 2; i++) {
        fail_with(KNIT_OVERLOADED, ALWAYS);
        fake.failure.retry_after_ms = 3600000;
        assert_int_equal(call_c(&options), KNIT_OVERLOADED);
        assert_int_equal(attempts(), 1);
        options.timeout_ms = -1;
        options.queue_ms = 100000;
    }
    assert_true(now_ms() - began_ms < 100000);
}

static void a_call_without_timeout_is_not_kept_for_longer_than_a_minute(void **state)
{
    static const uint64_t asked_ms[] = {60002, 3600000, UINT32_MAX, UINT64_MAX - 1};
    const struct knit_retry_options patient = {.wait_ms = 1, .wait_max_ms = 100000};
    struct knit_handle *handle;

    (void)state;
    open_retrying(&quick);
    for (size_t i = 0; i < sizeof(asked_ms) / sizeof(asked_ms[0]); i++) {
        fail_with(KNIT_OVERLOADED, ALWAYS);
        fake.failure.retry_after_ms = asked_ms[i];
        assert_int_equal(
            knit_start(k, NULL, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
        assert_int_equal(knit_await(handle, 10000, &error), KNIT_OVERLOADED);
        assert_int_equal(attempts(), 1);
        assert_null(knit_free(handle));
    }
    open_retrying(&patient);
    fail_with(KNIT_OVERLOADED, ALWAYS);
    fake.failure.retry_after_ms = 90000;
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(knit_dispatch(k, &error) == KNIT_OK && attempts() == 1, 10000));
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
    assert_null(knit_free(handle));
}

static void all_attempts_have_one_timeout(void **state)
{
    const struct knit_retry_options many = {.attempts = 1000, .wait_ms = 20, .wait_max_ms = 20};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    open_retrying(&many);
    options.timeout_ms = 100;
    fail_with(KNIT_OVERLOADED, ALWAYS);
    /* TIMEOUT: an attempt came too late for its answer. */
    if (call_c(&options) != KNIT_TIMEOUT)
        assert_int_equal(error.code, KNIT_OVERLOADED);
    assert_in_range(attempts(), 1, 11);
}

static void the_budget_bounds_all_attempts(void **state)
{
    const struct knit_retry_options many = {.attempts = 1000, .wait_ms = 1, .wait_max_ms = 1};

    (void)state;
    open_retrying(&many);
    fail_with(KNIT_OVERLOADED, ALWAYS);
    assert_int_equal(call_c(NULL), KNIT_OVERLOADED);
    assert_int_equal(attempts(), 1 + 10);
    /* Ten calls earn one attempt. */
    fail_with(KNIT_OVERLOADED, ALWAYS);
    for (int i = 0; i < 100; i++)
        assert_int_equal(call_c(NULL), KNIT_OVERLOADED);
    assert_in_range(attempts(), 100 + 9, 100 + 10);
}

static void long_arguments_are_not_kept(void **state)
{
    enum { SHORT = 64000, LONG = 70000, CALLS = 80 };
    static const struct knit_retry_options often = {
        .attempts = 2, .wait_ms = 1, .budget_percent = 100};
    struct knit_handle *handles[CALLS];
    void *bytes = calloc(1, LONG);

    (void)state;
    assert_non_null(bytes);
    open_retrying(&often);
    fail_with(KNIT_OVERLOADED, 1);
    assert_int_equal(knit_call(k, &error, "c", "(bin)", bytes, (size_t)SHORT), KNIT_OK);
    fail_with(KNIT_OVERLOADED, 1);
    assert_int_equal(knit_call(k, &error, "c", "(bin)", bytes, (size_t)LONG), KNIT_OVERLOADED);
    /* 4 MiB of all that are in flight. */
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(
            knit_start(k, NULL, &handles[i], &error, "never", "(bin)", bytes, (size_t)SHORT),
            KNIT_OK);
    fail_with(KNIT_OVERLOADED, 1);
    assert_int_equal(knit_call(k, &error, "c", "(bin)", bytes, (size_t)SHORT), KNIT_OVERLOADED);
    for (int i = 0; i < CALLS; i++)
        assert_null(knit_free(handles[i]));
    fail_with(KNIT_OVERLOADED, 1);
    assert_int_equal(knit_call(k, &error, "c", "(bin)", bytes, (size_t)SHORT), KNIT_OK);
    free(bytes);
}

static void results_that_are_kept_keep_no_arguments(void **state)
{
    enum { SHORT = 64000, CALLS = 80 };
    static const struct knit_retry_options often = {
        .attempts = 2, .wait_ms = 1, .budget_percent = 100};
    struct knit_handle *handles[CALLS];
    void *bytes = calloc(1, SHORT);

    (void)state;
    assert_non_null(bytes);
    open_retrying(&often);
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(
            knit_start(k, NULL, &handles[i], &error, "echo", "(bin)", bytes, (size_t)SHORT),
            KNIT_OK);
        assert_int_equal(knit_await(handles[i], 10000, &error), KNIT_OK);
    }
    fail_with(KNIT_OVERLOADED, 1);
    assert_int_equal(knit_call(k, &error, "c", "(bin)", bytes, (size_t)SHORT), KNIT_OK);
    for (int i = 0; i < CALLS; i++)
        assert_null(knit_free(handles[i]));
    free(bytes);
}

static void count_done(struct knit_handle *handle, void *user)
{
    ++*(int *)user;
    (void)knit_await(handle, 0, &error);
}

/* Until the first attempt is over and the second is most of a minute away. */
static struct knit_handle *start_waiting(int *done)
{
    struct knit_handle *handle;

    *done = 0;
    fail_with(KNIT_OVERLOADED, ALWAYS);
    fake.failure.retry_after_ms = 50000;
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
    knit_on_done(handle, count_done, done);
    assert_true(KNIT_WAIT_UNTIL(knit_dispatch(k, &error) == KNIT_OK && attempts() == 1, 10000));
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    assert_int_equal(*done, 0);
    return handle;
}

static void one_that_waits_is_cancelled_freed_or_closed(void **state)
{
    struct knit_handle *handle;
    int done;

    (void)state;
    open_retrying(&quick);
    handle = start_waiting(&done);
    knit_cancel(handle);
    assert_int_equal(knit_await(handle, 10000, &error), KNIT_CANCELLED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_null(knit_free(handle));
    assert_null(knit_free(start_waiting(&done)));
    handle = start_waiting(&done);
    knit_abort(handle, "enough");
    assert_int_equal(knit_await(handle, 10000, &error), KNIT_CANCELLED);
    assert_null(knit_free(handle));
    (void)start_waiting(&done);
    k = knit_close(k);
    assert_int_equal(done, 1);
    assert_int_equal(error.code, KNIT_DISCONNECTED);
}

static void an_event_loop_is_told_when_it_is_time(void **state)
{
    const struct knit_retry_options slow = {.wait_ms = 50};
    struct knit_handle *handle;
    struct pollfd poll_fd = {.events = POLLIN};
    int done = 0;

    (void)state;
    open_retrying(&slow);
    fail_with(KNIT_OVERLOADED, 2);
    poll_fd.fd = knit_fd(k);
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "c", "(int) -> int", (int64_t)7), KNIT_OK);
    knit_on_done(handle, count_done, &done);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    while (done == 0) {
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    }
    assert_int_equal(knit_await(handle, 0, &error), KNIT_OK);
    assert_int_equal(attempts(), 3);
    assert_null(knit_free(handle));
}

static void reserved_words_are_refused(void **state)
{
    const struct knit_retry_options retry = {.reserved = {0, 1}};
    const struct knit_open_options options = {.retry = &retry};

    (void)state;
    assert_int_equal(knit_open(fake.url, &options, &k, &error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "knit_retry_options"));
}

#define FAILING(test) cmocka_unit_test_setup_teardown(test, start_failing, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_that_knows_no_keys_gets_none, start, stop),
        FAILING(what_has_certainly_not_started_is_made_again),
        FAILING(nothing_else_is),
        FAILING(a_task_that_is_marked_is_also_after_it_may_have_started),
        FAILING(the_last_error_tells_of_all_attempts),
        FAILING(after_a_lost_connection_only_what_may_run_twice_is),
        FAILING(one_with_a_key_goes_to_the_same_server_again_and_to_no_other),
        FAILING(retry_after_ms_is_honoured),
        FAILING(what_would_come_too_late_is_not_waited_for),
        FAILING(a_call_without_timeout_is_not_kept_for_longer_than_a_minute),
        FAILING(all_attempts_have_one_timeout),
        FAILING(the_budget_bounds_all_attempts),
        FAILING(long_arguments_are_not_kept),
        FAILING(results_that_are_kept_keep_no_arguments),
        FAILING(one_that_waits_is_cancelled_freed_or_closed),
        FAILING(an_event_loop_is_told_when_it_is_time),
        FAILING(reserved_words_are_refused),
    };

    return cmocka_run_group_tests_name("again", tests, NULL, NULL);
}
