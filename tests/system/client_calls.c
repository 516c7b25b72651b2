/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the client library does the same over every transport, against the real daemon with the
 * example module and two workers. Method: one list of cases; test_client.py runs this program for
 * each URL.
 *
 *     client_calls URL              all cases but the next
 *     client_calls URL --die PID    kills the daemon PID while calls are in flight
 *     client_calls URL --drain PID  has it drain
 */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/clients/forms.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"
#include "tests/system/client_malformed.h"
#include "tests/system/session.h"

static pid_t daemon_pid;

static void bytes_of_every_size_come_back(void **state)
{
    static const size_t sizes[] = {
        0, 1, 98, 99, 100, 101, 102, 103, 104, 105, 4096, 65536, 1 << 20, 7 << 20};
    uint8_t *sent = malloc(7 << 20);
    const void *got;
    size_t len;

    (void)state;
    for (size_t i = 0; i < 7 << 20; i++)
        sent[i] = (uint8_t)(i * 2654435761u >> 24);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        succeeds(knit_call(k, &error, "echo", "(bin) -> bin", sent, sizes[i], &got, &len));
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(got, sent, len);
    }
    free(sent);
}

static void the_senders_buffer_is_read_at_once(void **state)
{
    char text[300];
    struct knit_handle *handle;
    const char *got;
    size_t len;

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    succeeds(knit_start(k, NULL, &handle, &error, "echo", "(str) -> str", text));
    memset(text, 'b', sizeof(text) - 1);
    succeeds(knit_await(handle, -1, &error));
    succeeds(knit_results(handle, &error, &got, &len));
    assert_int_equal(len, sizeof(text) - 1);
    assert_true(got[0] == 'a' && got[len - 1] == 'a');
    knit_free(handle);
}

static void typed_arrays_are_aligned(void **state)
{
    double sent[1000];
    const double *got;
    size_t count;

    (void)state;
    for (int i = 0; i < 1000; i++)
        sent[i] = i / 3.0;
    for (size_t n = 0; n <= 1000; n += 125) {
        succeeds(knit_call(k, &error, "echo", "(f64[]) -> f64[]", sent, n, &got, &count));
        assert_int_equal(count, n);
        assert_int_equal((uintptr_t)got % sizeof(double), 0);
        assert_memory_equal(got, sent, n * sizeof(double));
    }
}

static void more_calls_than_slots_are_all_answered(void **state)
{
    enum { COUNT = 3000 };
    static struct knit_handle *handles[COUNT];
    int64_t sum;

    (void)state;
    for (int64_t i = 0; i < COUNT; i++)
        succeeds(knit_start(k, NULL, &handles[i], &error, "add", "(int, int) -> int", i, i));
    for (int64_t i = 0; i < COUNT; i++) {
        succeeds(knit_await(handles[i], -1, &error));
        succeeds(knit_results(handles[i], &error, &sum));
        assert_int_equal(sum, 2 * i);
        knit_free(handles[i]);
    }
}

struct tally {
    int done;
    int64_t sum;
};

static void on_sum(struct knit_handle *handle, void *user)
{
    struct tally *tally = user;
    int64_t sum = 0;

    succeeds(knit_await(handle, 0, &error));
    succeeds(knit_results(handle, &error, &sum));
    tally->done++;
    tally->sum += sum;
    knit_free(handle);
}

static bool is_readable(int fd, int wait_ms)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};

    return poll(&item, 1, wait_ms) == 1;
}

static void an_event_loop_gets_every_answer_and_then_no_wake_up(void **state)
{
    enum { ROUNDS = 20, BATCH = 100 };
    struct tally tally = {0};
    int fd = knit_fd(k);
    uint64_t until_ns = knit_deadline_in_ms(10000);
    int quiet = 0;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t i = 0; i < BATCH; i++) {
            struct knit_handle *handle;

            succeeds(
                knit_start(k, NULL, &handle, &error, "add", "(int, int) -> int", i, (int64_t)1));
            knit_on_done(handle, on_sum, &tally);
        }
        succeeds(knit_flush(k, &error));
        while (tally.done < (round + 1) * BATCH && knit_deadline_left_ms(until_ns) > 0) {
            if (is_readable(fd, knit_deadline_left_ms(until_ns)))
                succeeds(knit_dispatch(k, &error));
        }
    }
    assert_int_equal(tally.done, ROUNDS * BATCH);
    assert_int_equal(tally.sum, ROUNDS * (BATCH * (BATCH - 1) / 2 + BATCH));
    /* Late wake-ups may come; then an idle session must have none. */
    for (int i = 0; i < 50 && quiet < 3; i++) {
        quiet = is_readable(fd, 10) ? 0 : quiet + 1;
        succeeds(knit_dispatch(k, &error));
    }
    assert_int_equal(quiet, 3);
}

