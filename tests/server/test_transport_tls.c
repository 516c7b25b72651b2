/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as a transport, with the library's own client at the other end of a socket: what is held and
 * what ends, writes that are refused and repeated, keys that change, bytes that come one by one.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <knitting/code.h>

#include "server/net/transport_tls.h"
#include "server/tls/tls_context.h"
#include "server/tls/tls_store.h"
#include "server/tls/tls_tickets.h"
#include "tests/support/random.h"
#include "tests/support/scratch.h"

/* One daemon's TLS, and a client that trusts everybody. */
static struct {
    char *dir, *certificate, *key;
    struct knit_tls_tickets tickets;
    struct knit_tls_store store;
    SSL_CTX *client;
} world;

/* Both ends of a connection. */
struct pair {
    struct knit_transport server;
    SSL *client;
    int client_fd;
};

static void write_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    FILE *file;

    assert_non_null(key);
    assert_non_null(certificate);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), 100 * 86400);
    (void)X509_set_pubkey(certificate, key);
    (void)X509_set_version(certificate, X509_VERSION_3);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    file = fopen(world.certificate, "w");
    assert_true(file != NULL && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    file = fopen(world.key, "w");
    assert_true(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
                fclose(file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    static char address[] = "127.0.0.1:0";
    char *listen[] = {address, NULL}, *certificates[2] = {NULL}, *keys[2] = {NULL};
    struct knit_settings settings = {0};
    struct knit_sentence why = {""};
    SSL_CTX *context;

    (void)state;
    world.dir = knit_scratch_new();
    world.certificate = knit_scratch_path(world.dir, "certificate");
    world.key = knit_scratch_path(world.dir, "key");
    write_certificate();
    certificates[0] = world.certificate;
    keys[0] = world.key;
    settings.listen_tls = (struct knit_list){listen, 1, NULL};
    settings.tls_certificate = (struct knit_list){certificates, 1, NULL};
    settings.tls_key = (struct knit_list){keys, 1, NULL};
    assert_int_equal(knit_tls_tickets_init(&world.tickets), 0);
    if (knit_tls_context_new(&settings, &world.tickets, &context, &why) != 0)
        fail_msg("%s", why.text);
    knit_tls_store_init(&world.store);
    knit_tls_store_replace(&world.store, context);
    world.client = SSL_CTX_new(TLS_client_method());
    (void)SSL_CTX_set_mode(
        world.client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(world.client);
    knit_tls_store_fini(&world.store);
    knit_tls_tickets_fini(&world.tickets);
    free(world.certificate);
    free(world.key);
    world.dir = knit_scratch_free(world.dir);
    return 0;
}

static void shake_hands(struct pair *pair, struct knit_tls_stream *stream)
{
    enum knit_transport_result result = KNIT_TRANSPORT_WANT_READ;
    bool is_done = false;

    for (unsigned i = 0; i < 20 && (result != KNIT_TRANSPORT_OK || !is_done); i++) {
        is_done = SSL_do_handshake(pair->client) == 1;
        if (result != KNIT_TRANSPORT_OK)
            result = knit_tls_stream_handshake(stream);
        assert_int_not_equal(result, KNIT_TRANSPORT_BROKEN);
    }
    assert_true(is_done && result == KNIT_TRANSPORT_OK);
}

/* version: of TLS. room: in the sockets' buffers, about; 0 = as usual. */
static struct pair connect_pair(int version, int room)
{
    struct pair pair = {.client = SSL_new(world.client)};
    struct knit_tls_stream *stream;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (unsigned i = 0; room > 0 && i < 2; i++) {
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    }
    pair.client_fd = fds[1];
    (void)SSL_set_min_proto_version(pair.client, version);
    (void)SSL_set_max_proto_version(pair.client, version);
    (void)SSL_set_fd(pair.client, fds[1]);
    SSL_set_connect_state(pair.client);
    stream = knit_tls_stream_new(knit_tls_store_accept(&world.store), fds[0]);
    assert_non_null(stream);
    shake_hands(&pair, stream);
    pair.server = knit_transport_tls(fds[0], stream);
    return pair;
}

static void close_client(struct pair *pair)
{
    SSL_free(pair->client);
    pair->client = NULL;
    if (pair->client_fd >= 0)
        close(pair->client_fd);
    pair->client_fd = -1;
}

static void close_pair(struct pair *pair)
{
    pair->server.ops->close(&pair->server);
    assert_int_equal(pair->server.fd, -1);
    close_client(pair);
}

static void expect_receive(struct pair *pair, size_t room, const char *text)
{
    char bytes[64];
    size_t len = 99;

    assert_true(room <= sizeof(bytes));
    assert_int_equal(knit_transport_receive(&pair->server, bytes, room, &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(bytes, text, len);
}

static void expect_result(struct pair *pair, enum knit_transport_result expected)
{
    char bytes[64];
    size_t len = 99;

    assert_int_equal(
        knit_transport_receive(&pair->server, bytes, sizeof(bytes), &len), (int)expected);
    assert_int_equal(len, 0);
}

static void say(struct pair *pair, const char *text)
{
    assert_int_equal(SSL_write(pair->client, text, (int)strlen(text)), (int)strlen(text));
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

#define EACH_VERSION(version)                                                                      \
    for (size_t version##_i = 0; version##_i < sizeof(versions) / sizeof(versions[0]);             \
         version##_i++)                                                                            \
        for (int version = versions[version##_i], version##_once = 1; version##_once;              \
             version##_once = 0)

/* ---- reading ---- */

static void what_was_read_ahead_is_held(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);

        assert_false(knit_transport_pending(&pair.server));
        say(&pair, "one");
        say(&pair, "two");
        say(&pair, "three");
        expect_receive(&pair, 2, "on");
        assert_true(knit_transport_pending(&pair.server));
        expect_receive(&pair, 3, "etw");
        assert_true(knit_transport_pending(&pair.server));
        expect_receive(&pair, 64, "othree");
        assert_false(knit_transport_pending(&pair.server));
        expect_result(&pair, KNIT_TRANSPORT_WANT_READ);
        close_pair(&pair);
    }
}

/* A peer that sends its bytes in a record each takes the loop no longer than others. */
static void many_small_records_are_received_by_and_by(void **state)
{
    enum { RECORDS = 1000, AT_ONCE = 256 };
    char bytes[2 * RECORDS], *raw;
    size_t total = 0, len;
    long raw_len;

    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);
        BIO *memory = BIO_new(BIO_s_mem());

        SSL_set0_wbio(pair.client, memory);
        for (unsigned i = 0; i < RECORDS; i++)
            say(&pair, "x");
        raw_len = BIO_get_mem_data(memory, &raw);
        assert_int_equal(send(pair.client_fd, raw, (size_t)raw_len, 0), raw_len);
        for (total = 0; total < RECORDS; total += len) {
            assert_int_equal(knit_transport_receive(&pair.server, bytes, sizeof(bytes), &len),
                KNIT_TRANSPORT_OK);
            assert_in_range(len, 1, AT_ONCE);
        }
        assert_int_equal(total, RECORDS);
        expect_result(&pair, KNIT_TRANSPORT_WANT_READ);
        close_pair(&pair);
    }
}

/* Takes what the client has written, as bytes. */
static size_t take_raw(struct pair *pair, const char *text, uint8_t *room, size_t size)
{
    BIO *memory = BIO_new(BIO_s_mem());
    int len;

    SSL_set0_wbio(pair->client, memory);
    if (text != NULL)
        say(pair, text);
    else
        (void)SSL_shutdown(pair->client);
    len = BIO_read(memory, room, (int)size);
    assert_true(len > 0);
    SSL_set0_wbio(pair->client, BIO_new_socket(pair->client_fd, BIO_NOCLOSE));
    return (size_t)len;
}

static void part_of_a_record_is_not_held(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);
        uint8_t bytes[256];
        size_t len;

        say(&pair, "before");
        len = take_raw(&pair, "whole", bytes, sizeof(bytes));
        for (size_t i = 0; i < len; i++) {
            assert_int_equal(send(pair.client_fd, bytes + i, 1, 0), 1);
            if (i == 0)
                expect_receive(&pair, 64, "before");
            else if (i < len - 1)
                expect_result(&pair, KNIT_TRANSPORT_WANT_READ);
            assert_false(knit_transport_pending(&pair.server));
        }
        pair.server.ops->close(&pair.server);
        close_client(&pair);
    }
}

static void the_end_behind_bytes_is_held(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);

        say(&pair, "last words");
        assert_int_equal(SSL_shutdown(pair.client), 0);
        expect_receive(&pair, 64, "last words");
        assert_true(knit_transport_pending(&pair.server));
        expect_result(&pair, KNIT_TRANSPORT_END);
        expect_result(&pair, KNIT_TRANSPORT_END);
        close_pair(&pair);
    }
}

static void an_end_of_the_socket_alone_is_a_break(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);

        say(&pair, "last words");
        assert_int_equal(shutdown(pair.client_fd, SHUT_WR), 0);
        expect_receive(&pair, 64, "last words");
        expect_result(&pair, KNIT_TRANSPORT_BROKEN);
        expect_result(&pair, KNIT_TRANSPORT_BROKEN);
        close_pair(&pair);
    }
}

