/* SPDX-License-Identifier: Apache-2.0 */
/* The file `tokens`: whose token is which.
 *
 *     # name    digest of the token
 *     nightly   sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 *
 * A name may have several tokens, so that a new one is given out before the old one goes; a token
 * has one name. A digest cannot be turned back into its token, as long as that is what `knit token`
 * makes, 256 random bits; what the file gives away are the names. Who may write it may be anybody,
 * so a file that others than root and the daemon's user may write is refused.
 *
 * Threads: constant once it is read.
 * Limits: KNIT_TOKENS_MAX tokens, those of proto/token.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "proto/span.h"
#include "proto/token.h"

#define KNIT_TOKENS_MAX 4096u

/* "token:" and a name. */
#define KNIT_TOKENS_PRINCIPAL_MAX (KNIT_TOKEN_NAME_MAX + 8)

enum {
    KNIT_TOKENS_E_REFUSED = 1, /* the sentence says where and why */
};

struct knit_tokens;

/* Returns 0, KNIT_TOKENS_E_REFUSED, -ENOMEM; always with a sentence but for 0. */
KNIT_MUST_CHECK int knit_tokens_read(
    const char *path, struct knit_tokens **ret_tokens, struct knit_sentence *why);

/* NULL is allowed; returns NULL. */
struct knit_tokens *knit_tokens_free(struct knit_tokens *tokens);

size_t knit_tokens_count(const struct knit_tokens *tokens);

/* Whose token it is: the name of its principal, which lives as long as the tokens; NULL: nobody's.
 * ret_key stands for the token from then on, and tells nobody what it is. The time that it takes
 * depends on how many tokens there are and on the length of this one, and not on how much of it is
 * that of another. */
const char *knit_tokens_find(
    const struct knit_tokens *tokens, struct knit_span token, uint64_t *ret_key);

/* Whether one of them is that principal's, "token:" and a name. */
bool knit_tokens_knows(const struct knit_tokens *tokens, const char *principal);

/* Whether the token is still somebody's. */
bool knit_tokens_has(const struct knit_tokens *tokens, uint64_t key);
