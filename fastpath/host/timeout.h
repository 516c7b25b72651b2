/* SPDX-License-Identifier: Apache-2.0 */
/* Killing workers for time: hard timeouts, and tasks whose session has been closed for too long.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* So long after SIGSTOP a worker has been killed or continued. */
#define KNIT_TIMEOUT_HALT_MAX_NS 40000000u

/* Kills workers whose time is up. */
void knit_timeout_enforce(struct knit_host *pool, uint64_t now_ns);

/* The call's time to stop is up: kills the worker that runs it. Does nothing while it is not seen
 * to run, as one that is deferred, whose worker looks after that. */
void knit_timeout_stop(struct knit_host *pool, const struct knit_host_stop *stop, uint64_t now_ns);
