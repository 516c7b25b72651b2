/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of one connection, independent of what carries them.
 *
 * A stream sends and receives through this and knows no socket. There are two kinds. "plain" is a
 * socket's bytes as they are (transport_plain.c). The other one encrypts (transport_tls.c): it may
 * have to read before it can send and the other way round, so both operations may answer both WANT
 * results; and it may hold bytes in both directions. Those that it has encrypted and the kernel has
 * not taken are `unsent`. Of those that it has taken from the kernel already, for which the
 * descriptor does not become readable, knit_transport_has_pending() tells. They are only what
 * receive gives out without more from the socket: part of a record is not pending, or
 * knit_transport_wait() would never sleep.
 *
 * Nothing blocks but knit_transport_wait(), and nothing raises SIGPIPE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

enum { KNIT_TRANSPORT_FDS_MAX = 6 }; /* one more than any answer has: too many are noticed */

enum knit_transport_result {
    KNIT_TRANSPORT_OK,         /* at least one byte was moved, or none is unsent any more */
    KNIT_TRANSPORT_WANT_READ,  /* none was; try again once `fd` is readable */
    KNIT_TRANSPORT_WANT_WRITE, /* none was; try again once `fd` is writable */
    KNIT_TRANSPORT_END,        /* the other side sends nothing more */
    KNIT_TRANSPORT_BROKEN,     /* knit_transport_reason() says why */
};

struct knit_transport_tls;

struct knit_transport {
    const struct knit_transport_kind *kind;
    int fd;    /* to poll; -1: closed */
    int error; /* errno of the last BROKEN, where it is one of a socket */
    /* Of BROKEN: the code of an error that every connection like this one ends with; 0: it is none
     * of these, and another attempt may succeed. */
    int refusal;
    size_t unsent; /* bytes that send has taken and goes on with, which cannot be taken back */
    struct knit_transport_tls *tls; /* of the kind that encrypts */

    /* Descriptors that came with received bytes, in order. They are kept only while wants_fds is
     * set, until knit_transport_close_fds(); one that is taken out is replaced by -1. */
    bool wants_fds;
    bool may_bring_fds; /* a unix socket */
    uint32_t fds_count;
    int fds[KNIT_TRANSPORT_FDS_MAX];
};

struct knit_transport_kind {
    enum knit_transport_result (*receive)(
        struct knit_transport *transport, void *room, size_t max, size_t *ret_len);
    enum knit_transport_result (*send)(
        struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len);
    bool (*has_pending)(const struct knit_transport *transport); /* NULL: never */
    void (*shut_down)(struct knit_transport *transport);
    const char *(*reason)(const struct knit_transport *transport); /* NULL: `error` is all */
    void (*free)(struct knit_transport *transport); /* NULL: nothing is to be freed */
};

/* A connected socket that does not block; the transport owns it from now on. */
void knit_transport_init_plain(struct knit_transport *transport, int fd);

/* Closes the connection's descriptor, if it is open, and nothing else: a forked child does so. */
void knit_transport_close(struct knit_transport *transport);

/* Closes it and frees what there is. */
void knit_transport_fini(struct knit_transport *transport);

/* Why the last operation was BROKEN, as one sentence without its end. */
const char *knit_transport_reason(const struct knit_transport *transport);

/* Sets wants_fds, and has the kernel refuse descriptors at other times where it can. */
void knit_transport_want_fds(struct knit_transport *transport, bool wants_fds);

/* Closes the descriptors that came and were not taken out. Does not wait, whatever they are. */
void knit_transport_close_fds(struct knit_transport *transport);

/* Sleeps until the descriptor is readable (or, with wants_write, writable) or wait_ms have passed
 * (negative: no limit). Returns at once while bytes are pending. */
void knit_transport_wait(const struct knit_transport *transport, bool wants_write, int wait_ms);

/* At most max bytes; the other side's end is END. */
KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    return transport->kind->receive(transport, room, max, ret_len);
}

/* At most len bytes; 0 of them while some are unsent. */
KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_send(
    struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len)
{
    return transport->kind->send(transport, bytes, len, ret_len);
}

/* Whether receive has something to say for which the descriptor does not become readable. */
static inline bool knit_transport_has_pending(const struct knit_transport *transport)
{
    return transport->kind->has_pending != NULL && transport->kind->has_pending(transport);
}

/* Ends the connection in both directions, for every process that holds its descriptor. */
static inline void knit_transport_shut_down(struct knit_transport *transport)
{
    transport->kind->shut_down(transport);
}
