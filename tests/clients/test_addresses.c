/* SPDX-License-Identifier: Apache-2.0 */
/* A name with several addresses, of which one is connected and then of no use: its kernel takes the
 * connection, and no server says anything. Those that take none are in test_connect.c.
 *
 * Method: servers of the test's own, each on an address of loopback, and a resolver that names them
 * in their order. */
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "tests/clients/fake_several.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 60000 };

static struct knit *k;
static struct knit_error error;

/* ---- a resolver ---- */

int __real_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);
int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);

/* All names but numeric ones have the addresses of two servers, the first one's first. */
int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
    struct addrinfo how = *hints;
    int r = 0;

    how.ai_flags |= AI_NUMERICHOST;
    if ((hints->ai_flags & AI_NUMERICHOST) != 0 || strchr(host, 'v') == NULL)
        return __real_getaddrinfo(host, port, &how, ret);
    r = __real_getaddrinfo("127.0.0.1", port, &how, ret);
    return r == 0 ? __real_getaddrinfo("127.0.0.2", port, &how, &(*ret)->ai_next) : r;
}

/* ---- sessions ---- */

static int open_within(uint32_t ms)
{
    const struct knit_open_options options = {.connect_ms = ms};
    char url[64];

    (void)snprintf(url, sizeof(url), "knit://two.invalid:%u", several_port);
    return knit_open(url, &options, &k, &error);
}

/* On a machine that is busy the time may be too short; there is no other reason. A few times alone:
 * who says nothing leaves connections in its queue, and takes none when that is full. */
static void open_soon(void)
{
    int code = KNIT_TIMEOUT;

    for (uint32_t ms = 400; code == KNIT_TIMEOUT && ms < 20000; ms *= 4)
        code = open_within(ms);
    if (code != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
}

static bool is_called(int64_t number)
{
    int64_t at = -1;

    if (knit_call(k, &error, "where", "() -> int", &at) != KNIT_OK)
        return false;
    assert_int_equal(at, number);
    return true;
}

static int start(void **state)
{
    (void)state;
    knit_several_start(2, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    k = knit_close(k);
    knit_several_stop();
    return 0;
}

static void be_deaf(uint32_t number)
{
    atomic_store_explicit(&several[number].is_deaf, true, memory_order_relaxed);
    /* It holds nothing, and waits anew. */
    knit_several_tell(number, KNIT_SEVERAL_RELEASE);
}

/* ---- tests ---- */

static void one_that_says_nothing_hides_no_other(void **state)
{
    (void)state;
    be_deaf(0);
    open_soon();
    assert_true(is_called(1));
}

static void all_that_say_nothing_take_no_longer_than_asked(void **state)
{
    const uint64_t by_ns = knit_deadline_in_ms(10000);

    (void)state;
    be_deaf(0);
    be_deaf(1);
    assert_int_equal(open_within(100), KNIT_TIMEOUT);
    assert_true(knit_clock_ns() < by_ns);
    assert_string_equal(error.message, "no answer to $/hello in time");
}

static void one_that_refuses_the_caller_speaks_for_all(void **state)
{
    (void)state;
    atomic_store_explicit(&several[0].hello_code, KNIT_DENIED, memory_order_relaxed);
    assert_int_equal(open_within(PATIENCE_MS), KNIT_DENIED);
    assert_int_equal(several[1].accepted, 0);
}

/* ---- one that ends ---- */

static void *close_all(void *arg)
{
    const int *listen_fd = arg;
    int fd;

    while ((fd = accept4(*listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        close(fd);
    return NULL;
}

static void one_that_ends_hides_no_other(void **state)
{
    pthread_t thread;

    (void)state;
    be_deaf(0);
    assert_int_equal(pthread_create(&thread, NULL, close_all, &several[0].listen_fd), 0);
    assert_int_equal(open_within(PATIENCE_MS), KNIT_OK);
    assert_true(is_called(1));
    (void)shutdown(several[0].listen_fd, SHUT_RDWR);
    pthread_join(thread, NULL);
}

#define WITH_SERVERS(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVERS(one_that_says_nothing_hides_no_other),
        WITH_SERVERS(all_that_say_nothing_take_no_longer_than_asked),
        WITH_SERVERS(one_that_refuses_the_caller_speaks_for_all),
        WITH_SERVERS(one_that_ends_hides_no_other),
    };

    return cmocka_run_group_tests_name("addresses", tests, NULL, NULL);
}
