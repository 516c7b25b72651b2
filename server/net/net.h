/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection consists of, and what the connections of one event loop share: the lists they
 * stand in, the budget of their input, what their output holds, the buffer they read into.
 *
 * The parts of a connection (input.h, lookahead.h, output.h, handover.h) work on this state and do
 * not know connection.h, which puts them together. A part that cannot go on ends the connection by
 * knit_net_end(), or by knit_net_end_without_memory(), which says so in the log.
 *
 * Connections are freed at the end of a turn only (`dead`), so that no code further up the stack
 * finds its own connection gone.
 *
 * Threads: its loop's.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/scan.h"
#include "server/base/due.h"
#include "server/base/stage.h"
#include "server/base/turn.h"
#include "server/net/handshakes.h"
#include "server/net/hangup.h"
#include "server/net/tenant.h"
#include "server/net/transport.h"
#include "server/rpc/caller.h"

struct evbuffer;
struct knit_connection;
struct knit_handover;
struct knit_lookahead;
struct knit_router;

#define KNIT_NET_READ_BUFFER_BYTES (256u * 1024)

/* For one connection's input while others wait: a quiet one's few messages need no more than the
 * first; those that have more input than that go on by turns. */
#define KNIT_NET_FRESH_SLICE_NS 25000u
#define KNIT_NET_SLICE_NS       100000u
#define KNIT_NET_TURN_NS        1000000u /* of a turn for the input of all */

/* Scanned in one go before the clock is looked at: some 0.1 ms if each byte is a value. */
#define KNIT_NET_SCAN_BYTES (8u * 1024)

struct knit_input {
    uint8_t *bytes; /* NULL when len is 0 */
    size_t len;
    size_t capacity;
    size_t reserved_bytes; /* the capacity, or more: what the message may come to need */
    size_t ahead_bytes;    /* of the entries of its lookahead */
    size_t charged_bytes;  /* for both; 0 = they are few */
    bool has_place;        /* for the longest message; else from the rest, see input.c */
    uint64_t began_ns; /* while charged: when the message at the front was begun, at the latest */
    uint64_t progress_ns;  /* while charged: when enough of it had come last, ... */
    size_t progress_bytes; /* ... and what came since then */
};

struct knit_inputs {
    size_t charged_bytes;
    struct knit_connection_list large; /* those charged, the longest silent first */
    struct knit_tenants tenants;       /* of all connections */
    struct knit_tenant_list waiting;   /* have connections that wait for budget; go by turns */
};

struct knit_lookaheads {
    struct knit_connection_list to_scan; /* have new input */
    struct knit_dues dues;               /* when of each connection the next call is overdue */
};

struct knit_net {
    struct knit_turn *turn;
    struct knit_router *router;
    struct event_base *base; /* borrowed */
    struct knit_hangup_monitor hangups;
    struct knit_handshakes handshakes;
    struct knit_connection_list connections;
    struct knit_connection_list dirty;    /* have output to write at the end of the turn */
    struct knit_connection_list writable; /* had too much for one turn: go after the dirty */
    struct knit_connection_list fresh;    /* input has come, they had none: go before the ready */
    struct knit_connection_list ready;    /* may go on with bytes that no event reports */
    /* A slow reader, or closing: the sweep checks that it makes progress. */
    struct knit_connection_list stalled;
    struct knit_connection_list idle; /* all, longest idle first; with idle_timeout_s alone */
    struct knit_connection_list dead;
    struct knit_connection_list strangers; /* see strangers.h; the oldest first */
    uint32_t stranger_count;
    struct knit_inputs inputs;
    struct knit_lookaheads lookaheads;
    struct knit_stages stages;
    size_t copied_bytes; /* of all outputs, what does not lie in the reply arena */
    size_t pinned_bytes; /* of all outputs, what does */
    uint8_t *read_buffer;
    uint32_t slice_ns; /* for the connection that is served just now, while others wait */
};

