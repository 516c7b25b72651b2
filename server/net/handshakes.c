/* SPDX-License-Identifier: Apache-2.0 */
/* An event reports once that a socket is ready; its handshake then stands in `runnable` until it is
 * its turn, and waits for the next event when it comes no further.
 */
#include "server/net/handshakes.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "server/base/log.h"
#include "server/config/networks.h"
#include "server/config/setting.h"
#include "server/net/closer.h"
#include "server/net/connection.h"
#include "server/net/endpoint.h"
#include "server/net/net.h"
#include "server/net/proxy_header.h"
#include "server/net/transport_tls.h"
#include "server/policy/certificate.h"
#include "server/tls/tls_context.h"
#include "server/tls/tls_store.h"

#define HANDSHAKE_NS UINT64_C(10000000000)
#define A_TURN_NS    UINT64_C(1000000)

enum {
    HANDSHAKES_MAX = 256, /* of all loops */
    STEPS_A_TURN = 4,
    RECORD_OF_HANDSHAKE = 22,
    RECORD_HEAD = 5,
    RECORD_MAX = RECORD_HEAD + 16 * 1024,
    PARTS_OF_RECORD = 2, /* head and body */
};

/* What has come of the header of a proxy. */
struct header {
    size_t len;
    uint8_t bytes[KNIT_PROXY_HEADER_MAX];
};

struct knit_handshake {
    TAILQ_ENTRY(knit_handshake) in_all;
    TAILQ_ENTRY(knit_handshake) in_runnable;
    struct knit_net *net;
    struct knit_tenant *tenant;     /* whoever is behind the header once that is read */
    struct header *header;          /* NULL: none is due, or it has been read */
    struct knit_endpoint from;      /* by it; address_len 0: nothing */
    bool is_tls;                    /* else the header is all */
    struct knit_tls_stream *stream; /* NULL: its first record is not whole yet */
    struct event event;             /* pending unless it is runnable */
    int fd;
    bool is_runnable;
    uint8_t waits; /* for parts of its first record */
    uint64_t began_ns;
};

void knit_handshakes_init(struct knit_handshakes *handshakes)
{
    *handshakes = (struct knit_handshakes){0};
    TAILQ_INIT(&handshakes->all);
    TAILQ_INIT(&handshakes->runnable);
}

/* Leaves everything; what it holds is the caller's. */
static void forget(struct knit_handshake *handshake)
{
    struct knit_handshakes *handshakes = &handshake->net->handshakes;

    (void)event_del(&handshake->event);
    if (handshake->is_runnable)
        TAILQ_REMOVE(&handshakes->runnable, handshake, in_runnable);
    TAILQ_REMOVE(&handshakes->all, handshake, in_all);
    handshakes->count--;
    handshake->tenant->handshakes--;
    knit_tenant_leave(handshake->tenant);
    free(handshake->header);
    free(handshake);
}

static void drop(struct knit_handshake *handshake)
{
    KNIT_COUNT(handshake->net->turn, connections_closed);
    knit_tls_stream_free(handshake->stream);
    knit_closer_close(NULL, handshake->fd);
    forget(handshake);
}

static void fail(struct knit_handshake *handshake, const char *reason)
{
    struct knit_turn *turn = handshake->net->turn;
    char peer[KNIT_ENDPOINT_TEXT_MAX];

    KNIT_COUNT(turn, handshakes_failed);
    if (handshake->from.address_len != 0)
        knit_endpoint_text(&handshake->from, peer);
    else if (knit_endpoint_peer_name(handshake->fd, peer) != 0)
        (void)snprintf(peer, sizeof(peer), "gone");
    if (knit_turn_may_say(turn, KNIT_LOG_HANDSHAKE))
        knit_log(turn->log, KNIT_LOG_WARNING,
            handshake->header != NULL ? "PROXY header refused" : "TLS handshake failed",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_NUMBER("fd", handshake->fd),
            KNIT_LOG_TEXT("peer", peer));
    drop(handshake);
}

static void on_event(evutil_socket_t fd, short events, void *arg)
{
    struct knit_handshake *handshake = arg;

    (void)fd, (void)events;
    handshake->net->turn->had_events = true;
    TAILQ_INSERT_TAIL(&handshake->net->handshakes.runnable, handshake, in_runnable);
    handshake->is_runnable = true;
}

static void wait_for(struct knit_handshake *handshake, short events)
{
    (void)event_assign(
        &handshake->event, handshake->net->base, handshake->fd, events, on_event, handshake);
    if (event_add(&handshake->event, NULL) < 0)
        fail(handshake, "out of memory");
}

/* Each loop has its part, which may be as little as four. */
static uint32_t most(const struct knit_net *net)
{
    return (uint32_t)(HANDSHAKES_MAX / net->turn->settings->threads_io);
}

/* The oldest one of those that have the most. */
static struct knit_handshake *find_place(const struct knit_handshakes *handshakes)
{
    struct knit_handshake *handshake, *found = TAILQ_FIRST(&handshakes->all);

