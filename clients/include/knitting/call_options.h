/* SPDX-License-Identifier: Apache-2.0 */
/* How one call is to be treated: what every function takes that makes a call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/on_timeout.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Start from KNIT_CALL_OPTIONS_INIT: a zeroed timeout has expired already. */
struct knit_call_options {
    double timeout_ms; /* from now to the outcome, queueing included; 0 = expired already; negative
                          or NaN = none */
    double queue_ms;   /* of that, how long it may wait before it starts, which never ends a call
                          that has started; 0 = not at all: OVERLOADED unless a worker is idle;
                          negative or NaN = no such limit */
    bool output;       /* what the task prints comes with the outcome: see knit_output().
                          BAD_ARGUMENT where workers are threads, which print as the program does */
    bool progress;     /* what the task emits while it runs is given to knit_on_progress() */
    const struct knit_on_timeout *on_timeout; /* what the call ends with when its timeout is over,
                          or its task's; read when the call is made. A value must fit the call's
                          signature. NULL = TIMEOUT, or what the task says */
    uint32_t
        queue_max;     /* OVERLOADED, with `limit` and `retry_after_ms`, where so many calls of this
                          session are in flight; 0 = no such limit. See knit_on_drain() */
    uint32_t priority; /* of those of this session that wait: 0 urgent, 1 normal, 2 background; none
                          of which starves. By shm:// and in a pool of this process each waits at
                          one worker, and comes before those alone that wait there */
    uint64_t affinity; /* calls of one value go to one worker, which alone runs them, as long as it
                          lives; their priority does not count. 0 = to any */
    const char *key; /* of 1 to 64 bytes: made again with it, within a minute after its outcome, by
                          any session of the same principal, the call joins the one that runs or
                          gets its outcome, and nothing runs twice; DUPLICATE if it is another call.
                          A cancel, and the timeout of one that joins, end the wait alone; that of
                          the first ends the call, and is its outcome. By shm:// it takes the
                          connection to the daemon, as a notification does. In a pool of this
                          process BAD_ARGUMENT. NULL = none */
    const char *trace; /* W3C traceparent of the span that makes the call; the task has it by
                          knit_call_trace(). One that is none counts as none. NULL = none */
    uint64_t reserved[2];
};
/* clang-format off */
#define KNIT_CALL_OPTIONS_INIT                                                                     \
    {-1.0, -1.0, false, false, NULL, 0, 1, 0, NULL, NULL, {0}}
/* clang-format on */

#ifdef __cplusplus
}
#endif
