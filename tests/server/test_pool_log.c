/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool reports because callers brought it about cannot fill a disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/daemon/pool_log.h"

static unsigned lines_of(const char *text)
{
    unsigned lines = 0;

    while ((text = strchr(text, '\n')) != NULL) {
        lines++;
        text++;
    }
    return lines;
}

static void evicted_sessions_get_some_lines_a_second_and_a_count(void **state)
{
    const struct knit_host_event event = {.kind = KNIT_HOST_SESSION_EVICTED,
        .session = 7,
        .uid = 1000,
        .pid = 12,
        .text = "a cell's word"};
    char text[65536] = "";
    struct knit_log log;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    for (int i = 0; i < 100; i++)
        knit_pool_log_event(&log, NULL, 0, &event);
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    assert_int_equal(lines_of(text), 10);
    assert_non_null(strstr(text, "session=7 reason=\"a cell's word\" peer=uid:1000,pid:12\n"));

    knit_log_end_second(&log);
    knit_pool_log_event(&log, NULL, 0, &event);
    knit_log_end_second(&log);
    memset(text, 0, sizeof(text));
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    assert_int_equal(lines_of(text), 2);
    assert_non_null(
        strstr(text, "msg=\"lines were left out\" kind=\"session ended: its memory broke "
                     "the protocol\" lines=90\n"));
    assert_int_equal(knit_log_left_out(&log), 90);
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

static void a_replaced_worker_is_logged_without_an_empty_reason(void **state)
{
    const struct knit_host_event started = {
        .kind = KNIT_HOST_WORKER_STARTED, .is_replacement = true, .lane = 1, .pid = 9, .text = ""};
    const struct knit_host_event hung = {.kind = KNIT_HOST_HARD_TIMEOUT,
        .lane = 1,
        .pid = 9,
        .limit_ms = 250,
        .task = KNIT_HOST_TASK_NONE};
    char text[4096] = "";
    struct knit_log log;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    knit_pool_log_event(&log, NULL, 0, &started);
    knit_pool_log_event(&log, NULL, 0, &hung);
    assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "msg=\"worker replaced\" lane=1 pid=9\n"));
    assert_non_null(strstr(text, "hard_timeout_ms=250\n"));
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evicted_sessions_get_some_lines_a_second_and_a_count),
        cmocka_unit_test(a_replaced_worker_is_logged_without_an_empty_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
