/* SPDX-License-Identifier: Apache-2.0 */
/* Most messages are calls that knit_plain_take() takes in one walk; the scanner sees only what that
 * leaves alone. Whoever has parsed a call, bring() says what becomes of it.
 *
 * `fed` says how much of the message at the front the scanner has seen, so no byte is scanned
 * twice, in how many pieces the message arrives and wherever its bytes are moved. A message that
 * the scanner refuses before it is whole (too large, too deep) is not kept: its bytes are scanned
 * and dropped, and its msgid, which the scanner remembers, gets the error at its end. A lookahead
 * counts from the beginning of the message at the front, so while there is one, which has seen that
 * message whole, it is dropped as a whole.
 */
#include "server/net/dispatch.h"

#include "proto/message.h"
#include "proto/plain.h"
#include "proto/sentence.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/net/sending.h"
#include "server/net/strangers.h"
#include "server/rpc/method.h"
#include "server/rpc/references.h"
#include "server/rpc/reports.h"
#include "server/rpc/router.h"

enum {
    /* Some messages cost ten thousand times what others do, so what a connection may do at a time
     * is measured by the clock, which is read after every few of them, and after each with
     * references, which may name long values; a long one counts as many. */
    WORK_A_LOOK = 8,
    WORK_BYTES = 1024,
};

/* Of one knit_dispatch_input(). */
struct pace {
    uint64_t until_ns;
    size_t work; /* since the clock was last looked at */
};

/* The stream has no boundaries any more, or its sender does not keep to the protocol. msgid: of the
 * request that gets the error; NULL = none does. */
static void end_bad_stream(
    struct knit_connection *connection, const uint32_t *msgid, uint32_t code, const char *reason)
{
    struct knit_net *net = connection->net;

    KNIT_COUNT(net->turn, messages_bad);
    if (knit_turn_may_say(net->turn, KNIT_LOG_BAD_MESSAGE))
        knit_log(net->turn->log, KNIT_LOG_WARNING, "connection closed for a bad message",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_NUMBER("loop", net->turn->loop),
            KNIT_LOG_NUMBER("fd", connection->transport.fd), KNIT_LOG_CALLER(&connection->caller));
    if (msgid != NULL) {
        struct knit_failure failure = knit_failure(code, reason);

        knit_output_failure(connection, *msgid, &failure);
    }
    knit_sending_close(connection);
}

/* By what the scanner has read of it. */
static void end_scanned(struct knit_connection *connection, uint32_t code, const char *reason)
{
    const struct knit_scan *scan = &connection->scan;
    bool is_request = scan->has_msgid && scan->kind == KNIT_MESSAGE_REQUEST;

    end_bad_stream(connection, is_request ? &scan->msgid : NULL, code, reason);
}

/* The error is the one response of that msgid: the call is aborted and not answered. */
static void end_for_msgid(struct knit_connection *connection, uint32_t msgid)
{
    knit_router_forget(&connection->caller);
    end_bad_stream(
        connection, &msgid, KNIT_BAD_MESSAGE, "the msgid is that of a call still in flight");
}

/* When the message at the front was read. */
static uint64_t since_ns(const struct knit_connection *connection)
{
    return connection->lookahead != NULL ? knit_lookahead_since_ns(connection)
                                         : connection->received_ns;
}

/* What a message that is beyond a limit is refused with. */
static struct knit_failure describe_refusal(
    const struct knit_scan *scan, struct knit_sentence *ret_text)
{
    const bool is_message =
        scan->refused == KNIT_TOO_LARGE && scan->exceeded == scan->limits.message_bytes;
    struct knit_failure failure;

    if (is_message)
        (void)knit_sentence_set(ret_text, 0,
            "the message is too large: %llu bytes, at most %llu (server.message_max_bytes)",
            (unsigned long long)scan->used, (unsigned long long)scan->exceeded);
    else if (scan->refused == KNIT_TOO_LARGE)
        (void)knit_sentence_set(ret_text, 0, "%s: at most %u", scan->reason, scan->exceeded);
    else
        (void)knit_sentence_set(
            ret_text, 0, "the message nests too deep: at most %u levels", scan->exceeded);
    failure = knit_failure(scan->refused, ret_text->text);
    failure.limit = scan->exceeded;
    if (is_message)
        failure.actual = scan->used;
    return failure;
}

