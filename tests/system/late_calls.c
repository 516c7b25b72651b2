/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a caller gets when a timeout is over is the same over every transport, wherever the
 * call is then. Method: tables of what the caller says, of where the call is, of tasks that say it
 * themselves; test_late_calls.py runs this program for each URL, with one worker and the module
 * late.
 *
 *     late_calls URL
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"
#include "tests/system/session.h"

/* Longer than any test takes. */
#define FOR_LONG ((int64_t)600000)

static int64_t ran(void)
{
    int64_t count;

    succeeds(knit_call(k, &error, "count", "() -> int", &count));
    return count;
}

/* ---- what a caller says ---- */

enum outcome { FAILS, IS_SEVEN, IS_NIL };

static const struct form {
    const char *name;
    struct knit_on_timeout say;
    enum outcome outcome;
    const char *message; /* of the error; NULL = TIMEOUT's own */
    const char *data;
} forms[] = {
    {"nothing", {.value = NULL}, FAILS, NULL, NULL},
    {"a value", {.value = "\x07", .value_len = 1}, IS_SEVEN, NULL, NULL},
    {"maybe", {.maybe = true}, IS_NIL, NULL, NULL},
    {"a message", {.error = "too slow"}, FAILS, "too slow", NULL},
    {"data", {.error_data = "\x91\x05", .error_data_len = 2}, FAILS, NULL, "\x91\x05"},
    {"message and data", {.error = "too slow", .error_data = "\xc0", .error_data_len = 1}, FAILS,
        "too slow", "\xc0"},
    {"a value before maybe and an error",
        {.value = "\x07", .value_len = 1, .maybe = true, .error = "no"}, IS_SEVEN, NULL, NULL},
    {"maybe before an error", {.maybe = true, .error = "no"}, IS_NIL, NULL, NULL},
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static void ends_as_said(const struct form *form, int code, bool is_there, int64_t value)
{
    if (form->outcome != FAILS) {
        succeeds(code);
        assert_int_equal(is_there, form->outcome == IS_SEVEN);
        assert_true(!is_there || value == 7);
        return;
    }
    assert_int_equal(code, KNIT_TIMEOUT);
    if (form->message != NULL)
        assert_string_equal(error.message, form->message);
    else
        assert_true(error.message[0] != '\0');
    assert_int_equal(error.data_len, form->data != NULL ? strlen(form->data) : 0);
    if (form->data != NULL)
        assert_memory_equal(error.data, form->data, error.data_len);
}

static void is_called(const struct form *form, double timeout_ms)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t begin_ns = knit_deadline_now_ns(), took_ns;
    int64_t value = -1;
    bool is_there = false;
    int code;

    options.timeout_ms = timeout_ms;
    options.on_timeout = &form->say;
    code =
        knit_call_with(k, &options, &error, "hold", "(int) -> int?", FOR_LONG, &is_there, &value);
    took_ns = knit_deadline_now_ns() - begin_ns;
    print_message("    %s, %g ms: after %.1f ms\n", form->name, timeout_ms, (double)took_ns / 1e6);
    ends_as_said(form, code, is_there, value);
    assert_true((double)took_ns >= timeout_ms * 1e6);
    assert_true(took_ns < knit_deadline_stretched_ns(UINT64_C(2000000000)));
}

static void a_running_call_ends_as_its_caller_said(void **state)
{
    (void)state;
    for (int i = 0; i < FORMS; i++)
        is_called(&forms[i], 30);
}

static void a_call_whose_time_is_over_at_once_never_starts(void **state)
{
    int64_t before = ran();

    (void)state;
    for (int i = 0; i < FORMS; i++)
        is_called(&forms[i], 0);
    assert_true(ran() == before);
}

static void a_call_that_is_queued_ends_as_its_caller_said_and_never_starts(void **state)
{
    struct knit_handle *holder;
    int64_t before = ran();

    (void)state;
    succeeds(knit_start(k, NULL, &holder, &error, "hold", "(int) -> int?", FOR_LONG));
    succeeds(knit_flush(k, &error));
    for (int i = 0; i < FORMS; i++)
        is_called(&forms[i], 10);
    knit_cancel(holder);
    assert_int_equal(knit_await(holder, -1, &error), KNIT_CANCELLED);
    knit_free(holder);
    assert_true(ran() <= before + 1);
}

