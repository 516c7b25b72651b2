/* SPDX-License-Identifier: Apache-2.0 */
/* Whom an encrypted connection trusts.
 *
 * Each connection has a context of its own, made of the files as they are then. That costs some
 * hundred microseconds beside a handshake, and nothing has to notice that a file has changed.
 *
 * The digest of what was loaded names this trust: a kept session is resumed only under the same
 * one. The system's authorities are loaded by OpenSSL one by one as they are needed, so for these
 * it takes in when their folder was changed.
 *
 * Chain, times, purpose and name are verified by OpenSSL. In its place or beside it stands the pin:
 * the digest of the server's public key.
 */
#include "clients/lib/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <knitting/knitting.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "clients/lib/error.h"
#include "clients/lib/tls_peer.h"

#define PIN_PREFIX "sha256//"

enum { PINS_MAX = 8, KEPT_MAX = 16, DEPTH_MAX = 8, PIN_TEXT = 44, ENDPOINT_MAX = 264 };

/* A session that a server allowed to resume. */
struct kept {
    SSL_SESSION *session; /* NULL: the place is free */
    char endpoint[ENDPOINT_MAX];
    uint8_t trust[KNIT_TLS_DIGEST_BYTES];
    uint64_t age;
};

struct knit_tls {
    char *ca_file, *certificate_file, *key_file; /* NULL: not given */
    bool pin_only;
    uint32_t pins_count;
    uint8_t pins[PINS_MAX][KNIT_TLS_DIGEST_BYTES];
    struct kept kept[KEPT_MAX];
    uint64_t age;
};

static int no_memory(struct knit_error *ret_error)
{
    return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for TLS");
}

/* ---- options ---- */

/* One pin, up to its end. */
static bool read_pin(const char *text, size_t len, uint8_t ret_pin[KNIT_TLS_DIGEST_BYTES])
{
    uint8_t bytes[PIN_TEXT / 4 * 3];
    const size_t prefix = strlen(PIN_PREFIX);

    if (len != prefix + PIN_TEXT || strncmp(text, PIN_PREFIX, prefix) != 0 ||
        text[len - 1] != '=' || text[len - 2] == '=' ||
        EVP_DecodeBlock(bytes, (const unsigned char *)text + prefix, PIN_TEXT) !=
            (int)sizeof(bytes))
        return false;
    memcpy(ret_pin, bytes, KNIT_TLS_DIGEST_BYTES);
    return true;
}

static int read_pins(struct knit_tls *tls, const char *text, struct knit_error *ret_error)
{
    for (const char *at = text; at != NULL; at = at[0] == ';' ? at + 1 : NULL) {
        size_t len = strcspn(at, ";");

        if (tls->pins_count == PINS_MAX || !read_pin(at, len, tls->pins[tls->pins_count]))
            return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
                "the pin \"%s\" is none: " PIN_PREFIX "BASE64 is expected, of the SHA-256 of a "
                "public key, or up to %d of these with ; between them",
                text, PINS_MAX);
        tls->pins_count++;
        at += len;
    }
    return KNIT_OK;
}

static bool copy_text(char **ret, const char *text)
{
    *ret = text != NULL ? strdup(text) : NULL;
    return text == NULL || *ret != NULL;
}

static int copy_options(
    struct knit_tls *tls, const struct knit_tls_options *options, struct knit_error *ret_error)
{
    if (options->pin_only && options->pin == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "only the pin is to be verified, and none is given");
    if (options->key_file != NULL && options->certificate_file == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a key for TLS is given without its certificate");
    tls->pin_only = options->pin_only;
    if (!copy_text(&tls->ca_file, options->ca_file) ||
        !copy_text(&tls->certificate_file, options->certificate_file) ||
        !copy_text(&tls->key_file,
            options->key_file != NULL ? options->key_file : options->certificate_file))
        return no_memory(ret_error);
    return options->pin != NULL ? read_pins(tls, options->pin, ret_error) : KNIT_OK;
}

/* ---- files ---- */

/* The first error that OpenSSL has noted, of a file that it could not use. */
static int refuse_file(const char *what, const char *path, struct knit_error *ret_error)
{
    unsigned long error = ERR_peek_error();
    const char *reason = ERR_reason_error_string(error);

    if (ERR_SYSTEM_ERROR(error))
        reason = strerror(ERR_GET_REASON(error));
    else if ((ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE) ||
             (ERR_GET_LIB(error) == ERR_LIB_OSSL_DECODER &&
                 ERR_GET_REASON(error) == ERR_R_UNSUPPORTED))
        reason = "it has none in PEM";
    else if (ERR_GET_LIB(error) == ERR_LIB_X509 &&
             (ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH ||
                 ERR_GET_REASON(error) == X509_R_KEY_TYPE_MISMATCH))
        reason = "it is not that of the certificate";
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "cannot use %s \"%s\": %s", what, path, reason != NULL ? reason : "it is damaged");
}

