/* SPDX-License-Identifier: Apache-2.0 */
/* One call inside a worker: from a claimed job's bytes to its outcome's bytes.
 *
 * A runner belongs to one worker and runs one call at a time, with buffers it keeps; a small call
 * allocates nothing. A result goes where it is read from: up to KNIT_INLINE_MAX bytes into the job
 * itself, larger ones straight into the slot's slab or, where there is room, into the lane's
 * reply arena.
 *
 * Outcomes that arise here: STALE_EPOCH and UNKNOWN_TASK (not in this worker's registry),
 * QUARANTINED, BAD_ARGUMENT and TOO_DEEP (params against the signature), the task's result or
 * TASK_FAILED, RESULT_TOO_LARGE, BAD_RESULT (incomplete, malformed, not what the signature says, or
 * a number returned without an outcome), and the errors of calls that the lane refuses to start.
 *
 * Threads: the worker's main thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <knitting/code.h>

#include "fastpath/lane/lane.h"
#include "fastpath/worker/module.h"
#include "proto/span.h"

struct knit_call_inlined;
struct knit_runner;

/* How what a task prints is kept for its caller. */
struct knit_runner_capture {
    void (*begin)(void);
    /* Valid until the next begin. */
    struct knit_span (*end)(bool *ret_is_cut);
};

struct knit_runner_options {
    const struct knit_modules *modules;
    uint64_t result_max_bytes;
    uint32_t hard_timeout_ms; /* of tasks that name none; 0 = none */
    struct knit_busy_line
        *busy;                  /* the lane's, for what the host must know of a call; NULL = none */
    struct knit_pool_view pool; /* its marks are read; all zero = there are none */
    /* Not 0 after a task: it has changed the process, undo_leftovers() is called. NULL = never. */
    const _Atomic uint32_t *leftovers;
    void (*undo_leftovers)(void);
    const struct knit_runner_capture *capture; /* NULL = nothing is kept */
    uint32_t deferred_max;   /* calls that are deferred at once; 0 = none may be */
    uint32_t abort_grace_ms; /* of those; 0 = no limit */
    FILE *output;            /* a line in it that has no end gets one after the task; NULL = none */
    const struct knit_call_inlined *inlined; /* there is no lane (inliner.h); else NULL */
};

/* Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_runner_new(
    const struct knit_runner_options *options, struct knit_runner **ret_runner);
struct knit_runner *knit_runner_free(struct knit_runner *runner);

/* The low byte of the epoch that jobs must have. */
uint32_t knit_runner_epoch(const struct knit_runner *runner);

/* Whose jobs are run; NULL (as at first): results never go into an arena, nothing is aborted. */
void knit_runner_set_lane(struct knit_runner *runner, struct knit_lane *lane);

/* What the lane's options on_deferred and is_over are with a runner; deferred.h has on_finished. */
void knit_runner_let_go(void *arg);
bool knit_runner_is_over(void *arg);

/* The lane uses the session no more, and its memory goes. */
void knit_runner_close_session(struct knit_runner *runner, uint64_t session);

/* Where deferred calls are counted that are completed in vain; NULL (as at first): nowhere. */
void knit_runner_count_late(struct knit_runner *runner, _Atomic uint64_t *late);

/* No call is deferred any more, and none has its outcome handed to the lane: before the lane is
 * freed. */
void knit_runner_end_deferred(struct knit_runner *runner);

/* A knit_lane_run; arg is the runner. */
void knit_runner_run(void *arg, struct knit_job *job);

/* A knit_lane_serve_run of a lane whose run_arg is a runner: the loop over a ring and what runs its
 * calls, in one function. */
uint32_t knit_runner_serve(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most);
