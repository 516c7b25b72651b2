/* SPDX-License-Identifier: Apache-2.0 */
/* What the settings of TLS come to: one SSL_CTX, with everything that a handshake needs.
 *
 * TLS 1.2 and 1.3 alone, with ciphers that authenticate what they encrypt and give away nothing of
 * the past when a key becomes known: no CBC, no RSA key exchange. No compression, no renegotiation,
 * no early data. ALPN is `knit/1`: a client that offers others alone is refused, one that offers
 * none is served.
 *
 * A context is built whole and checked, or refused with a sentence. It counts its users itself, as
 * each SSL that was made of it is one, so that a context that was replaced ends with its last
 * connection.
 *
 * Threads: building and freeing any one; a context that is built may be used by all.
 */
#pragma once

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"

#define KNIT_TLS_ALPN        "knit/1"
#define KNIT_TLS_SUBJECT_MAX 128 /* bytes of a name that is shown to people, with its end */

struct knit_tls_tickets;

enum {
    KNIT_TLS_CONTEXT_E_REFUSED = 1, /* the sentence says why */
};

/* From files that the settings name; *ret_context is NULL where nothing asks for TLS. The tickets
 * stay as long as the context. Returns 0, KNIT_TLS_CONTEXT_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_tls_context_new(const struct knit_settings *settings,
    struct knit_tls_tickets *tickets, SSL_CTX **ret_context, struct knit_sentence *why);

/* When all of a file's certificates, or lists of revoked ones, are valid. */
struct knit_tls_validity {
    const char *path; /* of the settings */
    time_t from, until;
    bool is_authority; /* what is shown is an authority's */
    /* Of tls_crl: an authority whose certificates are refused, for there is no list of it. */
    char unlisted[KNIT_TLS_SUBJECT_MAX];
};

/* Of all files of a context; borrowed. Returns how many there are. */
size_t knit_tls_context_validities(
    const SSL_CTX *context, const struct knit_tls_validity **ret_validities);

/* What went wrong first on this thread, mostly in the library's own words; it forgets it. */
const char *knit_tls_context_reason(void);
