/* SPDX-License-Identifier: Apache-2.0 */
/* The mutex is held while an SSL takes its reference to the context, microseconds of a handshake
 * that takes hundreds.
 */
#include "server/tls/tls_store.h"

#include <openssl/ssl.h>

void knit_tls_store_init(struct knit_tls_store *store)
{
    (void)pthread_mutex_init(&store->mutex, NULL);
    store->context = NULL;
}

void knit_tls_store_fini(struct knit_tls_store *store)
{
    SSL_CTX_free(store->context);
    store->context = NULL;
    (void)pthread_mutex_destroy(&store->mutex);
}

void knit_tls_store_replace(struct knit_tls_store *store, SSL_CTX *context)
{
    SSL_CTX *before;

    (void)pthread_mutex_lock(&store->mutex);
    before = store->context;
    store->context = context;
    (void)pthread_mutex_unlock(&store->mutex);
    SSL_CTX_free(before);
}

SSL *knit_tls_store_accept(struct knit_tls_store *store)
{
    SSL *ssl;

    (void)pthread_mutex_lock(&store->mutex);
    ssl = SSL_new(store->context);
    (void)pthread_mutex_unlock(&store->mutex);
    if (ssl != NULL)
        SSL_set_accept_state(ssl);
    return ssl;
}
