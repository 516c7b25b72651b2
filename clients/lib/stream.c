/* SPDX-License-Identifier: Apache-2.0 */
/* The stream's two buffers and its table.
 *
 * Input lies in one buffer that grows with what really arrived, never with what was announced. Each
 * byte is fed to the scanner once. An answer alone in the buffer and large enough takes the buffer
 * with it instead of being copied; all others are copied out, and what is left moves to the front
 * when the next read needs room.
 *
 * Output is one buffer and a cursor. Every request remembers where it begins and ends in the stream
 * of all bytes ever written: when the connection breaks, those beyond what the kernel took are
 * certain not to have been started, and their errors say so. One that expires or is let go of
 * before its first byte was sent is cut out of the buffer: nobody waits for it, and it must not run
 * after its caller was told that it did not.
 */
#include "clients/lib/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/lib/client.h"
#include "proto/cancel.h"
#include "proto/limits.h"

enum {
    READ_MIN = 64 * 1024,
    TAKE_MIN = 16 * 1024, /* answers from this size on are not copied */
    READS_MAX = 16,       /* a fast server does not keep a dispatching caller for ever */
    KEEP_MAX = 1024 * 1024,
    NO_PLACE = -1,
};

int knit_stream_init(struct knit_stream *stream, int fd, uint32_t calls_max)
{
    const struct knit_scan_limits limits = {.message_bytes = KNIT_MESSAGE_BYTES_MAX};

    *stream = (struct knit_stream){.fd = fd, .request_max = KNIT_MESSAGE_BYTES_DEFAULT};
    stream->places_limit = calls_max;
    stream->places_max = calls_max + KNIT_STREAM_PLACES_SPARE;
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

void knit_stream_set_limits(struct knit_stream *stream, uint64_t message_bytes, uint64_t in_flight)
{
    if (message_bytes != 0)
        stream->request_max = message_bytes;
    if (in_flight != 0 && in_flight < stream->places_limit)
        stream->places_limit = (uint32_t)in_flight;
}

static void close_fds(struct knit_stream *stream)
{
    for (uint32_t i = 0; i < stream->fds_count; i++)
        close(stream->fds[i]);
    stream->fds_count = 0;
}

void knit_stream_fini(struct knit_stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
    close_fds(stream);
    free(stream->places);
    free(stream->in);
    stream->places = NULL;
    stream->in = NULL;
    knit_buffer_fini(&stream->out);
}

/* ---- requests ---- */

bool knit_stream_has_output(const struct knit_stream *stream)
{
    return stream->out_sent < stream->out.len;
}

static uint32_t take_place(struct knit_stream *stream, struct knit_handle *handle)
{
    uint32_t index = stream->first_free;
    struct knit_stream_place *place = &stream->places[index];

    stream->first_free = place->next_free;
    stream->places_taken++;
    place->use++;
    place->is_taken = true;
    place->handle = handle;
    handle->slot = index;
    return place->use << KNIT_STREAM_PLACE_BITS | index;
}

static void leave_place(struct knit_stream *stream, uint32_t index)
{
    struct knit_stream_place *place = &stream->places[index];

    place->is_taken = false;
    place->handle = NULL;
    place->next_free = stream->first_free;
    stream->first_free = index;
    stream->places_taken--;
}

int knit_stream_start(struct knit *k, struct knit_handle *handle, const char *method,
    struct knit_span params, const struct knit_options *options)
{
    struct knit_stream *stream = &k->stream;
    const struct knit_method name = {.name = knit_span_text(method)};
    uint32_t limit = strncmp(method, "$/", 2) == 0 ? stream->places_max : stream->places_limit;
    size_t len = stream->out.len;
    uint32_t msgid;
    int r;

    if (stream->fd < 0)
        return KNIT_DISCONNECTED;
    if (params.len > stream->request_max)
        return KNIT_TOO_LARGE;
    if (stream->places_taken >= limit || len - stream->out_sent > KNIT_STREAM_OUT_MAX)
        return KNIT_WOULD_BLOCK;

    msgid = take_place(stream, handle);
    r = knit_message_put_request(&stream->out, msgid, &name, params, options);
    if (r != 0 || stream->out.len - len > stream->request_max) {
        leave_place(stream, handle->slot);
        stream->out.len = len;
        stream->out.error = 0;
        return r == 0 ? KNIT_TOO_LARGE : KNIT_INTERNAL;
    }
    handle->via = KNIT_VIA_STREAM;
    handle->begin_position = stream->position_sent + (len - stream->out_sent);
    handle->end_position = stream->position_sent + (stream->out.len - stream->out_sent);
    return 0;
}

/* What lies behind moves forward, and with it the positions that are remembered of it. */
bool knit_stream_take_back(struct knit *k, const struct knit_handle *handle)
{
    struct knit_stream *stream = &k->stream;
    struct knit_buffer *out = &stream->out;
    uint64_t begin = handle->begin_position, cut = handle->end_position - begin;
    size_t at;

    if (stream->fd < 0 || begin < stream->position_sent)
        return false;
    at = stream->out_sent + (size_t)(begin - stream->position_sent);
    memmove(out->bytes + at, out->bytes + at + cut, out->len - at - (size_t)cut);
    out->len -= (size_t)cut;
    leave_place(stream, handle->slot);
    for (uint32_t i = 0; i < stream->places_max; i++) {
        struct knit_handle *other = stream->places[i].handle;

        if (other != NULL && other->begin_position > begin) {
            other->begin_position -= cut;
            other->end_position -= cut;
        }
    }
    return true;
}

void knit_stream_cancel(struct knit *k, struct knit_handle *handle)
{
    struct knit_stream *stream = &k->stream;
    const struct knit_method method = {.name = knit_span_text("$/cancel")};
    uint8_t bytes[KNIT_CANCEL_BYTES_MAX];
    struct knit_buffer params;
    size_t len = stream->out.len;
    uint32_t msgid;

    if (stream->fd < 0 || !stream->places[handle->slot].is_taken)
        return;
    msgid = stream->places[handle->slot].use << KNIT_STREAM_PLACE_BITS | handle->slot;
    knit_buffer_init_fixed(&params, bytes, sizeof(bytes));
    if (knit_cancel_put(&params, msgid) == 0 &&
        knit_message_put_notification(&stream->out, &method, knit_buffer_span(&params)) == 0)
        return;
    stream->out.len = len;
    stream->out.error = 0;
}

void knit_stream_forget(struct knit *k, const struct knit_handle *handle)
{
    if (k->stream.places != NULL)
        k->stream.places[handle->slot].handle = NULL;
}

bool knit_stream_is_unsent(const struct knit_stream *stream, const struct knit_handle *handle)
{
    return handle->end_position > stream->position_sent;
}

/* A socket that never drains must not keep what it has taken. Moving no more than what was sent
 * since the last time costs each byte one copy. */
static void drop_sent(struct knit_stream *stream)
{
    size_t unsent = stream->out.len - stream->out_sent;

    if (stream->out_sent <= unsent)
        return;
    memmove(stream->out.bytes, stream->out.bytes + stream->out_sent, unsent);
    stream->out.len = unsent;
    stream->out_sent = 0;
}

void knit_stream_flush(struct knit *k)
{
    struct knit_stream *stream = &k->stream;

    while (stream->fd >= 0 && knit_stream_has_output(stream)) {
        ssize_t n = send(stream->fd, stream->out.bytes + stream->out_sent,
            stream->out.len - stream->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            drop_sent(stream);
            return;
        }
        if (n < 0) {
            /* What the server said before it closed may still be there to read. */
            int error = errno;

            knit_stream_receive(k);
            knit_stream_break(k, "the connection broke: %s", strerror(error));
            return;
        }
        stream->out_sent += (size_t)n;
        stream->position_sent += (size_t)n;
    }
    if (stream->fd >= 0) {
        knit_buffer_reset(&stream->out);
        knit_buffer_trim(&stream->out, KEEP_MAX);
        stream->out_sent = 0;
    }
}

/* ---- answers ---- */

static void answer(struct knit_handle *handle, const struct knit_message *message)
{
    struct knit_stream *stream = &handle->k->stream;
    bool is_error = message->error.bytes != NULL;
    struct knit_span outcome = is_error ? message->error : message->result;
    uint8_t *in = stream->in;

    if (outcome.len < TAKE_MIN || stream->in_begin != 0 || stream->in_len != stream->scan.used) {
        knit_handle_finish(handle, is_error, outcome.bytes, outcome.len);
        return;
    }
    stream->in = NULL;
    stream->in_begin = stream->in_fed = stream->in_len = stream->in_max = 0;
    knit_handle_finish_heap(handle, is_error, outcome, in);
}

/* One whole message lies at in_begin. False: the connection is broken now. */
static bool take_message(struct knit *k)
{
    struct knit_stream *stream = &k->stream;
    struct knit_message message;
    struct knit_stream_place *place;
    struct knit_handle *handle;
    const char *reason;
    uint32_t index;

    if (knit_message_parse(stream->in + stream->in_begin, stream->scan.used, &stream->scan,
            &message, &reason) != 0) {
        knit_stream_break(k, "the server sent what is no message: %s", reason);
        return false;
    }
    if (message.kind == KNIT_MESSAGE_REQUEST) {
        knit_stream_break(k, "the server sent a request");
        return false;
    }
    if (message.kind == KNIT_MESSAGE_NOTIFICATION)
        return true;

    index = message.msgid & (KNIT_STREAM_PLACES_MAX - 1);
    place = index < stream->places_max ? &stream->places[index] : NULL;
    if (place == NULL || !place->is_taken ||
        (place->use << KNIT_STREAM_PLACE_BITS | index) != message.msgid) {
        knit_stream_break(k, "the server answered a call that was not made");
        return false;
    }
    handle = place->handle;
    leave_place(stream, index);
    if (handle != NULL)
        answer(handle, &message);
    return true;
}

static void scan_input(struct knit *k)
{
    struct knit_stream *stream = &k->stream;

    while (stream->in_fed < stream->in_len) {
        size_t used;
        int r = knit_scan_feed(
            &stream->scan, stream->in + stream->in_fed, stream->in_len - stream->in_fed, &used);

        stream->in_fed += used;
        if (r == 0)
            return;
        if (r != KNIT_SCAN_E_DONE) {
            knit_stream_break(k, "the server sent what is no message: %s", stream->scan.reason);
            return;
        }
        if (!take_message(k))
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
    max = kept * 2 + 2 * READ_MIN;
    in = realloc(stream->in, max);
    if (in == NULL)
        return false;
    stream->in = in;
    stream->in_max = max;
    return true;
}

/* Descriptors are kept only if one message brings them, all at once; anything else is closed. */
static void take_fds(struct knit_stream *stream, struct msghdr *header)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (stream->fds_count == KNIT_STREAM_FDS_MAX)
                close(fd);
            else
                stream->fds[stream->fds_count++] = fd;
        }
    }
    if ((header->msg_flags & MSG_CTRUNC) != 0)
        close_fds(stream);
}

