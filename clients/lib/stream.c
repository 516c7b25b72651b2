/* SPDX-License-Identifier: Apache-2.0 */
/* The stream's two buffers and its table of requests.
 *
 * Input lies in one buffer that grows with what really arrived, never with what was announced. Each
 * byte is fed to the scanner once. An answer that is alone in the buffer and large enough takes the
 * buffer with it instead of being copied; all others are copied out, and the rest moves to the
 * front when the next read needs room.
 *
 * Output is one buffer and a cursor. The table remembers where every request begins and ends in the
 * stream of all bytes ever written. When the connection breaks, those of which a part was never
 * given to the kernel are certain not to have started, and their errors say so. A request that
 * expires or is dropped before its first byte was sent is cut out of the buffer: its caller is told
 * that it did not start, so it must not run later.
 */
#include "clients/lib/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <knitting/knitting.h>

#include "proto/cancel.h"
#include "proto/limits.h"
#include "proto/plain.h"

enum {
    READ_MIN = 64 * 1024,
    TAKE_MIN = 16 * 1024, /* answers from this size on are not copied */
    READS_MAX = 16,       /* of one turn, so that a fast server cannot keep the caller in it */
    KEEP_MAX = 1024 * 1024,
    LOOK_NS = 20 * 1000 * 1000, /* a server that has gone is found by a request later than that */
};

static uint64_t coarse_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int knit_stream_init(struct knit_stream *stream, const struct knit_stream_callbacks *callbacks,
    const struct knit_transport *transport, uint32_t calls_max)
{
    const struct knit_scan_limits limits = {.message_bytes = KNIT_STREAM_FIRST_MAX};

    *stream = (struct knit_stream){.callbacks = callbacks,
        .transport = *transport,
        .request_max = KNIT_MESSAGE_BYTES_DEFAULT,
        .arguments_max = KNIT_MESSAGE_BYTES_DEFAULT};
    stream->places_limit = calls_max;
    stream->places_max = calls_max + KNIT_STREAM_PLACES_SPARE + KNIT_STREAM_PLACES_WAITING;
    stream->in_flight_max = UINT64_MAX;
    stream->workers = 1;
    stream->looked_ns = coarse_ns();
    knit_scan_init(&stream->scan, &limits);
    knit_buffer_init(&stream->out, (size_t)KNIT_STREAM_OUT_MAX + KNIT_MESSAGE_BYTES_MAX);
    stream->places = calloc(stream->places_max, sizeof(*stream->places));
    if (stream->places == NULL) {
        knit_stream_fini(stream);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < stream->places_max; i++)
        stream->places[i].next_free = i + 1;
    return 0;
}

void knit_stream_set_limits(
    struct knit_stream *stream, uint64_t message_bytes, uint64_t call_bytes, uint64_t in_flight)
{
    if (message_bytes != 0)
        stream->request_max = message_bytes;
    stream->arguments_max = stream->request_max;
    if (call_bytes != 0 && call_bytes < stream->arguments_max)
        stream->arguments_max = call_bytes;
    if (in_flight != 0)
        stream->in_flight_max = in_flight;
    if (in_flight != 0 && in_flight < stream->places_limit)
        stream->places_limit = (uint32_t)in_flight;
}

void knit_stream_set_in_max(struct knit_stream *stream, uint32_t bytes)
{
    const struct knit_scan_limits limits = {
        .message_bytes = bytes != 0 ? bytes : KNIT_STREAM_IN_MAX_DEFAULT};

    knit_scan_set_limits(&stream->scan, &limits);
    stream->is_known = true;
}

void knit_stream_fini(struct knit_stream *stream)
{
    knit_transport_fini(&stream->transport);
    free(stream->places);
    free(stream->in);
    stream->places = NULL;
    stream->in = NULL;
    knit_buffer_fini(&stream->out);
}

/* ---- requests ---- */

bool knit_stream_has_output(const struct knit_stream *stream)
{
    return stream->out_sent < stream->out.len || stream->transport.unsent != 0;
}

bool knit_stream_wants_write(const struct knit_stream *stream)
{
    return stream->receive_wants == KNIT_TRANSPORT_WANT_WRITE ||
           (knit_stream_has_output(stream) && stream->send_wants != KNIT_TRANSPORT_WANT_READ);
}

