/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the public functions keep what <knitting/knitting.h> says, over a stream. Method: a
 * server in a thread that misbehaves on request; every code that the library itself makes
 * is provoked. */
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

static struct knit *k;
static struct knit_error error;

static void open_session(const struct knit_open_options *options)
{
    k = knit_close(k);
    k = knit_fake_open(options);
}

static int start_server(void **state)
{
    error = (struct knit_error){0};
    return knit_fake_start(state);
}

static const struct knit_open_options stays_lost = {.stays_lost = true};

static int start_session(void **state)
{
    (void)start_server(state);
    open_session(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

/* ---- opening ---- */

static void opening_fails_with_a_sentence(void **state)
{
    struct knit *const unset = (struct knit *)&error, *session = unset;

    (void)state;
    assert_int_equal(knit_open("nonsense", NULL, &session, &error), KNIT_BAD_ARGUMENT);
    assert_null(session);
    assert_non_null(strstr(error.message, "nonsense"));
    assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    session = unset;
    assert_int_equal(knit_open("unix:///nowhere/s", NULL, &session, &error), KNIT_DISCONNECTED);
    assert_null(session);
    assert_non_null(strstr(error.message, "knittingd"));
    assert_string_equal(error.name, "DISCONNECTED");
    assert_true(error.retryable); /* nothing was sent */
    assert_int_equal(knit_open("unix:///\xff\xfe", NULL, &session, &error), KNIT_DISCONNECTED);
    assert_string_equal(error.message,
        "cannot connect to /??: No such file or directory (is knittingd running there?)");
    assert_int_equal(knit_open("knit://127.0.0.1:1", NULL, &session, NULL), KNIT_DISCONNECTED);
    assert_null(session);
    assert_null(knit_close(NULL));
}

static void another_protocol_is_refused(void **state)
{
    (void)state;
    fake.protocol = 7;
    assert_int_equal(knit_open(fake.url, NULL, &k, &error), KNIT_DISCONNECTED);
    assert_non_null(strstr(error.message, "version 7"));
    assert_false(error.retryable);
}

static void a_deaf_server_times_out(void **state)
{
    const struct knit_open_options options = {.connect_ms = 50};
    struct knit *session = (struct knit *)&error;

    (void)state;
    atomic_store_explicit(&fake.is_deaf, true, memory_order_relaxed);
    assert_int_equal(knit_open(fake.url, &options, &session, &error), KNIT_TIMEOUT);
    assert_null(session);
}

/* ---- values ---- */

static void scalars_come_back(void **state)
{
    static const int64_t ints[] = {0, -1, INT64_MIN, INT64_MAX, 1ll << 32};
    static const double floats[] = {0.0, -0.0, 1.5, INFINITY, -INFINITY, 5e-324, NAN};
    int64_t i;
    uint64_t u = 0;
    double f;
    bool b = false;

    (void)state;
    for (size_t n = 0; n < sizeof(ints) / sizeof(ints[0]); n++) {
        assert_int_equal(knit_call(k, &error, "echo", "(value: int) -> int", ints[n], &i), KNIT_OK);
        assert_true(i == ints[n]);
    }
    for (size_t n = 0; n < sizeof(floats) / sizeof(floats[0]); n++) {
        assert_int_equal(knit_call(k, &error, "echo", "(float) -> float", floats[n], &f), KNIT_OK);
        assert_memory_equal(&f, &floats[n], sizeof(f));
    }
    assert_int_equal(knit_call(k, &error, "echo", "(uint) -> uint", UINT64_MAX, &u), KNIT_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(knit_call(k, &error, "echo", "(bool) -> bool", 1, &b), KNIT_OK);
    assert_true(b);
    assert_int_equal(knit_call(k, &error, "echo", "(nil) -> nil"), KNIT_OK);
    assert_int_equal(knit_call(k, &error, "echo", "(int)", (int64_t)1), KNIT_OK);
    assert_int_equal(knit_call(k, &error, "echo", "(int) -> int", (int64_t)1, NULL), KNIT_OK);
}

static void bytes_come_back(void **state)
{
    static const size_t sizes[] = {0, 1, 31, 104, 105, 70000, 3 * 1024 * 1024};
    uint8_t *sent = malloc(3 * 1024 * 1024);
    const void *bin;
    const char *text;
    size_t len;

    (void)state;
    for (size_t i = 0; i < 3 * 1024 * 1024; i++)
        sent[i] = (uint8_t)(i * 31 >> 3);
    for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
        assert_int_equal(
            knit_call(k, &error, "echo", "(bin) -> bin", sent, sizes[n], &bin, &len), KNIT_OK);
        assert_int_equal(len, sizes[n]);
        assert_memory_equal(bin, sent, len);
    }
    assert_int_equal(
        knit_call(k, &error, "echo", "(str) -> str", "t\xc3\xa4xt", &text, &len), KNIT_OK);
    assert_int_equal(len, 5);
    assert_memory_equal(text, "t\xc3\xa4xt", 5);
    assert_int_equal(
        knit_call(k, &error, "echo", "(str) -> str", "\xff", &text, &len), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "argument 1"));
    free(sent);
}

static void typed_arrays_come_back_aligned(void **state)
{
    static const double sent[] = {1.5, -0.0, INFINITY};
    static const int16_t shorts[] = {-1, 2};
    const double *doubles;
    const int16_t *got;
    size_t count;

    (void)state;
    assert_int_equal(
        knit_call(k, &error, "echo", "(f64[]) -> f64[]", sent, (size_t)3, &doubles, &count),
        KNIT_OK);
    assert_int_equal(count, 3);
    assert_int_equal((uintptr_t)doubles % sizeof(double), 0);
    assert_memory_equal(doubles, sent, sizeof(sent));
    assert_int_equal(
        knit_call(k, &error, "echo", "(i16[]) -> i16[]", shorts, (size_t)2, &got, &count), KNIT_OK);
    assert_memory_equal(got, shorts, sizeof(shorts));
    assert_int_equal(
        knit_call(k, &error, "echo", "(i16[]) -> u16[]", shorts, (size_t)2, &got, &count),
        KNIT_BAD_RESULT);
}

static void results_that_are_read_again_take_no_more_memory(void **state)
{
    static const double sent[] = {1.5, -0.0, INFINITY};
    const double *first, *again;
    struct knit_handle *handle;
    size_t count;

    (void)state;
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "echo", "(f64[]) -> f64[]", sent, (size_t)3), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &first, &count), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &again, &count), KNIT_OK);
    assert_ptr_equal(again, first);
    assert_int_equal(count, 3);
    assert_memory_equal(again, sent, sizeof(sent));
    knit_free(handle);
}

