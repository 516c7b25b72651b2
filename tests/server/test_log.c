/* SPDX-License-Identifier: Apache-2.0 */
/* The log keeps its form whatever it is given, and never blocks: a full pipe, a closed one and a
 * full disk cost lines, which are counted and said once. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/base/log.h"

static size_t take(int fd, char *text, size_t size)
{
    ssize_t n = read(fd, text, size - 1);

    assert_true(n >= 0);
    text[n] = '\0';
    return (size_t)n;
}

static void a_line_is_logfmt(void **state)
{
    struct knit_log log;
    char text[4096];
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    knit_log(&log, KNIT_LOG_DEBUG, "not written");
    knit_log(&log, KNIT_LOG_INFO, "two words", KNIT_LOG_TEXT("a", "plain"),
        KNIT_LOG_TEXT("b", "with \"quotes\"\n\\ and \x01"), KNIT_LOG_NUMBER("c", 42),
        KNIT_LOG_TEXT("d", ""), KNIT_LOG_BYTES("e", "xyz", 2), KNIT_LOG_TEXT("f", "\xc3\xa9"),
        KNIT_LOG_TEXT("g", "\xc3"), KNIT_LOG_TEXT("h", "\xc2\x9b\xe2\x80\xa8\xe2\x80\xae"));
    take(fds[0], text, sizeof(text));
    assert_memory_equal(text, "ts=2", 4);
    assert_non_null(
        strstr(text, "Z level=info msg=\"two words\" a=plain "
                     "b=\"with \\\"quotes\\\"\\n\\\\ and \\x01\" c=42 d=\"\" e=xy f=\"\xc3\xa9\" "
                     "g=\"\\xc3\" h=\"\\u009b\\u2028\\u202e\"\n"));
    assert_null(strstr(text, "not written"));
    /* The descriptor that others share is not made non-blocking behind their backs. */
    assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

static void a_value_is_cut_and_the_line_ends(void **state)
{
    struct knit_log log;
    char text[8192], value[8192];
    int fds[2];
    size_t len;

    (void)state;
    memset(value, '"', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    knit_log(&log, KNIT_LOG_INFO, "long", KNIT_LOG_TEXT("v", value), KNIT_LOG_TEXT("w", value));
    len = take(fds[0], text, sizeof(text));
    assert_true(len <= KNIT_LOG_LINE_MAX);
    assert_int_equal(text[len - 1], '\n');
    assert_int_equal(strcspn(text, "\n"), len - 1);
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

static void fill(struct knit_log *log)
{
    for (int i = 0; i < 100000 && log->dropped == 0; i++)
        knit_log(log, KNIT_LOG_INFO, "filling", KNIT_LOG_NUMBER("i", i));
    assert_true(log->dropped > 0);
}

static void drops_are_counted_and_said_once(struct knit_log *log, int reader)
{
    char *text = malloc(1 << 20);
    const char *said;

    fill(log);
    knit_log(log, KNIT_LOG_INFO, "lost as well");
    assert_int_equal(log->dropped, 2);
    (void)fcntl(reader, F_SETFL, O_NONBLOCK);
    while (read(reader, text, 1 << 20) > 0)
        ;
    knit_log(log, KNIT_LOG_INFO, "first after");
    knit_log(log, KNIT_LOG_INFO, "second after");
    text[0] = '\0';
    for (size_t used = 0; strstr(text, "second after") == NULL;)
        used += take(reader, text + used, (1 << 20) - used);
    said = strstr(text, "msg=\"log lines were dropped\" lines=2\n");
    assert_non_null(said);
    assert_null(strstr(said + strlen("msg=\"log lines were dropped"), "dropped"));
    assert_non_null(strstr(said, "first after"));
    assert_int_equal(log->dropped, 2);
    free(text);
}

static void a_full_pipe_drops_lines(void **state)
{
    struct knit_log log;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    drops_are_counted_and_said_once(&log, fds[0]);
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

static void a_full_socket_drops_lines(void **state)
{
    struct knit_log log;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    fill(&log);
    knit_log_fini(&log);
    close(fds[0]);
    close(fds[1]);
}

static void a_reader_that_is_gone_drops_lines(void **state)
{
    struct knit_log log;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    close(fds[0]);
    knit_log(&log, KNIT_LOG_INFO, "nobody hears");
    assert_int_equal(log.dropped, 1);
    knit_log_fini(&log);
    close(fds[1]);
}

static void a_full_disk_drops_lines(void **state)
{
    struct knit_log log;
    int fd = open("/dev/full", O_WRONLY);

    (void)state;
    if (fd < 0)
        skip();
    knit_log_init(&log, fd, KNIT_LOG_INFO);
    knit_log(&log, KNIT_LOG_INFO, "no room");
    assert_int_equal(log.dropped, 1);
    knit_log_fini(&log);
    close(fd);
}

static void a_closed_stderr_is_borne(void **state)
{
    struct knit_log log;

    (void)state;
    knit_log_init(&log, -1, KNIT_LOG_INFO);
    knit_log(&log, KNIT_LOG_INFO, "into nothing");
    assert_int_equal(log.dropped, 1);
    knit_log_fini(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_logfmt),
        cmocka_unit_test(a_value_is_cut_and_the_line_ends),
        cmocka_unit_test(a_full_pipe_drops_lines),
        cmocka_unit_test(a_full_socket_drops_lines),
        cmocka_unit_test(a_reader_that_is_gone_drops_lines),
        cmocka_unit_test(a_full_disk_drops_lines),
        cmocka_unit_test(a_closed_stderr_is_borne),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
