/* SPDX-License-Identifier: Apache-2.0 */
/* A caller's token: where it may come from, what it may be, and over what it is not sent. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/token.h"

#define TOKEN "0123456789abcdef"

static char path[] = "/tmp/knit-token-XXXXXX";
static char room[KNIT_TOKEN_BYTES_MAX + 1];

static void write_file(const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Two ends of a unix socket. */
static void make_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
}

static void refuses(const struct knit_token_options *options, const char *text)
{
    struct knit_token *token = (struct knit_token *)room;
    struct knit_error error;

    assert_int_equal(knit_token_new(options, &token, &error), KNIT_BAD_ARGUMENT);
    assert_null(token);
    assert_non_null(strstr(error.message, text));
}

static void a_token_is_a_text_or_a_file(void **state)
{
    static const char *const files[] = {TOKEN, TOKEN "\n", " \t" TOKEN " \r\n\n"};
    struct knit_token_options options = {.text = TOKEN};
    struct knit_token *token;
    struct knit_span span;
    struct knit_error error;
    int fds[2];

    (void)state;
    make_pair(fds);
    assert_int_equal(knit_token_new(&options, &token, &error), KNIT_OK);
    assert_int_equal(knit_token_say(token, fds[0], false, room, &span, &error), KNIT_OK);
    assert_true(knit_span_is(span, TOKEN));
    token = knit_token_free(token);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        options = (struct knit_token_options){.file = path};
        write_file(files[i]);
        assert_int_equal(knit_token_new(&options, &token, &error), KNIT_OK);
        assert_int_equal(knit_token_say(token, fds[0], false, room, &span, &error), KNIT_OK);
        assert_true(knit_span_is(span, TOKEN));
        /* The next connection has what the file says then. */
        write_file("another-" TOKEN);
        assert_int_equal(knit_token_say(token, fds[0], false, room, &span, &error), KNIT_OK);
        assert_true(knit_span_is(span, "another-" TOKEN));
        write_file("");
        assert_int_equal(
            knit_token_say(token, fds[0], false, room, &span, &error), KNIT_BAD_ARGUMENT);
        token = knit_token_free(token);
    }
    assert_int_equal(knit_token_new(NULL, &token, &error), KNIT_OK);
    assert_null(token);
    assert_int_equal(knit_token_say(NULL, -1, false, room, &span, &error), KNIT_OK);
    assert_null(span.bytes);
    close(fds[0]);
    close(fds[1]);
}

static void what_is_no_token_is_refused(void **state)
{
    static char longest[KNIT_TOKEN_BYTES_MAX + 2];
    const struct knit_token_options none = {0}, both = {.file = path, .text = TOKEN},
                                    reserved = {.text = TOKEN, .reserved = {1}},
                                    brief = {.text = "0123456789abcde"},
                                    long_text = {.text = longest}, file = {.file = path},
                                    nowhere = {.file = "/nowhere/x"}, folder = {.file = "/tmp"};

    (void)state;
    memset(longest, 'a', sizeof(longest) - 1);
    refuses(&none, "a file or a text");
    refuses(&both, "not both");
    refuses(&reserved, "knit_token_options");
    refuses(&brief, "16 to 1024 bytes");
    refuses(&long_text, "16 to 1024 bytes");
    refuses(&nowhere, "cannot read the token's file \"/nowhere/x\": No such file");
    refuses(&folder, "Is a directory");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(&file, "it is a pipe; expected a regular file");
    assert_int_equal(unlink(path), 0);
    write_file(longest);
    refuses(&file, "holds no token");
    write_file(" \n");
    refuses(&file, "holds no token");
}

static int listen_at(const char *address, struct sockaddr_in *ret_bound)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(*ret_bound);

    *ret_bound = (struct sockaddr_in){.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, address, &ret_bound->sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)ret_bound, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_bound, &len), 0);
    return fd;
}

/* A socket that is bound to no address stands for one that is bound to an outer one. */
static void a_token_is_not_sent_over_a_network_without_tls(void **state)
{
    const struct knit_token_options options = {.text = TOKEN};
    struct sockaddr_in bound;
    struct knit_token *token;
    struct knit_span span;
    struct knit_error error;
    int outer = listen_at("0.0.0.0", &bound), inner = listen_at("127.0.0.1", &bound),
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(connect(fd, (struct sockaddr *)&bound, sizeof(bound)), 0);
    assert_int_equal(knit_token_new(&options, &token, &error), KNIT_OK);
    assert_int_equal(knit_token_say(token, outer, false, room, &span, &error), KNIT_BAD_ARGUMENT);
    assert_null(span.bytes);
    assert_non_null(strstr(error.message, "knits://"));
    assert_int_equal(knit_token_say(token, -1, false, room, &span, &error), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_token_say(token, outer, true, room, &span, &error), KNIT_OK);
    assert_true(knit_span_is(span, TOKEN));
    assert_int_equal(knit_token_say(token, fd, false, room, &span, &error), KNIT_OK);
    assert_true(knit_span_is(span, TOKEN));
    token = knit_token_free(token);
    close(outer);
    close(inner);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_a_text_or_a_file),
        cmocka_unit_test(what_is_no_token_is_refused),
        cmocka_unit_test(a_token_is_not_sent_over_a_network_without_tls),
    };
    int fd = mkstemp(path), failed;

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return failed;
}