static void optional_and_several_values(void **state)
{
    const struct knit_time sent = {-1, 999999999};
    const int64_t seven = 7;
    struct knit_time time = {0};
    int64_t number = 0;
    bool is_there = true;
    const void *raw;
    const char *text;
    size_t raw_len, len;

    (void)state;
    assert_int_equal(
        knit_call(k, &error, "echo", "(int?) -> int?", NULL, &is_there, &number), KNIT_OK);
    assert_false(is_there);
    assert_int_equal(
        knit_call(k, &error, "echo", "(int?) -> int?", &seven, &is_there, &number), KNIT_OK);
    assert_true(is_there);
    assert_int_equal(number, 7);
    assert_int_equal(knit_call(k, &error, "echo", "(time) -> time", &sent, &time), KNIT_OK);
    assert_true(time.seconds == -1 && time.nanoseconds == 999999999);
    assert_int_equal(
        knit_call(k, &error, "params", "(int, str, any) -> (int, str, array)", (int64_t)1, "two",
            "\x91\x03", (size_t)2, &number, &text, &len, &raw, &raw_len),
        KNIT_OK);
    assert_int_equal(number, 1);
    assert_memory_equal(text, "two", 3);
    assert_int_equal(raw_len, 2);
    assert_memory_equal(raw, "\x91\x03", 2);
    assert_int_equal(
        knit_call(k, &error, "params", "(int) -> (int, int)", (int64_t)1, &number, &number),
        KNIT_BAD_RESULT);
    assert_non_null(strstr(error.message, "fewer"));
    assert_int_equal(knit_call(k, &error, "params", "(int, int, int) -> (int, int)", (int64_t)1,
                         (int64_t)2, (int64_t)3, &number, &number),
        KNIT_BAD_RESULT);
    assert_non_null(strstr(error.message, "more"));
}

