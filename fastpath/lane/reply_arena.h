/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks in which one lane's worker answers one session: allocated here, read by the caller,
 * free again when the caller has released them.
 *
 * The bytes lie in shared memory; the allocator's metadata (arena.h) and the list of blocks in use
 * lie in the worker's private memory. A block is in use from knit_reply_arena_keep() until the
 * caller's `released` names its generation, or until its slot is claimed for a later call. The
 * worker is not notified of a release: it sweeps a few blocks with each allocation.
 *
 * All lanes of a session together have a budget of bytes that they may touch; a lane may always
 * touch as much as one largest outcome needs, so that no lane waits for another one's memory.
 *
 * Edges:
 *   R1 release  released acquire, with the session's release: the caller no longer reads the block
 *
 * Threads: the worker's. Nothing blocks; only _init() allocates.
 * Security: `released` is hostile. A caller that releases early gets its own results overwritten.
 */
#pragma once

#include <knitting/code.h>

#include "fastpath/lane/arena.h"
#include "fastpath/lane/layout.h"

struct knit_reply_arena {
    /* Borrowed from the worker's session. */
    const struct knit_geometry *geometry;
    const struct knit_request_view *request;
    const struct knit_reply_view *reply;
    uint32_t lane;
    struct knit_arena *arena;
    uint64_t limit_bytes;  /* this lane's part ends there for now */
    uint64_t budget_bytes; /* of all lanes; 0 = no limit */
    /* Blocks that the caller has not released yet, oldest first. */
    uint64_t *block;  /* [slots]; KNIT_NO_BLOCK = none */
    uint64_t *gen;    /* [slots] */
    uint32_t *next;   /* [slots], a list of those that have one */
    uint32_t *before; /* [slots] */
    uint32_t first, last;
    uint32_t sweep_at; /* where the next sweep begins; KNIT_NO_SLOT: at the first */
};

/* Geometry and views must outlive the arena. */
struct knit_reply_arena_options {
    const struct knit_geometry *geometry;
    const struct knit_request_view *request;
    const struct knit_reply_view *reply;
    uint32_t lane;
    uint64_t budget_bytes;
    uint64_t result_max_bytes; /* of one outcome */
};

/* Takes over the blocks that answered replies name and that are not released: those of the worker
 * that served the lane before. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_reply_arena_init(
    struct knit_reply_arena *arena, const struct knit_reply_arena_options *options);
void knit_reply_arena_fini(struct knit_reply_arena *arena); /* also zeroed or half built */

/* A block of len bytes, for which released ones are freed first. Returns 0 or KNIT_ARENA_E_FULL. */
KNIT_MUST_CHECK int knit_reply_arena_alloc(
    struct knit_reply_arena *arena, size_t len, uint64_t *ret_block);

/* The same for a deferred reply: looks at no more than `most` blocks, UINT32_MAX = all. */
KNIT_MUST_CHECK int knit_reply_arena_alloc_swept(
    struct knit_reply_arena *arena, size_t len, uint32_t most, uint64_t *ret_block);

/* An allocated block keeps its first len bytes. */
static inline void knit_reply_arena_shrink(
    struct knit_reply_arena *arena, uint64_t block, uint64_t len)
{
    knit_arena_shrink(arena->arena, block, len);
}

/* The block was allocated and will not be answered with. */
static inline void knit_reply_arena_return(struct knit_reply_arena *arena, uint64_t block)
{
    knit_arena_release(arena->arena, block);
}

/* The block holds the answer of the slot's call. */
void knit_reply_arena_keep(
    struct knit_reply_arena *arena, uint32_t slot, uint64_t gen, uint64_t block);

void knit_reply_arena_drop(struct knit_reply_arena *arena, uint32_t slot);

/* The slot's next call was claimed: its last block is released, whether the caller said so or
 * not. */
static inline void knit_reply_arena_forget(struct knit_reply_arena *arena, uint32_t slot)
{
    if (arena->block[slot] != KNIT_NO_BLOCK)
        knit_reply_arena_drop(arena, slot);
}

/* Where the lane's part of the reply segment begins. */
static inline unsigned char *knit_reply_arena_base(const struct knit_reply_arena *arena)
{
    return arena->reply->arena + arena->lane * arena->geometry->reply_arena_bytes;
}