bool knit_stream_add_place(struct knit_stream *stream)
{
    if (stream->places_added == KNIT_STREAM_PLACES_WAITING ||
        stream->places_limit >= stream->in_flight_max)
        return false;
    stream->places_limit++;
    stream->places_added++;
    return true;
}

void knit_stream_remove_place(struct knit_stream *stream)
{
    stream->places_limit--;
    stream->places_added--;
}

static uint32_t take_place(struct knit_stream *stream, void *user)
{
    uint32_t index = stream->first_free;
    struct knit_stream_place *place = &stream->places[index];

    stream->first_free = place->next_free;
    stream->places_taken++;
    place->use++;
    place->is_taken = true;
    place->user = user;
    return index;
}

static void leave_place(struct knit_stream *stream, uint32_t index)
{
    struct knit_stream_place *place = &stream->places[index];

    place->is_taken = false;
    place->user = NULL;
    place->next_free = stream->first_free;
    stream->first_free = index;
    stream->places_taken--;
}

int knit_stream_start(struct knit_stream *stream, const char *method, struct knit_span params,
    const struct knit_options *options, void *user, uint32_t *ret_place)
{
    const struct knit_method name = {.name = knit_span_text(method)};
    uint32_t limit = strncmp(method, "$/", 2) == 0 ? stream->places_max : stream->places_limit;
    size_t len = stream->out.len;
    uint32_t index;
    int r;

    if (!knit_stream_is_open(stream))
        return KNIT_DISCONNECTED;
    stream->refused_bytes = params.len;
    if (params.len > stream->arguments_max)
        return KNIT_TOO_LARGE;
    if (stream->places_taken >= limit || len - stream->out_sent > KNIT_STREAM_OUT_MAX)
        return KNIT_WOULD_BLOCK;

    index = take_place(stream, user);
    r = knit_message_put_request(
        &stream->out, knit_stream_msgid(stream, index), &name, params, options);
    if (r != 0 || stream->out.len - len > stream->request_max) {
        stream->refused_bytes = stream->out.len - len;
        leave_place(stream, index);
        stream->out.len = len;
        stream->out.error = 0;
        return r == 0 ? KNIT_TOO_LARGE : KNIT_INTERNAL;
    }
    stream->places[index].begin_position = stream->position_sent + (len - stream->out_sent);
    stream->places[index].end_position =
        stream->position_sent + (stream->out.len - stream->out_sent);
    *ret_place = index;
    return KNIT_OK;
}

int knit_stream_notify(struct knit_stream *stream, const char *name, struct knit_span params)
{
    const struct knit_method method = {.name = knit_span_text(name)};
    size_t len = stream->out.len;

    if (knit_message_put_notification(&stream->out, &method, params) == 0)
        return KNIT_OK;
    stream->out.len = len;
    stream->out.error = 0;
    return KNIT_INTERNAL;
}

int knit_stream_notify_task(struct knit_stream *stream, const char *task, struct knit_span params)
{
    size_t len = stream->out.len;
    int code;

    if (!knit_stream_is_open(stream))
        return KNIT_DISCONNECTED;
    stream->refused_bytes = params.len;
    if (params.len > stream->arguments_max)
        return KNIT_TOO_LARGE;
    if (len - stream->out_sent > KNIT_STREAM_OUT_MAX)
        return KNIT_WOULD_BLOCK;
    code = knit_stream_notify(stream, task, params);
    if (code == KNIT_OK && stream->out.len - len > stream->request_max) {
        stream->refused_bytes = stream->out.len - len;
        stream->out.len = len;
        return KNIT_TOO_LARGE;
    }
    stream->has_notified = stream->has_notified || code == KNIT_OK;
    return code;
}

/* The bytes behind the request move forward, and the positions of their requests with them. */
bool knit_stream_take_back(struct knit_stream *stream, uint32_t place)
{
    struct knit_buffer *out = &stream->out;
    uint64_t begin = stream->places[place].begin_position;
    uint64_t cut = stream->places[place].end_position - begin;
    size_t at;

    if (!knit_stream_is_open(stream) || begin < stream->position_sent)
        return false;
    at = stream->out_sent + (size_t)(begin - stream->position_sent);
    memmove(out->bytes + at, out->bytes + at + cut, out->len - at - (size_t)cut);
    out->len -= (size_t)cut;
    leave_place(stream, place);
    for (uint32_t i = 0; i < stream->places_max; i++) {
        struct knit_stream_place *other = &stream->places[i];

        if (other->is_taken && other->begin_position > begin) {
            other->begin_position -= cut;
            other->end_position -= cut;
        }
    }
    return true;
}

