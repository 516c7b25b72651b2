/* SPDX-License-Identifier: Apache-2.0 */
/* MessagePack-RPC over one connection, from the caller's side.
 *
 * Requests are appended to an output buffer and sent together. Each takes a place in a table; the
 * place is the low bits of its msgid, and the high bits count how often the place was used, so that
 * an answer that comes twice breaks the connection instead of reaching another request. What the
 * request is for is an opaque `user`, to which the answer is given by callback.
 *
 * Callbacks run inside knit_stream_receive(), knit_stream_flush() and knit_stream_break(). They may
 * start requests, and may not call knit_stream_fini().
 *
 * Security: what arrives is scanned before it is kept. A message has at most 64 KiB until it is
 * known who sends it, and then as much as the session lets it have. So much again is reserved.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/poll_fd.h"
#include "clients/lib/transport.h"
#include "proto/buffer.h"
#include "proto/message.h"
#include "proto/progress.h"
#include "proto/scan.h"

enum {
    KNIT_STREAMS_MAX = 6, /* of a session */
    KNIT_STREAM_PLACE_BITS = 14,
    KNIT_STREAM_PLACES_MAX = 1 << KNIT_STREAM_PLACE_BITS,
    /* Places that only the protocol's own methods take, so that these find room when calls have
       none. */
    KNIT_STREAM_PLACES_SPARE = 16,
    /* Places of requests that wait at the server for others: these take none of the calls'. */
    KNIT_STREAM_PLACES_WAITING = 64,
    /* Unsent bytes at which starting another request returns KNIT_WOULD_BLOCK. */
    KNIT_STREAM_OUT_MAX = 4 * 1024 * 1024,
    /* Bytes of a message that arrives: of the first ones, and of any. */
    KNIT_STREAM_FIRST_MAX = 64 * 1024,
    KNIT_STREAM_IN_MAX_DEFAULT = 64 * 1024 * 1024,
    /* How long after a deadline a caller still waits for the daemon's own, more exact TIMEOUT
       before the library gives one. */
    KNIT_STREAM_GRACE_MS = 20,
};

struct knit_stream_callbacks {
    /* The request was answered. heap: the allocation in which the outcome lies, to be freed by the
     * receiver; NULL: the outcome is borrowed for the duration of the call. */
    void (*on_answer)(void *user, bool is_error, struct knit_span outcome, void *heap);
    /* The request's call has emitted a value, which is borrowed for the duration of the call.
     * NULL: values are ignored. */
    void (*on_progress)(void *user, const struct knit_progress *progress);
    /* The connection ended before the request was answered. */
    void (*on_broken)(void *user, enum knit_started started, const char *reason);
};

struct knit_stream_place {
    void *user;              /* NULL while taken: the answer is dropped */
    uint64_t begin_position; /* in the stream of bytes: where the request begins */
    uint64_t end_position;   /* and ends */
    uint32_t use;
    uint32_t next_free;
    bool is_taken;
};

struct knit_stream {
    const struct knit_stream_callbacks *callbacks;
    struct knit_transport transport;
    enum knit_transport_result send_wants;    /* what the last send answered */
    enum knit_transport_result receive_wants; /* what the last receive answered */
    char reason[320];                         /* why the connection ended; "" = it did not */

    struct knit_scan scan;
    uint8_t *in;
    size_t in_begin; /* of the message that is arriving */
    size_t in_fed;   /* what the scanner has seen */
    size_t in_len;
    size_t in_max;

    struct knit_buffer out;
    size_t out_sent;
    uint64_t position_sent; /* bytes ever given to the transport */

    struct knit_stream_place *places;
    uint32_t places_max;
    uint32_t places_limit; /* of them, how many calls may take */
    uint32_t places_added; /* to that limit, by knit_stream_add_place() */
    uint32_t places_taken;
    uint32_t first_free;

    struct knit_poll_fd *watched_by; /* its descriptor is taken out of there when it is closed */
    bool watched_write;              /* for writing too, as it is registered there */
    bool is_quiet;                   /* a poll has just found nothing to read in it */
    bool is_out;                     /* other connections take the calls, if there are any */
    bool is_known;                   /* who serves it, so messages may be longer */
    uint32_t number;                 /* of the session's places for connections */
    uint32_t serial;                 /* of its connections that served, this one; 0 = none */
    uint32_t tasks_age;              /* another number once the server's tasks may have changed */
    uint64_t workers;                /* of the server, as it said; at least 1 */
    uint64_t heard;                  /* how often something has come */
    struct knit_stream *next;        /* of several that the session has */
    uint64_t looked_ns;     /* of a coarse clock, when knit_stream_look() found nothing to read */
    bool has_goaway;        /* the server wants no further requests here */
    bool has_notified;      /* a task by a notification, which nothing answers */
    bool takes_references;  /* the server, to the results of other requests */
    bool takes_keys;        /* the same of idempotency keys, */
    uint64_t instance;      /* which this run of it remembers; 0 = it does not say */
    uint64_t in_flight_max; /* requests, as the server announced */
    uint64_t request_max;   /* bytes, as the server announced */
    uint64_t arguments_max; /* likewise, of one call; at most request_max */
    uint64_t
        refused_bytes; /* of the request that was last refused as TOO_LARGE, as far as counted */
};

