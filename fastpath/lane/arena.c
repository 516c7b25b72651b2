/* SPDX-License-Identifier: Apache-2.0 */
/* Two-level segregated fit over a private table of blocks.
 *
 * All sizes and places are counted in units of KNIT_ARENA_ALIGN. A free block is listed in the
 * class of its size: rows are powers of two, columns sixteenths of a row, and a bit for each row
 * and column that has something. Any block of a class above the wanted one fits, so two bit scans
 * find one. The wanted class itself may hold both, so its first block is tried before (calls of one
 * size find each other's blocks that way) and a few more when all else failed.
 *
 * The differences from the paper:
 *
 *   - Headers lie in a table instead of in front of the blocks, because the blocks lie in memory
 *     that other processes write or read. A small hash leads from an offset to its entry. Hash
 *     chains and class lists share a field: a block is either in use or listed.
 *   - The end of the arena is not a listed block. It is taken only when no listed block fits, and
 *     a released topmost block falls back to it. So addresses stay low, pages that were touched
 *     are used again before new ones, and a sparse arena stays sparse.
 *
 * Free neighbours are joined at once, hence at most as many free blocks as used ones lie below the
 * open end, and a table of twice blocks_max entries never runs out.
 */
#include "fastpath/lane/arena.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "fastpath/lane/layout.h"

enum {
    COLUMN_BITS = 4,
    COLUMNS = 1 << COLUMN_BITS,
    ROWS = 32,  /* the largest block, 2^34 units, is of row 31 */
    LOOKS = 16, /* at blocks of the wanted class, when nothing larger is there */
};

#define NONE 0u         /* entry 0 is no block */
#define USED UINT32_MAX /* in `previous`: the block is in use, `next` is its hash chain */

struct block {
    uint64_t at, units;
    uint32_t below, above; /* neighbours in the arena */
    uint32_t next, previous;
};

struct knit_arena {
    uint64_t units, top, touched, limit;
    uint32_t live, live_max;
    uint32_t topmost;      /* block that ends at top */
    uint32_t spare, fresh; /* entries given back, linked by `next`; the first one never used */
    uint32_t adopted;      /* last adopted block, where the search for the next one begins */
    uint32_t bucket_shift;
    uint32_t rows;
    uint32_t columns[ROWS];
    uint32_t heads[ROWS][COLUMNS];
    uint32_t *buckets;
    struct block *blocks;
};

static uint64_t to_units(uint64_t len)
{
    return len / KNIT_ARENA_ALIGN + (len % KNIT_ARENA_ALIGN != 0);
}

/* ---- the table ------------------------------------------------------------------------------- */

int knit_arena_new(uint64_t bytes, uint32_t blocks_max, struct knit_arena **ret)
{
    uint32_t bucket_bits;
    struct knit_arena *arena;

    assert(bytes <= KNIT_ARENA_MAX && blocks_max < USED / 2);
    bucket_bits = 4;
    while ((1ull << bucket_bits) < blocks_max)
        bucket_bits++;

    arena = calloc(1, sizeof(*arena));
    if (arena == NULL)
        return -ENOMEM;
    arena->buckets = calloc((size_t)1 << bucket_bits, sizeof(*arena->buckets));
    arena->blocks = calloc(2 * (size_t)blocks_max + 1, sizeof(*arena->blocks));
    if (arena->buckets == NULL || arena->blocks == NULL) {
        knit_arena_free(arena);
        return -ENOMEM;
    }
    arena->bucket_shift = 64 - bucket_bits;
    arena->units = bytes / KNIT_ARENA_ALIGN;
    arena->limit = arena->units;
    arena->live_max = blocks_max;
    arena->fresh = 1;
    *ret = arena;
    return 0;
}

struct knit_arena *knit_arena_free(struct knit_arena *arena)
{
    if (arena != NULL) {
        free(arena->buckets);
        free(arena->blocks);
        free(arena);
    }
    return NULL;
}