bool knit_stream_cancel(struct knit_stream *stream, uint32_t place, struct knit_span reason)
{
    uint8_t bytes[KNIT_CANCEL_BYTES_MAX];
    struct knit_buffer params;
    bool is_sent;

    if (!knit_stream_is_open(stream) || !stream->places[place].is_taken)
        return false;
    if (reason.bytes == NULL)
        knit_buffer_init_fixed(&params, bytes, sizeof(bytes));
    else
        knit_buffer_init(&params, KNIT_METHOD_PARAMS_BYTES_MAX);
    is_sent = knit_cancel_put(&params, knit_stream_msgid(stream, place), reason) == 0 &&
              knit_stream_notify(stream, "$/cancel", knit_buffer_span(&params)) == KNIT_OK;
    knit_buffer_fini(&params);
    return is_sent;
}

void knit_stream_forget(struct knit_stream *stream, uint32_t place)
{
    if (stream->places != NULL)
        stream->places[place].user = NULL;
}

bool knit_stream_is_unsent(const struct knit_stream *stream, uint32_t place)
{
    return stream->places[place].end_position > stream->position_sent;
}

bool knit_stream_request(
    const struct knit_stream *stream, uint32_t place, struct knit_span *ret_request)
{
    const struct knit_stream_place *at = &stream->places[place];
    const uint64_t dropped = stream->position_sent - stream->out_sent;

    if (!knit_stream_is_unsent(stream, place) || at->begin_position < dropped)
        return false;
    *ret_request = knit_span(stream->out.bytes + (at->begin_position - dropped),
        (size_t)(at->end_position - at->begin_position));
    return true;
}

/* Frees the room of sent bytes even when the output never becomes empty. Bytes move only when more
 * was sent than is left, so each is copied once at most. */
static void drop_sent(struct knit_stream *stream)
{
    size_t unsent = stream->out.len - stream->out_sent;

    if (stream->out_sent <= unsent)
        return;
    memmove(stream->out.bytes, stream->out.bytes + stream->out_sent, unsent);
    stream->out.len = unsent;
    stream->out_sent = 0;
}

/* Until the output is empty or the transport takes nothing more. */
static enum knit_transport_result send_output(struct knit_stream *stream)
{
    enum knit_transport_result result = KNIT_TRANSPORT_OK;

    while (result == KNIT_TRANSPORT_OK && knit_stream_has_output(stream)) {
        size_t sent = 0;

        result = knit_transport_send(&stream->transport, stream->out.bytes + stream->out_sent,
            stream->out.len - stream->out_sent, &sent);
        stream->out_sent += sent;
        stream->position_sent += sent;
    }
    return result;
}

/* What a transport says itself is a sentence; the error of a socket is none. */
static void break_off(
    struct knit_stream *stream, const char *what, const struct knit_transport *transport)
{
    const char *reason = knit_transport_reason(transport);

    if (transport->kind->reason != NULL)
        knit_stream_break(stream, "%s", reason);
    else
        knit_stream_break(stream, "%s: %s", what, reason);
}

void knit_stream_flush(struct knit_stream *stream)
{
    if (!knit_stream_is_open(stream))
        return;
    stream->send_wants = send_output(stream);
    switch (stream->send_wants) {
    case KNIT_TRANSPORT_OK:
        knit_buffer_reset(&stream->out);
        knit_buffer_trim(&stream->out, KEEP_MAX);
        stream->out_sent = 0;
        return;
    case KNIT_TRANSPORT_WANT_READ:
    case KNIT_TRANSPORT_WANT_WRITE:
        drop_sent(stream);
        return;
    case KNIT_TRANSPORT_END:
    case KNIT_TRANSPORT_BROKEN: {
        /* Answers that the server sent before it closed may still be there to read. */
        struct knit_transport as_it_broke = stream->transport;

        knit_stream_receive(stream);
        break_off(stream, "the connection broke", &as_it_broke);
        return;
    }
    }
}

/* ---- answers ---- */

static void answer(
    struct knit_stream *stream, void *user, const struct knit_message *message, size_t len)
{
    bool is_error = message->error.bytes != NULL;
    struct knit_span outcome = is_error ? message->error : message->result;
    uint8_t *in = NULL;

