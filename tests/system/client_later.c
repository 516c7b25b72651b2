/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a call's caller gets before its outcome is the same over every transport. Method: one
 * list of cases against the real daemon with module_later.c; test_later.py runs this program for
 * each URL.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"
#include "tests/system/session.h"

/* What a callback has been given. */
struct seen {
    uint64_t calls, count;
    int64_t value;
    bool is_done; /* when the outcome's callback ran */
    uint64_t calls_when_done;
    uint64_t cancel_at; /* cancels then; 0 = never */
};

static int64_t int_of(const uint8_t *value, size_t len)
{
    uint64_t number = 0;

    assert_int_equal(len, 9);
    assert_int_equal(value[0], 0xd3);
    for (int i = 1; i < 9; i++)
        number = number << 8 | value[i];
    return (int64_t)number;
}

static void on_progress(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    struct seen *seen = user;

    assert_false(seen->is_done);
    assert_true(count > seen->count);
    seen->calls++;
    seen->count = count;
    seen->value = int_of(value, len);
    assert_true((uint64_t)seen->value == count);
    if (seen->calls == seen->cancel_at)
        knit_cancel(handle);
}

static void on_done(struct knit_handle *handle, void *user)
{
    struct seen *seen = user;

    (void)handle;
    seen->is_done = true;
    seen->calls_when_done = seen->calls;
}

static struct knit_handle *start_watched(
    struct seen *seen, const char *task, const char *signature, int64_t argument)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    options.progress = true;
    options.timeout_ms = 60000;
    succeeds(knit_start(k, &options, &handle, &error, task, signature, argument));
    knit_on_progress(handle, on_progress, seen);
    knit_on_done(handle, on_done, seen);
    return handle;
}

static void values_come_while_the_call_is_awaited(void **state)
{
    struct seen seen = {.cancel_at = 3};
    struct knit_handle *handle = start_watched(&seen, "count_on", "() -> int", 0);
    int64_t last;

    (void)state;
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &last));
    /* The last one is not lost, and comes first. */
    assert_true(seen.calls >= 3);
    assert_int_equal(seen.value, last);
    assert_true(seen.is_done);
    assert_int_equal(seen.calls_when_done, seen.calls);
    knit_free(handle);
}

static void values_come_in_an_event_loop(void **state)
{
    struct seen seen[4] = {{.cancel_at = 3}, {.cancel_at = 4}, {.cancel_at = 5}, {.cancel_at = 6}};
    struct knit_handle *handles[4];
    uint64_t until_ms = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        handles[i] = start_watched(&seen[i], "count_on", "() -> int", 0);
    succeeds(knit_flush(k, &error));
    for (int i = 0; i < 4; i++) {
        while (!seen[i].is_done) {
            struct pollfd at = {.fd = knit_fd(k), .events = POLLIN};

            assert_true(poll(&at, 1, 10000) >= 0);
            succeeds(knit_dispatch(k, &error));
            assert_true(++until_ms < 1000000);
        }
    }
    for (int i = 0; i < 4; i++) {
        int64_t last;

        succeeds(knit_results(handles[i], &error, &last));
        assert_true(seen[i].calls >= seen[i].cancel_at);
        assert_int_equal(seen[i].value, last);
        knit_free(handles[i]);
    }
}

static void of_many_values_the_last_one_is_seen(void **state)
{
    struct seen seen = {0};
    struct knit_handle *handle = start_watched(&seen, "emit_all", "(int) -> int", 100000);
    int64_t codes;

    (void)state;
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &codes));
    assert_int_equal(codes, 0);
    assert_int_equal(seen.count, 100000);
    knit_free(handle);
}

static void a_callback_that_comes_later_gets_the_last_value(void **state)
{
    struct seen seen = {0};
    struct knit_handle *handle = start_watched(&seen, "emit_all", "(int) -> int", 5);

    (void)state;
    knit_on_progress(handle, NULL, NULL);
    knit_on_done(handle, NULL, NULL);
    succeeds(knit_await(handle, -1, &error));
    assert_int_equal(seen.calls, 0);
    knit_on_progress(handle, on_progress, &seen);
    succeeds(knit_dispatch(k, &error));
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.count, 5);
    knit_free(handle);
}

static void nobody_looks_unless_asked(void **state)
{
    struct seen seen = {0};
    struct knit_handle *handle;
    int64_t codes;

    (void)state;
    succeeds(knit_start(k, NULL, &handle, &error, "emit_all", "(int) -> int", INT64_C(1000)));
    knit_on_progress(handle, on_progress, &seen);
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &codes));
    assert_int_equal(codes, 0);
    assert_int_equal(seen.calls, 0);
    knit_free(handle);
}

static void count_calls(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    (void)handle, (void)value, (void)count;
    assert_true(len <= 112);
    ++*(int *)user;
}

/* The call goes on, and its caller gets nothing. */
static void what_is_no_value_is_refused_by_name(void **state)
{
    static const struct {
        size_t len;
        int code;
        uint8_t first;
    } cases[] = {
        {1, KNIT_OK, 0xc0},
        {112, KNIT_OK, 0xd9},
        {113, KNIT_TOO_LARGE, 0xd9},
        {0, KNIT_BAD_ARGUMENT, 0xc0},
        {2, KNIT_BAD_ARGUMENT, 0xc0}, /* two values */
        {1, KNIT_BAD_ARGUMENT, 0x91}, /* cut short */
        {1, KNIT_BAD_ARGUMENT, 0xc1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
        struct knit_handle *handle;
        uint8_t bytes[113];
        int64_t code;
        int calls = 0;

        memset(bytes, cases[i].len > 100 ? 'x' : 0xc0, sizeof(bytes));
        bytes[0] = cases[i].first;
        if (cases[i].len > 100)
            bytes[1] = (uint8_t)(cases[i].len - 2);
        options.progress = true;
        succeeds(knit_start(k, &options, &handle, &error, "emit_raw", "(bin) -> int",
            (const void *)bytes, cases[i].len));
        knit_on_progress(handle, count_calls, &calls);
        succeeds(knit_await(handle, -1, &error));
        succeeds(knit_results(handle, &error, &code));
        assert_int_equal(code, cases[i].code);
        assert_int_equal(calls, cases[i].code == KNIT_OK ? 1 : 0);
        knit_free(handle);
    }
}

static void tasks_emit_ints_floats_and_texts(void **state)
{
    struct seen seen = {0};
    struct knit_handle *handle = start_watched(&seen, "emit_kinds", "() -> int", 0);
    int64_t codes;

    (void)state;
    knit_on_progress(handle, NULL, NULL);
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &codes));
    assert_int_equal(codes, 1111);
    knit_free(handle);
}

static void a_handle_may_be_freed_while_values_come(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct seen seen = {0};
        struct knit_handle *handle = start_watched(&seen, "count_on", "() -> int", 0);

        while (seen.calls < (uint64_t)i % 3)
            (void)knit_await(handle, 1, &error);
        knit_free(handle);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(values_come_while_the_call_is_awaited),
        WITH_SESSION(values_come_in_an_event_loop),
        WITH_SESSION(of_many_values_the_last_one_is_seen),
        WITH_SESSION(a_callback_that_comes_later_gets_the_last_value),
        WITH_SESSION(nobody_looks_unless_asked),
        WITH_SESSION(what_is_no_value_is_refused_by_name),
        WITH_SESSION(tasks_emit_ints_floats_and_texts),
        WITH_SESSION(a_handle_may_be_freed_while_values_come),
    };

    if (argc != 2)
        return 2;
    url = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
