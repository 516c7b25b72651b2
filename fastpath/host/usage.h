/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the sessions' segments at this moment: calls that are queued in lanes, by task, and
 * how much of the reply arenas was ever used. Nobody counts either as calls go by; whoever wants to
 * know looks.
 *
 * Threads: any. Takes the pool's mutex, while it looks at KNIT_QUEUED_CELLS cells at most.
 */
#pragma once

#include <stdint.h>

#include "fastpath/lane/runs.h"

struct knit_host;

struct knit_host_usage {
    uint64_t queued[KNIT_RUN_ROWS]; /* calls, by the row of their task */
    uint64_t reply_bytes;           /* of the reply arenas, that results have ever lain in */
    uint64_t reply_max_bytes;       /* of them */
};

/* What is beyond the cells that are looked at is left out. */
void knit_host_usage(struct knit_host *pool, struct knit_host_usage *ret_usage);