static void wrong_types_and_signatures_are_named(void **state)
{
    static const char *const bad[] = {"", "int", "(int", "(in) -> int", "(int int)",
        "(int,) -> int", "(int...) -> int", "(i8) -> int"};
    static const char *const bad_results[] = {
        "(int) -> ", "(int) -> in", "(int) -> int int", "(int) -> (int)"};
    const char *text;
    size_t len;
    int64_t number;

    (void)state;
    assert_int_equal(
        knit_call(k, &error, "echo", "(int) -> str", (int64_t)1, &text, &len), KNIT_BAD_RESULT);
    assert_string_equal(error.message, "result 1: expected str, got int");
    assert_int_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(
        knit_call(k, &error, "echo", "(uint) -> int", UINT64_MAX, &number), KNIT_BAD_RESULT);
    assert_string_equal(error.message, "result 1: expected int, got uint");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (knit_call(k, &error, "echo", bad[i], (int64_t)1, (int64_t)1, &number) !=
            KNIT_BAD_ARGUMENT)
            fail_msg("%s was accepted", bad[i]);
    }
    for (size_t i = 0; i < sizeof(bad_results) / sizeof(bad_results[0]); i++) {
        if (knit_call(k, &error, "echo", bad_results[i], (int64_t)1, &number, &number) !=
            KNIT_BAD_ARGUMENT)
            fail_msg("%s was accepted", bad_results[i]);
        assert_int_equal(error.started, KNIT_STARTED_NO);
    }
    assert_int_equal(knit_call(k, &error, "echo", "(any) -> any", "\x91", (size_t)1, &text, &len),
        KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_call(k, &error, "echo", "(int) -> int", (int64_t)1, &number), KNIT_OK);
}

static void raw_calls_check_their_params(void **state)
{
    const void *result;
    size_t len;

    (void)state;
    assert_int_equal(knit_call_raw(k, NULL, &error, "echo", "\x91\x05", 2, &result, &len), KNIT_OK);
    assert_int_equal(len, 1);
    assert_memory_equal(result, "\x05", 1);
    assert_int_equal(
        knit_call_raw(k, NULL, &error, "echo", "\x05", 1, &result, &len), KNIT_BAD_ARGUMENT);
    assert_int_equal(
        knit_call_raw(k, NULL, &error, "echo", "\x91", 1, &result, &len), KNIT_BAD_ARGUMENT);
    assert_int_equal(
        knit_call_raw(k, NULL, &error, "echo", "", 0, &result, &len), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_call_raw(k, NULL, &error, "echo", "\x91\x05\x05", 3, &result, &len),
        KNIT_BAD_ARGUMENT);
}

static void answers_may_arrive_in_pieces(void **state)
{
    const char *text;
    size_t len;

    (void)state;
    fake.drips = true;
    open_session(NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(knit_call(k, &error, "echo", "(str) -> str",
                             "a text that is longer than what lies in a head", &text, &len),
            KNIT_OK);
        assert_int_equal(len, 46);
    }
}

/* ---- errors ---- */

static void a_tasks_failure_arrives_whole(void **state)
{
    (void)state;
    assert_int_equal(knit_call(k, &error, "fail", "()"), KNIT_TASK_FAILED);
    assert_int_equal(error.code, KNIT_TASK_FAILED);
    assert_string_equal(error.name, "TASK_FAILED");
    assert_string_equal(error.message, "it was asked to");
    assert_int_equal(error.task_code, 42);
    assert_int_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(error.origin, KNIT_ORIGIN_TASK);
    assert_false(error.retryable);
    assert_int_equal(error.data_len, 4);
    assert_memory_equal(error.data, "\x93\x01\x02\x03", 4);
    assert_non_null(error.details);
    assert_string_equal(error.task, "fail");
    assert_int_equal(error.retry_after_ms, -1);
    assert_int_equal(knit_call(k, NULL, "fail", "()"), KNIT_TASK_FAILED);
}

