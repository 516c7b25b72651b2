/* SPDX-License-Identifier: Apache-2.0 */
/* Two other ways were left: memory BIOs with the plain transport below them, which copy once more
 * each way and keep 16 KiB more a connection, and libevent's bufferevent_openssl, which reads in
 * steps of 4 KiB and says that the stream has ended before its last bytes are there.
 *
 * The library reads and writes through a BIO of our own, which is a socket without SIGPIPE, and
 * which does not ask the socket again after a read that did not fill its buffer: what comes later
 * is reported by epoll, and most reads would only be told that there is nothing.
 *
 * A write that was refused must be repeated with at least the same bytes. Output is never taken
 * back, so the front of it, of which each try takes as much as a record holds, only grows.
 */
#include "server/net/transport_tls.h"

#include <errno.h>
#include <event2/buffer.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/net/closer.h"
#include "server/policy/certificate.h"

enum {
    RECORD_BYTES = 16 * 1024,
    RECORDS_MAX = 256,     /* received in one go, however little they hold */
    SENT_MAX = 256 * 1024, /* in one go, whatever the socket takes */
    HANDSHAKE_BYTES_MAX = 64 * 1024,
    MESSAGES_MAX = 32, /* that are no data, and again for each ... */
    MESSAGES_PER_BYTES = 1024 * 1024,
};

struct knit_tls_stream {
    SSL *ssl;
    int fd;
    bool is_open;       /* the handshake is over */
    bool is_drained;    /* the socket had nothing more when it was read last, in this call */
    bool has_end;       /* of the socket */
    bool may_have_more; /* the library may hold bytes that receive() would give */
    bool is_broken;     /* nothing is asked of the library any more */
    bool has_notified;  /* close_notify was sent */
    /* What receive() says from now on: END, BROKEN, or OK for nothing. It may have been found
     * behind bytes. */
    enum knit_transport_result last;
    uint32_t messages; /* that are no data, since the handshake or the last MESSAGES_PER_BYTES */
    size_t bytes;      /* of data since then; of all kinds during the handshake */
};

/* ---- the socket ---------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *room, size_t size, size_t *ret_len)
{
    struct knit_tls_stream *stream = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (!stream->is_drained) {
        do
            n = recv(stream->fd, room, size, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        stream->is_drained = n < (ssize_t)size;
    } else {
        n = -1;
        errno = EAGAIN;
    }
    *ret_len = n > 0 ? (size_t)n : 0;
    if (n > 0 && !stream->is_open) {
        stream->bytes += (size_t)n;
        return stream->bytes <= HANDSHAKE_BYTES_MAX;
    }
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    stream->has_end = n == 0;
    return n > 0;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_len)
{
    struct knit_tls_stream *stream = BIO_get_data(bio);
    ssize_t n = send(stream->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    BIO_clear_retry_flags(bio);
    *ret_len = n > 0 ? (size_t)n : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return n > 0;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    const struct knit_tls_stream *stream = BIO_get_data(bio);

    (void)number, (void)pointer;
    if (command == BIO_CTRL_EOF)
        return stream->has_end;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method; /* NULL: there was no memory for it */

static void make_method(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "knitting socket");

    if (made != NULL && BIO_meth_set_read_ex(made, bio_read) == 1 &&
        BIO_meth_set_write_ex(made, bio_write) == 1 && BIO_meth_set_ctrl(made, bio_control) == 1)
        method = made;
    else
        BIO_meth_free(made);
}

static BIO *new_bio(struct knit_tls_stream *stream)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    BIO *bio;

    (void)pthread_once(&once, make_method);
    bio = method != NULL ? BIO_new(method) : NULL;
    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    return bio;
}

/* ---- streams ------------------------------------------------------------------------------- */

/* Data that a peer sends after its handshake brings none of these; a change of its keys brings one,
 * another if it wants ours changed. One that sends too many is not listened to any more: the
 * library stops when it has seen the end. */
static void on_message(const SSL *ssl, int where, int value)
{
    struct knit_tls_stream *stream = SSL_get_app_data(ssl);

    (void)value;
    if (!stream->is_open || !(where == SSL_CB_ACCEPT_EXIT || where & SSL_CB_ALERT) ||
        ++stream->messages <= MESSAGES_MAX)
        return;
    stream->is_broken = true;
    SSL_set_shutdown(stream->ssl, SSL_get_shutdown(stream->ssl) | SSL_RECEIVED_SHUTDOWN);
}