/* Takes over the transport, even when it fails. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_stream_init(struct knit_stream *stream,
    const struct knit_stream_callbacks *callbacks, const struct knit_transport *transport,
    uint32_t calls_max);
void knit_stream_fini(struct knit_stream *stream);

/* Whether the next call may take it. */
static inline bool knit_stream_takes_calls(const struct knit_stream *stream)
{
    return stream->transport.fd >= 0 && !stream->has_goaway && !stream->is_out;
}

/* What the server announced: bytes of one message and of one call's arguments, requests in flight.
 * 0 = not said. */
void knit_stream_set_limits(
    struct knit_stream *stream, uint64_t message_bytes, uint64_t call_bytes, uint64_t in_flight);

/* Of a message of the server; 0 = KNIT_STREAM_IN_MAX_DEFAULT. */
void knit_stream_set_in_max(struct knit_stream *stream, uint32_t bytes);

static inline bool knit_stream_is_open(const struct knit_stream *stream)
{
    return stream->transport.fd >= 0;
}

/* The msgid of the request that has that place. */
static inline uint32_t knit_stream_msgid(const struct knit_stream *stream, uint32_t place)
{
    return stream->places[place].use << KNIT_STREAM_PLACE_BITS | place;
}

/* One place more for calls, as long as there is a request that waits at the server for others.
 * False: there are no more, or the server takes no more requests. */
KNIT_MUST_CHECK bool knit_stream_add_place(struct knit_stream *stream);
void knit_stream_remove_place(struct knit_stream *stream);

/* Whether calls leave half of their places free. */
static inline bool knit_stream_is_idle_by_half(const struct knit_stream *stream)
{
    return stream->places_taken < stream->places_limit / 2;
}

/* Append a request. options may be NULL. Returns KNIT_OK, KNIT_WOULD_BLOCK (no place is free, or
 * too much is unsent), or the code of an error: KNIT_TOO_LARGE, KNIT_DISCONNECTED, KNIT_INTERNAL.
 */
KNIT_MUST_CHECK int knit_stream_start(struct knit_stream *stream, const char *method,
    struct knit_span params, const struct knit_options *options, void *user, uint32_t *ret_place);

/* Append a notification. Returns KNIT_OK or KNIT_INTERNAL (out of memory). */
KNIT_MUST_CHECK int knit_stream_notify(
    struct knit_stream *stream, const char *name, struct knit_span params);

/* Append a notification of a task's name. Returns what knit_stream_start() returns. */
KNIT_MUST_CHECK int knit_stream_notify_task(
    struct knit_stream *stream, const char *task, struct knit_span params);

/* Send as much as the transport takes now. */
void knit_stream_flush(struct knit_stream *stream);

/* Read what is there, and give requests their answers. */
void knit_stream_receive(struct knit_stream *stream);

/* Of a stream without a request that looked long ago: what came meanwhile, as its end. Before a
 * request is sent where nobody would take it. */
void knit_stream_look_again(struct knit_stream *stream);
static inline void knit_stream_look(struct knit_stream *stream)
{
    if (stream->places_taken == 0 && knit_stream_is_open(stream))
        knit_stream_look_again(stream);
}

/* Sleep until something can be read, or sent where output waits for that. wait_ms < 0: no limit. */
void knit_stream_sleep(const struct knit_stream *stream, int wait_ms);

bool knit_stream_has_output(const struct knit_stream *stream);

/* Whether progress needs the descriptor to become writable. */
bool knit_stream_wants_write(const struct knit_stream *stream);

/* Whether input waits in the transport, for which the descriptor does not become readable. */
static inline bool knit_stream_has_pending(const struct knit_stream *stream)
{
    return knit_stream_is_open(stream) && knit_transport_has_pending(&stream->transport);
}

/* Ask the server to cancel a request. reason: one msgpack value, or absent. False: the request is
 * over, or memory is lacking and it goes on. */
bool knit_stream_cancel(struct knit_stream *stream, uint32_t place, struct knit_span reason);

/* The answer will be dropped. */
void knit_stream_forget(struct knit_stream *stream, uint32_t place);

/* Take a request out of the output again, and free its place. False: a part of it has been sent, so
 * the rest must follow. */
bool knit_stream_take_back(struct knit_stream *stream, uint32_t place);

/* Whether a part of the request is still in this process. If nothing more is sent, it was not
 * started. */
bool knit_stream_is_unsent(const struct knit_stream *stream, uint32_t place);

/* The bytes of a request of which a part is unsent, good until the next function on the stream.
 * False: its beginning is not there any more. */
KNIT_MUST_CHECK bool knit_stream_request(
    const struct knit_stream *stream, uint32_t place, struct knit_span *ret_request);

/* End the connection, for other processes that hold its descriptor too, and settle all requests
 * through on_broken. Not for a forked child: the connection is its parent's. */
void knit_stream_break(struct knit_stream *stream, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
