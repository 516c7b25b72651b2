/* SPDX-License-Identifier: Apache-2.0 */
/* A reply goes to the connection's stage, or, behind what waits there, to its evbuffer: as long as
 * there is a stage the evbuffer is empty. Errors are encoded in the turn's scratch buffer first.
 * A connection whose socket takes no more waits until it is writable, and is checked for progress
 * once a second meanwhile.
 */
#include "server/net/output.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/state.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/net.h"
#include "server/rpc/router.h"

enum {
    REFERRED_MIN = 16 * 1024, /* smaller payloads are cheaper copied */
    /* All of an error but its `data`; what a task printed is the longest of it. */
    ERROR_FRONT_MAX = KNIT_OUTPUT_KEPT_MAX + 16 * 1024,
    PINNED_SHARE = 8,              /* an eighth of an arena for one connection, then it copies */
    PINNED_SHARE_ALL = 2,          /* half of an arena for all of them */
    COPIED_MAX = 16 * 1024 * 1024, /* of one connection, before it pins after all */
    MOVED_MIN = 64 * 1024,         /* fewer are a trickle */
    CROWDED_STALL_NS = 1000000000, /* for a reader to take MOVED_MIN when others need room */
    COPIED_SHARE_ALL = 2,    /* half of output_total_max_bytes, then slow readers are closed */
    CROWDED_MAX = 64 * 1024, /* beyond this its requests are not read then */
};

size_t knit_output_waiting(const struct knit_connection *connection)
{
    if (connection->caller.stage != NULL)
        return connection->caller.stage->len;
    return connection->output != NULL ? evbuffer_get_length(connection->output) : 0;
}

/* ---- what is copied ------------------------------------------------------------------------ */

static void charge_copied(struct knit_connection *connection, size_t bytes)
{
    connection->net->copied_bytes += bytes - connection->copied_bytes;
    connection->copied_bytes = bytes;
}

/* Of the bytes that wait, those that do not lie in the reply arena. A block that has left in part
 * is pinned as a whole. */
static size_t copied_of(const struct knit_connection *connection, size_t waiting)
{
    return waiting > connection->pinned_bytes ? waiting - connection->pinned_bytes : 0;
}

/* Charged is what waits longer than a turn, so a turn may exceed it by what it delivers. */
static bool is_room_for_copy(const struct knit_net *net, size_t len)
{
    size_t max = net->turn->settings->output_total_max_bytes;

    return net->copied_bytes < max && len <= max - net->copied_bytes;
}

static bool is_crowded(const struct knit_net *net)
{
    return net->copied_bytes > net->turn->settings->output_total_max_bytes / COPIED_SHARE_ALL;
}

size_t knit_output_limit(const struct knit_connection *connection)
{
    size_t max = connection->net->turn->settings->output_max_bytes;

    return is_crowded(connection->net) && max > CROWDED_MAX ? CROWDED_MAX : max;
}

/* ---- gathering ----------------------------------------------------------------------------- */

/* The connection is due for a flush at the end of the turn. */
static void mark_dirty(struct knit_connection *connection)
{
    if (!(connection->lists & (KNIT_IN_DIRTY | KNIT_IN_WRITABLE)) && !connection->is_dead)
        knit_net_add_dirty(connection);
}

struct knit_stage *knit_output_begin_stage(struct knit_connection *connection)
{
    if (connection->is_dead || knit_output_waiting(connection) > 0)
        return NULL;
    connection->caller.stage = knit_stages_take(&connection->net->stages);
    if (connection->caller.stage != NULL)
        mark_dirty(connection);
    return connection->caller.stage;
}

static void end_stage(struct knit_connection *connection)
{
    if (connection->caller.stage != NULL)
        knit_stages_give(&connection->net->stages, connection->caller.stage);
    connection->caller.stage = NULL;
}

/* Room for so many bytes, or a few fewer, by which the caller makes the stage longer. NULL: there
 * is none in a stage. */
static inline uint8_t *room_in_stage(struct knit_connection *connection, size_t len)
{
    struct knit_stage *stage = connection->caller.stage;

    if (stage == NULL)
        stage = knit_output_begin_stage(connection);
    if (stage == NULL || len > KNIT_STAGE_BYTES - stage->len)
        return NULL;
    return stage->bytes + stage->len;
}

/* From now on the evbuffer is what is gathered in, behind what is left of the stage. Returns 0 or
 * -ENOMEM. */
