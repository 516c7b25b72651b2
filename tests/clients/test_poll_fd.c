/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor of knit_fd(): when it is readable, and how often its timer is set for that.
 * Method: no session; every time that the timer is to expire is given, and each setting is
 * counted. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/timerfd.h>

#include <cmocka.h>

#include "clients/lib/poll_fd.h"
#include "fastpath/lane/bell.h"

static struct knit_poll_fd poll_fd;
static int settings;

int __real_timerfd_settime(
    int fd, int flags, const struct itimerspec *value, struct itimerspec *old);
int __wrap_timerfd_settime(
    int fd, int flags, const struct itimerspec *value, struct itimerspec *old);

int __wrap_timerfd_settime(
    int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    settings++;
    return __real_timerfd_settime(fd, flags, value, old);
}

static int setup(void **state)
{
    (void)state;
    knit_poll_fd_init(&poll_fd);
    settings = 0;
    return knit_poll_fd_open(&poll_fd, -1, -1);
}

static int teardown(void **state)
{
    (void)state;
    knit_poll_fd_fini(&poll_fd);
    return 0;
}

static bool is_readable(int wait_ms)
{
    struct pollfd watched = {.fd = poll_fd.epoll_fd, .events = POLLIN};

    return poll(&watched, 1, wait_ms) == 1;
}

static void update(uint64_t at_ns)
{
    knit_poll_fd_update(&poll_fd, at_ns, knit_clock_ns());
}

static void nothing_is_set_while_nothing_is_due(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        update(UINT64_MAX);
    assert_int_equal(settings, 0);
    assert_false(is_readable(0));
}

static void a_timer_that_expires_in_time_is_not_set_again(void **state)
{
    const uint64_t at_ns = knit_clock_ns() + UINT64_C(3600) * 1000000000;

    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        update(at_ns + i);
    update(UINT64_MAX);
    assert_int_equal(settings, 1);
    update(at_ns - 1);
    assert_int_equal(settings, 2);
    assert_false(is_readable(0));
}

/* Calls that are started while something is to be dispatched. */
static void what_is_readable_is_not_made_so_again(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        update(0);
    assert_int_equal(settings, 1);
    assert_true(is_readable(10000));
    update(knit_clock_ns() - 1);
    assert_int_equal(settings, 1);
    update(UINT64_MAX);
    assert_int_equal(settings, 2);
    assert_false(is_readable(0));
    update(0);
    assert_int_equal(settings, 3);
    assert_true(is_readable(10000));
}

static void what_has_expired_is_readable_until_something_later_is_due(void **state)
{
    (void)state;
    update(knit_clock_ns() + 1000000);
    assert_true(is_readable(10000));
    for (int i = 0; i < 10; i++)
        update(0);
    assert_int_equal(settings, 1);
    assert_true(is_readable(0));
    update(knit_clock_ns() + UINT64_C(3600) * 1000000000);
    assert_int_equal(settings, 2);
    assert_false(is_readable(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_set_while_nothing_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_timer_that_expires_in_time_is_not_set_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_readable_is_not_made_so_again, setup, teardown),
        cmocka_unit_test_setup_teardown(
            what_has_expired_is_readable_until_something_later_is_due, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
