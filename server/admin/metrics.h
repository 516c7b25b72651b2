/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon has counted, in the text format of Prometheus (version 0.0.4).
 *
 * Names and labels are a promise to those who made dashboards of them. Each label has a bounded
 * number of values: lanes, files of the settings, tasks (the first 200, which keep their name as
 * long as the daemon runs; all others are `other`), or words that stand here.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/runs.h"
#include "proto/buffer.h"
#include "server/admin/stats.h"

#define KNIT_METRICS_EXPIRIES_MAX 72u

enum knit_metrics_transport {
    KNIT_METRICS_TCP,
    KNIT_METRICS_UNIX,
    KNIT_METRICS_TLS,
    KNIT_METRICS_TRANSPORTS,
};

/* When something in a file of the settings is not valid any more. */
struct knit_metrics_expiry {
    const char *file;
    int64_t at_s; /* since 1970 */
};

/* What the main thread alone knows. */
struct knit_metrics_main {
    uint64_t accepted[KNIT_METRICS_TRANSPORTS]; /* connections */
    uint64_t turned_away;
    uint64_t connections_max;
    uint64_t slots;          /* of all loops: as many calls of sockets are in the lanes at most */
    uint64_t argument_bytes; /* of all loops' request arenas */
    struct knit_host_times waits[KNIT_RUN_ROWS]; /* of calls in connections */
    struct knit_metrics_expiry expiries[KNIT_METRICS_EXPIRIES_MAX];
    size_t expiries_count;
};

/* pool: of which tasks, programs and arenas are told; NULL: of none. Returns the buffer's error. */
KNIT_MUST_CHECK int knit_metrics_put(struct knit_buffer *buffer, const struct knit_stats *stats,
    const struct knit_metrics_main *more, struct knit_host *pool);
