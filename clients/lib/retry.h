/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are made again (<knitting/retry.h>).
 *
 * A call that may be keeps what it was sent with. When it ends in an error that is worth another
 * attempt it does not end: it waits as a promised call does (promise.h), without holes and until
 * its time has come, and is started as those are. So cancelling, timeouts and waiting for room are
 * theirs, and nothing here sends anything.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/retry.h>

#include "proto/limits.h"
#include "proto/options.h"
#include "proto/span.h"

struct knit_handle;

/* Of a session. All zero: nothing is made again. */
struct knit_retries {
    uint32_t attempts; /* of a call; 0: it is off */
    uint64_t wait_ns, wait_max_ns;
    uint32_t gain;   /* of the budget by each call, in thousandths of an attempt */
    uint32_t budget; /* the same */
    uint64_t random;
    uint64_t bytes; /* of arguments that are kept */
};

/* Of a call: what it is sent with. */
struct knit_retry {
    uint32_t attempts; /* that were made */
    bool is_idempotent;
    bool may_have_started; /* by an attempt before the last */
    uint64_t instance;     /* of the server that knows its key, if no other may have it; or 0, */
    uint64_t return_by_ns; /* and until when a connection to it is waited for; 0 = not yet */
    uint64_t start_by_ns;  /* UINT64_MAX = none */
    struct knit_options options;
    uint8_t key[KNIT_KEY_BYTES_MAX];
    size_t len;
    uint8_t params[];
};

void knit_retries_init(struct knit_retries *retries, const struct knit_retry_options *options);

/* The handle's call is about to be started for the first time. Without memory it is made once. */
void knit_retry_keep(struct knit_handle *handle, struct knit_span params,
    const struct knit_options *options, uint64_t start_by_ns, bool is_idempotent);

/* The handle is RETRIED, and has an outcome. True: it waits again, to be started later. */
bool knit_retry_again(struct knit_handle *handle);

/* There is no connection to the server that knows its key. True: there may be one again, and the
 * call waits for that, for as long as its promise says. */
bool knit_retry_waits_for_instance(struct knit_handle *handle);

/* Of a handle that is RETRIED, and goes. */
void knit_retry_forget(struct knit_handle *handle);
