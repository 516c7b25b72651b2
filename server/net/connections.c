/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a turn, and of the sweep, that concern connections. */
#include "server/net/connections.h"

#include <errno.h>
#include <stdlib.h>

#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/connection.h"
#include "server/net/hangup.h"
#include "server/net/input.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/net/sending.h"
#include "server/net/strangers.h"
#include "server/rpc/calls.h"
#include "server/rpc/identify.h"
#include "server/rpc/router.h"

enum {
    LINGER_S = 2, /* for the peer of a closed connection to end its side */
    FLUSHED_BYTES = 1024 * 1024,
};

int knit_connections_init(struct knit_net *net, struct knit_turn *turn, struct knit_router *router,
    struct event_base *base)
{
    int r;

    *net = (struct knit_net){.turn = turn, .router = router, .base = base};
    knit_handshakes_init(&net->handshakes);
    TAILQ_INIT(&net->connections);
    TAILQ_INIT(&net->dirty);
    TAILQ_INIT(&net->writable);
    TAILQ_INIT(&net->fresh);
    TAILQ_INIT(&net->ready);
    TAILQ_INIT(&net->stalled);
    TAILQ_INIT(&net->idle);
    TAILQ_INIT(&net->dead);
    TAILQ_INIT(&net->strangers);
    knit_inputs_init(&net->inputs);
    knit_lookaheads_init(&net->lookaheads);
    net->slice_ns = KNIT_NET_FRESH_SLICE_NS;
    r = knit_hangup_open(&net->hangups, base, knit_connection_on_hangup);
    if (r != 0)
        return r;
    net->read_buffer = malloc(KNIT_NET_READ_BUFFER_BYTES);
    if (net->read_buffer == NULL) {
        knit_connections_fini(net);
        return -ENOMEM;
    }
    return 0;
}

void knit_connections_fini(struct knit_net *net)
{
    if (net->base == NULL)
        return;
    knit_hangup_close(&net->hangups);
    knit_lookaheads_fini(&net->lookaheads);
    knit_stages_fini(&net->stages);
    free(net->read_buffer);
    net->read_buffer = NULL;
    net->base = NULL;
}

/* ---- turns --------------------------------------------------------------------------------- */

static void read_fresh(struct knit_net *net)
{
    struct knit_connection *connection;

    while (!knit_net_is_turn_spent(net) && (connection = TAILQ_FIRST(&net->fresh)) != NULL) {
        knit_net_leave_ready(connection);
        knit_connection_resume(connection);
        knit_connection_read(connection);
        knit_turn_tick(net->turn);
    }
}

void knit_connections_resume_ready(struct knit_net *net)
{
    struct knit_connection *connection;
    size_t count = 0;

    net->slice_ns = KNIT_NET_FRESH_SLICE_NS;
    read_fresh(net);
    net->slice_ns = KNIT_NET_SLICE_NS;
    /* Those that become ready meanwhile wait for the next turn. They all stay in one list, since a
     * connection that goes on may close others, which leave it. The first one goes on whatever time
     * it is, so none waits for ever. */
    TAILQ_FOREACH(connection, &net->ready, in_ready)
    count++;
    for (; count > 0 && (connection = TAILQ_FIRST(&net->ready)) != NULL; count--) {
        bool is_backlogged = connection->is_backlogged;

        knit_net_leave_ready(connection);
        knit_connection_resume(connection);
        if (is_backlogged)
            knit_connection_read(connection);
        knit_turn_tick(net->turn);
        if (knit_net_is_turn_spent(net))
            break;
    }
    /* Of those that waited for a slot and go on. */
    net->slice_ns = KNIT_NET_FRESH_SLICE_NS;
}

static void free_dead(struct knit_net *net)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&net->dead)) != NULL) {
        TAILQ_REMOVE(&net->dead, connection, in_all);
        knit_connection_free(connection);
    }
}

void knit_connections_flush(struct knit_net *net)
{
    struct knit_connection *connection;
    uint64_t bytes_out_max = knit_counter_read(&net->turn->counters.bytes_out) + FLUSHED_BYTES;

    /* What writing costs is the copying, so it is counted in bytes. */
    while (((connection = TAILQ_FIRST(&net->dirty)) != NULL ||
               (connection = TAILQ_FIRST(&net->writable)) != NULL) &&
           knit_counter_read(&net->turn->counters.bytes_out) < bytes_out_max) {
        knit_net_leave_dirty(connection);
        knit_sending_flush(connection);
    }
    free_dead(net);
    net->turn->input_until_ns = 0;
    net->slice_ns = KNIT_NET_FRESH_SLICE_NS;
}

bool knit_connections_has_output(const struct knit_net *net)
{
    const struct knit_connection *connection;

    TAILQ_FOREACH(connection, &net->connections, in_all)
    if (knit_output_waiting(connection) > 0)
        return true;
    return false;
}

