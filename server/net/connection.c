/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, being a caller, reading, closing. The parts below it do the rest: dispatch.h what was
 * read, output.h and sending.h what is written.
 */
#include "server/net/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/dispatch.h"
#include "server/net/handover.h"
#include "server/net/input.h"
#include "server/net/interest.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/net/sending.h"
#include "server/net/strangers.h"
#include "server/net/transport_tls.h"
#include "server/policy/certificate.h"
#include "server/policy/principals.h"
#include "server/rpc/attach.h"
#include "server/rpc/references.h"
#include "server/rpc/reports.h"
#include "server/rpc/router.h"
#include "server/rpc/takeover.h"

/* Of one message, before they count as traffic. */
enum { TRICKLE_BYTES = 4096 };

static void on_input(evutil_socket_t fd, short events, void *arg);
static void on_output(evutil_socket_t fd, short events, void *arg);

static void log_debug(const struct knit_connection *connection, const char *message)
{
    const struct knit_net *net = connection->net;

    if (!(net->turn->settings->debug_bits & KNIT_DEBUG_HOST))
        return;
    knit_log(net->turn->log, KNIT_LOG_DEBUG, message, KNIT_LOG_NUMBER("loop", net->turn->loop),
        KNIT_LOG_NUMBER("fd", connection->transport.fd),
        KNIT_LOG_TEXT("kind", connection->transport.ops->name),
        KNIT_LOG_CALLER(&connection->caller),
        KNIT_LOG_NUMBER("calls", connection->caller.calls.count));
}

/* None where they cannot be read. */
static struct knit_credentials credentials_of(const struct knit_transport *transport)
{
    struct ucred found;

    if (!knit_transport_passes_descriptors(transport) ||
        knit_transport_credentials(transport, &found) != 0)
        return (struct knit_credentials)KNIT_CREDENTIALS_NONE;
    return (struct knit_credentials){true, found.uid, found.gid, found.pid, transport->fd};
}

/* Its peer sees a connection that ends, and no more. */
static void log_lack(struct knit_turn *turn, int fd, const char *peer, const char *name)
{
    if (knit_turn_may_say(turn, KNIT_LOG_NO_MEMORY))
        knit_log(turn->log, KNIT_LOG_ERROR, "connection closed: out of memory",
            KNIT_LOG_NUMBER("fd", fd), KNIT_LOG_TEXT("peer", peer),
            KNIT_LOG_TEXT("name", name[0] != '\0' ? name : "none"));
}

/* ---- as a caller --------------------------------------------------------------------------- */

static struct knit_connection *connection_of(struct knit_caller *caller)
{
    return (struct knit_connection *)(void *)((char *)caller -
                                              offsetof(struct knit_connection, caller));
}

static void deliver(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    if (knit_reports_are_on(caller->router))
        knit_reports_end_outcome(caller, msgid, outcome);
    knit_output_outcome(connection_of(caller), msgid, outcome);
}

static struct knit_stage *begin_stage(struct knit_caller *caller)
{
    struct knit_connection *connection = connection_of(caller);

    if (caller->stage != NULL)
        knit_sending_flush(connection);
    return knit_output_begin_stage(connection);
}

/* Of a value that is left out, the count of the next one tells: so a reader that is slow gets those
 * that it has time for. */
static void emit(struct knit_caller *caller, uint32_t msgid, struct knit_span value, uint32_t count)
{
    struct knit_connection *connection = connection_of(caller);

    if (knit_output_waiting(connection) <= knit_output_limit(connection))
        knit_sending_progress(
            connection, &(struct knit_progress){.msgid = msgid, .value = value, .count = count});
}

static void reply(struct knit_caller *caller, uint32_t msgid, struct knit_span result)
{
    if (knit_reports_are_on(caller->router))
        knit_reports_end_result(caller, msgid, result);
    knit_output_result(connection_of(caller), msgid, result);
}

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    if (knit_reports_are_on(caller->router))
        knit_reports_end_failure(caller, msgid, failure);
    knit_output_failure(connection_of(caller), msgid, failure);
}

static int hand_over(struct knit_caller *caller, uint32_t msgid, struct knit_span response,
    const int *fds, uint32_t count)
{
    struct knit_connection *connection = connection_of(caller);
    int r = knit_handover_begin(connection, msgid, response, fds, count);

    if (r == 0)
        knit_sending_flush(connection);
    return r;
}

static void ready(struct knit_caller *caller)
{
    struct knit_connection *connection = connection_of(caller);

    if (!connection->is_dead)
        knit_net_add_ready(connection);
}

