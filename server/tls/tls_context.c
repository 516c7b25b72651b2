/* SPDX-License-Identifier: Apache-2.0 */
/* Everything is said to the library anew, whatever the system's openssl.cnf has for it: what the
 * daemon accepts must not depend on a file that it does not name.
 */
#include "server/tls/tls_context.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>

#include "server/tls/tls_parts.h"
#include "server/tls/tls_tickets.h"

#define REFUSED KNIT_TLS_CONTEXT_E_REFUSED

enum {
    CERTIFICATES_MAX = 32 * 1024, /* bytes of the list of certificates that a client sends */
    SESSION_S = 2 * 3600,         /* for which a client may resume */
};

static const char ciphers_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_1_3[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384";

/* What the library says in words that lead elsewhere; NULL: its own will do. */
static const char *reason_of(unsigned long error)
{
    static const struct {
        int lib, reason;
        const char *words;
    } known[] = {
        {ERR_LIB_PEM, PEM_R_NO_START_LINE, "there is none"},
        {ERR_LIB_OSSL_DECODER, ERR_R_UNSUPPORTED, "there is none"},
        {ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER, "the client does not speak TLS"},
        {ERR_LIB_SSL, SSL_R_HTTP_REQUEST, "the client speaks HTTP without TLS"},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (ERR_GET_LIB(error) == known[i].lib && ERR_GET_REASON(error) == known[i].reason)
            return known[i].words;
    return NULL;
}

const char *knit_tls_context_reason(void)
{
    unsigned long error = ERR_peek_error();
    const char *reason =
        ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error)) : reason_of(error);

    if (reason == NULL)
        reason = ERR_reason_error_string(error);
    ERR_clear_error();
    return reason != NULL ? reason : "no reason is known";
}

/* The list of the client: length and name, one after the other. */
static int on_alpn(SSL *ssl, const unsigned char **ret_chosen, unsigned char *ret_len,
    const unsigned char *offered, unsigned len, void *arg)
{
    static const unsigned char ours[] = {sizeof(KNIT_TLS_ALPN) - 1, 'k', 'n', 'i', 't', '/', '1'};
    unsigned char *chosen;

    (void)ssl, (void)arg;
    if (SSL_select_next_proto(&chosen, ret_len, ours, sizeof(ours), offered, len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret_chosen = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* A daemon has nobody to ask for it. was_asked: tls_identities.c's, or NULL. */
static int on_password(char *room, int size, int is_writing, void *was_asked)
{
    (void)room, (void)size, (void)is_writing;
    if (was_asked != NULL)
        *(bool *)was_asked = true;
    return -1;
}

static bool set_fixed(SSL_CTX *context)
{
    SSL_CTX_set_security_level(context, 2);
    (void)SSL_CTX_clear_options(context, SSL_CTX_get_options(context));
    (void)SSL_CTX_set_options(
        context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                     SSL_OP_PRIORITIZE_CHACHA | SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    /* Without AUTO_RETRY a read comes back after a message that is no data, so a peer that sends
     * such ones without end does not keep its loop. */
    (void)SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_max_cert_list(context, CERTIFICATES_MAX);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_timeout(context, SESSION_S);
    SSL_CTX_set_alpn_select_cb(context, on_alpn, NULL);
    SSL_CTX_set_default_passwd_cb(context, on_password);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, ciphers_1_2) == 1 &&
           SSL_CTX_set_ciphersuites(context, ciphers_1_3) == 1 &&
           SSL_CTX_set1_groups_list(context, groups) == 1 &&
           SSL_CTX_set_max_early_data(context, 0) == 1 &&
           SSL_CTX_set_session_id_context(
               context, (const unsigned char *)KNIT_TLS_ALPN, sizeof(KNIT_TLS_ALPN) - 1) == 1;
}

static bool is_wanted(const struct knit_settings *settings)
{
    return settings->listen_tls.count > 0 && strcmp(settings->listen_tls.items[0], "none") != 0;
}

static int check_clients(const struct knit_settings *settings, struct knit_sentence *why)
{
    bool is_asked = settings->tls_client != KNIT_TLS_CLIENT_CHOICE_NONE;

    if (is_asked && !is_wanted(settings))
        return knit_sentence_set(
            why, REFUSED, "server.tls_client: means nothing without listen_tls");
    if (is_asked && settings->tls_client_ca == NULL)
        return knit_sentence_set(why, REFUSED,
            "server.tls_client: expected tls_client_ca beside it, whose certificates are taken");
    if (!is_asked && settings->tls_client_ca != NULL)
        return knit_sentence_set(why, REFUSED,
            "server.tls_client_ca: means nothing with tls_client none; expected optional or "
            "required there");
    if (settings->tls_client_ca == NULL && settings->tls_crl != NULL)
        return knit_sentence_set(
            why, REFUSED, "server.tls_crl: means nothing without tls_client_ca");
    if (settings->tls_ticket_keys != NULL && !is_wanted(settings))
        return knit_sentence_set(
            why, REFUSED, "server.tls_ticket_keys: means nothing without listen_tls");
    return 0;
}

/* What one of the settings needs of another. */
static int check_together(const struct knit_settings *settings, struct knit_sentence *why)
{
    size_t certificates = settings->tls_certificate.count, keys = settings->tls_key.count;

    if (certificates != keys)
        return knit_sentence_set(why, REFUSED,
            "server.tls_key: expected as many as tls_certificate, one for each in the same order, "
            "%zu and not %zu",
            certificates, keys);
    if (is_wanted(settings) && certificates == 0)
        return knit_sentence_set(
            why, REFUSED, "server.listen_tls: expected tls_certificate and tls_key beside it");
    if (!is_wanted(settings) && certificates != 0)
        return knit_sentence_set(
            why, REFUSED, "server.tls_certificate: means nothing without listen_tls");
    return check_clients(settings, why);
}

static int fill(SSL_CTX *context, const struct knit_settings *settings,
    struct knit_tls_tickets *tickets, struct knit_sentence *why)
{
    int r = knit_tls_parts_add(context, settings);

    if (r == 0 && !set_fixed(context))
        r = knit_sentence_set(why, REFUSED,
            "server.listen_tls: the OpenSSL of this system lacks a part of TLS that is needed: %s",
            knit_tls_context_reason());
    if (r == 0)
        r = knit_tls_identities_read(context, settings, why);
    if (r == 0)
        r = knit_tls_clients_read(context, settings, why);
    return r == 0 ? knit_tls_tickets_use(tickets, context) : r;
}

int knit_tls_context_new(const struct knit_settings *settings, struct knit_tls_tickets *tickets,
    SSL_CTX **ret_context, struct knit_sentence *why)
{
    SSL_CTX *context = NULL;
    int r = check_together(settings, why);

    if (r == 0 && is_wanted(settings)) {
        ERR_clear_error();
        context = SSL_CTX_new(TLS_server_method());
        r = context != NULL ? fill(context, settings, tickets, why) : -ENOMEM;
    }
    if (r != 0)
        SSL_CTX_free(context);
    else
        *ret_context = context;
    return r == -ENOMEM ? knit_sentence_set(why, r, "out of memory") : r;
}