static uint32_t entry_take(struct knit_arena *arena)
{
    uint32_t entry = arena->spare;
    if (entry == NONE) {
        assert(arena->fresh <= 2 * arena->live_max);
        return arena->fresh++;
    }
    arena->spare = arena->blocks[entry].next;
    return entry;
}

static void entry_give(struct knit_arena *arena, uint32_t entry)
{
    if (arena->adopted == entry)
        arena->adopted = NONE;
    arena->blocks[entry].next = arena->spare;
    arena->spare = entry;
}

/* Fibonacci hashing: offsets differ in few bits, the product spreads them over the upper ones. */
static uint32_t *bucket(struct knit_arena *arena, uint64_t at)
{
    return &arena->buckets[at * 0x9e3779b97f4a7c15ull >> arena->bucket_shift];
}

static void use(struct knit_arena *arena, uint32_t entry)
{
    struct block *block = &arena->blocks[entry];
    uint32_t *head = bucket(arena, block->at);
    block->previous = USED;
    block->next = *head;
    *head = entry;
    arena->live++;
}

/* Where the chain points to the living block at this place. */
static uint32_t *find_used(struct knit_arena *arena, uint64_t at)
{
    uint32_t *link = bucket(arena, at);
    while (*link != NONE && arena->blocks[*link].at != at)
        link = &arena->blocks[*link].next;
    return link;
}

static bool is_free(const struct knit_arena *arena, uint32_t entry)
{
    return entry != NONE && arena->blocks[entry].previous != USED;
}

/* ---- classes --------------------------------------------------------------------------------- */

static void class_of(uint64_t units, uint32_t *ret_row, uint32_t *ret_column)
{
    uint32_t bit;

    if (units < COLUMNS) {
        *ret_row = 0;
        *ret_column = (uint32_t)units;
        return;
    }
    bit = 63 - (uint32_t)__builtin_clzll(units);
    *ret_row = bit - COLUMN_BITS + 1;
    *ret_column = (uint32_t)(units >> (bit - COLUMN_BITS)) & (COLUMNS - 1);
}

static void list(struct knit_arena *arena, uint32_t entry)
{
    uint32_t row, column, *head;
    struct block *block = &arena->blocks[entry];
    class_of(block->units, &row, &column);
    head = &arena->heads[row][column];
    block->previous = NONE;
    block->next = *head;
    if (*head != NONE)
        arena->blocks[*head].previous = entry;
    *head = entry;
    arena->columns[row] |= 1u << column;
    arena->rows |= 1u << row;
}

static void unlist(struct knit_arena *arena, uint32_t entry)
{
    struct block *block = &arena->blocks[entry];
    uint32_t row, column;
    if (block->next != NONE)
        arena->blocks[block->next].previous = block->previous;
    if (block->previous != NONE) {
        arena->blocks[block->previous].next = block->next;
        return;
    }
    class_of(block->units, &row, &column);
    arena->heads[row][column] = block->next;
    if (block->next == NONE)
        arena->columns[row] &= ~(1u << column);
    if (arena->columns[row] == 0)
        arena->rows &= ~(1u << row);
}

/* The first block of the nearest class above, which fits whatever the wanted class was asked for.
 */
static uint32_t first_above(const struct knit_arena *arena, uint32_t row, uint32_t column)
{
    uint32_t columns = arena->columns[row] & ~((2u << column) - 1);
    if (columns == 0) {
        uint32_t rows = arena->rows & ~((2u << row) - 1);
        if (rows == 0)
            return NONE;
        row = (uint32_t)__builtin_ctz(rows);
        columns = arena->columns[row];
    }
    return arena->heads[row][__builtin_ctz(columns)];
}