static int leave_stage(struct knit_connection *connection, size_t sent)
{
    const struct knit_stage *stage = connection->caller.stage;

    if (connection->output == NULL)
        connection->output = evbuffer_new();
    if (connection->output == NULL)
        return -ENOMEM;
    if (stage == NULL)
        return 0;
    if (evbuffer_add(connection->output, stage->bytes + sent, stage->len - sent) != 0)
        return -ENOMEM;
    end_stage(connection);
    return 0;
}

static void append(struct knit_connection *connection, const void *bytes, size_t len)
{
    uint8_t *room = room_in_stage(connection, len);

    if (len == 0)
        return;
    if (room != NULL) {
        memcpy(room, bytes, len);
        connection->caller.stage->len += len;
        return;
    }
    if (connection->is_dead)
        return;
    if (leave_stage(connection, 0) != 0 || evbuffer_add(connection->output, bytes, len) != 0) {
        knit_net_end_without_memory(connection);
        return;
    }
    mark_dirty(connection);
}

void knit_output_drop(struct knit_connection *connection)
{
    charge_copied(connection, 0);
    end_stage(connection);
}

void knit_output_message(struct knit_connection *connection, struct knit_span message)
{
    append(connection, message.bytes, message.len);
}

/* Sends what the scratch buffer holds; an encoder that ran out of memory ends the connection. */
static void append_scratch(struct knit_connection *connection)
{
    struct knit_buffer *scratch = &connection->net->turn->scratch;

    if (scratch->error != 0)
        knit_net_end_without_memory(connection);
    else
        append(connection, scratch->bytes, scratch->len);
    knit_buffer_reset(scratch);
    knit_buffer_trim(scratch, 64 * 1024);
}

static void put_result_head(struct knit_connection *connection, uint32_t msgid)
{
    uint8_t head[KNIT_MESSAGE_RESPONSE_HEAD_MAX];

    append(connection, head, knit_message_pack_response_head(head, msgid));
}

void knit_output_result(struct knit_connection *connection, uint32_t msgid, struct knit_span result)
{
    uint8_t *room = room_in_stage(connection, KNIT_MESSAGE_RESPONSE_HEAD_MAX + result.len);
    size_t head_len;

    if (room != NULL) {
        head_len = knit_message_pack_response_head(room, msgid);
        memcpy(room + head_len, result.bytes, result.len);
        connection->caller.stage->len += head_len + result.len;
        return;
    }
    put_result_head(connection, msgid);
    append(connection, result.bytes, result.len);
}

void knit_output_failure(
    struct knit_connection *connection, uint32_t msgid, const struct knit_failure *failure)
{
    struct knit_buffer *scratch = &connection->net->turn->scratch;

    knit_buffer_reset(scratch);
    (void)knit_message_put_error(scratch, msgid, failure, connection->caller.form);
    append_scratch(connection);
}

/* ---- outcomes ------------------------------------------------------------------------------ */

/* A block of the reply arena while an evbuffer refers to it. */
struct pin {
    struct knit_connection *connection;
    uint32_t slot;
};

static void on_written(const void *bytes, size_t len, void *arg)
{
    struct pin *pin = arg;
    struct knit_connection *connection = pin->connection;

    (void)bytes;
    connection->pinned_bytes -= len;
    connection->net->pinned_bytes -= len;
    knit_router_release(&connection->caller, pin->slot);
    free(pin);
}

/* To bytes of the slot's block. False: not possible, copy instead. */
static bool refer(struct knit_connection *connection, uint32_t slot, struct knit_span part)
{
    size_t arena = connection->net->turn->settings->arena_bytes;
    bool may_copy = is_room_for_copy(connection->net, part.len);
    struct pin *pin;

    if (connection->is_dead || part.len == 0 || (part.len < REFERRED_MIN && may_copy))
        return false;
    if ((connection->pinned_bytes + part.len > arena / PINNED_SHARE ||
            connection->net->pinned_bytes + part.len > arena / PINNED_SHARE_ALL) &&
        copied_of(connection, knit_output_waiting(connection)) < COPIED_MAX && may_copy)
        return false;
    pin = malloc(sizeof(*pin));
    if (pin == NULL || leave_stage(connection, 0) != 0) {
        free(pin);
        return false;
    }
    *pin = (struct pin){connection, slot};
    if (evbuffer_add_reference(connection->output, part.bytes, part.len, on_written, pin) != 0) {
        free(pin);
        return false;
    }
    connection->pinned_bytes += part.len;
    connection->net->pinned_bytes += part.len;
    mark_dirty(connection);
    return true;
}

