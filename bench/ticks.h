/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks: nanoseconds for deadlines and rates, ticks for the span of one call.
 *
 * A tick is one of the processor's time stamp counter where that counts at a constant rate: reading
 * it costs a few nanoseconds and clock_gettime() twenty, a fifth of a short call. Elsewhere a tick
 * is a nanosecond.
 *
 * Threads: any, after knit_ticks_init().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Once, before any thread is started. Takes 20 ms. */
void knit_ticks_init(void);

/* Set by knit_ticks_init(). */
extern bool knit_ticks_has_counter;

double knit_ticks_to_ns(double ticks);

/* CLOCK_MONOTONIC. */
static inline uint64_t knit_ticks_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t knit_ticks_now(void)
{
#if defined(__x86_64__)
    unsigned int cpu;
    if (knit_ticks_has_counter)
        return __rdtscp(&cpu); /* waits for the loads before it, unlike rdtsc */
#endif
    return knit_ticks_clock_ns();
}