/* A pipe would be waited for, longer than any time that the caller gives. */
static int check_file(const char *what, const char *path, struct knit_error *ret_error)
{
    struct stat status;

    if (stat(path, &status) < 0 || (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode)))
        return KNIT_OK;
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "cannot use %s \"%s\": it is a pipe; expected a regular file", what, path);
}

/* OpenSSL would ask at the terminal. */
static int refuse_password(char *room, int size, int is_writing, void *was_asked)
{
    (void)room, (void)size, (void)is_writing;
    *(bool *)was_asked = true;
    return -1;
}

static int load_own(const struct knit_tls *tls, SSL_CTX *context, struct knit_error *ret_error)
{
    bool was_asked = false;
    int r = check_file("the certificate", tls->certificate_file, ret_error);

    if (r == KNIT_OK)
        r = check_file("the key", tls->key_file, ret_error);
    if (r != KNIT_OK)
        return r;
    if (SSL_CTX_use_certificate_chain_file(context, tls->certificate_file) != 1)
        return refuse_file("the certificate", tls->certificate_file, ret_error);
    SSL_CTX_set_default_passwd_cb(context, refuse_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, &was_asked);
    r = SSL_CTX_use_PrivateKey_file(context, tls->key_file, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (was_asked)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "cannot use the key \"%s\": it is encrypted, and there is nobody to ask for its "
            "password",
            tls->key_file);
    return r == 1 ? KNIT_OK : refuse_file("the key", tls->key_file, ret_error);
}

static int load_files(const struct knit_tls *tls, SSL_CTX *context, struct knit_error *ret_error)
{
    int r = tls->ca_file != NULL
                ? check_file("the certificates of authorities", tls->ca_file, ret_error)
                : KNIT_OK;

    if (r != KNIT_OK)
        return r;
    ERR_clear_error();
    if (tls->ca_file != NULL && SSL_CTX_load_verify_file(context, tls->ca_file) != 1)
        return refuse_file("the certificates of authorities", tls->ca_file, ret_error);
    if (tls->ca_file == NULL && !tls->pin_only && SSL_CTX_set_default_verify_paths(context) != 1)
        return refuse_file("the system's authorities", X509_get_default_cert_dir(), ret_error);
    return tls->certificate_file != NULL ? load_own(tls, context, ret_error) : KNIT_OK;
}

/* ---- what the trust is ---- */

static void digest_place(EVP_MD_CTX *digest, const char *variable, const char *otherwise)
{
    const char *path = getenv(variable);
    struct stat status = {.st_ino = 0};

    path = path != NULL ? path : otherwise;
    (void)stat(path, &status);
    (void)EVP_DigestUpdate(digest, path, strlen(path) + 1);
    (void)EVP_DigestUpdate(digest, &status.st_dev, sizeof(status.st_dev));
    (void)EVP_DigestUpdate(digest, &status.st_ino, sizeof(status.st_ino));
    (void)EVP_DigestUpdate(digest, &status.st_mtim, sizeof(status.st_mtim));
}

static bool digest_certificate(EVP_MD_CTX *digest, const X509 *certificate)
{
    uint8_t bytes[KNIT_TLS_DIGEST_BYTES];
    unsigned len;

    return X509_digest(certificate, EVP_sha256(), bytes, &len) == 1 &&
           EVP_DigestUpdate(digest, bytes, len) == 1;
}