/* The session has room for two. */
static void a_call_that_finds_no_room_ends_as_its_caller_said(void **state)
{
    const struct knit_open_options few = {.slots = 2};
    struct knit *all = k;

    (void)state;
    k = open_with(&few);
    for (int i = 0; i < 2; i++) {
        struct knit_handle *holder;

        succeeds(knit_start(k, NULL, &holder, &error, "hold", "(int) -> int?", FOR_LONG));
    }
    succeeds(knit_flush(k, &error));
    for (int i = 0; i < FORMS; i++)
        is_called(&forms[i], 10);
    knit_close(k);
    k = all;
}

static void a_task_that_does_not_look_is_answered_at_the_deadline(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t begin_ns, late_ns;
    int64_t value = 0;

    (void)state;
    options.timeout_ms = 100;
    options.on_timeout = &forms[1].say;
    begin_ns = knit_deadline_now_ns();
    succeeds(knit_call_with(k, &options, &error, "busy", "(int) -> int", (int64_t)1500, &value));
    late_ns = knit_deadline_now_ns() - begin_ns - UINT64_C(100000000);
    print_message("    answered %.1f ms after the deadline\n", (double)late_ns / 1e6);
    assert_true(value == 7);
    /* Long before its task ends. */
    assert_true(late_ns < knit_deadline_stretched_ns(1000000000));
    /* Its late result is dropped. */
    assert_true(ran() > 0);
}

static void times_that_are_none_end_no_call(void **state)
{
    static const double times[] = {-1, -0.5, 0.0 / 0.0, 1e300};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t value;

    (void)state;
    options.on_timeout = &forms[1].say;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        options.timeout_ms = times[i];
        succeeds(knit_call_with(k, &options, &error, "busy", "(int) -> int", (int64_t)2, &value));
        assert_true(value == 2);
    }
}

/* ---- what fits ---- */

static void what_cannot_be_a_result_is_refused_when_the_call_is_made(void **state)
{
    static uint8_t large[3000] = {0xc5, 0x0b, 0xb5};
    static const struct {
        struct knit_on_timeout say;
        const char *signature;
        int code;
        const char *message;
    } cases[] = {
        {{.value = "\xa1x", .value_len = 2}, "(int) -> int", KNIT_BAD_ARGUMENT,
            "result 1: expected int, got str"},
        {{.maybe = true}, "(int) -> int", KNIT_BAD_ARGUMENT, "result 1: expected int, got nil"},
        {{.value = "\x92\x01\x02", .value_len = 3}, "(int) -> (int, str)", KNIT_BAD_ARGUMENT,
            "result 2: expected str, got int"},
        {{.value = "\x91", .value_len = 1}, "(int)", KNIT_BAD_ARGUMENT, "well-formed"},
        {{.value = "\xa1\xff", .value_len = 2}, "(int)", KNIT_BAD_ARGUMENT, "well-formed"},
        {{.value = "\x01\x02", .value_len = 2}, "(int)", KNIT_BAD_ARGUMENT, "well-formed"},
        {{.error = "\xff"}, "(int)", KNIT_BAD_ARGUMENT, "UTF-8"},
        {{.error_data = "\xc1", .error_data_len = 1}, "(int)", KNIT_BAD_ARGUMENT, "error_data"},
        {{.value = large, .value_len = sizeof(large)}, "(int)", KNIT_TOO_LARGE, "2048"},
    };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t before = ran();

    (void)state;
    options.timeout_ms = 1000;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        options.on_timeout = &cases[i].say;
        assert_int_equal(knit_call_with(k, &options, &error, "hold", cases[i].signature, FOR_LONG,
                             NULL, NULL, NULL),
            cases[i].code);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        if (strstr(error.message, cases[i].message) == NULL)
            fail_msg("case %zu: %s", i, error.message);
    }
    assert_true(ran() == before);
}

static void a_call_without_a_signature_takes_any_value(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    const struct knit_on_timeout say = {.value = "\x81\xa1k\x92\x01\xc0", .value_len = 6};
    struct knit_on_timeout again = {.maybe = false};
    const void *result;
    size_t len;

    (void)state;
    options.timeout_ms = 10;
    options.on_timeout = &say;
    succeeds(
        knit_call_raw(k, &options, &error, "hold", "\x91\xce\x00\x09\x27\xc0", 6, &result, &len));
    assert_int_equal(len, 6);
    assert_memory_equal(result, say.value, 6);
    /* It may lie in the last result. */
    options.on_timeout = &again;
    again.value = result;
    again.value_len = len;
    succeeds(
        knit_call_raw(k, &options, &error, "hold", "\x91\xce\x00\x09\x27\xc0", 6, &result, &len));
    assert_int_equal(len, 6);
    assert_memory_equal(result, say.value, 6);
}

/* ---- what a task says ---- */

