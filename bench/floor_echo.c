/* SPDX-License-Identifier: Apache-2.0 */
/* The least that a client and a server on sockets can do: one epoll loop each, one read and one
 * write a turn for all that has arrived. There is no protocol: a message is a number of bytes.
 *
 * Neither side blocks in write(). The server stops reading a connection while it cannot write to
 * it; the client always reads. So they cannot wait for each other.
 */
#include "bench/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/process_time.h"
#include "bench/ticks.h"
#include "bench/typical.h"

enum { BUFFER = 256 << 10, EVENTS = 64 };

static void watch(int poll_fd, int operation, int fd, uint32_t events, void *user)
{
    struct epoll_event event = {.events = events, .data.ptr = user};
    (void)epoll_ctl(poll_fd, operation, fd, &event);
}

static void no_delay(int fd)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* ---- server ---------------------------------------------------------------------------------- */

struct peer {
    int fd;
    size_t pending, at; /* bytes of `buffer` that are not written yet */
    unsigned char buffer[BUFFER];
};

static void peer_close(struct peer *peer)
{
    close(peer->fd);
    free(peer);
}

/* False: the connection has ended. */
static bool peer_send(struct peer *peer)
{
    while (peer->pending > 0) {
        ssize_t sent = send(peer->fd, peer->buffer + peer->at, peer->pending, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        peer->at += (size_t)sent;
        peer->pending -= (size_t)sent;
    }
    return true;
}

static void peer_turn(int poll_fd, struct peer *peer)
{
    bool was_stuck = peer->pending > 0;
    bool is_stuck;
    if (!was_stuck) {
        ssize_t got = read(peer->fd, peer->buffer, sizeof(peer->buffer));
        if (got <= 0) {
            if (got == 0 || errno != EAGAIN)
                peer_close(peer);
            return;
        }
        peer->pending = (size_t)got;
        peer->at = 0;
    }
    if (!peer_send(peer)) {
        peer_close(peer);
        return;
    }
    is_stuck = peer->pending > 0;
    if (was_stuck != is_stuck)
        watch(poll_fd, EPOLL_CTL_MOD, peer->fd, is_stuck ? EPOLLOUT : EPOLLIN, peer);
}

static void serve(int listen_fd, int cpu)
{
    struct epoll_event events[EVENTS];
    int poll_fd = epoll_create1(EPOLL_CLOEXEC);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)knit_machine_pin(cpu);
    watch(poll_fd, EPOLL_CTL_ADD, listen_fd, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer;
            int fd;

            if (events[i].data.ptr != NULL) {
                peer_turn(poll_fd, events[i].data.ptr);
                continue;
            }
            peer = malloc(sizeof(*peer));
            fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (peer == NULL || fd < 0)
                _exit(1);
            no_delay(fd);
            peer->fd = fd;
            peer->pending = 0;
            watch(poll_fd, EPOLL_CTL_ADD, fd, EPOLLIN, peer);
        }
    }
}

/* ---- client ---------------------------------------------------------------------------------- */

struct line {
    int fd;
    bool is_stuck;
    uint64_t unsent, sent;      /* bytes */
    uint64_t received;          /* bytes */
    uint64_t *begun;            /* [depth]: when the messages in flight were begun */
    uint64_t started, finished; /* messages */
};

struct client {
    const struct knit_floor_setting *setting;
    int poll_fd;
    struct line *lines;
    uint64_t *stamps;
    unsigned char *message; /* repeated to fill BUFFER + one message */
    unsigned char *incoming;
    struct knit_typical *typical;
    uint64_t finished;
    int error;
};

static void line_send(struct client *client, struct line *line)
{
    bool was_stuck = line->is_stuck;
    line->is_stuck = false;
    while (line->unsent > 0) {
        size_t len = line->unsent < BUFFER ? line->unsent : BUFFER;
        const unsigned char *from = client->message + line->sent % client->setting->bytes;
        ssize_t sent = send(line->fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN)
                client->error = -errno;
            line->is_stuck = true;
            break;
        }
        line->sent += (uint64_t)sent;
        line->unsent -= (uint64_t)sent;
    }
    if (was_stuck != line->is_stuck)
        watch(client->poll_fd, EPOLL_CTL_MOD, line->fd,
            line->is_stuck ? EPOLLIN | EPOLLOUT : EPOLLIN, line);
}

static void line_start(struct client *client, struct line *line, uint64_t messages)
{
    uint64_t now = knit_ticks_now();
    for (uint64_t i = 0; i < messages; i++)
        line->begun[line->started++ % client->setting->depth] = now;
    line->unsent += messages * client->setting->bytes;
    line_send(client, line);
}

