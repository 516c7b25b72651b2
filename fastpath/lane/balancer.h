/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of a call's lane, by its caller. Lanes without a worker are passed over while others
 * have one.
 *
 * Each caller balances alone, by what it can see: its own calls on each lane, and on the board
 * whether a lane's worker lives and runs a call. Callers share no word for it, so a choice costs
 * one or two loads; stealing corrects a bad one.
 *
 * Where workers steal, round robin stays with the lane that answered last while its worker is
 * awake: always with one call at a time, and on two cores also with more in flight, because the
 * caller leaves one core to the workers. Going round would wake a sleeping worker for each call,
 * and on busy cores wait for one that is not scheduled: 0.5 us become 5, and batches are 12 times
 * slower. With more cores a batch of short calls goes to one lane until that holds 20 us of them,
 * then to the next one: 1 + queued * mean / 20 us lanes, because another worker takes longer to
 * wake than it would save. No call is stuck behind a long one: a worker that starts a long call
 * notifies a sibling, which steals.
 *
 * Threads: as the session it belongs to. Nothing allocates after init.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/board.h"

enum knit_balancer {
    /* An index for each task. With stealing, see above. */
    KNIT_BALANCER_ROUND_ROBIN,
    KNIT_BALANCER_FIRST_IDLE, /* the first lane with nothing queued or running, else round robin */
    KNIT_BALANCER_RANDOM,
    KNIT_BALANCER_FIRST_IDLE_OR_RANDOM,
    /* The lane with the fewest calls of this caller; of lanes without any, one that runs no other
     * call; of several, each task's in turn. */
    KNIT_BALANCER_LEAST_LOADED,
};

/* KNIT_BALANCER_NAMES. False: unknown. */
#define KNIT_BALANCER_NAMES                                                                        \
    "roundRobin (or robinRound), firstIdle, randomLane, firstIdleOrRandom or leastLoaded"
KNIT_MUST_CHECK bool knit_balancer_parse(const char *name, enum knit_balancer *ret);
const char *knit_balancer_name(enum knit_balancer balancer);

struct knit_balance {
    enum knit_balancer kind;
    uint32_t lanes;
    uint32_t warm;     /* the lane that answered last; the session keeps it, below `lanes` */
    uint32_t warm_max; /* calls that this lane may have so; 0 = it is not preferred */
    uint32_t filled;   /* the lane that got the last call which did not go to that one */
    uint8_t *next;     /* [KNIT_TASKS]: the lane of each task's next call */
    uint64_t random;
    struct knit_board_view board;
};

/* steal: the pool's workers steal. board: copied; its mapping is borrowed. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_balance_init(struct knit_balance *balance, enum knit_balancer kind,
    bool steal, uint32_t lanes, const struct knit_board_view *board, uint64_t seed);
void knit_balance_fini(struct knit_balance *balance);

/* The lane for all calls of that key: of those that have a worker, and of all where none has. When
 * one comes or goes, only the keys that it takes or had go to another lane. */
uint32_t knit_balance_place(const struct knit_board_view *board, uint32_t lanes, uint64_t key);

/* queued: [lanes], this caller's calls on each. Whether a call goes to the lane that answered last,
 * or to the only one. */
static inline bool knit_balance_is_warm(const struct knit_balance *balance, const uint32_t *queued)
{
    return balance->lanes == 1 ||
           (queued[balance->warm] < balance->warm_max &&
               knit_board_park_state(&balance->board, balance->warm) == KNIT_PARK_AWAKE);
}

/* The balancer's own choice, of several lanes. */
uint32_t knit_balance_pick_other(
    struct knit_balance *balance, uint32_t task, const uint32_t *queued);

static inline uint32_t knit_balance_pick(
    struct knit_balance *balance, uint32_t task, const uint32_t *queued)
{
    return knit_balance_is_warm(balance, queued) ? balance->warm
                                                 : knit_balance_pick_other(balance, task, queued);
}
