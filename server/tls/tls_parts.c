/* SPDX-License-Identifier: Apache-2.0 */
/* They hang on the context as its own data, which the library frees with its last user. */
#include "server/tls/tls_parts.h"

#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    free(parts->validities);
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
    parts->validities = calloc(files, sizeof(*parts->validities));
    if (parts->identities == NULL || parts->validities == NULL ||
        SSL_CTX_set_ex_data(context, place, parts) != 1) {
        free(parts->identities);
        free(parts->validities);
        free(parts);
        return -ENOMEM;
    }
    return 0;
}

struct knit_tls_parts *knit_tls_parts_of(const SSL_CTX *context)
{
    return SSL_CTX_get_ex_data(context, place);
}

int knit_tls_parts_check_file(const char *setting, const char *path, struct knit_sentence *why)
{
    struct stat status;

    if (stat(path, &status) < 0 || S_ISREG(status.st_mode))
        return 0;
    return knit_sentence_set(
        why, KNIT_TLS_CONTEXT_E_REFUSED, "server.%s: %s is no regular file", setting, path);
}

size_t knit_tls_context_validities(
    const SSL_CTX *context, const struct knit_tls_validity **ret_validities)
{
    const struct knit_tls_parts *parts = knit_tls_parts_of(context);

    *ret_validities = parts->validities;
    return parts->validity_count;
}

static struct knit_tls_validity *find(struct knit_tls_parts *parts, const char *path)
{
    struct knit_tls_validity *last = &parts->validities[parts->validity_count];

    if (parts->validity_count > 0 && strcmp(last[-1].path, path) == 0)
        return last - 1;
    *last = (struct knit_tls_validity){.path = path, .from = 0, .until = INT64_MAX};
    parts->validity_count++;
    return last;
}

/* Returns whether it can be read. */
static bool read_time(const ASN1_TIME *at, time_t *ret_seconds)
{
    struct tm broken_down;

    if (at == NULL || ASN1_TIME_to_tm(at, &broken_down) != 1)
        return false;
    *ret_seconds = timegm(&broken_down);
    return true;
}

struct knit_tls_validity *knit_tls_parts_note(
    struct knit_tls_parts *parts, const char *path, const ASN1_TIME *from, const ASN1_TIME *until)
{
    struct knit_tls_validity *validity = find(parts, path);
    time_t seconds;

    if (read_time(from, &seconds) && seconds > validity->from)
        validity->from = seconds;
    if (read_time(until, &seconds) && seconds < validity->until)
        validity->until = seconds;
    return validity;
}