/* Codes that equal KNIT_OK or a state, and codes that do not fit an int. */
static void an_error_that_claims_to_be_none_is_an_error(void **state)
{
    static const uint64_t codes[] = {
        KNIT_OK, KNIT_PENDING, KNIT_WOULD_BLOCK, 99, (uint64_t)INT32_MAX + 1, UINT32_MAX};
    int64_t result;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_int_equal(
            knit_call(k, &error, "code", "(uint) -> int", codes[i], &result), KNIT_INTERNAL);
        assert_int_equal(error.code, KNIT_INTERNAL);
    }
    assert_int_equal(knit_call(k, &error, "code", "(uint) -> int", (uint64_t)777, &result), 777);
}

static void a_lost_connection_settles_everything(void **state)
{
    struct knit_handle *held, *last;

    (void)state;
    open_session(&stays_lost);
    assert_int_equal(knit_start(k, NULL, &held, &error, "never", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &last, &error, "close", "()"), KNIT_OK);
    assert_int_equal(knit_await(last, -1, &error), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    assert_int_equal(knit_await(held, -1, &error), KNIT_DISCONNECTED);
    assert_int_equal(knit_await(held, -1, &error), KNIT_DISCONNECTED);
    assert_int_equal(knit_call(k, &error, "echo", "()"), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_dispatch(k, &error), KNIT_DISCONNECTED);
    assert_int_equal(knit_state(k), KNIT_IS_LOST);
    knit_free(held);
}

static void what_was_never_sent_was_not_started(void **state)
{
    struct knit_handle *handle;

    (void)state;
    assert_int_equal(knit_call(k, &error, "close", "()"), KNIT_DISCONNECTED);
    open_session(&stays_lost);
    /* The call is queued, and the connection ends before anything is sent. */
    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_OK);
    shutdown(fake.fd, SHUT_RDWR);
    (void)knit_dispatch(k, NULL);
    while (knit_await(handle, 0, &error) == KNIT_PENDING)
        (void)knit_dispatch(k, NULL);
    assert_int_equal(error.code, KNIT_DISCONNECTED);
    assert_int_not_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(error.retryable, error.started == KNIT_STARTED_NO);
    assert_int_equal(knit_call(k, &error, "echo", "()"), KNIT_DISCONNECTED);
    assert_true(error.retryable);
}

static void garbage_ends_the_session(void **state)
{
    int64_t number;

    (void)state;
    assert_int_equal(knit_call(k, &error, "garbage", "()"), KNIT_DISCONNECTED);
    assert_non_null(strstr(error.message, "no message"));
    open_session(&stays_lost);
    assert_int_equal(knit_call(k, &error, "twice", "() -> int", &number), KNIT_OK);
    assert_int_equal(knit_call(k, &error, "echo", "()"), KNIT_DISCONNECTED);
}

/* ---- time ---- */

static void timeouts_are_kept(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t begin_ns;
    int64_t number;

    (void)state;
    options.timeout_ms = 0;
    assert_int_equal(
        knit_call_with(k, &options, &error, "echo", "(int) -> int", (int64_t)1, &number),
        KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    options.timeout_ms = 30;
    begin_ns = knit_deadline_now_ns();
    assert_int_equal(knit_call_with(k, &options, &error, "never", "()"), KNIT_TIMEOUT);
    assert_true(knit_deadline_now_ns() - begin_ns >= 30 * 1000000);
    options.timeout_ms = NAN;
    assert_int_equal(
        knit_call_with(k, &options, &error, "echo", "(int) -> int", (int64_t)1, &number), KNIT_OK);
    options.timeout_ms = -5;
    assert_int_equal(
        knit_call_with(k, &options, &error, "echo", "(int) -> int", (int64_t)1, &number), KNIT_OK);
}

static void waiting_for_ages_is_no_short_wait(void **state)
{
    static const double waits_ms[] = {1e12, 18446744073709.0, 1e300, INFINITY};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    (void)state;
    options.timeout_ms = 10;
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        assert_int_equal(knit_start(k, &options, &handle, &error, "never", "()"), KNIT_OK);
        assert_int_equal(knit_await(handle, waits_ms[i], &error), KNIT_TIMEOUT);
    }
}