static ssize_t read_some(struct knit_stream *stream)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(KNIT_STREAM_FDS_MAX * sizeof(int))];
    struct iovec room = {stream->in + stream->in_len, stream->in_max - stream->in_len};
    struct msghdr header = {.msg_iov = &room, .msg_iovlen = 1};
    ssize_t n;

    /* Without room for control messages the kernel closes descriptors nobody asked for. */
    if (stream->wants_fds) {
        header.msg_control = control;
        header.msg_controllen = sizeof(control);
    }
    n = recvmsg(stream->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n >= 0 && stream->wants_fds)
        take_fds(stream, &header);
    return n;
}

void knit_stream_receive(struct knit *k)
{
    struct knit_stream *stream = &k->stream;

    for (int i = 0; i < READS_MAX && stream->fd >= 0; i++) {
        ssize_t n;
        size_t asked;

        if (!make_room(stream)) {
            knit_stream_break(k, "not enough memory to read on");
            return;
        }
        asked = stream->in_max - stream->in_len;
        n = read_some(stream);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            knit_stream_break(k, "the server closed the connection%s%s", n < 0 ? ": " : "",
                n < 0 ? strerror(errno) : "");
            return;
        }
        stream->in_len += (size_t)n;
        scan_input(k);
        if ((size_t)n < asked)
            return;
    }
}

void knit_stream_sleep(const struct knit_stream *stream, int wait_ms)
{
    struct pollfd item = {.fd = stream->fd, .events = POLLIN};

    if (knit_stream_has_output(stream))
        item.events |= POLLOUT;
    (void)poll(&item, 1, wait_ms);
}

void knit_stream_break(struct knit *k, const char *format, ...)
{
    struct knit_stream *stream = &k->stream;
    va_list args;

    if (stream->fd < 0)
        return;
    /* A forked child, or what it became, may hold the descriptor for as long as it likes: closing
       alone would not end the connection. */
    (void)shutdown(stream->fd, SHUT_RDWR);
    close(stream->fd);
    stream->fd = -1;
    va_start(args, format);
    vsnprintf(stream->reason, sizeof(stream->reason), format, args);
    va_end(args);

    for (uint32_t i = 0; i < stream->places_max; i++) {
        struct knit_handle *handle = stream->places[i].handle;

        if (handle != NULL && stream->places[i].is_taken)
            knit_handle_fail(handle, KNIT_DISCONNECTED,
                knit_stream_is_unsent(stream, handle) ? KNIT_STARTED_NO : KNIT_STARTED_UNKNOWN,
                stream->reason);
        stream->places[i].handle = NULL;
    }
}
