/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a host, looked up within a time, which the resolver alone does not keep: see
 * resolve.c. */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct addrinfo;
struct knit_error;

/* Stream addresses of the URL's host and port, to be freed by freeaddrinfo(). A numeric host needs
 * no resolver and is there at once. A name is looked up in a thread that this call begins; it is
 * left alone at until_ns (CLOCK_MONOTONIC), and then ends by itself once the resolver answers.
 * Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_resolve(const struct knit_url *url, uint64_t until_ns,
    struct addrinfo **ret, struct knit_error *ret_error);
