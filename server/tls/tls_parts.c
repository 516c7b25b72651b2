/* SPDX-License-Identifier: Apache-2.0 */
/* They hang on the context as its own data, which the library frees with its last user. */
#include "server/tls/tls_parts.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int place = -1; /* among the data of a context */

static void free_parts(
    void *context, void *data, CRYPTO_EX_DATA *all, int index, long number, void *pointer)
{
    struct knit_tls_parts *parts = data;

    (void)context, (void)all, (void)index, (void)number, (void)pointer;
    if (parts == NULL)
        return;
    for (size_t i = 0; i < parts->identity_count; i++) {
        X509_free(parts->identities[i].leaf);
        sk_X509_pop_free(parts->identities[i].chain, X509_free);
        EVP_PKEY_free(parts->identities[i].key);
    }
    free(parts->identities);
    free(parts->expiries);
    free(parts);
}

static void find_place(void)
{
    place = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_parts);
}

int knit_tls_parts_add(SSL_CTX *context, const struct knit_settings *settings)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct knit_tls_parts *parts = calloc(1, sizeof(*parts));
    /* And two: of whom is trusted, and who is revoked. */
    size_t files = settings->tls_certificate.count + 2;

    (void)pthread_once(&once, find_place);
    if (parts == NULL)
        return -ENOMEM;
    parts->identities = calloc(files, sizeof(*parts->identities));
    parts->expiries = calloc(files, sizeof(*parts->expiries));
    if (parts->identities == NULL || parts->expiries == NULL ||
        SSL_CTX_set_ex_data(context, place, parts) != 1) {
        free(parts->identities);
        free(parts->expiries);
        free(parts);
        return -ENOMEM;
    }
    return 0;
}

struct knit_tls_parts *knit_tls_parts_of(const SSL_CTX *context)
{
    return SSL_CTX_get_ex_data(context, place);
}

size_t knit_tls_context_expiries(
    const SSL_CTX *context, const struct knit_tls_expiry **ret_expiries)
{
    const struct knit_tls_parts *parts = knit_tls_parts_of(context);

    *ret_expiries = parts->expiries;
    return parts->expiry_count;
}

void knit_tls_parts_note_expiry(struct knit_tls_parts *parts, const char *path, const ASN1_TIME *at)
{
    struct knit_tls_expiry *expiry;
    struct tm broken_down;
    time_t seconds;

    if (at == NULL || ASN1_TIME_to_tm(at, &broken_down) != 1)
        return;
    seconds = timegm(&broken_down);
    expiry = &parts->expiries[parts->expiry_count > 0 ? parts->expiry_count - 1 : 0];
    if (parts->expiry_count == 0 || strcmp(expiry->path, path) != 0) {
        expiry = &parts->expiries[parts->expiry_count++];
        *expiry = (struct knit_tls_expiry){path, seconds};
    } else if (seconds < expiry->at) {
        expiry->at = seconds;
    }
}