/* One that names nobody is refused while its peer can still be told so, by an alert. */
static int verify(int is_good, X509_STORE_CTX *chain)
{
    char name[KNIT_PRINCIPAL_NAME_MAX];

    if (is_good != 1 || X509_STORE_CTX_get_error_depth(chain) != 0 ||
        knit_certificate_name(X509_STORE_CTX_get0_cert(chain), name))
        return is_good;
    X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_REJECTED);
    return 0;
}

struct knit_tls_stream *knit_tls_stream_new(SSL *ssl, int fd)
{
    struct knit_tls_stream *stream = calloc(1, sizeof(*stream));
    BIO *bio = stream != NULL ? new_bio(stream) : NULL;

    if (bio == NULL) {
        free(stream);
        SSL_free(ssl);
        return NULL;
    }
    stream->ssl = ssl;
    stream->fd = fd;
    SSL_set_bio(ssl, bio, bio);
    (void)SSL_set_app_data(ssl, stream);
    SSL_set_info_callback(ssl, on_message);
    SSL_set_verify(ssl, SSL_get_verify_mode(ssl), verify);
    return stream;
}

void knit_tls_stream_free(struct knit_tls_stream *stream)
{
    if (stream == NULL)
        return;
    SSL_free(stream->ssl);
    free(stream);
}

const char *knit_tls_stream_flaw(const struct knit_tls_stream *stream)
{
    long result = SSL_get_verify_result(stream->ssl);

    if (result == X509_V_ERR_CERT_REJECTED)
        return "the certificate names nobody: it has no URI or DNS name that can be read";
    return result != X509_V_OK ? X509_verify_cert_error_string(result) : NULL;
}

bool knit_tls_stream_is_resumed(const struct knit_tls_stream *stream)
{
    return SSL_session_reused(stream->ssl) == 1;
}

X509 *knit_tls_stream_peer(const struct knit_tls_stream *stream)
{
    return SSL_get0_peer_certificate(stream->ssl);
}

static void begin(struct knit_tls_stream *stream)
{
    stream->is_drained = false;
    ERR_clear_error();
}

/* What the library answered, which is not success. */
static enum knit_transport_result result_of(struct knit_tls_stream *stream, int answer)
{
    int error = SSL_get_error(stream->ssl, answer);

    if (error == SSL_ERROR_WANT_READ && !stream->is_broken)
        return KNIT_TRANSPORT_WANT_READ;
    if (error == SSL_ERROR_WANT_WRITE && !stream->is_broken)
        return KNIT_TRANSPORT_WANT_WRITE;
    if (error == SSL_ERROR_ZERO_RETURN && !stream->is_broken)
        return KNIT_TRANSPORT_END;
    stream->is_broken = true;
    stream->last = KNIT_TRANSPORT_BROKEN;
    return KNIT_TRANSPORT_BROKEN;
}

enum knit_transport_result knit_tls_stream_handshake(struct knit_tls_stream *stream)
{
    enum knit_transport_result result;
    int answer;

    begin(stream);
    answer = SSL_do_handshake(stream->ssl);
    if (answer == 1) {
        stream->is_open = true;
        stream->bytes = 0;
        /* Data may have come with the end of the handshake. */
        stream->may_have_more = true;
        return KNIT_TRANSPORT_OK;
    }
    result = result_of(stream, answer);
    return result == KNIT_TRANSPORT_END ? KNIT_TRANSPORT_BROKEN : result;
}

/* ---- as a transport ------------------------------------------------------------------------ */

static void count_bytes(struct knit_tls_stream *stream, size_t len)
{
    stream->bytes += len;
    if (stream->bytes < MESSAGES_PER_BYTES)
        return;
    stream->bytes = 0;
    stream->messages = 0;
}

static enum knit_transport_result receive(
    struct knit_transport *transport, void *room, size_t size, size_t *ret_len)
{
    struct knit_tls_stream *stream = transport->tls;
    enum knit_transport_result result = stream->last;
    size_t len = 0, n = 0;

    begin(stream);
    stream->may_have_more = false;
    for (unsigned i = 0; i < RECORDS_MAX && result == KNIT_TRANSPORT_OK && len < size; i++) {
        int answer = SSL_read_ex(stream->ssl, (uint8_t *)room + len, size - len, &n);

        if (answer != 1)
            result = result_of(stream, answer);
        else
            len += n;
        /* A record that was short is the last one, unless the library holds more. */
        if (answer == 1 && n < RECORD_BYTES && SSL_has_pending(stream->ssl) == 0)
            break;
    }
    *ret_len = len;
    count_bytes(stream, len);
    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN)
        stream->last = result;
    if (len == 0)
        return result;
    stream->may_have_more = result == KNIT_TRANSPORT_OK;
    return KNIT_TRANSPORT_OK;
}

