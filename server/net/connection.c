/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, dispatching, pausing, ending.
 *
 * `fed` says how much of the message at the front the scanner has seen, so no byte is scanned
 * twice, in how many pieces the message arrives and wherever its bytes are moved. A message that
 * the scanner refuses before it is whole (too large, too deep) is not kept: its bytes are scanned
 * and dropped, and its msgid, which the scanner remembers, gets the error at its end.
 */
#include "server/net/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/goaway.h"
#include "proto/message.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/handover.h"
#include "server/net/hangup.h"
#include "server/net/input.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/rpc/attach.h"
#include "server/rpc/method.h"
#include "server/rpc/router.h"

enum {
    /* Of one message, before they count as traffic. */
    TRICKLE_BYTES = 4096,
    /* What a connection may do at a time while others wait. Some messages cost ten thousand times
     * what others do, so the clock is read as well, after every few of them. */
    MESSAGES_A_TURN = 1024,
    MESSAGES_A_LOOK = 8,
    TURN_NS = 1000 * 1000,
};

static bool may_dispatch(const struct knit_connection *connection)
{
    return connection->caller.pauses == 0 && !connection->is_dead;
}

static void on_input(evutil_socket_t fd, short events, void *arg);
static void on_output(evutil_socket_t fd, short events, void *arg);

static void set_interest(struct knit_connection *connection, enum knit_interest wanted)
{
    struct knit_net *net = connection->net;
    int r = 0;

    if (connection->interest == KNIT_INTEREST_INPUT)
        (void)event_del(&connection->input_event);
    else if (connection->interest != KNIT_INTEREST_NOTHING)
        knit_hangup_remove(&net->hangups, connection->transport.fd);
    connection->interest = KNIT_INTEREST_NOTHING;
    if (wanted == KNIT_INTEREST_INPUT)
        r = event_add(&connection->input_event, NULL);
    else if (wanted != KNIT_INTEREST_NOTHING)
        r = knit_hangup_add(
            &net->hangups, connection->transport.fd, connection, wanted == KNIT_INTEREST_END);
    /* Without an event it would never be closed. */
    if (r < 0)
        knit_connection_close(connection);
    else
        connection->interest = wanted;
}

static void log_debug(const struct knit_connection *connection, const char *message)
{
    const struct knit_net *net = connection->net;
    char address[KNIT_ENDPOINT_TEXT_MAX];

    if (!(net->turn->settings->debug_bits & KNIT_DEBUG_HOST))
        return;
    if (knit_transport_address(&connection->transport, address) != 0)
        (void)snprintf(address, sizeof(address), "gone");
    knit_log(net->turn->log, KNIT_LOG_DEBUG, message, KNIT_LOG_NUMBER("loop", net->turn->loop),
        KNIT_LOG_NUMBER("fd", connection->transport.fd),
        KNIT_LOG_TEXT("kind", connection->transport.ops->name), KNIT_LOG_TEXT("peer", address),
        KNIT_LOG_NUMBER("calls", connection->caller.calls.count));
}

/* A peer whose credentials cannot be read is anonymous. */
static struct knit_principal principal_of(const struct knit_transport *transport)
{
    struct ucred credentials;

    if (!knit_transport_passes_descriptors(transport) ||
        knit_transport_credentials(transport, &credentials) != 0)
        return (struct knit_principal){.kind = KNIT_PRINCIPAL_ANONYMOUS, .fd = -1};
    return (struct knit_principal){
        KNIT_PRINCIPAL_LOCAL, credentials.uid, credentials.gid, credentials.pid, transport->fd};
}

/* ---- as a caller --------------------------------------------------------------------------- */

static struct knit_connection *connection_of(struct knit_caller *caller)
{
    return (struct knit_connection *)((char *)caller - offsetof(struct knit_connection, caller));
}

static void deliver(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    knit_output_outcome(connection_of(caller), msgid, outcome);
}

static void reply(struct knit_caller *caller, uint32_t msgid, struct knit_span result)
{
    knit_output_result(connection_of(caller), msgid, result);
}

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    knit_output_failure(connection_of(caller), msgid, failure);
}