static void a_changed_byte_is_a_break(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);
        uint8_t bytes[256];
        size_t len = take_raw(&pair, "words", bytes, sizeof(bytes));

        bytes[len - 1] ^= 1;
        assert_int_equal(send(pair.client_fd, bytes, len, 0), (int)len);
        expect_result(&pair, KNIT_TRANSPORT_BROKEN);
        close_pair(&pair);
    }
}

/* ---- writing ---- */

static void one_who_has_gone_raises_no_signal(void **state)
{
    struct knit_span word = knit_span_text("word");
    struct sigaction as_usual = {.sa_handler = SIG_DFL}, before;

    (void)state;
    (void)sigaction(SIGPIPE, &as_usual, &before);
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);
        size_t len;

        close_client(&pair);
        assert_int_equal(
            knit_transport_send_bytes(&pair.server, word, &len), KNIT_TRANSPORT_BROKEN);
        assert_int_equal(len, 0);
        pair.server.ops->close(&pair.server);
    }
    (void)sigaction(SIGPIPE, &before, NULL);
}

static void shutting_down_tells_the_peer_and_reads_on(void **state)
{
    (void)state;
    EACH_VERSION(version)
    {
        struct pair pair = connect_pair(version, 0);
        char byte;

        assert_int_equal(pair.server.ops->shut_down(&pair.server), KNIT_TRANSPORT_OK);
        assert_int_equal(SSL_read(pair.client, &byte, 1), 0);
        assert_int_equal(SSL_get_shutdown(pair.client) & SSL_RECEIVED_SHUTDOWN, 2);
        say(&pair, "late");
        expect_receive(&pair, 64, "late");
        close_pair(&pair);
    }
}

