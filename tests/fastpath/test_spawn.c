/* SPDX-License-Identifier: Apache-2.0 */
/* A child that cannot move its descriptors to their numbers reports it to its host, and only there.
 * Method: the limit of descriptors is below the numbers that it uses meanwhile, and another socket
 * has the number that its end of the pipe to the host would get.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/control/control.h"
#include "fastpath/host/spawn.h"

static void a_failed_start_is_reported_to_the_host_alone(void **state)
{
    const char *const argv[] = {"/bin/true", NULL}, *const environment[] = {NULL};
    const int given[] = {0};
    const struct knit_spawn_options options = {.argv = argv,
        .environment = environment,
        .program = "",
        .fds = given,
        .fd_count = 1,
        .group_fd = -1};
    struct knit_spawned child;
    struct knit_control_message message;
    struct rlimit limit, low;
    struct pollfd report;
    int other[2], byte;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, other), 0);
    if (other[1] != KNIT_CONTROL_REPORT_FD && other[0] != KNIT_CONTROL_REPORT_FD)
        assert_int_equal(dup2(other[1], KNIT_CONTROL_REPORT_FD), KNIT_CONTROL_REPORT_FD);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){.rlim_cur = 16, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(knit_spawn(&options, &child), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    report = (struct pollfd){.fd = child.report_fd, .events = POLLIN};
    assert_int_equal(poll(&report, 1, 10000), 1);
    assert_int_equal(knit_control_read_report(child.report_fd, &message), 0);
    assert_int_equal(message.type, KNIT_CONTROL_HELLO);
    assert_int_equal(message.hello.error, EINVAL);
    assert_int_equal(waitpid(child.pid, NULL, 0), child.pid);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recv(other[i], &byte, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_start_is_reported_to_the_host_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
