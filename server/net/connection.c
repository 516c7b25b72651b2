/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, dispatching, pausing, ending.
 *
 * `fed` says how much of the message at the front the scanner has seen, so no byte is scanned twice
 * however the message arrived and wherever its bytes were moved meanwhile. A message that the
 * scanner refuses before it is whole (too large, too deep) is no longer kept: its bytes are fed and
 * forgotten, and its msgid, which the scanner remembers, gets the error at its end.
 */
#include "server/net/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/daemon/loop.h"
#include "server/net/hangup.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/rpc/attach.h"
#include "server/rpc/method.h"
#include "server/rpc/router.h"

enum {
    /* Of one message, before they count as traffic. */
    TRICKLE_BYTES = 4096,
    /* What a connection may do at a time while others wait: some messages cost ten thousand times
     * what others do, so the clock is asked as well, after every few of them. */
    MESSAGES_A_TURN = 1024,
    MESSAGES_A_LOOK = 8,
    TURN_NS = 1000 * 1000,
};

static bool may_dispatch(const struct knit_connection *connection)
{
    return connection->pauses == 0 && !connection->is_dead;
}

static void on_input(evutil_socket_t fd, short events, void *arg);
static void on_output(evutil_socket_t fd, short events, void *arg);

static void set_interest(struct knit_connection *connection, enum knit_interest wanted)
{
    struct knit_loop *loop = connection->loop;
    int r = 0;

    if (connection->interest == KNIT_INTEREST_INPUT)
        (void)event_del(&connection->input_event);
    else if (connection->interest != KNIT_INTEREST_NOTHING)
        knit_hangup_remove(&loop->hangups, connection);
    connection->interest = KNIT_INTEREST_NOTHING;
    if (wanted == KNIT_INTEREST_INPUT)
        r = event_add(&connection->input_event, NULL);
    else if (wanted != KNIT_INTEREST_NOTHING)
        r = knit_hangup_add(&loop->hangups, connection, wanted == KNIT_INTEREST_END);
    /* One of which nothing is heard would stay for ever. */
    if (r < 0)
        knit_connection_close(connection);
    else
        connection->interest = wanted;
}

static void log_debug(const struct knit_connection *connection, const char *message)
{
    const struct knit_loop *loop = connection->loop;
    char address[KNIT_ENDPOINT_TEXT_MAX];

    if (!(loop->turn.settings->debug_bits & KNIT_DEBUG_HOST))
        return;
    if (knit_transport_address(&connection->transport, address) != 0)
        (void)snprintf(address, sizeof(address), "gone");
    knit_log(loop->turn.log, KNIT_LOG_INFO, message, KNIT_LOG_NUMBER("loop", loop->turn.loop),
        KNIT_LOG_NUMBER("fd", connection->transport.fd),
        KNIT_LOG_TEXT("kind", connection->transport.ops->name), KNIT_LOG_TEXT("peer", address),
        KNIT_LOG_NUMBER("calls", connection->calls.count));
}

/* A peer whose credentials cannot be read is nobody we know. */
static void read_peer(struct knit_connection *connection)
{
    struct ucred credentials;

    connection->peer = (struct knit_access_peer){(uid_t)-1, (gid_t)-1, 0};
    if (knit_transport_passes_descriptors(&connection->transport) &&
        knit_transport_credentials(&connection->transport, &credentials) == 0)
        connection->peer =
            (struct knit_access_peer){credentials.uid, credentials.gid, credentials.pid};
}

int knit_connection_open(struct knit_loop *loop, struct knit_transport transport)
{
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)loop->turn.settings->message_max_bytes};
    struct knit_connection *connection = calloc(1, sizeof(*connection));

    if (!connection) {
        transport.ops->close(&transport);
        /* The main thread counts it as open until it is closed. */
        KNIT_COUNT(&loop->turn, connections_accepted);
        KNIT_COUNT(&loop->turn, connections_closed);
        return -ENOMEM;
    }
    connection->loop = loop;
    connection->transport = transport;
    connection->activity_ns = loop->turn.now_ns;
    read_peer(connection);
    knit_scan_init(&connection->scan, &limits);
    (void)event_assign(&connection->input_event, loop->base, transport.fd, EV_READ | EV_PERSIST,
        on_input, connection);
    (void)event_assign(&connection->output_event, loop->base, transport.fd, EV_WRITE | EV_PERSIST,
        on_output, connection);
    TAILQ_INSERT_TAIL(&loop->connections, connection, in_all);
    if (loop->turn.settings->idle_timeout_s > 0) {
        TAILQ_INSERT_TAIL(&loop->idle, connection, in_idle);
        connection->lists |= KNIT_IN_IDLE;
        loop->turn.needs_sweep = true;
    }
    KNIT_COUNT(&loop->turn, connections_accepted);
    log_debug(connection, "connection opened");
    set_interest(connection, KNIT_INTEREST_INPUT);
    return 0;
}