static void resume(struct knit_caller *caller)
{
    knit_connection_resume(connection_of(caller));
}

static bool is_private(const struct knit_caller *caller)
{
    const struct knit_connection *connection =
        (const struct knit_connection *)(const void *)((const char *)caller -
                                                       offsetof(struct knit_connection, caller));

    /* What its proxy was sent has come over a network, be the proxy on this machine. */
    if (connection->is_relayed && !connection->transport.ops->encrypts)
        return false;
    return knit_transport_is_private(&connection->transport);
}

static void end_caller(struct knit_caller *caller)
{
    knit_sending_close(connection_of(caller));
}

static void close_caller(struct knit_caller *caller)
{
    knit_connection_close(connection_of(caller));
}

static void close_without_memory(struct knit_caller *caller)
{
    struct knit_connection *connection = connection_of(caller);

    if (!connection->is_dead)
        log_lack(caller->turn, connection->transport.fd, caller->peer, caller->name);
    knit_connection_close(connection);
}

static const struct knit_caller_ops caller_ops = {.deliver = deliver,
    .begin_stage = begin_stage,
    .emit = emit,
    .reply = reply,
    .refuse = refuse,
    .hand_over = hand_over,
    .ready = ready,
    .resume = resume,
    .is_private = is_private,
    .end = end_caller,
    .close = close_caller,
    .close_without_memory = close_without_memory};

/* ---- open and close ------------------------------------------------------------------------ */

/* NULL: no memory. */
static struct knit_principal *principal_of(struct knit_net *net,
    const struct knit_transport *transport, const struct knit_credentials *credentials)
{
    X509 *peer = transport->tls != NULL ? knit_tls_stream_peer(transport->tls) : NULL;
    char name[KNIT_PRINCIPAL_NAME_MAX];

    if (peer != NULL && knit_certificate_name(peer, name))
        return knit_principals_named(net->turn->principals, KNIT_PRINCIPAL_CERTIFICATE, name);
    return knit_principals_local(net->turn->principals, credentials);
}

/* Returns 0 or -ENOMEM, and then it keeps nothing. */
static int begin_caller(struct knit_connection *connection, struct knit_net *net,
    const struct knit_transport *transport, uint64_t tenant)
{
    struct knit_credentials credentials = credentials_of(transport);
    struct knit_principal *principal = principal_of(net, transport, &credentials);

    if (principal != NULL)
        connection->tenant = knit_tenant_join(&net->inputs.tenants, tenant);
    if (connection->tenant == NULL) {
        knit_principals_drop(net->turn->principals, principal);
        return -ENOMEM;
    }
    connection->net = net;
    connection->transport = *transport;
    connection->caller = (struct knit_caller){.ops = &caller_ops,
        .router = net->router,
        .turn = net->turn,
        .principal = principal,
        .credentials = credentials,
        .address = connection->tenant->key,
        .kept_by_tenant = &connection->tenant->kept_bytes,
        .form = KNIT_FAILURE_PLAIN,
        .takes_descriptors = knit_transport_passes_descriptors(transport)};
    return 0;
}

/* Of the kinds of connections that are counted by themselves, one more or less. */
static void count_kind(const struct knit_connection *connection, uint64_t more)
{
    struct knit_counters *counters = &connection->net->turn->counters;

    if (knit_transport_passes_descriptors(&connection->transport))
        knit_counter_add(&counters->connections_unix, more);
    else if (connection->transport.ops->encrypts)
        knit_counter_add(&counters->connections_tls, more);
}

int knit_connection_open(struct knit_net *net, struct knit_transport transport)
{
    return knit_connection_open_for(net, transport, NULL);
}

