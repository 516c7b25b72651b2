/* SPDX-License-Identifier: Apache-2.0 */
/* All connections of an event loop: their part of a turn, and of the sweep once a second.
 *
 * Threads: its loop's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/net/net.h"

struct knit_calls;

/* Returns 0 or -errno; then nothing is left. */
KNIT_MUST_CHECK int knit_connections_init(struct knit_net *net, struct knit_turn *turn,
    struct knit_router *router, struct event_base *base);

/* All connections are closed and freed. Before the base is freed. Accepts a zeroed one. */
void knit_connections_fini(struct knit_net *net);

/* Connections that are fresh or ready go on, for as long as the turn has time for input. */
void knit_connections_resume_ready(struct knit_net *net);

/* Writes output, about as much as a turn has time for, and frees what was closed. */
void knit_connections_flush(struct knit_net *net);

/* Whether connections have something to do that no event reports. */
static inline bool knit_connections_has_work(const struct knit_net *net)
{
    return knit_net_is_crowded(net) || !TAILQ_EMPTY(&net->dirty) || !TAILQ_EMPTY(&net->writable) ||
           !TAILQ_EMPTY(&net->lookaheads.to_scan) || knit_handshakes_has_work(&net->handshakes);
}

/* Whether some output has not been written yet. */
bool knit_connections_has_output(const struct knit_net *net);

/* Adds what each connection has, when the loop lists its calls. */
void knit_connections_list(const struct knit_net *net, struct knit_calls *calls);

/* Once a second, while turn->needs_sweep asks for it: ends connections that make no progress. */
void knit_connections_sweep(struct knit_net *net);

/* The router drains: `$/goaway` to connections that said `$/hello`, and what waits in those whose
 * calls are refused goes on. Again with each step of the drain. */
void knit_connections_drain(struct knit_net *net, uint64_t drain_ms);

/* Whether there are connections that a drain goes on to serve, since they have said no `$/hello`
 * and so cannot be told to go elsewhere. After knit_connections_drain(). */
bool knit_connections_serve_plain(const struct knit_net *net);

/* The session is evicted: ends the connection that is its lease. */
void knit_connections_end_session(struct knit_net *net, uint64_t session_id);

/* Tokens or policy have changed: ends connections whose token is gone, and holds those no more to a
 * stranger's limits who may do something now. */
void knit_connections_recheck(struct knit_net *net);

void knit_connections_close_all(struct knit_net *net);
