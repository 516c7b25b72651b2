/* SPDX-License-Identifier: Apache-2.0 */
/* Cache lines that are fetched before they are needed.
 *
 * A line that the other side has written or read moves to this core at the first access, which
 * takes as long as a hundred instructions. Where a line that will be needed is known earlier, the
 * core fetches it meanwhile. These are hints: they change no memory, and any address will do.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>

#include "fastpath/lane/layout.h"

/* A cell's line is owned so many calls before it is written. Behind the end of a ring that is
 * another line, which does no harm. */
#define KNIT_OWN_AHEAD 4u

/* It will be read. */
static inline void knit_line_fetch(const void *line)
{
    __builtin_prefetch(line, 0, 3);
}

/* It will be written: no other core keeps a copy. On x86-64 the compiler's own prefetch for writing
 * is one for reading, unless it may assume a processor of 2014 or later; an older one takes this
 * instruction for none. */
static inline void knit_line_own(const void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1, 3);
#endif
}

/* The same for the first line of a cell, or both. */
static inline void knit_line_own_cell(const void *cell, bool both)
{
    knit_line_own(cell);
    if (both)
        knit_line_own((const char *)cell + KNIT_LINE);
}
