/* SPDX-License-Identifier: Apache-2.0 */
/* The walk over the READY calls of one ring, and the claim: what a worker does at home and when it
 * steals, what the host does when it refuses calls, and what the inspector reads.
 *
 * Everything in a request segment is hostile: ctrl is loaded once and taken apart, the cell is
 * copied before the claim and never read again, lengths and offsets are checked in the copy before
 * their use.
 *
 * Why the cell is copied before the claim: after it, a caller that has read its answer may use the
 * cell again. Until the claim word changes it may not, so a copy that is followed by the claim is
 * whole. Why reply.word is loaded before claim: in the other order, a call that another worker
 * claims and answers between the two loads would look like a generation that skipped
 * (tests/model/lane.pml, mutant CLAIM_BEFORE_REPLY), if a reply at g or beyond were not stepped
 * over as well. Either is enough.
 *
 * Invariant: `head` is at most KNIT_HEAD_LAG_MAX positions behind any claimed position. That bound
 * is what makes KNIT_CELLS_SPARE cells more than slots enough for a ring.
 *
 * Edges:
 *   P1 publish  ctrl acquire  with the session's ctrl release: body and argument
 *   A1 answer   word acquire  with the owner's word release: the slot's last call is over
 *   C1 claim    CAS seq_cst   with the CAS of other claimants, and as S1 against abort
 *   T1 head     CAS release   with the acquire of knit_cursor_catch_up() and _begin(): who starts
 *               there sees the claims before it
 *
 * Threads: a cursor belongs to one thread; any number of them walk one ring at once. Nothing
 * blocks, and loops are bounded by private numbers.
 */
#pragma once

#include "fastpath/lane/bell.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/layout.h"
#include "fastpath/lane/line.h"
#include "fastpath/lane/rings.h"

/* One ring of one session, and how far this thread has come in it. A line of its own, because a
 * worker's turn reads the cursor of every session. */
struct knit_cursor {
    _Alignas(KNIT_LINE) const struct knit_request_cell *ring; /* [cells] */
    const struct knit_reply_cell *reply;                      /* [slots] */
    _Atomic uint64_t *claim;                                  /* [slots] */
    _Atomic uint64_t *head;
    uint64_t q;    /* next position to read */
    uint64_t seen; /* `head` as last read or raised */
    uint32_t cells;
    uint16_t slots;
    uint16_t stood_q;  /* a READY call was seen there (low bits) ... */
    uint64_t stood_ns; /* ... first at this time; 0 = none */
};

static_assert(sizeof(struct knit_cursor) == KNIT_LINE, "one line a cursor");
static_assert(KNIT_SLOTS_MAX <= UINT16_MAX, "slots of a cursor");

/* What a cell says about the call at a position. */
enum knit_cell_state {
    KNIT_CELL_EMPTY,          /* nothing is published at that position */
    KNIT_CELL_CLAIMED,        /* or answered, or the slot is used again already */
    KNIT_CELL_READY,          /* published and not claimed */
    KNIT_CELL_BAD_SLOT,       /* names a slot that does not exist */
    KNIT_CELL_BAD_GENERATION, /* skips generations; or the cell was read while it changed */
};

/* The words of a call's cell before its body, and its claim word as it was found. */
struct knit_call_head {
    uint64_t ctrl, claim, deadline, meta;
    uint32_t slot; /* of ctrl, within the geometry */
};

/* A READY call, copied out of its cell, not yet claimed. */
struct knit_ready_call {
    struct knit_call_head head;
    uint64_t stamp_ns; /* when it was published, as its caller says; 0: it does not */
    uint64_t body[KNIT_CELL_WORDS];
};

static inline void knit_cursor_begin(struct knit_cursor *cursor,
    const struct knit_geometry *geometry, const struct knit_request_view *request,
    const struct knit_reply_view *reply, uint32_t lane, enum knit_ring ring)
{
    _Atomic uint64_t *head = &reply->head[lane].value[ring];
    /* T1, acquire. */
    const uint64_t q = atomic_load_explicit(head, memory_order_acquire);

    *cursor = (struct knit_cursor){.ring = knit_layout_ring(geometry, request, lane, ring),
        .reply = reply->reply,
        .claim = reply->claim,
        .head = head,
        .q = q,
        .seen = q,
        .cells = geometry->cells,
        .slots = (uint16_t)geometry->slots};
}

static inline const struct knit_request_cell *knit_cursor_cell(
    const struct knit_cursor *cursor, uint64_t q)
{
    return &cursor->ring[q & (cursor->cells - 1)];
}