static uint32_t first_that_fits(
    const struct knit_arena *arena, uint32_t entry, uint64_t units, int looks)
{
    while (looks-- > 0 && entry != NONE) {
        if (arena->blocks[entry].units >= units)
            return entry;
        entry = arena->blocks[entry].next;
    }
    return NONE;
}

/* ---- neighbours ------------------------------------------------------------------------------ */

/* Enter [at, at + units) between `below` and whatever lies above that. */
static uint32_t insert(struct knit_arena *arena, uint64_t at, uint64_t units, uint32_t below)
{
    uint32_t entry = entry_take(arena);
    /* A first block has nothing below and then nothing above either: the table is empty. */
    uint32_t above = below == NONE ? NONE : arena->blocks[below].above;
    arena->blocks[entry] = (struct block){.at = at, .units = units, .below = below, .above = above};
    if (below != NONE)
        arena->blocks[below].above = entry;
    if (above != NONE)
        arena->blocks[above].below = entry;
    else
        arena->topmost = entry;
    return entry;
}

/* `entry` swallows the free block above it, which is not listed any more. */
static void join_above(struct knit_arena *arena, uint32_t entry)
{
    struct block *block = &arena->blocks[entry];
    uint32_t gone = block->above;
    block->units += arena->blocks[gone].units;
    block->above = arena->blocks[gone].above;
    if (block->above != NONE)
        arena->blocks[block->above].below = entry;
    else
        arena->topmost = entry;
    entry_give(arena, gone);
}

/* Joins a block that is neither in use nor listed with the free memory around it. */
static void settle(struct knit_arena *arena, uint32_t entry)
{
    uint32_t below = arena->blocks[entry].below, above = arena->blocks[entry].above;
    if (is_free(arena, above)) {
        unlist(arena, above);
        join_above(arena, entry);
    }
    if (is_free(arena, below)) {
        unlist(arena, below);
        join_above(arena, below);
        entry = below;
    }
    if (entry != arena->topmost) {
        list(arena, entry);
        return;
    }
    arena->top = arena->blocks[entry].at;
    arena->topmost = arena->blocks[entry].below;
    if (arena->topmost != NONE)
        arena->blocks[arena->topmost].above = NONE;
    entry_give(arena, entry);
}

/* Keep the first `units` of a block that is in use or about to be; the rest becomes free. */
static void cut(struct knit_arena *arena, uint32_t entry, uint64_t units)
{
    struct block *block = &arena->blocks[entry];
    uint64_t rest = block->units - units;
    if (rest == 0)
        return;
    block->units = units;
    if (is_free(arena, block->above)) {
        /* Grown in place, because the table may have no entry left for the rest. */
        uint32_t above = block->above;
        unlist(arena, above);
        arena->blocks[above].at -= rest;
        arena->blocks[above].units += rest;
        list(arena, above);
    } else if (entry == arena->topmost) {
        arena->top -= rest;
    } else {
        list(arena, insert(arena, block->at + units, rest, entry));
    }
}