static void waiting_is_bounded_and_may_be_repeated(void **state)
{
    struct knit_handle *handle;
    const void *result;
    size_t len;

    (void)state;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
    assert_int_equal(knit_await(handle, 5, &error), KNIT_PENDING);
    assert_int_equal(knit_result_raw(handle, &error, &result, &len), KNIT_PENDING);
    assert_int_equal(knit_call(k, &error, "release", "()"), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_null(knit_free(handle));
}

/* ---- asynchronous ---- */

static void answers_find_their_calls_in_any_order(void **state)
{
    enum { COUNT = 20 };
    struct knit_handle *held[COUNT], *echoes[COUNT];

    (void)state;
    for (int64_t i = 0; i < COUNT; i++) {
        assert_int_equal(knit_start(k, NULL, &held[i], &error, "hold", "()"), KNIT_OK);
        assert_int_equal(
            knit_start(k, NULL, &echoes[i], &error, "echo", "(int) -> int", i), KNIT_OK);
    }
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    for (int i = COUNT - 1; i >= 0; i--) {
        int64_t number = -1;

        assert_int_equal(knit_await(echoes[i], -1, &error), KNIT_OK);
        assert_int_equal(knit_results(echoes[i], &error, &number), KNIT_OK);
        assert_int_equal(number, i);
        knit_free(echoes[i]);
    }
    assert_int_equal(knit_call(k, &error, "release", "()"), KNIT_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(knit_await(held[i], -1, &error), KNIT_OK);
}

static void a_full_session_says_so_or_waits(void **state)
{
    struct knit_open_options options = {.slots = 3, .would_block = true};
    struct knit_handle *handles[4];

    (void)state;
    open_session(&options);
    for (int i = 0; i < 3; i++)
        assert_int_equal(knit_start(k, NULL, &handles[i], &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handles[3], &error, "hold", "()"), KNIT_WOULD_BLOCK);
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    knit_cancel(handles[1]);
    knit_cancel(handles[1]);
    assert_int_equal(knit_await(handles[1], -1, &error), KNIT_CANCELLED);
    assert_int_equal(knit_start(k, NULL, &handles[3], &error, "release", "()"), KNIT_OK);
    assert_int_equal(knit_await(handles[0], -1, &error), KNIT_OK);

    /* Without that option the fourth waits: an echo among the three ends by itself. */
    options.would_block = false;
    open_session(&options);
    assert_int_equal(knit_start(k, NULL, &handles[0], &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handles[1], &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handles[2], &error, "echo", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handles[3], &error, "echo", "()"), KNIT_OK);
}

static void the_servers_limit_on_calls_is_respected(void **state)
{
    const struct knit_open_options options = {.would_block = true};
    struct knit_handle *handle;

    (void)state;
    fake.in_flight = 2;
    open_session(&options);
    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_WOULD_BLOCK);
}

static void a_handle_freed_in_flight_leaves_its_place_later(void **state)
{
    const struct knit_open_options options = {.slots = 2};
    struct knit_handle *handle;

    (void)state;
    open_session(&options);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_OK);
        knit_free(handle);
    }
}

struct record {
    int calls;
    int code;
    struct knit_handle *next;
};

static void on_done(struct knit_handle *handle, void *user)
{
    struct record *record = user;

    record->calls++;
    record->code = knit_await(handle, 0, NULL);
    if (record->next != NULL) {
        /* A callback may start calls, but not wait. */
        struct knit_handle *another;

        assert_int_equal(
            knit_start(knit_handle_session(handle), NULL, &another, &error, "echo", "()"), KNIT_OK);
        assert_int_equal(knit_await(another, -1, &error), KNIT_BAD_ARGUMENT);
        assert_int_equal(
            knit_call(knit_handle_session(handle), &error, "echo", "()"), KNIT_BAD_ARGUMENT);
        assert_int_equal(knit_dispatch(knit_handle_session(handle), &error), KNIT_BAD_ARGUMENT);
    }
    knit_free(handle);
}