static void a_task_says_what_comes_after_its_own_timeout(void **state)
{
    const struct form words = {"", {.value = NULL}, FAILS, "too slow", "\x91\x05"};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    const struct knit_on_timeout nine = {.value = "\x09", .value_len = 1};
    bool is_there = true;
    int64_t value = 0;
    int code;

    (void)state;
    succeeds(knit_call(k, &error, "late_value", "(int) -> int", FOR_LONG, &value));
    assert_true(value == 7);
    succeeds(knit_call(k, &error, "late_maybe", "(int) -> int?", FOR_LONG, &is_there, &value));
    assert_false(is_there);
    code = knit_call(k, &error, "late_error", "(int) -> int", FOR_LONG, &value);
    ends_as_said(&words, code, false, 0);
    /* In time it ends as always. */
    succeeds(knit_call(k, &error, "late_value", "(int) -> int", (int64_t)0, &value));
    assert_true(value == 0);
    /* The caller's own word counts for the task's timeout too. */
    options.on_timeout = &nine;
    succeeds(knit_call_with(k, &options, &error, "late_value", "(int) -> int", FOR_LONG, &value));
    assert_true(value == 9);
    /* And a shorter timeout of the caller's is the caller's, who said nothing. */
    options = (struct knit_call_options)KNIT_CALL_OPTIONS_INIT;
    options.timeout_ms = 5;
    assert_int_equal(
        knit_call_with(k, &options, &error, "late_value", "(int) -> int", FOR_LONG, &value),
        KNIT_TIMEOUT);
    options.timeout_ms = 60000;
    succeeds(knit_call_with(k, &options, &error, "late_value", "(int) -> int", FOR_LONG, &value));
    assert_true(value == 7);
}

/* ---- every way to wait ---- */

static void nothing_was_printed_beside_a_value_that_took_the_results_place(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    const void *text;
    bool is_there, is_cut;
    int64_t value;
    size_t len;

    (void)state;
    options.timeout_ms = 20;
    options.output = true;
    options.on_timeout = &forms[1].say;
    succeeds(knit_start(k, &options, &handle, &error, "hold", "(int) -> int?", FOR_LONG));
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &is_there, &value));
    assert_true(is_there && value == 7);
    assert_true(!knit_output(handle, &text, &len, &is_cut) || len == 0);
    knit_free(handle);
}

static void count_outcome(struct knit_handle *handle, void *user)
{
    bool is_there;
    int64_t value;

    succeeds(knit_await(handle, 0, &error));
    succeeds(knit_results(handle, &error, &is_there, &value));
    assert_true(is_there && value == 7);
    ++*(int *)user;
    knit_free(handle);
}

static void an_event_loop_gets_each_value_once(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t until_ns = knit_deadline_in_ms(20000);
    struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};
    int outcomes = 0;

    (void)state;
    options.on_timeout = &forms[1].say;
    for (int i = 0; i < 200; i++) {
        struct knit_handle *handle;

        options.timeout_ms = i % 20;
        succeeds(knit_start(k, &options, &handle, &error, "hold", "(int) -> int?", FOR_LONG));
        knit_on_done(handle, count_outcome, &outcomes);
    }
    succeeds(knit_flush(k, &error));
    while (outcomes < 200 && poll(&item, 1, knit_deadline_left_ms(until_ns)) > 0)
        succeeds(knit_dispatch(k, &error));
    assert_int_equal(outcomes, 200);
    /* The worker has stopped them all. */
    assert_true(ran() > 0);
    assert_int_equal(outcomes, 200);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(a_running_call_ends_as_its_caller_said),
        WITH_SESSION(a_call_whose_time_is_over_at_once_never_starts),
        WITH_SESSION(a_call_that_is_queued_ends_as_its_caller_said_and_never_starts),
        WITH_SESSION(a_call_that_finds_no_room_ends_as_its_caller_said),
        WITH_SESSION(a_task_that_does_not_look_is_answered_at_the_deadline),
        WITH_SESSION(times_that_are_none_end_no_call),
        WITH_SESSION(what_cannot_be_a_result_is_refused_when_the_call_is_made),
        WITH_SESSION(a_call_without_a_signature_takes_any_value),
        WITH_SESSION(a_task_says_what_comes_after_its_own_timeout),
        WITH_SESSION(nothing_was_printed_beside_a_value_that_took_the_results_place),
        WITH_SESSION(an_event_loop_gets_each_value_once),
    };

    if (argc != 2)
        return 2;
    url = argv[1];
    return cmocka_run_group_tests_name("late_calls", tests, NULL, NULL);
}
