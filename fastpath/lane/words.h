/* SPDX-License-Identifier: Apache-2.0 */
/* The packed words of the lane protocol: what their bits mean, and how they are compared.
 *
 * Generations and positions only rise and wrap around; all code compares them by signed distance,
 * never by order.
 *
 * Threads: pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"

#define KNIT_GEN_BITS  40
#define KNIT_GEN_MASK  ((1ull << KNIT_GEN_BITS) - 1)
#define KNIT_GEN_SHIFT (64 - KNIT_GEN_BITS) /* its place in ctrl, claim and word */

/* Signed distance a - b of two 40-bit generations; valid while they are less than 2^39 apart. */
static inline int64_t knit_gen_diff(uint64_t a, uint64_t b)
{
    return (int64_t)((a - b) << (64 - KNIT_GEN_BITS)) >> (64 - KNIT_GEN_BITS);
}

static inline uint64_t knit_gen_next(uint64_t gen)
{
    return (gen + 1) & KNIT_GEN_MASK;
}

/* The lap in which a position lies, in a ring of so many cells. That is a power of two, which the
 * compiler does not know: it would divide where this shifts. Laps count from 1, because memory
 * that was never written bears 0. */
static inline uint64_t knit_lap(uint64_t position, uint32_t cells)
{
    return (position >> __builtin_ctz(cells)) + 1;
}

/* The lap of a ring position, as the cell that is published there bears it. */
static inline uint32_t knit_tag(uint64_t position, uint32_t cells)
{
    return (uint32_t)knit_lap(position, cells) & 0x3ff;
}

/* Of the next lap. */
static inline uint32_t knit_tag_next(uint32_t tag)
{
    return (tag + 1) & 0x3ff;
}

/* ctrl of a request cell = gen40 | slot14 | tag10 */
static inline uint64_t knit_ctrl(uint64_t gen, uint32_t slot, uint32_t tag)
{
    return gen << 24 | (uint64_t)slot << 10 | tag;
}

static inline uint64_t knit_ctrl_gen(uint64_t ctrl)
{
    return ctrl >> 24;
}

static inline uint32_t knit_ctrl_slot(uint64_t ctrl)
{
    return (uint32_t)(ctrl >> 10) & 0x3fff;
}

static inline uint32_t knit_ctrl_tag(uint64_t ctrl)
{
    return (uint32_t)ctrl & 0x3ff;
}

/* Slot and tag at once: the tag as knit_ctrl_slot_of() takes it, ... */
static inline uint32_t knit_ctrl_tag_first(uint32_t tag)
{
    return tag << 22;
}

/* ... and the slot, if ctrl bears that tag; else a number above all slots. */
static inline uint32_t knit_ctrl_slot_of(uint64_t ctrl, uint32_t tag_first)
{
    const uint32_t low = (uint32_t)ctrl << 8; /* slot14 | tag10 | 0 */

    return (low << 14 | low >> 18) - tag_first;
}

static inline bool knit_ctrl_has_tag(uint64_t ctrl, uint32_t tag_first)
{
    return (uint32_t)ctrl << 22 == tag_first;
}

/* claim = gen40 | owner24 */
static inline uint64_t knit_claim(uint64_t gen, uint32_t owner)
{
    return gen << 24 | owner;
}

static inline uint64_t knit_claim_gen(uint64_t claim)
{
    return claim >> 24;
}

static inline uint32_t knit_claim_owner(uint64_t claim)
{
    return (uint32_t)claim & 0xffffff;
}

/* word of a reply cell = gen40 | status8 | flags16 */
static inline uint64_t knit_word(uint64_t gen, uint32_t status, uint32_t flags)
{
    return gen << 24 | (uint64_t)status << 16 | flags;
}

static inline uint64_t knit_word_gen(uint64_t word)
{
    return word >> 24;
}

static inline uint32_t knit_word_status(uint64_t word)
{
    return (uint32_t)(word >> 16) & 0xff;
}

static inline uint32_t knit_word_flags(uint64_t word)
{
    return (uint32_t)word & 0xffff;
}

/* abort = gen40, or gen40 | this bit. With the bit the call is refused if it has not started, and
 * one that runs goes on. */
#define KNIT_ABORT_IF_QUEUED (1ull << 63)

/* A worker that has claimed generation gen must not start it. */
static inline bool knit_abort_refuses(uint64_t abort, uint64_t gen)
{
    return (abort & ~KNIT_ABORT_IF_QUEUED) == gen;
}

/* The same for a look at the call's ctrl, in fewer steps: true also for some words that refuse
 * nothing, which no correct caller stores. */
static inline bool knit_abort_may_refuse(uint64_t abort, uint64_t ctrl)
{
    return abort << KNIT_GEN_SHIFT == (ctrl & ~(uint64_t)0 << KNIT_GEN_SHIFT);
}

/* status of a reply: the payload is the result's msgpack, or a compact error's
 * (proto/failure.h). */
enum { KNIT_STATUS_RESULT = 0, KNIT_STATUS_ERROR = 1 };

/* What knit_session_collect() makes of an answer whose numbers lie outside its arena; never written
 * to a cell. */
#define KNIT_STATUS_BROKEN 256u

/* flags of a request cell and of a reply word: the payload lies in an arena block. */
#define KNIT_CELL_IN_ARENA 1u

/* flags of a request cell: its deadline is the last moment to start at and nothing to the task. */
#define KNIT_CELL_START_BY 2u

/* The same: what the task prints comes with the outcome (proto/printed.h). */
#define KNIT_CELL_OUTPUT 8u