/* What each side has still to say, and to hear, of one stream of bytes. */
struct flow {
    struct knit_random random;
    uint8_t *bytes;
    size_t len, given, sent, heard;
};

static void drop_piece(const void *bytes, size_t len, void *arg)
{
    (void)len, (void)arg;
    free((void *)(uintptr_t)bytes);
}

/* More of it is put into the buffer, in pieces of all kinds. */
static void give(struct flow *flow, struct evbuffer *output)
{
    size_t len = knit_random_below(&flow->random, 60000);
    uint8_t *copy;

    if (len > flow->len - flow->given)
        len = flow->len - flow->given;
    if (len == 0)
        return;
    if (knit_random_chance(&flow->random, 2)) {
        assert_int_equal(evbuffer_add(output, flow->bytes + flow->given, len), 0);
    } else {
        copy = malloc(len);
        memcpy(copy, flow->bytes + flow->given, len);
        assert_int_equal(evbuffer_add_reference(output, copy, len, drop_piece, NULL), 0);
    }
    flow->given += len;
}

static void hear(SSL *client, struct flow *flow)
{
    uint8_t room[7000];
    int n = SSL_read(client, room, (int)(1 + knit_random_below(&flow->random, sizeof(room))));

    ERR_clear_error();
    if (n <= 0)
        return;
    assert_memory_equal(room, flow->bytes + flow->heard, (size_t)n);
    flow->heard += (size_t)n;
}

static void say_more(SSL *client, struct flow *flow)
{
    size_t len = flow->len - flow->sent, done = 0;

    if (len == 0)
        return;
    if (SSL_write_ex(client, flow->bytes + flow->sent, len, &done) == 1)
        flow->sent += done;
    ERR_clear_error();
}

static void receive_more(struct knit_transport *server, struct flow *flow)
{
    uint8_t room[20000];
    size_t len;
    enum knit_transport_result result = knit_transport_receive(
        server, room, 1 + knit_random_below(&flow->random, sizeof(room)), &len);

    assert_true(result == KNIT_TRANSPORT_OK || result == KNIT_TRANSPORT_WANT_READ ||
                result == KNIT_TRANSPORT_WANT_WRITE);
    if (len > 0)
        assert_memory_equal(room, flow->bytes + flow->heard, len);
    flow->heard += len;
}