static void extend(struct knit_arena *arena, uint64_t top)
{
    arena->top = top;
    if (top > arena->touched)
        arena->touched = top;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

int knit_arena_alloc(struct knit_arena *arena, uint64_t len, uint64_t *ret_offset)
{
    uint64_t units;
    uint32_t row, column, wanted, entry;

    assert(len > 0);
    units = to_units(len);
    if (arena->live == arena->live_max || units > arena->units)
        return KNIT_ARENA_E_FULL;

    class_of(units, &row, &column);
    wanted = arena->heads[row][column];
    entry = first_that_fits(arena, wanted, units, 1);
    if (entry == NONE)
        entry = first_above(arena, row, column);
    if (entry == NONE) {
        /* A limit below what was allocated before does not take that back. */
        uint64_t end = arena->limit > arena->touched ? arena->limit : arena->touched;
        if (units <= end - arena->top) {
            entry = insert(arena, arena->top, units, arena->topmost);
            extend(arena, arena->top + units);
            use(arena, entry);
            *ret_offset = arena->blocks[entry].at * KNIT_ARENA_ALIGN;
            return 0;
        }
        entry = first_that_fits(arena, wanted, units, LOOKS);
    }
    if (entry == NONE)
        return KNIT_ARENA_E_FULL;
    unlist(arena, entry);
    cut(arena, entry, units);
    use(arena, entry);
    *ret_offset = arena->blocks[entry].at * KNIT_ARENA_ALIGN;
    return 0;
}

void knit_arena_release(struct knit_arena *arena, uint64_t offset)
{
    uint32_t *link, entry;

    assert(offset % KNIT_ARENA_ALIGN == 0);
    link = find_used(arena, offset / KNIT_ARENA_ALIGN);
    entry = *link;
    assert(entry != NONE);
    *link = arena->blocks[entry].next;
    arena->live--;
    settle(arena, entry);
}

void knit_arena_shrink(struct knit_arena *arena, uint64_t offset, uint64_t len)
{
    uint32_t entry;

    assert(offset % KNIT_ARENA_ALIGN == 0 && len > 0);
    entry = *find_used(arena, offset / KNIT_ARENA_ALIGN);
    assert(entry != NONE && to_units(len) <= arena->blocks[entry].units);
    cut(arena, entry, to_units(len));
}

/* The block that holds `at`, which lies below top. */
static uint32_t holder(const struct knit_arena *arena, uint64_t at)
{
    const struct block *blocks = arena->blocks;
    uint32_t entry = arena->adopted != NONE ? arena->adopted : arena->topmost;
    while (at < blocks[entry].at)
        entry = blocks[entry].below;
    while (at - blocks[entry].at >= blocks[entry].units)
        entry = blocks[entry].above;
    return entry;
}

int knit_arena_adopt(struct knit_arena *arena, uint64_t offset, uint64_t len)
{
    uint64_t at = offset / KNIT_ARENA_ALIGN, units = to_units(len), top = arena->top;
    uint32_t entry;
    if (offset % KNIT_ARENA_ALIGN != 0 || units == 0 || units > arena->units ||
        at > arena->units - units)
        return KNIT_ARENA_E_TAKEN;

    if (at >= top) {
        uint32_t gap;

        if (arena->live == arena->live_max)
            return KNIT_ARENA_E_FULL;
        /* Listed only after the block above it is there: the topmost block is never a free one. */
        gap = at > top ? insert(arena, top, at - top, arena->topmost) : NONE;
        entry = insert(arena, at, units, arena->topmost);
        if (gap != NONE)
            list(arena, gap);
        extend(arena, at + units);
    } else {
        uint32_t room = holder(arena, at);
        uint64_t before = at - arena->blocks[room].at;
        if (!is_free(arena, room) || units > arena->blocks[room].units - before)
            return KNIT_ARENA_E_TAKEN;
        if (arena->live == arena->live_max)
            return KNIT_ARENA_E_FULL;
        unlist(arena, room);
        entry = room;
        if (before > 0) {
            entry = insert(arena, at, arena->blocks[room].units - before, room);
            arena->blocks[room].units = before;
            list(arena, room);
        }
        cut(arena, entry, units);
    }
    use(arena, entry);
    arena->adopted = entry;
    return 0;
}

void knit_arena_limit(struct knit_arena *arena, uint64_t max_bytes)
{
    uint64_t units = max_bytes / KNIT_ARENA_ALIGN;
    arena->limit = units < arena->units ? units : arena->units;
}

void knit_arena_touch(struct knit_arena *arena, uint64_t bytes)
{
    uint64_t units = bytes / KNIT_ARENA_ALIGN;
    if (units > arena->units)
        units = arena->units;
    if (units > arena->touched)
        arena->touched = units;
}

uint64_t knit_arena_touched(const struct knit_arena *arena)
{
    return arena->touched * KNIT_ARENA_ALIGN;
}
