/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of the whole daemon: the context that is in force, made of the files that settings name. A
 * reload reads them again. Connections keep the context that they began with.
 *
 * Threads: the main thread's; the store is for all.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/daemon/reload.h"
#include "server/tls/tls_store.h"
#include "server/tls/tls_tickets.h"

struct knit_certificates {
    const struct knit_settings *settings;
    struct knit_tls_store *store; /* NULL: there is no TLS */
    struct knit_tls_store memory;
    struct knit_tls_tickets tickets;
    /* Read, and not in force yet. */
    SSL_CTX *next; /* or NULL */
    struct knit_tls_ticket_ring next_ring;
};

/* Whether all can be read. Returns 0, or a code of tls_context.h or tls_tickets.h, or -errno, with
 * a sentence. */
KNIT_MUST_CHECK int knit_certificates_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* The same; end it in any case. */
KNIT_MUST_CHECK int knit_certificates_init(struct knit_certificates *certificates,
    const struct knit_settings *settings, struct knit_sentence *why);
/* Accepts a zeroed one. */
void knit_certificates_fini(struct knit_certificates *certificates);

/* All that they are made of, read anew. */
struct knit_reload_part knit_certificates_part(struct knit_certificates *certificates);
