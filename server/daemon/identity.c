/* SPDX-License-Identifier: Apache-2.0 */
/* The first reading is a reload of which nothing is abandoned: it refuses the start. */
#include "server/daemon/identity.h"

#include <errno.h>

int knit_identity_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    struct knit_tokens *tokens = NULL;
    int r = 0;

    if (settings->tokens != NULL)
        r = knit_tokens_read(settings->tokens, &tokens, why);
    (void)knit_tokens_free(tokens);
    return r;
}

static int prepare(void *arg, struct knit_sentence *why)
{
    struct knit_identity *identity = arg;

    return knit_tokens_read(identity->settings->tokens, &identity->next, why);
}

static void commit(void *arg, struct knit_log *log, struct knit_sentence *note)
{
    struct knit_identity *identity = arg;

    (void)log, (void)note;
    knit_authentication_set_tokens(&identity->authentication, identity->next);
    identity->next = NULL;
}

static void abandon(void *arg)
{
    struct knit_identity *identity = arg;

    identity->next = knit_tokens_free(identity->next);
}

int knit_identity_init(
    struct knit_identity *identity, const struct knit_settings *settings, struct knit_sentence *why)
{
    int r = knit_principals_init(&identity->principals);

    identity->settings = settings;
    if (r != 0)
        return knit_sentence_set(why, r, "out of memory");
    knit_authentication_init(&identity->authentication, &identity->principals);
    if (settings->require_authentication)
        knit_principals_require(&identity->principals);
    if (settings->tokens == NULL)
        return 0;
    r = prepare(identity, why);
    if (r == 0)
        commit(identity, NULL, NULL);
    return r;
}

void knit_identity_fini(struct knit_identity *identity)
{
    knit_authentication_fini(&identity->authentication);
    knit_principals_fini(&identity->principals);
}

struct knit_reload_part knit_identity_part(struct knit_identity *identity)
{
    return (struct knit_reload_part){.name = identity->settings->tokens != NULL ? "tokens" : NULL,
        .prepare = prepare,
        .commit = commit,
        .abandon = abandon,
        .arg = identity};
}
