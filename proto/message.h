/* SPDX-License-Identifier: Apache-2.0 */
/* MessagePack-RPC messages: views of what arrived, and encoders for what is sent. PROTOCOL.md says
 * what they mean.
 *
 * A view points into the bytes it was parsed from. Parsing needs no second walk: the scanner's
 * marks give where the elements begin. Encoders append to a buffer and return its error;
 * a message that does not fit leaves nothing of itself behind.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/failure.h"
#include "proto/head.h"
#include "proto/options.h"
#include "proto/scan.h"
#include "proto/span.h"

enum {
    KNIT_MESSAGE_E_BAD = 1, /* not one of the protocol's arrays: BAD_MESSAGE, close */
};

enum knit_message_kind {
    KNIT_MESSAGE_REQUEST = 0,
    KNIT_MESSAGE_RESPONSE = 1,
    KNIT_MESSAGE_NOTIFICATION = 2,
};

/* A task or protocol method by its name, or a task by its number in the registry. */
struct knit_method {
    struct knit_span name; /* absent = by number. Not checked for UTF-8 or length */
    uint64_t id;
};

struct knit_message {
    enum knit_message_kind kind;
    uint32_t msgid;            /* requests and responses */
    struct knit_method method; /* requests and notifications */
    struct knit_span params;   /* raw msgpack, the whole array */
    struct knit_span options;  /* raw msgpack map, or absent */
    struct knit_span error;    /* responses: raw msgpack, absent on success */
    struct knit_span result;   /* responses: raw msgpack, absent on failure */
};

/* The scan must have ended with E_DONE for exactly these bytes. ret_reason: static text, written
 * with E_BAD only. Returns 0, KNIT_MESSAGE_E_BAD. */
KNIT_MUST_CHECK int knit_message_parse(const void *bytes, size_t len, const struct knit_scan *scan,
    struct knit_message *ret_message, const char **ret_reason);

/* The beginning of every request and response, up to the msgid. Returns its length. */
enum { KNIT_MESSAGE_START_MAX = 7 };
static inline size_t knit_message_pack_start(
    uint8_t *to, unsigned count, enum knit_message_kind kind, uint32_t msgid)
{
    to[0] = (uint8_t)(0x90 | count);
    to[1] = (uint8_t)kind;
    return 2 + knit_head_pack_uint32(to + 2, msgid);
}

/* A whole request. options NULL or empty gives the plain form of four elements. */
int knit_message_put_request(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_method *method, struct knit_span params, const struct knit_options *options);

/* Everything before params, for a caller that sends params from elsewhere; with_options = an
 * options map follows them. */
int knit_message_put_request_head(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_method *method, bool with_options);

int knit_message_put_notification(
    struct knit_buffer *buffer, const struct knit_method *method, struct knit_span params);

/* "[1, msgid, nil," behind which the result's own bytes must be sent. At most
 * KNIT_MESSAGE_RESPONSE_HEAD_MAX bytes. */
enum { KNIT_MESSAGE_RESPONSE_HEAD_MAX = 8 };
static inline size_t knit_message_pack_response_head(uint8_t *to, uint32_t msgid)
{
    size_t len = knit_message_pack_start(to, 4, KNIT_MESSAGE_RESPONSE, msgid);

    to[len] = 0xc0;
    return len + 1;
}
int knit_message_put_response_head(struct knit_buffer *buffer, uint32_t msgid);

/* A whole response. */
int knit_message_put_response(struct knit_buffer *buffer, uint32_t msgid, struct knit_span result);

/* [1, msgid, error, nil] in the form that the receiver understands. */
int knit_message_put_error(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_failure *failure, enum knit_failure_form form);

/* The same from a lane's compact form. */
int knit_message_put_error_raw(struct knit_buffer *buffer, uint32_t msgid, struct knit_span error,
    enum knit_failure_form form);

/* The same from the front of a long one, see knit_failure_convert_front(). The caller appends the
 * value that is left, if there is one, and the nil of the result. */
size_t knit_message_put_error_front(struct knit_buffer *buffer, uint32_t msgid,
    struct knit_span front, enum knit_failure_form form);
