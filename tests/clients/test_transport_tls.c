/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the kind of transport that encrypts moves all bytes whatever the socket does, trusts whom
 * it may trust and says in words why not, and resumes only under the same trust. Method: a server
 * on the same thread, whose bytes go as far as the test lets them.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/tls.h"
#include "clients/lib/transport.h"
#include "tests/clients/tls_server.h"
#include "tests/support/scratch.h"

enum { ROUNDS_MAX = 100000, LONG = 100000 };

static char *dir;
static struct identity *authority, *stranger, *host, *caller;

static struct tls_server server = {.fd = -1};
static struct knit_transport transport;
static struct knit_tls *tls;
static struct knit_error error;

static struct knit_url url_of(const char *name)
{
    struct knit_url url;
    const char *reason;
    char text[300];

    (void)snprintf(text, sizeof(text), "knits://%s", name);
    assert_int_equal(knit_url_parse(text, &url, &reason), 0);
    return url;
}

static int make_identities(void **state)
{
    (void)state;
    dir = knit_scratch_new();
    authority = identity_new(
        dir, &(struct identity_wish){.name = "authority", .is_authority = true, .to_days = 9});
    stranger = identity_new(
        dir, &(struct identity_wish){.name = "stranger", .is_authority = true, .to_days = 9});
    host = identity_new(dir, &(struct identity_wish){.name = "host",
                                 .issuer = authority,
                                 .names = "DNS:localhost,IP:127.0.0.1",
                                 .usage = "serverAuth",
                                 .to_days = 9});
    caller = identity_new(
        dir, &(struct identity_wish){
                 .name = "caller", .issuer = authority, .usage = "clientAuth", .to_days = 9});
    return 0;
}

static int free_identities(void **state)
{
    (void)state;
    authority = identity_free(authority);
    stranger = identity_free(stranger);
    host = identity_free(host);
    caller = identity_free(caller);
    dir = knit_scratch_free(dir);
    return 0;
}

static struct knit_tls *trust(const struct knit_tls_options *options)
{
    struct knit_tls *made = NULL;

    if (knit_tls_new(options, &made, &error) != KNIT_OK)
        fail_msg("%s", error.message);
    return made;
}

static struct knit_tls *trust_authority(void)
{
    return trust(&(struct knit_tls_options){.ca_file = authority->certificate_path});
}

/* A connection to be shaken hands on; takes over the context. */
static void connect_to(SSL_CTX *context, struct knit_tls *with, const char *name)
{
    struct knit_url url = url_of(name);
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    tls_server_begin(&server, context, pair[1]);
    SSL_CTX_free(context);
    knit_transport_init_plain(&transport, pair[0]);
    if (knit_transport_begin_tls(&transport, with, &url, &error) != KNIT_OK)
        fail_msg("%s", error.message);
}

static void disconnect(void)
{
    if (server.ssl != NULL)
        tls_server_end(&server);
    if (transport.kind != NULL)
        knit_transport_fini(&transport);
    transport.kind = NULL;
}

static int end(void **state)
{
    (void)state;
    disconnect();
    tls = knit_tls_free(tls);
    return 0;
}

/* Until the client has something to say other than that it waits, or both wait for each other. */
static enum knit_transport_result receive(void *room, size_t max, size_t *ret_len, size_t step)
{
    enum knit_transport_result result = KNIT_TRANSPORT_WANT_READ;
    size_t given = 1;

    *ret_len = 0;
    for (int i = 0; i < ROUNDS_MAX && result == KNIT_TRANSPORT_WANT_READ && given > 0; i++) {
        result = knit_transport_receive(&transport, room, max, ret_len);
        tls_server_turn(&server);
        given = tls_server_give(&server, step);
        if (result == KNIT_TRANSPORT_WANT_READ && given > 0)
            result = knit_transport_receive(&transport, room, max, ret_len);
    }
    return result;
}