static int hand_over(struct knit_caller *caller, uint32_t msgid, struct knit_span response,
    struct knit_pool_grant *grant)
{
    struct knit_connection *connection = connection_of(caller);
    int r = knit_handover_begin(connection, msgid, response, grant);

    if (r == 0)
        knit_connection_flush(connection);
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

static void close_caller(struct knit_caller *caller)
{
    knit_connection_close(connection_of(caller));
}

static const struct knit_caller_ops caller_ops = {.deliver = deliver,
    .reply = reply,
    .refuse = refuse,
    .hand_over = hand_over,
    .ready = ready,
    .resume = resume,
    .close = close_caller};

/* ---- open and close ------------------------------------------------------------------------ */

int knit_connection_open(struct knit_net *net, struct knit_transport transport)
{
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)net->turn->settings->message_max_bytes};
    struct knit_connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        transport.ops->close(&transport);
        /* The main thread counts it as open until it is closed. */
        KNIT_COUNT(net->turn, connections_accepted);
        KNIT_COUNT(net->turn, connections_closed);
        return -ENOMEM;
    }
    connection->net = net;
    connection->transport = transport;
    connection->caller = (struct knit_caller){.ops = &caller_ops,
        .router = net->router,
        .turn = net->turn,
        .principal = principal_of(&transport),
        .form = KNIT_FAILURE_PLAIN,
        .takes_descriptors = knit_transport_passes_descriptors(&transport)};
    connection->activity_ns = net->turn->now_ns;
    knit_scan_init(&connection->scan, &limits);
    (void)event_assign(&connection->input_event, net->base, transport.fd, EV_READ | EV_PERSIST,
        on_input, connection);
    (void)event_assign(&connection->output_event, net->base, transport.fd, EV_WRITE | EV_PERSIST,
        on_output, connection);
    TAILQ_INSERT_TAIL(&net->connections, connection, in_all);
    if (net->turn->settings->idle_timeout_s > 0) {
        TAILQ_INSERT_TAIL(&net->idle, connection, in_idle);
        connection->lists |= KNIT_IN_IDLE;
        net->turn->needs_sweep = true;
    }
    KNIT_COUNT(net->turn, connections_accepted);
    log_debug(connection, "connection opened");
    set_interest(connection, KNIT_INTEREST_INPUT);
    return 0;
}

static void leave_lists(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    if (connection->lists & KNIT_IN_DIRTY)
        TAILQ_REMOVE(&net->dirty, connection, in_dirty);
    if (connection->lists & KNIT_IN_READY)
        TAILQ_REMOVE(&net->ready, connection, in_ready);
    if (connection->lists & KNIT_IN_STALLED)
        TAILQ_REMOVE(&net->stalled, connection, in_stalled);
    if (connection->lists & KNIT_IN_IDLE)
        TAILQ_REMOVE(&net->idle, connection, in_idle);
    knit_lookahead_forget(connection);
    connection->lists &= KNIT_IN_LARGE | KNIT_IN_WAITING_FOR_BUDGET;
}

void knit_connection_close(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    if (connection->is_dead)
        return;
    log_debug(connection, "connection closed");
    connection->is_dead = true;
    leave_lists(connection);
    knit_router_forget(&connection->caller);
    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    set_interest(connection, KNIT_INTEREST_NOTHING);
    (void)event_del(&connection->output_event);
    connection->transport.ops->close(&connection->transport);
    knit_input_uncharge(connection);
    knit_output_uncharge(connection);
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
    free(connection);
}

/* Ends it after its output has gone; nothing more is read. */
static void close_soon(struct knit_connection *connection)
{
    if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    connection->caller.pauses |= KNIT_PAUSE_CLOSING;
    connection->progress_ns = connection->net->turn->now_ns;
    knit_input_free(connection);
    knit_lookahead_forget(connection);
    knit_net_add_stalled(connection);
    knit_net_add_dirty(connection);
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
    if (knit_transport_pending(&connection->transport) == 0 || connection->is_dead)
        return false;
    return connection->is_lingering || connection->caller.pauses == 0 || looks_ahead(connection);
}