static void leave_lists(struct knit_connection *connection)
{
    struct knit_loop *loop = connection->loop;

    if (connection->lists & KNIT_IN_DIRTY)
        TAILQ_REMOVE(&loop->dirty, connection, in_dirty);
    if (connection->lists & KNIT_IN_READY)
        TAILQ_REMOVE(&loop->ready, connection, in_ready);
    if (connection->lists & KNIT_IN_STALLED)
        TAILQ_REMOVE(&loop->stalled, connection, in_stalled);
    if (connection->lists & KNIT_IN_IDLE)
        TAILQ_REMOVE(&loop->idle, connection, in_idle);
    knit_lookahead_forget(connection);
    connection->lists &=
        KNIT_IN_WAITING | KNIT_IN_WAITING_ARENA | KNIT_IN_LARGE | KNIT_IN_WAITING_FOR_BUDGET;
}

void knit_connection_close(struct knit_connection *connection)
{
    struct knit_loop *loop = connection->loop;

    if (connection->is_dead)
        return;
    log_debug(connection, "connection closed");
    connection->is_dead = true;
    leave_lists(connection);
    knit_router_forget(connection);
    knit_attach_end(connection);
    set_interest(connection, KNIT_INTEREST_NOTHING);
    (void)event_del(&connection->output_event);
    connection->transport.ops->close(&connection->transport);
    knit_input_let_go(connection);
    knit_output_let_go(connection);
    TAILQ_REMOVE(&loop->connections, connection, in_all);
    TAILQ_INSERT_TAIL(&loop->dead, connection, in_all);
    KNIT_COUNT(&loop->turn, connections_closed);
}

void knit_connection_free(struct knit_connection *connection)
{
    if (connection->output)
        evbuffer_free(connection->output);
    knit_lookahead_free(connection);
    knit_in_flight_fini(&connection->calls);
    knit_input_free(connection);
    free(connection);
}

void knit_connection_close_soon(struct knit_connection *connection)
{
    struct knit_loop *loop = connection->loop;

    if (connection->is_dead || connection->pauses & KNIT_PAUSE_CLOSING)
        return;
    connection->pauses |= KNIT_PAUSE_CLOSING;
    connection->progress_ns = loop->turn.now_ns;
    knit_input_free(connection);
    knit_lookahead_forget(connection);
    if (!(connection->lists & KNIT_IN_STALLED)) {
        TAILQ_INSERT_TAIL(&loop->stalled, connection, in_stalled);
        connection->lists |= KNIT_IN_STALLED;
        loop->turn.needs_sweep = true;
    }
    if (!(connection->lists & KNIT_IN_DIRTY)) {
        TAILQ_INSERT_TAIL(&loop->dirty, connection, in_dirty);
        connection->lists |= KNIT_IN_DIRTY;
    }
}

/* It waits for slots alone, and what comes may be a `$/cancel`. */
static bool looks_ahead(const struct knit_connection *connection)
{
    return (connection->pauses & ~(KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT)) == 0 &&
           connection->input.len < KNIT_LOOKAHEAD_BYTES;
}

/* Bytes that the transport holds are reported by no event. A connection that is paused for another
 * reason comes here again when that reason is gone. */
static bool may_read_pending(const struct knit_connection *connection)
{
    if (knit_transport_pending(&connection->transport) == 0 || connection->is_dead)
        return false;
    return connection->is_lingering || connection->pauses == 0 || looks_ahead(connection);
}

static void make_ready(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_READY)
        return;
    TAILQ_INSERT_TAIL(&connection->loop->ready, connection, in_ready);
    connection->lists |= KNIT_IN_READY;
}

void knit_connection_linger(struct knit_connection *connection)
{
    if (connection->is_lingering || connection->is_dead)
        return;
    connection->is_lingering = true;
    connection->progress_ns = connection->loop->turn.now_ns;
    connection->transport.ops->shut_down(&connection->transport);
    set_interest(connection, KNIT_INTEREST_INPUT);
    if (may_read_pending(connection))
        make_ready(connection);
}

void knit_connection_pause(struct knit_connection *connection, uint8_t reason)
{
    connection->pauses |= reason;
    if (reason & (KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT))
        knit_lookahead_begin(connection);
}

