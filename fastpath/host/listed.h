/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of a pool, and those of their calls that wait for a worker.
 *
 * Threads: any. Takes the pool's mutex for some moments.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/lane/queued.h"

struct knit_host;

struct knit_host_queued {
    uint64_t session;
    struct knit_queued call;
    uid_t uid; /* of its caller */
};

/* Those of sessions that came by shared memory, in the first KNIT_QUEUED_CELLS cells of them all.
 * Returns how many; `ret_more`: that had no room. */
uint32_t knit_host_queued(
    struct knit_host *pool, struct knit_host_queued *ret_calls, uint32_t max, uint64_t *ret_more);

struct knit_host_session_row {
    uint64_t id;
    bool is_foreign; /* another process is its caller: */
    uid_t uid;
    pid_t pid;
    const char *state;        /* static: "open", "draining", "closed", "evicted" */
    uint32_t slots;           /* most calls in flight */
    uint32_t queued, running; /* calls; what a worker has claimed and not answered runs */
    uint64_t memory_bytes;
};

/* Returns how many. */
uint32_t knit_host_sessions(
    struct knit_host *pool, struct knit_host_session_row *ret_rows, uint32_t max);
