/* SPDX-License-Identifier: Apache-2.0 */
/* A session before it can call: it gets its lanes or its hello from whoever opens it, a connection
 * or a pool of this process.
 *
 * Threads: one at a time.
 */
#pragma once

#include <knitting/knitting.h>

/* Options that no session takes. Returns KNIT_OK or KNIT_BAD_ARGUMENT. */
KNIT_MUST_CHECK int knit_open_check(
    const struct knit_open_options *options, struct knit_error *ret_error);

/* One without a connection. NULL: out of memory. */
struct knit *knit_open_new(const struct knit_open_options *options);

/* Frees it with its lanes, whatever it has. */
void knit_open_free(struct knit *k);