void knit_connections_list(const struct knit_net *net, struct knit_calls *calls)
{
    const struct knit_connection *connection;

    TAILQ_FOREACH(connection, &net->connections, in_all)
    knit_calls_add_caller(calls, &connection->caller, knit_lookahead_since_ns(connection));
}

/* ---- the sweep ----------------------------------------------------------------------------- */

static void sweep_stalled(struct knit_net *net)
{
    uint64_t stall_ns = net->turn->settings->output_stall_s * UINT64_C(1000000000);
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&net->stalled); connection != NULL; connection = next) {
        uint64_t since_ns = net->turn->now_ns - connection->progress_ns;

        next = TAILQ_NEXT(connection, in_stalled);
        if (connection->is_lingering ? since_ns < LINGER_S * UINT64_C(1000000000)
                                     : since_ns < stall_ns)
            continue;
        if (connection->is_lingering)
            knit_connection_close(connection);
        else
            knit_output_drop_reader(connection);
    }
}

static void sweep_idle(struct knit_net *net)
{
    uint64_t idle_ns = net->turn->settings->idle_timeout_s * UINT64_C(1000000000);
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&net->idle); connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, in_idle);
        if (net->turn->now_ns - connection->activity_ns < idle_ns)
            break;
        if (connection->caller.calls.count == 0 && connection->lookahead == NULL &&
            connection->caller.session_id == 0)
            knit_connection_close(connection);
    }
}

void knit_connections_sweep(struct knit_net *net)
{
    knit_handshakes_sweep(net);
    sweep_stalled(net);
    knit_strangers_sweep(net);
    knit_inputs_sweep(net);
    knit_output_make_room(net);
    if (net->turn->settings->idle_timeout_s > 0)
        sweep_idle(net);
    if (!TAILQ_EMPTY(&net->stalled) || !TAILQ_EMPTY(&net->idle) ||
        !TAILQ_EMPTY(&net->inputs.large) || !TAILQ_EMPTY(&net->inputs.waiting))
        net->turn->needs_sweep = true;
}

/* ---- ends ---------------------------------------------------------------------------------- */

static bool is_plain(const struct knit_connection *connection)
{
    return connection->caller.form == KNIT_FAILURE_PLAIN && connection->caller.session_id == 0 &&
           !(connection->caller.pauses & KNIT_PAUSE_CLOSING);
}

void knit_connections_drain(struct knit_net *net, uint64_t drain_ms)
{
    struct knit_connection *connection, *next;

    /* One is closed here if there is no memory for its message. Calls that still wait are refused
     * now: the end of a peer that is gone may stand behind them. */
    for (connection = TAILQ_FIRST(&net->connections); connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, in_all);
        knit_sending_goaway(connection, drain_ms);
        if (knit_router_drains_for(&connection->caller)) {
            knit_router_stop_waiting(&connection->caller);
        } else if (!connection->is_dead) {
            /* To the front, where knit_connections_serve_plain() finds it at once. */
            TAILQ_REMOVE(&net->connections, connection, in_all);
            TAILQ_INSERT_HEAD(&net->connections, connection, in_all);
        }
    }
}

bool knit_connections_serve_plain(const struct knit_net *net)
{
    const struct knit_connection *connection;

    TAILQ_FOREACH(connection, &net->connections, in_all)
    if (is_plain(connection))
        return true;
    /* Nor can one say anything before its handshake is over. */
    return !TAILQ_EMPTY(&net->handshakes.all);
}

void knit_connections_end_session(struct knit_net *net, uint64_t session_id)
{
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&net->connections); connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, in_all);
        if (connection->caller.session_id == session_id)
            knit_connection_close(connection);
    }
}

void knit_connections_recheck(struct knit_net *net)
{
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&net->connections); connection != NULL; connection = next) {
        if (!knit_principal_is_stranger(connection->caller.principal))
            knit_strangers_leave(connection);
        else if (!connection->is_stranger)
            knit_strangers_join(connection);
        /* Another one may have been closed for it. */
        next = TAILQ_NEXT(connection, in_all);
        if (knit_identify_holds(&connection->caller))
            continue;
        if (knit_turn_may_say(net->turn, KNIT_LOG_TOKEN_GONE))
            knit_log(net->turn->log, KNIT_LOG_WARNING, "connection closed: its token is gone",
                KNIT_LOG_TEXT("principal", connection->caller.principal->name),
                KNIT_LOG_CALLER(&connection->caller));
        knit_connection_close(connection);
    }
}

void knit_connections_close_all(struct knit_net *net)
{
    struct knit_connection *connection;

    knit_handshakes_close_all(net);
    while ((connection = TAILQ_FIRST(&net->connections)) != NULL)
        knit_connection_close(connection);
    free_dead(net);
}
