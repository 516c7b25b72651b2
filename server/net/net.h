/* SPDX-License-Identifier: Apache-2.0 */
/* What the connections of one event loop share: the lists they stand in, the budget of their input,
 * what their output holds, the buffer they read into.
 *
 * Connections are freed at the end of a turn only (`dead`), so that no code further up the stack
 * finds its own connection gone.
 *
 * Threads: its loop's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "server/base/turn.h"
#include "server/net/hangup.h"
#include "server/net/input.h"
#include "server/net/lookahead.h"

struct knit_connection;
struct knit_router;
TAILQ_HEAD(knit_connections, knit_connection);

#define KNIT_NET_READ_BUFFER_BYTES (256u * 1024)

struct knit_net {
    struct knit_turn *turn;
    struct knit_router *router;
    struct event_base *base; /* borrowed */
    struct knit_hangup_monitor hangups;
    struct knit_connections connections;
    struct knit_connections dirty;   /* have output to write at the end of the turn */
    struct knit_connections ready;   /* may go on with bytes that no event reports */
    struct knit_connections stalled; /* a slow reader, or closing: the sweep looks for progress */
    struct knit_connections idle;    /* all, longest idle first; with idle_timeout_s alone */
    struct knit_connections dead;
    struct knit_inputs inputs;
    struct knit_lookaheads lookaheads;
    size_t copied_bytes; /* of all outputs, what does not lie in the reply arena */
    size_t pinned_bytes; /* of all outputs, what does */
    uint8_t *read_buffer;
};

/* Returns 0 or -errno; then nothing is left. */
KNIT_MUST_CHECK int knit_net_init(struct knit_net *net, struct knit_turn *turn,
    struct knit_router *router, struct event_base *base);

/* All connections are closed and freed. Before the base is freed. Accepts a zeroed one. */
void knit_net_fini(struct knit_net *net);

/* Put a connection onto a list, unless it is in it already. */
void knit_net_add_dirty(struct knit_connection *connection);
void knit_net_add_ready(struct knit_connection *connection);
void knit_net_add_stalled(struct knit_connection *connection);

/* Connections that are ready go on. */
void knit_net_resume_ready(struct knit_net *net);

/* Writes the output of the turn and frees what was closed. */
void knit_net_flush(struct knit_net *net);

/* Whether connections have something to do that no event reports. */
static inline bool knit_net_has_work(const struct knit_net *net)
{
    return !TAILQ_EMPTY(&net->ready) || !TAILQ_EMPTY(&net->dirty);
}

/* Whether some output has not been written yet. */
bool knit_net_has_output(const struct knit_net *net);

/* Once a second, while turn->needs_sweep asks for it: ends connections that make no progress. */
void knit_net_sweep(struct knit_net *net);

/* No more calls are taken: `$/goaway` to connections that said `$/hello`. */
void knit_net_drain(struct knit_net *net, uint64_t drain_ms);

/* The session is evicted: ends the connection that is its lease. */
void knit_net_end_session(struct knit_net *net, uint64_t session_id);

void knit_net_close_all(struct knit_net *net);