/* Those of the protocol's methods are no calls, and nothing is said of strangers. */
static void report_unread(struct knit_connection *connection, const struct knit_failure *failure)
{
    const struct knit_scan *scan = &connection->scan;
    const struct knit_message message = {.kind = (enum knit_message_kind)scan->kind,
        .msgid = scan->msgid,
        .method = {.id = UINT64_MAX},
        .params = {NULL, scan->used}};

    if (!connection->is_stranger && scan->prefix < 2 &&
        (connection->caller.gone_ns == 0 || message.kind != KNIT_MESSAGE_REQUEST))
        knit_reports_refuse_unread(&connection->caller, &message, since_ns(connection), failure);
}

/* Well-formed, but beyond a limit. */
static void refuse_message(struct knit_connection *connection)
{
    const struct knit_scan *scan = &connection->scan;
    const bool is_request = scan->kind == KNIT_MESSAGE_REQUEST && scan->has_msgid;
    struct knit_failure failure;
    struct knit_sentence text;
    uint32_t slot;

    if (is_request && knit_in_flight_find(&connection->caller.calls, scan->msgid, &slot)) {
        end_for_msgid(connection, scan->msgid);
        return;
    }
    KNIT_COUNT(connection->net->turn, messages_bad);
    if (!is_request && scan->kind != KNIT_MESSAGE_NOTIFICATION)
        return;
    failure = describe_refusal(scan, &text);
    if (knit_reports_are_on(connection->caller.router))
        report_unread(connection, &failure);
    if (is_request)
        knit_output_failure(connection, scan->msgid, &failure);
}

/* A method of the protocol. */
static void dispatch_ours(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_caller *caller = &connection->caller;
    uint32_t slot;

    if (message->kind == KNIT_MESSAGE_REQUEST &&
        knit_in_flight_find(&caller->calls, message->msgid, &slot)) {
        end_for_msgid(connection, message->msgid);
        return;
    }
    knit_method_handle(caller, message);
    if (caller->router->is_draining)
        knit_sending_goaway(connection, 0);
}

/* From one who has to say who it is first. */
static __attribute__((noinline)) void dispatch_stranger(
    struct knit_connection *connection, const struct knit_message *message)
{
    if (knit_strangers_admit(connection, message))
        dispatch_ours(connection, message);
    knit_strangers_settle(connection);
}

/* A call that the router did not settle. False: it must be brought again later. */
static __attribute__((noinline)) bool bring_again(struct knit_connection *connection,
    const struct knit_message *message, enum knit_router_verdict verdict)
{
    if (verdict == KNIT_ROUTER_LATER) {
        knit_lookahead_begin(connection);
        return false;
    }
    end_for_msgid(connection, message->msgid);
    return true;
}

/* A call that was read at since_ns. False: it must be brought again later. */
static inline bool bring(
    struct knit_connection *connection, const struct knit_message *message, uint64_t since_ns)
{
    enum knit_router_verdict verdict = knit_router_call(&connection->caller, message, since_ns);

    return verdict == KNIT_ROUTER_DONE || bring_again(connection, message, verdict);
}

