/* SPDX-License-Identifier: Apache-2.0 */
/* Words with a bit for each lane: `occupied` of a session, `parked` of the board.
 *
 * They say where a search is worth while, and nothing else: what is found is checked in the lane's
 * own words. Another process may write the bits, and write any, so one that is set in vain costs a
 * look. That one is missing must not last: whoever searches by bits of another process looks at all
 * lanes now and then.
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include "fastpath/lane/layout.h"

#define KNIT_BITS_DOUBTED 16u /* each search of so many does without bits of other processes */

/* The first lane from `from` on whose bit is set, or, with `all`, any lane; `lanes` or beyond:
 * there is none. */
static inline uint32_t knit_lane_bits_next(
    const _Atomic uint64_t *bits, uint32_t from, uint32_t lanes, bool all)
{
    if (all)
        return from;
    while (from < lanes) {
        /* acquire: B1 of lane_park.c. Order of other bits is that of the fences W1. */
        const uint64_t word =
            atomic_load_explicit(&bits[from / 64], memory_order_acquire) >> from % 64;

        if (word != 0)
            return from + (uint32_t)__builtin_ctzll(word);
        from = (from | 63) + 1;
    }
    return from;
}
