/* SPDX-License-Identifier: Apache-2.0 */
/* The table is at most half full, so runs stay short for the numbers that callers use: counters,
 * which the multiplication spreads evenly.
 */
#include "server/rpc/in_flight.h"

#include <errno.h>
#include <stdlib.h>

enum {
    CAPACITY_MIN = 16,
    CAPACITY_KEPT = 256, /* by an empty one: who has so many in flight has them again */
};

void knit_in_flight_fini(struct knit_in_flight *table)
{
    free(table->entries);
    *table = (struct knit_in_flight){0};
}

/* There is room for it. */
static void insert(struct knit_in_flight *table, struct knit_in_flight_entry entry)
{
    *knit_in_flight_probe(table, entry.msgid) = entry;
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

void knit_in_flight_close_gap(struct knit_in_flight *table, struct knit_in_flight_entry *gap)
{
    struct knit_in_flight_entry *entries = table->entries;
    uint32_t mask = table->capacity - 1, hole = (uint32_t)(gap - entries), at;

    for (at = (hole + 1) & mask; entries[at].slot_plus_one != 0; at = (at + 1) & mask) {
        uint32_t home = knit_in_flight_home(table, entries[at].msgid);

        /* An entry may fill the hole unless its home lies behind the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            entries[hole] = entries[at];
            hole = at;
        }
    }
    entries[hole] = (struct knit_in_flight_entry){0};
    if (--table->count == 0 && table->capacity > CAPACITY_KEPT)
        knit_in_flight_fini(table);
}