/* The output of a closing one has gone: shuts the sending side and waits for the peer's end. */
static void linger(struct knit_connection *connection)
{
    if (connection->is_lingering || connection->is_dead)
        return;
    connection->is_lingering = true;
    connection->progress_ns = connection->net->turn->now_ns;
    connection->transport.ops->shut_down(&connection->transport);
    set_interest(connection, KNIT_INTEREST_INPUT);
    if (may_read_pending(connection))
        knit_net_add_ready(connection);
}

void knit_connection_flush(struct knit_connection *connection)
{
    if (connection->is_dead || knit_output_flush(connection) != KNIT_OUTPUT_EMPTY)
        return;
    if (connection->caller.pauses & KNIT_PAUSE_CLOSING)
        linger(connection);
    else if (connection->handover != NULL)
        knit_handover_send(connection);
}

void knit_connection_send_goaway(struct knit_connection *connection, uint64_t drain_ms)
{
    const struct knit_method method = {.name = knit_span_text("$/goaway")};
    const struct knit_goaway goaway = {knit_span_text("the server is shutting down"), drain_ms};
    struct knit_buffer *scratch = &connection->net->turn->scratch;
    struct knit_buffer params;
    uint8_t memory[128];

    if (connection->caller.form != KNIT_FAILURE_FULL || connection->has_goaway ||
        connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    connection->has_goaway = true;
    knit_buffer_init_fixed(&params, memory, sizeof(memory));
    knit_buffer_reset(scratch);
    if (knit_goaway_put(&params, &goaway) == 0 &&
        knit_message_put_notification(scratch, &method, knit_buffer_span(&params)) == 0)
        knit_output_message(connection, knit_buffer_span(scratch));
}

/* ---- messages ------------------------------------------------------------------------------ */

/* The stream has no boundaries any more, or its sender does not keep to the protocol. */
static void end_bad_stream(struct knit_connection *connection, uint32_t code, const char *reason)
{
    struct knit_net *net = connection->net;

    KNIT_COUNT(net->turn, messages_bad);
    if (knit_turn_may_warn(net->turn))
        knit_log(net->turn->log, KNIT_LOG_WARNING, "connection closed for a bad message",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_NUMBER("loop", net->turn->loop),
            KNIT_LOG_NUMBER("fd", connection->transport.fd));
    if (connection->scan.has_msgid && connection->scan.kind == KNIT_MESSAGE_REQUEST) {
        struct knit_failure failure = knit_failure(code, reason);

        knit_output_failure(connection, connection->scan.msgid, &failure);
    }
    close_soon(connection);
}

/* The error is the one response of that msgid: the call is aborted and not answered. */
static void end_for_msgid(struct knit_connection *connection)
{
    knit_router_forget(&connection->caller);
    end_bad_stream(connection, KNIT_BAD_MESSAGE, "the msgid is that of a call still in flight");
}

/* Well-formed, but beyond a limit. */
static void refuse_message(struct knit_connection *connection)
{
    const struct knit_scan *scan = &connection->scan;
    const char *text =
        scan->refused == KNIT_TOO_DEEP ? "the message nests too deep" : "the message is too large";
    struct knit_failure failure = knit_failure(scan->refused, text);

    uint32_t slot;

    if (scan->kind == KNIT_MESSAGE_REQUEST && scan->has_msgid &&
        knit_in_flight_find(&connection->caller.calls, scan->msgid, &slot)) {
        end_for_msgid(connection);
        return;
    }
    KNIT_COUNT(connection->net->turn, messages_bad);
    if (scan->kind != KNIT_MESSAGE_REQUEST || !scan->has_msgid)
        return;
    if (scan->refused == KNIT_TOO_LARGE) {
        failure.limit = connection->net->turn->settings->message_max_bytes;
        failure.actual = scan->used;
    } else {
        failure.limit = KNIT_DEPTH_MAX;
    }
    knit_output_failure(connection, scan->msgid, &failure);
}

/* When the message at the front was read. */
static uint64_t since_ns(const struct knit_connection *connection)
{
    return connection->lookahead != NULL ? knit_lookahead_since_ns(connection)
                                         : connection->received_ns;
}

/* False: the message must be brought again later. */
static bool dispatch_parsed(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_caller *caller = &connection->caller;
    uint32_t slot;

    if (message->kind == KNIT_MESSAGE_RESPONSE) {
        end_bad_stream(connection, KNIT_BAD_MESSAGE, "a response was sent to the server");
        return true;
    }
    if (message->kind == KNIT_MESSAGE_REQUEST &&
        knit_in_flight_find(&caller->calls, message->msgid, &slot)) {
        end_for_msgid(connection);
        return true;
    }
    if (knit_method_is_ours(message)) {
        knit_method_handle(caller, message);
        if (caller->router->is_draining)
            knit_connection_send_goaway(connection, 0);
        return true;
    }
    if (knit_router_call(caller, message, since_ns(connection)))
        return true;
    knit_lookahead_begin(connection);
    return false;
}

/* The message at the front is whole. False: it must be brought again later. */
static bool dispatch(struct knit_connection *connection, const uint8_t *bytes)
{
    struct knit_message message;
    const char *reason;

    if (knit_output_waiting(connection) > knit_output_limit(connection)) {
        knit_connection_flush(connection);
        if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_OUTPUT)
            return false;
    }
    if (connection->scan.refused != 0) {
        refuse_message(connection);
        return true;
    }
    if (knit_message_parse(bytes, connection->fed, &connection->scan, &message, &reason) != 0) {
        end_bad_stream(connection, KNIT_BAD_MESSAGE, reason);
        return true;
    }
    return dispatch_parsed(connection, &message);
}

