/* SPDX-License-Identifier: Apache-2.0 */
/* One clock for both sides of a session.
 *
 * Times in shared memory are of the host's CLOCK_MONOTONIC. In another time namespace that clock
 * shows another time, but the clock of the day shows the same one everywhere. So each side reads
 * how far its two clocks are apart, and the difference of these differences is the shift that turns
 * a caller's time into the host's. What is read beside another process is only right if the clock
 * of the day was not set in between.
 *
 * Differences are numbers modulo 2^64, since either clock may be ahead.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Two readings of one clock that are closer than this are taken for the same. */
#define KNIT_CLOCK_NEAR_NS 1000000

/* The clock of the day minus the monotonic one, in ns. */
uint64_t knit_clock_difference(void);

/* What to add to an own time to have the host's: 0 when both have one clock. before, after: own
 * differences, read before the host read its own and after that. False: the clock of the day was
 * set in between, so nothing is known. */
bool knit_clock_shift(uint64_t before, uint64_t after, uint64_t host, int64_t *ret_shift);

bool knit_clock_is_near(int64_t shift, int64_t other);

/* at_ns + shift, from 1 to UINT64_MAX, since 0 is no time. */
uint64_t knit_clock_shifted(uint64_t at_ns, int64_t shift);
