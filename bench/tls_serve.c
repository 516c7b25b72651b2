/* SPDX-License-Identifier: Apache-2.0 */
/* A bare echo: one event for reading a connection, one for writing what the socket did not take, no
 * protocol. With TLS the library works on the socket, reads ahead, and is read until it has nothing
 * more; of five ways to do it this was the fastest for small messages.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/tls_bench.h"

struct peer {
    int fd;
    SSL *ssl; /* NULL: plain */
    struct event *readable, *writable;
    unsigned char *bytes; /* what was not written yet */
    size_t len, size;
};

static struct event_base *base;
static SSL_CTX *context; /* NULL: plain */
static unsigned char room[256 * 1024];

static void peer_close(struct peer *peer)
{
    event_free(peer->readable);
    event_free(peer->writable);
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer->bytes);
    free(peer);
}

static void keep(struct peer *peer, const unsigned char *bytes, size_t len)
{
    if (len > peer->size - peer->len) {
        peer->size = (peer->len + len) * 2;
        peer->bytes = realloc(peer->bytes, peer->size);
        if (peer->bytes == NULL)
            abort();
    }
    memcpy(peer->bytes + peer->len, bytes, len);
    peer->len += len;
}

/* How many bytes went; below 0: the connection is over. */
static ssize_t write_some(struct peer *peer)
{
    size_t done = 0;
    ssize_t n;

    if (peer->ssl == NULL) {
        n = send(peer->fd, peer->bytes, peer->len, MSG_NOSIGNAL);
        return n < 0 && errno == EAGAIN ? 0 : n;
    }
    ERR_clear_error();
    if (SSL_write_ex(peer->ssl, peer->bytes, peer->len, &done) == 1)
        return (ssize_t)done;
    return SSL_get_error(peer->ssl, 0) == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* False: the connection is over. */
static bool push(struct peer *peer)
{
    ssize_t n = 1;

    while (peer->len > 0 && n > 0) {
        n = write_some(peer);
        if (n < 0)
            return false;
        memmove(peer->bytes, peer->bytes + n, peer->len - (size_t)n);
        peer->len -= (size_t)n;
    }
    if (peer->len > 0)
        (void)event_add(peer->writable, NULL);
    else
        (void)event_del(peer->writable);
    return true;
}

/* False: the connection is over. */
static bool pull(struct peer *peer)
{
    size_t n;
    int error;

    if (peer->ssl == NULL) {
        ssize_t got = recv(peer->fd, room, sizeof(room), 0);

        if (got > 0)
            keep(peer, room, (size_t)got);
        return got > 0 || (got < 0 && errno == EAGAIN);
    }
    ERR_clear_error();
    while (SSL_read_ex(peer->ssl, room, sizeof(room), &n) == 1)
        keep(peer, room, n);
    error = SSL_get_error(peer->ssl, 0);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    if (!pull(arg) || !push(arg))
        peer_close(arg);
}

static void on_writable(evutil_socket_t fd, short events, void *arg)
{
    (void)fd, (void)events;
    if (!push(arg))
        peer_close(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
    int address_len, void *arg)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    int on = 1;

    (void)listener, (void)address, (void)address_len, (void)arg;
    if (peer == NULL)
        abort();
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    peer->fd = fd;
    peer->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, peer);
    peer->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, peer);
    if (context != NULL) {
        peer->ssl = SSL_new(context);
        (void)SSL_set_fd(peer->ssl, fd);
        SSL_set_accept_state(peer->ssl);
    }
    (void)event_add(peer->readable, NULL);
}

static bool make_context(const char *certificate, const char *key)
{
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return false;
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    /* The cipher of the daemon. */
    return SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1 &&
           SSL_CTX_use_certificate_chain_file(context, certificate) == 1 &&
           SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1;
}

int tls_serve(uint16_t port, const char *certificate, const char *key)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    (void)signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    if (base == NULL || (certificate != NULL && !make_context(certificate, key)) ||
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
            128, (struct sockaddr *)&address, sizeof(address)) == NULL) {
        fprintf(stderr, "cannot serve\n");
        return 1;
    }
    puts("ready");
    (void)fflush(stdout);
    (void)event_base_dispatch(base);
    return 0;
}
