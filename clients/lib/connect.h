/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to where a URL points: the result is a connected, non-blocking stream socket. */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct knit_error;

/* Looks up the host and tries its addresses until until_ns (CLOCK_MONOTONIC). Returns KNIT_OK, or
 * the code of an error. */
KNIT_MUST_CHECK int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error);
