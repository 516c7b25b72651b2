/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets in whose queues lingering ones wait, as the connections of rude callers are. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "server/net/closer.h"
#include "tests/support/deadline.h"
#include "tests/support/lingering.h"

/* Closes that sleep would take four times as long. */
enum { SOCKETS = 20, MOST_MS = SOCKETS * KNIT_LINGERING_S * 1000 / 4 };

static int peers[SOCKETS], readers[SOCKETS];

static int open_with_gift(size_t i)
{
    int fds[2], gift = knit_lingering_open(&readers[i]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(knit_lingering_send(fds[1], gift, 1, 0), 1);
    assert_int_equal(close(gift), 0);
    peers[i] = fds[1];
    return fds[0];
}

static void close_peers(void)
{
    for (size_t i = 0; i < SOCKETS; i++) {
        close(peers[i]);
        close(readers[i]);
    }
}

static void nobody_waits_for_a_close_that_sleeps(void **state)
{
    uint64_t by_ns = knit_deadline_in_ms(MOST_MS);
    struct knit_closer closer;
    char byte;

    (void)state;
    assert_int_equal(knit_closer_start(&closer, SOCKETS), 0);
    for (size_t i = 0; i < SOCKETS; i++) {
        knit_closer_close(&closer, open_with_gift(i));
        assert_true(recv(peers[i], &byte, 1, 0) <= 0);
    }
    assert_true(KNIT_WAIT_UNTIL(knit_closer_count(&closer) == 0, MOST_MS));
    assert_true(knit_clock_ns() < by_ns);
    knit_closer_stop(&closer);
    close_peers();
}

static void what_waits_is_closed_at_the_end(void **state)
{
    uint64_t by_ns = knit_deadline_in_ms(MOST_MS);
    struct knit_closer closer;
    int fds[SOCKETS];

    (void)state;
    for (size_t i = 0; i < SOCKETS; i++)
        fds[i] = open_with_gift(i);
    assert_int_equal(knit_closer_start(&closer, SOCKETS), 0);
    for (size_t i = 0; i < SOCKETS; i++)
        knit_closer_close(&closer, fds[i]);
    knit_closer_stop(&closer);
    for (size_t i = 0; i < SOCKETS; i++) {
        assert_int_equal(close(fds[i]), -1);
        assert_int_equal(errno, EBADF);
    }
    assert_true(knit_clock_ns() < by_ns);
    close_peers();
}

static void without_a_closer_it_is_closed_here(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(knit_closer_count(NULL), 0);
    knit_closer_close(NULL, fds[0]);
    assert_int_equal(close(fds[0]), -1);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_waits_for_a_close_that_sleeps),
        cmocka_unit_test(what_waits_is_closed_at_the_end),
        cmocka_unit_test(without_a_closer_it_is_closed_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
