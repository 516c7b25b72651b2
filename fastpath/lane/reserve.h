/* SPDX-License-Identifier: Apache-2.0 */
/* How many workers long calls of one principal may take, as workers (lane_reserve.h) and the
 * daemon's loops (server/rpc/hold.h) reckon it.
 *
 * While others were active in the last second, such calls leave workers free: one, and twice as
 * many as others kept busy on average, rounded up, at most all but one. So a call of another one
 * finds a worker, also while as many more of these come. But the principal never has less than its
 * part of the workers by weight: two with long calls alone would keep each other at a few of many.
 *
 * Threads: pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KNIT_RESERVE_LONG_NS    2000000u /* by the mean of its task */
#define KNIT_RESERVE_ACTIVE_MS  1000u
#define KNIT_RESERVE_AVERAGE_NS 250000000
#define KNIT_RESERVE_NAP_NS     10000000u /* what is held is looked at again after that at most */
#define KNIT_RESERVE_HELD_NS    10000000000u
#define KNIT_RESERVE_HELD_RUNS  8u

/* How many workers others keep busy, in 256ths. Their calls are short, perhaps, and often there is
 * none at the moment of a look. */
struct knit_reserve_average {
    uint64_t looked_ns;
    uint32_t busy_256ths;
};

static inline void knit_reserve_look(
    struct knit_reserve_average *average, uint32_t busy, uint64_t now_ns)
{
    const uint64_t since_ns = now_ns - average->looked_ns;
    const int64_t share =
        since_ns < KNIT_RESERVE_AVERAGE_NS ? (int64_t)since_ns : KNIT_RESERVE_AVERAGE_NS;
    const int64_t more = (int64_t)busy * 256 - average->busy_256ths;

    average->looked_ns = now_ns;
    average->busy_256ths =
        (uint32_t)(average->busy_256ths + more * share / KNIT_RESERVE_AVERAGE_NS);
}

/* Of so many workers; weights: its own, and the sum of all that are active, with its own. */
static inline uint32_t knit_reserve_most(const struct knit_reserve_average *average,
    uint32_t workers, uint64_t own_weight, uint64_t all_weights)
{
    const uint32_t part = (uint32_t)(workers * own_weight / all_weights);
    uint32_t free = 1 + (2 * average->busy_256ths + 255) / 256, most;

    if (free > workers - 1)
        free = workers - 1;
    most = workers - free;
    return most > part ? most : part;
}

/* Held for so long, it begins whatever is said of others. */
static inline bool knit_reserve_is_overdue(uint64_t held_for_ns, uint32_t mean_ns)
{
    const uint64_t most_ns = (uint64_t)KNIT_RESERVE_HELD_RUNS * mean_ns;

    return held_for_ns > (most_ns > KNIT_RESERVE_HELD_NS ? most_ns : KNIT_RESERVE_HELD_NS);
}

/* ---- what calls take ---- */

#define KNIT_RESERVE_TASKS 8u

/* What calls of a flow took, of the tasks that it called lately: others may call the same ones for
 * less, or for more. */
struct knit_reserve_means {
    struct {
        uint32_t task;
        uint32_t ns; /* 0 = not known */
    } of[KNIT_RESERVE_TASKS];
};

/* What a call of the task takes by these; if it is not known, so long. */
static inline uint32_t knit_reserve_mean_ns(
    const struct knit_reserve_means *means, uint32_t task, uint32_t else_ns)
{
    const uint32_t at = task % KNIT_RESERVE_TASKS;

    return means->of[at].ns != 0 && means->of[at].task == task ? means->of[at].ns : else_ns;
}

/* One has run for so long. */
static inline void knit_reserve_note_run(
    struct knit_reserve_means *means, uint32_t task, uint64_t run_ns)
{
    const uint32_t at = task % KNIT_RESERVE_TASKS;
    const uint64_t before_ns = knit_reserve_mean_ns(means, task, 0);
    const uint64_t mean_ns = before_ns != 0 ? (before_ns * 7 + run_ns) / 8 : run_ns;

    means->of[at].task = task;
    means->of[at].ns = mean_ns < UINT32_MAX ? (uint32_t)mean_ns : UINT32_MAX;
}

/* ---- long calls: the words `long_call` of the lanes, mark32 | ms30 | state2 ---- */

enum knit_reserve_state {
    KNIT_RESERVE_NOTHING,
    KNIT_RESERVE_WAITING,
    KNIT_RESERVE_TRYING,
    KNIT_RESERVE_RUNNING,
    KNIT_RESERVE_STATES
};

static inline uint64_t knit_reserve_long_call(
    uint32_t mark, uint32_t ms, enum knit_reserve_state state)
{
    return (uint64_t)mark << 32 | (uint32_t)(ms << 2) | (uint32_t)state;
}

/* Whether the lane says that of that flow. */
static inline bool knit_reserve_is(uint64_t said, uint32_t mark, enum knit_reserve_state state)
{
    return said >> 32 == mark && said % KNIT_RESERVE_STATES == (uint64_t)state;
}

/* Whether its worker runs one of that flow, or is about to. */
static inline bool knit_reserve_has_begun(uint64_t said, uint32_t mark)
{
    return said >> 32 == mark && said % KNIT_RESERVE_STATES >= KNIT_RESERVE_TRYING;
}

/* ---- which flows were active: the words `served` of the lanes, mark32 | ms32 ---- */

/* Of another flow with a probability of 2^-31. */
static inline uint32_t knit_reserve_mark(uint64_t flow_number)
{
    return (uint32_t)(flow_number ^ flow_number >> 32) | 1;
}

static inline uint32_t knit_reserve_ms(uint64_t ns)
{
    return (uint32_t)(ns / 1000000);
}

static inline uint64_t knit_reserve_served(uint32_t mark, uint64_t now_ns)
{
    return (uint64_t)mark << 32 | knit_reserve_ms(now_ns);
}

/* The mark of the word, if it is not too old; 0 = it is. */
static inline uint32_t knit_reserve_active(uint64_t served, uint64_t now_ns)
{
    return knit_reserve_ms(now_ns) - (uint32_t)served < KNIT_RESERVE_ACTIVE_MS
               ? (uint32_t)(served >> 32)
               : 0;
}
