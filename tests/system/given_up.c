/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: calls that are aborted with a reason, and notifications, are the same over every transport.
 * test_late_calls.py runs this program for each URL, with one worker and the module late.
 *
 *     given_up URL PID     PID: of the daemon, which is stopped for a while
 */
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
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

static pid_t daemon_pid;

static int64_t counted(const char *task)
{
    int64_t count;

    succeeds(knit_call(k, &error, task, "() -> int", &count));
    return count;
}

static int64_t ran(void)
{
    return counted("count");
}

static struct knit_handle *start_hold(void)
{
    struct knit_handle *handle;

    succeeds(knit_start(k, NULL, &handle, &error, "hold", "(int) -> int?", FOR_LONG));
    succeeds(knit_flush(k, &error));
    return handle;
}

/* ---- aborts ---- */

static void is_cancelled_with(struct knit_handle *handle, const char *reason)
{
    size_t len = strlen(reason);

    assert_int_equal(knit_await(handle, 0, &error), KNIT_CANCELLED);
    assert_string_equal(error.message, reason);
    assert_true(len < 32);
    assert_int_equal(error.data_len, len + 1);
    assert_int_equal(*(const uint8_t *)error.data, 0xa0 | len);
    assert_memory_equal((const char *)error.data + 1, reason, len);
    knit_free(handle);
}

static void an_abort_with_a_reason_ends_a_running_call_at_once(void **state)
{
    struct knit_handle *handle = start_hold();

    (void)state;
    /* It runs by now, or is the next one to run. */
    assert_int_equal(knit_await(handle, 50, &error), KNIT_PENDING);
    knit_abort(handle, "enough");
    is_cancelled_with(handle, "enough");
    /* The task sees it, or this would wait for it. */
    assert_true(ran() > 0);
}

static void an_abort_keeps_a_queued_call_from_starting(void **state)
{
    int64_t before = ran();
    struct knit_handle *holder = start_hold(), *queued[20];

    (void)state;
    for (int i = 0; i < 20; i++)
        queued[i] = start_hold();
    for (int i = 20; i-- > 0;)
        knit_abort(queued[i], "not needed");
    for (int i = 0; i < 20; i++)
        is_cancelled_with(queued[i], "not needed");
    knit_abort(holder, "");
    is_cancelled_with(holder, "");
    assert_true(ran() <= before + 1);
}

static void the_first_reason_counts(void **state)
{
    /* The one before it holds the worker, which would answer the cancel first. */
    struct knit_handle *holder = start_hold(), *handle = start_hold();

    (void)state;
    knit_cancel(handle);
    knit_abort(handle, "first");
    knit_abort(handle, "second");
    knit_cancel(handle);
    is_cancelled_with(handle, "first");
    knit_abort(holder, "");
    is_cancelled_with(holder, "");
    assert_true(ran() > 0);
}

static void without_a_reason_it_is_a_cancel(void **state)
{
    struct knit_handle *handle = start_hold();

    (void)state;
    assert_int_equal(knit_await(handle, 50, &error), KNIT_PENDING);
    knit_abort(handle, NULL);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_CANCELLED);
    assert_null(error.data);
    knit_free(handle);
}

static void an_outcome_that_is_there_stays(void **state)
{
    struct knit_handle *handle;
    int64_t count = -1;

    (void)state;
    succeeds(knit_start(k, NULL, &handle, &error, "count", "() -> int", &count));
    succeeds(knit_await(handle, -1, &error));
    knit_abort(handle, "too late");
    succeeds(knit_await(handle, 0, &error));
    succeeds(knit_results(handle, &error, &count));
    assert_true(count >= 0);
    knit_free(handle);
}

static void a_reason_need_be_no_text_and_may_be_long(void **state)
{
    char *reason = malloc(100001);
    struct knit_handle *handle = start_hold();

    (void)state;
    knit_abort(handle, "a\xff z");
    is_cancelled_with(handle, "a? z");
    memset(reason, 'x', 100000);
    reason[100000] = '\0';
    handle = start_hold();
    knit_abort(handle, reason);
    assert_int_equal(knit_await(handle, 0, &error), KNIT_CANCELLED);
    assert_int_equal(strlen(error.message), 4096);
    knit_free(handle);
    free(reason);
    assert_true(ran() > 0);
}