static bool digest_trust(const struct knit_tls *tls, SSL_CTX *context, EVP_MD_CTX *digest)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context));
    X509 *own = SSL_CTX_get0_certificate(context);
    const uint8_t kinds[] = {tls->ca_file != NULL, tls->pin_only, own != NULL};
    bool is_good = EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                   EVP_DigestUpdate(digest, kinds, sizeof(kinds)) == 1 &&
                   EVP_DigestUpdate(digest, tls->pins, sizeof(tls->pins)) == 1;

    for (int i = 0; is_good && i < sk_X509_OBJECT_num(objects); i++) {
        X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

        is_good = certificate == NULL || digest_certificate(digest, certificate);
    }
    if (is_good && own != NULL)
        is_good = digest_certificate(digest, own);
    if (tls->ca_file == NULL) {
        digest_place(digest, X509_get_default_cert_dir_env(), X509_get_default_cert_dir());
        digest_place(digest, X509_get_default_cert_file_env(), X509_get_default_cert_file());
    }
    return is_good;
}

static int name_trust(const struct knit_tls *tls, SSL_CTX *context,
    uint8_t ret_trust[KNIT_TLS_DIGEST_BYTES], struct knit_error *ret_error)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool is_good = digest != NULL && digest_trust(tls, context, digest) &&
                   EVP_DigestFinal_ex(digest, ret_trust, NULL) == 1;

    EVP_MD_CTX_free(digest);
    return is_good ? KNIT_OK : no_memory(ret_error);
}

/* ---- what is kept to resume ---- */

static void name_endpoint(const struct knit_url *url, char ret_name[ENDPOINT_MAX])
{
    (void)snprintf(ret_name, ENDPOINT_MAX, "%s:%s", url->host, url->port);
}

static struct kept *find_kept(const struct knit_tls_peer *peer)
{
    char endpoint[ENDPOINT_MAX];

    name_endpoint(&peer->url, endpoint);
    for (size_t i = 0; i < KEPT_MAX; i++) {
        struct kept *kept = &peer->tls->kept[i];

        if (kept->session != NULL && strcmp(kept->endpoint, endpoint) == 0 &&
            memcmp(kept->trust, peer->trust, sizeof(kept->trust)) == 0)
            return kept;
    }
    return NULL;
}

static void drop(struct kept *kept)
{
    SSL_SESSION_free(kept->session);
    kept->session = NULL;
}

/* Used once: who sees the same ticket twice knows that the same caller comes back. */
static void resume(struct knit_tls_peer *peer, SSL *ssl)
{
    struct kept *kept = find_kept(peer);

    if (kept == NULL)
        return;
    if (SSL_SESSION_is_resumable(kept->session) == 1)
        (void)SSL_set_session(ssl, kept->session);
    drop(kept);
}

/* A free place, or the oldest one's. */
static struct kept *make_place(struct knit_tls *tls)
{
    struct kept *place = &tls->kept[0];

    for (size_t i = 0; i < KEPT_MAX && place->session != NULL; i++) {
        if (tls->kept[i].session == NULL || tls->kept[i].age < place->age)
            place = &tls->kept[i];
    }
    return place;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    const struct knit_tls_peer *peer = SSL_get_app_data(ssl);
    struct kept *place = find_kept(peer);

    if (place == NULL)
        place = make_place(peer->tls);
    drop(place);
    place->session = session;
    place->age = ++peer->tls->age;
    name_endpoint(&peer->url, place->endpoint);
    memcpy(place->trust, peer->trust, sizeof(place->trust));
    return 1;
}

/* ---- verification ---- */

