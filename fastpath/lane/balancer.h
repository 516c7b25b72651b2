/* SPDX-License-Identifier: Apache-2.0 */
/* Which lane a call goes to, as its caller chooses. Lanes without a worker are passed over while
 * others have one.
 *
 * Every caller balances for itself, with what it can see: its own calls on each lane, and on the
 * board whether a lane's worker lives and runs something. No word is shared for it, so a choice
 * costs a load or two; what it gets wrong, stealing puts right.
 *
 * Where workers steal, round robin stays with the lane that answered last while its worker is
 * awake: with one call at a time always, with more in flight on two cores, of which the caller
 * leaves one to the workers. Going round would wake a sleeping worker for each call, and on taken
 * cores wait for one that is not running: 0.5 us become 5, and batches are 12 times slower. Nothing
 * is stuck behind a long call: a worker that starts one calls for help, and is stolen from.
 *
 * Threads: as the session it belongs to. Nothing allocates after init.
 */
#pragma once

#include "fastpath/lane/layout.h"
#include "fastpath/lane/session.h"

struct knit_balance {
    enum knit_balancer kind;
    uint32_t lanes;
    uint32_t warm;     /* the lane that answered last; the session keeps it */
    uint32_t warm_max; /* calls that this lane may have so; 0 = it is not preferred */
    uint8_t *cursor;   /* [65536]: the lane that task's next call goes to */
    uint64_t random;
    struct knit_line32 *park;
    struct knit_busy_line *busy;
};

/* steal: workers do. 0 or -ENOMEM. */
int knit_balance_init(struct knit_balance *balance, enum knit_balancer kind, bool steal,
    uint32_t lanes, const struct knit_board_view *board, uint64_t seed);
void knit_balance_fini(struct knit_balance *balance);

/* queued: [lanes], this caller's calls on each. */
uint32_t knit_balance_pick(struct knit_balance *balance, uint32_t task, const uint32_t *queued);
