/* SPDX-License-Identifier: Apache-2.0 */
/* The table is at most half full, so runs stay short for the numbers that callers use: counters,
 * which the multiplication spreads evenly.
 */
#include "server/rpc/in_flight.h"

#include <errno.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 16 };

static uint32_t home_of(const struct knit_in_flight *table, uint32_t msgid)
{
    /* 2^32 divided by the golden ratio; the high bits are the well mixed ones. */
    return (uint32_t)((msgid * UINT32_C(0x9e3779b1)) >> 16) & (table->capacity - 1);
}

void knit_in_flight_fini(struct knit_in_flight *table)
{
    free(table->entries);
    *table = (struct knit_in_flight){0};
}

static void insert(struct knit_in_flight *table, struct knit_in_flight_entry entry)
{
    uint32_t at = home_of(table, entry.msgid);

    while (table->entries[at].slot_plus_one != 0)
        at = (at + 1) & (table->capacity - 1);
    table->entries[at] = entry;
}

static int grow(struct knit_in_flight *table)
{
    struct knit_in_flight larger = {
        .capacity = table->capacity ? table->capacity * 2 : CAPACITY_MIN, .count = table->count};

    larger.entries = calloc(larger.capacity, sizeof(*larger.entries));
    if (larger.entries == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < table->capacity; i++)
        if (table->entries[i].slot_plus_one != 0)
            insert(&larger, table->entries[i]);
    free(table->entries);
    *table = larger;
    return 0;
}

int knit_in_flight_add(struct knit_in_flight *table, uint32_t msgid, uint32_t slot)
{
    if (table->count >= table->capacity / 2) {
        int r = grow(table);

        if (r != 0)
            return r;
    }
    insert(table, (struct knit_in_flight_entry){msgid, slot + 1});
    table->count++;
    return 0;
}

static bool place_of(const struct knit_in_flight *table, uint32_t msgid, uint32_t *ret_at)
{
    if (table->count == 0)
        return false;
    for (uint32_t at = home_of(table, msgid); table->entries[at].slot_plus_one != 0;
         at = (at + 1) & (table->capacity - 1)) {
        if (table->entries[at].msgid == msgid) {
            *ret_at = at;
            return true;
        }
    }
    return false;
}

bool knit_in_flight_find(const struct knit_in_flight *table, uint32_t msgid, uint32_t *ret_slot)
{
    uint32_t at;

    if (!place_of(table, msgid, &at))
        return false;
    *ret_slot = table->entries[at].slot_plus_one - 1;
    return true;
}

bool knit_in_flight_remove(struct knit_in_flight *table, uint32_t msgid)
{
    uint32_t mask = table->capacity - 1;
    uint32_t hole, at;

    if (!place_of(table, msgid, &hole))
        return false;
    for (at = (hole + 1) & mask; table->entries[at].slot_plus_one != 0; at = (at + 1) & mask) {
        uint32_t home = home_of(table, table->entries[at].msgid);

        /* An entry may fill the hole unless its home lies behind the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->entries[hole] = table->entries[at];
            hole = at;
        }
    }
    table->entries[hole] = (struct knit_in_flight_entry){0};
    if (--table->count == 0 && table->capacity > CAPACITY_MIN * 4)
        knit_in_flight_fini(table);
    return true;
}