static void shake_hands(void)
{
    char room[1];
    size_t len;

    if (receive(room, sizeof(room), &len, SIZE_MAX) != KNIT_TRANSPORT_WANT_READ)
        fail_msg("%s", knit_transport_reason(&transport));
    assert_true(SSL_is_init_finished(server.ssl));
}

static void begin_trusted(void)
{
    tls = trust_authority();
    connect_to(tls_server_context(host, "knit/1"), tls, "localhost");
}

/* ---- bytes ---- */

static void bytes_come_whole_in_pieces_of_one(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    char room[64];
    size_t len, got = 0;

    (void)state;
    tls = trust_authority();
    for (size_t i = 0; i < 2; i++) {
        SSL_CTX *context = tls_server_context(host, "knit/1");

        assert_int_equal(SSL_CTX_set_max_proto_version(context, versions[i]), 1);
        connect_to(context, tls, "localhost");
        assert_int_equal(receive(room, sizeof(room), &len, 1), KNIT_TRANSPORT_WANT_READ);
        assert_true(SSL_is_init_finished(server.ssl));
        assert_int_equal(SSL_version(server.ssl), versions[i]);
        for (const char *at = "hello"; *at != '\0'; at++)
            tls_server_write(&server, at, 1);
        for (got = 0; got < 5; got += len)
            assert_int_equal(receive(room + got, 1, &len, 1), KNIT_TRANSPORT_OK);
        assert_memory_equal(room, "hello", 5);
        assert_int_equal(knit_transport_send(&transport, "back", 4, &len), KNIT_TRANSPORT_OK);
        assert_int_equal(tls_server_read(&server, room, sizeof(room)), 4);
        assert_memory_equal(room, "back", 4);
        disconnect();
    }
}

