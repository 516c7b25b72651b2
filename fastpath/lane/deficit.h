/* SPDX-License-Identifier: Apache-2.0 */
/* A session's part of a worker's time: deficit round robin, counted in nanoseconds.
 *
 * A round gives each session KNIT_ROUND_NS. What its calls take is charged; it is served while it
 * has credit, and the next round begins when all that have calls are in debt. So sessions share the
 * time of a worker, not its calls: whoever calls for long is served as often as pays for it.
 *
 * Rounds are a number that the lane counts. A session takes what they gave when it is looked at
 * next, so a round costs nothing for those that have no calls, and many rounds are one addition.
 * Debt ends at KNIT_DEBT_MAX_NS, and all of it is forgotten when the lane is empty, for then nobody
 * waited for what others took. Credit ends at KNIT_CREDIT_MAX_NS. More than one round's credit has
 * only who needed less than what rounds gave: it is fresh, and goes before those that take turns.
 * The rounds that pay for a long call give as much credit as they pay of debt: a quiet session can
 * use it up only by calls that take a part of the time between two of such calls of another one.
 *
 * The order is the worker's own: nothing of it is shared, and neither claim nor park look at it.
 *
 * Threads: the lane's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KNIT_ROUND_NS      50000
#define KNIT_CREDIT_MAX_NS (64 * KNIT_ROUND_NS)
#define KNIT_DEBT_MAX_NS   (64 * KNIT_ROUND_NS)
#define KNIT_ROUNDS_MAX    128u /* pay the largest debt and give the largest credit */

struct knit_deficit {
    int32_t ns;     /* above 0: credit */
    uint32_t round; /* as far as which it has taken what rounds give */
};

/* A new one is fresh, for a call. */
static inline void knit_deficit_begin(struct knit_deficit *deficit, uint32_t round)
{
    *deficit = (struct knit_deficit){2 * KNIT_ROUND_NS, round};
}

/* Takes what the rounds since the last look gave. */
static inline void knit_deficit_renew(struct knit_deficit *deficit, uint32_t round)
{
    uint32_t rounds = round - deficit->round;

    if (rounds == 0)
        return;
    deficit->round = round;
    if (rounds > KNIT_ROUNDS_MAX)
        rounds = KNIT_ROUNDS_MAX;
    deficit->ns += (int32_t)rounds * KNIT_ROUND_NS;
    if (deficit->ns > KNIT_CREDIT_MAX_NS)
        deficit->ns = KNIT_CREDIT_MAX_NS;
}

static inline void knit_deficit_charge(struct knit_deficit *deficit, uint32_t cost_ns)
{
    int32_t ns = deficit->ns - (cost_ns < KNIT_DEBT_MAX_NS ? (int32_t)cost_ns : KNIT_DEBT_MAX_NS);

    deficit->ns = ns > -KNIT_DEBT_MAX_NS ? ns : -KNIT_DEBT_MAX_NS;
}

static inline bool knit_deficit_has_credit(const struct knit_deficit *deficit)
{
    return deficit->ns > 0;
}

static inline bool knit_deficit_is_fresh(const struct knit_deficit *deficit)
{
    return deficit->ns > KNIT_ROUND_NS;
}

/* After so many rounds more it has credit. */
static inline uint32_t knit_deficit_rounds_due(const struct knit_deficit *deficit)
{
    return deficit->ns > 0 ? 0 : (uint32_t)(-deficit->ns / KNIT_ROUND_NS) + 1;
}