/* Both directions at once, through buffers that hold little, with what was refused repeated when
 * there is more of it. changes_keys: each MiB has its new keys, asked for at any moment. */
static void flow_both_ways(int version, bool changes_keys)
{
    struct pair pair = connect_pair(version, 4096);
    struct evbuffer *output = evbuffer_new();
    struct flow in = {.len = 3 << 20}, out = {.len = 3 << 20};
    unsigned changes = 0;
    size_t len;

    knit_random_init(&in.random);
    knit_random_init_seeded(&out.random, in.random.seed + 1);
    in.bytes = malloc(in.len);
    out.bytes = malloc(out.len);
    knit_random_bytes(&in.random, in.bytes, in.len);
    knit_random_bytes(&out.random, out.bytes, out.len);
    while (in.heard < in.len || out.heard < out.len) {
        if (changes_keys && in.heard / (in.len / 20) > changes) {
            changes++;
            (void)SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED);
        }
        if (knit_random_chance(&in.random, 3))
            give(&out, output);
        if (knit_random_chance(&in.random, 2))
            say_more(pair.client, &in);
        if (evbuffer_get_length(output) > 0)
            assert_int_not_equal(
                knit_transport_send(&pair.server, output, &len), KNIT_TRANSPORT_BROKEN);
        receive_more(&pair.server, &in);
        if (knit_random_chance(&in.random, 2))
            hear(pair.client, &out);
    }
    assert_true(!changes_keys || changes >= 19);
    evbuffer_free(output);
    free(in.bytes);
    free(out.bytes);
    close_pair(&pair);
}

static void bytes_of_both_ways_are_whole_though_writes_are_refused(void **state)
{
    (void)state;
    EACH_VERSION(version)
    flow_both_ways(version, false);
}

static void keys_change_meanwhile(void **state)
{
    (void)state;
    flow_both_ways(TLS1_3_VERSION, true);
}

/* ---- too much of it ---- */

static void one_that_changes_keys_without_end_is_left(void **state)
{
    struct pair pair = connect_pair(TLS1_3_VERSION, 0);
    enum knit_transport_result result = KNIT_TRANSPORT_WANT_READ;
    char bytes[64];
    unsigned changes = 0;
    size_t len;

    (void)state;
    while (result == KNIT_TRANSPORT_WANT_READ) {
        assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(pair.client), 1);
        changes++;
        result = knit_transport_receive(&pair.server, bytes, sizeof(bytes), &len);
    }
    assert_int_equal(result, KNIT_TRANSPORT_BROKEN);
    assert_int_equal(changes, 33);
    close_pair(&pair);
}

/* All of them are there at once. */
static void one_that_has_changed_them_a_thousand_times_is_left_at_once(void **state)
{
    struct pair pair = connect_pair(TLS1_3_VERSION, 0);
    BIO *memory = BIO_new(BIO_s_mem());
    char *raw;
    long len;

    (void)state;
    SSL_set0_wbio(pair.client, memory);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(SSL_key_update(pair.client, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(pair.client), 1);
    }
    len = BIO_get_mem_data(memory, &raw);
    assert_int_equal(send(pair.client_fd, raw, (size_t)len, 0), len);
    expect_result(&pair, KNIT_TRANSPORT_BROKEN);
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_ahead_is_held),
        cmocka_unit_test(many_small_records_are_received_by_and_by),
        cmocka_unit_test(part_of_a_record_is_not_held),
        cmocka_unit_test(the_end_behind_bytes_is_held),
        cmocka_unit_test(an_end_of_the_socket_alone_is_a_break),
        cmocka_unit_test(a_changed_byte_is_a_break),
        cmocka_unit_test(one_who_has_gone_raises_no_signal),
        cmocka_unit_test(shutting_down_tells_the_peer_and_reads_on),
        cmocka_unit_test(bytes_of_both_ways_are_whole_though_writes_are_refused),
        cmocka_unit_test(keys_change_meanwhile),
        cmocka_unit_test(one_that_changes_keys_without_end_is_left),
        cmocka_unit_test(one_that_has_changed_them_a_thousand_times_is_left_at_once),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
