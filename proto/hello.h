/* SPDX-License-Identifier: Apache-2.0 */
/* `$/hello`: params and result, both ways.
 *
 * Decoded ones are views of the bytes they came from. Unknown keys are ignored, so either side may
 * be newer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_HELLO_E_BAD = 1, /* wrong types: ret_reason names the member */
};

enum { KNIT_HELLO_FEATURES_MAX = 32 };

/* `$/hello` -> */
struct knit_hello {
    struct knit_span name;    /* of the program that calls; required */
    struct knit_span version; /* may be absent */
    struct knit_span token;   /* may be absent; str or bin */
};

/* -> `$/hello` */
struct knit_hello_reply {
    struct knit_span server;
    struct knit_span version;
    uint64_t protocol;
    uint64_t epoch;
    uint64_t message_bytes;
    uint64_t call_bytes; /* the arguments of one call */
    uint64_t depth;
    uint64_t in_flight;
    uint64_t output_bytes;
    struct knit_span principal; /* may be absent */
    struct knit_span instance;  /* of the daemon, while it runs; may be absent */
    uint64_t workers;           /* 0 = not said */
    uint32_t feature_count;
    struct knit_span feature[KNIT_HELLO_FEATURES_MAX]; /* beyond that: dropped when decoding */
};

/* The params array, and the result. Encoders return the buffer's error; decoders 0 or
 * KNIT_HELLO_E_BAD, with a static text then. */
int knit_hello_put(struct knit_buffer *buffer, const struct knit_hello *hello);
KNIT_MUST_CHECK int knit_hello_decode(
    struct knit_span params, struct knit_hello *ret_hello, const char **ret_reason);
int knit_hello_reply_put(struct knit_buffer *buffer, const struct knit_hello_reply *reply);
KNIT_MUST_CHECK int knit_hello_reply_decode(
    struct knit_span result, struct knit_hello_reply *ret_reply, const char **ret_reason);
bool knit_hello_reply_has(const struct knit_hello_reply *reply, const char *feature);
