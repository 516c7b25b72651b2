/* SPDX-License-Identifier: Apache-2.0 */
/* What workers started and left behind.
 *
 * Threads: under the pool's mutex, on the dispatching thread. Reads /proc, which takes milliseconds
 * where there are many processes.
 */
#pragma once

#include "fastpath/host/host.h"

/* How long after a worker's end they are looked for. */
#define KNIT_ORPHANS_MAX_NS 1000000000u

/* Kills all children of this process but the workers and what the living ones have left behind, and
 * reaps those that have ended. Returns how many it found; 0 at once unless options.kill_orphans. */
uint32_t knit_orphans_kill(struct knit_host *pool);
