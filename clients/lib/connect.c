/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting goes through non-blocking sockets and poll(), because a blocking connect() takes no
 * timeout. TCP sends small messages at once (TCP_NODELAY): the library already gathers a batch into
 * one send, and Nagle's algorithm would only delay its last call. A server whose machine has
 * vanished sends nothing, so the kernel probes the connection (SO_KEEPALIVE) at the intervals of
 * the machine's settings; a caller who must know sooner gives its calls a timeout. */
#include "clients/lib/connect.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients/lib/error.h"
#include "fastpath/lane/bell.h"

static int wait_connected(int fd, uint64_t until_ns)
{
    for (;;) {
        uint64_t now_ns = knit_clock_ns();
        struct pollfd item = {.fd = fd, .events = POLLOUT};
        int error = 0, n;
        socklen_t size = sizeof(error);

        if (now_ns >= until_ns)
            return -ETIMEDOUT;
        n = poll(&item, 1, (int)((until_ns - now_ns) / 1000000) + 1);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n <= 0)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            return -errno;
        return -error;
    }
}

/* EAGAIN of a unix socket means that the listener's queue is full. poll() reports no event when it
 * is not full any more, so connect() is tried again every millisecond. */
static int connect_one(
    const struct sockaddr *address, socklen_t size, uint64_t until_ns, int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, r;

    if (fd < 0)
        return -errno;
    while (
        (r = connect(fd, address, size) < 0 ? -errno : 0) == -EAGAIN && knit_clock_ns() < until_ns)
        poll(NULL, 0, 1);
    if (r == -EINPROGRESS || r == -EINTR)
        r = wait_connected(fd, until_ns);
    if (r < 0) {
        close(fd);
        return r;
    }
    if (address->sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    *ret_fd = fd;
    return 0;
}

static int refuse(struct knit_error *ret_error, const char *where, int r)
{
    const char *suggestion =
        r == -ENOENT || r == -ECONNREFUSED ? " (is knittingd running there?)" : "";
    int code = r == -ETIMEDOUT               ? KNIT_TIMEOUT
               : r == -EACCES || r == -EPERM ? KNIT_DENIED
                                             : KNIT_DISCONNECTED;

    knit_error_make(ret_error, code, KNIT_STARTED_NO, "cannot connect to %s: %s%s", where,
        strerror(-r), suggestion);
    if (ret_error != NULL)
        ret_error->retryable = code != KNIT_DENIED; /* nothing was sent */
    return code;
}

static int connect_tcp(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    char where[sizeof(url->host) + sizeof(url->port) + 1];
    struct addrinfo *list;
    int r = getaddrinfo(url->host, url->port, &hints, &list);

    snprintf(where, sizeof(where), "%s:%s", url->host, url->port);
    if (r != 0)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "cannot connect to %s: %s", where, gai_strerror(r));
    r = -EADDRNOTAVAIL;
    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        r = connect_one(info->ai_addr, info->ai_addrlen, until_ns, ret_fd);
        if (r == 0)
            break;
    }
    freeaddrinfo(list);
    return r < 0 ? refuse(ret_error, where, r) : 0;
}

int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    if (url->scheme == KNIT_URL_TCP)
        return connect_tcp(url, until_ns, ret_fd, ret_error);
    memcpy(address.sun_path, url->path, sizeof(address.sun_path));
    r = connect_one((const struct sockaddr *)&address, sizeof(address), until_ns, ret_fd);
    return r < 0 ? refuse(ret_error, url->path, r) : 0;
}