/* The connection goes on in the next turn, with the input it holds. */
static void yield(struct knit_connection *connection)
{
    knit_net_pause(connection, KNIT_PAUSE_TURN);
    knit_net_add_ready(connection);
}

static void yield_in_time(struct knit_connection *connection, uint32_t messages, uint64_t until_ns)
{
    if (messages % MESSAGES_A_LOOK != 0)
        return;
    if (messages >= MESSAGES_A_TURN || knit_clock_ns() >= until_ns)
        yield(connection);
}

/* Feeds and dispatches what there is; `bytes` begins with the message at the front. Returns how
 * many of them are done with. */
static size_t consume(struct knit_connection *connection, const uint8_t *bytes, size_t len)
{
    struct knit_scan *scan = &connection->scan;
    uint64_t until_ns = knit_clock_ns() + TURN_NS;
    uint32_t messages = 0;
    size_t begin = 0;

    while (may_dispatch(connection)) {
        if (!connection->has_message) {
            const uint8_t *rest = bytes + begin + connection->fed;
            size_t rest_len = len - begin - connection->fed, used;
            int r;

            if (rest_len == 0)
                break;
            r = knit_scan_feed(scan, rest, rest_len, &used);
            connection->fed += used;
            if (r == KNIT_SCAN_E_BAD) {
                end_bad_stream(connection, scan->refused, scan->reason);
                return len;
            }
            if (r == 0) {
                if (scan->refused != 0) {
                    begin = len;
                    connection->fed = 0;
                }
                break;
            }
            connection->has_message = true;
        }
        if (!(connection->lookahead != NULL && knit_lookahead_is_settled(connection)) &&
            !dispatch(connection, bytes + begin))
            break;
        if (connection->lookahead != NULL)
            knit_lookahead_pop(connection);
        begin += connection->fed;
        connection->fed = 0;
        connection->has_message = false;
        knit_scan_reset(scan);
        yield_in_time(connection, ++messages, until_ns);
    }
    return begin;
}

/* ---- input --------------------------------------------------------------------------------- */