    TAILQ_FOREACH(handshake, &handshakes->all, in_all)
    if (handshake->tenant->handshakes > found->tenant->handshakes)
        found = handshake;
    return found;
}

/* Whether it comes from a network whose proxies say for whom they connect. False: its peer has
 * reset it, and where it came from is not known any more. */
static bool find_proxy(const struct knit_net *net, int fd, bool *ret_is_proxied)
{
    const struct knit_settings *settings = net->turn->settings;
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(address);

    *ret_is_proxied = false;
    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0)
        return false;
    for (size_t i = 0; i < settings->proxy_from.count; i++)
        if (knit_networks_hold(&settings->proxies[i], &address))
            *ret_is_proxied = true;
    return true;
}

static void close_at_once(struct knit_net *net, int fd)
{
    KNIT_COUNT(net->turn, connections_closed);
    knit_closer_close(NULL, fd);
}

void knit_handshakes_begin(struct knit_net *net, int fd, bool is_tls)
{
    struct knit_handshakes *handshakes = &net->handshakes;
    bool has_header = false;
    struct knit_handshake *handshake;
    struct header *header = NULL;
    struct knit_tenant *tenant;

    if ((is_tls || net->turn->settings->proxy_from.count > 0) &&
        !find_proxy(net, fd, &has_header)) {
        close_at_once(net, fd);
        return;
    }
    if (!is_tls && !has_header) {
        (void)knit_connection_open(net, knit_transport_plain(fd, false, NULL));
        return;
    }
    tenant = knit_tenant_join(&net->inputs.tenants, knit_endpoint_peer_tenant(fd));
    handshake = calloc(1, sizeof(*handshake));
    if (has_header)
        header = calloc(1, sizeof(*header));
    if (tenant == NULL || handshake == NULL || (has_header && header == NULL)) {
        if (tenant != NULL)
            knit_tenant_leave(tenant);
        free(handshake);
        free(header);
        close_at_once(net, fd);
        return;
    }
    *handshake = (struct knit_handshake){.net = net,
        .tenant = tenant,
        .fd = fd,
        .is_tls = is_tls,
        .header = header,
        .began_ns = net->turn->now_ns};
    tenant->handshakes++;
    TAILQ_INSERT_TAIL(&handshakes->all, handshake, in_all);
    if (++handshakes->count > most(net))
        fail(find_place(handshakes), "others came, and it was there longest");
    net->turn->needs_sweep = true;
    wait_for(handshake, EV_READ);
}

/* From here on it is a connection. */
static void open_connection(struct knit_handshake *handshake, struct knit_transport transport)
{
    struct knit_net *net = handshake->net;
    struct knit_endpoint from = handshake->from;

    forget(handshake);
    (void)knit_connection_open_for(net, transport, from.address_len != 0 ? &from : NULL);
}

/* From its proxy to whom that speaks for. False: no memory. */
static bool change_tenant(struct knit_handshake *handshake)
{
    struct knit_tenant *tenant =
        knit_tenant_join(&handshake->net->inputs.tenants, knit_endpoint_tenant(&handshake->from));

    if (tenant == NULL)
        return false;
    handshake->tenant->handshakes--;
    knit_tenant_leave(handshake->tenant);
    handshake->tenant = tenant;
    tenant->handshakes++;
    return true;
}

/* Of what recv() returned. One that ends before its first byte is no failure, but somebody who
 * looks whether the daemon is there. */
