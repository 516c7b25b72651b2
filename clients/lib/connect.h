/* SPDX-License-Identifier: Apache-2.0 */
/* A connected, non-blocking stream socket. */
#pragma once

#include <stdint.h>

#include "clients/lib/url.h"

struct knit_error;

/* Tries every address of the host in turn until until_ns (CLOCK_MONOTONIC). Asking for the host's
 * addresses is not bounded by it. Returns 0, or the code of an error. */
int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error);