static enum knit_transport_result send_record(
    struct knit_tls_stream *stream, const void *bytes, size_t len, size_t *ret_len)
{
    int answer;

    *ret_len = 0;
    if (stream->is_broken || stream->has_notified)
        return KNIT_TRANSPORT_BROKEN;
    begin(stream);
    answer = SSL_write_ex(stream->ssl, bytes, len, ret_len);
    return answer == 1 ? KNIT_TRANSPORT_OK : result_of(stream, answer);
}

static size_t record_of(size_t waiting)
{
    return waiting < RECORD_BYTES ? waiting : RECORD_BYTES;
}

static enum knit_transport_result send_bytes(
    struct knit_transport *transport, struct knit_span bytes, size_t *ret_len)
{
    enum knit_transport_result result;
    size_t sent = 0, n;

    do {
        result = send_record(transport->tls, bytes.bytes + sent, record_of(bytes.len - sent), &n);
        sent += n;
    } while (result == KNIT_TRANSPORT_OK && sent < bytes.len && sent < SENT_MAX);
    *ret_len = sent;
    return sent > 0 && result != KNIT_TRANSPORT_BROKEN ? KNIT_TRANSPORT_OK : result;
}

/* What lies in several pieces is put together for its record. */
static enum knit_transport_result send_front(
    struct knit_tls_stream *stream, struct evbuffer *output, size_t *ret_len)
{
    uint8_t together[RECORD_BYTES];
    size_t len = record_of(evbuffer_get_length(output));
    const void *bytes = together;
    enum knit_transport_result result;

    if (evbuffer_get_contiguous_space(output) >= len)
        bytes = evbuffer_pullup(output, (ev_ssize_t)len);
    else
        (void)evbuffer_copyout(output, together, len);
    result = send_record(stream, bytes, len, ret_len);
    (void)evbuffer_drain(output, *ret_len);
    return result;
}

static enum knit_transport_result send_buffer(
    struct knit_transport *transport, struct evbuffer *output, size_t *ret_len)
{
    enum knit_transport_result result;
    size_t sent = 0, n;

    do {
        result = send_front(transport->tls, output, &n);
        sent += n;
    } while (result == KNIT_TRANSPORT_OK && evbuffer_get_length(output) > 0 && sent < SENT_MAX);
    *ret_len = sent;
    return sent > 0 && result != KNIT_TRANSPORT_BROKEN ? KNIT_TRANSPORT_OK : result;
}

static bool pending(const struct knit_transport *transport)
{
    const struct knit_tls_stream *stream = transport->tls;

    return stream->last != KNIT_TRANSPORT_OK ||
           (stream->may_have_more && SSL_has_pending(stream->ssl) == 1);
}

static enum knit_transport_result notify(struct knit_tls_stream *stream)
{
    enum knit_transport_result result;
    int answer;

    if (stream->is_broken || stream->has_notified)
        return KNIT_TRANSPORT_OK;
    begin(stream);
    answer = SSL_shutdown(stream->ssl);
    result = answer >= 0 ? KNIT_TRANSPORT_OK : result_of(stream, answer);
    stream->has_notified = result == KNIT_TRANSPORT_OK;
    return result;
}

static enum knit_transport_result shut_down(struct knit_transport *transport)
{
    enum knit_transport_result result = notify(transport->tls);

    if (result == KNIT_TRANSPORT_WANT_WRITE)
        return result;
    return shutdown(transport->fd, SHUT_WR) == 0 ? KNIT_TRANSPORT_OK : KNIT_TRANSPORT_BROKEN;
}

/* The peer is told if that is possible at once. */
static void close_tls(struct knit_transport *transport)
{
    if (transport->fd < 0)
        return;
    (void)notify(transport->tls);
    knit_tls_stream_free(transport->tls);
    knit_closer_close(NULL, transport->fd);
    transport->fd = -1;
    transport->tls = NULL;
}

static const struct knit_transport_ops tls_ops = {.name = "tls",
    .encrypts = true,
    .receive = receive,
    .send = send_buffer,
    .send_bytes = send_bytes,
    .pending = pending,
    .shut_down = shut_down,
    .close = close_tls};

struct knit_transport knit_transport_tls(int fd, struct knit_tls_stream *stream)
{
    return (struct knit_transport){.ops = &tls_ops, .fd = fd, .tls = stream};
}
