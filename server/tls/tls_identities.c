/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates that are shown. The first one is the context's own, and what a client gets that
 * names nobody, or one whom no certificate is for. With several the choice is made when a client
 * has said whom it wants, of those that are for that name: of two with keys of different kinds the
 * client gets the one that it can verify.
 *
 * A context for each name would be the other way. It would need its own trust, tickets and
 * callbacks, of which only those of the first are asked for some things.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "server/tls/tls_context.h"
#include "server/tls/tls_parts.h"

#define REFUSED KNIT_TLS_CONTEXT_E_REFUSED

static struct knit_tls_validity *note(
    struct knit_tls_parts *parts, const char *path, const X509 *certificate)
{
    return knit_tls_parts_note(
        parts, path, X509_get0_notBefore(certificate), X509_get0_notAfter(certificate));
}

/* Keeps what the context was given last. */
static int keep(SSL_CTX *context, struct knit_tls_parts *parts, const char *path)
{
    struct knit_tls_identity *identity = &parts->identities[parts->identity_count];
    STACK_OF(X509) *chain = NULL;

    identity->leaf = SSL_CTX_get0_certificate(context);
    identity->key = SSL_CTX_get0_privatekey(context);
    if (SSL_CTX_get0_chain_certs(context, &chain) != 1 || X509_up_ref(identity->leaf) != 1 ||
        EVP_PKEY_up_ref(identity->key) != 1)
        return -ENOMEM;
    parts->identity_count++;
    note(parts, path, identity->leaf)->is_authority |= X509_check_ca(identity->leaf) > 0;
    for (int i = 0; i < sk_X509_num(chain); i++)
        (void)note(parts, path, sk_X509_value(chain, i));
    identity->chain = chain != NULL ? X509_chain_up_ref(chain) : NULL;
    return chain != NULL && identity->chain == NULL ? -ENOMEM : 0;
}

/* A key of another kind would be taken, for a certificate to come. */
static int read_key(
    SSL_CTX *context, const char *certificate, const char *key, struct knit_sentence *why)
{
    bool was_asked = false, is_read;

    SSL_CTX_set_default_passwd_cb_userdata(context, &was_asked);
    is_read = SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (was_asked)
        return knit_sentence_set(why, REFUSED,
            "server.tls_key: %s is encrypted: expected the private key of %s without a password, "
            "in a file that nobody else may read",
            key, certificate);
    if (!is_read || SSL_CTX_check_private_key(context) != 1)
        return knit_sentence_set(why, REFUSED,
            "server.tls_key: expected the private key of %s, in PEM, in %s: %s", certificate, key,
            knit_tls_context_reason());
    return 0;
}

static int read_one(SSL_CTX *context, struct knit_tls_parts *parts, const char *certificate,
    const char *key, struct knit_sentence *why)
{
    int r = knit_tls_parts_check_file("tls_certificate", certificate, why);

    if (r == 0)
        r = knit_tls_parts_check_file("tls_key", key, why);
    if (r != 0)
        return r;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return knit_sentence_set(why, REFUSED,
            "server.tls_certificate: expected a certificate in PEM, with those between it and its "
            "authority behind it, in %s: %s",
            certificate, knit_tls_context_reason());
    r = read_key(context, certificate, key, why);
    if (r != 0)
        return r;
    /* No client takes another, and time does not mend it. */
    if (X509_check_purpose(SSL_CTX_get0_certificate(context), X509_PURPOSE_SSL_SERVER, 0) != 1)
        return knit_sentence_set(why, REFUSED,
            "server.tls_certificate: expected one for servers (extended key usage serverAuth, key "
            "usage digitalSignature, if it has these) in %s",
            certificate);
    return keep(context, parts, certificate);
}

static bool is_for(const struct knit_tls_identity *identity, const char *name)
{
    return X509_check_host(identity->leaf, name, strlen(name),
               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
               NULL) == 1;
}

static bool show(SSL *ssl, const struct knit_tls_identity *identity)
{
    return SSL_use_cert_and_key(ssl, identity->leaf, identity->key, identity->chain, 1) == 1;
}

/* The library asks for the certificate of a handshake. 1: it has one. */
static int on_choice(SSL *ssl, void *arg)
{
    const struct knit_tls_parts *parts = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    bool is_shown = false, is_good = true;

    for (size_t i = 0; name != NULL && i < parts->identity_count; i++) {
        if (!is_for(&parts->identities[i], name))
            continue;
        if (!is_shown)
            SSL_certs_clear(ssl);
        is_shown = true;
        is_good = show(ssl, &parts->identities[i]) && is_good;
    }
    if (!is_shown) {
        SSL_certs_clear(ssl);
        is_good = show(ssl, &parts->identities[0]);
    }
    return is_good;
}

int knit_tls_identities_read(
    SSL_CTX *context, const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_tls_parts *parts = knit_tls_parts_of(context);
    int r = 0;

    for (size_t i = 0; r == 0 && i < settings->tls_certificate.count; i++)
        r = read_one(
            context, parts, settings->tls_certificate.items[i], settings->tls_key.items[i], why);
    if (r == 0 && parts->identity_count > 1)
        SSL_CTX_set_cert_cb(context, on_choice, parts);
    return r;
}
