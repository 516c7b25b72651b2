/* SPDX-License-Identifier: Apache-2.0 */
/* A sweep continues where the last one ended: so a block that is held for long delays no other one,
 * and many held blocks cost each call no more than a few looks.
 *
 * The arena grows by what is asked for and not by all that is left of the budget, because a lane
 * sees what the others use only after they have used it.
 */
#include "fastpath/lane/reply_arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_CALL 8u /* blocks looked at for each one that is allocated, */
#define SWEEP_HELD 2u /* while so many of them are not released */

/* ---- blocks in use ---- */

void knit_reply_arena_drop(struct knit_reply_arena *arena, uint32_t slot)
{
    const uint32_t next = arena->next[slot], before = arena->before[slot];

    knit_arena_release(arena->arena, arena->block[slot]);
    arena->block[slot] = KNIT_NO_BLOCK;
    if (before == KNIT_NO_SLOT)
        arena->first = next;
    else
        arena->next[before] = next;
    if (next == KNIT_NO_SLOT)
        arena->last = before;
    else
        arena->before[next] = before;
    if (arena->sweep_at == slot)
        arena->sweep_at = next;
}

void knit_reply_arena_keep(
    struct knit_reply_arena *arena, uint32_t slot, uint64_t gen, uint64_t block)
{
    arena->block[slot] = block;
    arena->gen[slot] = gen;
    arena->next[slot] = KNIT_NO_SLOT;
    arena->before[slot] = arena->last;
    if (arena->last == KNIT_NO_SLOT)
        arena->first = slot;
    else
        arena->next[arena->last] = slot;
    arena->last = slot;
}

/* The caller has released the slot's block. `released` says so, and so does a later call of the
 * slot: that one may have gone to another lane and raised `released` beyond this block's
 * generation. */
static bool is_released(const struct knit_reply_arena *arena, uint32_t slot)
{
    /* R1, acquire. */
    uint64_t released = atomic_load_explicit(&arena->request->released[slot], memory_order_acquire);
    uint64_t claim;

    if (released == arena->gen[slot])
        return true;
    /* acquire: the claimer of that call saw it published (P1), which was after the release. */
    claim = atomic_load_explicit(&arena->reply->claim[slot], memory_order_acquire);
    return knit_claim_gen(claim) != arena->gen[slot];
}

/* Frees the released ones of up to `most` blocks, and ends at so many that are held. */
static void sweep(struct knit_reply_arena *arena, uint32_t most, uint32_t held)
{
    uint32_t slot;

    if (most == UINT32_MAX)
        arena->sweep_at = KNIT_NO_SLOT;
    slot = arena->sweep_at != KNIT_NO_SLOT ? arena->sweep_at : arena->first;
    for (uint32_t i = 0; i < most && held > 0 && slot != KNIT_NO_SLOT; i++) {
        uint32_t next = arena->next[slot];

        if (is_released(arena, slot))
            knit_reply_arena_drop(arena, slot);
        else
            held--;
        slot = next;
    }
    arena->sweep_at = slot;
}

/* ---- allocating ---- */

static void set_limit(struct knit_reply_arena *arena, uint64_t bytes)
{
    arena->limit_bytes = bytes;
    knit_arena_limit(arena->arena, bytes);
}

/* True: there are some more bytes than before. */
static bool raise_limit(struct knit_reply_arena *arena, size_t len)
{
    const uint64_t all = arena->geometry->reply_arena_bytes;
    const uint64_t wanted = knit_arena_touched(arena->arena) + len + KNIT_ARENA_ALIGN;
    uint64_t others = 0, limit;

    if (arena->limit_bytes >= all)
        return false;
    for (uint32_t i = 0; i < arena->geometry->lanes; i++) {
        /* relaxed: a count. Two lanes that grow at once may pass the budget by what they grow. */
        if (i != arena->lane)
            others += atomic_load_explicit(&arena->reply->lane[i].touched, memory_order_relaxed);
    }
    limit = arena->budget_bytes > others ? arena->budget_bytes - others : 0;
    if (limit > all)
        limit = all;
    if (limit > wanted)
        limit = wanted;
    if (limit <= arena->limit_bytes)
        return false;
    set_limit(arena, limit);
    return true;
}

static int try_alloc(struct knit_reply_arena *arena, size_t len, uint64_t *ret_block)
{
    if (knit_arena_alloc(arena->arena, len, ret_block) != 0)
        return KNIT_ARENA_E_FULL;
    /* relaxed: a count. */
    atomic_store_explicit(&arena->reply->lane[arena->lane].touched,
        knit_arena_touched(arena->arena), memory_order_relaxed);
    return 0;
}

int knit_reply_arena_alloc_swept(
    struct knit_reply_arena *arena, size_t len, uint32_t most, uint64_t *ret_block)
{
    sweep(arena, most, most);
    if (try_alloc(arena, len, ret_block) == 0)
        return 0;
    return raise_limit(arena, len) ? try_alloc(arena, len, ret_block) : KNIT_ARENA_E_FULL;
}

