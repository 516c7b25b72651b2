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

struct event;
struct event_base;
struct knit_log;

struct knit_certificates {
    const struct knit_settings *settings;
    struct knit_tls_store *store; /* NULL: there is no TLS */
    struct knit_tls_store memory;
    struct knit_tls_tickets tickets;
    struct event *day_event; /* while they are watched */
    struct knit_log *log;
    /* Read, and not in force yet. */
    SSL_CTX *next; /* or NULL */
    struct knit_tls_ticket_ring next_ring;
};

/* Whether all can be read. Returns 0, or a code of tls_context.h or tls_tickets.h, or -errno, with
 * a sentence. log: gets what it would get from knit_certificates_watch(); NULL: nobody does. */
KNIT_MUST_CHECK int knit_certificates_check(
    const struct knit_settings *settings, struct knit_log *log, struct knit_sentence *why);

/* The same; end it in any case. */
KNIT_MUST_CHECK int knit_certificates_init(struct knit_certificates *certificates,
    const struct knit_settings *settings, struct knit_sentence *why);
/* Accepts a zeroed one. */
void knit_certificates_fini(struct knit_certificates *certificates);

/* From now on the log says of each file that something in it is about to end, has ended, is not
 * valid yet, lacks something, or is what some clients refuse: now, after each reload and each day.
 * None of this is refused: local callers need no certificate, and the clock may be what is wrong.
 * The log is borrowed. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_certificates_watch(
    struct knit_certificates *certificates, struct event_base *base, struct knit_log *log);
/* Before the base is freed. Accepts one that is not watched. */
void knit_certificates_unwatch(struct knit_certificates *certificates);

/* All that they are made of, read anew. */
struct knit_reload_part knit_certificates_part(struct knit_certificates *certificates);
