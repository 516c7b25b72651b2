/* SPDX-License-Identifier: Apache-2.0 */
/* The server at the other end of one encrypted connection: who it has to be, and in plain words why
 * it is not. The part of the library that knows certificates, for the part that moves bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct knit_error;
struct knit_tls;

enum { KNIT_TLS_DIGEST_BYTES = 32, KNIT_TLS_WHY_MAX = 256 };

struct knit_tls_peer {
    struct knit_tls *tls;
    struct knit_url url;
    uint8_t trust[KNIT_TLS_DIGEST_BYTES]; /* of all that decides whom the connection trusts */
    int refusal; /* the code of an error that stays when it is tried again; 0: none is known */
    char why[KNIT_TLS_WHY_MAX]; /* "" = nothing was wrong */
};

/* An SSL for a connection to that server, which has no BIO yet. peer: of the connection; only tls
 * and url are set. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_tls_peer_start(
    struct knit_tls_peer *peer, SSL **ret, struct knit_error *ret_error);

/* After the handshake: whether the server speaks our protocol. */
KNIT_MUST_CHECK bool knit_tls_peer_agrees(struct knit_tls_peer *peer, const SSL *ssl);

/* Says why, from OpenSSL's queue of errors. was_open: the handshake was over before. */
void knit_tls_peer_explain(struct knit_tls_peer *peer, const SSL *ssl, bool was_open);

/* The same of a connection that ended before its time; error: an errno, 0 = without one. */
void knit_tls_peer_was_cut(struct knit_tls_peer *peer, bool was_open, int error);
