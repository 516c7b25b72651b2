/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a TCP connection is set up so that small calls leave at once and the kernel notices that
 * the server's machine has vanished; and in the time that it may take, whatever resolver and
 * addresses do. Method: listeners of the test's own, the socket's options, and a resolver that does
 * as the test says.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "clients/lib/connect.h"
#include "clients/lib/url.h"
#include "fastpath/lane/bell.h"
#include "tests/support/deadline.h"

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void tcp_is_prompt_and_notices_a_vanished_server(void **state)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;
    struct knit_url where;
    struct knit_error error;
    const char *reason;
    char url[64];

    (void)state;
    assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listen_fd, 1), 0);
    assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&address, &size), 0);
    snprintf(url, sizeof(url), "knit://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(knit_url_parse(url, &where, &reason), 0);
    assert_int_equal(knit_connect(&where, knit_deadline_in_ms(10000), &fd, &error), KNIT_OK);
    assert_int_not_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_int_not_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    close(fd);
    close(listen_fd);
}

/* ---- a resolver ---- */

int __real_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);
int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret);

static sem_t may_answer;
static pthread_t main_thread;
static _Atomic int in_threads, answered, with_signals, with_addrconfig;

static int numeric(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
    struct addrinfo how = *hints;

    how.ai_flags |= AI_NUMERICHOST;
    return __real_getaddrinfo(host, port, &how, ret);
}

/* "silent.invalid" is answered when the test says so, "two.invalid" by a hole and a server; all
 * others are numeric or unknown. */
int __wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
    sigset_t blocked;
    int r;

    with_addrconfig += (hints->ai_flags & AI_ADDRCONFIG) != 0;
    if ((hints->ai_flags & AI_NUMERICHOST) != 0)
        return numeric(host, port, hints, ret);
    in_threads += !pthread_equal(pthread_self(), main_thread);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    with_signals += !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGCHLD);
    if (strcmp(host, "silent.invalid") == 0) {
        while (sem_wait(&may_answer) != 0)
            ;
        answered++;
        return EAI_AGAIN;
    }
    if (strcmp(host, "two.invalid") != 0)
        return EAI_NONAME;
    r = numeric("127.0.0.2", port, hints, ret);
    return r == 0 ? numeric("127.0.0.1", port, hints, &(*ret)->ai_next) : r;
}

static void parse(const char *host, unsigned port, struct knit_url *ret)
{
    const char *reason;
    char url[64];

    snprintf(url, sizeof(url), "knit://%s:%u", host, port);
    assert_int_equal(knit_url_parse(url, ret, &reason), 0);
}

static int listen_at(const char *host, unsigned *port, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(inet_pton(AF_INET, host, &address.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void a_silent_name_server_holds_nobody_longer_than_asked(void **state)
{
    uint64_t by_ns = knit_deadline_in_ms(10000);
    struct knit_error error;
    struct knit_url where;
    int fd;

    (void)state;
    in_threads = answered = with_signals = 0;
    parse("silent.invalid", 1, &where);
    assert_int_equal(knit_connect(&where, knit_clock_ns() + 100000000, &fd, &error), KNIT_TIMEOUT);
    assert_true(knit_clock_ns() < by_ns);
    assert_string_equal(
        error.message, "cannot connect to silent.invalid:1: the name was not resolved in time");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_true(error.retryable);
    assert_int_equal(in_threads, 1);
    assert_int_equal(with_signals, 0);
    /* What was left alone ends once it is answered. */
    sem_post(&may_answer);
    assert_true(KNIT_WAIT_UNTIL(answered == 1, 10000));
    parse("unknown.invalid", 1, &where);
    assert_int_equal(
        knit_connect(&where, knit_deadline_in_ms(10000), &fd, &error), KNIT_DISCONNECTED);
}

/* Whether they are connected within so many ms; if not, for no other reason than that. */
static bool connects_within(const struct knit_url *where, uint64_t ms)
{
    struct knit_error error;
    int fd, code = knit_connect(where, knit_clock_ns() + ms * 1000000, &fd, &error);

    if (code == KNIT_OK)
        close(fd);
    else
        assert_int_equal(code, KNIT_TIMEOUT);
    return code == KNIT_OK;
}

/* The first address takes no connection and does not say so. It has 250 ms of a long time, and of
 * the shorter one a third. */
static void an_address_that_is_silent_hides_no_other(void **state)
{
    uint64_t by_ns;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int filling[4], fd, server_fd, hole_fd;
    struct knit_error error;
    struct knit_url where;
    unsigned port = 0;

    (void)state;
    server_fd = listen_at("127.0.0.1", &port, 8);
    hole_fd = listen_at("127.0.0.2", &port, 0);
    address.sin_port = htons((uint16_t)port);
    assert_int_equal(inet_pton(AF_INET, "127.0.0.2", &address.sin_addr), 1);
    for (int i = 0; i < 4; i++) {
        filling[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(filling[i], (struct sockaddr *)&address, sizeof(address));
    }
    parse("two.invalid", port, &where);
    by_ns = knit_deadline_in_ms(25000);
    assert_true(connects_within(&where, 600000));
    assert_true(knit_clock_ns() < by_ns);
    /* A busy machine may let so short a time pass. */
    assert_true(KNIT_WAIT_UNTIL(connects_within(&where, 240), 60000));
    close(server_fd);
    /* Now one refuses and one is silent: the time is kept. */
    assert_int_equal(knit_connect(&where, knit_clock_ns() + 100000000, &fd, &error), KNIT_TIMEOUT);
    close(hole_fd);
    for (int i = 0; i < 4; i++)
        close(filling[i]);
    assert_int_equal(
        knit_connect(&where, knit_deadline_in_ms(10000), &fd, &error), KNIT_DISCONNECTED);
    assert_non_null(strstr(error.message, "Connection refused"));
}

static void a_numeric_address_needs_no_resolver_and_no_other_address(void **state)
{
    struct knit_error error;
    struct knit_url where;
    unsigned port = 0;
    int fd, server_fd;

    (void)state;
    in_threads = with_addrconfig = 0;
    server_fd = listen_at("127.0.0.1", &port, 8);
    parse("127.0.0.1", port, &where);
    assert_int_equal(knit_connect(&where, knit_deadline_in_ms(10000), &fd, &error), KNIT_OK);
    close(fd);
    close(server_fd);
    parse("[::1]", port, &where);
    assert_int_equal(
        knit_connect(&where, knit_deadline_in_ms(10000), &fd, &error), KNIT_DISCONNECTED);
    assert_non_null(strstr(error.message, "cannot connect to [::1]:"));
    assert_int_equal(in_threads, 0);
    assert_int_equal(with_addrconfig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_is_prompt_and_notices_a_vanished_server),
        cmocka_unit_test(a_silent_name_server_holds_nobody_longer_than_asked),
        cmocka_unit_test(an_address_that_is_silent_hides_no_other),
        cmocka_unit_test(a_numeric_address_needs_no_resolver_and_no_other_address),
    };

    main_thread = pthread_self();
    (void)sem_init(&may_answer, 0, 0);

    return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
