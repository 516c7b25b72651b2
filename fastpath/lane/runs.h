/* SPDX-License-Identifier: Apache-2.0 */
/* How often the tasks were run, how long that took, how it ended, and how long calls waited in the
 * lane before: a row for each of the first tasks and one for all others, for each lane, in the pool
 * segment. The lane's worker writes them and those after it go on; the host adds up the lanes.
 * Loops of the daemon count in the same way how long calls waited before they came to a lane.
 *
 * A worker looks at the clock for long tasks and for about one in 16 calls of short ones, which
 * stands for those since the last one that was (lane_call.c), its own or another short task's. So
 * the sum of all rows is right to within 31 calls a worker, the share of each task is an estimate,
 * and a call that is not looked at pays nothing. Of waits about one in 64 is known, since the
 * caller has to look at the clock for it as well (words.h, KNIT_CELL_STAMPED); each stands for 64.
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

#define KNIT_RUN_WAIT_MAX_NS (3600u * UINT64_C(1000000000))

enum knit_run_outcome {
    KNIT_RUN_RESULT,
    KNIT_RUN_ERROR,
    KNIT_RUN_DEFERRED, /* its outcome comes later */
    KNIT_RUN_REFUSED,  /* by the worker: it was not run */
    KNIT_RUN_OUTCOMES,
};

/* Calls by how long something took. */
struct knit_run_times {
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t bucket[KNIT_RUN_BUCKETS];
};

struct knit_run_row {
    _Alignas(KNIT_LINE) _Atomic uint64_t outcome[KNIT_RUN_OUTCOMES]; /* calls */
    _Alignas(KNIT_LINE) struct knit_run_times run;
    struct knit_run_times wait;
};

static_assert(sizeof(struct knit_run_row) == 5 * KNIT_LINE, "lines");

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

static inline uint32_t knit_runs_bucket(uint64_t ns)
{
    uint32_t bucket;

    if (ns <= KNIT_RUN_LEAST_NS)
        return 0;
    bucket = 1 + (63 - (uint32_t)__builtin_clzll((ns - 1) / KNIT_RUN_LEAST_NS)) / 2;
    return bucket < KNIT_RUN_BUCKETS - 1 ? bucket : KNIT_RUN_BUCKETS - 1;
}

/* By the writer: of `weight` calls each took so long. */
static inline void knit_run_times_note(
    struct knit_run_times *times, uint64_t took_ns, uint32_t weight)
{
    knit_board_count(&times->bucket[knit_runs_bucket(took_ns)], weight);
    knit_board_count(&times->sum_ns, took_ns * weight);
}

/* By the worker: `weight` calls have ended so, and this one took so long; those that were not run
 * have taken nothing. */
static inline void knit_runs_note(
    struct knit_run_row *row, enum knit_run_outcome outcome, uint64_t took_ns, uint32_t weight)
{
    knit_board_count(&row->outcome[outcome], weight);
    if (outcome != KNIT_RUN_REFUSED)
        knit_run_times_note(&row->run, took_ns, weight);
}

/* The same: a call that was published at since_ns, as its caller says, is taken now and stands for
 * `weight`. Callers may say anything; what no call waits for is taken for the longest wait. */
static inline void knit_runs_note_wait(
    struct knit_run_row *row, uint64_t since_ns, uint64_t now_ns, uint32_t weight)
{
    const uint64_t waited_ns = since_ns < now_ns ? now_ns - since_ns : 0;

    knit_run_times_note(
        &row->wait, waited_ns < KNIT_RUN_WAIT_MAX_NS ? waited_ns : KNIT_RUN_WAIT_MAX_NS, weight);
}
