/* SPDX-License-Identifier: Apache-2.0 */
/* Marks are found wherever in the environment they stand, also while their process goes from one
 * program to the next, and nothing else is taken for one.
 *
 * Method: a program is started with an environment of the test's choice. It has it for certain when
 * it has answered what it was told.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/control/kin.h"

/* Larger than what is read at once. */
enum { PADDING_MAX = 8196, LOOKS = 500 };

/* It has both ends of the pipe from which it reads, so it waits for ever. */
static pid_t start_program(char *const argv[], char *const environment[], int in[2], int out_fd)
{
    const pid_t parent = getpid();
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && dup2(in[0], 0) == 0 && dup2(out_fd, 1) == 1 && dup(in[1]) > 0)
        (void)execve(argv[0], argv, environment);
    _exit(127);
}

/* A program that waits, with these variables. */
static pid_t start(char *const argv[], const char *first, const char *second)
{
    char *const environment[] = {(char *)first, (char *)second, NULL};
    int in[2], out[2];
    char byte = '\n';
    pid_t pid;

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(write(in[1], &byte, 1), 1);
    pid = start_program(argv, environment, in, out[1]);
    (void)close(in[0]);
    (void)close(in[1]);
    (void)close(out[1]);
    assert_int_equal(read(out[0], &byte, 1), 1);
    (void)close(out[0]);
    return pid;
}

static char *const waiting[] = {(char *)"/bin/cat", NULL};

/* Begins itself anew again and again, but that it says something first. */
#define ANEW "exec /bin/sh -c \"$0\" \"$0\""
static char *const restless[] = {
    (char *)"/bin/sh", (char *)"-c", (char *)"echo; " ANEW, (char *)ANEW, NULL};

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
        pid = start(waiting, padding, mark);
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
        pid_t pid = start(waiting, others[i], KNIT_KIN_VARIABLE "=2.2");

        assert_true(knit_kin_mark_of(pid, found));
        assert_string_equal(found, KNIT_KIN_VARIABLE "=2.2");
        end(pid);
        pid = start(waiting, others[i], NULL);
        assert_false(knit_kin_mark_of(pid, found));
        end(pid);
    }
}

static void a_mark_is_found_in_the_midst_of_execve(void **state)
{
    char found[KNIT_KIN_MARK_SIZE];
    pid_t pid = start(restless, KNIT_KIN_VARIABLE "=2.2", NULL);

    (void)state;
    for (int i = 0; i < LOOKS; i++) {
        assert_true(knit_kin_mark_of(pid, found));
        assert_string_equal(found, KNIT_KIN_VARIABLE "=2.2");
    }
    end(pid);
}

static void only_those_that_bear_the_mark_are_killed(void **state)
{
    char mark[KNIT_KIN_MARK_SIZE], other[KNIT_KIN_MARK_SIZE];
    pid_t own, another;
    int status;

    (void)state;
    knit_kin_make_mark(mark, getpid(), 1);
    knit_kin_make_mark(other, getpid(), 11);
    own = start(waiting, mark, NULL);
    another = start(waiting, other, NULL);
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
        cmocka_unit_test(a_mark_is_found_in_the_midst_of_execve),
        cmocka_unit_test(only_those_that_bear_the_mark_are_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
