/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of lanes are added up as they are at this moment, each number by itself. The count is that
 * of the buckets as they were read, so that it fits them. */
#include "fastpath/host/runs.h"

#include "fastpath/host/host.h"

static uint64_t read_count(const _Atomic uint64_t *count)
{
    /* relaxed: a count. */
    return atomic_load_explicit(count, memory_order_relaxed);
}

void knit_host_runs(const struct knit_host *pool, uint32_t row, struct knit_host_runs *ret_runs)
{
    struct knit_host_runs runs = {.count = 0};

    for (uint32_t lane = 0; lane < pool->options.workers; lane++) {
        const struct knit_run_row *of = &pool->shared.run[lane * KNIT_RUN_ROWS + row];

        for (uint32_t i = 0; i < KNIT_RUN_OUTCOMES; i++)
            runs.outcome[i] += read_count(&of->outcome[i]);
        for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
            runs.bucket[i] += read_count(&of->bucket[i]);
        runs.sum_ns += read_count(&of->sum_ns);
    }
    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
        runs.count += runs.bucket[i];
    *ret_runs = runs;
}
