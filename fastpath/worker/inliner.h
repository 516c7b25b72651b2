/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that run where their outcome is waited for, on the thread of a session or of an event loop,
 * as one more place beside the workers.
 *
 * It belongs to one session of its own process and lies in private memory. A lane in shared memory,
 * with the host as its worker, was rejected: whoever may write a session's memory could publish to
 * it, and have code run in a process that nothing confines.
 *
 * Each task's calls go round over the workers and the inliner, which is the first or the last of
 * each round, whatever chooses among the workers. (To have the balancer choose among all was
 * rejected: all that it asks of a lane, whether it has a worker, sleeps, or is busy, has no meaning
 * here, since this thread is never idle when it starts a call.) Below the threshold, calls of the
 * task that are in flight, this one included, all of them go to workers.
 *
 * Calls are run by the same runner as in a worker, so checks, outcomes and errors are the same.
 * What differs: nothing interrupts a task, so a caller whose time is over while it runs learns that
 * when it has returned; a call cannot be deferred, which ends it with BAD_RESULT; and the state of
 * the floating-point unit is put back as the caller had it.
 *
 * Threads: one at a time. While a task runs, which may use the session too, its own call can be
 * removed, and nothing else is run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/worker/inline_tasks.h"
#include "proto/failure.h"
#include "proto/span.h"

enum knit_inliner_at {
    KNIT_INLINER_AT_NONE,
    KNIT_INLINER_AT_FIRST,
    KNIT_INLINER_AT_LAST,
};

/* What all inliners of a pool have in common. */
struct knit_inliner_settings {
    enum knit_inliner_at at;
    uint32_t batch;     /* calls a turn, at least 1 */
    uint32_t threshold; /* calls of the task in flight */
};

/* How a call ended. */
struct knit_inlined {
    uint32_t place;            /* that it had */
    bool is_late;              /* its deadline is over, and whatever it ended with is not here */
    enum knit_started started; /* of one that is late */
    bool is_error;
    struct knit_span outcome; /* until the function returns */
    uint64_t run_ns;          /* of one that is observed; 0 = not measured, or not run */
};

struct knit_inliner_options {
    const struct knit_inline_tasks *tasks; /* borrowed */
    const _Atomic uint8_t *marks;          /* of the pool's tasks (mark.h), by id; borrowed */
    struct knit_inliner_settings settings;
    uint32_t workers; /* 0: all calls are inlined */
    uint32_t places;  /* calls that wait or run */
    uint64_t result_max_bytes;
    /* The call is over, and its place is free. */
    void (*on_end)(void *arg, void *user, const struct knit_inlined *inlined);
    /* A value that the task emits, of those that are so many. */
    void (*on_value)(void *arg, void *user, struct knit_span value, uint32_t count);
    bool (*is_over)(void *arg); /* the pool has ended: nothing is started any more */
    void *arg;
};

struct knit_inliner_call {
    uint32_t task;        /* in the pool */
    uint64_t deadline_ns; /* 0 = none */
    struct knit_span params;
    bool wants_output, wants_progress;
    /* Of which it is a part, or one without ids; then its run is measured. NULL: it is not
     * observed. */
    const struct knit_trace *trace;
    void *user;
};

struct knit_inliner;

/* Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_inliner_new(
    const struct knit_inliner_options *options, struct knit_inliner **ret_inliner);
/* What waits is forgotten. NULL is allowed; returns NULL. */
struct knit_inliner *knit_inliner_free(struct knit_inliner *inliner);

/* Whether calls of that task are inlined at all; only those are counted. */
bool knit_inliner_has(const struct knit_inliner *inliner, uint32_t task);

/* Whether there are no workers. */
bool knit_inliner_is_alone(const struct knit_inliner *inliner);

/* Calls of a task in flight, whatever way they went: begin and end of each. */
void knit_inliner_count(struct knit_inliner *inliner, uint32_t task);
void knit_inliner_uncount(struct knit_inliner *inliner, uint32_t task);
uint32_t knit_inliner_counted(const struct knit_inliner *inliner, uint32_t task);

/* Whether it is the inliner's turn for a call of that task. Asked for each call, and again for one
 * that has found no room with the workers. */
bool knit_inliner_takes(struct knit_inliner *inliner, uint32_t task);

/* The call waits for a turn; params are copied. Returns 0, -ENOMEM, or -ENOSPC. */
KNIT_MUST_CHECK int knit_inliner_add(
    struct knit_inliner *inliner, const struct knit_inliner_call *call, uint32_t *ret_place);

/* Its outcome is wanted no more, and on_end() is not called. Whether its task had started. */
enum knit_started knit_inliner_remove(struct knit_inliner *inliner, uint32_t place);

/* The same of one whose task has not started. False: it has, and goes on. */
KNIT_MUST_CHECK bool knit_inliner_withdraw(struct knit_inliner *inliner, uint32_t place);

/* It is not started any more, and ends with CANCELLED in its turn. */
void knit_inliner_cancel(struct knit_inliner *inliner, uint32_t place);

/* Calls that have not ended. */
uint32_t knit_inliner_in_flight(const struct knit_inliner *inliner);

/* Whether a turn has something to run. */
bool knit_inliner_has_work(const struct knit_inliner *inliner);

/* Runs calls, those that came first and at most a batch; returns how many. */
uint32_t knit_inliner_turn(struct knit_inliner *inliner);

/* A task did not return from a turn: an exception, or the end of the thread, leaves it. Returns its
 * call's `user`, whose place is free; NULL: none runs. */
void *knit_inliner_abandon(struct knit_inliner *inliner);