    if (outcome.len >= TAKE_MIN && stream->in_begin == 0 && stream->in_len == len) {
        in = stream->in;
        stream->in = NULL;
        stream->in_begin = stream->in_fed = stream->in_len = stream->in_max = 0;
    }
    stream->callbacks->on_answer(user, is_error, outcome, in);
}

/* Of those that the server sends, `$/progress` concerns a request, which may be over, and
 * `$/goaway` the connection. */
static void take_notification(struct knit_stream *stream, const struct knit_message *message)
{
    struct knit_progress progress;
    uint32_t index;

    if (knit_span_is(message->method.name, "$/goaway"))
        stream->has_goaway = true;
    if (stream->callbacks->on_progress == NULL ||
        !knit_span_is(message->method.name, "$/progress") ||
        !knit_progress_decode(message->params, &progress))
        return;
    index = progress.msgid & (KNIT_STREAM_PLACES_MAX - 1);
    if (index < stream->places_max && stream->places[index].is_taken &&
        knit_stream_msgid(stream, index) == progress.msgid && stream->places[index].user != NULL)
        stream->callbacks->on_progress(stream->places[index].user, &progress);
}

/* Of the len bytes at in_begin, which have been fed. False: the connection is broken now. */
static bool take_message(struct knit_stream *stream, const struct knit_message *message, size_t len)
{
    uint32_t index;
    void *user;

    if (message->kind == KNIT_MESSAGE_REQUEST) {
        knit_stream_break(stream, "the server sent a request");
        return false;
    }
    if (message->kind == KNIT_MESSAGE_NOTIFICATION) {
        take_notification(stream, message);
        return true;
    }

    index = message->msgid & (KNIT_STREAM_PLACES_MAX - 1);
    if (index >= stream->places_max || !stream->places[index].is_taken ||
        knit_stream_msgid(stream, index) != message->msgid) {
        knit_stream_break(stream, "the server answered a call that was not made");
        return false;
    }
    user = stream->places[index].user;
    leave_place(stream, index);
    if (user != NULL)
        answer(stream, user, message, len);
    return true;
}

/* Takes plain messages from in_begin on, where the scanner is at the beginning of one. False: the
 * connection is broken now. */
static bool take_plain(struct knit_stream *stream)
{
    struct knit_message message;
    size_t len;

    while ((len = knit_plain_take(stream->in + stream->in_begin, stream->in_len - stream->in_begin,
                stream->scan.limits.message_bytes, &message)) > 0) {
        stream->in_fed += len;
        if (!take_message(stream, &message, len))
            return false;
        stream->in_begin = stream->in_fed;
    }
    return true;
}

/* The scanner has found a message at in_begin. False: the connection is broken now. */
static bool take_scanned(struct knit_stream *stream)
{
    struct knit_message message;
    const char *reason;

    if (knit_message_parse(stream->in + stream->in_begin, stream->scan.used, &stream->scan,
            &message, &reason) != 0) {
        knit_stream_break(stream, "the server sent what is no message: %s", reason);
        return false;
    }
    return take_message(stream, &message, stream->scan.used);
}

/* What stands at in_begin is no message, or too large a one. A server that encrypts answers what is
 * not encrypted with an alert: content type 21, major version 3. */
static void refuse_input(struct knit_stream *stream)
{
    const uint8_t *bytes = stream->in + stream->in_begin;

    if (stream->in_len - stream->in_begin >= 2 && bytes[0] == 21 && bytes[1] == 3) {
        stream->transport.refusal = KNIT_DISCONNECTED;
        knit_stream_break(stream, "the server speaks TLS there, so its URL begins with knits://");
        return;
    }
    if (stream->scan.refused == KNIT_TOO_LARGE)
        knit_stream_break(stream, "the server sent a message of more than %u bytes%s",
            stream->scan.limits.message_bytes,
            stream->is_known ? " (option reply_max_bytes)" : " before it was known");
    else
        knit_stream_break(stream, "the server sent what is no message: %s", stream->scan.reason);
}

