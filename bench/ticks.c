/* SPDX-License-Identifier: Apache-2.0 */
/* The counter's rate is measured against CLOCK_MONOTONIC, not read from anywhere: virtual machines
 * scale it. */
#include "bench/ticks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { CALIBRATE_NS = 20 * 1000 * 1000 };

bool knit_ticks_has_counter;

static double ns_per_tick = 1.0;

static bool counter_is_constant(void)
{
#if defined(__x86_64__)
    unsigned int a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0; /* invariant TSC */
#else
    return false;
#endif
}

void knit_ticks_init(void)
{
    uint64_t first_ns, first, now_ns;

    if (!counter_is_constant())
        return;
    knit_ticks_has_counter = true;
    first_ns = knit_ticks_clock_ns();
    first = knit_ticks_now();
    do {
        now_ns = knit_ticks_clock_ns();
    } while (now_ns - first_ns < CALIBRATE_NS);
    ns_per_tick = (double)(now_ns - first_ns) / (double)(knit_ticks_now() - first);
}

double knit_ticks_to_ns(double ticks)
{
    return ticks * ns_per_tick;
}
