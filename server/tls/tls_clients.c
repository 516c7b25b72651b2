/* SPDX-License-Identifier: Apache-2.0 */
/* Whose certificates are taken. With a list of revoked ones, one is needed for each authority of a
 * chain, and must be valid: a list that is missing or old refuses its authority's certificates,
 * since anybody could otherwise keep a newer one away.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "server/tls/tls_context.h"
#include "server/tls/tls_parts.h"

#define REFUSED KNIT_TLS_CONTEXT_E_REFUSED

enum { DEPTH_MAX = 4 }; /* of authorities between a certificate and one that is trusted */

/* Adds bytes that the library makes of something to a digest. */
static bool digest_der(
    EVP_MD_CTX *digest, int (*encode)(const void *, uint8_t **), const void *from)
{
    uint8_t *bytes = NULL;
    int len = encode(from, &bytes);
    bool is_done = len > 0 && EVP_DigestUpdate(digest, bytes, (size_t)len) == 1;

    OPENSSL_free(bytes);
    return is_done;
}

static int encode_certificate(const void *from, uint8_t **ret_bytes)
{
    return i2d_X509(from, ret_bytes);
}

static int encode_crl(const void *from, uint8_t **ret_bytes)
{
    return i2d_X509_CRL(from, ret_bytes);
}

/* Whether it may be what a chain ends with: an authority, or a client that has certified itself. */
static bool stands_for_itself(X509 *certificate)
{
    return X509_check_ca(certificate) > 0 || X509_NAME_cmp(X509_get_issuer_name(certificate),
                                                 X509_get_subject_name(certificate)) == 0;
}

/* Everything read from a file of PEM, or nothing. */
static int read_authorities(
    SSL_CTX *context, const char *path, EVP_MD_CTX *digest, struct knit_sentence *why)
{
    BIO *file = BIO_new_file(path, "r");
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    X509 *authority = NULL;
    size_t count = 0;
    bool is_good = file != NULL, is_trust = true;

    while (is_good && is_trust && (authority = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL) {
        is_good = X509_STORE_add_cert(store, authority) == 1 &&
                  SSL_CTX_add_client_CA(context, authority) == 1 &&
                  digest_der(digest, encode_certificate, authority);
        (void)knit_tls_parts_note(knit_tls_parts_of(context), path, X509_get0_notBefore(authority),
            X509_get0_notAfter(authority));
        count++;
        is_trust = !is_good || stands_for_itself(authority);
        X509_free(authority);
    }
    BIO_free(file);
    if (!is_trust)
        return knit_sentence_set(why, REFUSED,
            "server.tls_client_ca: expected certificates of authorities, in PEM, in %s: number %zu "
            "there is none",
            path, count);
    if (is_good && count > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return 0;
    }
    return knit_sentence_set(why, REFUSED,
        "server.tls_client_ca: expected certificates of authorities, in PEM, in %s: %s", path,
        knit_tls_context_reason());
}

static bool has_list(X509_STORE *store, const X509_NAME *authority)
{
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
    const X509_CRL *crl;

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
        if (crl != NULL && X509_NAME_cmp(X509_CRL_get_issuer(crl), authority) == 0)
            return true;
    }
    return false;
}

/* The first one that has none. Those who come with its certificates hear that nobody knows it. */
static void note_unlisted(SSL_CTX *context, struct knit_tls_validity *validity)
{
    const STACK_OF(X509_NAME) *authorities = SSL_CTX_get_client_CA_list(context);
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    const X509_NAME *name;

    for (int i = 0; i < sk_X509_NAME_num(authorities) && validity->unlisted[0] == '\0'; i++) {
        name = sk_X509_NAME_value(authorities, i);
        if (!has_list(store, name))
            (void)X509_NAME_oneline(name, validity->unlisted, sizeof(validity->unlisted));
    }
}

static int read_revoked(
    SSL_CTX *context, const char *path, EVP_MD_CTX *digest, struct knit_sentence *why)
{
    BIO *file = BIO_new_file(path, "r");
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    struct knit_tls_validity *validity = NULL;
    X509_CRL *crl = NULL;
    bool is_good = file != NULL;

    while (is_good && (crl = PEM_read_bio_X509_CRL(file, NULL, NULL, NULL)) != NULL) {
        is_good = X509_STORE_add_crl(store, crl) == 1 && digest_der(digest, encode_crl, crl);
        validity = knit_tls_parts_note(knit_tls_parts_of(context), path,
            X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl));
        X509_CRL_free(crl);
    }
    BIO_free(file);
    if (is_good && validity != NULL &&
        ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE &&
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1) {
        ERR_clear_error();
        note_unlisted(context, validity);
        knit_tls_parts_of(context)->lists_until = validity->until;
        return 0;
    }
    return knit_sentence_set(why, REFUSED,
        "server.tls_crl: expected lists of revoked certificates, in PEM, in %s: %s", path,
        knit_tls_context_reason());
}

static int read_trust(SSL_CTX *context, const struct knit_settings *settings, EVP_MD_CTX *digest,
    struct knit_sentence *why)
{
    uint8_t mode = (uint8_t)settings->tls_client;
    struct knit_tls_parts *parts = knit_tls_parts_of(context);
    int r = 0;

    ERR_clear_error();
    if (EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(digest, &mode, sizeof(mode)) != 1)
        return -ENOMEM;
    if (settings->tls_client_ca != NULL)
        r = knit_tls_parts_check_file("tls_client_ca", settings->tls_client_ca, why);
    if (r == 0 && settings->tls_crl != NULL)
        r = knit_tls_parts_check_file("tls_crl", settings->tls_crl, why);
    if (r == 0 && settings->tls_client_ca != NULL)
        r = read_authorities(context, settings->tls_client_ca, digest, why);
    if (r == 0 && settings->tls_crl != NULL)
        r = read_revoked(context, settings->tls_crl, digest, why);
    if (r == 0 && EVP_DigestFinal_ex(digest, parts->trust, NULL) != 1)
        r = -ENOMEM;
    return r;
}

int knit_tls_clients_read(
    SSL_CTX *context, const struct knit_settings *settings, struct knit_sentence *why)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int r = digest != NULL ? read_trust(context, settings, digest, why) : -ENOMEM;

    EVP_MD_CTX_free(digest);
    if (r != 0 || settings->tls_client == KNIT_TLS_CLIENT_CHOICE_NONE)
        return r;
    SSL_CTX_set_verify_depth(context, DEPTH_MAX);
    SSL_CTX_set_verify(context,
        settings->tls_client == KNIT_TLS_CLIENT_CHOICE_REQUIRED
            ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
            : SSL_VERIFY_PEER,
        NULL);
    return 0;
}