static void scan_input(struct knit_stream *stream)
{
    while (stream->in_fed < stream->in_len) {
        size_t used;
        int r;

        if (stream->in_fed == stream->in_begin) {
            if (!take_plain(stream))
                return;
            if (stream->in_fed == stream->in_len)
                break;
        }
        r = knit_scan_feed(
            &stream->scan, stream->in + stream->in_fed, stream->in_len - stream->in_fed, &used);
        stream->in_fed += used;
        if (r != KNIT_SCAN_E_DONE && (r != 0 || stream->scan.refused != 0)) {
            refuse_input(stream);
            return;
        }
        if (r == 0)
            return;
        if (!take_scanned(stream))
            return;
        stream->in_begin = stream->in_fed;
        knit_scan_reset(&stream->scan);
    }
    stream->in_begin = stream->in_fed = stream->in_len = 0;
    if (stream->in_max > KEEP_MAX) {
        free(stream->in);
        stream->in = NULL;
        stream->in_max = 0;
    }
}

static bool make_room(struct knit_stream *stream)
{
    size_t kept = stream->in_len - stream->in_begin, max;
    uint8_t *in;

    if (stream->in_max - stream->in_len >= READ_MIN)
        return true;
    if (stream->in_begin > 0) {
        memmove(stream->in, stream->in + stream->in_begin, kept);
        stream->in_fed -= stream->in_begin;
        stream->in_len = kept;
        stream->in_begin = 0;
    }
    if (stream->in_max - kept >= READ_MIN)
        return true;
    max =
        kept < stream->scan.limits.message_bytes / 2 ? kept * 2 : stream->scan.limits.message_bytes;
    max += 2 * READ_MIN;
    in = realloc(stream->in, max);
    if (in == NULL)
        return false;
    stream->in = in;
    stream->in_max = max;
    return true;
}

static void receive(struct knit_stream *stream)
{
    for (int i = 0; i < READS_MAX && knit_stream_is_open(stream); i++) {
        size_t asked, len = 0;

        if (!make_room(stream)) {
            knit_stream_break(stream, "not enough memory to read on");
            return;
        }
        asked = stream->in_max - stream->in_len;
        stream->receive_wants =
            knit_transport_receive(&stream->transport, stream->in + stream->in_len, asked, &len);
        switch (stream->receive_wants) {
        case KNIT_TRANSPORT_OK:
            stream->heard++;
            stream->in_len += len;
            scan_input(stream);
            break;
        case KNIT_TRANSPORT_WANT_READ:
        case KNIT_TRANSPORT_WANT_WRITE:
            return;
        case KNIT_TRANSPORT_END:
            knit_stream_break(stream, "the server closed the connection");
            return;
        case KNIT_TRANSPORT_BROKEN:
            break_off(stream, "the server closed the connection", &stream->transport);
            return;
        }
        /* A short read has emptied the socket: another one would only return EAGAIN. */
        if (len < asked && !knit_stream_has_pending(stream))
            return;
    }
}

void knit_stream_receive(struct knit_stream *stream)
{
    receive(stream);
    /* What it waited for may have come just now, of which the descriptor tells no more. */
    if (stream->send_wants == KNIT_TRANSPORT_WANT_READ)
        knit_stream_flush(stream);
}

void knit_stream_look_again(struct knit_stream *stream)
{
    const uint64_t now_ns = coarse_ns();

    if (now_ns - stream->looked_ns >= LOOK_NS)
        knit_stream_receive(stream);
    stream->looked_ns = now_ns;
}

void knit_stream_sleep(const struct knit_stream *stream, int wait_ms)
{
    knit_transport_wait(&stream->transport, knit_stream_wants_write(stream), wait_ms);
}

void knit_stream_break(struct knit_stream *stream, const char *format, ...)
{
    va_list args;

    if (!knit_stream_is_open(stream))
        return;
    /* A forked child may hold the descriptor for as long as it likes, so closing alone would not
       end the connection. */
    knit_transport_shut_down(&stream->transport);
    if (stream->watched_by != NULL)
        knit_poll_fd_remove(stream->watched_by, stream->transport.fd);
    knit_transport_close(&stream->transport);
    va_start(args, format);
    vsnprintf(stream->reason, sizeof(stream->reason), format, args);
    va_end(args);

    for (uint32_t i = 0; i < stream->places_max; i++) {
        struct knit_stream_place *place = &stream->places[i];
        void *user = place->is_taken ? place->user : NULL;

        place->user = NULL;
        if (user != NULL)
            stream->callbacks->on_broken(user,
                knit_stream_is_unsent(stream, i) ? KNIT_STARTED_NO : KNIT_STARTED_UNKNOWN,
                stream->reason);
    }
}