int knit_connection_open_for(
    struct knit_net *net, struct knit_transport transport, const struct knit_endpoint *from)
{
    uint64_t tenant =
        from != NULL ? knit_endpoint_tenant(from) : knit_endpoint_peer_tenant(transport.fd);
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)net->turn->settings->message_max_bytes, .bounds_parts = true};
    struct knit_connection *connection = calloc(1, sizeof(*connection));
    char peer[sizeof(connection->caller.peer)];

    /* Now: a peer that resets the connection has no name afterwards. */
    if (from != NULL)
        knit_endpoint_text(from, peer);
    else if (knit_transport_address(&transport, peer) != 0)
        (void)snprintf(peer, sizeof(peer), "gone");
    if (connection == NULL || begin_caller(connection, net, &transport, tenant) != 0) {
        free(connection);
        log_lack(net->turn, transport.fd, peer, "");
        transport.ops->close(&transport);
        KNIT_COUNT(net->turn, connections_closed);
        return -ENOMEM;
    }
    memcpy(connection->caller.peer, peer, sizeof(peer));
    connection->is_relayed = from != NULL && !knit_endpoint_is_loopback(from);
    connection->activity_ns = net->turn->now_ns;
    knit_scan_init(&connection->scan, &limits);
    (void)event_assign(&connection->input_event, net->base, transport.fd, EV_READ | EV_PERSIST,
        on_input, connection);
    (void)event_assign(&connection->output_event, net->base, transport.fd, EV_WRITE | EV_PERSIST,
        on_output, connection);
    TAILQ_INSERT_TAIL(&net->connections, connection, in_all);
    count_kind(connection, 1);
    if (net->turn->settings->idle_timeout_s > 0) {
        TAILQ_INSERT_TAIL(&net->idle, connection, in_idle);
        connection->lists |= KNIT_IN_IDLE;
        net->turn->needs_sweep = true;
    }
    log_debug(connection, "connection opened");
    knit_interest_set(connection, KNIT_INTEREST_INPUT);
    if (!connection->is_dead && knit_transport_pending(&connection->transport))
        knit_net_add_ready(connection);
    knit_strangers_join(connection);
    return 0;
}

static void leave_lists(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    knit_net_leave_dirty(connection);
    knit_net_leave_ready(connection);
    if (connection->lists & KNIT_IN_STALLED)
        TAILQ_REMOVE(&net->stalled, connection, in_stalled);
    if (connection->lists & KNIT_IN_IDLE)
        TAILQ_REMOVE(&net->idle, connection, in_idle);
    knit_lookahead_forget(connection);
    knit_strangers_leave(connection);
    connection->lists &= KNIT_IN_LARGE | KNIT_IN_WAITING_FOR_BUDGET;
}

void knit_connection_close(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    if (connection->is_dead)
        return;
    log_debug(connection, "connection closed");
    connection->is_dead = true;
    count_kind(connection, UINT64_MAX);
    leave_lists(connection);
    knit_router_forget(&connection->caller);
    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    knit_takeover_end(&connection->caller);
    knit_interest_set(connection, KNIT_INTEREST_NOTHING);
    (void)event_del(&connection->output_event);
    connection->transport.ops->close(&connection->transport);
    knit_input_uncharge(connection);
    knit_output_drop(connection);
    TAILQ_REMOVE(&net->connections, connection, in_all);
    TAILQ_INSERT_TAIL(&net->dead, connection, in_all);
    KNIT_COUNT(net->turn, connections_closed);
}

void knit_connection_free(struct knit_connection *connection)
{
    if (connection->output != NULL)
        evbuffer_free(connection->output);
    knit_lookahead_free(connection);
    knit_input_free(connection);
    knit_tenant_leave(connection->tenant);
    knit_principals_drop(connection->net->turn->principals, connection->caller.principal);
    free(connection);
}

/* It waits for slots alone, and further input may be a `$/cancel`. */
static bool looks_ahead(const struct knit_connection *connection)
{
    return (connection->caller.pauses & ~(KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT)) == 0 &&
           connection->input.len < KNIT_LOOKAHEAD_BYTES;
}

/* Bytes that the transport holds are reported by no event. A connection that is paused for another
 * reason comes here again when that reason is gone. */
static bool may_read_pending(const struct knit_connection *connection)
{
    if (connection->is_dead || !knit_transport_pending(&connection->transport))
        return false;
    /* What it holds of one that is leaving is its end, which is known. */
    if (connection->caller.gone_ns != 0 && connection->caller.pauses != 0)
        return false;
    return connection->is_lingering || connection->caller.pauses == 0 || looks_ahead(connection);
}

/* ---- input --------------------------------------------------------------------------------- */

static enum knit_transport_result receive(
    struct knit_connection *connection, void *room, size_t size, size_t *ret_len)
{
    enum knit_transport_result result;

    if (connection->is_stranger && size >= knit_strangers_room(connection)) {
        size = knit_strangers_room(connection);
        if (size == 0) {
            knit_strangers_drop_sender(connection);
            return KNIT_TRANSPORT_WANT_READ;
        }
    }
    result = knit_transport_receive(&connection->transport, room, size, ret_len);
    if (result == KNIT_TRANSPORT_OK) {
        knit_strangers_count(connection, *ret_len);
        knit_net_begin_input(connection->net);
        connection->received_ns = connection->net->turn->now_ns;
        knit_counter_add(&connection->net->turn->counters.bytes_in, *ret_len);
    } else if (result == KNIT_TRANSPORT_WANT_WRITE) {
        connection->writes_to_read = true;
        if (event_add(&connection->output_event, NULL) < 0)
            knit_net_end_without_memory(connection);
    }
    if (connection->reads_to_write && !connection->is_dead) {
        connection->reads_to_write = false;
        knit_net_add_dirty(connection);
    }
    return result;
}