/* Its own reasons for not being read, beside those of caller.h. */
enum {
    KNIT_PAUSE_OUTPUT = KNIT_PAUSE_OWN, /* its peer does not read its replies */
    KNIT_PAUSE_HANDOVER = 8,            /* descriptors wait until the output is empty */
    KNIT_PAUSE_CLOSING = 16,            /* for good */
    KNIT_PAUSE_TURN = 32,               /* has done enough for now: others have their turn first */
    KNIT_PAUSE_BUDGET = 64,             /* there is no room for more of its input */
};

/* Which events it waits for. */
enum knit_interest {
    KNIT_INTEREST_NOTHING,
    KNIT_INTEREST_INPUT,
    KNIT_INTEREST_ERROR, /* what is left after the end */
    KNIT_INTEREST_END,   /* and for errors: it is not read */
};

/* Which lists of struct knit_net, besides `connections`, it is in. */
enum {
    KNIT_IN_DIRTY = 1,
    KNIT_IN_READY = 2,
    KNIT_IN_STALLED = 4,
    KNIT_IN_IDLE = 8,
    KNIT_IN_TO_SCAN = 16, /* of `lookaheads` */
    KNIT_IN_LARGE = 32,   /* of `inputs` */
    KNIT_IN_WAITING_FOR_BUDGET = 64,
    KNIT_IN_FRESH = 128,    /* and not in `ready` */
    KNIT_IN_WRITABLE = 256, /* and not in `dirty` */
};

struct knit_connection {
    struct knit_caller caller;
    TAILQ_ENTRY(knit_connection) in_all;   /* or in `dead` */
    TAILQ_ENTRY(knit_connection) in_dirty; /* or in `writable` */
    TAILQ_ENTRY(knit_connection) in_ready; /* or in `fresh` */
    TAILQ_ENTRY(knit_connection) in_stalled;
    TAILQ_ENTRY(knit_connection) in_idle;
    TAILQ_ENTRY(knit_connection) in_to_scan;
    TAILQ_ENTRY(knit_connection) in_large;
    TAILQ_ENTRY(knit_connection) in_waiting_for_budget; /* of its tenant */
    TAILQ_ENTRY(knit_connection) in_strangers;
    struct knit_net *net;
    struct knit_tenant *tenant;
    struct knit_transport transport;
    uint16_t lists; /* KNIT_IN_* */
    bool is_dead;
    enum knit_interest interest;
    bool is_lingering; /* all is sent and the sending side shut: waits for the peer's end */
    bool has_message;  /* a whole one stands at the front of the input and is not dispatched */
    bool has_goaway;
    bool is_backlogged;  /* has more input than it was given time for; in `ready` */
    bool writes_to_read; /* its transport reads on when the socket takes more, ... */
    bool reads_to_write; /* ... or writes on when more has come */
    bool is_stranger;    /* has to say who it is before all else */
    bool is_relayed;     /* its proxy says that it comes from another machine */
    uint32_t stranger_bytes, stranger_sent_bytes; /* while it is one: read, and written */
    uint64_t opened_ns;                           /* of a stranger */

    struct event input_event;
    struct event output_event; /* pending while the socket takes no more */
    struct knit_scan scan;
    size_t fed; /* bytes of the message at the front that the scanner has seen */
    struct knit_input input;
    uint64_t received_ns;             /* when input last came */
    struct knit_lookahead *lookahead; /* what of it waits for a slot, or NULL */

    struct evbuffer *output; /* what does not fit caller.stage and goes behind it; or NULL */
    size_t pinned_bytes;     /* of it, lying in the reply arena */
    size_t copied_bytes;     /* the others that waited when it was last written */
    uint64_t progress_ns;    /* when output last moved far enough, or began to wait */
    uint64_t moved_ns;       /* when more than a trickle of it last left, or it began to wait */
    uint32_t moved_bytes;    /* that left since then */
    uint64_t activity_ns;    /* when more than a trickle last came or went */

