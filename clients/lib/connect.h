/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to where a URL points: the result is a connected, non-blocking stream socket.
 *
 * Threads: one at a time. Nothing blocks but knit_connect(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct addrinfo;
struct knit_connecting; /* an attempt that is under way */
struct knit_error;
struct knit_lookup;
struct sockaddr;

/* Looks up the host, and then tries its addresses until until_ns (CLOCK_MONOTONIC). kept: of the
 * session, for the lookup of this URL that goes on when the attempt is over (resolve.h); NULL = it
 * is left alone then. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_connect_begin(const struct knit_url *url, uint64_t until_ns,
    struct knit_lookup **kept, struct knit_connecting **ret, struct knit_error *ret_error);

/* The same of one address of that host, which was looked up before. */
KNIT_MUST_CHECK int knit_connect_begin_at(const struct knit_url *url,
    const struct sockaddr *address, uint64_t until_ns, struct knit_connecting **ret,
    struct knit_error *ret_error);

/* Whenever knit_connect_fd() is readable, or knit_connect_due_ns() is over. Returns KNIT_OK with
 * the socket, KNIT_PENDING, or the code of an error. */
KNIT_MUST_CHECK int knit_connect_step(
    struct knit_connecting *connecting, int *ret_fd, struct knit_error *ret_error);

/* Of one that has connected: what the host's name was looked up as, which remains the attempt's;
 * NULL: no host was. */
const struct addrinfo *knit_connect_list(const struct knit_connecting *connecting);

/* Likewise: how many other addresses there are, to which further steps would connect; and until
 * when the one that is connected may be silent, so that each of these has as much time. */
int knit_connect_others(const struct knit_connecting *connecting);
uint64_t knit_connect_share_ns(const struct knit_connecting *connecting);

int knit_connect_fd(const struct knit_connecting *connecting);
uint64_t knit_connect_due_ns(const struct knit_connecting *connecting);
bool knit_connect_is_resolving(const struct knit_connecting *connecting);

/* Closes its descriptors, as a forked child must; it can only be freed then. NULL is allowed. */
void knit_connect_close(struct knit_connecting *connecting);

/* NULL is allowed; returns NULL. */
struct knit_connecting *knit_connect_free(struct knit_connecting *connecting);

/* All of it, until it is done. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_connect(
    const struct knit_url *url, uint64_t until_ns, int *ret_fd, struct knit_error *ret_error);
