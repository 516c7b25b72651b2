/* SPDX-License-Identifier: Apache-2.0 */
/* A MessagePack value as JSON text (RFC 8259), for those who ask by HTTP.
 *
 * What the daemon says of itself is put together once, as the protocol carries it, and this is the
 * one way from there to JSON; so both forms have the same keys and figures. Numbers are written in
 * full: some are beyond what a double holds exactly.
 */
#pragma once

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

/* Appends it. The value is the daemon's own: nil, bool, integers, str, arrays, and maps with str
 * keys. Returns the buffer's error, which is -EINVAL for anything else. */
KNIT_MUST_CHECK int knit_json_put(struct knit_buffer *buffer, struct knit_span value);

/* A text in quotes. Its error stays in the buffer. */
void knit_json_put_text(struct knit_buffer *buffer, struct knit_span text);