static void refuse(struct knit_tls_peer *peer, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void refuse(struct knit_tls_peer *peer, int code, const char *format, ...)
{
    va_list args;

    peer->refusal = code;
    va_start(args, format);
    (void)vsnprintf(peer->why, sizeof(peer->why), format, args);
    va_end(args);
    /* Names in certificates are any bytes, and a message is text. */
    for (char *at = peer->why; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~')
            *at = '?';
    }
}

static void write_day(const ASN1_TIME *time, char ret_day[16])
{
    struct tm broken_down;

    if (ASN1_TIME_to_tm(time, &broken_down) != 1 ||
        strftime(ret_day, 16, "%Y-%m-%d", &broken_down) == 0)
        memcpy(ret_day, "?", sizeof("?"));
}

/* It has as many bytes as its maker likes. */
static void write_address(const ASN1_OCTET_STRING *bytes, char ret_text[INET6_ADDRSTRLEN])
{
    const int len = ASN1_STRING_length(bytes);

    if (len == 4 || len == 16)
        (void)inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(bytes), ret_text,
            INET6_ADDRSTRLEN);
}

/* The names that a certificate has, as far as they fit. */
static void write_names(X509 *certificate, char *room, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t len = 0;

    (void)snprintf(room, size, "none");
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && len < size; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const char *before = len > 0 ? ", " : "";
        char address[INET6_ADDRSTRLEN] = "?";
        const char *text = address;
        int n;

        if (name->type == GEN_DNS || name->type == GEN_URI)
            text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
        else if (name->type == GEN_IPADD)
            write_address(name->d.iPAddress, address);
        else
            continue;
        n = snprintf(room + len, size - len, "%s%s", before, text);
        len += n > 0 ? (size_t)n : 0;
    }
    GENERAL_NAMES_free(names);
}

static void refuse_certificate(struct knit_tls_peer *peer, X509_STORE_CTX *chain)
{
    const int error = X509_STORE_CTX_get_error(chain);
    const int code = KNIT_UNAUTHENTICATED;
    X509 *certificate = X509_STORE_CTX_get_current_cert(chain);
    const char *whose = X509_STORE_CTX_get_error_depth(chain) == 0 ? "the server's certificate"
                                                                   : "its authority's certificate";
    char day[16], text[160];

    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        write_day(X509_get0_notAfter(certificate), day);
        refuse(peer, code, "%s has expired: it was valid until %s", whose, day);
        return;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        write_day(X509_get0_notBefore(certificate), day);
        refuse(peer, code, "%s is valid from %s on, which has not come by this machine's clock",
            whose, day);
        return;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        write_names(certificate, text, sizeof(text));
        refuse(peer, code, "the server's certificate is for another name than '%.64s'; it has: %s",
            peer->url.host, text);
        return;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        (void)X509_NAME_oneline(X509_get_issuer_name(certificate), text, sizeof(text));
        refuse(peer, code, "the server's certificate is of an authority that is not trusted: %s",
            text);
        return;
    default:
        refuse(peer, code, "%s is refused: %s", whose, X509_verify_cert_error_string(error));
    }
}

static bool has_pinned_key(const struct knit_tls *tls, const X509 *certificate)
{
    uint8_t digest[KNIT_TLS_DIGEST_BYTES], *key = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &key);
    bool is_pinned = false;

    if (len > 0 && EVP_Digest(key, (size_t)len, digest, NULL, EVP_sha256(), NULL) == 1) {
        for (uint32_t i = 0; i < tls->pins_count; i++)
            is_pinned = is_pinned || memcmp(tls->pins[i], digest, sizeof(digest)) == 0;
    }
    OPENSSL_free(key);
    return is_pinned;
}

static int verify(X509_STORE_CTX *chain, void *arg)
{
    struct knit_tls_peer *peer = arg;
    const struct knit_tls *tls = peer->tls;

    if (!tls->pin_only && X509_verify_cert(chain) != 1) {
        refuse_certificate(peer, chain);
        return 0;
    }
    if (tls->pins_count != 0 && !has_pinned_key(tls, X509_STORE_CTX_get0_cert(chain))) {
        X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
        refuse(peer, KNIT_UNAUTHENTICATED, "the server's key is not the pinned one");
        return 0;
    }
    X509_STORE_CTX_set_error(chain, X509_V_OK);
    return 1;
}