static void line_turn(struct client *client, struct line *line, uint32_t events)
{
    const struct knit_floor_setting *setting = client->setting;
    ssize_t got;
    uint64_t now, whole;
    if (events & EPOLLOUT)
        line_send(client, line);
    got = read(line->fd, client->incoming, BUFFER);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            client->error = got == 0 ? -EPIPE : -errno;
        return;
    }
    if (setting->is_quick &&
        memcmp(client->incoming, client->message + line->received % setting->bytes, (size_t)got) !=
            0)
        client->error = -EBADMSG;
    line->received += (uint64_t)got;
    now = knit_ticks_now();
    whole = line->received / setting->bytes - line->finished;
    for (uint64_t i = 0; i < whole; i++)
        knit_typical_record(client->typical, now - line->begun[line->finished++ % setting->depth]);
    client->finished += whole;
    if (whole > 0)
        line_start(client, line, whole);
}

static uint64_t turns_until(struct client *client, uint64_t end_ns, uint64_t least)
{
    struct epoll_event events[EVENTS];
    uint64_t first = client->finished;
    while (client->error == 0 &&
           (client->finished - first < least || knit_ticks_clock_ns() < end_ns)) {
        int count = epoll_wait(client->poll_fd, events, EVENTS, 5000);
        if (count == 0)
            client->error = -ETIMEDOUT;
        for (int i = 0; i < count; i++)
            line_turn(client, events[i].data.ptr, events[i].events);
    }
    return client->finished - first;
}

static int client_open(struct client *client, const struct sockaddr *address, socklen_t len)
{
    const struct knit_floor_setting *setting = client->setting;
    size_t pattern = BUFFER + (size_t)setting->bytes;
    client->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    client->lines = calloc(setting->connections, sizeof(*client->lines));
    client->stamps = calloc((size_t)setting->connections * setting->depth, sizeof(uint64_t));
    client->message = malloc(pattern);
    client->incoming = malloc(BUFFER);
    if (client->lines == NULL || client->stamps == NULL || client->message == NULL ||
        client->incoming == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < pattern; i++)
        client->message[i] = (unsigned char)(i % setting->bytes * 7 + i % setting->bytes / 251);
    for (uint32_t i = 0; i < setting->connections; i++)
        client->lines[i].fd = -1;
    for (uint32_t i = 0; i < setting->connections; i++) {
        struct line *line = &client->lines[i];
        line->begun = client->stamps + (size_t)i * setting->depth;
        line->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (line->fd < 0 || connect(line->fd, address, len) < 0)
            return -errno;
        no_delay(line->fd);
        watch(client->poll_fd, EPOLL_CTL_ADD, line->fd, EPOLLIN, line);
    }
    return 0;
}

static void client_close(struct client *client)
{
    for (uint32_t i = 0; client->lines != NULL && i < client->setting->connections; i++) {
        if (client->lines[i].fd >= 0)
            close(client->lines[i].fd);
    }
    if (client->poll_fd >= 0)
        close(client->poll_fd);
    free(client->lines);
    free(client->stamps);
    free(client->message);
    free(client->incoming);
}

static int measure(const struct knit_floor_setting *setting, const struct sockaddr *address,
    socklen_t len, pid_t server, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    struct client client = {.setting = setting, .poll_fd = -1, .typical = &typical};
    uint64_t ns = (uint64_t)setting->ms * 1000000;
    uint64_t begin_ns, cpu_ns, finished;
    double seconds;
    knit_typical_init(&typical);
    client.error = client_open(&client, address, len);
    for (uint32_t i = 0; client.error == 0 && i < setting->connections; i++)
        line_start(&client, &client.lines[i], setting->depth);
    if (setting->count == 0)
        (void)turns_until(&client, knit_ticks_clock_ns() + ns / 5, setting->connections);
    knit_typical_init(&typical);
    begin_ns = knit_ticks_clock_ns();
    cpu_ns = knit_process_times_ns(&server, 1);
    finished = setting->count > 0 ? turns_until(&client, 0, setting->count)
                                  : turns_until(&client, begin_ns + ns, 1);
    seconds = (double)(knit_ticks_clock_ns() - begin_ns) / 1e9;
    ret->typical_ns = knit_typical_percentile_ns(&typical, 50);
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = (double)finished / seconds;
    ret->cpu_ns = (double)(knit_process_times_ns(&server, 1) - cpu_ns) / (double)finished;
    client_close(&client);
    return client.error;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* An abstract unix address needs no file and ends with the socket. */
static int listen_on(bool is_unix, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const void *address;
    socklen_t len;
    *ret_len = sizeof(*ret_address);
    if (fd < 0)
        return -errno;
    /* A unix address of the family alone: the kernel picks an abstract name. */
    address = is_unix ? (const void *)&local : (const void *)&inet;
    len = is_unix ? sizeof(local.sun_family) : sizeof(inet);
    if (bind(fd, address, len) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)ret_address, ret_len) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int knit_floor_echo(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    struct sockaddr_storage address;
    socklen_t len;
    int listen_fd = listen_on(setting->is_unix, &address, &len);
    pid_t pid;
    int error;
    if (listen_fd < 0)
        return listen_fd;
    pid = fork();
    if (pid < 0) {
        error = -errno;
        close(listen_fd);
        return error;
    }
    if (pid == 0)
        serve(listen_fd, setting->partner_cpu);
    close(listen_fd);
    (void)knit_machine_pin(setting->cpu);
    error = measure(setting, (const struct sockaddr *)&address, len, pid, ret);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return error;
}
