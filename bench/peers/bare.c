/* SPDX-License-Identifier: Apache-2.0 */
/* No system at all: bytes to another process over TCP and back, with the calls' numbers before the
 * arguments. What was sent between two waits goes in one write. Nothing that does this work over
 * TCP can be much faster. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/peers/peer.h"

enum { READ_BYTES = 1 << 18 };

static int fd;
static unsigned char *out, *in;
static size_t out_from, out_len, in_len, call_len;

static int tcp_socket(void)
{
    const int on = 1;
    int made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (made < 0 || setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
        peer_fail(strerror(errno));
    return made;
}

static void serve(void)
{
    static unsigned char bytes[READ_BYTES];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char port[PEER_TEXT_MAX];
    ssize_t len;

    fd = tcp_socket();
    peer_hear(port);
    address.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return;
    while ((len = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
        for (ssize_t done = 0, n; done < len; done += n) {
            n = send(fd, bytes + done, (size_t)(len - done), MSG_NOSIGNAL);
            if (n < 0)
                return;
        }
    }
}

static void open_calls(const struct peer_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const size_t most =
        (size_t)PEER_DEPTH_MAX * PEER_BYTES_MAX + PEER_CALLS_MAX * sizeof(uint32_t) + READ_BYTES;
    char port[8];
    int listener;

    (void)options;
    peer_fork(serve);
    listener = tcp_socket();
    if (bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0)
        peer_fail(strerror(errno));
    (void)snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
    peer_tell(port);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    (void)close(listener);
    out = malloc(most);
    in = malloc(most);
    if (fd < 0 || out == NULL || in == NULL)
        peer_fail("no connection");
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    if (out_from == out_len)
        out_from = out_len = 0;
    memcpy(out + out_len, &call, sizeof(call));
    memcpy(out + out_len + sizeof(call), bytes, len);
    call_len = sizeof(call) + len;
    out_len += call_len;
}

/* What is left in front is at most one message, since all else has been handed out. */
static size_t take_answers(void)
{
    size_t done = 0, answers = 0;
    uint32_t call;

    for (; in_len - done >= call_len; done += call_len, answers++) {
        memcpy(&call, in + done, sizeof(call));
        peer_done(call, in + done + sizeof(call), call_len - sizeof(call));
    }
    memmove(in, in + done, in_len - done);
    in_len -= done;
    return answers;
}

static void write_some(void)
{
    ssize_t n = send(fd, out + out_from, out_len - out_from, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        peer_fail(strerror(errno));
    out_from += n > 0 ? (size_t)n : 0;
}

static void wait_calls(void)
{
    ssize_t n;

    do {
        struct pollfd look = {.fd = fd, .events = POLLIN};

        if (out_from < out_len)
            write_some();
        if (out_from < out_len)
            look.events |= POLLOUT;
        (void)poll(&look, 1, -1);
        n = recv(fd, in + in_len, READ_BYTES, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            peer_fail("the worker is gone");
        in_len += n > 0 ? (size_t)n : 0;
    } while (take_answers() == 0);
}

static void close_calls(void)
{
    (void)close(fd);
    free(out);
    free(in);
}

const struct peer peer = {"bare", open_calls, send_call, wait_calls, close_calls};
