/* SPDX-License-Identifier: Apache-2.0 */
/* A caller's calls in flight: from the number that it chose to the slot that the call occupies.
 *
 * Open addressing with linear probing. An entry is removed by shifting back those behind it, so
 * there are no tombstones. The table begins without memory, grows by doubling, and gives its memory
 * back when it is empty, but for 2 KiB at most.
 *
 * Limits: the router bounds the number of entries (in_flight_max).
 * Security: a caller that picks numbers that collide slows itself down, by at most one pass over
 * its own entries.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
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

/* 2^32 divided by the golden ratio; the high bits are the well mixed ones. The table has memory. */
static inline uint32_t knit_in_flight_home(const struct knit_in_flight *table, uint32_t msgid)
{
    return (msgid * UINT32_C(0x9e3779b1)) >> 16 & (table->capacity - 1);
}

/* The entry of the number; a free one, if the number is not in it: there it would stand. The table
 * has memory. */
static inline struct knit_in_flight_entry *knit_in_flight_probe(
    const struct knit_in_flight *table, uint32_t msgid)
{
    uint32_t at = knit_in_flight_home(table, msgid);

    while (table->entries[at].slot_plus_one != 0 && table->entries[at].msgid != msgid)
        at = (at + 1) & (table->capacity - 1);
    return &table->entries[at];
}

KNIT_MUST_CHECK static inline bool knit_in_flight_find(
    const struct knit_in_flight *table, uint32_t msgid, uint32_t *ret_slot)
{
    const struct knit_in_flight_entry *entry;

    if (table->count == 0)
        return false;
    entry = knit_in_flight_probe(table, msgid);
    if (entry->slot_plus_one == 0)
        return false;
    *ret_slot = entry->slot_plus_one - 1;
    return true;
}

/* msgid must not be in it. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_in_flight_add(struct knit_in_flight *table, uint32_t msgid, uint32_t slot);

/* Whether one more needs no memory. */
static inline bool knit_in_flight_has_room(const struct knit_in_flight *table)
{
    return table->count < table->capacity / 2;
}

/* The same, where there is room, at the place that a probe for the number has found. Nothing was
 * added or removed since. */
static inline void knit_in_flight_fill(
    struct knit_in_flight *table, struct knit_in_flight_entry *place, uint32_t msgid, uint32_t slot)
{
    *place = (struct knit_in_flight_entry){msgid, slot + 1};
    table->count++;
}

/* The entry goes: what of those behind it may stand further in front moves there. And memory is
 * given back. knit_in_flight_remove() is the one caller. */
void knit_in_flight_close_gap(struct knit_in_flight *table, struct knit_in_flight_entry *gap);

/* False when it was not in it. */
static inline bool knit_in_flight_remove(struct knit_in_flight *table, uint32_t msgid)
{
    struct knit_in_flight_entry *entry, *next;

    if (table->count == 0)
        return false;
    entry = knit_in_flight_probe(table, msgid);
    if (entry->slot_plus_one == 0)
        return false;
    next = &table->entries[(uint32_t)(entry - table->entries + 1) & (table->capacity - 1)];
    if (next->slot_plus_one == 0 && table->count > 1) {
        *entry = (struct knit_in_flight_entry){0};
        table->count--;
    } else {
        knit_in_flight_close_gap(table, entry);
    }
    return true;
}
