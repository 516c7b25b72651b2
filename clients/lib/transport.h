/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of one connection, independent of what carries them.
 *
 * A stream sends and receives through this and knows no socket. There is one kind, "plain": a
 * socket's bytes as they are (transport_plain.c). A kind that encrypts may have to read before it
 * can send and the other way round, so both operations may answer both WANT results; and it may
 * hold bytes that it has taken from the kernel already, for which the descriptor does not become
 * readable: knit_transport_pending() counts them. It counts only those that receive gives out
 * without more from the socket: part of a record is not pending, or knit_transport_wait() would
 * never sleep.
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
    KNIT_TRANSPORT_OK,         /* at least one byte was moved */
    KNIT_TRANSPORT_WANT_READ,  /* none was; try again once `fd` is readable */
    KNIT_TRANSPORT_WANT_WRITE, /* none was; try again once `fd` is writable */
    KNIT_TRANSPORT_END,        /* the other side sends nothing more */
    KNIT_TRANSPORT_BROKEN,     /* `error` says why */
};

struct knit_transport {
    const struct knit_transport_kind *kind;
    int fd;    /* to poll; -1: closed */
    int error; /* errno of the last BROKEN */

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
    size_t (*pending)(const struct knit_transport *transport);
    void (*shut_down)(struct knit_transport *transport);
};

/* A connected socket that does not block; the transport owns it from now on. */
void knit_transport_init_plain(struct knit_transport *transport, int fd);

/* Closes the connection's descriptor, if it is open. */
void knit_transport_close(struct knit_transport *transport);

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

KNIT_MUST_CHECK static inline enum knit_transport_result knit_transport_send(
    struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len)
{
    return transport->kind->send(transport, bytes, len, ret_len);
}

/* How many received bytes wait inside, for which the descriptor does not become readable. */
static inline size_t knit_transport_pending(const struct knit_transport *transport)
{
    return transport->kind->pending(transport);
}

/* Ends the connection in both directions, for every process that holds its descriptor. */
static inline void knit_transport_shut_down(struct knit_transport *transport)
{
    transport->kind->shut_down(transport);
}