/* False: the message must be brought again later. */
static bool dispatch_parsed(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_caller *caller = &connection->caller;
    enum knit_router_verdict verdict;

    if (connection->caller.gone_ns != 0 && message->kind == KNIT_MESSAGE_REQUEST)
        return true;
    if (message->kind == KNIT_MESSAGE_RESPONSE) {
        end_bad_stream(connection, NULL, KNIT_BAD_MESSAGE, "a response was sent to the server");
        return true;
    }
    if (connection->is_stranger) {
        dispatch_stranger(connection, message);
        return true;
    }
    if (knit_method_is_ours(message)) {
        dispatch_ours(connection, message);
        return true;
    }
    caller->has_waited = connection->lookahead != NULL && knit_lookahead_has_counted(connection);
    if (connection->scan.has_reference) {
        verdict = knit_references_call(caller, message, since_ns(connection));
        return verdict == KNIT_ROUTER_DONE || bring_again(connection, message, verdict);
    }
    return bring(connection, message, since_ns(connection));
}

static inline bool has_much_output(const struct knit_connection *connection)
{
    return (connection->caller.stage != NULL || connection->output != NULL) &&
           knit_output_waiting(connection) > knit_output_limit(connection);
}

/* Room for more output, or for some of it. */
static bool has_room_for_output(struct knit_connection *connection)
{
    if (has_much_output(connection))
        knit_sending_flush(connection);
    return !connection->is_dead && (connection->caller.pauses & KNIT_PAUSE_OUTPUT) == 0;
}

/* A call behind the message at the front, which begins at `begin`, comes before it. False: it
 * waits. */
static bool dispatch_later(struct knit_connection *connection, const uint8_t *begin)
{
    struct knit_message message;
    uint64_t since_ns;

    if (!has_room_for_output(connection))
        return false;
    connection->caller.has_waited = true;
    if (knit_lookahead_read_later(connection, begin, &message, &since_ns) &&
        !bring(connection, &message, since_ns))
        return false;
    if (connection->lookahead != NULL)
        knit_lookahead_end_later(connection);
    return true;
}

/* The message at the front is whole. False: it must be brought again later. */
static bool dispatch(struct knit_connection *connection, const uint8_t *bytes)
{
    struct knit_message message;
    const char *reason;

    if (has_much_output(connection)) {
        knit_sending_flush(connection);
        if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_OUTPUT)
            return false;
    }
    if (connection->scan.refused != 0) {
        refuse_message(connection);
        return true;
    }
    if (knit_message_parse(bytes, connection->fed, &connection->scan, &message, &reason) != 0) {
        end_scanned(connection, KNIT_BAD_MESSAGE, reason);
        return true;
    }
    return dispatch_parsed(connection, &message);
}

/* When the connection has had its time. What is left of the turn is for all; one connection gets
 * all of it if no other waits. */
static uint64_t slice_end_ns(const struct knit_net *net)
{
    uint64_t end_ns = net->turn->now_ns + net->slice_ns;

    if (net->turn->input_until_ns > end_ns && !knit_net_is_crowded(net))
        end_ns = net->turn->input_until_ns;
    return end_ns;
}

/* The connection goes on later, with the input it holds. */
static void yield(struct knit_connection *connection)
{
    knit_net_pause(connection, KNIT_PAUSE_TURN);
    connection->is_backlogged = true;
    knit_net_add_ready(connection);
}

static __attribute__((noinline)) void look_at_clock(
    struct knit_connection *connection, struct pace *pace)
{
    if (connection->is_dead)
        return;
    pace->work = 0;
    knit_turn_tick(connection->net->turn);
    if (connection->net->turn->now_ns >= pace->until_ns)
        yield(connection);
}

/* Some work was done: is it time? One that was closed by it does not go on. */
static inline void yield_in_time(
    struct knit_connection *connection, size_t bytes, struct pace *pace)
{
    pace->work += 1 + bytes / WORK_BYTES;
    if (pace->work >= WORK_A_LOOK)
        look_at_clock(connection, pace);
}

/* Scans on in the message at the front, which begins at *begin. False: it is not whole, and there
 * is no more of it or no more time. */
