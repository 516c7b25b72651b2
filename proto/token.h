/* SPDX-License-Identifier: Apache-2.0 */
/* What a token and the name of its owner may be. */
#pragma once

#include <stdbool.h>

/* 128 bits: fewer may be guessed, whatever somebody has the digest of. */
#define KNIT_TOKEN_BYTES_MIN 16u
#define KNIT_TOKEN_BYTES_MAX 1024u

#define KNIT_TOKEN_NAME_MAX  64u
#define KNIT_TOKEN_NAME_RULE "a name has at most 64 letters, digits and ._@/-"

bool knit_token_is_name(const char *name);
