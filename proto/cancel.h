/* SPDX-License-Identifier: Apache-2.0 */
/* `$/cancel`: the params array, which holds the msgid of the call that is to end, and perhaps the
 * reason, any value. With a reason its caller waits no longer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/failure.h"
#include "proto/span.h"

enum { KNIT_CANCEL_BYTES_MAX = 6 }; /* of the params without a reason */

/* reason: one msgpack value, or absent. Returns the buffer's error. */
int knit_cancel_put(struct knit_buffer *buffer, uint32_t msgid, struct knit_span reason);

/* A text as such a value, in an empty buffer: at most KNIT_ERROR_MESSAGE_BYTES_MAX of it, and what
 * is not UTF-8 as '?'. Returns the buffer's error. */
int knit_cancel_put_reason(struct knit_buffer *buffer, const char *text);

/* ret_reason: one msgpack value; absent: none, or nil. false: the params begin with something else
 * than a msgid. */
KNIT_MUST_CHECK bool knit_cancel_decode(
    struct knit_span params, uint32_t *ret_msgid, struct knit_span *ret_reason);

/* The reason if it is a text, else an absent span. */
struct knit_span knit_cancel_text(struct knit_span reason);

/* The error of a call that was cancelled, which has the reason as its data, and as its message if
 * it is a text. */
struct knit_failure knit_cancel_failure(struct knit_span reason);
