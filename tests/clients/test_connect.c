/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a TCP connection is set up so that small calls leave at once and the kernel notices that
 * the server's machine has vanished. Method: a listener of the test's own, and the socket's
 * options.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "clients/lib/connect.h"
#include "clients/lib/url.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_is_prompt_and_notices_a_vanished_server),
    };

    return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
