/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side of OpenSSL reads and writes memory. What is moved between that and the socket
 * is the test's to say, byte by byte if need be. */
#include "tests/clients/tls_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tests/support/scratch.h"

static void add_extension(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static char *write_file(const char *dir, const char *name, const char *kind, BIO *from)
{
    char file[64], *bytes;
    long len = BIO_get_mem_data(from, &bytes);
    char *path;

    (void)snprintf(file, sizeof(file), "%s.%s", name, kind);
    path = knit_scratch_file(dir, file, bytes, (size_t)len);
    BIO_free(from);
    return path;
}

struct identity *identity_new(const char *dir, const struct identity_wish *wish)
{
    static long serial = 1;
    struct identity *identity = calloc(1, sizeof(*identity));
    const struct identity *issuer = wish->issuer != NULL ? wish->issuer : identity;
    BIO *certificate = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());
    X509_NAME *name;
    X509 *made = X509_new();

    assert_non_null(identity);
    identity->key = EVP_EC_gen("P-256");
    identity->certificate = made;
    assert_true(identity->key != NULL && made != NULL);
    assert_int_equal(X509_set_version(made, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(made), serial++), 1);
    name = X509_get_subject_name(made);
    assert_int_equal(X509_NAME_add_entry_by_txt(
                         name, "CN", MBSTRING_ASC, (const unsigned char *)wish->name, -1, -1, 0),
        1);
    assert_int_equal(X509_set_issuer_name(made, X509_get_subject_name(issuer->certificate)), 1);
    assert_non_null(X509_time_adj_ex(X509_getm_notBefore(made), wish->from_days, -60, NULL));
    assert_non_null(X509_time_adj_ex(X509_getm_notAfter(made), wish->to_days, 0, NULL));
    assert_int_equal(X509_set_pubkey(made, identity->key), 1);
    add_extension(made, issuer->certificate, NID_basic_constraints,
        wish->is_authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (wish->names != NULL)
        add_extension(made, issuer->certificate, NID_subject_alt_name, wish->names);
    if (wish->usage != NULL)
        add_extension(made, issuer->certificate, NID_ext_key_usage, wish->usage);
    assert_true(X509_sign(made, issuer->key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(certificate, made), 1);
    assert_int_equal(PEM_write_bio_PrivateKey(key, identity->key, NULL, NULL, 0, NULL, NULL), 1);
    identity->certificate_path = write_file(dir, wish->name, "crt", certificate);
    identity->key_path = write_file(dir, wish->name, "key", key);
    return identity;
}

struct identity *identity_free(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    free(identity->certificate_path);
    free(identity->key_path);
    free(identity);
    return NULL;
}

char *identity_pin(const struct identity *identity)
{
    uint8_t digest[32], *key = NULL;
    char encoded[64], *pin = calloc(1, 80);
    int len = i2d_PUBKEY(identity->key, &key);

    assert_true(len > 0 && pin != NULL);
    assert_int_equal(EVP_Digest(key, (size_t)len, digest, NULL, EVP_sha256(), NULL), 1);
    (void)EVP_EncodeBlock((unsigned char *)encoded, digest, sizeof(digest));
    (void)snprintf(pin, 80, "sha256//%s", encoded);
    OPENSSL_free(key);
    return pin;
}

/* ---- the server ---- */

static int choose_protocol(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
    const unsigned char *offered, unsigned len, void *arg)
{
    const char *protocol = arg;

    (void)ssl;
    for (unsigned at = 0; at < len; at += offered[at] + 1u) {
        if (offered[at] == strlen(protocol) &&
            memcmp(offered + at + 1, protocol, offered[at]) == 0) {
            *ret = offered + at + 1;
            *ret_len = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

SSL_CTX *tls_server_context(const struct identity *identity, const char *protocol)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    assert_non_null(context);
    assert_int_equal(SSL_CTX_use_certificate(context, identity->certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, identity->key), 1);
    assert_int_equal(SSL_CTX_set_session_id_context(context, (const unsigned char *)"t", 1), 1);
    assert_int_equal(SSL_CTX_set_num_tickets(context, 1), 1);
    if (protocol != NULL)
        SSL_CTX_set_alpn_select_cb(context, choose_protocol, (void *)(uintptr_t)protocol);
    return context;
}

void tls_server_begin(struct tls_server *server, SSL_CTX *context, int fd)
{
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    *server = (struct tls_server){.context = context, .ssl = SSL_new(context), .fd = fd};
    assert_true(server->ssl != NULL && in != NULL && out != NULL);
    SSL_set_bio(server->ssl, in, out);
    SSL_set_accept_state(server->ssl);
}

void tls_server_end(struct tls_server *server)
{
    SSL_free(server->ssl);
    if (server->fd >= 0)
        (void)close(server->fd);
    *server = (struct tls_server){.fd = -1};
}

void tls_server_turn(struct tls_server *server)
{
    char room[4096];
    ssize_t n;

    while ((n = recv(server->fd, room, sizeof(room), MSG_DONTWAIT)) > 0)
        assert_int_equal(BIO_write(SSL_get_rbio(server->ssl), room, (int)n), n);
    ERR_clear_error();
    if (!SSL_is_init_finished(server->ssl))
        (void)SSL_do_handshake(server->ssl);
}

size_t tls_server_has(const struct tls_server *server)
{
    return BIO_ctrl_pending(SSL_get_wbio(server->ssl));
}

size_t tls_server_give(struct tls_server *server, size_t most)
{
    size_t given = 0;

    while (given < most) {
        char room[4096];
        size_t want = most - given < sizeof(room) ? most - given : sizeof(room);
        int n = BIO_read(SSL_get_wbio(server->ssl), room, (int)want);

        if (n <= 0)
            break;
        assert_int_equal(send(server->fd, room, (size_t)n, MSG_NOSIGNAL), n);
        given += (size_t)n;
    }
    return given;
}

size_t tls_server_read(struct tls_server *server, void *room, size_t max)
{
    size_t got = 0, n;

    tls_server_turn(server);
    while (got < max && SSL_read_ex(server->ssl, (char *)room + got, max - got, &n) == 1)
        got += n;
    return got;
}

void tls_server_write(struct tls_server *server, const void *bytes, size_t len)
{
    size_t n;

    assert_int_equal(SSL_write_ex(server->ssl, bytes, len, &n), 1);
    assert_int_equal(n, len);
}