static void count_outcome(struct knit_handle *handle, void *user)
{
    assert_int_equal(knit_await(handle, 0, &error), KNIT_CANCELLED);
    ++*(int *)user;
    knit_free(handle);
}

static void an_event_loop_hears_of_an_abort_once(void **state)
{
    struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};
    struct knit_handle *handle = start_hold();
    int outcomes = 0;

    (void)state;
    knit_on_done(handle, count_outcome, &outcomes);
    knit_abort(handle, "enough");
    while (outcomes == 0) {
        assert_true(poll(&item, 1, 20000) > 0);
        succeeds(knit_dispatch(k, &error));
    }
    assert_true(ran() > 0);
    assert_int_equal(outcomes, 1);
}

/* ---- limits ---- */

static void note_drain(struct knit *session, void *user)
{
    struct knit_handle **calls = user;

    assert_ptr_equal(session, k);
    assert_null(calls[8]);
    calls[8] = calls[0];
}

static void is_refused_for_its_limit(uint32_t limit)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t begin_ns = knit_now();

    options.queue_max = limit;
    assert_int_equal(
        knit_call_with(k, &options, &error, "hold", "(int)", (int64_t)0), KNIT_OVERLOADED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_true(error.retryable && error.limit == limit && error.retry_after_ms > 0);
    assert_true(knit_now() - begin_ns < knit_deadline_stretched_ns(UINT64_C(2000000000)));
}

static void a_call_beyond_its_own_limit_is_refused_and_room_is_told_once(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *calls[9] = {NULL};
    struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};

    (void)state;
    knit_on_drain(k, note_drain, calls);
    options.queue_max = 8;
    for (int i = 0; i < 8; i++)
        succeeds(knit_start(
            k, &options, &calls[i], &error, "hold", "(int) -> int?", i == 0 ? FOR_LONG : 0));
    is_refused_for_its_limit(8);
    is_refused_for_its_limit(3);
    succeeds(knit_dispatch(k, &error));
    assert_null(calls[8]);
    knit_abort(calls[0], "enough");
    while (calls[8] == NULL) {
        assert_true(poll(&item, 1, 20000) > 0);
        succeeds(knit_dispatch(k, &error));
    }
    for (int i = 0; i < 8; i++)
        knit_free(calls[i]);
    succeeds(knit_call_with(k, &options, &error, "hold", "(int)", (int64_t)0));
    succeeds(knit_dispatch(k, &error));
}

/* ---- notifications ---- */

static void reopen(void)
{
    k = knit_close(k);
    (void)open_session(NULL);
}

static void every_form_of_a_notification_runs_its_task(void **state)
{
    int64_t before = ran();
    struct knit_prepared *hold;

    (void)state;
    succeeds(knit_prepare(k, &error, "hold", "(int) -> int?", &hold));
    succeeds(knit_notify(k, &error, "hold", "(int)", (int64_t)1));
    succeeds(knit_notify(k, &error, "hold", "(int) -> int?", (int64_t)1));
    succeeds(knit_notify_prepared(hold, &error, (int64_t)1));
    succeeds(knit_notify_raw(k, &error, "hold", "\x91\x01", 2));
    succeeds(knit_flush(k, &error));
    assert_true(KNIT_WAIT_UNTIL(ran() == before + 4, 10000));
}

static void closing_waits_until_notifications_are_taken(void **state)
{
    int64_t before = counted("finished_count");

    (void)state;
    for (int i = 0; i < 300; i++)
        succeeds(knit_notify(k, &error, "hold", "(int)", (int64_t)1));
    succeeds(knit_notify(k, &error, "hold", "(int)", (int64_t)300));
    reopen();
    /* None was cancelled, nor told to stop. */
    assert_true(KNIT_WAIT_UNTIL(counted("finished_count") == before + 301, 60000));
    reopen();
    assert_true(counted("finished_count") == before + 301);
}

