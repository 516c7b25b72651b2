/* SPDX-License-Identifier: Apache-2.0 */
/* How the tasks were run by all workers of a pool, as fastpath/lane/runs.h counts it.
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include <stdint.h>

#include "fastpath/lane/runs.h"

struct knit_host;

struct knit_host_times {
    uint64_t bucket[KNIT_RUN_BUCKETS]; /* each on its own, not those below it */
    uint64_t count;                    /* of all buckets */
    uint64_t sum_ns;
};

struct knit_host_runs {
    uint64_t outcome[KNIT_RUN_OUTCOMES];
    struct knit_host_times run;
    struct knit_host_times wait; /* in lanes */
};

/* row: an id of the registry below KNIT_RUN_TASKS, or that number for all others. */
void knit_host_runs(const struct knit_host *pool, uint32_t row, struct knit_host_runs *ret_runs);

/* Adds what was counted elsewhere in the same way. */
void knit_host_times_add(struct knit_host_times *sum, const struct knit_run_times *times);