/* Through the buffer that all connections share. */
static enum knit_transport_result read_shared(struct knit_connection *connection, size_t *ret_len)
{
    struct knit_input *input = &connection->input;
    uint8_t *buffer = connection->net->read_buffer;
    size_t before = input->len, done, len;
    enum knit_transport_result result = receive(connection, buffer + before,
        knit_input_room(connection, KNIT_NET_READ_BUFFER_BYTES - before), ret_len);

    if (result != KNIT_TRANSPORT_OK)
        return result;
    if (before > 0)
        memcpy(buffer, input->bytes, before);
    len = before + *ret_len;
    done = knit_dispatch_input(connection, buffer, len);
    if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return result;
    if (knit_input_keep(connection, buffer + done, len - done) != 0)
        knit_net_end_without_memory(connection);
    return result;
}

/* Straight into the connection's own memory. */
static enum knit_transport_result read_own(struct knit_connection *connection, size_t *ret_len)
{
    struct knit_input *input = &connection->input;
    enum knit_transport_result result;
    size_t done, room;
    int r = knit_input_grow(connection);

    if (r != 0) {
        if (r != KNIT_INPUT_E_LATER)
            knit_net_end_without_memory(connection);
        return KNIT_TRANSPORT_WANT_READ;
    }
    room = input->capacity - input->len;
    result = receive(connection, input->bytes + input->len,
        room < KNIT_NET_READ_BUFFER_BYTES ? room : KNIT_NET_READ_BUFFER_BYTES, ret_len);
    if (result != KNIT_TRANSPORT_OK)
        return result;
    input->len += *ret_len;
    done = knit_dispatch_input(connection, input->bytes, input->len);
    if (!connection->is_dead && !(connection->caller.pauses & KNIT_PAUSE_CLOSING))
        knit_input_drop_front(connection, done);
    return result;
}

static void end_for_gift(struct knit_connection *connection)
{
    KNIT_COUNT(connection->net->turn, messages_bad);
    if (knit_turn_may_say(connection->net->turn, KNIT_LOG_GIFT))
        knit_log(connection->net->turn->log, KNIT_LOG_WARNING,
            "connection closed: its peer sent descriptors",
            KNIT_LOG_NUMBER("fd", connection->transport.fd), KNIT_LOG_CALLER(&connection->caller));
    knit_connection_close(connection);
}

static void touch(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    connection->activity_ns = net->turn->now_ns;
    if (connection->lists & KNIT_IN_IDLE) {
        TAILQ_REMOVE(&net->idle, connection, in_idle);
        TAILQ_INSERT_TAIL(&net->idle, connection, in_idle);
    }
}

/* Whether a read of len bytes was more than the next few of a message begun before: a peer that
 * sends a byte a second keeps its place for as long as a message is large, so that alone is no
 * traffic. */
static bool is_traffic(const struct knit_connection *connection, uint32_t used_before, size_t len)
{
    uint32_t used = connection->scan.used;

    return used_before == 0 || used != used_before + (uint32_t)len ||
           used / TRICKLE_BYTES != used_before / TRICKLE_BYTES;
}

/* What still comes after the last reply is thrown away, so that closing does not reset the
 * connection before the peer has read it. */
static void discard(struct knit_connection *connection)
{
    size_t len;
    enum knit_transport_result result =
        receive(connection, connection->net->read_buffer, KNIT_NET_READ_BUFFER_BYTES, &len);

    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN ||
        result == KNIT_TRANSPORT_GIFT)
        knit_connection_close(connection);
}

/* The peer is gone, and notifications that it sent wait. Their sender need not stay, so they are
 * published when it is their turn, and those behind them that are in the socket still; all else
 * that it sent ends now. */
static void begin_leaving(struct knit_connection *connection)
{
    /* Until it is read again, to its end. */
    knit_interest_set(connection, KNIT_INTEREST_NOTHING);
    if (connection->caller.gone_ns != 0)
        return;
    connection->caller.gone_ns = connection->net->turn->now_ns;
    knit_router_forget(&connection->caller);
    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    knit_lookahead_drop_calls(connection);
    knit_router_stop_waiting(&connection->caller);
}

/* The peer sends no more: it wants no outcomes of calls that have none yet, but it may still be
 * reading replies. */
