/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force is one pointer, so it changes as a whole. */
#include "server/daemon/certificates.h"

#include <openssl/ssl.h>
#include <stddef.h>

#include "server/tls/tls_context.h"

static int prepare(void *arg, struct knit_sentence *why)
{
    struct knit_certificates *certificates = arg;

    return knit_tls_context_new(certificates->settings, &certificates->next, why);
}

static void commit(void *arg)
{
    struct knit_certificates *certificates = arg;

    knit_tls_store_replace(certificates->store, certificates->next);
    certificates->next = NULL;
}

static void abandon(void *arg)
{
    struct knit_certificates *certificates = arg;

    SSL_CTX_free(certificates->next);
    certificates->next = NULL;
}

int knit_certificates_init(struct knit_certificates *certificates,
    const struct knit_settings *settings, struct knit_sentence *why)
{
    SSL_CTX *context;
    int r;

    *certificates = (struct knit_certificates){.settings = settings};
    if (!knit_tls_context_is_wanted(settings))
        return 0;
    r = knit_tls_context_new(settings, &context, why);
    if (r != 0)
        return r;
    knit_tls_store_init(&certificates->memory, context);
    certificates->store = &certificates->memory;
    return 0;
}

void knit_certificates_fini(struct knit_certificates *certificates)
{
    if (certificates->store != NULL)
        knit_tls_store_fini(certificates->store);
    certificates->store = NULL;
}

struct knit_reload_part knit_certificates_part(struct knit_certificates *certificates)
{
    return (struct knit_reload_part){.name = certificates->store != NULL ? "tls_certificate" : NULL,
        .prepare = prepare,
        .commit = commit,
        .abandon = abandon,
        .arg = certificates};
}
