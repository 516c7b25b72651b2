/* SPDX-License-Identifier: Apache-2.0 */
/* A caller's calls in flight: from the number that it chose to the slot that the call occupies.
 *
 * Open addressing with linear probing. An entry is removed by shifting back those behind it, so
 * there are no tombstones. The table begins without memory, grows by doubling, and gives its memory
 * back when it is empty: an idle caller holds none.
 *
 * Limits: the router bounds the number of entries (in_flight_max).
 * Security: a caller that picks numbers that collide slows itself down, by at most one pass over
 * its own entries.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_in_flight_entry {
    uint32_t msgid;
    uint32_t slot_plus_one; /* 0 = free */
};

struct knit_in_flight {
    struct knit_in_flight_entry *entries;
    uint32_t capacity; /* 0 or a power of two */
    uint32_t count;
};

void knit_in_flight_fini(struct knit_in_flight *table);

/* msgid must not be in it. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_in_flight_add(struct knit_in_flight *table, uint32_t msgid, uint32_t slot);

KNIT_MUST_CHECK bool knit_in_flight_find(
    const struct knit_in_flight *table, uint32_t msgid, uint32_t *ret_slot);

/* False when it was not in it. */
bool knit_in_flight_remove(struct knit_in_flight *table, uint32_t msgid);
