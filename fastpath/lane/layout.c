/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets of everything that is shared, computed in one place.
 *
 * A cursor walks through a segment in the order LAYOUT.md draws it; the same walk gives a segment's
 * size (from address 0) and the pointers into a mapping. So size and pointers cannot disagree.
 */
#include "fastpath/lane/layout.h"

#include "fastpath/lane/rights.h"
#include "fastpath/lane/runs.h"
#include "fastpath/lane/trace.h"

struct cursor {
    uintptr_t base;
    uint64_t off;
};

static void *place(struct cursor *cursor, uint64_t bytes, uint64_t align)
{
    void *at;

    cursor->off = (cursor->off + align - 1) / align * align;
    at = (void *)(cursor->base + cursor->off);
    cursor->off += bytes;
    return at;
}

static uint64_t pages(const struct cursor *cursor)
{
    return (cursor->off + KNIT_PAGE - 1) / KNIT_PAGE * KNIT_PAGE;
}

uint32_t knit_geometry_cells(uint32_t slots)
{
    uint32_t cells = 32;
    while (cells < slots + KNIT_CELLS_SPARE)
        cells *= 2;
    return cells;
}

const char *knit_geometry_check(const struct knit_geometry *geometry)
{
    if (geometry->version != KNIT_LAYOUT_VERSION)
        return "another version of the memory layout";
    if (geometry->lanes < 1 || geometry->lanes > KNIT_LANES_MAX)
        return "lanes out of range (1 to 256)";
    if (geometry->slots < 1 || geometry->slots > KNIT_SLOTS_MAX)
        return "slots out of range (1 to 16368)";
    if (geometry->cells < geometry->slots + KNIT_CELLS_SPARE || geometry->cells > 2 * 16384u ||
        (geometry->cells & (geometry->cells - 1)) != 0)
        return "ring size is not a power of two at least 16 above the slots";
    if (geometry->request_arena_bytes % KNIT_PAGE != 0 ||
        geometry->reply_arena_bytes % KNIT_PAGE != 0)
        return "arena size is not in whole pages";
    if (geometry->request_arena_bytes > KNIT_ARENA_MAX ||
        geometry->reply_arena_bytes > KNIT_ARENA_MAX)
        return "arena too large";
    if (geometry->classes < 1 || geometry->classes > KNIT_CLASSES_MAX)
        return "classes out of range (1 to 4)";
    if ((geometry->features & ~KNIT_FEATURES) != 0 || geometry->streams != 0 ||
        geometry->reserved != 0)
        return "a feature that does not exist";
    return NULL;
}

static uint64_t walk_request(
    const struct knit_geometry *geometry, uintptr_t base, struct knit_request_view *view)
{
    struct cursor at = {.base = base};
    const uint64_t lanes = geometry->lanes, slots = geometry->slots;
    view->header = place(&at, KNIT_PAGE, KNIT_PAGE);
    view->waiting = place(&at, 4, KNIT_LINE);
    view->core = place(&at, 4, 4);
    view->classes = place(&at, 4, 4);
    view->occupied = place(&at, KNIT_LINE, KNIT_LINE);
    view->bell = place(&at, 4 * lanes, KNIT_LINE);
    view->abort = place(&at, 8 * slots, KNIT_LINE);
    view->released = place(&at, 8 * slots, KNIT_LINE);
    view->trace = place(&at, sizeof(struct knit_trace_cell) * slots, KNIT_LINE);
    view->reason = place(&at, sizeof(struct knit_progress_cell) * slots, 2 * KNIT_LINE);
    /* What a worker reads behind the last one is a ring. */
    view->slab = place(&at, KNIT_SLAB_BYTES * slots, KNIT_SLAB_BYTES);
    view->ring =
        place(&at, sizeof(struct knit_request_cell) * geometry->classes * lanes * geometry->cells,
            2 * KNIT_LINE);
    view->arena = place(&at, geometry->request_arena_bytes, KNIT_PAGE);
    return pages(&at);
}

static uint64_t walk_reply(
    const struct knit_geometry *geometry, uintptr_t base, struct knit_reply_view *view)
{
    struct cursor at = {.base = base};
    const uint64_t lanes = geometry->lanes, slots = geometry->slots;
    view->header = place(&at, KNIT_PAGE, KNIT_PAGE);
    view->state = place(&at, KNIT_LINE, KNIT_LINE);
    view->notified = place(&at, 4, KNIT_LINE);
    view->strays = place(&at, 4, 4);
    view->deferrals = place(&at, 4, 4);
    view->claim = place(&at, 8 * slots, KNIT_LINE);
    view->reply = place(&at, sizeof(struct knit_reply_cell) * slots, 2 * KNIT_LINE);
    view->progress = place(&at, sizeof(struct knit_progress_cell) * slots, 2 * KNIT_LINE);
    view->head = place(&at, KNIT_LINE * lanes, KNIT_LINE);
    view->lane = place(&at, sizeof(struct knit_lane_line) * lanes, KNIT_LINE);
    view->completions = place(&at, 4 * lanes * geometry->cells, KNIT_LINE);
    view->stop = place(&at, 8 * slots, KNIT_LINE);
    view->slab = place(&at, KNIT_SLAB_BYTES * slots, KNIT_PAGE);
    view->arena = place(&at, lanes * geometry->reply_arena_bytes, KNIT_PAGE);
    return pages(&at);
}