static void an_event_loop_needs_one_descriptor(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    static struct record done, late;
    struct knit_handle *handle;
    int fd = knit_fd(k);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(knit_fd(k), fd);
    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_OK);
    done.next = handle;
    knit_on_done(handle, on_done, &done);
    options.timeout_ms = 20;
    assert_int_equal(knit_start(k, &options, &handle, &error, "never", "()"), KNIT_OK);
    knit_on_done(handle, on_done, &late);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    while (done.calls == 0 || late.calls == 0) {
        struct pollfd item = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&item, 1, 5000), 1);
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    }
    assert_int_equal(done.calls, 1);
    assert_int_equal(done.code, KNIT_OK);
    assert_int_equal(late.calls, 1);
    assert_int_equal(late.code, KNIT_TIMEOUT);

    /* A callback for what has ended already is due at once. */
    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    done = (struct record){0};
    knit_on_done(handle, on_done, &done);
    assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 5000), 1);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_int_equal(done.calls, 1);
}

/* The server goes away while a session is full of calls whose callbacks wait for it. */
static void a_call_that_cannot_start_leaves_no_callback_behind(void **state)
{
    const struct knit_open_options options = {.slots = 2, .stays_lost = true};

    (void)state;
    for (int is_blocking = 0; is_blocking < 2; is_blocking++) {
        static struct record done[2];
        struct knit_handle *handle;
        struct pollfd item;

        memset(done, 0, sizeof(done));
        open_session(&options);
        item = (struct pollfd){.fd = knit_fd(k), .events = POLLIN};

        for (int i = 0; i < 2; i++) {
            assert_int_equal(knit_start(k, NULL, &handle, &error, "never", "()"), KNIT_OK);
            knit_on_done(handle, on_done, &done[i]);
        }
        assert_int_equal(knit_flush(k, &error), KNIT_OK);
        shutdown(fake.fd, SHUT_RDWR);
        if (is_blocking != 0) {
            assert_int_equal(knit_call(k, &error, "echo", "()"), KNIT_DISCONNECTED);
        } else {
            assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_DISCONNECTED);
            assert_int_equal(poll(&item, 1, 5000), 1);
            assert_int_equal(knit_dispatch(k, &error), KNIT_DISCONNECTED);
        }
        assert_true(done[0].calls == 1 && done[1].calls == 1);
    }
}

static void closing_runs_the_callbacks_that_are_left(void **state)
{
    static struct record done;
    struct knit_handle *handle;

    (void)state;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "hold", "()"), KNIT_OK);
    knit_on_done(handle, on_done, &done);
    k = knit_close(k);
    assert_int_equal(done.calls, 1);
    assert_int_equal(done.code, KNIT_DISCONNECTED);
}

static void leave_thread(struct knit_handle *handle, void *user)
{
    (void)handle;
    (void)user;
    pthread_exit(NULL); /* unwinds the stack, as an exception does */
}

static void leave_thread_at_task(const struct knit_task_info *info, void *user)
{
    (void)info;
    (void)user;
    pthread_exit(NULL);
}

static void *dispatch_once(void *arg)
{
    bool *has_returned = arg;

    while (knit_dispatch(k, NULL) == KNIT_OK)
        ;
    *has_returned = true;
    return NULL;
}

static void *ask_for_tasks(void *arg)
{
    bool *has_returned = arg;

    (void)knit_tasks(k, NULL, leave_thread_at_task, NULL);
    *has_returned = true;
    return NULL;
}

static void a_callback_that_is_left_by_unwinding_leaves_the_session_usable(void **state)
{
    void *(*const runs[])(void *) = {dispatch_once, ask_for_tasks};
    bool has_returned = false;
    struct knit_handle *left, *due;
    struct record done = {0};

    (void)state;
    assert_int_equal(knit_start(k, NULL, &left, &error, "echo", "()"), KNIT_OK);
    assert_int_equal(knit_start(k, NULL, &due, &error, "echo", "()"), KNIT_OK);
    knit_on_done(left, leave_thread, NULL);
    knit_on_done(due, on_done, &done);
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, runs[i], &has_returned), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_false(has_returned);
        assert_int_equal(knit_call(k, &error, "echo", "(int) -> int", (int64_t)1, NULL), KNIT_OK);
        assert_int_equal(done.calls, 1);
    }
    knit_free(left);
    knit_free(due);
}

