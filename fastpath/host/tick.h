/* SPDX-License-Identifier: Apache-2.0 */
/* What the host does by the clock.
 *
 * Threads: under the pool's mutex; knit_tick() on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* Does what has come due. */
void knit_tick(struct knit_host *pool, uint64_t now_ns);
/* Sets the timer to when the next tick is needed. */
void knit_tick_arm(struct knit_host *pool);
