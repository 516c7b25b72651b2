/* SPDX-License-Identifier: Apache-2.0 */
/* MessagePack-RPC over one connected stream socket, from the caller's side.
 *
 * Requests are appended to an output buffer and sent together. Answers come in any order and find
 * their handle through a table whose places are the low bits of the msgid; the high bits count how
 * often a place was used, so an answer that comes twice finds nobody.
 *
 * Security: what arrives is scanned before it is kept, and bounded by what the server announced.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/message.h"
#include "proto/scan.h"

struct knit;
struct knit_handle;

enum {
    KNIT_STREAM_PLACE_BITS = 14,
    KNIT_STREAM_PLACES_MAX = 1 << KNIT_STREAM_PLACE_BITS,
    /* Which calls never take: the protocol's own methods find room when calls have none. */
    KNIT_STREAM_PLACES_SPARE = 16,
    /* Requests that wait to be sent; then starting another one waits. */
    KNIT_STREAM_OUT_MAX = 4 * 1024 * 1024,
    KNIT_STREAM_FDS_MAX = 4,
};

struct knit_stream_place {
    struct knit_handle *handle; /* NULL while taken: nobody waits any more */
    uint32_t use;
    uint32_t next_free;
    bool is_taken;
};

struct knit_stream {
    int fd;           /* -1: broken, or not yet connected */
    char reason[192]; /* why it broke; "" = it did not */

    struct knit_scan scan;
    uint8_t *in;
    size_t in_begin; /* of the message that is arriving */
    size_t in_fed;   /* what the scanner has seen */
    size_t in_len;
    size_t in_max;

    struct knit_buffer out;
    size_t out_sent;
    uint64_t position_sent; /* bytes ever given to the kernel */

    struct knit_stream_place *places;
    uint32_t places_max;
    uint32_t places_limit; /* of them, how many calls may take */
    uint32_t places_taken;
    uint32_t first_free;

    uint64_t request_max; /* bytes, as the server announced */

    bool wants_fds; /* descriptors may come with what arrives */
    int fds[KNIT_STREAM_FDS_MAX];
    uint32_t fds_count;
};

/* Takes fd, whatever comes of it. Returns 0 or -ENOMEM. */
int knit_stream_init(struct knit_stream *stream, int fd, uint32_t calls_max);
void knit_stream_fini(struct knit_stream *stream);

/* What the server announced: bytes of one message, requests in flight. 0 = not said. */
void knit_stream_set_limits(struct knit_stream *stream, uint64_t message_bytes, uint64_t in_flight);

/* Append a request. options may be NULL. Returns 0, KNIT_WOULD_BLOCK (no place, or too much waits),
 * or the code of an error: KNIT_TOO_LARGE, KNIT_DISCONNECTED, KNIT_INTERNAL. */
int knit_stream_start(struct knit *k, struct knit_handle *handle, const char *method,
    struct knit_span params, const struct knit_options *options);

/* Send as much as the kernel takes now. */
void knit_stream_flush(struct knit *k);

/* Read what is there, and give handles their outcomes. */
void knit_stream_receive(struct knit *k);

/* Sleep until something can be read, or sent where something waits for that. wait_ms < 0: no
 * limit. */
void knit_stream_sleep(const struct knit_stream *stream, int wait_ms);

bool knit_stream_has_output(const struct knit_stream *stream);

/* Ask the server to cancel. */
void knit_stream_cancel(struct knit *k, struct knit_handle *handle);

/* The handle no longer waits; its answer will be dropped. */
void knit_stream_forget(struct knit *k, const struct knit_handle *handle);

/* Take a request out of the output again, and free its place. False: a part of it has been sent, so
 * the rest must follow. */
bool knit_stream_take_back(struct knit *k, const struct knit_handle *handle);

/* Whether a request has not left this process whole. If nothing more is sent, it was not started.
 */
bool knit_stream_is_unsent(const struct knit_stream *stream, const struct knit_handle *handle);

/* End the connection, whoever else holds it, and settle whoever waits with KNIT_DISCONNECTED. Not
 * in a forked child: the connection is the parent's. */
void knit_stream_break(struct knit *k, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