/* A bound for what would otherwise not end. */
static int patience_ms(void)
{
    return knit_deadline_left_ms(knit_deadline_in_ms(50000));
}

/* Of a call that times out after 50 ms; not on a machine so busy that no worker has begun it. */
static bool has_timed_out_running(void)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t begin_ns = knit_deadline_now_ns(), took_ns;

    options.timeout_ms = 50;
    assert_int_equal(
        knit_call_with(k, &options, &error, "sleep", "(int) -> nil", (int64_t)20000), KNIT_TIMEOUT);
    took_ns = knit_deadline_now_ns() - begin_ns;
    assert_true(took_ns >= 50 * UINT64_C(1000000));
    assert_true(took_ns < knit_deadline_stretched_ns(UINT64_C(5000000000)));
    return error.started != KNIT_STARTED_NO;
}

static void a_running_call_times_out_at_its_deadline(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    (void)state;
    assert_true(KNIT_WAIT_UNTIL(has_timed_out_running(), 10000));
    options.timeout_ms = 0;
    assert_int_equal(
        knit_call_with(k, &options, &error, "sleep", "(int)", (int64_t)0), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
}

/* Both workers busy until the handles are cancelled. */
static void occupy_workers(struct knit_handle **sleepers)
{
    for (int i = 0; i < 2; i++)
        succeeds(
            knit_start(k, NULL, &sleepers[i], &error, "sleep", "(int) -> nil", (int64_t)20000));
    succeeds(knit_flush(k, &error));
    /* They run by now, or they are queued before all later calls. */
    assert_int_equal(knit_await(sleepers[0], 100, &error), KNIT_PENDING);
}

static void free_workers(struct knit_handle **sleepers)
{
    for (int i = 0; i < 2; i++) {
        knit_cancel(sleepers[i]);
        knit_cancel(sleepers[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(knit_await(sleepers[i], patience_ms(), &error), KNIT_CANCELLED);
        knit_free(sleepers[i]);
    }
}

static void a_call_that_expires_or_is_cancelled_in_the_queue_never_starts(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *sleepers[2], *queued, *late;

    (void)state;
    occupy_workers(sleepers);
    options.timeout_ms = 30;
    assert_int_equal(
        knit_call_with(k, &options, &error, "add", "(int, int)", (int64_t)1, (int64_t)2),
        KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    options.timeout_ms = -1;
    options.queue_ms = 30;
    succeeds(knit_start(k, &options, &late, &error, "add", "(int, int)", (int64_t)1, (int64_t)2));
    succeeds(knit_start(k, NULL, &queued, &error, "add", "(int, int)", (int64_t)1, (int64_t)2));
    succeeds(knit_flush(k, &error));
    /* While no worker has claimed it. */
    assert_int_equal(knit_await(late, patience_ms(), &error), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    knit_free(late);
    assert_int_equal(knit_await(queued, 60, &error), KNIT_PENDING);
    knit_cancel(queued);
    free_workers(sleepers);
    assert_int_equal(knit_await(queued, patience_ms(), &error), KNIT_CANCELLED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    knit_free(queued);
    succeeds(knit_call(k, &error, "add", "(int, int)", (int64_t)1, (int64_t)2));
}

/* Its queue timeout is over long before it ends. False: it was over before it began. */
static bool has_outlasted_its_queue_timeout(void)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int code;

    options.queue_ms = 100;
    code = knit_call_with(k, &options, &error, "sleep", "(int) -> nil", (int64_t)400);
    if (code == KNIT_OK)
        return true;
    assert_int_equal(code, KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    return false;
}

static bool has_timed_out_beyond_its_queue_timeout(void)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    options.queue_ms = 100;
    options.timeout_ms = 400;
    assert_int_equal(
        knit_call_with(k, &options, &error, "sleep", "(int) -> nil", (int64_t)20000), KNIT_TIMEOUT);
    return error.started == KNIT_STARTED_YES;
}

static void the_queue_timeout_does_not_end_a_call_that_has_started(void **state)
{
    (void)state;
    assert_true(KNIT_WAIT_UNTIL(has_outlasted_its_queue_timeout(), 10000));
    assert_true(KNIT_WAIT_UNTIL(has_timed_out_beyond_its_queue_timeout(), 10000));
    /* The worker sees the abort. */
    succeeds(knit_call(k, &error, "add", "(int, int)", (int64_t)1, (int64_t)2));
}

/* Of an echo of a bin of that many bytes. */
static void is_refused_with_numbers(size_t len)
{
    uint8_t *bytes = calloc(1, len);
    char numbers[80];

    assert_int_equal(knit_call(k, &error, "echo", "(bin)", bytes, len), KNIT_TOO_LARGE);
    assert_true(error.actual > error.limit);
    (void)snprintf(numbers, sizeof(numbers), "%lld bytes, %lld are allowed",
        (long long)error.actual, (long long)error.limit);
    assert_non_null(strstr(error.message, numbers));
    free(bytes);
}

/* A queue of 0: started at once or refused. Twenty calls one after the other each find the worker
 * idle that has just answered; it may not be scheduled within 2 ms. */
static void a_call_that_may_not_queue_is_started_at_once_or_refused(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *sleepers[2];
    int code, started = 0;
    int64_t sum;

    (void)state;
    options.queue_ms = 0;
    for (int i = 0; i < 20; i++) {
        code = knit_call_with(
            k, &options, &error, "add", "(int, int) -> int", (int64_t)1, (int64_t)2, &sum);
        assert_true(code == KNIT_OK || code == KNIT_TIMEOUT);
        started += code == KNIT_OK;
        if (code == KNIT_TIMEOUT)
            assert_int_equal(error.started, KNIT_STARTED_NO);
    }
    assert_true(started > 0);
    occupy_workers(sleepers);
    /* Both may have been queued in one lane, until the other worker steals. */
    assert_true(KNIT_WAIT_UNTIL(knit_call_with(k, &options, &error, "add", "(int, int)", (int64_t)1,
                                    (int64_t)2) == KNIT_OVERLOADED,
        10000));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(
            knit_call_with(k, &options, &error, "add", "(int, int)", (int64_t)1, (int64_t)2),
            KNIT_OVERLOADED);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_true(error.retryable);
        assert_string_equal(error.message, "no worker is free to start the call at once");
    }
    free_workers(sleepers);
}

static void failures_are_the_same_over_every_transport(void **state)
{
    (void)state;
    assert_int_equal(knit_call(k, &error, "fail", "(int, str, any)", (int64_t)-7, "on purpose",
                         "\x92\x01\xc0", (size_t)3),
        KNIT_TASK_FAILED);
    assert_string_equal(error.message, "on purpose");
    assert_int_equal(error.task_code, -7);
    assert_int_equal(error.data_len, 3);
    assert_memory_equal(error.data, "\x92\x01\xc0", 3);
    assert_int_equal(error.origin, KNIT_ORIGIN_TASK);
    assert_int_equal(error.started, KNIT_STARTED_YES);

    assert_int_equal(knit_call(k, &error, "ad", "()"), KNIT_UNKNOWN_TASK);
    assert_non_null(strstr(error.message, "'add'"));
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_false(error.retryable);
    assert_int_equal(knit_call(k, &error, "ad\xff", "()"), KNIT_UNKNOWN_TASK);
    assert_non_null(strstr(error.message, "there is no task 'ad?'"));
    assert_false(error.retryable);
    assert_int_equal(knit_call(k, &error, "add", "(int, str)", (int64_t)1, "x"), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "argument 2 (b): expected int, got str"));
    assert_int_equal(knit_call(k, &error, "add", "(int)", (int64_t)1), KNIT_BAD_ARGUMENT);
    assert_int_equal(
        knit_call(k, &error, "add", "(int, int)", INT64_MAX, (int64_t)1), KNIT_TASK_FAILED);
    assert_string_equal(error.message, "the sum does not fit 64 bits");
    is_refused_with_numbers(8 << 20);           /* by the library's lanes, or by the daemon */
    is_refused_with_numbers((8 << 20) + 65536); /* by the library, since hello said so */
    is_refused_with_numbers((8 << 20) + 65530); /* the message is too long by its head */
}

static void malformed_arguments_are_refused_alike(void **state)
{
    const void *result;
    size_t len;

    (void)state;
    knit_client_malformed(k);
    succeeds(knit_call_raw(k, NULL, &error, "echo", "\x91\x05", 2, &result, &len));
}

static void a_crash_fails_its_call_alone(void **state)
{
    enum { COUNT = 50 };
    struct knit_handle *crash, *others[COUNT];
    int64_t sum;

    (void)state;
    succeeds(knit_start(k, NULL, &crash, &error, "crash", "(str)", "abort"));
    for (int64_t i = 0; i < COUNT; i++)
        succeeds(
            knit_start(k, NULL, &others[i], &error, "add", "(int, int) -> int", i, (int64_t)1));
    assert_int_equal(knit_await(crash, 10000, &error), KNIT_WORKER_DIED);
    assert_int_equal(error.signal, SIGABRT);
    assert_int_equal(error.started, KNIT_STARTED_YES);
    for (int64_t i = 0; i < COUNT; i++) {
        succeeds(knit_await(others[i], 10000, &error));
        succeeds(knit_results(others[i], &error, &sum));
        assert_int_equal(sum, i + 1);
        knit_free(others[i]);
    }
    knit_free(crash);
}

static void a_full_session_refuses_to_block(void **state)
{
    const struct knit_open_options options = {.slots = 4, .would_block = true};
    struct knit *session = open_with(&options);
    struct knit_handle *handles[64];
    int count = 0, code;

    (void)state;
    while ((code = knit_start(session, NULL, &handles[count], &error, "sleep", "(int)",
                (int64_t)20000)) == KNIT_OK)
        assert_true(++count < 64);
    assert_int_equal(code, KNIT_WOULD_BLOCK);
    assert_int_equal(count, 4);
    knit_cancel(handles[0]);
    assert_int_equal(knit_await(handles[0], 5000, &error), KNIT_CANCELLED);
    knit_free(handles[0]);
    succeeds(knit_start(session, NULL, &handles[0], &error, "sleep", "(int)", (int64_t)1));
    /* Closing cancels the rest: the workers are free again for the next case. */
    knit_close(session);
}

static void results_stay_until_they_are_freed(void **state)
{
    enum { KEPT = 40, ROUNDS = 400, SIZE_MAX_BYTES = 100000 };
    static uint8_t bytes[SIZE_MAX_BYTES];
    struct knit_handle *kept[KEPT] = {NULL};
    size_t sizes[KEPT];
    struct knit_random random;
    const uint8_t *got;
    size_t len;

    (void)state;
    knit_random_init(&random);
    for (int round = 0; round < ROUNDS; round++) {
        size_t at = knit_random_below(&random, KEPT);

        if (kept[at] != NULL) {
            succeeds(knit_results(kept[at], &error, &got, &len));
            assert_int_equal(len, sizes[at]);
            for (size_t i = 0; i < len; i += 1 + len / 64)
                assert_int_equal(got[i], (uint8_t)len);
            kept[at] = knit_free(kept[at]);
        }
        sizes[at] = knit_random_below(&random, SIZE_MAX_BYTES);
        memset(bytes, (uint8_t)sizes[at], sizes[at]);
        succeeds(knit_start(k, NULL, &kept[at], &error, "echo", "(bin) -> bin", bytes, sizes[at]));
        succeeds(knit_await(kept[at], -1, &error));
    }
}

/* More results than a session has slots, and more bytes than its arenas have room. */
static void all_results_may_be_held_at_once(void **state)
{
    enum { SMALL = 2500, LARGE = 80, LARGE_BYTES = 1 << 20 };
    static struct knit_handle *handles[SMALL];
    static uint8_t bytes[LARGE_BYTES];
    const uint8_t *got;
    size_t len;

    (void)state;
    for (int i = 0; i < SMALL; i++) {
        memset(bytes, i, 300);
        succeeds(
            knit_start(k, NULL, &handles[i], &error, "echo", "(bin) -> bin", bytes, (size_t)300));
        if (i % 10 == 9)
            succeeds(knit_await(handles[i], 20000, &error));
    }
    for (int i = 0; i < SMALL; i++) {
        succeeds(knit_await(handles[i], 20000, &error));
        succeeds(knit_results(handles[i], &error, &got, &len));
        assert_true(len == 300 && got[0] == (uint8_t)i && got[299] == (uint8_t)i);
    }
    for (int i = 0; i < SMALL; i++)
        knit_free(handles[i]);
    for (int i = 0; i < LARGE; i++) {
        memset(bytes, i, LARGE_BYTES);
        succeeds(knit_start(
            k, NULL, &handles[i], &error, "echo", "(bin) -> bin", bytes, (size_t)LARGE_BYTES));
    }
    for (int i = 0; i < LARGE; i++) {
        succeeds(knit_await(handles[i], 20000, &error));
        succeeds(knit_results(handles[i], &error, &got, &len));
        assert_true(len == LARGE_BYTES && got[0] == (uint8_t)i && got[len - 1] == (uint8_t)i);
    }
}

static void handles_may_be_freed_in_flight(void **state)
{
    struct knit_handle *handle;
    int64_t sum;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        succeeds(knit_start(
            k, NULL, &handle, &error, i % 3 == 0 ? "sleep" : "echo", "(int)", (int64_t)1));
        if (i % 2 == 0)
            succeeds(knit_flush(k, &error));
        knit_free(handle);
    }
    succeeds(knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum));
    assert_int_equal(sum, 5);
}

static void arguments_beyond_the_limit_are_refused(void **state)
{
    size_t len = 9 << 20;
    uint8_t *bytes = calloc(1, len);
    int64_t sum;

    (void)state;
    assert_int_equal(knit_call(k, &error, "echo", "(bin)", bytes, len), KNIT_TOO_LARGE);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_true(error.limit > 0 && error.limit < error.actual);
    assert_int_equal(error.limit, knit_arguments_max(k));
    free(bytes);
    succeeds(knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum));
}