static inline uint64_t knit_cursor_ctrl(const struct knit_cursor *cursor, uint64_t q)
{
    /* P1, acquire. */
    return atomic_load_explicit(&knit_cursor_cell(cursor, q)->ctrl, memory_order_acquire);
}

/* The cell bears the lap of this position. */
static inline bool knit_cursor_is_published(
    const struct knit_cursor *cursor, uint64_t q, uint64_t ctrl)
{
    return knit_ctrl_tag(ctrl) == knit_tag(q, cursor->cells);
}

/* Other threads may have claimed beyond this cursor. */
static inline void knit_cursor_catch_up(struct knit_cursor *cursor)
{
    /* T1, acquire. */
    uint64_t head = atomic_load_explicit(cursor->head, memory_order_acquire);

    if ((int64_t)(head - cursor->seen) > 0)
        cursor->seen = head;
    if ((int64_t)(head - cursor->q) > 0)
        cursor->q = head;
}

/* Whether a cell is published at the front of the ring, claimed or not. One or two loads. ret_cell,
 * ret_ctrl: that cell, and what it bears. */
static inline bool knit_cursor_peek_cell(
    struct knit_cursor *cursor, const struct knit_request_cell **ret_cell, uint64_t *ret_ctrl)
{
    const struct knit_request_cell *cell;

    knit_cursor_catch_up(cursor);
    cell = knit_cursor_cell(cursor, cursor->q);
    *ret_cell = cell;
    /* relaxed: it is loaded again before the call is read. */
    *ret_ctrl = atomic_load_explicit(&cell->ctrl, memory_order_relaxed);
    /* A longer body's second line is written before the first, so both travel at once. */
    knit_line_fetch(&cell->body[KNIT_HEAD_WORDS]);
    return knit_cursor_is_published(cursor, cursor->q, *ret_ctrl);
}

static inline bool knit_cursor_peek(struct knit_cursor *cursor)
{
    const struct knit_request_cell *cell;
    uint64_t ctrl;

    return knit_cursor_peek_cell(cursor, &cell, &ctrl);
}

/* Whether the cell at the cursor still bears what it bore when it was copied. */
static inline bool knit_cursor_is_unchanged(const struct knit_cursor *cursor, uint64_t ctrl)
{
    /* The copy's loads are relaxed: on weakly ordered processors only a fence keeps them before
     * this second load of ctrl. Cells that need it are rare, so its cost does not matter. */
    knit_bell_fence();
    return knit_cursor_ctrl(cursor, cursor->q) == ctrl;
}

/* Whether the call of that ctrl is READY, by the words of its slot. ret_claim, ret_word: as they
 * were loaded. A claim must replace that claim word. */
KNIT_ALWAYS_INLINE bool knit_cursor_is_ready(const struct knit_reply_cell *reply,
    const _Atomic uint64_t *claim, uint64_t ctrl, uint64_t *ret_claim, uint64_t *ret_word)
{
    /* Of all three words the upper 40 bits are the generation. */
    const uint64_t before = ctrl - ((uint64_t)1 << KNIT_GEN_SHIFT);

    /* A1, acquire, then C1, acquire: in this order, see the head of the file. */
    *ret_word = atomic_load_explicit(&reply->word, memory_order_acquire);
    *ret_claim = atomic_load_explicit(claim, memory_order_acquire);
    return ((*ret_claim ^ before) | (*ret_word ^ before)) >> KNIT_GEN_SHIFT == 0;
}

/* The state of the call that a published cell names; its slot is within the geometry. ret_claim: as
 * above. */
KNIT_ALWAYS_INLINE enum knit_cell_state knit_cursor_state(
    const struct knit_cursor *cursor, uint64_t ctrl, uint64_t *ret_claim)
{
    const uint32_t slot = knit_ctrl_slot(ctrl);
    const uint64_t gen = knit_ctrl_gen(ctrl);
    uint64_t word;

    if (__builtin_expect(knit_cursor_is_ready(
                             &cursor->reply[slot], &cursor->claim[slot], ctrl, ret_claim, &word),
            1))
        return KNIT_CELL_READY;
    if (knit_gen_diff(knit_claim_gen(*ret_claim), gen) >= 0 ||
        knit_gen_diff(knit_word_gen(word), gen) >= 0)
        return KNIT_CELL_CLAIMED;
    return KNIT_CELL_BAD_GENERATION;
}

/* The state of the call at the cursor, in `cell`. Fills in ctrl and, where a slot is named that
 * exists, the claim. */