static void end_without_memory(struct knit_connection *connection)
{
    if (knit_turn_may_warn(connection->net->turn))
        knit_log(connection->net->turn->log, KNIT_LOG_ERROR, "connection closed: out of memory",
            KNIT_LOG_NUMBER("fd", connection->transport.fd));
    knit_connection_close(connection);
}

static enum knit_transport_result receive(
    struct knit_connection *connection, void *room, size_t size, size_t *ret_len)
{
    enum knit_transport_result result =
        knit_transport_receive(&connection->transport, room, size, ret_len);

    if (result == KNIT_TRANSPORT_OK) {
        knit_turn_tick(connection->net->turn);
        connection->received_ns = connection->net->turn->now_ns;
        knit_counter_add(&connection->net->turn->counters.bytes_in, *ret_len);
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
    done = consume(connection, buffer, len);
    if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return result;
    if (knit_input_keep(connection, buffer + done, len - done) != 0)
        end_without_memory(connection);
    return result;
}

/* Straight into the connection's own memory. */
static enum knit_transport_result read_own(struct knit_connection *connection, size_t *ret_len)
{
    struct knit_input *input = &connection->input;
    enum knit_transport_result result;
    size_t done;
    int r = knit_input_grow(connection);

    if (r != 0) {
        if (r != KNIT_INPUT_E_LATER)
            end_without_memory(connection);
        return KNIT_TRANSPORT_WANT_READ;
    }
    result = receive(connection, input->bytes + input->len, input->capacity - input->len, ret_len);
    if (result != KNIT_TRANSPORT_OK)
        return result;
    input->len += *ret_len;
    done = consume(connection, input->bytes, input->len);
    if (!connection->is_dead && !(connection->caller.pauses & KNIT_PAUSE_CLOSING))
        knit_input_drop_front(connection, done);
    return result;
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

    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN)
        knit_connection_close(connection);
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
    close_soon(connection);
    set_interest(connection, KNIT_INTEREST_ERROR);
}

/* Reads once. */
static void read_messages(struct knit_connection *connection)
{
    uint32_t used_before = connection->scan.used;
    enum knit_transport_result result;
    size_t len = 0;

    result = connection->input.len <= KNIT_INPUT_COPIED_MAX ? read_shared(connection, &len)
                                                            : read_own(connection, &len);
    if (result == KNIT_TRANSPORT_END) {
        end_of_input(connection);
    } else if (result == KNIT_TRANSPORT_BROKEN) {
        knit_connection_close(connection);
    } else if (result == KNIT_TRANSPORT_OK && !connection->is_dead) {
        if (connection->caller.pauses != 0 && looks_ahead(connection))
            knit_lookahead_begin(connection);
        knit_input_touch(connection, len);
        if (is_traffic(connection, used_before, len))
            touch(connection);
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
        set_interest(connection, KNIT_INTEREST_END);
        return;
    }
    if (may_read_pending(connection))
        knit_net_add_ready(connection);
}

static void on_input(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;

    (void)fd, (void)events;
    connection->net->turn->had_events = true;
    read_input(connection);
}

/* The peer has gone while the connection was not read. */
void knit_connection_on_hangup(void *arg, bool is_broken)
{
    struct knit_connection *connection = arg;

    connection->net->turn->had_events = true;
    if (is_broken)
        knit_connection_close(connection);
    else
        end_of_input(connection);
}

static void on_output(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;

    (void)fd, (void)events;
    connection->net->turn->had_events = true;
    knit_connection_flush(connection);
}

void knit_connection_resume(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t done;

    connection->caller.pauses &= (uint8_t)~KNIT_PAUSE_TURN;
    if (may_dispatch(connection)) {
        touch(connection);
        if (input->len > 0) {
            done = consume(connection, input->bytes, input->len);
            if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
                return;
            knit_input_drop_front(connection, done);
        }
        if (connection->caller.pauses == 0 && connection->interest != KNIT_INTEREST_INPUT)
            set_interest(connection, KNIT_INTEREST_INPUT);
    }
    if (may_read_pending(connection))
        read_input(connection);
}
