/* SPDX-License-Identifier: Apache-2.0 */
/* The kind that encrypts: OpenSSL over the descriptor.
 *
 * Its socket is a BIO of our own, since OpenSSL's raises SIGPIPE. That one does not ask the socket
 * again after a read that did not fill its room: what comes later is reported by the descriptor,
 * and most reads would only be told that there is nothing.
 *
 * Bytes that SSL_write() did not finish must be given to it again, and may not change: a part of
 * their record may be on its way. So they are copied aside and count as sent; a request in them
 * cannot be taken back, and has perhaps started when the connection breaks. During the handshake
 * nothing is given to it.
 *
 * SSL_read() goes on for as long as it gets what is no data (tickets, new keys). So the socket is
 * asked a bounded number of times, or a server that sends nothing else would hold the caller in it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <knitting/knitting.h>
#include <openssl/bio.h>
#include <openssl/err.h>

#include "clients/lib/error.h"
#include "clients/lib/tls.h"
#include "clients/lib/tls_peer.h"
#include "clients/lib/transport.h"

enum {
    RECORD_BYTES = 16 * 1024,
    READ_AHEAD_BYTES = 64 * 1024,
    READS_MAX = 2, /* of the socket, in one operation */
};

struct knit_transport_tls {
    SSL *ssl;
    BIO_METHOD *method;
    struct knit_tls_peer peer;
    int fd;
    int error;                           /* errno of the socket */
    bool is_open;                        /* the handshake is over */
    uint32_t reads_left;                 /* of this operation; 0: the socket is not asked again */
    bool has_end;                        /* the socket has ended */
    bool has_failed;                     /* SSL is asked for nothing any more */
    bool cannot_send;                    /* but what came may say why */
    enum knit_transport_result received; /* what ended the last receive; OK: there was no room */
    uint8_t unsent[RECORD_BYTES];
};

/* ---- the socket ---- */