static bool is_end(ssize_t n)
{
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* Reads the header and not a byte more: what follows is TLS's or the connection's. False: it is not
 * whole yet, or the handshake has ended. */
static bool read_header(struct knit_handshake *handshake)
{
    struct header *header = handshake->header;
    const char *reason = NULL;
    size_t whole;
    ssize_t n;
    int r;

    while ((r = knit_proxy_header_parse(header->bytes, header->len, &whole, &handshake->from,
                &reason)) == KNIT_PROXY_HEADER_E_SHORT) {
        n = recv(handshake->fd, header->bytes + header->len, whole - header->len, MSG_DONTWAIT);
        if (n < 0 && !is_end(n)) {
            wait_for(handshake, EV_READ);
            return false;
        }
        if (n <= 0 && header->len == 0) {
            drop(handshake);
            return false;
        }
        if (n <= 0) {
            fail(handshake, n == 0 ? "the connection ended before it" : strerror(errno));
            return false;
        }
        header->len += (size_t)n;
    }
    if (r != 0) {
        fail(handshake, reason);
        return false;
    }
    if (handshake->from.address_len != 0 && !change_tenant(handshake)) {
        fail(handshake, "out of memory");
        return false;
    }
    free(header);
    handshake->header = NULL;
    return true;
}

static void finish(struct knit_handshake *handshake)
{
    struct knit_net *net = handshake->net;
    struct knit_transport transport = knit_transport_tls(handshake->fd, handshake->stream);
    X509 *peer = knit_tls_stream_peer(handshake->stream);
    char name[KNIT_PRINCIPAL_NAME_MAX];

    if (peer != NULL && !knit_certificate_name(peer, name)) {
        fail(handshake, "the certificate names nobody");
        return;
    }
    KNIT_COUNT(net->turn, handshakes_done);
    if (knit_tls_stream_is_resumed(handshake->stream))
        KNIT_COUNT(net->turn, handshakes_resumed);
    open_connection(handshake, transport);
}

static const char *reason_of(const struct knit_handshake *handshake)
{
    const char *reason = knit_tls_context_reason(), *flaw = knit_tls_stream_flaw(handshake->stream);

    return flaw != NULL ? flaw : reason;
}

/* How much of what the peer says first must be there before anything is made for it: a record. One
 * that is none is refused by the library. 0: it has ended without a byte. */
static int hello_bytes(int fd)
{
    uint8_t head[RECORD_HEAD] = {0};
    ssize_t n = recv(fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);

    if (is_end(n))
        return 0;
    if (n > 0 && head[0] != RECORD_OF_HANDSHAKE)
        return 1;
    return (int)sizeof(head) + (n == sizeof(head) ? head[3] << 8 | head[4] : 0);
}

/* A part of a record stays in the socket, where it costs its peer as much as the daemon. True: the
 * handshake waits for the rest, or for the end; for that once for each part of a record. */
static bool waits_for_hello(struct knit_handshake *handshake, int wanted)
{
    int one = 1, there = 0;

    (void)ioctl(handshake->fd, FIONREAD, &there);
    if (there >= wanted || wanted > RECORD_MAX || handshake->waits == PARTS_OF_RECORD) {
        if (handshake->waits > 0)
            (void)setsockopt(handshake->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
        return false;
    }
    handshake->waits++;
    (void)setsockopt(handshake->fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted));
    wait_for(handshake, EV_READ);
    return true;
}

/* False: it waits, or has failed. */
static bool begin_stream(struct knit_handshake *handshake)
{
    int wanted = hello_bytes(handshake->fd);
    SSL *ssl;

    if (wanted == 0) {
        drop(handshake);
        return false;
    }
    if (waits_for_hello(handshake, wanted))
        return false;
    ssl = knit_tls_store_accept(handshake->net->handshakes.store);
    if (ssl != NULL)
        handshake->stream = knit_tls_stream_new(ssl, handshake->fd);
    if (handshake->stream == NULL)
        fail(handshake, "out of memory");
    return handshake->stream != NULL;
}

static void step(struct knit_handshake *handshake)
{
    if (handshake->header != NULL && !read_header(handshake))
        return;
    if (!handshake->is_tls) {
        open_connection(handshake, knit_transport_plain(handshake->fd, false, NULL));
        return;
    }
    if (handshake->stream == NULL && !begin_stream(handshake))
        return;
    switch (knit_tls_stream_handshake(handshake->stream)) {
    case KNIT_TRANSPORT_OK:
        finish(handshake);
        break;
    case KNIT_TRANSPORT_WANT_READ:
        wait_for(handshake, EV_READ);
        break;
    case KNIT_TRANSPORT_WANT_WRITE:
        wait_for(handshake, EV_WRITE);
        break;
    case KNIT_TRANSPORT_END:
    case KNIT_TRANSPORT_BROKEN:
    case KNIT_TRANSPORT_GIFT:
    case KNIT_TRANSPORT_CROWDED:
        fail(handshake, reason_of(handshake));
        break;
    }
}

void knit_handshakes_run(struct knit_net *net)
{
    struct knit_handshakes *handshakes = &net->handshakes;
    uint64_t until_ns = net->turn->now_ns + A_TURN_NS;
    struct knit_handshake *handshake;

    for (unsigned i = 0; i < STEPS_A_TURN && net->turn->now_ns < until_ns &&
                         (handshake = TAILQ_FIRST(&handshakes->runnable)) != NULL;
         i++) {
        TAILQ_REMOVE(&handshakes->runnable, handshake, in_runnable);
        handshake->is_runnable = false;
        step(handshake);
        knit_turn_tick(net->turn);
    }
}

void knit_handshakes_sweep(struct knit_net *net)
{
    struct knit_handshake *handshake;

    while ((handshake = TAILQ_FIRST(&net->handshakes.all)) != NULL &&
           net->turn->now_ns - handshake->began_ns >= HANDSHAKE_NS)
        fail(handshake, "it took longer than 10 s");
    if (!TAILQ_EMPTY(&net->handshakes.all))
        net->turn->needs_sweep = true;
}

void knit_handshakes_close_all(struct knit_net *net)
{
    struct knit_handshake *handshake;

    while ((handshake = TAILQ_FIRST(&net->handshakes.all)) != NULL)
        drop(handshake);
}
