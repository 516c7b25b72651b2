/* SPDX-License-Identifier: Apache-2.0 */
/* The token of a session, and where it comes from.
 *
 * Threads: one at a time. Nothing blocks, but for the file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/span.h"
#include "proto/token.h"

struct knit_error;
struct knit_token;
struct knit_token_options;

/* Copies the options, and reads the token once, to name what is wrong with it. *ret is NULL for
 * options that are. Returns KNIT_OK, KNIT_BAD_ARGUMENT, KNIT_INTERNAL. */
KNIT_MUST_CHECK int knit_token_new(const struct knit_token_options *options,
    struct knit_token **ret, struct knit_error *ret_error);

/* NULL is allowed; returns NULL. */
struct knit_token *knit_token_free(struct knit_token *token);

/* The token, to be said over a connection on that descriptor, if that may be: an absent span for
 * NULL. It lies in `room`, which is wiped when it has been said. Returns KNIT_OK or
 * KNIT_BAD_ARGUMENT. */
KNIT_MUST_CHECK int knit_token_say(const struct knit_token *token, int fd, bool is_encrypted,
    char room[KNIT_TOKEN_BYTES_MAX + 1], struct knit_span *ret_token, struct knit_error *ret_error);
