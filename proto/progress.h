/* SPDX-License-Identifier: Apache-2.0 */
/* `$/progress`: a value that a call has emitted while it runs; and what such a value may be. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum { KNIT_PROGRESS_BYTES_MAX = 112 }; /* of the value */

/* The whole notification has at most so many bytes. */
enum { KNIT_PROGRESS_MESSAGE_MAX = KNIT_PROGRESS_BYTES_MAX + 32 };

struct knit_progress {
    uint32_t msgid;
    struct knit_span value; /* one of msgpack */
    uint64_t count;         /* of the values that the call has emitted, this one included */
};

/* Whether the bytes are one value, and not too many. */
KNIT_MUST_CHECK bool knit_progress_check(struct knit_span value);

/* Appends the notification. Returns the buffer's error. */
int knit_progress_put(struct knit_buffer *buffer, const struct knit_progress *progress);

/* Of the params of one. False: they are something else, or the value is not as it may be. */
KNIT_MUST_CHECK bool knit_progress_decode(
    struct knit_span params, struct knit_progress *ret_progress);