    struct knit_handover *handover; /* a reply with descriptors that waits, or NULL */
};

/* Put a connection onto a list, unless it is in it already. */
static inline void knit_net_add_dirty(struct knit_connection *connection)
{
    if (connection->lists & (KNIT_IN_DIRTY | KNIT_IN_WRITABLE))
        return;
    TAILQ_INSERT_TAIL(&connection->net->dirty, connection, in_dirty);
    connection->lists |= KNIT_IN_DIRTY;
}

static inline void knit_net_add_writable(struct knit_connection *connection)
{
    if (connection->lists & (KNIT_IN_DIRTY | KNIT_IN_WRITABLE))
        return;
    TAILQ_INSERT_TAIL(&connection->net->writable, connection, in_dirty);
    connection->lists |= KNIT_IN_WRITABLE;
}

static inline void knit_net_leave_dirty(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_DIRTY)
        TAILQ_REMOVE(&connection->net->dirty, connection, in_dirty);
    if (connection->lists & KNIT_IN_WRITABLE)
        TAILQ_REMOVE(&connection->net->writable, connection, in_dirty);
    connection->lists &= (uint16_t) ~(KNIT_IN_DIRTY | KNIT_IN_WRITABLE);
}

static inline void knit_net_add_ready(struct knit_connection *connection)
{
    if (connection->lists & (KNIT_IN_READY | KNIT_IN_FRESH))
        return;
    TAILQ_INSERT_TAIL(&connection->net->ready, connection, in_ready);
    connection->lists |= KNIT_IN_READY;
}

static inline void knit_net_add_fresh(struct knit_connection *connection)
{
    if (connection->lists & (KNIT_IN_READY | KNIT_IN_FRESH))
        return;
    TAILQ_INSERT_TAIL(&connection->net->fresh, connection, in_ready);
    connection->lists |= KNIT_IN_FRESH;
}

static inline void knit_net_leave_ready(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_READY)
        TAILQ_REMOVE(&connection->net->ready, connection, in_ready);
    if (connection->lists & KNIT_IN_FRESH)
        TAILQ_REMOVE(&connection->net->fresh, connection, in_ready);
    connection->lists &= (uint16_t) ~(KNIT_IN_READY | KNIT_IN_FRESH);
    connection->is_backlogged = false;
}

/* Whether connections wait for time to go on with their input. */
static inline bool knit_net_is_crowded(const struct knit_net *net)
{
    return !TAILQ_EMPTY(&net->fresh) || !TAILQ_EMPTY(&net->ready);
}

/* Input has come or is gone on with. */
static inline void knit_net_begin_input(const struct knit_net *net)
{
    knit_turn_tick(net->turn);
    if (net->turn->input_until_ns == 0)
        net->turn->input_until_ns = net->turn->now_ns + KNIT_NET_TURN_NS;
}

/* Whether the turn has no time left for input. */
static inline bool knit_net_is_turn_spent(const struct knit_net *net)
{
    return net->turn->input_until_ns != 0 && net->turn->now_ns >= net->turn->input_until_ns;
}

static inline void knit_net_add_stalled(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_STALLED)
        return;
    TAILQ_INSERT_TAIL(&connection->net->stalled, connection, in_stalled);
    connection->lists |= KNIT_IN_STALLED;
    connection->net->turn->needs_sweep = true;
}

/* Adds one of its own reasons for not being read; knit_caller_unpause() takes it away. */
static inline void knit_net_pause(struct knit_connection *connection, uint8_t reason)
{
    connection->caller.pauses |= reason;
}

/* Ends the connection now, see knit_connection_close(). */
static inline void knit_net_end(struct knit_connection *connection)
{
    connection->caller.ops->close(&connection->caller);
}

static inline void knit_net_end_without_memory(struct knit_connection *connection)
{
    connection->caller.ops->close_without_memory(&connection->caller);
}
