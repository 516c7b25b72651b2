/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting goes through non-blocking sockets and poll(), because a blocking connect() takes no
 * timeout. The addresses of a host are tried as RFC 8305 ("Happy Eyeballs") has it: the families
 * by turns, the next attempt beside those that wait, and who is connected first wins. TCP sends
 * small messages at once (TCP_NODELAY): the library already gathers a batch into one send, and
 * Nagle's algorithm would only delay its last call. A server whose machine has vanished sends
 * nothing, so the kernel probes the connection (SO_KEEPALIVE) at the intervals of the machine's
 * settings; a caller who must know sooner gives its calls a timeout. */
#include "clients/lib/connect.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients/lib/error.h"
#include "clients/lib/resolve.h"
#include "fastpath/lane/bell.h"

enum {
    ADDRESSES_MAX = 16,
    ATTEMPT_MS = 250, /* RFC 8305, "Connection Attempt Delay" */
};

/* Attempts that run side by side. */
struct race {
    const struct addrinfo *address[ADDRESSES_MAX]; /* in the order of the attempts */
    int count;
    int begun;
    struct pollfd pending[ADDRESSES_MAX];
    int pending_count;
    int error; /* that says most of those so far: -errno */
};

/* Connected, or on the way (-EINPROGRESS); other errors leave no descriptor. */
static int begin_connect(const struct sockaddr *address, socklen_t size, int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = connect(fd, address, size) < 0 ? -errno : 0;
    if (r == -EINTR)
        r = -EINPROGRESS;
    if (r == 0 || r == -EINPROGRESS)
        *ret_fd = fd;
    else
        close(fd);
    return r;
}

/* EAGAIN of a unix socket means that the listener's queue is full. poll() reports no event when it
 * is not full any more, so connect() is tried again every millisecond. */
static int connect_unix(const struct sockaddr_un *address, uint64_t until_ns, int *ret_fd)
{
    int r;

    while ((r = begin_connect((const struct sockaddr *)address, sizeof(*address), ret_fd)) ==
               -EAGAIN &&
           knit_clock_ns() < until_ns)
        poll(NULL, 0, 1);
    return r == -EAGAIN ? -ETIMEDOUT : r;
}

/* The families by turns, the first one's first: where one of them leads nowhere, only every second
 * attempt is lost. */
static void order(struct race *race, const struct addrinfo *list)
{
    const struct addrinfo *next[2] = {list, list};
    int family = list->ai_family;

    for (int turn = 0; race->count < ADDRESSES_MAX && (next[0] != NULL || next[1] != NULL);
         turn = !turn) {
        const struct addrinfo **at = &next[turn];

        while (*at != NULL && ((*at)->ai_family == family) != (turn == 0))
            *at = (*at)->ai_next;
        if (*at == NULL)
            continue;
        race->address[race->count++] = *at;
        *at = (*at)->ai_next;
    }
}

/* An address that this machine cannot reach at all says less than one that has refused. */
static void note_error(struct race *race, int error)
{
    bool says_little = error == -ENETUNREACH || error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT;

    if (race->error == 0 || !says_little)
        race->error = error;
}

/* 0: connected. Else the attempt is pending, or has failed. */
static int begin_next(struct race *race, int *ret_fd)
{
    const struct addrinfo *address = race->address[race->begun++];
    int fd, r = begin_connect(address->ai_addr, address->ai_addrlen, &fd);

    if (r == 0)
        *ret_fd = fd;
    else if (r == -EINPROGRESS)
        race->pending[race->pending_count++] = (struct pollfd){.fd = fd, .events = POLLOUT};
    else
        note_error(race, r);
    return r;
}

/* Whether one is connected. Those that have failed are taken out. */
static bool look(struct race *race, int *ret_fd)
{
    for (int i = race->pending_count - 1; i >= 0; i--) {
        int error = 0;
        socklen_t size = sizeof(error);

        if (race->pending[i].revents == 0)
            continue;
        if (getsockopt(race->pending[i].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
        if (error == 0)
            *ret_fd = race->pending[i].fd;
        else
            close(race->pending[i].fd);
        race->pending[i] = race->pending[--race->pending_count];
        if (error == 0)
            return true;
        note_error(race, -error);
    }
    return false;
}

/* The next attempt begins when one has failed, or after its share of what time there is. */
static int run(struct race *race, uint64_t until_ns, int *ret_fd)
{
    uint64_t next_ns = 0, now_ns;

    while ((now_ns = knit_clock_ns()) < until_ns) {
        int pending = race->pending_count;
        uint64_t wake_ns = until_ns, share_ns;

        if (race->begun < race->count && (pending == 0 || now_ns >= next_ns)) {
            share_ns = (until_ns - now_ns) / (uint64_t)(race->count - race->begun + 1);
            if (share_ns > ATTEMPT_MS * UINT64_C(1000000))
                share_ns = ATTEMPT_MS * UINT64_C(1000000);
            next_ns = now_ns + share_ns;
            if (begin_next(race, ret_fd) == 0)
                return 0;
        }
        if (race->pending_count == 0 && race->begun == race->count)
            return race->error != 0 ? race->error : -EADDRNOTAVAIL;
        if (race->pending_count == 0)
            continue;
        if (race->begun < race->count && next_ns < wake_ns)
            wake_ns = next_ns;
        now_ns = knit_clock_ns();
        pending = race->pending_count;
        if (poll(race->pending, (nfds_t)pending,
                wake_ns > now_ns ? (int)((wake_ns - now_ns) / 1000000) + 1 : 0) <= 0)
            continue;
        if (look(race, ret_fd))
            return 0;
        if (race->pending_count < pending)
            next_ns = 0;
    }
    return -ETIMEDOUT;
}

static int refuse(struct knit_error *ret_error, const char *where, int r)
{
    const char *suggestion = r == -ENOENT || r == -ECONNREFUSED ? " (is knittingd running there?)"
                             : r == -EACCES && where[0] == '/'
                                 ? " (socket_mode and socket_group of the daemon say who may)"
                                 : "";
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
    char where[sizeof(url->host) + sizeof(url->port) + 1];
    struct race race = {.count = 0};
    struct addrinfo *list;
    int on = 1, r = knit_resolve(url, until_ns, &list, ret_error);

    if (r != KNIT_OK)
        return r;
    order(&race, list);
    r = run(&race, until_ns, ret_fd);
    for (int i = 0; i < race.pending_count; i++)
        close(race.pending[i].fd);
    freeaddrinfo(list);
    if (r < 0) {
        snprintf(where, sizeof(where), "%s:%s", url->host, url->port);
        return refuse(ret_error, where, r);
    }
    (void)setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(*ret_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return KNIT_OK;
}

int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r;

    if (url->scheme == KNIT_URL_TCP)
        return connect_tcp(url, until_ns, ret_fd, ret_error);
    memcpy(address.sun_path, url->path, sizeof(address.sun_path));
    r = connect_unix(&address, until_ns, ret_fd);
    return r < 0 ? refuse(ret_error, url->path, r) : KNIT_OK;
}
