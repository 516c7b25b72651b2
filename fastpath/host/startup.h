/* SPDX-License-Identifier: Apache-2.0 */
/* The messages by which a worker starts: hello, confined, its tasks, ready.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/control/control.h"
#include "fastpath/host/host.h"

/* The pool has its registry: takes the limits of tasks from it. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_startup_note_tasks(struct knit_host *pool);

/* Handles a message of a worker that starts. False: it does not belong to the worker's step. */
KNIT_MUST_CHECK bool knit_startup_handle(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message);