KNIT_ALWAYS_INLINE enum knit_cell_state knit_cursor_look(const struct knit_cursor *cursor,
    const struct knit_request_cell *cell, struct knit_call_head *ret_head)
{
    /* P1, acquire. */
    const uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_acquire);

    ret_head->ctrl = ctrl;
    if (!knit_cursor_is_published(cursor, cursor->q, ctrl))
        return KNIT_CELL_EMPTY;
    ret_head->slot = knit_ctrl_slot(ctrl);
    if (ret_head->slot >= cursor->slots)
        return KNIT_CELL_BAD_SLOT;
    return knit_cursor_state(cursor, ctrl, &ret_head->claim);
}

/* The rest of a READY call's head. */
KNIT_ALWAYS_INLINE void knit_cursor_copy_head(
    const struct knit_request_cell *cell, struct knit_call_head *ret_head)
{
    /* relaxed: P1 made these visible; the claim decides whether they still belong to ctrl. */
    ret_head->deadline = atomic_load_explicit(&cell->deadline, memory_order_relaxed);
    ret_head->meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
}

/* An argument of len bytes in the cell. There is room for KNIT_CELL_WORDS. */
KNIT_ALWAYS_INLINE void knit_cursor_copy_argument(
    const struct knit_request_cell *cell, uint32_t len, uint64_t *ret_body)
{
    /* relaxed, as above. */
    knit_cell_load(ret_body, cell->body, len);
}

/* Steps over claimed calls and stops at the first cell in another state: EMPTY, READY with
 * *ret_call filled, or one of the BAD ones. *steps: how many positions may still be read, counted
 * down, because a caller could publish faster than this walks; at 0 the answer is EMPTY. */
static inline enum knit_cell_state knit_cursor_find(
    struct knit_cursor *cursor, uint32_t *steps, struct knit_ready_call *ret_call)
{
    for (; *steps > 0; cursor->q++, --*steps) {
        const struct knit_request_cell *cell = knit_cursor_cell(cursor, cursor->q);
        enum knit_cell_state state = knit_cursor_look(cursor, cell, &ret_call->head);

        if (state == KNIT_CELL_READY) {
            uint32_t len;
            bool is_in_arena;

            knit_cursor_copy_head(cell, &ret_call->head);
            len = knit_meta_len(ret_call->head.meta);
            is_in_arena = (knit_meta_flags(ret_call->head.meta) & KNIT_CELL_IN_ARENA) != 0;
            knit_cursor_copy_argument(
                cell, len > KNIT_INLINE_MAX || is_in_arena ? 8 : len, ret_call->body);
            ret_call->stamp_ns = knit_cell_stamp(cell, ret_call->head.meta);
        }
        if (state != KNIT_CELL_CLAIMED)
            return state;
    }
    return KNIT_CELL_EMPTY;
}

/* Raises `head` to this cursor's position. It follows what was passed and not what this thread
 * claimed: claims of slow and of dead workers lie between. */
static inline void knit_cursor_raise_head(struct knit_cursor *cursor)
{
    uint64_t now = atomic_load_explicit(cursor->head, memory_order_relaxed);

    /* T1, release. Raised and never stored: a thief that slept must not put it back. */
    while ((int64_t)(cursor->q - now) > 0 &&
           !atomic_compare_exchange_weak_explicit(
               cursor->head, &now, cursor->q, memory_order_release, memory_order_relaxed))
        ;
    cursor->seen = cursor->q;
}

/* How many calls may be claimed before `head` must be raised. */
static inline uint32_t knit_cursor_lag_left(const struct knit_cursor *cursor)
{
    const uint64_t lag = cursor->q - cursor->seen;

    return lag < KNIT_HEAD_LAG_MAX ? (uint32_t)(KNIT_HEAD_LAG_MAX - lag) : 0;
}

/* READY -> CLAIMED, by the claim word of the call's slot. False: another owner was first. */
KNIT_ALWAYS_INLINE bool knit_cursor_claim_word(
    _Atomic uint64_t *word, const struct knit_call_head *head, uint32_t owner)
{
    uint64_t claim = head->claim;

    /* C1 claim, seq_cst. */
    return atomic_compare_exchange_strong_explicit(word, &claim,
        knit_claim(knit_ctrl_gen(head->ctrl), owner), memory_order_seq_cst, memory_order_relaxed);
}

/* The same of the call that was found at the cursor, which then stands behind it. */
KNIT_ALWAYS_INLINE bool knit_cursor_claim(
    struct knit_cursor *cursor, const struct knit_call_head *head, uint32_t owner)
{
    if (knit_cursor_lag_left(cursor) == 0)
        knit_cursor_raise_head(cursor);
    if (!knit_cursor_claim_word(&cursor->claim[head->slot], head, owner))
        return false;
    cursor->q++;
    return true;
}
