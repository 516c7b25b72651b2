/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting goes through non-blocking sockets, since a blocking connect() takes no timeout and an
 * event loop cannot wait in it. What is under way is in an epoll instance of its own, so that all
 * of it is one descriptor to whoever waits. The addresses of a host are tried as RFC 8305 ("Happy
 * Eyeballs") has it: the families by turns, the next attempt beside those that wait, and who is
 * connected first wins. A server that is stopped is connected too, by its kernel: so the others are
 * kept until the attempt is freed, and further steps go on with them. TCP sends small messages at
 * once (TCP_NODELAY): the library already gathers a batch into one send, and Nagle's algorithm
 * would only delay its last call. A server whose machine has vanished sends nothing, so the kernel
 * probes the connection (SO_KEEPALIVE) at the intervals of the machine's settings; a caller who
 * must know sooner gives its calls a timeout. */
#include "clients/lib/connect.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"
#include "clients/lib/resolve.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"

enum {
    ADDRESSES_MAX = 16,
    ATTEMPT_MS = 250, /* RFC 8305, "Connection Attempt Delay" */
    BLIND_MS = 10,    /* between two looks at what cannot be watched */
};

/* Attempts that run side by side. */
struct race {
    const struct addrinfo *address[ADDRESSES_MAX]; /* in the order of the attempts */
    int count;
    int begun;
    struct pollfd pending[ADDRESSES_MAX];
    int pending_count;
    uint64_t next_ns; /* when the next attempt begins */
    int error;        /* that says most of those so far: -errno */
};

struct knit_connecting {
    struct knit_url url;
    uint64_t until_ns;
    uint64_t due_ns; /* when a step has something to do, whatever the descriptors say */
    int epoll_fd;
    bool is_blind;              /* something could not be watched for lack of memory */
    struct knit_lookup *lookup; /* NULL: there is nothing to look up any more */
    struct knit_lookup **kept;
    struct addrinfo *list;
    struct addrinfo one; /* the address that is tried alone, */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address; /* and what it points to */
    struct race race;
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

static void watch(struct knit_connecting *connecting, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    if (epoll_ctl(connecting->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        connecting->is_blind = true;
}

/* A child that has a copy of the socket would keep it in the instance otherwise. */
static void forget(const struct knit_connecting *connecting, int fd)
{
    (void)epoll_ctl(connecting->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* 0: connected. Else the attempt is pending, or has failed. */
static int begin_next(struct knit_connecting *connecting, int *ret_fd)
{
    struct race *race = &connecting->race;
    const struct addrinfo *address = race->address[race->begun++];
    int fd, r = begin_connect(address->ai_addr, address->ai_addrlen, &fd);

    if (r == 0) {
        *ret_fd = fd;
    } else if (r == -EINPROGRESS) {
        race->pending[race->pending_count++] = (struct pollfd){.fd = fd, .events = POLLOUT};
        watch(connecting, fd, EPOLLOUT);
    } else {
        note_error(race, r);
    }
    return r;
}

/* Whether one is connected. Those that have failed are taken out. */
static bool look(struct knit_connecting *connecting, int *ret_fd)
{
    struct race *race = &connecting->race;

    if (race->pending_count == 0 || poll(race->pending, (nfds_t)race->pending_count, 0) <= 0)
        return false;
    for (int i = race->pending_count - 1; i >= 0; i--) {
        int error = 0, fd = race->pending[i].fd;
        socklen_t size = sizeof(error);

        if (race->pending[i].revents == 0)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
        forget(connecting, fd);
        race->pending[i] = race->pending[--race->pending_count];
        if (error == 0) {
            *ret_fd = fd;
            return true;
        }
        close(fd);
        note_error(race, -error);
        race->next_ns = 0;
    }
    return false;
}

/* The next attempt begins when one has failed, or after its share of what time there is. Returns 0
 * (connected), -EINPROGRESS, or -errno of all. */
static int run(struct knit_connecting *connecting, int *ret_fd)
{
    struct race *race = &connecting->race;
    uint64_t now_ns = knit_clock_ns(), share_ns;

    if (look(connecting, ret_fd))
        return 0;
    while (now_ns < connecting->until_ns) {
        if (race->begun == race->count)
            break;
        if (race->pending_count != 0 && now_ns < race->next_ns) {
            connecting->due_ns = race->next_ns;
            return -EINPROGRESS;
        }
        share_ns = (connecting->until_ns - now_ns) / (uint64_t)(race->count - race->begun + 1);
        if (share_ns > ATTEMPT_MS * UINT64_C(1000000))
            share_ns = ATTEMPT_MS * UINT64_C(1000000);
        race->next_ns = now_ns + share_ns;
        if (begin_next(connecting, ret_fd) == 0)
            return 0;
        now_ns = knit_clock_ns();
    }
    if (now_ns >= connecting->until_ns)
        return -ETIMEDOUT;
    connecting->due_ns = connecting->until_ns;
    if (race->pending_count == 0)
        return race->error != 0 ? race->error : -EADDRNOTAVAIL;
    return -EINPROGRESS;
}

static int refuse(const struct knit_url *url, int r, struct knit_error *ret_error)
{
    char where[KNIT_URL_PLACE_MAX];
    const char *suggestion = r == -ENOENT || r == -ECONNREFUSED ? " (is knittingd running there?)"
                             : r == -EACCES && url->scheme != KNIT_URL_TCP
                                 ? " (socket_mode and socket_group of the daemon say who may)"
                                 : "";
    int code = r == -ETIMEDOUT               ? KNIT_TIMEOUT
               : r == -EACCES || r == -EPERM ? KNIT_DENIED
                                             : KNIT_DISCONNECTED;

    knit_url_place(url, where);
    knit_error_make(ret_error, code, KNIT_STARTED_NO, "cannot connect to %s: %s%s", where,
        strerror(-r), suggestion);
    if (ret_error != NULL)
        ret_error->retryable = code != KNIT_DENIED; /* nothing was sent */
    return code;
}

static int step_lookup(struct knit_connecting *connecting, struct knit_error *ret_error)
{
    int code;

    if (!knit_lookup_is_done(connecting->lookup)) {
        connecting->due_ns = connecting->until_ns;
        return knit_clock_ns() < connecting->until_ns
                   ? KNIT_PENDING
                   : knit_lookup_time_out(connecting->lookup, ret_error);
    }
    code = knit_lookup_take(connecting->lookup, &connecting->list, ret_error);
    forget(connecting, knit_lookup_fd(connecting->lookup));
    connecting->lookup = knit_lookup_free(connecting->lookup);
    return code;
}

static int step_tcp(struct knit_connecting *connecting, int *ret_fd, struct knit_error *ret_error)
{
    int code = connecting->lookup != NULL ? step_lookup(connecting, ret_error) : KNIT_OK;
    int on = 1, r;

    if (code != KNIT_OK)
        return code;
    if (connecting->race.count == 0)
        order(&connecting->race, connecting->list != NULL ? connecting->list : &connecting->one);
    r = run(connecting, ret_fd);
    if (r == -EINPROGRESS)
        return KNIT_PENDING;
    if (r < 0)
        return refuse(&connecting->url, r, ret_error);
    (void)setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(*ret_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return KNIT_OK;
}

/* EAGAIN of a unix socket means that the listener's queue is full. Nothing tells when it is not
 * full any more, so connect() is tried again every millisecond. */
static int step_unix(struct knit_connecting *connecting, int *ret_fd, struct knit_error *ret_error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t now_ns;
    int r;

    memcpy(address.sun_path, connecting->url.path, sizeof(address.sun_path));
    r = begin_connect((const struct sockaddr *)&address, sizeof(address), ret_fd);
    if (r == -EAGAIN) {
        now_ns = knit_clock_ns();
        connecting->due_ns = now_ns + UINT64_C(1000000);
        if (now_ns < connecting->until_ns)
            return KNIT_PENDING;
        r = -ETIMEDOUT;
    }
    return r < 0 ? refuse(&connecting->url, r, ret_error) : KNIT_OK;
}

static int new_connecting(const struct knit_url *url, uint64_t until_ns,
    struct knit_connecting **ret, struct knit_error *ret_error)
{
    struct knit_connecting *connecting = calloc(1, sizeof(*connecting));

    if (connecting == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory to connect");
    connecting->url = *url;
    connecting->until_ns = until_ns;
    connecting->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (connecting->epoll_fd < 0) {
        int code = knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO,
            "no descriptor to connect with: %s", strerror(errno));

        (void)knit_connect_free(connecting);
        return code;
    }
    *ret = connecting;
    return KNIT_OK;
}

int knit_connect_begin(const struct knit_url *url, uint64_t until_ns, struct knit_lookup **kept,
    struct knit_connecting **ret, struct knit_error *ret_error)
{
    struct knit_connecting *connecting;
    int code = new_connecting(url, until_ns, &connecting, ret_error);

    if (code != KNIT_OK)
        return code;
    connecting->kept = kept;
    if (url->scheme == KNIT_URL_TCP)
        code = knit_resolve_begin(url, kept, &connecting->list, &connecting->lookup, ret_error);
    if (code != KNIT_OK) {
        (void)knit_connect_free(connecting);
        return code;
    }
    if (connecting->lookup != NULL)
        watch(connecting, knit_lookup_fd(connecting->lookup), EPOLLIN);
    *ret = connecting;
    return KNIT_OK;
}

int knit_connect_begin_at(const struct knit_url *url, const struct sockaddr *address,
    uint64_t until_ns, struct knit_connecting **ret, struct knit_error *ret_error)
{
    const size_t size =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int code = new_connecting(url, until_ns, ret, ret_error);

    if (code != KNIT_OK)
        return code;
    memcpy(&(*ret)->address, address, size);
    (*ret)->one = (struct addrinfo){.ai_family = address->sa_family,
        .ai_addr = &(*ret)->address.any,
        .ai_addrlen = (socklen_t)size};
    return KNIT_OK;
}

const struct addrinfo *knit_connect_list(const struct knit_connecting *connecting)
{
    return connecting->list;
}

int knit_connect_others(const struct knit_connecting *connecting)
{
    const struct race *race = &connecting->race;

    return race->count - race->begun + race->pending_count;
}

uint64_t knit_connect_share_ns(const struct knit_connecting *connecting)
{
    const uint64_t now_ns = knit_clock_ns();

    if (now_ns >= connecting->until_ns)
        return connecting->until_ns;
    return now_ns +
           (connecting->until_ns - now_ns) / (uint64_t)(1 + knit_connect_others(connecting));
}

int knit_connect_step(struct knit_connecting *connecting, int *ret_fd, struct knit_error *ret_error)
{
    return connecting->url.scheme == KNIT_URL_TCP ? step_tcp(connecting, ret_fd, ret_error)
                                                  : step_unix(connecting, ret_fd, ret_error);
}

int knit_connect_fd(const struct knit_connecting *connecting)
{
    return connecting->epoll_fd;
}

uint64_t knit_connect_due_ns(const struct knit_connecting *connecting)
{
    const uint64_t look_ns =
        connecting->is_blind ? knit_clock_ns() + BLIND_MS * UINT64_C(1000000) : UINT64_MAX;

    return look_ns < connecting->due_ns ? look_ns : connecting->due_ns;
}

bool knit_connect_is_resolving(const struct knit_connecting *connecting)
{
    return connecting->lookup != NULL;
}

void knit_connect_close(struct knit_connecting *connecting)
{
    if (connecting == NULL)
        return;
    for (int i = 0; i < connecting->race.pending_count; i++)
        close(connecting->race.pending[i].fd);
    connecting->race.pending_count = 0;
    /* Its mutex may be held by the thread, which the child does not have. */
    if (connecting->lookup != NULL)
        knit_lookup_close(connecting->lookup);
    connecting->lookup = NULL;
    knit_fd_close(&connecting->epoll_fd);
}

struct knit_connecting *knit_connect_free(struct knit_connecting *connecting)
{
    if (connecting == NULL)
        return NULL;
    if (connecting->lookup != NULL)
        forget(connecting, knit_lookup_fd(connecting->lookup));
    knit_lookup_keep(connecting->lookup, connecting->kept);
    connecting->lookup = NULL;
    knit_connect_close(connecting);
    if (connecting->list != NULL)
        freeaddrinfo(connecting->list);
    free(connecting);
    return NULL;
}

int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error)
{
    struct knit_connecting *connecting;
    int code = knit_connect_begin(url, until_ns, NULL, &connecting, ret_error);

    if (code != KNIT_OK)
        return code;
    while ((code = knit_connect_step(connecting, ret_fd, ret_error)) == KNIT_PENDING) {
        struct pollfd item = {.fd = connecting->epoll_fd, .events = POLLIN};
        uint64_t due_ns = knit_connect_due_ns(connecting), now_ns = knit_clock_ns();

        if (due_ns > now_ns)
            (void)poll(&item, 1, (int)((due_ns - now_ns + 999999) / 1000000));
    }
    (void)knit_connect_free(connecting);
    return code;
}
