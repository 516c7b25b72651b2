/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon knows about itself, as a value: collected once, then written in the form that is
 * asked for. Other threads count on meanwhile, so two numbers may disagree by what happened in
 * between.
 *
 * Threads: any. knit_stats_collect() takes the pool's mutex for some moments.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <knitting/code.h>

#include "fastpath/host/describe.h"
#include "proto/buffer.h"
#include "server/base/counters.h"

struct knit_log;

#define KNIT_STATS_LOOPS_MAX 64 /* [server] threads_io */

/* Where the numbers come from. Constant once all loops run. */
struct knit_stats_sources {
    const struct knit_counters *counters[KNIT_STATS_LOOPS_MAX]; /* [loops] */
    const struct knit_run_times *waits[KNIT_STATS_LOOPS_MAX];   /* [loops][KNIT_RUN_ROWS] */
    uint32_t loops;
    const struct knit_face_counters *face;
    const struct knit_counters *reporting[2]; /* of threads that are no loops; NULL = none */
    struct knit_host *pool;
    const struct knit_log *log;
    uint64_t started_ns; /* CLOCK_MONOTONIC */
};

struct knit_stats {
    const char *version;
    pid_t pid;
    uint64_t uptime_ms;
    uint64_t connections;               /* open now */
    uint64_t log_dropped, log_left_out; /* lines */
    uint64_t face_requests, face_pauses, face_busy_ns;
    uint32_t loops;
    struct knit_counter_values counters; /* of all loops, summed */
    struct knit_host_snapshot host;
};

void knit_stats_collect(const struct knit_stats_sources *sources, struct knit_stats *ret_stats);

/* Appends the map of `$/stats`. Returns 0, KNIT_WRITER_E_*, -ENOMEM. */
KNIT_MUST_CHECK int knit_stats_put(struct knit_buffer *buffer, const struct knit_stats *stats);
