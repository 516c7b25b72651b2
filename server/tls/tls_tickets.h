/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of tickets, by which clients resume what they had without a new handshake.
 *
 * A ticket is the daemon's own state, encrypted, which the client keeps. A session that is resumed
 * has no certificates to verify, so its ticket says whose certificates were taken when it was made:
 * a digest of tls_client, tls_client_ca and tls_crl. One with another digest, or whose client's
 * certificate is not valid any more, is passed over, and the handshake is a full one. Who the
 * client is stands in the ticket with its certificate.
 *
 * What a ticket does not say is which name its client called: all certificates of the daemon are
 * its own, and what a client may do does not depend on it.
 *
 * There are up to three keys: tickets are made with the first and taken with each. They come from
 * tls_ticket_keys, so that several daemons take each other's, or they are random, and every 12
 * hours another one comes first. They outlive contexts, so that a reload does not cost every client
 * a full handshake.
 *
 * Threads: any; a mutex is held for a copy.
 */
#pragma once

#include <openssl/types.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_TLS_TICKETS_E_REFUSED = 1, /* the sentence says why */
};

#define KNIT_TLS_TICKET_KEYS_MAX 3

/* As it lies in a file. */
struct knit_tls_ticket_key {
    uint8_t name[16]; /* stands in the ticket */
    uint8_t mac[32];
    uint8_t cipher[32];
};

struct knit_tls_ticket_ring {
    struct knit_tls_ticket_key keys[KNIT_TLS_TICKET_KEYS_MAX];
    size_t count;
};

struct knit_tls_tickets {
    pthread_mutex_t mutex;
    struct knit_tls_ticket_ring ring;
    uint64_t made_ns; /* the first key; 0 = it is from a file and stays */
};

/* With one random key. Returns 0 or -EIO. */
KNIT_MUST_CHECK int knit_tls_tickets_init(struct knit_tls_tickets *tickets);
void knit_tls_tickets_fini(struct knit_tls_tickets *tickets);

/* One to three keys of 80 bytes. Returns 0 or KNIT_TLS_TICKETS_E_REFUSED. */
KNIT_MUST_CHECK int knit_tls_tickets_read(
    const char *path, struct knit_tls_ticket_ring *ret_ring, struct knit_sentence *why);

/* These are the keys from now on, and stay. */
void knit_tls_tickets_set(
    struct knit_tls_tickets *tickets, const struct knit_tls_ticket_ring *ring);

/* The keys in memory of their own, which nobody can change any more: for a daemon that goes on in
 * this one's place. Returns a descriptor, or -errno. */
int knit_tls_tickets_give(struct knit_tls_tickets *tickets);

/* Such a daemon's. Returns 0, or -EINVAL: they are none, and nothing has changed. */
KNIT_MUST_CHECK int knit_tls_tickets_take(struct knit_tls_tickets *tickets, int fd);

/* Has a context make and take tickets; they stay as long as it. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_tls_tickets_use(struct knit_tls_tickets *tickets, SSL_CTX *context);