static void a_forked_child_does_not_affect_the_session(void **state)
{
    static const uint8_t bytes[4096];
    struct knit_handle *handle, *done;
    const void *result;
    int64_t sum = 0;
    size_t len;
    int status;
    pid_t pid;

    (void)state;
    succeeds(knit_start(k, NULL, &done, &error, "echo", "(bin) -> bin", bytes, sizeof(bytes)));
    succeeds(knit_await(done, -1, &error));
    succeeds(
        knit_start(k, NULL, &handle, &error, "add", "(int, int) -> int", (int64_t)1, (int64_t)1));
    pid = fork();
    if (pid == 0) {
        bool is_told = knit_call(k, NULL, "add", "()") == KNIT_DISCONNECTED &&
                       knit_await(handle, -1, NULL) == KNIT_DISCONNECTED &&
                       knit_await(done, 0, NULL) == KNIT_DISCONNECTED &&
                       knit_results(done, NULL, &result, &len) == KNIT_DISCONNECTED &&
                       knit_result_raw(done, NULL, &result, &len) == KNIT_DISCONNECTED &&
                       knit_arguments_max(k) == 0;

        knit_free(handle);
        knit_close(k);
        _exit(is_told ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    succeeds(knit_await(handle, 5000, &error));
    succeeds(knit_results(handle, &error, &sum));
    assert_int_equal(sum, 2);
    knit_free(handle);
}

static void count_task(const struct knit_task_info *info, void *user)
{
    assert_non_null(strstr(info->signature, info->name));
    ++*(int *)user;
}

static void the_pool_answers_questions(void **state)
{
    const void *map;
    size_t len;
    uint64_t ns;
    int count = 0;

    (void)state;
    succeeds(knit_tasks(k, &error, count_task, &count));
    assert_int_equal(count, 8);
    succeeds(knit_ping(k, &error, &ns));
    succeeds(knit_stats(k, &error, &map, &len));
    assert_true(len > 10);
}

static void a_dead_daemon_is_noticed_at_once(void **state)
{
    const struct knit_open_options options = {.stays_lost = true};
    struct knit_handle *sleepers[2], *queued;
    struct knit *other = open_with(&options);
    uint64_t begin_ns;
    int fd = knit_fd(other);

    (void)state;
    knit_close(k);
    k = open_with(&options);
    occupy_workers(sleepers);
    succeeds(knit_start(k, NULL, &queued, &error, "add", "(int, int)", (int64_t)1, (int64_t)1));
    succeeds(knit_flush(k, &error));
    assert_int_equal(kill(daemon_pid, SIGKILL), 0);
    begin_ns = knit_deadline_now_ns();
    assert_int_equal(knit_await(sleepers[0], 10000, &error), KNIT_DISCONNECTED);
    assert_int_not_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
    assert_true(
        knit_deadline_now_ns() - begin_ns < knit_deadline_stretched_ns(UINT64_C(5000000000)));
    assert_int_equal(knit_await(queued, 10000, &error), KNIT_DISCONNECTED);
    assert_int_not_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(knit_call(k, &error, "add", "()"), KNIT_DISCONNECTED);
    /* An event loop sees it at its descriptor. */
    assert_true(is_readable(fd, 5000));
    assert_int_equal(knit_dispatch(other, &error), KNIT_DISCONNECTED);
    knit_close(other);
}

static bool is_draining(void)
{
    return knit_call(k, &error, "add", "(int, int)", (int64_t)1, (int64_t)1) == KNIT_DRAINING;
}

static void a_drain_refuses_new_calls_and_ends_the_others(void **state)
{
    const struct knit_open_options options = {.stays_lost = true};
    struct knit_handle *sleeper, *last;

    (void)state;
    knit_close(k);
    k = open_with(&options);
    succeeds(knit_start(k, NULL, &sleeper, &error, "sleep", "(int) -> nil", (int64_t)300));
    succeeds(knit_start(k, NULL, &last, &error, "sleep", "(int) -> nil", (int64_t)20000));
    succeeds(knit_flush(k, &error));
    assert_int_equal(kill(daemon_pid, SIGTERM), 0);
    assert_true(KNIT_WAIT_UNTIL(is_draining(), 10000));
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_true(error.retryable);
    succeeds(knit_await(sleeper, patience_ms(), &error));
    /* Until now it has kept the daemon. */
    knit_cancel(last);
    assert_int_equal(knit_await(last, patience_ms(), &error), KNIT_CANCELLED);
}

/* Its only worker seems idle, and is stopped: the call is given up before it starts. */
static void a_call_that_may_not_queue_is_not_left_to_a_worker_that_does_not_come(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    (void)state;
    options.queue_ms = 0;
    succeeds(knit_start(k, &options, &handle, &error, "ledger", "(int)", (int64_t)1));
    assert_int_equal(knit_await(handle, 10000, &error), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    knit_free(handle);
}

static void every_form_of_a_call_says_the_same(void **state)
{
    static const struct {
        const char *task, *signature;
        int64_t numbers[2];
        int code;
        enum knit_started started;
        const char *message;
    } cases[] = {
        {"add", "(int, int) -> int", {40, 2}, KNIT_OK, KNIT_STARTED_YES, ""},
        {"add", "add(a: int, b: int)", {40, 2}, KNIT_OK, KNIT_STARTED_YES, ""},
        {"add", "(int, int) -> int", {INT64_MAX, 1}, KNIT_TASK_FAILED, KNIT_STARTED_YES,
            "the sum does not fit"},
        {"add", "(int, int) -> str", {1, 2}, KNIT_BAD_RESULT, KNIT_STARTED_YES,
            "result 1: expected str, got int"},
        {"add", "(int, int) -> (int, int)", {1, 2}, KNIT_BAD_RESULT, KNIT_STARTED_YES,
            "expected array, got int"},
        {"add", "(int, bool) -> int", {1, 2}, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "argument 2 (b): expected int, got bool"},
        {"add", "(int)", {1, 2}, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, ""},
        {"add", "(int, in) -> int", {1, 2}, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "is wrong at byte 6: unknown type"},
        {"ad", "(int, int) -> int", {1, 2}, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO, "'add'"},
        {"ad\xff", "(int, int) -> int", {1, 2}, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO, "'ad?'"},
        {"", "(int, int) -> int", {1, 2}, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t sum = knit_forms_all(
            k, cases[i].task, cases[i].signature, cases[i].numbers, cases[i].code, &error);

        if (cases[i].code == KNIT_OK) {
            assert_true(sum == (strchr(cases[i].signature, '>') != NULL ? 42 : 0));
            continue;
        }
        assert_int_equal(error.started, cases[i].started);
        assert_false(error.retryable);
        if (strstr(error.message, cases[i].message) == NULL)
            fail_msg("%s%s: %s", cases[i].task, cases[i].signature, error.message);
    }
}

/* What a prepared call has found stays true when workers come and go. */
static void a_prepared_call_outlives_workers(void **state)
{
    struct knit_prepared *add;
    int64_t sum;

    (void)state;
    succeeds(knit_prepare(k, &error, "add", "(int, int) -> int", &add));
    for (int64_t i = 0; i < 3; i++) {
        succeeds(knit_call_prepared(add, NULL, &error, i, (int64_t)7, &sum));
        assert_true(sum == i + 7);
        assert_int_equal(knit_call(k, &error, "crash", "(str)", "exit"), KNIT_WORKER_DIED);
    }
    succeeds(knit_call_prepared(add, NULL, &error, (int64_t)1, (int64_t)1, &sum));
    assert_true(sum == 2);
    knit_prepared_free(add);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(bytes_of_every_size_come_back),
        WITH_SESSION(the_senders_buffer_is_read_at_once),
        WITH_SESSION(typed_arrays_are_aligned),
        WITH_SESSION(more_calls_than_slots_are_all_answered),
        WITH_SESSION(an_event_loop_gets_every_answer_and_then_no_wake_up),
        WITH_SESSION(a_running_call_times_out_at_its_deadline),
        WITH_SESSION(a_call_that_expires_or_is_cancelled_in_the_queue_never_starts),
        WITH_SESSION(the_queue_timeout_does_not_end_a_call_that_has_started),
        WITH_SESSION(a_call_that_may_not_queue_is_started_at_once_or_refused),
        WITH_SESSION(failures_are_the_same_over_every_transport),
        WITH_SESSION(malformed_arguments_are_refused_alike),
        WITH_SESSION(every_form_of_a_call_says_the_same),
        WITH_SESSION(a_prepared_call_outlives_workers),
        WITH_SESSION(a_crash_fails_its_call_alone),
        WITH_SESSION(a_full_session_refuses_to_block),
        WITH_SESSION(results_stay_until_they_are_freed),
        WITH_SESSION(all_results_may_be_held_at_once),
        WITH_SESSION(handles_may_be_freed_in_flight),
        WITH_SESSION(arguments_beyond_the_limit_are_refused),
        WITH_SESSION(a_forked_child_does_not_affect_the_session),
        WITH_SESSION(the_pool_answers_questions),
    };
    const struct CMUnitTest drain_tests[] = {
        WITH_SESSION(a_drain_refuses_new_calls_and_ends_the_others)};
    const struct CMUnitTest stopped_tests[] = {
        WITH_SESSION(a_call_that_may_not_queue_is_not_left_to_a_worker_that_does_not_come)};
    const struct CMUnitTest last_tests[] = {WITH_SESSION(a_dead_daemon_is_noticed_at_once)};

    if (argc < 2)
        return 2;
    url = argv[1];
    if (argc == 3 && strcmp(argv[2], "--stopped") == 0)
        return cmocka_run_group_tests_name("client_calls --stopped", stopped_tests, NULL, NULL);
    if (argc == 4)
        daemon_pid = (pid_t)strtol(argv[3], NULL, 10);
    if (argc == 4 && strcmp(argv[2], "--drain") == 0)
        return cmocka_run_group_tests_name("client_calls --drain", drain_tests, NULL, NULL);
    if (argc == 4)
        return cmocka_run_group_tests_name("client_calls --die", last_tests, NULL, NULL);
    return cmocka_run_group_tests_name("client_calls", tests, NULL, NULL);
}