/* The same: somebody looks at the values that the task emits (emit.h). */
#define KNIT_CELL_PROGRESS 16u

/* The same: the last word of its body says when it was published, by the host's CLOCK_MONOTONIC. Of
 * a body that takes this word none is. */
#define KNIT_CELL_STAMPED  32u
#define KNIT_STAMPED_EVERY 64u /* calls, on average: so many a stamped one stands for */
#define KNIT_CELL_TRACED   64u /* the same: it is observed, as part of a trace or not (trace.h) */

/* What a caller asks for at its attachment and may then use. The lower eight bits are flags of its
 * request cells; a flag that was not granted evicts, as any that does not exist. */
#define KNIT_FEATURES                                                                              \
    (KNIT_CELL_START_BY | KNIT_CELL_OUTPUT | KNIT_CELL_PROGRESS | KNIT_CELL_STAMPED |              \
        KNIT_CELL_TRACED)

/* The rings of a lane. Calls of RING_NORMAL take the short way; of the others only those exist that
 * the geometry counts. */
enum knit_ring {
    KNIT_RING_NORMAL = 0,
    KNIT_RING_URGENT = 1,
    KNIT_RING_BACKGROUND = 2,
    KNIT_RING_PINNED = 3, /* for the lane's own worker alone, while it lives */
};

/* meta of a request cell = task16 | epoch8 | flags8 | len32; of a reply cell = lane16 | run16 |
 * len32 */
static inline uint64_t knit_meta(uint32_t task, uint32_t epoch, uint32_t flags, uint32_t len)
{
    return (uint64_t)task << 48 | (uint64_t)(epoch & 0xff) << 40 | (uint64_t)(flags & 0xff) << 32 |
           len;
}

static inline uint32_t knit_meta_task(uint64_t meta)
{
    return (uint32_t)(meta >> 48);
}

static inline uint32_t knit_meta_lane(uint64_t meta)
{
    return (uint32_t)(meta >> 48);
}

static inline uint32_t knit_meta_epoch(uint64_t meta)
{
    return (uint32_t)(meta >> 40) & 0xff;
}

static inline uint32_t knit_meta_flags(uint64_t meta)
{
    return (uint32_t)(meta >> 32) & 0xff;
}

static inline uint32_t knit_meta_len(uint64_t meta)
{
    return (uint32_t)meta;
}

/* run of a reply's meta = shift5 | number11: how long the call ran, at most a 1024th less;
 * 0 = that was not measured. */
#define KNIT_META_RUN_SHIFT 32u
#define KNIT_RUN_BITS       11u

static inline uint64_t knit_meta_of_run(uint64_t ns)
{
    const uint32_t bits = 64 - (uint32_t)__builtin_clzll(ns | 1);
    const uint32_t shift = bits > KNIT_RUN_BITS ? bits - KNIT_RUN_BITS : 0;

    if (shift > UINT16_MAX >> KNIT_RUN_BITS)
        return (uint64_t)UINT16_MAX << KNIT_META_RUN_SHIFT;
    return (shift << KNIT_RUN_BITS | ns >> shift | (ns == 0)) << KNIT_META_RUN_SHIFT;
}

static inline uint64_t knit_meta_run_ns(uint64_t meta)
{
    const uint32_t run = (uint32_t)(meta >> KNIT_META_RUN_SHIFT) & UINT16_MAX;

    return (uint64_t)(run & ((1u << KNIT_RUN_BITS) - 1)) << (run >> KNIT_RUN_BITS);
}

/* Board: park = epoch << 2 | one of these; only rises. */
enum { KNIT_PARK_VACANT = 0, KNIT_PARK_AWAKE = 1, KNIT_PARK_PARKED = 2 };

static inline uint32_t knit_park_state(uint32_t park)
{
    return park & 3;
}

static inline uint32_t knit_park_epoch(uint32_t park)
{
    return park >> 2;
}

/* The park word that follows `park`, in the given state. It wraps after 2^30 parks, which does no
 * harm: readers compare it for equality alone. */
static inline uint32_t knit_park_next(uint32_t park, uint32_t state)
{
    return ((park >> 2) + 1) << 2 | state;
}

/* Board: running = session id << 16 | slot + 1, 0 = no call runs. */
static inline uint64_t knit_running(uint64_t session, uint32_t slot)
{
    return session << 16 | (slot + 1);
}

static inline uint64_t knit_running_session(uint64_t running)
{
    return running >> 16;
}

static inline uint32_t knit_running_slot(uint64_t running)
{
    return (uint32_t)(running & 0xffff) - 1;
}

/* completion = slot14 | kind2 | lap16: a hint that a slot was answered. */
static inline uint32_t knit_completion(uint32_t slot, uint64_t position, uint32_t cells)
{
    return slot << 18 | ((uint32_t)knit_lap(position, cells) & 0xffff);
}

/* The same; lap: what this says of slot 0 in that lap. */
static inline uint32_t knit_completion_in_lap(uint32_t slot, uint32_t lap)
{
    return slot << 18 | lap;
}

static inline uint32_t knit_completion_slot(uint32_t completion)
{
    return completion >> 18;
}

/* By how many laps the entry found at a position is ahead of that position: 0 = it is the entry
 * of this position, below 0 = none was written there yet, above 0 = it was overwritten. */
static inline int knit_completion_lead(uint32_t completion, uint64_t position, uint32_t cells)
{
    return (int16_t)((completion & 0xffff) - (uint16_t)knit_lap(position, cells));
}