static void end_of_input(struct knit_connection *connection)
{
    if (knit_output_waiting(connection) == 0) {
        knit_connection_close(connection);
        return;
    }
    knit_router_forget(&connection->caller);
    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    knit_sending_close(connection);
    knit_interest_set(connection, KNIT_INTEREST_ERROR);
}

/* Its stream has ended, or is broken. */
static void lose_peer(struct knit_connection *connection, bool is_broken)
{
    if (knit_lookahead_has_notifications(connection))
        begin_leaving(connection);
    else if (is_broken)
        knit_connection_close(connection);
    else if (!connection->is_dead)
        end_of_input(connection);
}

/* It is given no more time, and its input, in this turn: it goes on when the others have had
 * theirs. */
static void wait_in_backlog(struct knit_connection *connection)
{
    connection->is_backlogged = true;
    knit_net_add_ready(connection);
}

/* Reads once. */
static void read_messages(struct knit_connection *connection)
{
    uint32_t used_before = connection->scan.used;
    enum knit_transport_result result;
    size_t len = 0;

    result = connection->input.len <= KNIT_INPUT_COPIED_MAX ? read_shared(connection, &len)
                                                            : read_own(connection, &len);
    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN) {
        lose_peer(connection, result == KNIT_TRANSPORT_BROKEN);
    } else if (result == KNIT_TRANSPORT_GIFT) {
        end_for_gift(connection);
    } else if (result == KNIT_TRANSPORT_OK && !connection->is_dead) {
        if (connection->caller.pauses != 0 && looks_ahead(connection))
            knit_lookahead_begin(connection);
        knit_input_touch(connection, len);
        if (is_traffic(connection, used_before, len))
            touch(connection);
        /* There may be more in its socket. */
        if (len >= KNIT_INPUT_COPIED_MAX && connection->caller.pauses == 0 &&
            knit_net_is_crowded(connection->net))
            wait_in_backlog(connection);
    }
}

/* Reads on, unless a pause forbids it. */
static void read_input(struct knit_connection *connection)
{
    if (connection->is_lingering) {
        discard(connection);
    } else if (connection->caller.pauses == 0 || looks_ahead(connection)) {
        read_messages(connection);
    } else if (connection->caller.pauses != KNIT_PAUSE_TURN) {
        /* Only now does the pause cost system calls; most are over before more input comes. */
        knit_interest_set(connection, KNIT_INTEREST_END);
        return;
    }
    if (may_read_pending(connection))
        knit_net_add_ready(connection);
}

static void on_input(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;
    bool is_late;

    (void)fd, (void)events;
    connection->net->turn->had_events = true;
    if (connection->is_backlogged || connection->lists & KNIT_IN_FRESH)
        return;
    is_late = knit_net_is_turn_spent(connection->net) || !TAILQ_EMPTY(&connection->net->fresh);
    if (!is_late)
        read_input(connection);
    else if (connection->caller.pauses == 0 || looks_ahead(connection))
        knit_net_add_fresh(connection);
    else if (!connection->is_lingering)
        read_input(connection);
}

void knit_connection_read(struct knit_connection *connection)
{
    if (!connection->is_dead && (connection->caller.pauses == 0 || looks_ahead(connection)) &&
        !(connection->lists & KNIT_IN_READY))
        read_input(connection);
}

/* The peer has gone while the connection was not read. */
void knit_connection_on_hangup(void *arg, bool is_broken)
{
    struct knit_connection *connection = arg;

    connection->net->turn->had_events = true;
    lose_peer(connection, is_broken);
}

static void on_output(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;

    (void)fd, (void)events;
    connection->net->turn->had_events = true;
    if (connection->writes_to_read) {
        connection->writes_to_read = false;
        wait_in_backlog(connection);
        if (!(connection->lists & KNIT_IN_STALLED))
            (void)event_del(&connection->output_event);
    }
    knit_net_add_writable(connection);
}

void knit_connection_resume(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t done;

    connection->caller.pauses &= (uint8_t)~KNIT_PAUSE_TURN;
    if (connection->caller.references != NULL && !connection->is_dead)
        knit_references_resume(&connection->caller);
    if (knit_dispatch_may(connection)) {
        touch(connection);
        if (input->len > 0) {
            knit_net_begin_input(connection->net);
            done = knit_dispatch_input(connection, input->bytes, input->len);
            if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
                return;
            knit_input_drop_front(connection, done);
        }
        if (connection->caller.pauses == 0 && connection->interest != KNIT_INTEREST_INPUT)
            knit_interest_set(connection, KNIT_INTEREST_INPUT);
    }
    if (may_read_pending(connection))
        read_input(connection);
}
