/* SPDX-License-Identifier: Apache-2.0 */
/* How bytes come and go on a connection.
 *
 * The rest of the daemon reads and writes connections through this table alone. There are two
 * implementations: "plain", which is a stream socket, and TLS on one (transport_tls.h).
 *
 * A transport may hold bytes that it took from its socket and has not handed out yet, as a library
 * does that decrypts whole records. epoll reports the socket, not these bytes. Therefore a
 * connection that stops reading or starts again while bytes are pending goes onto the ready list
 * (connection.c); nothing else would read them. Pending are only those that receive() hands out
 * without more from the socket: part of a record is not, since the connection would be tried again
 * every turn for what needs an event.
 *
 * Where the kernel cannot refuse the descriptors that peers of a unix socket send (before Linux
 * 6.16), receive() looks before it takes (MSG_PEEK), and close() gives the socket to a closer:
 * closer.h says why. It offers no room for them: descriptors that were taken would have to be
 * counted, kept and closed one by one in another thread, while those that are not taken stay in
 * the socket, whose close is theirs.
 *
 * Threads: the connection's loop's. Nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <knitting/code.h>

#include "proto/span.h"
#include "server/net/endpoint.h"

struct evbuffer;
struct knit_closer;
struct knit_tls_stream;
struct knit_transport;

enum knit_transport_result {
    KNIT_TRANSPORT_OK,
    /* Nothing went: again when fd is readable, or writable. What encrypts may have to write in
     * order to read, and the reverse. */
    KNIT_TRANSPORT_WANT_READ,
    KNIT_TRANSPORT_WANT_WRITE,
    KNIT_TRANSPORT_END,    /* the peer sends no more */
    KNIT_TRANSPORT_BROKEN, /* nothing goes in either direction any more */
    KNIT_TRANSPORT_GIFT,   /* of receive() alone: descriptors came. Nothing was taken; close it */
    /* Of send_descriptors() alone: nothing was sent, and later it may be. The kernel bounds how
     * many descriptors of one user may be on their way, and callers that do not read keep them
     * there. */
    KNIT_TRANSPORT_CROWDED,
};

struct knit_transport_ops {
    const char *name; /* for the log */
    bool encrypts;    /* nobody on the way reads what goes */
    /* OK: between 1 and `size` bytes came. */
    enum knit_transport_result (*receive)(
        struct knit_transport *transport, void *room, size_t size, size_t *ret_len);
    /* Sends and drains what the peer takes in one go, which need not be all. OK: at least a byte
     * went. ret_len is set whatever the result is. */
    enum knit_transport_result (*send)(
        struct knit_transport *transport, struct evbuffer *output, size_t *ret_len);
    /* The same of bytes that lie in one piece. */
    enum knit_transport_result (*send_bytes)(
        struct knit_transport *transport, struct knit_span bytes, size_t *ret_len);
    /* Descriptors ride on the first of the bytes, of which a part may be sent. NULL: descriptors
     * cannot be passed. */
    enum knit_transport_result (*send_descriptors)(struct knit_transport *transport,
        struct knit_span bytes, const int *fds, size_t count, size_t *ret_len);
    /* Whether receive() has something to say that needs nothing from the socket, bytes or the end
     * of them; NULL: never. */
    bool (*pending)(const struct knit_transport *transport);
    /* The sending side. OK or BROKEN: it is shut. */
    enum knit_transport_result (*shut_down)(struct knit_transport *transport);
    void (*close)(struct knit_transport *transport);
};

struct knit_transport {
    const struct knit_transport_ops *ops;
    int fd;                      /* what epoll watches; -1 = closed */
    struct knit_closer *closer;  /* borrowed, or NULL */
    struct knit_tls_stream *tls; /* or NULL */
};

#define KNIT_TRANSPORT_DESCRIPTORS_MAX 40

/* Takes over a socket that does not block. A unix socket whose peer can send descriptors needs a
 * closer; for all others it is NULL. */
struct knit_transport knit_transport_plain(int fd, bool is_unix, struct knit_closer *closer);

/* Who is at the other end of a unix socket, by the kernel's record of when it connected. Returns 0
 * or -errno. */
KNIT_MUST_CHECK int knit_transport_credentials(
    const struct knit_transport *transport, struct ucred *ret_credentials);

/* The peer's address as "host:port", or "uid:U,pid:P". Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_transport_address(
    const struct knit_transport *transport, char ret_text[KNIT_ENDPOINT_TEXT_MAX]);

KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_receive(
    struct knit_transport *transport, void *room, size_t size, size_t *ret_len)
{
    return transport->ops->receive(transport, room, size, ret_len);
}

KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_send(
    struct knit_transport *transport, struct evbuffer *output, size_t *ret_len)
{
    return transport->ops->send(transport, output, ret_len);
}

KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_send_bytes(
    struct knit_transport *transport, struct knit_span bytes, size_t *ret_len)
{
    return transport->ops->send_bytes(transport, bytes, ret_len);
}

KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_send_descriptors(
    struct knit_transport *transport, struct knit_span bytes, const int *fds, size_t count,
    size_t *ret_len)
{
    return transport->ops->send_descriptors(transport, bytes, fds, count, ret_len);
}

/* Whether nobody on the way reads what goes: it is encrypted, or does not leave this machine. */
bool knit_transport_is_private(const struct knit_transport *transport);

static inline bool knit_transport_passes_descriptors(const struct knit_transport *transport)
{
    return transport->ops->send_descriptors != NULL;
}

static inline bool knit_transport_pending(const struct knit_transport *transport)
{
    return transport->ops->pending != NULL && transport->ops->pending(transport);
}
