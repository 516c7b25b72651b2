/* SPDX-License-Identifier: Apache-2.0 */
/* The log keeps its form whatever it is given, and never blocks: a full pipe, a closed one and a
 * full disk cost lines, which are counted and said once. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/text.h"
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

/* What a peer might choose, with what stands for it in each format. */
static const struct {
    const char *text;
    size_t len;
    const char *logfmt, *json;
} values[] = {
    {"plain", 5, "plain", "\"plain\""},
    {"", 0, "\"\"", "\"\""},
    {"a b", 3, "\"a b\"", "\"a b\""},
    {"a=b", 3, "\"a=b\"", "\"a=b\""},
    {"\"", 1, "\"\\\"\"", "\"\\\"\""},
    {"\\", 1, "\"\\\\\"", "\"\\\\\""},
    {"a\nlevel=error", 13, "\"a\\nlevel=error\"", "\"a\\nlevel=error\""},
    {"\0\t\r\x1b[2J\x7f", 8, "\"\\x00\\x09\\x0d\\x1b[2J\\x7f\"",
        "\"\\u0000\\u0009\\u000d\\u001b[2J\\u007f\""},
    {"\xc3\xa9", 2, "\"\xc3\xa9\"", "\"\xc3\xa9\""},
    {"\xf0\x9f\x98\x80", 4, "\"\xf0\x9f\x98\x80\"", "\"\xf0\x9f\x98\x80\""},
    {"\xc3\xa9\xff", 3, "\"\\xc3\\xa9\\xff\"", "\"\\\\xc3\\\\xa9\\\\xff\""},
    {"\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"", "\"\\\\xed\\\\xa0\\\\x80\""},
    {"\xe2\x80\xae", 3, "\"\\u202e\"", "\"\\u202e\""},
};

static void a_value_is_escaped_as_the_format_has_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (int is_json = 0; is_json < 2; is_json++) {
            const char *value = is_json != 0 ? values[i].json : values[i].logfmt;
            struct knit_log_line line;
            char expected[128];
            int len = snprintf(expected, sizeof(expected),
                is_json != 0 ? "{\"v\":%s,\"n\":%d}\n" : "v=%s n=%d\n", value, 7);

            knit_log_line_begin(&line, is_json != 0, "");
            knit_log_line_text(&line, "v", values[i].text, values[i].len);
            knit_log_line_number(&line, "n", 7);
            knit_log_line_end(&line);
            assert_int_equal(line.len, len);
            assert_memory_equal(line.bytes, expected, line.len);
        }
    }
}

/* Its quotes, braces and escapes are those of one object. */
static void expect_whole_object(const char *text, size_t len)
{
    bool is_quoted = false;

    assert_int_equal(text[0], '{');
    assert_memory_equal(text + len - 2, "}\n", 2);
    for (size_t i = 0; i < len - 1; i++) {
        assert_true((unsigned char)text[i] >= ' ');
        if (is_quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            is_quoted = !is_quoted;
    }
    assert_false(is_quoted);
}

/* Lengths around those at which values and lines are cut, of bytes that take one to six. */
static void a_line_that_is_cut_is_whole(void **state)
{
    static const char *const parts[] = {"a", "\"", "\x01", "\xff", "\xc3\xa9", "\xf0\x9f\x98\x80"};
    char text[4200];

    (void)state;
    for (size_t part = 0; part < sizeof(parts) / sizeof(parts[0]); part++) {
        const size_t size = strlen(parts[part]);

        for (size_t at = 0; at + size <= sizeof(text); at += size)
            memcpy(text + at, parts[part], size);
        /* Many that are far from any, and all that are near. */
        for (size_t len = 600; len + size <= 4200; len += size * (len % 1024 < 900 ? 31 : 1)) {
            struct knit_log_line line;

            knit_log_line_begin(&line, true, "");
            knit_log_line_text(&line, "v", text, len);
            knit_log_line_text(&line, "w", text, len);
            knit_log_line_number(&line, "n", UINT64_MAX);
            knit_log_line_end(&line);
            assert_true(line.len <= sizeof(line.bytes));
            expect_whole_object(line.bytes, line.len);
            assert_true(knit_text_is_utf8(line.bytes, line.len));
        }
    }
}

static void lines_of_a_kind_are_limited_and_counted(void **state)
{
    struct knit_log log;
    char text[4096];
    int fds[2];
    unsigned said = 0;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    knit_log_init(&log, fds[1], KNIT_LOG_INFO);
    log.is_json = true;
    assert_false(knit_log_is_counting(&log));
    for (int i = 0; i < 25; i++)
        said += knit_log_may(&log, KNIT_LOG_DENIED);
    assert_true(knit_log_may(&log, KNIT_LOG_QUOTA));
    assert_true(knit_log_is_counting(&log));
    assert_int_equal(said, 10);
    knit_log_end_second(&log);
    assert_false(knit_log_is_counting(&log));
    take(fds[0], text, sizeof(text));
    assert_non_null(strstr(text, "\"level\":\"warning\",\"msg\":\"lines were left out\",\"kind\":"
                                 "\"denied\",\"lines\":15}\n"));
    assert_null(strstr(text, "QUOTA"));
    assert_int_equal(knit_log_left_out(&log), 15);
    assert_true(knit_log_may(&log, KNIT_LOG_DENIED));
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
        cmocka_unit_test(a_value_is_escaped_as_the_format_has_it),
        cmocka_unit_test(a_line_that_is_cut_is_whole),
        cmocka_unit_test(lines_of_a_kind_are_limited_and_counted),
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
