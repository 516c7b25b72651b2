/* SPDX-License-Identifier: Apache-2.0 */
/* The client: one thread with an epoll loop, which sends as many messages as have come back.
 * Replies are counted by their bytes, all of one length, and not read: what they hold others test.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/ticks.h"
#include "bench/tls_bench.h"

enum { HEAD_MAX = 32, CONNECTIONS_MAX = 1000 };

struct line {
    int fd;
    SSL *ssl;              /* NULL: plain */
    unsigned char *output; /* `depth` messages at most */
    size_t len, size;
    size_t left; /* of the reply that is coming */
    uint32_t next_id;
};

static unsigned char room[256 * 1024];

/* [0, id, "echo", [bytes]] with an id of 5 bytes, so that all are of one length. */
static size_t put_head(unsigned char *to, uint32_t id, size_t bytes)
{
    unsigned char head[HEAD_MAX] = {0x94, 0x00, 0xce, (unsigned char)(id >> 24),
        (unsigned char)(id >> 16), (unsigned char)(id >> 8), (unsigned char)id, 0xa4, 'e', 'c', 'h',
        'o', 0x91, 0xc6, (unsigned char)(bytes >> 24), (unsigned char)(bytes >> 16),
        (unsigned char)(bytes >> 8), (unsigned char)bytes};

    memcpy(to, head, 18);
    return 18;
}

/* [1, id, nil, bytes]; the value comes back as it was written. */
static size_t reply_len(const struct tls_load *load)
{
    return load->is_call ? 1 + 1 + 5 + 1 + 5 + load->bytes : 18 + load->bytes;
}

static void put_message(struct line *line, const struct tls_load *load)
{
    unsigned char *to = line->output + line->len;
    size_t head = put_head(to, line->next_id++, load->bytes);

    memset(to + head, 'x', load->bytes);
    line->len += head + load->bytes;
}

static bool push(struct line *line)
{
    size_t done = 0;
    ssize_t n;

    while (line->len > 0) {
        if (line->ssl == NULL) {
            n = send(line->fd, line->output, line->len, MSG_NOSIGNAL);
            if (n < 0)
                return errno == EAGAIN;
            done = (size_t)n;
        } else {
            ERR_clear_error();
            if (SSL_write_ex(line->ssl, line->output, line->len, &done) != 1)
                return SSL_get_error(line->ssl, 0) == SSL_ERROR_WANT_WRITE;
        }
        memmove(line->output, line->output + done, line->len - done);
        line->len -= done;
    }
    return true;
}

/* Counts the replies in so many bytes. */
static unsigned count(struct line *line, size_t len, size_t reply)
{
    unsigned replies = 0;

    while (len >= line->left) {
        len -= line->left;
        line->left = reply;
        replies++;
    }
    line->left -= len;
    return replies;
}

/* Below 0: the connection is over. */
static int pull(struct line *line, size_t reply)
{
    unsigned replies = 0;
    size_t n;
    ssize_t got;
    int error;

    if (line->ssl == NULL) {
        got = recv(line->fd, room, sizeof(room), 0);
        if (got > 0)
            return (int)count(line, (size_t)got, reply);
        return got < 0 && errno == EAGAIN ? 0 : -1;
    }
    ERR_clear_error();
    while (SSL_read_ex(line->ssl, room, sizeof(room), &n) == 1)
        replies += count(line, n, reply);
    error = SSL_get_error(line->ssl, 0);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? (int)replies : -1;
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        perror("connect");
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static SSL_CTX *new_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    (void)SSL_CTX_set_mode(
        context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

static bool open_line(struct line *line, const struct tls_load *load, SSL_CTX *context)
{
    line->fd = dial(load->port);
    line->size = load->depth * (HEAD_MAX + load->bytes);
    line->output = malloc(line->size);
    line->left = reply_len(load);
    line->next_id = 1 << 20;
    if (line->fd < 0 || line->output == NULL)
        return false;
    if (load->is_encrypted) {
        line->ssl = SSL_new(context);
        (void)SSL_set_fd(line->ssl, line->fd);
        if (SSL_connect(line->ssl) != 1) {
            ERR_print_errors_fp(stderr);
            return false;
        }
    }
    (void)fcntl(line->fd, F_SETFL, O_NONBLOCK);
    return true;
}

static void close_line(struct line *line)
{
    SSL_free(line->ssl);
    if (line->fd > 0)
        close(line->fd);
    free(line->output);
}

/* What an event brings. Below 0: it failed. */
static int serve(struct line *line, const struct tls_load *load, uint32_t events)
{
    int replies = events & EPOLLIN ? pull(line, reply_len(load)) : 0;

    for (int i = 0; i < replies; i++)
        put_message(line, load);
    return replies < 0 || !push(line) ? -1 : replies;
}

static double drive(struct line *lines, const struct tls_load *load, int poll_fd)
{
    uint64_t begin_ns = knit_ticks_clock_ns(), now,
             warm_ns = begin_ns + load->ms * UINT64_C(200000);
    uint64_t end_ns = warm_ns + load->ms * UINT64_C(1000000), replies = 0;
    struct epoll_event events[64];

    for (unsigned i = 0; i < load->connections; i++) {
        for (unsigned j = 0; j < load->depth; j++)
            put_message(&lines[i], load);
        if (!push(&lines[i]))
            return -1;
    }
    while ((now = knit_ticks_clock_ns()) < end_ns) {
        int n = epoll_wait(poll_fd, events, 64, 1000);

        if (now < warm_ns)
            replies = 0, begin_ns = now;
        for (int i = 0; i < n; i++) {
            struct line *line = events[i].data.ptr;
            int r = serve(line, load, events[i].events);
            struct epoll_event wanted = {
                .events = EPOLLIN | (line->len > 0 ? EPOLLOUT : 0), .data.ptr = line};

            if (r < 0) {
                fprintf(stderr, "a connection was lost\n");
                return -1;
            }
            replies += (unsigned)r;
            if (line->len > 0 || events[i].events & EPOLLOUT)
                (void)epoll_ctl(poll_fd, EPOLL_CTL_MOD, line->fd, &wanted);
        }
    }
    return (double)replies * 1e9 / (double)(now - begin_ns);
}

double tls_load_run(const struct tls_load *load)
{
    struct line *lines = calloc(CONNECTIONS_MAX, sizeof(*lines));
    SSL_CTX *context = new_context();
    int poll_fd = epoll_create1(EPOLL_CLOEXEC);
    bool is_good = load->connections <= CONNECTIONS_MAX && lines != NULL;
    double rate = -1;

    for (unsigned i = 0; is_good && i < load->connections; i++) {
        struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT, .data.ptr = &lines[i]};

        is_good = open_line(&lines[i], load, context) &&
                  epoll_ctl(poll_fd, EPOLL_CTL_ADD, lines[i].fd, &wanted) == 0;
    }
    if (is_good)
        rate = drive(lines, load, poll_fd);
    for (unsigned i = 0; lines != NULL && i < load->connections; i++)
        close_line(&lines[i]);
    close(poll_fd);
    free(lines);
    SSL_CTX_free(context);
    return rate;
}
