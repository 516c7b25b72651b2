/* SPDX-License-Identifier: Apache-2.0 */
/* How often the tasks were run, how long that took and how it ended: a row for each of the first
 * tasks and one for all others, for each lane, in the pool segment. The lane's worker writes them
 * and those after it go on; the host adds up the lanes.
 *
 * A worker looks at the clock for long tasks and for about one in 16 calls of short ones, which
 * stands for those since the last one that was (lane_call.c), its own or another short task's. So
 * the sum of all rows is right to within 31 calls a worker, the share of each task is an estimate,
 * and a call that is not looked at pays nothing.
 *
 * Only the owner of a row writes it: a load and a store, relaxed, as they order nothing. Tasks can
 * write it, so what is read may be any number.
 */
#pragma once

#include "fastpath/lane/board.h"
#include "fastpath/lane/layout.h"

#define KNIT_RUN_TASKS    200u /* that have rows of their own, by their ids */
#define KNIT_RUN_ROWS     (KNIT_RUN_TASKS + 1)
#define KNIT_RUN_LEAST_NS 1000u /* the end of the first bucket; each further one is four times it */
#define KNIT_RUN_BUCKETS  15u

enum knit_run_outcome {
    KNIT_RUN_RESULT,
    KNIT_RUN_ERROR,
    KNIT_RUN_DEFERRED, /* its outcome comes later */
    KNIT_RUN_REFUSED,  /* by the worker: it was not run */
    KNIT_RUN_OUTCOMES,
};

struct knit_run_row {
    _Alignas(KNIT_LINE) _Atomic uint64_t outcome[KNIT_RUN_OUTCOMES]; /* calls */
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t bucket[KNIT_RUN_BUCKETS]; /* calls by how long they took */
};

static_assert(sizeof(struct knit_run_row) == 3 * KNIT_LINE, "lines");

/* The row of a task. */
static inline uint32_t knit_runs_row(uint32_t task)
{
    return task < KNIT_RUN_TASKS ? task : KNIT_RUN_TASKS;
}

/* The upper end of a bucket, which counts to it; of the last one it is no limit. */
static inline uint64_t knit_runs_limit_ns(uint32_t bucket)
{
    return (uint64_t)KNIT_RUN_LEAST_NS << 2 * bucket;
}

/* By the worker: `weight` calls have ended so, and this one took so long; those that were not run
 * have taken nothing. */
static inline void knit_runs_note(
    struct knit_run_row *row, enum knit_run_outcome outcome, uint64_t took_ns, uint32_t weight)
{
    uint32_t bucket = 0;

    knit_board_count(&row->outcome[outcome], weight);
    if (outcome == KNIT_RUN_REFUSED)
        return;
    while (bucket < KNIT_RUN_BUCKETS - 1 && took_ns > knit_runs_limit_ns(bucket))
        bucket++;
    knit_board_count(&row->bucket[bucket], weight);
    knit_board_count(&row->sum_ns, took_ns * weight);
}
