/* SPDX-License-Identifier: Apache-2.0 */
/* Marks are found wherever in the environment they stand, and nothing else is taken for one.
 *
 * Method: a program is started with an environment of the test's choice. Its start closes a pipe,
 * so that the test looks when the environment is there.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/control/kin.h"

/* Larger than what is read at once. */
enum { PADDING_MAX = 8196 };

/* A program that waits, with these variables. */
static pid_t start(const char *first, const char *second)
{
    char *const argv[] = {(char *)"sleep", (char *)"1000", NULL};
    char *const environment[] = {(char *)first, (char *)second, NULL};
    int fds[2];
    pid_t pid;
    char byte;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execve("/bin/sleep", argv, environment);
        _exit(127);
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 0);
    (void)close(fds[0]);
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_mark_is_found_at_any_place(void **state)
{
    static char padding[PADDING_MAX + 1];
    char mark[KNIT_KIN_MARK_SIZE], found[KNIT_KIN_MARK_SIZE];

    (void)state;
    knit_kin_make_mark(mark, 4194303, 4294967295u);
    assert_string_equal(mark, KNIT_KIN_VARIABLE "=4194303.4294967295");
    /* The mark's 35 bytes lie around the end of what is read at once, then around the next end. */
    for (size_t len = 4050; len < PADDING_MAX; len += len == 4099 ? 4047 : 1) {
        pid_t pid;

        memset(padding, 'x', len);
        padding[len] = '\0';
        pid = start(padding, mark);
        assert_true(knit_kin_mark_of(pid, found));
        assert_string_equal(found, mark);
        end(pid);
    }
}

static void what_only_looks_like_a_mark_is_none(void **state)
{
    static const char *const others[] = {KNIT_KIN_VARIABLE, KNIT_KIN_VARIABLE "=",
        "X" KNIT_KIN_VARIABLE "=1.1", KNIT_KIN_VARIABLE "S=1.1",
        KNIT_KIN_VARIABLE "=1.1111111111111111111111111111111111111111"};
    char found[KNIT_KIN_MARK_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        pid_t pid = start(others[i], KNIT_KIN_VARIABLE "=2.2");

        assert_true(knit_kin_mark_of(pid, found));
        assert_string_equal(found, KNIT_KIN_VARIABLE "=2.2");
        end(pid);
        pid = start(others[i], NULL);
        assert_false(knit_kin_mark_of(pid, found));
        end(pid);
    }
}

static void only_those_that_bear_the_mark_are_killed(void **state)
{
    char mark[KNIT_KIN_MARK_SIZE], other[KNIT_KIN_MARK_SIZE];
    pid_t own, another;
    int status;

    (void)state;
    knit_kin_make_mark(mark, getpid(), 1);
    knit_kin_make_mark(other, getpid(), 11);
    own = start(mark, NULL);
    another = start(other, NULL);
    knit_kin_kill(mark);
    assert_int_equal(waitpid(own, &status, 0), own);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(kill(another, 0), 0);
    assert_int_equal(waitpid(another, &status, WNOHANG), 0);
    end(another);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_is_found_at_any_place),
        cmocka_unit_test(what_only_looks_like_a_mark_is_none),
        cmocka_unit_test(only_those_that_bear_the_mark_are_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
