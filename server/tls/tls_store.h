/* SPDX-License-Identifier: Apache-2.0 */
/* The context of which handshakes are made at the moment. Another one takes its place between two
 * of them; connections keep the one they began with.
 *
 * Threads: any.
 */
#pragma once

#include <openssl/types.h>
#include <pthread.h>

struct knit_tls_store {
    pthread_mutex_t mutex;
    SSL_CTX *context;
};

/* Without a context. */
void knit_tls_store_init(struct knit_tls_store *store);

/* Connections that it has made may outlive it. */
void knit_tls_store_fini(struct knit_tls_store *store);

/* Takes the context over, in place of the one that was there. */
void knit_tls_store_replace(struct knit_tls_store *store, SSL_CTX *context);

/* One side of a connection that is accepted; NULL when there is no memory. */
SSL *knit_tls_store_accept(struct knit_tls_store *store);