int knit_reply_arena_alloc(struct knit_reply_arena *arena, size_t len, uint64_t *ret_block)
{
    sweep(arena, SWEEP_CALL, SWEEP_HELD);
    if (try_alloc(arena, len, ret_block) == 0)
        return 0;
    return knit_reply_arena_alloc_swept(arena, len, UINT32_MAX, ret_block);
}

/* ---- taking over ---- */

/* A block of the worker that served the lane before. */
struct live {
    uint64_t offset, len, gen;
    uint32_t slot;
};

static int by_offset(const void *a, const void *b)
{
    const struct live *left = a, *right = b;

    return (left->offset > right->offset) - (left->offset < right->offset);
}

/* Whether the slot's reply names a block of this lane that is not released. */
static bool read_live(const struct knit_reply_arena *arena, uint32_t slot, struct live *ret_live)
{
    const struct knit_reply_cell *cell = &arena->reply->reply[slot];
    const uint64_t word = atomic_load_explicit(&cell->word, memory_order_acquire);
    const uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_acquire);
    const uint64_t released =
        atomic_load_explicit(&arena->request->released[slot], memory_order_acquire);
    uint64_t block, claim;

    if ((knit_word_flags(word) & KNIT_CELL_IN_ARENA) == 0 || released == knit_word_gen(word) ||
        knit_meta_lane(meta) != arena->lane)
        return false;
    block = atomic_load_explicit(&cell->block, memory_order_acquire);
    /* The caller may have released the block since, and another lane have answered the slot's next
     * call: then `block` is that lane's. relaxed: the acquire loads above order it behind them. */
    claim = atomic_load_explicit(&arena->reply->claim[slot], memory_order_relaxed);
    if (knit_claim_gen(claim) != knit_word_gen(word))
        return false;
    /* A result may begin inside its block: the block reaches from the boundary before it to its
     * end. */
    *ret_live = (struct live){.offset = block / KNIT_ARENA_ALIGN * KNIT_ARENA_ALIGN,
        .len = knit_meta_len(meta) + block % KNIT_ARENA_ALIGN,
        .gen = knit_word_gen(word),
        .slot = slot};
    return true;
}

/* What a dead worker had allocated and not answered with is free. */
static int take_over(struct knit_reply_arena *arena)
{
    const uint32_t slots = arena->geometry->slots;
    struct live *live = calloc(slots, sizeof(*live));
    size_t count = 0;

    if (live == NULL)
        return -ENOMEM;
    for (uint32_t slot = 0; slot < slots; slot++)
        count += read_live(arena, slot, &live[count]);
    qsort(live, count, sizeof(*live), by_offset);
    for (size_t i = 0; i < count; i++) {
        uint64_t next = i + 1 < count ? live[i + 1].offset : arena->geometry->reply_arena_bytes;

        if (live[i].len > next - live[i].offset)
            live[i].len = next - live[i].offset;
        /* Impossible numbers, which a task may have written over a reply, name no block. */
        if (knit_arena_adopt(arena->arena, live[i].offset, live[i].len) == 0)
            knit_reply_arena_keep(arena, live[i].slot, live[i].gen, live[i].offset);
    }
    free(live);
    return 0;
}

/* ---- life ---- */

void knit_reply_arena_fini(struct knit_reply_arena *arena)
{
    (void)knit_arena_free(arena->arena);
    free(arena->block);
    free(arena->gen);
    free(arena->next);
    free(arena->before);
    *arena = (struct knit_reply_arena){0};
}

int knit_reply_arena_init(
    struct knit_reply_arena *arena, const struct knit_reply_arena_options *options)
{
    const uint32_t slots = options->geometry->slots;
    const uint64_t all = options->geometry->reply_arena_bytes;
    const uint64_t least = options->result_max_bytes + KNIT_PAGE;

    *arena = (struct knit_reply_arena){.geometry = options->geometry,
        .request = options->request,
        .reply = options->reply,
        .lane = options->lane,
        .limit_bytes = all,
        .budget_bytes = options->budget_bytes,
        .block = calloc(slots, sizeof(*arena->block)),
        .gen = calloc(slots, sizeof(*arena->gen)),
        .next = calloc(slots, sizeof(*arena->next)),
        .before = calloc(slots, sizeof(*arena->before)),
        .first = KNIT_NO_SLOT,
        .last = KNIT_NO_SLOT,
        .sweep_at = KNIT_NO_SLOT};
    /* Two blocks more than slots: a room while it is filled, a deferred reply. */
    if (arena->block == NULL || arena->gen == NULL || arena->next == NULL ||
        arena->before == NULL || knit_arena_new(all, slots + 2, &arena->arena) != 0) {
        knit_reply_arena_fini(arena);
        return -ENOMEM;
    }
    memset(arena->block, 0xff, slots * sizeof(*arena->block)); /* KNIT_NO_BLOCK */
    if (options->budget_bytes != 0 && least < all)
        set_limit(arena, least);
    /* The pages that the lane touched before are there. relaxed: their worker is dead. */
    knit_arena_touch(arena->arena,
        atomic_load_explicit(&options->reply->lane[options->lane].touched, memory_order_relaxed));
    if (take_over(arena) != 0) {
        knit_reply_arena_fini(arena);
        return -ENOMEM;
    }
    return 0;
}