/* The payload of an error may lie where its writer can still change it, and converting reads it
 * more than once; so it is converted from a copy. Of a long one only the front is. Returns the
 * rest: what a task attached to its error or printed is handed on as a result is, unread. */
static struct knit_span put_error(
    struct knit_connection *connection, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    struct knit_buffer *scratch = &connection->net->turn->scratch;
    enum knit_failure_form form = connection->caller.form;
    bool is_long = outcome->len > REFERRED_MIN;
    size_t len = outcome->len < ERROR_FRONT_MAX ? outcome->len : ERROR_FRONT_MAX, rest_at = 0;
    void *copy = malloc(len + 1);

    if (copy == NULL) {
        knit_net_end_without_memory(connection);
        return (struct knit_span){0};
    }
    memcpy(copy, outcome->payload, len);
    knit_buffer_reset(scratch);
    if (is_long)
        rest_at = knit_message_put_error_front(scratch, msgid, knit_span(copy, len), form);
    else
        (void)knit_message_put_error_raw(scratch, msgid, knit_span(copy, len), form);
    append_scratch(connection);
    free(copy);
    if (rest_at == 0)
        return (struct knit_span){0};
    return knit_span((const uint8_t *)outcome->payload + rest_at, outcome->len - rest_at);
}

void knit_output_outcome(
    struct knit_connection *connection, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    static const uint8_t nil = 0xc0;
    bool is_result = outcome->status == KNIT_STATUS_RESULT;
    struct knit_span rest = knit_span(outcome->payload, outcome->len);

    if (is_result && !outcome->held) {
        knit_output_result(connection, msgid, rest);
        return;
    }
    if (is_result)
        put_result_head(connection, msgid);
    else
        rest = put_error(connection, msgid, outcome);
    if (!outcome->held || !refer(connection, outcome->slot, rest)) {
        append(connection, rest.bytes, rest.len);
        if (outcome->held)
            knit_router_release(&connection->caller, outcome->slot);
    }
    if (!is_result && outcome->len > REFERRED_MIN)
        append(connection, &nil, sizeof(nil));
}

/* ---- writing ------------------------------------------------------------------------------- */

static void leave_stalled(struct knit_connection *connection)
{
    if (!(connection->lists & KNIT_IN_STALLED))
        return;
    TAILQ_REMOVE(&connection->net->stalled, connection, in_stalled);
    connection->lists &= (uint16_t)~KNIT_IN_STALLED;
}

static void on_empty(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_STALLED)
        (void)event_del(&connection->output_event);
    if (connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    leave_stalled(connection);
    knit_caller_unpause(&connection->caller, KNIT_PAUSE_OUTPUT);
}

static void on_full(struct knit_connection *connection, size_t waiting)
{
    struct knit_net *net = connection->net;
    size_t max = knit_output_limit(connection);

    if (connection->reads_to_write) {
        (void)event_del(&connection->output_event);
    } else if (event_add(&connection->output_event, NULL) < 0) {
        knit_net_end_without_memory(connection);
        return;
    }
    if (!(connection->lists & KNIT_IN_STALLED)) {
        knit_net_add_stalled(connection);
        connection->progress_ns = net->turn->now_ns;
        connection->moved_ns = net->turn->now_ns;
        connection->moved_bytes = 0;
    }
    if (waiting > max && !(connection->caller.pauses & KNIT_PAUSE_OUTPUT)) {
        KNIT_COUNT(net->turn, waits_for_reader);
        knit_net_pause(connection, KNIT_PAUSE_OUTPUT);
    } else if (waiting <= max / 2) {
        knit_caller_unpause(&connection->caller, KNIT_PAUSE_OUTPUT);
    }
}

/* Such a connection keeps results of others out of the arena. Reading a byte now and then does not
 * count as progress: it has output_stall_s to come back to its share. */
static bool pins_too_much(const struct knit_connection *connection)
{
    return connection->pinned_bytes > connection->net->turn->settings->arena_bytes / PINNED_SHARE;
}

static void note_moved(struct knit_connection *connection, uint32_t bytes)
{
    connection->moved_bytes += bytes;
    if (connection->moved_bytes < MOVED_MIN)
        return;
    connection->moved_bytes = 0;
    connection->moved_ns = connection->net->turn->now_ns;
}

/* What the peer takes in one go. */
static enum knit_transport_result send_output(struct knit_connection *connection, size_t *ret_sent)
{
    const struct knit_stage *stage = connection->caller.stage;
    enum knit_transport_result result;

