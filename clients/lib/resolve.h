/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a host, looked up without waiting: see resolve.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct addrinfo;
struct knit_error;
struct knit_lookup;

/* Stream addresses of the URL's host and port, to be freed by freeaddrinfo(). A numeric host needs
 * no resolver: *ret_list has them at once, and *ret_lookup is NULL. For a name *ret_list is NULL,
 * and a thread looks it up that this call begins, unless *kept (NULL = none) still looks for the
 * same URL: that is gone on with. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_resolve_begin(const struct knit_url *url, struct knit_lookup **kept,
    struct addrinfo **ret_list, struct knit_lookup **ret_lookup, struct knit_error *ret_error);

/* Whether the URL's host is a name, which is looked up. */
KNIT_MUST_CHECK bool knit_resolve_is_name(const struct knit_url *url);

/* Closes its descriptor, as a forked child does, which has its memory and not its thread. */
void knit_lookup_close(struct knit_lookup *lookup);

/* Readable once the lookup is done. */
int knit_lookup_fd(const struct knit_lookup *lookup);
KNIT_MUST_CHECK bool knit_lookup_is_done(struct knit_lookup *lookup);

/* Of one that is done, once: KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_lookup_take(
    struct knit_lookup *lookup, struct addrinfo **ret_list, struct knit_error *ret_error);

/* The error of one that is not done in time. Returns its code. */
int knit_lookup_time_out(const struct knit_lookup *lookup, struct knit_error *ret_error);

/* Has it go on for whoever looks for the same URL next, so that threads of a resolver that hangs
 * are not more than URLs. NULL is allowed. */
void knit_lookup_keep(struct knit_lookup *lookup, struct knit_lookup **kept);

/* At any time: a thread that still looks ends by itself once the resolver answers. NULL is allowed;
 * returns NULL. */
struct knit_lookup *knit_lookup_free(struct knit_lookup *lookup);