void knit_connection_unpause(struct knit_connection *connection, uint8_t reason)
{
    if (!(connection->pauses & reason))
        return;
    connection->pauses &= (uint8_t)~reason;
    if (connection->pauses == 0 && !connection->is_dead)
        make_ready(connection);
}

enum knit_failure_form knit_connection_form(const struct knit_connection *connection)
{
    return connection->has_hello ? KNIT_FAILURE_FULL : KNIT_FAILURE_PLAIN;
}

/* ---- messages ------------------------------------------------------------------------------ */

/* The stream has no boundaries any more, or its sender does not keep to the protocol. */
static void end_bad_stream(struct knit_connection *connection, uint32_t code, const char *reason)
{
    struct knit_loop *loop = connection->loop;

    KNIT_COUNT(&loop->turn, messages_bad);
    if (knit_turn_may_warn(&loop->turn))
        knit_log(loop->turn.log, KNIT_LOG_WARNING, "connection closed for a bad message",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_NUMBER("loop", loop->turn.loop),
            KNIT_LOG_NUMBER("fd", connection->transport.fd));
    if (connection->scan.has_msgid && connection->scan.kind == KNIT_MESSAGE_REQUEST) {
        struct knit_failure failure = knit_failure(code, reason);

        knit_output_failure(connection, connection->scan.msgid, &failure);
    }
    knit_connection_close_soon(connection);
}

/* The error is the one response of that msgid: the call is aborted and not answered. */
static void end_for_msgid(struct knit_connection *connection)
{
    knit_router_forget(connection);
    end_bad_stream(connection, KNIT_BAD_MESSAGE, "the msgid is that of a call still in flight");
}

/* Well-formed, but more than we take. */
static void refuse_message(struct knit_connection *connection)
{
    const struct knit_scan *scan = &connection->scan;
    const char *text =
        scan->refused == KNIT_TOO_DEEP ? "the message nests too deep" : "the message is too large";
    struct knit_failure failure = knit_failure(scan->refused, text);

    uint32_t slot;

    if (scan->kind == KNIT_MESSAGE_REQUEST && scan->has_msgid &&
        knit_in_flight_find(&connection->calls, scan->msgid, &slot)) {
        end_for_msgid(connection);
        return;
    }
    KNIT_COUNT(&connection->loop->turn, messages_bad);
    if (scan->kind != KNIT_MESSAGE_REQUEST || !scan->has_msgid)
        return;
    if (scan->refused == KNIT_TOO_LARGE) {
        failure.limit = connection->loop->turn.settings->message_max_bytes;
        failure.actual = scan->used;
    } else {
        failure.limit = KNIT_DEPTH_MAX;
    }
    knit_output_failure(connection, scan->msgid, &failure);
}

/* False: the message must be brought again later. */
static bool dispatch_parsed(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_loop *loop = connection->loop;
    uint32_t slot;

    if (message->kind == KNIT_MESSAGE_RESPONSE) {
        end_bad_stream(connection, KNIT_BAD_MESSAGE, "a response was sent to the server");
        return true;
    }
    if (message->kind == KNIT_MESSAGE_REQUEST &&
        knit_in_flight_find(&connection->calls, message->msgid, &slot)) {
        end_for_msgid(connection);
        return true;
    }
    if (knit_method_is_ours(message)) {
        knit_method_handle(connection, message);
        return true;
    }
    if (loop->state != KNIT_LOOP_SERVING) {
        struct knit_failure failure = knit_failure(KNIT_DRAINING, "the server is shutting down");

        if (message->kind == KNIT_MESSAGE_REQUEST)
            knit_output_failure(connection, message->msgid, &failure);
        else
            KNIT_COUNT(&loop->turn, notifications_dropped);
        return true;
    }
    /* Here and not before the message is known, for it may cancel a call and so make room. */
    if (connection->calls.count >= loop->turn.settings->in_flight_max) {
        knit_connection_pause(connection, KNIT_PAUSE_IN_FLIGHT);
        return false;
    }
    return knit_router_call(connection, message);
}

