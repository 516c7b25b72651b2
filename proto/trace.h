/* SPDX-License-Identifier: Apache-2.0 */
/* The W3C's trace context: of which trace a call is a part, and of which span of it. As text, the
 * value of `traceparent`:
 *
 *     00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *        trace                            span             1: sampled
 *
 * A text that is none is no error: as the recommendation says, its receiver goes on as if there
 * were none.
 *
 * Threads: pure functions. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"

#define KNIT_TRACE_BYTES   55u /* of the text */
#define KNIT_TRACE_SAMPLED 1u

struct knit_trace {
    uint8_t id[16]; /* not all zeros, as the next */
    uint8_t span[8];
    uint8_t flags; /* KNIT_TRACE_SAMPLED; others mean nothing */
};

/* Both of its ids are ids. */
bool knit_trace_is_valid(const struct knit_trace *trace);

/* Of version 00; of a later one, what 00 has of it. False: it is none. */
KNIT_MUST_CHECK bool knit_trace_parse(struct knit_span text, struct knit_trace *ret_trace);

/* As version 00 has it; ends with a NUL. */
void knit_trace_format(const struct knit_trace *trace, char ret_text[KNIT_TRACE_BYTES + 1]);

/* Both ids, for lines of a log; "" = there are none. */
struct knit_trace_texts {
    char id[33], span[17];
};

/* Of one that is not valid, none. */
void knit_trace_write(const struct knit_trace *trace, struct knit_trace_texts *ret_texts);

/* Lower-case digits of so many bytes; no NUL. */
void knit_trace_put_hex(char *to, const uint8_t *bytes, size_t len);