/* The descriptor is silent: what is inside has to be told. */
static void records_that_came_together_are_pending_until_they_are_read(void **state)
{
    struct pollfd item = {.events = POLLIN};
    char room[8];
    size_t len, half;

    (void)state;
    begin_trusted();
    shake_hands();
    tls_server_write(&server, "ab", 2);
    tls_server_write(&server, "cd", 2);
    tls_server_write(&server, "ef", 2);
    half = tls_server_has(&server) / 3;
    (void)tls_server_give(&server, half * 2 + half / 2);
    for (const char *at = "abcd"; *at != '\0'; at++) {
        assert_int_equal(knit_transport_receive(&transport, room, 1, &len), KNIT_TRANSPORT_OK);
        assert_int_equal(len, 1);
        assert_int_equal(room[0], *at);
        assert_true(knit_transport_has_pending(&transport));
        item.fd = transport.fd;
        assert_int_equal(poll(&item, 1, 0), 0);
    }
    /* A part of a record is not. */
    assert_int_equal(
        knit_transport_receive(&transport, room, sizeof(room), &len), KNIT_TRANSPORT_WANT_READ);
    assert_false(knit_transport_has_pending(&transport));
    assert_true(tls_server_give(&server, SIZE_MAX) > 0);
    assert_int_equal(
        knit_transport_receive(&transport, room, sizeof(room), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, 2);
    assert_false(knit_transport_has_pending(&transport));
}

/* Its own bytes must come again, from wherever they lie by then; to the stream they are sent. */
static void what_a_full_socket_does_not_take_is_sent_later(void **state)
{
    int size = 1, stuck = 0;
    uint8_t *bytes = malloc(LONG), *come = malloc(LONG), *moved = malloc(LONG);
    size_t sent = 0, got = 0, len;

    (void)state;
    assert_true(bytes != NULL && come != NULL && moved != NULL);
    for (size_t i = 0; i < LONG; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    begin_trusted();
    shake_hands();
    assert_int_equal(setsockopt(transport.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    for (int i = 0; i < ROUNDS_MAX && (sent < LONG || transport.unsent != 0); i++) {
        memcpy(moved, bytes + sent, LONG - sent);
        switch (knit_transport_send(&transport, moved, LONG - sent, &len)) {
        case KNIT_TRANSPORT_OK:
            sent += len;
            break;
        case KNIT_TRANSPORT_WANT_WRITE:
            stuck++;
            got += tls_server_read(&server, come + got, LONG - got);
            break;
        case KNIT_TRANSPORT_WANT_READ:
        case KNIT_TRANSPORT_END:
        case KNIT_TRANSPORT_BROKEN:
            fail_msg("%s", knit_transport_reason(&transport));
        }
        memset(moved, 0, LONG);
    }
    got += tls_server_read(&server, come + got, LONG - got);
    assert_true(stuck > 0);
    assert_int_equal(got, LONG);
    assert_memory_equal(come, bytes, LONG);
    free(bytes);
    free(come);
    free(moved);
}

/* Before the handshake is over nothing is taken, so it is certain that nothing was sent. */
static void nothing_counts_as_sent_before_the_handshake(void **state)
{
    size_t len = 0;

    (void)state;
    begin_trusted();
    assert_int_equal(knit_transport_send(&transport, "abc", 3, &len), KNIT_TRANSPORT_WANT_READ);
    assert_int_equal(len, 0);
    assert_int_equal(transport.unsent, 0);
}

/* A server that sends what is no data, and nothing else, keeps nobody in a receive; and the data
 * behind it comes. */
static void new_keys_do_not_hold_the_reader(void **state)
{
    enum knit_transport_result result = KNIT_TRANSPORT_WANT_READ;
    struct pollfd item = {.events = POLLIN};
    char room[8];
    size_t len = 0;
    int calls = 0;

    (void)state;
    begin_trusted();
    shake_hands();
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(SSL_key_update(server.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(server.ssl), 1);
    }
    tls_server_write(&server, "x", 1);
    (void)tls_server_give(&server, SIZE_MAX);
    for (; result == KNIT_TRANSPORT_WANT_READ && calls < 100; calls++) {
        item.fd = transport.fd;
        assert_int_equal(poll(&item, 1, 0), 1);
        result = knit_transport_receive(&transport, room, sizeof(room), &len);
    }
    assert_int_equal(result, KNIT_TRANSPORT_OK);
    assert_int_equal(len, 1);
    assert_true(calls > 1);
}

/* ---- the end ---- */

static void only_a_farewell_is_an_end(void **state)
{
    char room[8];
    size_t len;

    (void)state;
    begin_trusted();
    shake_hands();
    tls_server_write(&server, "x", 1);
    (void)SSL_shutdown(server.ssl);
    (void)tls_server_give(&server, SIZE_MAX);
    assert_int_equal(
        knit_transport_receive(&transport, room, sizeof(room), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, 1);
    assert_true(knit_transport_has_pending(&transport));
    assert_int_equal(
        knit_transport_receive(&transport, room, sizeof(room), &len), KNIT_TRANSPORT_END);
}

/* Within headers and records of what the server says. */
static void a_cut_is_no_end_wherever_it_comes(void **state)
{
    enum knit_transport_result result;
    char room[64];
    size_t len, whole = 0;

    (void)state;
    tls = trust_authority();
    for (size_t cut = 0; cut == 0 || cut < whole; cut += 3) {
        size_t given = 0, step = 1;

        connect_to(tls_server_context(host, "knit/1"), tls, "localhost");
        for (int i = 0; i < 6 && step > 0; i++) {
            result = knit_transport_receive(&transport, room, sizeof(room), &len);
            tls_server_turn(&server);
            if (result == KNIT_TRANSPORT_WANT_READ && SSL_is_init_finished(server.ssl) && i > 3)
                tls_server_write(&server, "x", 1);
            step = tls_server_give(&server, whole == 0 ? SIZE_MAX : cut - given);
            given += step;
        }
        if (whole == 0)
            whole = given;
        (void)shutdown(server.fd, SHUT_RDWR);
        do
            result = knit_transport_receive(&transport, room, sizeof(room), &len);
        while (result == KNIT_TRANSPORT_OK);
        assert_int_equal(result, KNIT_TRANSPORT_BROKEN);
        assert_int_equal(transport.refusal, 0);
        if (strstr(knit_transport_reason(&transport), "the connection ") == NULL)
            fail_msg("at %zu: %s", cut, knit_transport_reason(&transport));
        disconnect();
    }
    assert_true(whole > 500);
}

/* The signal would end this program. */
static void sending_to_nobody_raises_no_signal(void **state)
{
    enum knit_transport_result result = KNIT_TRANSPORT_OK;
    size_t len;

    (void)state;
    begin_trusted();
    shake_hands();
    (void)signal(SIGPIPE, SIG_DFL);
    tls_server_end(&server);
    for (int i = 0; i < 3 && result != KNIT_TRANSPORT_BROKEN; i++)
        result = knit_transport_send(&transport, "x", 1, &len);
    assert_int_equal(result, KNIT_TRANSPORT_BROKEN);
    knit_transport_shut_down(&transport);
}

/* ---- whom it trusts ---- */

/* Ends with a refusal of that code, whose sentence has the words. */
static void is_refused(SSL_CTX *context, const char *name, int code, const char *words)
{
    char room[8];
    size_t len;

    connect_to(context, tls, name);
    assert_int_equal(receive(room, sizeof(room), &len, SIZE_MAX), KNIT_TRANSPORT_BROKEN);
    if (strstr(knit_transport_reason(&transport), words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, knit_transport_reason(&transport));
    assert_int_equal(transport.refusal, code);
    assert_int_equal(knit_transport_send(&transport, "x", 1, &len), KNIT_TRANSPORT_BROKEN);
    assert_int_equal(len, 0);
    disconnect();
}

static void a_certificate_that_does_not_fit_is_refused_in_words(void **state)
{
    const struct {
        struct identity_wish wish;
        const char *name, *words;
    } cases[] = {
        {{.names = "DNS:localhost", .from_days = -9, .to_days = -1}, "localhost", "has expired"},
        {{.names = "DNS:localhost", .from_days = 5, .to_days = 9}, "localhost", "has not come"},
        {{.names = "DNS:a.example,DNS:b.example", .to_days = 9}, "localhost",
            "another name than 'localhost'; it has: a.example, b.example"},
        {{.names = "DNS:localhost,IP:10.0.0.1", .to_days = 9}, "127.0.0.1",
            "'127.0.0.1'; it has: localhost, 10.0.0.1"},
        {{.names = "DNS:127.0.0.1", .to_days = 9}, "127.0.0.1", "another name"},
        {{.names = "DNS:*.a.example", .to_days = 9}, "c.b.a.example", "another name"},
        {{.names = "DNS:b*.a.example", .to_days = 9}, "bc.a.example", "another name"},
        {{.to_days = 9}, "wish", "it has: none"},
        /* A name, and an address of one byte. */
        {{.names = "DER:30:06:82:01:61:87:01:7f", .to_days = 9}, "localhost", "it has: a, ?"},
        {{.names = "DNS:localhost", .usage = "clientAuth", .to_days = 9}, "localhost",
            "unsuitable certificate purpose"},
    };

    (void)state;
    tls = trust_authority();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct identity_wish wish = cases[i].wish;
        struct identity *identity;

        wish.name = "wish";
        wish.issuer = authority;
        identity = identity_new(dir, &wish);
        is_refused(tls_server_context(identity, "knit/1"), cases[i].name, KNIT_UNAUTHENTICATED,
            cases[i].words);
        (void)identity_free(identity);
    }
}

static void a_certificate_that_fits_is_trusted(void **state)
{
    const struct {
        const char *names, *name;
    } cases[] = {{"DNS:localhost", "localhost"}, {"DNS:localhost", "LocalHost"},
        {"DNS:localhost", "localhost."}, {"IP:127.0.0.1", "127.0.0.1"}, {"IP:::1", "[::1]"},
        {"DNS:*.a.example", "b.a.example"}};

    (void)state;
    tls = trust_authority();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct identity *identity = identity_new(
            dir, &(struct identity_wish){
                     .name = "fits", .issuer = authority, .names = cases[i].names, .to_days = 9});
        const char *sent;

        connect_to(tls_server_context(identity, "knit/1"), tls, cases[i].name);
        shake_hands();
        sent = SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name);
        assert_int_equal(sent != NULL, strncmp(cases[i].names, "DNS", 3) == 0);
        disconnect();
        (void)identity_free(identity);
    }
}

static void an_unknown_authority_is_refused(void **state)
{
    (void)state;
    tls = trust(&(struct knit_tls_options){.ca_file = stranger->certificate_path});
    is_refused(tls_server_context(host, "knit/1"), "localhost", KNIT_UNAUTHENTICATED,
        "not trusted: /CN=authority");
    (void)knit_tls_free(tls);
    tls = trust(NULL);
    is_refused(tls_server_context(host, "knit/1"), "localhost", KNIT_UNAUTHENTICATED,
        "not trusted: /CN=authority");
}

static void a_pin_stands_beside_the_verification_or_in_its_place(void **state)
{
    char *right = identity_pin(host), *wrong = identity_pin(caller), both[128];

    (void)state;
    (void)snprintf(both, sizeof(both), "%s;%s", wrong, right);
    tls = trust(&(struct knit_tls_options){.ca_file = authority->certificate_path, .pin = both});
    connect_to(tls_server_context(host, "knit/1"), tls, "localhost");
    shake_hands();
    disconnect();
    is_refused(
        tls_server_context(host, "knit/1"), "elsewhere", KNIT_UNAUTHENTICATED, "another name");
    (void)knit_tls_free(tls);
    tls = trust(&(struct knit_tls_options){.ca_file = authority->certificate_path, .pin = wrong});
    is_refused(tls_server_context(host, "knit/1"), "localhost", KNIT_UNAUTHENTICATED,
        "key is not the pinned one");
    (void)knit_tls_free(tls);
    tls = trust(&(struct knit_tls_options){.pin = right, .pin_only = true});
    connect_to(tls_server_context(host, "knit/1"), tls, "elsewhere");
    shake_hands();
    disconnect();
    (void)knit_tls_free(tls);
    tls = trust(&(struct knit_tls_options){.pin = wrong, .pin_only = true});
    is_refused(tls_server_context(host, "knit/1"), "elsewhere", KNIT_UNAUTHENTICATED,
        "key is not the pinned one");
    free(right);
    free(wrong);
}

static void another_protocol_is_refused(void **state)
{
    (void)state;
    tls = trust_authority();
    is_refused(
        tls_server_context(host, "h2"), "localhost", KNIT_DISCONNECTED, "not the protocol knit/1");
    is_refused(tls_server_context(host, NULL), "localhost", KNIT_DISCONNECTED, "(ALPN)");
}

static void a_server_without_tls_is_named(void **state)
{
    char room[8];
    size_t len;

    (void)state;
    begin_trusted();
    assert_int_equal(send(server.fd, "\x94\x01\x00\xc0\xc0zzzzzzzzzz", 15, 0), 15);
    assert_int_equal(
        knit_transport_receive(&transport, room, sizeof(room), &len), KNIT_TRANSPORT_BROKEN);
    assert_non_null(strstr(knit_transport_reason(&transport), "begins with knit://"));
    assert_int_equal(transport.refusal, KNIT_DISCONNECTED);
}

/* ---- who the caller is ---- */

static SSL_CTX *asking_context(int version)
{
    SSL_CTX *context = tls_server_context(host, "knit/1");

    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    assert_int_equal(SSL_CTX_load_verify_file(context, authority->certificate_path), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(context, version), 1);
    return context;
}

static void the_callers_certificate_is_shown(void **state)
{
    struct knit_tls_options options = {.ca_file = authority->certificate_path,
        .certificate_file = caller->certificate_path,
        .key_file = caller->key_path};

    (void)state;
    tls = trust(&options);
    connect_to(asking_context(TLS1_3_VERSION), tls, "localhost");
    shake_hands();
    assert_int_equal(X509_cmp(SSL_get0_peer_certificate(server.ssl), caller->certificate), 0);
}

/* By TLS 1.3 the handshake is over for the caller by then. */
static void a_server_that_refuses_the_caller_is_named(void **state)
{
    struct knit_tls_options options = {.ca_file = authority->certificate_path,
        .certificate_file = stranger->certificate_path,
        .key_file = stranger->key_path};

    (void)state;
    tls = trust_authority();
    is_refused(
        asking_context(TLS1_3_VERSION), "localhost", KNIT_UNAUTHENTICATED, "wants a certificate");
    is_refused(asking_context(TLS1_2_VERSION), "localhost", KNIT_UNAUTHENTICATED, "no certificate");
    (void)knit_tls_free(tls);
    tls = trust(&options);
    is_refused(asking_context(TLS1_3_VERSION), "localhost", KNIT_UNAUTHENTICATED,
        "the server refuses this caller's certificate");
}

static void options_that_cannot_be_used_are_named(void **state)
{
    char *none = knit_scratch_path(dir, "none"), *empty = knit_scratch_file(dir, "empty", "x", 1);
    char *pin = identity_pin(host), short_pin[64], *encrypted = knit_scratch_path(dir, "secret");
    char *fifo = knit_scratch_path(dir, "fifo");
    BIO *secret = BIO_new_file(encrypted, "w");
    const struct {
        struct knit_tls_options options;
        const char *words;
    } cases[] = {
        {{.ca_file = none}, "none\": No such file"},
        {{.ca_file = empty}, "empty\": no certificate or crl"},
        {{.ca_file = fifo}, "fifo\": it is a pipe; expected a regular file"},
        {{.certificate_file = fifo}, "cannot use the certificate"},
        {{.certificate_file = caller->certificate_path, .key_file = fifo}, "cannot use the key"},
        {{.certificate_file = none}, "cannot use the certificate"},
        {{.certificate_file = caller->certificate_path}, ": it has none in PEM"},
        {{.certificate_file = caller->certificate_path, .key_file = none}, "No such file"},
        {{.certificate_file = caller->certificate_path, .key_file = host->key_path},
            "it is not that of the certificate"},
        {{.certificate_file = caller->certificate_path, .key_file = encrypted}, "is encrypted"},
        {{.key_file = caller->key_path}, "without its certificate"},
        {{.pin_only = true}, "none is given"},
        {{.pin = ""}, "is none"},
        {{.pin = "sha256//abc"}, "is none"},
        {{.pin = short_pin}, "is none"},
        {{.reserved = {1}}, "reserved"},
    };

    (void)state;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    (void)snprintf(short_pin, sizeof(short_pin), "%s;", pin);
    assert_int_equal(PEM_write_bio_PrivateKey(
                         secret, caller->key, EVP_aes_256_cbc(), NULL, 0, NULL, (void *)"word"),
        1);
    BIO_free(secret);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(knit_tls_new(&cases[i].options, &tls, &error), KNIT_BAD_ARGUMENT);
        if (strstr(error.message, cases[i].words) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", cases[i].words, error.message);
    }
    tls = NULL;
    free(none);
    free(empty);
    free(encrypted);
    free(fifo);
    free(pin);
}

/* ---- resuming ---- */

/* Whether a connection to that name was resumed. */
static bool is_resumed(SSL_CTX *context, struct knit_tls *with, const char *name)
{
    bool resumed;

    assert_int_equal(SSL_CTX_up_ref(context), 1);
    connect_to(context, with, name);
    shake_hands();
    resumed = SSL_session_reused(server.ssl) == 1;
    disconnect();
    return resumed;
}

static void a_connection_is_resumed_with_the_same_server_alone(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        SSL_CTX *context = tls_server_context(host, "knit/1");

        assert_int_equal(SSL_CTX_set_max_proto_version(context, versions[i]), 1);
        tls = trust_authority();
        assert_false(is_resumed(context, tls, "localhost"));
        assert_true(is_resumed(context, tls, "localhost"));
        assert_false(is_resumed(context, tls, "127.0.0.1"));
        assert_false(is_resumed(context, tls, "localhost:1"));
        tls = knit_tls_free(tls);
        SSL_CTX_free(context);
    }
}

static void a_ticket_is_used_once(void **state)
{
    SSL_CTX *context = tls_server_context(host, "knit/1");

    (void)state;
    tls = trust_authority();
    assert_false(is_resumed(context, tls, "localhost"));
    assert_int_equal(SSL_CTX_set_num_tickets(context, 0), 1);
    assert_true(is_resumed(context, tls, "localhost"));
    assert_false(is_resumed(context, tls, "localhost"));
    SSL_CTX_free(context);
}

/* Resumed, it would be let in, since there is no chain to verify. */
static void another_trust_resumes_nothing(void **state)
{
    SSL_CTX *context = tls_server_context(host, "knit/1");
    size_t len;
    char *path = knit_scratch_file(dir, "trusted", "", 0), *text, room[8];

    (void)state;
    text = knit_scratch_read(authority->certificate_path, &len);
    free(path);
    path = knit_scratch_file(dir, "trusted", text, len);
    free(text);
    tls = trust(&(struct knit_tls_options){.ca_file = path});
    assert_false(is_resumed(context, tls, "localhost"));
    assert_true(is_resumed(context, tls, "localhost"));
    free(path);
    text = knit_scratch_read(stranger->certificate_path, &len);
    path = knit_scratch_file(dir, "trusted", text, len);
    free(text);
    connect_to(context, tls, "localhost");
    assert_int_equal(receive(room, sizeof(room), &len, SIZE_MAX), KNIT_TRANSPORT_BROKEN);
    assert_non_null(strstr(knit_transport_reason(&transport), "not trusted"));
    free(path);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_teardown(test, end)
    const struct CMUnitTest tests[] = {
        CASE(bytes_come_whole_in_pieces_of_one),
        CASE(records_that_came_together_are_pending_until_they_are_read),
        CASE(what_a_full_socket_does_not_take_is_sent_later),
        CASE(nothing_counts_as_sent_before_the_handshake),
        CASE(new_keys_do_not_hold_the_reader),
        CASE(only_a_farewell_is_an_end),
        CASE(a_cut_is_no_end_wherever_it_comes),
        CASE(sending_to_nobody_raises_no_signal),
        CASE(a_certificate_that_does_not_fit_is_refused_in_words),
        CASE(a_certificate_that_fits_is_trusted),
        CASE(an_unknown_authority_is_refused),
        CASE(a_pin_stands_beside_the_verification_or_in_its_place),
        CASE(another_protocol_is_refused),
        CASE(a_server_without_tls_is_named),
        CASE(the_callers_certificate_is_shown),
        CASE(a_server_that_refuses_the_caller_is_named),
        CASE(options_that_cannot_be_used_are_named),
        CASE(a_connection_is_resumed_with_the_same_server_alone),
        CASE(a_ticket_is_used_once),
        CASE(another_trust_resumes_nothing),
    };

    return cmocka_run_group_tests_name("transport_tls", tests, make_identities, free_identities);
}