/* All threads of the daemon. */
static bool has_stopped(void)
{
    char path[300], line[512];
    bool has_all = true;
    struct dirent *item;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)daemon_pid);
    dir = opendir(path);
    assert_non_null(dir);
    while ((item = readdir(dir)) != NULL) {
        FILE *file;

        if (item->d_name[0] == '.')
            continue;
        (void)snprintf(
            path, sizeof(path), "/proc/%d/task/%.20s/stat", (int)daemon_pid, item->d_name);
        file = fopen(path, "re");
        if (file == NULL)
            continue;
        has_all =
            has_all && fgets(line, sizeof(line), file) != NULL && strstr(line, ") T ") != NULL;
        fclose(file);
    }
    closedir(dir);
    return has_all;
}

static void a_daemon_that_takes_nothing_holds_a_close_for_a_second(void **state)
{
    uint64_t begin_ns, took_ns;
    int64_t before = ran();

    (void)state;
    assert_int_equal(kill(daemon_pid, SIGSTOP), 0);
    assert_true(KNIT_WAIT_UNTIL(has_stopped(), 10000));
    succeeds(knit_notify(k, &error, "hold", "(int)", (int64_t)1));
    begin_ns = knit_now();
    k = knit_close(k);
    took_ns = knit_now() - begin_ns;
    assert_int_equal(kill(daemon_pid, SIGCONT), 0);
    print_message("    closed after %.0f ms\n", (double)took_ns / 1e6);
    assert_true(took_ns >= UINT64_C(900000000));
    assert_true(took_ns < knit_deadline_stretched_ns(UINT64_C(10000000000)));
    (void)open_session(NULL);
    assert_true(KNIT_WAIT_UNTIL(ran() == before + 1, 10000));
}

static void what_cannot_be_sent_is_refused(void **state)
{
    uint8_t *large = calloc(1, 9 << 20);
    int64_t before = ran();

    (void)state;
    assert_int_equal(knit_notify(k, &error, "$/cancel", "(int)", (int64_t)1), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_notify(k, &error, "hold", "(in)", (int64_t)1), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_notify_raw(k, &error, "hold", "\x91", 1), KNIT_BAD_ARGUMENT);
    assert_int_equal(
        knit_notify(k, &error, "hold", "(bin)", large, (size_t)9 << 20), KNIT_TOO_LARGE);
    assert_true(error.actual > error.limit);
    /* Of these nobody hears. */
    succeeds(knit_notify(k, &error, "no_such_task", "()"));
    succeeds(knit_notify(k, &error, "hold", "(str)", "x"));
    succeeds(knit_flush(k, &error));
    succeeds(knit_ping(k, &error, NULL));
    assert_true(ran() == before);
    free(large);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(an_abort_with_a_reason_ends_a_running_call_at_once),
        WITH_SESSION(an_abort_keeps_a_queued_call_from_starting),
        WITH_SESSION(the_first_reason_counts),
        WITH_SESSION(without_a_reason_it_is_a_cancel),
        WITH_SESSION(an_outcome_that_is_there_stays),
        WITH_SESSION(a_reason_need_be_no_text_and_may_be_long),
        WITH_SESSION(an_event_loop_hears_of_an_abort_once),
        WITH_SESSION(a_call_beyond_its_own_limit_is_refused_and_room_is_told_once),
        WITH_SESSION(every_form_of_a_notification_runs_its_task),
        WITH_SESSION(closing_waits_until_notifications_are_taken),
        WITH_SESSION(a_daemon_that_takes_nothing_holds_a_close_for_a_second),
        WITH_SESSION(what_cannot_be_sent_is_refused),
    };

    if (argc != 3)
        return 2;
    url = argv[1];
    daemon_pid = (pid_t)strtol(argv[2], NULL, 10);
    return cmocka_run_group_tests_name("given_up", tests, NULL, NULL);
}
