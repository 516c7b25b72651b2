/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of an arena: offsets into shared memory, allocated and released.
 *
 * The arena itself is never touched here: all metadata of the allocator lies in private memory, so
 * that a peer which overwrites the arena damages bytes but no metadata. The caller has one for its
 * request arena, a worker one for its part of each session's replies.
 *
 * Invariants: blocks never overlap; two free neighbours are always one; the topmost block is in
 *     use, what lies above it is one open end that the shared memory need not have pages for.
 *
 * Threads: one at a time. Nothing blocks; nothing but knit_arena_new() allocates.
 *
 * Limits: KNIT_ARENA_MAX bytes. Metadata is about 70 bytes for each block of blocks_max, touched
 *     only as needed.
 *
 * Source: Masmano, Ripoll, Crespo, Real: TLSF, a new dynamic memory allocator for real-time
 *     systems (ECRTS 2004).
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

enum {
    KNIT_ARENA_E_FULL = 1,  /* no free run of so many bytes, or too many blocks: try later */
    KNIT_ARENA_E_TAKEN = 2, /* adopt: overlaps a block, lies outside, is empty or not aligned */
};

struct knit_arena;

/* bytes       up to KNIT_ARENA_MAX, rounded down to KNIT_ARENA_ALIGN; 0 = always full
 *
 * blocks_max  how many blocks can be in use at once, below 2^31
 *
 * Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_arena_new(uint64_t bytes, uint32_t blocks_max, struct knit_arena **ret);
struct knit_arena *knit_arena_free(struct knit_arena *arena); /* NULL ok; returns NULL */

/* len: any, at least 1. Offsets are multiples of KNIT_ARENA_ALIGN. O(1). Returns 0 or E_FULL. */
KNIT_MUST_CHECK int knit_arena_alloc(struct knit_arena *arena, uint64_t len, uint64_t *ret_offset);

/* offset: of a block in use, which becomes free. O(1). */
void knit_arena_release(struct knit_arena *arena, uint64_t offset);

/* Free the end of a block in use: it keeps its first len bytes (1 to what it had). O(1). */
void knit_arena_shrink(struct knit_arena *arena, uint64_t offset, uint64_t len);

/* Marks a block as in use that was found in shared memory after a crash; any numbers may be passed.
 * O(1) when blocks are adopted in rising order, else O(blocks). Returns 0, E_TAKEN, or E_FULL when
 * blocks_max are in use. */
KNIT_MUST_CHECK int knit_arena_adopt(struct knit_arena *arena, uint64_t offset, uint64_t len);

/* From now on blocks end below max_bytes, except where memory was allocated before. */
void knit_arena_limit(struct knit_arena *arena, uint64_t max_bytes);

/* Memory up to there was allocated before, by a former user of this arena. */
void knit_arena_touch(struct knit_arena *arena, uint64_t bytes);

/* End of the highest block that was ever in use, in bytes. */
uint64_t knit_arena_touched(const struct knit_arena *arena);