/* The message at the front is whole. False: it must be brought again later. */
static bool dispatch(struct knit_connection *connection, const uint8_t *bytes)
{
    struct knit_message message;
    const char *reason;

    if (knit_output_waiting(connection) > knit_output_limit(connection)) {
        knit_output_flush(connection);
        if (connection->is_dead || connection->pauses & KNIT_PAUSE_OUTPUT)
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

/* The connection goes on after the others of this turn, with the input it holds. */
static void yield(struct knit_connection *connection)
{
    knit_connection_pause(connection, KNIT_PAUSE_TURN);
    make_ready(connection);
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
        if (!knit_lookahead_is_settled(connection) && !dispatch(connection, bytes + begin))
            break;
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
    if (knit_turn_may_warn(&connection->loop->turn))
        knit_log(connection->loop->turn.log, KNIT_LOG_ERROR, "connection closed for want of memory",
            KNIT_LOG_NUMBER("fd", connection->transport.fd));
    knit_connection_close(connection);
}

static enum knit_transport_result receive(
    struct knit_connection *connection, void *room, size_t size, size_t *ret_len)
{
    enum knit_transport_result result =
        connection->transport.ops->receive(&connection->transport, room, size, ret_len);

    if (result == KNIT_TRANSPORT_OK) {
        knit_turn_tick(&connection->loop->turn);
        connection->received_ns = connection->loop->turn.now_ns;
        knit_counter_add(&connection->loop->turn.counters.bytes_in, *ret_len);
    }
    return result;
}

/* Through the loop's buffer. */
static enum knit_transport_result read_shared(struct knit_connection *connection, size_t *ret_len)
{
    struct knit_input *input = &connection->input;
    uint8_t *buffer = connection->loop->read_buffer;
    size_t before = input->len, done, len;
    enum knit_transport_result result = receive(connection, buffer + before,
        knit_input_room(connection, KNIT_LOOP_READ_BUFFER_BYTES - before), ret_len);

    if (result != KNIT_TRANSPORT_OK)
        return result;
    if (before > 0)
        memcpy(buffer, input->bytes, before);
    len = before + *ret_len;
    done = consume(connection, buffer, len);
    if (connection->is_dead || connection->pauses & KNIT_PAUSE_CLOSING)
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
    if (!connection->is_dead && !(connection->pauses & KNIT_PAUSE_CLOSING))
        knit_input_drop_front(connection, done);
    return result;
}

static void touch(struct knit_connection *connection)
{
    struct knit_loop *loop = connection->loop;

    connection->activity_ns = loop->turn.now_ns;
    if (connection->lists & KNIT_IN_IDLE) {
        TAILQ_REMOVE(&loop->idle, connection, in_idle);
        TAILQ_INSERT_TAIL(&loop->idle, connection, in_idle);
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
        receive(connection, connection->loop->read_buffer, KNIT_LOOP_READ_BUFFER_BYTES, &len);

    if (result == KNIT_TRANSPORT_END || result == KNIT_TRANSPORT_BROKEN)
        knit_connection_close(connection);
}

/* The peer sends no more, and waits for no call that is still to be run; but it may well be reading
 * what it was answered. */
static void end_of_input(struct knit_connection *connection)
{
    if (knit_output_waiting(connection) == 0) {
        knit_connection_close(connection);
        return;
    }
    knit_router_forget(connection);
    knit_attach_end(connection);
    knit_connection_close_soon(connection);
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
        if (connection->pauses != 0 && looks_ahead(connection))
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
    } else if (connection->pauses == 0 || looks_ahead(connection)) {
        read_messages(connection);
    } else if (connection->pauses != KNIT_PAUSE_TURN) {
        /* Only now does the pause cost system calls; most are over before more input comes. */
        set_interest(connection, KNIT_INTEREST_END);
        return;
    }
    if (may_read_pending(connection))
        make_ready(connection);
}

static void on_input(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;

    (void)fd, (void)events;
    connection->loop->turn.had_events = true;
    read_input(connection);
}

void knit_connection_on_hangup(struct knit_connection *connection, bool is_broken)
{
    connection->loop->turn.had_events = true;
    if (is_broken)
        knit_connection_close(connection);
    else
        end_of_input(connection);
}

static void on_output(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;

    (void)fd, (void)events;
    connection->loop->turn.had_events = true;
    knit_output_flush(connection);
}

void knit_connection_resume(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t done;

    connection->pauses &= (uint8_t)~KNIT_PAUSE_TURN;
    if (may_dispatch(connection)) {
        touch(connection);
        if (input->len > 0) {
            done = consume(connection, input->bytes, input->len);
            if (connection->is_dead || connection->pauses & KNIT_PAUSE_CLOSING)
                return;
            knit_input_drop_front(connection, done);
        }
        if (connection->pauses == 0 && connection->interest != KNIT_INTEREST_INPUT)
            set_interest(connection, KNIT_INTEREST_INPUT);
    }
    if (may_read_pending(connection))
        read_input(connection);
}
