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

void knit_host_times_add(struct knit_host_times *sum, const struct knit_run_times *times)
{
    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++) {
        const uint64_t count = read_count(&times->bucket[i]);

        sum->bucket[i] += count;
        sum->count += count;
    }
    sum->sum_ns += read_count(&times->sum_ns);
}

void knit_host_runs(const struct knit_host *pool, uint32_t row, struct knit_host_runs *ret_runs)
{
    struct knit_host_runs runs = {.outcome = {0}};

    for (uint32_t lane = 0; lane < pool->options.workers; lane++) {
        const struct knit_run_row *of = &pool->shared.run[lane * KNIT_RUN_ROWS + row];

        for (uint32_t i = 0; i < KNIT_RUN_OUTCOMES; i++)
            runs.outcome[i] += read_count(&of->outcome[i]);
        knit_host_times_add(&runs.run, &of->run);
        knit_host_times_add(&runs.wait, &of->wait);
    }
    *ret_runs = runs;
}
