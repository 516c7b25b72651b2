/* SPDX-License-Identifier: Apache-2.0 */
/* Chance that need not be secret: pauses, and which of several is asked. By xorshift (Marsaglia,
 * 2003), whose state is the caller's own, so that sessions share nothing.
 *
 * Threads: as whoever owns the state.
 */
#pragma once

#include <stdint.h>

/* The next number; *state, which is never 0, is that number too. */
static inline uint64_t knit_chance_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
