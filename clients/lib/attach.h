/* SPDX-License-Identifier: Apache-2.0 */
/* A source of lanes: attaching to a daemon on this machine, over the session's stream. */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

struct knit;
struct knit_error;
struct knit_lanes;
struct knit_open_options;

/* The stream has said `$/hello`. Blocks until until_ns. The lanes use the session, which outlives
 * them. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_attach(struct knit *k, const struct knit_open_options *options,
    uint64_t until_ns, struct knit_lanes **ret, struct knit_error *ret_error);
