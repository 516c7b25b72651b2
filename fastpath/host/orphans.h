/* SPDX-License-Identifier: Apache-2.0 */
/* What workers started and left behind.
 *
 * Threads: under the pool's mutex, on the dispatching thread. Reads /proc, which takes milliseconds
 * where there are many processes.
 */
#pragma once

#include "fastpath/host/host.h"

/* Kills all children of this process but the workers, and reaps those that have ended. Returns how
 * many were alive; 0 at once unless options.kill_orphans. */
uint32_t knit_orphans_kill(struct knit_pool *pool);
