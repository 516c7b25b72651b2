/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker is whatever runs it: its lane, the runner of its calls, and the loop over both.
 *
 * Nothing here, in the runner or in the lane belongs to a process: what differs from one worker to
 * the next lies in these structures, and what a thread has of its own, the state of the
 * floating-point unit, is put back by the runner. So a process has one (worker.c), or as many as it
 * has threads for (thread.c). Standard output, locale, folder, signals and timers are the
 * process's; worker.c alone, whose process has no other worker, gives the runner functions that put
 * them back.
 *
 * Threads: knit_serve_run() on the worker's; init before, fini after it; the lane is for a second
 * thread as lane.h says.
 */
#pragma once

#include <knitting/code.h>

#include "fastpath/lane/lane.h"
#include "fastpath/worker/runner.h"

struct knit_serve {
    struct knit_runner *runner;
    struct knit_lane *lane;
};

/* Of the lane's options, those that the runner is, are set here. Returns 0 or -ENOMEM;
 * knit_serve_fini() is needed in both cases. */
KNIT_MUST_CHECK int knit_serve_init(struct knit_serve *serve,
    const struct knit_runner_options *runner, const struct knit_lane_options *lane);
void knit_serve_fini(struct knit_serve *serve);

/* Takes turns until the lane is stopped. on_thread_end(arg): a task ends the thread instead, and it
 * does not return. */
void knit_serve_run(struct knit_serve *serve, void (*on_thread_end)(void *arg), void *arg);