/* A name is sent to the server, which may have several certificates, and an address is not. */
static bool set_name(const struct knit_url *url, SSL *ssl)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    char host[sizeof(url->host)];
    size_t len = strcspn(url->host, "%"); /* behind it stands an interface */

    memcpy(host, url->host, len);
    host[len] = '\0';
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
        return true;
    if (len > 0 && host[len - 1] == '.')
        host[len - 1] = '\0';
    X509_VERIFY_PARAM_set_hostflags(
        param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* ---- one connection ---- */

static int make_context(struct knit_tls_peer *peer, SSL_CTX **ret, struct knit_error *ret_error)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int code;

    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
        SSL_CTX_free(context);
        return no_memory(ret_error);
    }
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(
        context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_verify_depth(context, DEPTH_MAX);
    SSL_CTX_set_cert_verify_callback(context, verify, peer);
    (void)SSL_CTX_set_session_cache_mode(
        context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    code = load_files(peer->tls, context, ret_error);
    if (code == KNIT_OK)
        code = name_trust(peer->tls, context, peer->trust, ret_error);
    if (code == KNIT_OK)
        *ret = context;
    else
        SSL_CTX_free(context);
    return code;
}

static const unsigned char protocols[] = "\x06knit/1";

int knit_tls_peer_start(struct knit_tls_peer *peer, SSL **ret, struct knit_error *ret_error)
{
    SSL_CTX *context = NULL;
    SSL *ssl;
    int code = make_context(peer, &context, ret_error);

    if (code != KNIT_OK)
        return code;
    ssl = SSL_new(context);
    SSL_CTX_free(context);
    if (ssl == NULL || !set_name(&peer->url, ssl) || SSL_set_app_data(ssl, peer) != 1 ||
        SSL_set_alpn_protos(ssl, protocols, sizeof(protocols) - 1) != 0) {
        SSL_free(ssl);
        return no_memory(ret_error);
    }
    SSL_set_connect_state(ssl);
    resume(peer, ssl);
    *ret = ssl;
    return KNIT_OK;
}

bool knit_tls_peer_agrees(struct knit_tls_peer *peer, const SSL *ssl)
{
    const unsigned char *protocol;
    unsigned len;

    SSL_get0_alpn_selected(ssl, &protocol, &len);
    if (len == sizeof(protocols) - 2 && memcmp(protocol, protocols + 1, len) == 0)
        return true;
    refuse(peer, KNIT_DISCONNECTED,
        "the server speaks TLS, but did not agree on the protocol knit/1 (ALPN): it is no "
        "knittingd, or not that port of it");
    return false;
}

/* Of the caller's own: a server says no more than that it is bad. */
static const char *find_flaw(const SSL *ssl)
{
    X509 *own = SSL_get_certificate(ssl);
    GENERAL_NAMES *names;
    bool names_one = false;

    if (own != NULL && X509_cmp_current_time(X509_get0_notBefore(own)) > 0)
        return "it is not valid yet";
    names = own != NULL ? X509_get_ext_d2i(own, NID_subject_alt_name, NULL, NULL) : NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const int type = sk_GENERAL_NAME_value(names, i)->type;

        names_one = names_one || type == GEN_URI || type == GEN_DNS;
    }
    GENERAL_NAMES_free(names);
    if (own != NULL && !names_one)
        return "it names nobody, since it has no URI and no DNS name";
    return "it is not valid yet by the server's clock, its key or signature is too weak, or its "
           "names cannot be read: the server's log says which";
}

