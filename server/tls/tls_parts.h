/* SPDX-License-Identifier: Apache-2.0 */
/* What belongs to a context beside what the library keeps: for the files of server/tls alone.
 *
 * Threads: filled before the context is used, constant afterwards.
 */
#pragma once

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/tls/tls_context.h"

#define KNIT_TLS_DIGEST_BYTES 32

struct knit_tls_tickets;

/* One of several certificates. */
struct knit_tls_identity {
    X509 *leaf;
    STACK_OF(X509) * chain; /* may be NULL */
    EVP_PKEY *key;
};

struct knit_tls_parts {
    struct knit_tls_identity *identities;
    size_t identity_count;
    struct knit_tls_validity *validities;
    size_t validity_count;
    /* Of whose certificates are taken, and which not. */
    uint8_t trust[KNIT_TLS_DIGEST_BYTES];
    time_t lists_until;               /* when the first of tls_crl is old; 0: there is none */
    struct knit_tls_tickets *tickets; /* borrowed; NULL: none are made */
};

/* Gives the context empty parts, which end with it. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_tls_parts_add(SSL_CTX *context, const struct knit_settings *settings);

struct knit_tls_parts *knit_tls_parts_of(const SSL_CTX *context);

/* Notes that something in the file is valid then; until: NULL = always. Returns what is known of
 * the file. */
struct knit_tls_validity *knit_tls_parts_note(
    struct knit_tls_parts *parts, const char *path, const ASN1_TIME *from, const ASN1_TIME *until);

/* Whether the library may open the file, which it waits for if it is a FIFO, and all callers with
 * it. What is not there the library says. Returns 0 or KNIT_TLS_CONTEXT_E_REFUSED. */
KNIT_MUST_CHECK int knit_tls_parts_check_file(
    const char *setting, const char *path, struct knit_sentence *why);

/* tls_certificate and tls_key. Returns 0 or KNIT_TLS_CONTEXT_E_REFUSED. */
KNIT_MUST_CHECK int knit_tls_identities_read(
    SSL_CTX *context, const struct knit_settings *settings, struct knit_sentence *why);

/* tls_client, tls_client_ca and tls_crl. Returns the same. */
KNIT_MUST_CHECK int knit_tls_clients_read(
    SSL_CTX *context, const struct knit_settings *settings, struct knit_sentence *why);
