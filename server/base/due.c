/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap: places count from 1, the two below place n are 2n and 2n + 1. */
#include "server/base/due.h"

#include <errno.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 16 };

void knit_dues_fini(struct knit_dues *dues)
{
    free(dues->items);
    *dues = (struct knit_dues){0};
}

static void put(struct knit_dues *dues, struct knit_due *due, uint32_t place)
{
    dues->items[place - 1] = due;
    due->place = place;
}

static void rise(struct knit_dues *dues, struct knit_due *due, uint32_t place)
{
    while (place > 1 && due->ns < dues->items[place / 2 - 1]->ns) {
        put(dues, dues->items[place / 2 - 1], place);
        place /= 2;
    }
    put(dues, due, place);
}

static void sink(struct knit_dues *dues, struct knit_due *due, uint32_t place)
{
    while (2 * place <= dues->count) {
        uint32_t below = 2 * place;

        if (below < dues->count && dues->items[below]->ns < dues->items[below - 1]->ns)
            below++;
        if (due->ns <= dues->items[below - 1]->ns)
            break;
        put(dues, dues->items[below - 1], place);
        place = below;
    }
    put(dues, due, place);
}

int knit_dues_add(struct knit_dues *dues, struct knit_due *due)
{
    if (dues->count == dues->capacity) {
        uint32_t capacity = dues->capacity > 0 ? dues->capacity * 2 : CAPACITY_MIN;
        struct knit_due **items = realloc(dues->items, capacity * sizeof(*items));

        if (items == NULL)
            return -ENOMEM;
        dues->items = items;
        dues->capacity = capacity;
    }
    rise(dues, due, ++dues->count);
    return 0;
}

void knit_dues_remove(struct knit_dues *dues, struct knit_due *due)
{
    struct knit_due *last;
    uint32_t place = due->place;

    if (place == 0)
        return;
    due->place = 0;
    last = dues->items[--dues->count];
    if (last == due)
        return;
    if (last->ns < due->ns)
        rise(dues, last, place);
    else
        sink(dues, last, place);
}
