/* SPDX-License-Identifier: Apache-2.0 */
/* Which lane a call goes to, as its caller chooses. Lanes without a worker are passed over while
 * others have one.
 *
 * Every caller balances for itself, with what it can see: its own calls on each lane, and on the
 * board whether a lane's worker lives and runs something. No word is shared for it, so a choice
 * costs a load or two; what it gets wrong, stealing puts right.
 *
 * Threads: as the session it belongs to. Nothing allocates after init.
 */
#pragma once

#include "fastpath/layout.h"
#include "fastpath/session.h"

struct knit_balance {
    enum knit_balancer kind;
    uint32_t lanes;
    uint8_t *cursor; /* [65536]: the lane that task's next call goes to */
    uint64_t random;
    struct knit_line32 *park;
    struct knit_busy_line *busy;
};

/* 0 or -ENOMEM. */
int knit_balance_init(struct knit_balance *balance, enum knit_balancer kind, uint32_t lanes,
    const struct knit_board_view *board, uint64_t seed);
void knit_balance_fini(struct knit_balance *balance);

/* queued: [lanes], this caller's calls on each. */
uint32_t knit_balance_pick(struct knit_balance *balance, uint32_t task, const uint32_t *queued);
