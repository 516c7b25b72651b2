/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a worker, and what follows from it.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* Kills the group of a worker whose process has ended, and reaps it. False: a debugger still traces
 * it, so it cannot be reaped yet. */
bool knit_death_reap(struct knit_worker *worker, bool may_block, uint64_t now_ns);
/* Ends the worker's calls, reports its death, and schedules its replacement. After
 * knit_death_reap(), when no process holds its end of the pipe to the host. */
void knit_death_finalize(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);
/* Reports to the host when the answer of knit_death_is_degraded() changes. */
void knit_death_update_degraded(struct knit_host *pool);
/* Whether workers of a lane die before they finish a call, again and again. */
bool knit_death_is_degraded(const struct knit_host *pool);
