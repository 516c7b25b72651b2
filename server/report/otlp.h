/* SPDX-License-Identifier: Apache-2.0 */
/* A call as a span of OpenTelemetry, in the JSON of OTLP/HTTP, well-formed whatever the names of
 * tasks and the texts of errors hold.
 *
 * Threads: pure functions.
 */
#pragma once

#include <stdint.h>

#include "proto/buffer.h"
#include "server/report/ended_call.h"

/* Of any call: five texts of 256 bytes, of which each may take six, and what stands around them. */
enum { KNIT_OTLP_SPAN_MAX = 10240 };

/* Appends the span of a call that has a trace and has ended at that time of CLOCK_REALTIME, and a
 * comma. Its error stays in the buffer. */
void knit_otlp_put_call(
    struct knit_buffer *buffer, const struct knit_ended_call *call, uint64_t ended_ns);

/* Whose spans they are. */
struct knit_otlp_origin {
    const char *service, *instance, *version;
};

/* What stands before the spans of a request, and behind them, whose last comma is left out. */
void knit_otlp_put_head(struct knit_buffer *buffer, const struct knit_otlp_origin *origin);
extern const char knit_otlp_tail[];