static int bio_read(BIO *bio, char *room, size_t size, size_t *ret_len)
{
    struct knit_transport_tls *tls = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    *ret_len = 0;
    if (tls->reads_left == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    do
        n = recv(tls->fd, room, size, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    else if (n < 0)
        tls->error = errno;
    tls->has_end = n == 0;
    tls->reads_left = n == (ssize_t)size ? tls->reads_left - 1 : 0;
    *ret_len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_len)
{
    struct knit_transport_tls *tls = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    do
        n = send(tls->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    tls->cannot_send = n < 0 && errno != EAGAIN;
    if (tls->cannot_send)
        tls->error = errno;
    *ret_len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* It does not say that it has ended: SSL would take that for a fault of the server's, and what is
 * kept of a connection that was cut could not be resumed. */
static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int set_bio(struct knit_transport_tls *tls)
{
    BIO *bio;

    tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket");
    if (tls->method == NULL || BIO_meth_set_read_ex(tls->method, bio_read) != 1 ||
        BIO_meth_set_write_ex(tls->method, bio_write) != 1 ||
        BIO_meth_set_ctrl(tls->method, bio_control) != 1)
        return -ENOMEM;
    bio = BIO_new(tls->method);
    if (bio == NULL)
        return -ENOMEM;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    return 0;
}

/* ---- results ---- */

/* Of an operation that answered r. */
static enum knit_transport_result result_of(struct knit_transport_tls *tls, int r)
{
    switch (SSL_get_error(tls->ssl, r)) {
    case SSL_ERROR_NONE:
        return KNIT_TRANSPORT_OK;
    case SSL_ERROR_WANT_READ:
        return KNIT_TRANSPORT_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return KNIT_TRANSPORT_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return KNIT_TRANSPORT_END;
    default:
        break;
    }
    if (tls->has_end || tls->error != 0)
        knit_tls_peer_was_cut(&tls->peer, tls->is_open, tls->error);
    else
        knit_tls_peer_explain(&tls->peer, tls->ssl, tls->is_open);
    return KNIT_TRANSPORT_BROKEN;
}

static enum knit_transport_result fail(struct knit_transport *transport)
{
    transport->tls->has_failed = true;
    transport->tls->received = KNIT_TRANSPORT_BROKEN;
    transport->error = transport->tls->error;
    transport->refusal = transport->tls->peer.refusal;
    return KNIT_TRANSPORT_BROKEN;
}

/* Before each operation. */
static void begin(struct knit_transport_tls *tls)
{
    ERR_clear_error();
    tls->error = 0;
    tls->reads_left = READS_MAX;
}

/* OK: it is over. */
static enum knit_transport_result shake_hands(struct knit_transport *transport)
{
    struct knit_transport_tls *tls = transport->tls;
    enum knit_transport_result result;

    if (tls->has_failed)
        return KNIT_TRANSPORT_BROKEN;
    if (tls->is_open)
        return KNIT_TRANSPORT_OK;
    begin(tls);
    result = result_of(tls, SSL_do_handshake(tls->ssl));
    if (result == KNIT_TRANSPORT_WANT_READ || result == KNIT_TRANSPORT_WANT_WRITE)
        return result;
    if (result == KNIT_TRANSPORT_END)
        knit_tls_peer_was_cut(&tls->peer, false, 0);
    if (result != KNIT_TRANSPORT_OK || !knit_tls_peer_agrees(&tls->peer, tls->ssl))
        return fail(transport);
    tls->is_open = true;
    return KNIT_TRANSPORT_OK;
}

/* ---- the operations ---- */

/* The data of one record, or what there is in its place. */
static enum knit_transport_result read_record(
    struct knit_transport_tls *tls, void *room, size_t max, size_t *ret_len)
{
    ERR_clear_error();
    tls->error = 0;
    return result_of(tls, SSL_read_ex(tls->ssl, room, max, ret_len));
}

static enum knit_transport_result tls_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    struct knit_transport_tls *tls = transport->tls;
    enum knit_transport_result result = shake_hands(transport);
    size_t got = 0;

    tls->received = KNIT_TRANSPORT_WANT_READ;
    if (result != KNIT_TRANSPORT_OK)
        return result;
    tls->reads_left = READS_MAX;
    while (got < max && result == KNIT_TRANSPORT_OK) {
        size_t len = 0;

        result = read_record(tls, (char *)room + got, max - got, &len);
        got += len;
    }
    if (result == KNIT_TRANSPORT_BROKEN)
        (void)fail(transport);
    if (got == 0)
        return result;
    tls->received = result;
    *ret_len = got;
    return KNIT_TRANSPORT_OK;
}

/* One record. What it does not finish is kept. */
static enum knit_transport_result write_record(
    struct knit_transport *transport, const void *bytes, size_t len)
{
    struct knit_transport_tls *tls = transport->tls;
    enum knit_transport_result result;
    size_t n;

    begin(tls);
    result = result_of(tls, SSL_write_ex(tls->ssl, bytes, len, &n));
    if (result == KNIT_TRANSPORT_OK) {
        transport->unsent = 0;
        return result;
    }
    if (result == KNIT_TRANSPORT_BROKEN && tls->cannot_send)
        return result;
    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN)
        return fail(transport);
    if (transport->unsent == 0)
        memcpy(tls->unsent, bytes, len);
    transport->unsent = len;
    return result;
}

static enum knit_transport_result tls_send(
    struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len)
{
    struct knit_transport_tls *tls = transport->tls;
    enum knit_transport_result result = shake_hands(transport);

    *ret_len = 0;
    if (tls->cannot_send)
        return KNIT_TRANSPORT_BROKEN;
    if (result == KNIT_TRANSPORT_OK && transport->unsent != 0)
        result = write_record(transport, tls->unsent, transport->unsent);
    if (result != KNIT_TRANSPORT_OK || len == 0)
        return result;
    if (len > RECORD_BYTES)
        len = RECORD_BYTES;
    result = write_record(transport, bytes, len);
    /* It was copied aside: whoever sends on is told what that waits for. */
    if (result == KNIT_TRANSPORT_BROKEN)
        return result;
    *ret_len = len;
    return KNIT_TRANSPORT_OK;
}

static bool tls_has_pending(const struct knit_transport *transport)
{
    const struct knit_transport_tls *tls = transport->tls;

    if (tls->received == KNIT_TRANSPORT_OK)
        return SSL_has_pending(tls->ssl) != 0;
    return tls->received != KNIT_TRANSPORT_WANT_READ;
}

/* The server is told that what came was all, and need not know it was. */
static void tls_shut_down(struct knit_transport *transport)
{
    struct knit_transport_tls *tls = transport->tls;

    if (tls->is_open && !tls->has_failed && transport->unsent == 0) {
        begin(tls);
        (void)SSL_shutdown(tls->ssl);
    }
    tls->has_failed = true;
    (void)shutdown(transport->fd, SHUT_RDWR);
}

static const char *tls_reason(const struct knit_transport *transport)
{
    return transport->tls->peer.why;
}

static void tls_free(struct knit_transport *transport)
{
    struct knit_transport_tls *tls = transport->tls;

    /* Else what is kept of it could not be resumed: a connection that was cut is no reason. */
    if (tls->ssl != NULL)
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    BIO_meth_free(tls->method);
    free(tls);
    transport->tls = NULL;
}

int knit_transport_begin_tls(struct knit_transport *transport, struct knit_tls *with,
    const struct knit_url *url, struct knit_error *ret_error)
{
    static const struct knit_transport_kind kind = {
        .receive = tls_receive,
        .send = tls_send,
        .has_pending = tls_has_pending,
        .shut_down = tls_shut_down,
        .reason = tls_reason,
        .free = tls_free,
    };
    struct knit_transport_tls *tls = calloc(1, sizeof(*tls));
    struct knit_transport begun = *transport;
    int code;

    if (tls == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for TLS");
    begun.kind = &kind;
    begun.tls = tls;
    tls->fd = transport->fd;
    tls->received = KNIT_TRANSPORT_WANT_READ;
    tls->peer.tls = with;
    tls->peer.url = *url;
    code = knit_tls_peer_start(&tls->peer, &tls->ssl, ret_error);
    if (code == KNIT_OK && set_bio(tls) != 0)
        code =
            knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for TLS");
    if (code == KNIT_OK) {
        SSL_set_default_read_buffer_len(tls->ssl, READ_AHEAD_BYTES);
        *transport = begun;
    } else {
        tls_free(&begun);
    }
    return code;
}
