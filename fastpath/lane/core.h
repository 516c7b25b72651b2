/* SPDX-License-Identifier: Apache-2.0 */
/* Which core a thread runs on, and how it gives way there.
 *
 * Caller and worker store the core that they run on where the other reads it, from 1 upwards; 0 is
 * not known. Who waits for a side that looked for work last on its own core does not spin: it would
 * keep the core from whom it waits for. The words are hints, relaxed: a thread may be on another
 * core at once, and what a hostile caller stores makes a worker park early and, once in
 * KNIT_SPIN_RETRY such parks, change its core.
 *
 * A thread that may use one core alone yields it once before it sleeps. If the other side is ready
 * to run, it runs now, and both find each other awake: two yields a call in place of two sleeps and
 * two wake-ups. But whoever yields also lets third parties go first, for a slice of milliseconds,
 * while one that wakes from a sleep would be served before them. So a yield that took long is
 * followed by YIELDS_PART times as long without any.
 *
 * Threads: one at a time for each structure.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/bell.h"

#define KNIT_CORE_YIELD_LONG_NS 100000u
#define KNIT_CORE_YIELDS_PART   32u

struct knit_core {
    uint32_t number;
    bool is_only; /* of those that the thread may use, when it came to this one */
    uint64_t no_yield_until_ns;
};

/* True: it is another one than at the last look. Without a system call, where the C library
 * registers with the kernel for it, unless the core has changed. */
static inline bool knit_core_look(struct knit_core *core)
{
    const uint32_t number = (uint32_t)(sched_getcpu() + 1);
    cpu_set_t allowed;

    if (number == core->number)
        return false;
    core->number = number;
    core->is_only =
        sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) == 1;
    return true;
}

/* Lets others run on the only core. False: nobody was let, sleep at once. */
static inline bool knit_core_yield(struct knit_core *core)
{
    uint64_t began_ns, took_ns;

    if (!core->is_only)
        return false;
    began_ns = knit_clock_ns();
    if (began_ns < core->no_yield_until_ns)
        return false;
    (void)sched_yield();
    took_ns = knit_clock_ns() - began_ns;
    if (took_ns > KNIT_CORE_YIELD_LONG_NS)
        core->no_yield_until_ns = began_ns + took_ns * KNIT_CORE_YIELDS_PART;
    return true;
}
