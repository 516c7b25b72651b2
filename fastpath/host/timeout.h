/* SPDX-License-Identifier: Apache-2.0 */
/* Killing workers for time: hard timeouts, and tasks whose session has been closed for too long.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* A worker that was stopped to be examined is killed or continues after so long. */
#define KNIT_TIMEOUT_HALT_MAX_NS 40000000u

void knit_timeout_enforce(struct knit_pool *pool, uint64_t now_ns);
