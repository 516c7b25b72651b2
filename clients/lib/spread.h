/* SPDX-License-Identifier: Apache-2.0 */
/* What a session with several endpoints (endpoints.h) does for them beside its calls: it looks
 * whether their connections go on, asks those that are silent by `$/ping`, and looks names up
 * again. reconnect.c opens the connections.
 *
 * Threads: as the session: one at a time. Nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct addrinfo;
struct knit;
struct knit_endpoint;
struct knit_open_options;

/* Of a session whose places are known. A session that never has more than one gets nothing. False:
 * out of memory. */
KNIT_MUST_CHECK bool knit_spread_init(struct knit *k, const struct knit_open_options *options);

/* The stream that was opened serves. tried: whose it is; NULL = it is to be found out. list: as
 * what the name of its host was looked up, or NULL. */
void knit_spread_serve(
    struct knit *k, struct knit_endpoint *tried, const struct addrinfo *list, uint64_t now_ns);

/* That one could not be connected. */
void knit_spread_fail(struct knit *k, struct knit_endpoint *tried, uint64_t now_ns);

/* Look at all connections. */
void knit_spread_look(struct knit *k, uint64_t now_ns);

/* Look up the names when it is time, and take what was found; while no attempt is under way. */
void knit_spread_look_up(struct knit *k, uint64_t now_ns);

/* The one to connect now; NULL: none. */
struct knit_endpoint *knit_spread_next(struct knit *k, uint64_t now_ns);

/* When one of these has something to do, whatever happens. */
uint64_t knit_spread_due_ns(struct knit *k);

/* Whether an endpoint has no connection, but may have one again. */
bool knit_spread_lacks_any(const struct knit *k);
