/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens are searched with the lock, so those that were replaced can be freed at once. */
#include "server/policy/authentication.h"

#include <errno.h>

void knit_authentication_init(
    struct knit_authentication *authentication, struct knit_principals *principals)
{
    *authentication = (struct knit_authentication){.principals = principals};
    (void)pthread_mutex_init(&authentication->mutex, NULL);
}

void knit_authentication_fini(struct knit_authentication *authentication)
{
    if (authentication->principals == NULL)
        return;
    authentication->tokens = knit_tokens_free(authentication->tokens);
    knit_failures_fini(&authentication->failures);
    (void)pthread_mutex_destroy(&authentication->mutex);
    authentication->principals = NULL;
}

void knit_authentication_set_tokens(
    struct knit_authentication *authentication, struct knit_tokens *tokens)
{
    struct knit_tokens *before;

    (void)pthread_mutex_lock(&authentication->mutex);
    before = authentication->tokens;
    authentication->tokens = tokens;
    (void)pthread_mutex_unlock(&authentication->mutex);
    (void)knit_tokens_free(before);
}

int knit_authentication_by_token(struct knit_authentication *authentication, struct knit_span token,
    struct knit_principal **ret_principal, uint64_t *ret_key)
{
    struct knit_principal *principal = NULL;
    const char *name = NULL;
    bool has_tokens;

    (void)pthread_mutex_lock(&authentication->mutex);
    has_tokens = authentication->tokens != NULL;
    if (has_tokens)
        name = knit_tokens_find(authentication->tokens, token, ret_key);
    if (name != NULL)
        principal = knit_principals_named(authentication->principals, KNIT_PRINCIPAL_TOKEN, name);
    (void)pthread_mutex_unlock(&authentication->mutex);
    if (!has_tokens)
        return KNIT_AUTHENTICATION_E_NONE;
    if (name == NULL)
        return KNIT_AUTHENTICATION_E_UNKNOWN;
    *ret_principal = principal;
    return principal != NULL ? 0 : -ENOMEM;
}

bool knit_authentication_has(struct knit_authentication *authentication, uint64_t key)
{
    bool has;

    (void)pthread_mutex_lock(&authentication->mutex);
    has = authentication->tokens != NULL && knit_tokens_has(authentication->tokens, key);
    (void)pthread_mutex_unlock(&authentication->mutex);
    return has;
}

bool knit_authentication_knows(struct knit_authentication *authentication, const char *principal)
{
    bool knows;

    (void)pthread_mutex_lock(&authentication->mutex);
    knows = authentication->tokens != NULL && knit_tokens_knows(authentication->tokens, principal);
    (void)pthread_mutex_unlock(&authentication->mutex);
    return knows;
}

struct knit_failures_verdict knit_authentication_failed(
    struct knit_authentication *authentication, uint64_t address, uint64_t now_ns)
{
    struct knit_failures_verdict verdict;

    (void)pthread_mutex_lock(&authentication->mutex);
    verdict = knit_failures_note(&authentication->failures, address, now_ns);
    (void)pthread_mutex_unlock(&authentication->mutex);
    return verdict;
}
