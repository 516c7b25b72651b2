/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of other lanes that a worker claims (lane_steal.c).
 *
 * Threads: the worker's.
 */
#pragma once

#include "fastpath/lane/lane_private.h"

/* Whether a worker may claim calls of another lane. LATER: there is one that is not READY for long
 * enough yet. */
enum knit_lane_stealable { KNIT_STEAL_NOTHING, KNIT_STEAL_LATER, KNIT_STEAL_NOW };

/* Reads at most `rings` rings of other lanes in which callers have calls, from where the last scan
 * ended. With `take`, a call that may be stolen is claimed and answered, and the next scan begins
 * behind its ring: one that is always full does not delay the others. */
enum knit_lane_stealable knit_lane_scan_others(struct knit_lane *lane, uint32_t rings, bool take);

/* Beside home rings of flows that owe so many rounds: the same for one that owes less. */
bool knit_lane_serve_lesser_debtor(struct knit_lane *lane, uint32_t due);

/* Between the calls of a worker that always has some at home. */
void knit_lane_help_others(struct knit_lane *lane);