static uint64_t walk_board(uint32_t lanes, uintptr_t base, struct knit_board_view *view)
{
    struct cursor at = {.base = base};
    view->header = place(&at, KNIT_PAGE, KNIT_PAGE);
    view->parked = place(&at, KNIT_LINE, KNIT_LINE);
    view->park = place(&at, KNIT_LINE * (uint64_t)lanes, KNIT_LINE);
    view->busy = place(&at, KNIT_LINE * (uint64_t)lanes, KNIT_LINE);
    view->mean_ns = place(&at, 4 * (uint64_t)KNIT_TASKS, KNIT_LINE);
    return pages(&at);
}

static uint64_t walk_pool(uint32_t lanes, uintptr_t base, struct knit_pool_view *view)
{
    struct cursor at = {.base = base};
    view->header = place(&at, KNIT_PAGE, KNIT_PAGE);
    view->lane_bell = place(&at, KNIT_LINE * (uint64_t)lanes, KNIT_LINE);
    view->note = place(&at, KNIT_LINE * (uint64_t)lanes, KNIT_LINE);
    view->mark = place(&at, KNIT_TASKS, KNIT_LINE);
    view->run =
        place(&at, sizeof(struct knit_run_row) * KNIT_RUN_ROWS * (uint64_t)lanes, KNIT_LINE);
    view->waited = place(&at, sizeof(struct knit_moments), KNIT_LINE);
    return pages(&at);
}

static uint64_t walk_rights(uint32_t tasks, uintptr_t base, struct knit_rights_view *view)
{
    struct cursor at = {.base = base};
    view->words = (tasks + 63) / 64 + 1;
    view->header = place(&at, KNIT_PAGE, KNIT_PAGE);
    view->member = place(&at, 8 * (uint64_t)KNIT_RIGHTS_PLACES, KNIT_LINE);
    view->weight = place(&at, 4 * (uint64_t)KNIT_RIGHTS_PLACES, KNIT_LINE);
    view->waiting = place(&at, sizeof(struct knit_tally), KNIT_LINE);
    view->long_calls = place(&at, sizeof(struct knit_tally), KNIT_LINE);
    view->bits = place(&at, 8 * (uint64_t)KNIT_RIGHTS_CLASSES * view->words, KNIT_LINE);
    return pages(&at);
}

uint64_t knit_layout_request_bytes(const struct knit_geometry *geometry)
{
    struct knit_request_view unused;
    return walk_request(geometry, 0, &unused);
}

uint64_t knit_layout_reply_bytes(const struct knit_geometry *geometry)
{
    struct knit_reply_view unused;
    return walk_reply(geometry, 0, &unused);
}

uint64_t knit_layout_board_bytes(uint32_t lanes)
{
    struct knit_board_view unused;
    return walk_board(lanes, 0, &unused);
}

uint64_t knit_layout_pool_bytes(uint32_t lanes)
{
    struct knit_pool_view unused;
    return walk_pool(lanes, 0, &unused);
}

uint64_t knit_layout_rights_bytes(uint32_t tasks)
{
    struct knit_rights_view unused;
    return walk_rights(tasks, 0, &unused);
}

void knit_layout_request(
    const struct knit_geometry *geometry, void *base, struct knit_request_view *ret)
{
    (void)walk_request(geometry, (uintptr_t)base, ret);
}

void knit_layout_reply(
    const struct knit_geometry *geometry, void *base, struct knit_reply_view *ret)
{
    (void)walk_reply(geometry, (uintptr_t)base, ret);
}

void knit_layout_board(uint32_t lanes, void *base, struct knit_board_view *ret)
{
    (void)walk_board(lanes, (uintptr_t)base, ret);
}

void knit_layout_pool(uint32_t lanes, void *base, struct knit_pool_view *ret)
{
    (void)walk_pool(lanes, (uintptr_t)base, ret);
}

void knit_layout_rights(uint32_t tasks, void *base, struct knit_rights_view *ret)
{
    (void)walk_rights(tasks, (uintptr_t)base, ret);
}
