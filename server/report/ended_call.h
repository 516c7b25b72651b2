/* SPDX-License-Identifier: Apache-2.0 */
/* A call that has its outcome, or will have none: all that is reported of it.
 *
 * Threads: the loop's that it came to. What it points to is good until the function returns that it
 * is given to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"
#include "proto/trace.h"

/* Where it ran. */
enum knit_ran_by {
    KNIT_RAN_NOWHERE, /* it did not start */
    KNIT_RAN_BY_WORKER,
    KNIT_RAN_BY_INLINER,
    KNIT_RAN_BY_KEY, /* its outcome is that of another call, which has the same idempotency key */
};

struct knit_ended_call {
    const char *principal, *peer;
    struct knit_span task; /* as it was named; any bytes, if there is no such task */
    bool is_notification;
    bool is_gone;            /* its caller has gone before the outcome; there is no code */
    uint32_t code;           /* 0 = a result */
    struct knit_span reason; /* an error's message; any bytes */
    enum knit_ran_by ran_by;
    uint64_t took_ns; /* from when it was read until now */
    bool knows_run;
    uint64_t run_ns;
    uint64_t argument_bytes, result_bytes;
    const struct knit_trace *trace; /* with its own span; NULL: it is part of none */
    const uint8_t *parent;          /* then: the caller's span, 8 bytes */
};

/* "ok", the name of its code, or "caller_gone". */
const char *knit_ended_call_outcome(const struct knit_ended_call *call);

/* "worker", "inliner", "key", "none". */
const char *knit_ended_call_ran_by(const struct knit_ended_call *call);
