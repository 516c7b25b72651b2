/* SPDX-License-Identifier: Apache-2.0 */
/* What it takes to say who one is: the tokens, and who failed lately to say a right one.
 *
 * Threads: any; one mutex, which is taken for a `$/hello` with a token alone. Tokens are replaced
 * by the main thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"
#include "server/policy/failures.h"
#include "server/policy/principals.h"
#include "server/policy/tokens.h"

enum {
    KNIT_AUTHENTICATION_E_UNKNOWN = 1, /* it is nobody's token */
    KNIT_AUTHENTICATION_E_NONE,        /* the daemon has no tokens */
};

struct knit_authentication {
    struct knit_principals *principals; /* borrowed */
    pthread_mutex_t mutex;
    struct knit_tokens *tokens; /* NULL: the setting is not given */
    struct knit_failures failures;
};

void knit_authentication_init(
    struct knit_authentication *authentication, struct knit_principals *principals);
/* Accepts a zeroed one. */
void knit_authentication_fini(struct knit_authentication *authentication);

/* From now on these are the tokens; takes them over. */
void knit_authentication_set_tokens(
    struct knit_authentication *authentication, struct knit_tokens *tokens);

/* The principal whose token it is, to be given back by knit_principals_drop(); ret_key stands for
 * the token. Returns 0, KNIT_AUTHENTICATION_E_UNKNOWN, _E_NONE, -ENOMEM. */
KNIT_MUST_CHECK int knit_authentication_by_token(struct knit_authentication *authentication,
    struct knit_span token, struct knit_principal **ret_principal, uint64_t *ret_key);

/* Whether the token that the key stands for is still somebody's. */
bool knit_authentication_has(struct knit_authentication *authentication, uint64_t key);

/* Whether there is a token by which a caller is that principal, "token:" and a name. */
bool knit_authentication_knows(struct knit_authentication *authentication, const char *principal);

/* Somebody at the address has failed. */
struct knit_failures_verdict knit_authentication_failed(
    struct knit_authentication *authentication, uint64_t address, uint64_t now_ns);
