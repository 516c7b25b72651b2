/* SPDX-License-Identifier: Apache-2.0 */
/* Who may call, for the whole daemon: the principals, and the file of tokens by which some of them
 * say who they are.
 *
 * Threads: the main thread's, but for what the parts say.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/daemon/reload.h"
#include "server/policy/authentication.h"
#include "server/policy/principals.h"

struct knit_identity {
    const struct knit_settings *settings;
    struct knit_principals principals;
    struct knit_authentication authentication;
    struct knit_tokens *next; /* read, and not in use yet; or NULL */
};

/* Whether the tokens can be read. Returns 0, KNIT_TOKENS_E_REFUSED, -ENOMEM, with a sentence. */
KNIT_MUST_CHECK int knit_identity_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* The same; end it in any case. */
KNIT_MUST_CHECK int knit_identity_init(struct knit_identity *identity,
    const struct knit_settings *settings, struct knit_sentence *why);
/* Accepts a zeroed one. */
void knit_identity_fini(struct knit_identity *identity);

/* The tokens, read anew. Connections whose token is gone end when their loops have looked
 * (knit_connections_recheck()). */
struct knit_reload_part knit_identity_part(struct knit_identity *identity);
