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
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

    if (loop->turn.settings->debug_bits & KNIT_DEBUG_HOST)
        knit_log(loop->turn.log, KNIT_LOG_INFO, message, KNIT_LOG_NUMBER("loop", loop->turn.loop),
            KNIT_LOG_NUMBER("fd", connection->fd),
            KNIT_LOG_TEXT("kind", connection->is_unix ? "unix" : "tcp"),
            KNIT_LOG_NUMBER("calls", connection->calls.count));
}

int knit_connection_open(struct knit_loop *loop, int fd, bool is_unix)
{
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)loop->turn.settings->message_max_bytes};
    struct knit_connection *connection = calloc(1, sizeof(*connection));

    if (!connection) {
        (void)close(fd);
        /* The main thread counts it as open until it is closed. */
        KNIT_COUNT(&loop->turn, connections_accepted);
        KNIT_COUNT(&loop->turn, connections_closed);
        return -ENOMEM;
    }
    connection->loop = loop;
    connection->fd = fd;
    connection->is_unix = is_unix;
    connection->activity_ns = loop->turn.now_ns;
    /* A peer whose credentials cannot be read is nobody we know. */
    if (!is_unix || knit_access_peer(fd, &connection->peer) != 0)
        connection->peer = (struct knit_access_peer){(uid_t)-1, (gid_t)-1, 0};
    knit_scan_init(&connection->scan, &limits);
    (void)event_assign(
        &connection->input_event, loop->base, fd, EV_READ | EV_PERSIST, on_input, connection);
    (void)event_assign(
        &connection->output_event, loop->base, fd, EV_WRITE | EV_PERSIST, on_output, connection);
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
    (void)close(connection->fd);
    connection->fd = -1;
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

void knit_connection_linger(struct knit_connection *connection)
{
    if (connection->is_lingering || connection->is_dead)
        return;
    connection->is_lingering = true;
    connection->progress_ns = connection->loop->turn.now_ns;
    (void)shutdown(connection->fd, SHUT_WR);
    set_interest(connection, KNIT_INTEREST_INPUT);
}

void knit_connection_pause(struct knit_connection *connection, uint8_t reason)
{
    connection->pauses |= reason;
    if (reason & (KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT))
        knit_lookahead_begin(connection);
}

void knit_connection_unpause(struct knit_connection *connection, uint8_t reason)
{
    struct knit_loop *loop = connection->loop;

    if (!(connection->pauses & reason))
        return;
    connection->pauses &= (uint8_t)~reason;
    if (connection->pauses == 0 && !connection->is_dead && !(connection->lists & KNIT_IN_READY)) {
        TAILQ_INSERT_TAIL(&loop->ready, connection, in_ready);
        connection->lists |= KNIT_IN_READY;
    }
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
            KNIT_LOG_NUMBER("fd", connection->fd));
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
    struct knit_loop *loop = connection->loop;

    knit_connection_pause(connection, KNIT_PAUSE_TURN);
    if (!(connection->lists & KNIT_IN_READY)) {
        TAILQ_INSERT_TAIL(&loop->ready, connection, in_ready);
        connection->lists |= KNIT_IN_READY;
    }
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
            KNIT_LOG_NUMBER("fd", connection->fd));
    knit_connection_close(connection);
}

/* One recv(). Returns 0 or less when there is nothing to consume, as recv() does. */
static ssize_t receive(struct knit_connection *connection, void *room, size_t size)
{
    ssize_t n;

    do
        n = recv(connection->fd, room, size, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        knit_turn_tick(&connection->loop->turn);
        connection->received_ns = connection->loop->turn.now_ns;
        knit_counter_add(&connection->loop->turn.counters.bytes_in, (uint64_t)n);
    }
    return n;
}

/* Through the loop's buffer. */
static ssize_t read_shared(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    uint8_t *buffer = connection->loop->read_buffer;
    size_t before = input->len, done;
    ssize_t n;

    n = receive(connection, buffer + before,
        knit_input_room(connection, KNIT_LOOP_READ_BUFFER_BYTES - before));
    if (n <= 0)
        return n;
    if (before > 0)
        memcpy(buffer, input->bytes, before);
    done = consume(connection, buffer, before + (size_t)n);
    if (connection->is_dead || connection->pauses & KNIT_PAUSE_CLOSING)
        return n;
    if (knit_input_keep(connection, buffer + done, before + (size_t)n - done) != 0)
        end_without_memory(connection);
    return n;
}

/* Straight into the connection's own memory. */
static ssize_t read_own(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t done;
    ssize_t n;
    int r;

    r = knit_input_grow(connection);
    if (r != 0) {
        if (r != KNIT_INPUT_E_LATER)
            end_without_memory(connection);
        errno = EAGAIN;
        return -1;
    }
    n = receive(connection, input->bytes + input->len, input->capacity - input->len);
    if (n <= 0)
        return n;
    input->len += (size_t)n;
    done = consume(connection, input->bytes, input->len);
    if (!connection->is_dead && !(connection->pauses & KNIT_PAUSE_CLOSING))
        knit_input_drop_front(connection, done);
    return n;
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

/* Whether a read of n bytes was more than the next few of a message begun before: who sends a byte
 * a second keeps its place for as long as a message is large, so that alone is no traffic. */
static bool is_traffic(const struct knit_connection *connection, uint32_t used_before, ssize_t n)
{
    uint32_t used = connection->scan.used;

    return used_before == 0 || used != used_before + (uint32_t)n ||
           used / TRICKLE_BYTES != used_before / TRICKLE_BYTES;
}

/* What still comes after the last word is thrown away, so that closing does not reset the
 * connection before the peer has read it. */
static void discard(struct knit_connection *connection)
{
    ssize_t n = receive(connection, connection->loop->read_buffer, KNIT_LOOP_READ_BUFFER_BYTES);

    if (n == 0 || (n < 0 && errno != EAGAIN))
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

/* It waits for slots alone, and what comes may be a `$/cancel`. */
static bool looks_ahead(const struct knit_connection *connection)
{
    return (connection->pauses & ~(KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT)) == 0 &&
           connection->input.len < KNIT_LOOKAHEAD_BYTES;
}

static void on_input(evutil_socket_t fd, short events, void *arg)
{
    struct knit_connection *connection = arg;
    uint32_t used_before = connection->scan.used;
    ssize_t n;

    (void)fd, (void)events;
    connection->loop->turn.had_events = true;
    if (connection->is_lingering) {
        discard(connection);
        return;
    }
    if (connection->pauses == KNIT_PAUSE_TURN)
        return;
    if (connection->pauses != 0 && !looks_ahead(connection)) {
        /* Only now does the pause cost system calls; most are over before more input comes. */
        set_interest(connection, KNIT_INTEREST_END);
        return;
    }
    n = connection->input.len <= KNIT_INPUT_COPIED_MAX ? read_shared(connection)
                                                       : read_own(connection);
    if (n > 0 && connection->pauses != 0 && looks_ahead(connection))
        knit_lookahead_begin(connection);
    if (n == 0) {
        end_of_input(connection);
    } else if (n < 0 && errno != EAGAIN) {
        knit_connection_close(connection);
    } else if (!connection->is_dead && n > 0) {
        knit_input_touch(connection, (size_t)n);
        if (is_traffic(connection, used_before, n))
            touch(connection);
    }
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
    if (!may_dispatch(connection))
        return;
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