static void a_deaf_server_fills_the_buffer_and_nothing_breaks(void **state)
{
    const struct knit_open_options options = {.would_block = true};
    struct knit_handle *handle;
    static uint8_t bytes[1024 * 1024];
    int code = KNIT_OK, started = 0;

    (void)state;
    open_session(&options);
    atomic_store_explicit(&fake.is_deaf, true, memory_order_relaxed);
    while (code == KNIT_OK && started < 100) {
        code = knit_start(k, NULL, &handle, &error, "never", "(bin)", bytes, sizeof(bytes));
        (void)knit_flush(k, NULL);
        started++;
    }
    assert_int_equal(code, KNIT_WOULD_BLOCK);
}

/* ---- the pool ---- */

static void gather(const struct knit_task_info *info, void *user)
{
    char *text = user;

    snprintf(text + strlen(text), 200 - strlen(text), "%u:%s:%s:%g ", info->id, info->name,
        info->signature, info->timeout_ms);
}

static void tasks_ping_and_stats_ask_the_pool(void **state)
{
    char text[200] = "";
    uint64_t ns = 0;
    const void *map;
    size_t len;

    (void)state;
    assert_int_equal(knit_tasks(k, &error, gather, text), KNIT_OK);
    assert_string_equal(
        text, "0:a:a(x: int) -> int:-1 1:b:b(x: int) -> int:20000 2:c:c(x: int) -> int:40000 ");
    assert_int_equal(knit_ping(k, &error, &ns), KNIT_OK);
    assert_true(ns > 0);
    assert_int_equal(knit_stats(k, &error, &map, &len), KNIT_OK);
    assert_int_equal(len, 1);
}

static void misbehave(const struct knit_task_info *info, void *user)
{
    (void)user;
    assert_true(info->id < 3);
    assert_ptr_equal(knit_close(k), k);
    assert_int_equal(knit_ping(k, NULL, NULL), KNIT_BAD_ARGUMENT);
}

static void a_callback_for_tasks_may_not_close(void **state)
{
    (void)state;
    assert_int_equal(knit_tasks(k, NULL, misbehave, NULL), KNIT_OK);
    assert_int_equal(knit_ping(k, NULL, NULL), KNIT_OK);
    k = knit_close(k);
    assert_null(k);
}

#define WITH_SERVER(test)  cmocka_unit_test_setup_teardown(test, start_server, stop)
#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, start_session, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(opening_fails_with_a_sentence),
        WITH_SERVER(another_protocol_is_refused),
        WITH_SERVER(a_deaf_server_times_out),
        WITH_SESSION(scalars_come_back),
        WITH_SESSION(bytes_come_back),
        WITH_SESSION(typed_arrays_come_back_aligned),
        WITH_SESSION(results_that_are_read_again_take_no_more_memory),
        WITH_SESSION(optional_and_several_values),
        WITH_SESSION(wrong_types_and_signatures_are_named),
        WITH_SESSION(raw_calls_check_their_params),
        WITH_SERVER(answers_may_arrive_in_pieces),
        WITH_SESSION(a_tasks_failure_arrives_whole),
        WITH_SESSION(an_error_that_claims_to_be_none_is_an_error),
        WITH_SESSION(a_lost_connection_settles_everything),
        WITH_SESSION(what_was_never_sent_was_not_started),
        WITH_SESSION(garbage_ends_the_session),
        WITH_SESSION(timeouts_are_kept),
        WITH_SESSION(waiting_for_ages_is_no_short_wait),
        WITH_SESSION(waiting_is_bounded_and_may_be_repeated),
        WITH_SESSION(answers_find_their_calls_in_any_order),
        WITH_SERVER(a_full_session_says_so_or_waits),
        WITH_SERVER(the_servers_limit_on_calls_is_respected),
        WITH_SERVER(a_handle_freed_in_flight_leaves_its_place_later),
        WITH_SESSION(an_event_loop_needs_one_descriptor),
        WITH_SERVER(a_call_that_cannot_start_leaves_no_callback_behind),
        WITH_SESSION(closing_runs_the_callbacks_that_are_left),
        WITH_SESSION(a_callback_that_is_left_by_unwinding_leaves_the_session_usable),
        WITH_SERVER(a_deaf_server_fills_the_buffer_and_nothing_breaks),
        WITH_SESSION(tasks_ping_and_stats_ask_the_pool),
        WITH_SESSION(a_callback_for_tasks_may_not_close),
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