void knit_tls_peer_explain(struct knit_tls_peer *peer, const SSL *ssl, bool was_open)
{
    enum { ALERT = SSL_AD_REASON_OFFSET };
    static const char refuses[] = "the server refuses this caller's certificate: ";
    static const struct {
        int reason, code;
        const char *before, *text;
    } rows[] = {
        {SSL_R_WRONG_VERSION_NUMBER, KNIT_DISCONNECTED, "",
            "the server does not speak TLS there, so its URL begins with knit://"},
        {SSL_R_UNSUPPORTED_PROTOCOL, KNIT_DISCONNECTED, "", "the server speaks no TLS from 1.2 on"},
        {ALERT + SSL_AD_PROTOCOL_VERSION, KNIT_DISCONNECTED, "",
            "the server speaks no TLS from 1.2 on that this library speaks"},
        {ALERT + SSL_AD_NO_APPLICATION_PROTOCOL, KNIT_DISCONNECTED, "",
            "the server speaks TLS, but not the protocol knit/1 (ALPN)"},
        {ALERT + SSL_AD_HANDSHAKE_FAILURE, KNIT_UNAUTHENTICATED, "",
            "the server accepts nothing that this caller offers: no cipher, or no certificate"},
        {ALERT + SSL_AD_CERTIFICATE_REQUIRED, KNIT_UNAUTHENTICATED, "",
            "the server wants a certificate of its callers, and none was given"},
        {ALERT + SSL_AD_BAD_CERTIFICATE, KNIT_UNAUTHENTICATED, refuses, NULL},
        {ALERT + SSL_AD_UNSUPPORTED_CERTIFICATE, KNIT_UNAUTHENTICATED, refuses,
            "it is of an unsupported kind, or not for clients"},
        {ALERT + SSL_AD_CERTIFICATE_REVOKED, KNIT_UNAUTHENTICATED, refuses, "it is revoked"},
        {ALERT + SSL_AD_CERTIFICATE_EXPIRED, KNIT_UNAUTHENTICATED, refuses, "it has expired"},
        {ALERT + SSL_AD_CERTIFICATE_UNKNOWN, KNIT_UNAUTHENTICATED, refuses, "it says not why"},
        {ALERT + SSL_AD_UNKNOWN_CA, KNIT_UNAUTHENTICATED, refuses,
            "it does not know its authority, or has no list of what that has revoked"},
        {ALERT + SSL_AD_ACCESS_DENIED, KNIT_UNAUTHENTICATED, refuses, "its owner has no access"},
    };
    const unsigned long error = ERR_peek_error();
    const char *reason = ERR_reason_error_string(error);

    /* The verification has said it. */
    if (peer->refusal != 0)
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == rows[i].reason) {
            refuse(peer, rows[i].code, "%s%s", rows[i].before,
                rows[i].text != NULL ? rows[i].text : find_flaw(ssl));
            return;
        }
    }
    refuse(peer, 0, "TLS %s: %s", was_open ? "failed" : "could not begin",
        reason != NULL ? reason : "the library gives no reason");
}

void knit_tls_peer_was_cut(struct knit_tls_peer *peer, bool was_open, int error)
{
    const char *how = error != 0 ? strerror(error) : "without a word";

    if (was_open)
        refuse(peer, 0, "the connection was cut, not ended by the server: %s", how);
    else
        refuse(peer, 0,
            "the connection ended in TLS's handshake: %s; a server that does not speak TLS there "
            "ends it so",
            how);
}

struct knit_tls *knit_tls_free(struct knit_tls *tls)
{
    if (tls == NULL)
        return NULL;
    for (size_t i = 0; i < KEPT_MAX; i++)
        drop(&tls->kept[i]);
    free(tls->ca_file);
    free(tls->certificate_file);
    free(tls->key_file);
    free(tls);
    return NULL;
}

int knit_tls_new(
    const struct knit_tls_options *options, struct knit_tls **ret, struct knit_error *ret_error)
{
    static const struct knit_tls_options defaults;
    struct knit_tls_peer nobody = {.refusal = 0};
    struct knit_tls *tls;
    SSL_CTX *context;
    int code;

    if (options == NULL)
        options = &defaults;
    code = knit_error_check_reserved("knit_tls_options", options->reserved,
        sizeof(options->reserved) / sizeof(options->reserved[0]), ret_error);
    if (code != KNIT_OK)
        return code;
    tls = calloc(1, sizeof(*tls));
    if (tls == NULL)
        return no_memory(ret_error);
    code = copy_options(tls, options, ret_error);
    nobody.tls = tls;
    if (code == KNIT_OK)
        code = make_context(&nobody, &context, ret_error);
    if (code == KNIT_OK) {
        SSL_CTX_free(context);
        *ret = tls;
    } else {
        (void)knit_tls_free(tls);
    }
    return code;
}
