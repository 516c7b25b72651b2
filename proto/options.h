/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a request: how this one call is to be treated. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"
#include "proto/substitute.h"

struct knit_writer;

enum {
    KNIT_OPTIONS_E_BAD = 1, /* an option of the wrong type or range: BAD_ARGUMENT */
};

#define KNIT_OPTION_NONE UINT64_MAX

struct knit_options {
    uint64_t timeout_ns; /* KNIT_OPTION_NONE = none; 0 = has expired already */
    uint64_t queue_ns;   /* how long it may wait before it starts; KNIT_OPTION_NONE = none */
    uint64_t queue_max;  /* calls of its caller that may be in flight; KNIT_OPTION_NONE = any */
    uint64_t affinity;   /* KNIT_OPTION_NONE = none; a str is hashed to a number below that */
    uint64_t epoch;      /* KNIT_OPTION_NONE = not given */
    uint64_t keep;       /* how many later references may use the outcome */
    struct knit_substitute substitute; /* what the caller gets when the timeout is over */
    bool progress;
    bool output;            /* what the task prints comes with the outcome */
    uint8_t priority;       /* 0 urgent to KNIT_PRIORITY_MAX background */
    struct knit_span key;   /* absent, or 1..64 bytes; the same as str and as bin */
    struct knit_span trace; /* absent, or W3C traceparent as it came */
};

/* The defaults: no timeout, nothing requested. (All zero would be an expired call.) */
extern const struct knit_options knit_options_default;

static inline struct knit_options knit_options(void)
{
    return knit_options_default;
}

/* From the map's bytes; an absent span gives the defaults. Unknown keys are ignored, nil counts as
 * not given. ret_reason: static text that names the option, written with E_BAD only.
 * Returns 0, KNIT_OPTIONS_E_BAD. */
KNIT_MUST_CHECK int knit_options_decode(
    struct knit_span map, struct knit_options *ret_options, const char **ret_reason);

/* The timeout out of a map that holds no other option, which most do not, as knit_options_decode()
 * gives it. KNIT_OPTION_NONE: it is another map, or that is what it says. */
KNIT_MUST_CHECK uint64_t knit_options_timeout_alone(struct knit_span map);

/* Whether every option has its default. */
bool knit_options_is_empty(const struct knit_options *options);

/* Append the map, with those that are not default. Returns the buffer's error. */
int knit_options_put(struct knit_buffer *buffer, const struct knit_options *options);

/* A time from the wire, in ms. NaN, negative numbers, and numbers beyond 64 bits of ns are
 * KNIT_OPTION_NONE; fractions of a nanosecond are rounded up. */
uint64_t knit_options_ns(double ms);

/* The reverse: whole milliseconds as an int, others as a float. */
void knit_options_put_time(struct knit_writer *writer, uint64_t ns);
