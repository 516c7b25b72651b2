/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a worker, and what follows from it.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* The worker's process has ended: kills its group and reaps it. False: not yet, because a debugger
 * still traces it. */
bool knit_death_reap(struct knit_worker *worker, bool may_block, uint64_t now_ns);
/* Recovery, and a replacement if there is to be one. After knit_death_reap(), when nothing holds
 * the control socket any more. */
void knit_death_finalize(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Whether workers die faster than they work; reports to the host when that changes. */
void knit_death_update_degraded(struct knit_pool *pool);
bool knit_death_is_degraded(const struct knit_pool *pool);
