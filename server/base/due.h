/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines in order: a heap of items, each of which knows its place in it, so one that ends early
 * leaves at once. What is due costs by what is due, and not by what waits.
 *
 * Items lie in memory of the caller's. One that is zeroed is in no heap; one that is in a heap
 * stays where it is, or knit_dues_moved() follows.
 *
 * Threads: the caller's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_due {
    uint64_t ns;    /* CLOCK_MONOTONIC; not changed while it is in the heap */
    uint32_t place; /* in the heap, plus one; 0 = in none */
};

/* Zeroed memory is an empty one. */
struct knit_dues {
    struct knit_due **items; /* none is due before the one that stands at half its place */
    uint32_t count, capacity;
};

void knit_dues_fini(struct knit_dues *dues);

/* Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_dues_add(struct knit_dues *dues, struct knit_due *due);

/* Accepts one that is in no heap. */
void knit_dues_remove(struct knit_dues *dues, struct knit_due *due);

/* The item lies here now. Accepts one that is in no heap. */
static inline void knit_dues_moved(struct knit_dues *dues, struct knit_due *due)
{
    if (due->place != 0)
        dues->items[due->place - 1] = due;
}

/* The one that is due next, or NULL. */
static inline struct knit_due *knit_dues_first(const struct knit_dues *dues)
{
    return dues->count > 0 ? dues->items[0] : NULL;
}

/* UINT64_MAX = never. */
static inline uint64_t knit_dues_next_ns(const struct knit_dues *dues)
{
    return dues->count > 0 ? dues->items[0]->ns : UINT64_MAX;
}