static bool scan_front(struct knit_connection *connection, const uint8_t *bytes, size_t len,
    size_t *begin, struct pace *pace)
{
    struct knit_scan *scan = &connection->scan;

    while (!connection->has_message && knit_dispatch_may(connection)) {
        size_t at = *begin + connection->fed, used;
        int r;

        if (at == len)
            return false;
        r = knit_scan_feed(scan, bytes + at,
            len - at < KNIT_NET_SCAN_BYTES ? len - at : KNIT_NET_SCAN_BYTES, &used);
        connection->fed += used;
        if (r == KNIT_SCAN_E_BAD) {
            end_scanned(connection, scan->refused, scan->reason);
            *begin = len;
            return false;
        }
        connection->has_message = r != 0;
        if (r != 0)
            break;
        if (scan->refused != 0 && connection->lookahead == NULL) {
            *begin += connection->fed;
            connection->fed = 0;
        }
        yield_in_time(connection, used, pace);
    }
    return connection->has_message;
}

/* A message begins at the front, nothing before it waits, and the caller is there and known. */
static bool is_between_messages(const struct knit_connection *connection)
{
    return connection->fed == 0 && connection->scan.used == 0 && !connection->has_message &&
           connection->lookahead == NULL && connection->caller.gone_ns == 0 &&
           !connection->is_stranger;
}

/* The message must be brought again later: from now on the scanner has it, as one that is whole. */
static void leave_to_scanner(struct knit_connection *connection, const uint8_t *bytes, size_t len)
{
    connection->has_message =
        knit_scan_feed(&connection->scan, bytes, len, &connection->fed) == KNIT_SCAN_E_DONE;
}

/* Brings plain calls from the front on, and returns how many bytes they are. What follows is
 * another matter, or waits. */
static size_t bring_plain(
    struct knit_connection *connection, const uint8_t *bytes, size_t len, struct pace *pace)
{
    const size_t most = connection->scan.limits.message_bytes;
    struct knit_message message;
    size_t begin = 0, used;

    connection->caller.has_waited = false;
    while (knit_dispatch_may(connection) && !has_much_output(connection) &&
           (used = knit_plain_take(bytes + begin, len - begin, most, &message)) > 0 &&
           message.kind != KNIT_MESSAGE_RESPONSE) {
        if (!bring(connection, &message, connection->received_ns)) {
            leave_to_scanner(connection, bytes + begin, used);
            break;
        }
        begin += used;
        yield_in_time(connection, used, pace);
    }
    return begin;
}

/* Dispatches the message at the front, of which *begin says where it is. False: it waits, or is not
 * whole. */
static bool dispatch_front(struct knit_connection *connection, const uint8_t *bytes, size_t len,
    size_t *begin, struct pace *pace)
{
    size_t done, work;

    if (connection->lookahead != NULL && knit_lookahead_chooses_later(connection)) {
        if (!dispatch_later(connection, bytes + *begin))
            return false;
        yield_in_time(connection, 0, pace);
        return true;
    }
    if (!scan_front(connection, bytes, len, begin, pace))
        return false;
    if (!(connection->lookahead != NULL && knit_lookahead_is_settled(connection)) &&
        !dispatch(connection, bytes + *begin))
        return false;
    if (connection->lookahead != NULL)
        knit_lookahead_pop(connection);
    done = connection->fed;
    work = done + (connection->scan.has_reference ? WORK_A_LOOK * WORK_BYTES : 0);
    *begin += done;
    connection->fed = 0;
    connection->has_message = false;
    knit_scan_reset(&connection->scan);
    yield_in_time(connection, work, pace);
    return true;
}

size_t knit_dispatch_input(struct knit_connection *connection, const uint8_t *bytes, size_t len)
{
    struct pace pace = {.until_ns = slice_end_ns(connection->net)};
    size_t begin = 0;

    do {
        if (is_between_messages(connection))
            begin += bring_plain(connection, bytes + begin, len - begin, &pace);
    } while (
        knit_dispatch_may(connection) && dispatch_front(connection, bytes, len, &begin, &pace));
    return begin;
}