    if (stage == NULL)
        return knit_transport_send(&connection->transport, connection->output, ret_sent);
    result = knit_transport_send_bytes(
        &connection->transport, knit_span(stage->bytes, stage->len), ret_sent);
    if (*ret_sent == stage->len)
        end_stage(connection);
    else if (result != KNIT_TRANSPORT_BROKEN && leave_stage(connection, *ret_sent) != 0)
        knit_net_end_without_memory(connection);
    return result;
}

enum knit_output_result knit_output_flush(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;
    size_t waiting = knit_output_waiting(connection), sent = 0;
    enum knit_transport_result result = KNIT_TRANSPORT_OK;

    if (waiting == 0)
        end_stage(connection);
    else
        result = send_output(connection, &sent);
    connection->reads_to_write = result == KNIT_TRANSPORT_WANT_READ;
    if (result == KNIT_TRANSPORT_BROKEN)
        knit_net_end(connection);
    if (connection->is_dead)
        return KNIT_OUTPUT_ENDED;
    waiting -= sent;
    charge_copied(connection, copied_of(connection, waiting));
    if (sent > 0) {
        knit_counter_add(&net->turn->counters.bytes_out, sent);
        if (connection->is_stranger)
            connection->stranger_sent_bytes += (uint32_t)sent;
        connection->activity_ns = net->turn->now_ns;
        note_moved(connection, (uint32_t)sent);
        if (!pins_too_much(connection))
            connection->progress_ns = net->turn->now_ns;
    }
    if (waiting > 0) {
        on_full(connection, waiting);
        return KNIT_OUTPUT_WAITS;
    }
    on_empty(connection);
    return KNIT_OUTPUT_EMPTY;
}

/* ---- making room --------------------------------------------------------------------------- */

void knit_output_drop_reader(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    KNIT_COUNT(net->turn, readers_dropped);
    if (knit_turn_may_say(net->turn, KNIT_LOG_NOT_READ))
        knit_log(net->turn->log, KNIT_LOG_WARNING, "connection closed: its peer does not read",
            KNIT_LOG_NUMBER("waiting_bytes", knit_output_waiting(connection)),
            KNIT_LOG_NUMBER("fd", connection->transport.fd), KNIT_LOG_CALLER(&connection->caller));
    knit_net_end(connection);
}

typedef size_t held_bytes(const struct knit_connection *connection);

static size_t pinned_by(const struct knit_connection *connection)
{
    return connection->pinned_bytes;
}

static size_t copied_for(const struct knit_connection *connection)
{
    return connection->copied_bytes;
}

static bool may_be_dropped(const struct knit_connection *connection)
{
    return connection->net->turn->now_ns - connection->moved_ns >= CROWDED_STALL_NS;
}

/* Closes connections that do not read until so many of these bytes are given back, first those that
 * hold more than half of what any holds, then half of that, and so on: to find the one that holds
 * most each time would take seconds with ten thousand that hold about the same. */
static void drop_readers(struct knit_net *net, held_bytes *held, size_t excess)
{
    struct knit_connection *connection, *next;
    size_t most = 0;

    TAILQ_FOREACH(connection, &net->stalled, in_stalled)
    if (held(connection) > most && may_be_dropped(connection))
        most = held(connection);
    for (; most > 0 && excess > 0; most /= 2) {
        for (connection = TAILQ_FIRST(&net->stalled); connection != NULL && excess > 0;
             connection = next) {
            size_t bytes = held(connection);

            next = TAILQ_NEXT(connection, in_stalled);
            if (bytes <= most / 2 || !may_be_dropped(connection))
                continue;
            excess -= bytes < excess ? bytes : excess;
            knit_output_drop_reader(connection);
        }
    }
}

/* What is given back comes at the end of the turn. */
static void make_room_in_arena(struct knit_net *net)
{
    size_t arena = net->turn->settings->arena_bytes, most = arena / PINNED_SHARE_ALL;
    size_t pinned = net->pinned_bytes, part = arena / PINNED_SHARE;
    const struct knit_host_own_session *session = net->router->session;

    /* A worker can be blocked with little pinned, where what is pinned lies badly. */
    if (pinned <= most && pinned > 0 &&
        knit_state_is_blocked_on_arena(&session->reply, session->geometry.lanes))
        most = pinned > part ? pinned - part : 0;
    if (pinned > most)
        drop_readers(net, pinned_by, pinned - most);
}

void knit_output_make_room(struct knit_net *net)
{
    make_room_in_arena(net);
    if (is_crowded(net))
        drop_readers(net, copied_for,
            net->copied_bytes - net->turn->settings->output_total_max_bytes / COPIED_SHARE_ALL);
}
