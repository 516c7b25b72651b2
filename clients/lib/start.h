/* SPDX-License-Identifier: Apache-2.0 */
/* How a call begins that is not the usual one: with options or timeouts, over a stream, or where
 * there is no room at once.
 */
#pragma once

#include "clients/lib/client.h"

/* What the caller gave, and what knit_begin_call() adds. */
struct knit_start {
    const struct knit_call_options *options; /* NULL = none */
    struct knit_prepared *prepared;
    struct knit_span params;
    struct knit_promise *promise; /* what they are made of; NULL unless some are handles */
    bool is_by_lanes;
    bool is_asked; /* no list has the task: by the stream all the same, and the daemon says why */
    uint64_t timeout_ns;                      /* KNIT_OPTION_NONE = none, also of the next */
    uint64_t queue_ns;                        /* 0: it is started at once or not at all */
    const struct knit_substitute *substitute; /* for the end of its timeout; NULL = TIMEOUT */
};

/* The handle of a call that is started, waits for its arguments, or is ended already. It takes over
 * start->promise or frees it. Returns KNIT_OK, KNIT_WOULD_BLOCK, or the
 * code of the error with which it is refused. */
KNIT_MUST_CHECK int knit_begin_call(struct knit *k, struct knit_start *start,
    struct knit_handle **ret, struct knit_error *ret_error);

/* A notification: nothing is left of it here. The same codes. */
KNIT_MUST_CHECK int knit_begin_notification(
    struct knit *k, const struct knit_start *start, struct knit_error *ret_error);
