/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a call, inline: a slot is taken, its cell published, its answer read, the slot free.
 *
 * session_publish.c and session_collect.c are made of them. knit_session_try_publish() and
 * knit_session_try_collect() put them together for the usual call, in the code of callers whose
 * every instruction counts. They do all of it or nothing (but for the balancer, whose turn goes
 * on); false means that something is unusual, and the function of session.h for the same step does
 * it or says what is wrong. So there is one protocol and two ways through it that end alike.
 *
 * Edges: P1, W1 and A1, as in those files. Threads: as the session: one at a time. */
#pragma once

#include "fastpath/lane/board.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/session_private.h"

/* ---- slots ----------------------------------------------------------------------------------- */

/* The slot is free, and the next one to be taken of those that this lane answered: its reply cell
 * is in the cache of both sides. */
KNIT_ALWAYS_INLINE void knit_session_push_free(
    struct knit_session *session, uint32_t index, uint32_t lane_index)
{
    struct knit_session_lane *lane = &session->lanes[lane_index];
    struct knit_session_slot *slot = &session->slots[index];

    slot->state = KNIT_SLOT_FREE;
    slot->next = lane->free_head;
    lane->free_head = index;
    session->free++;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Before ctrl is stored: who sees that the call is READY sees that the lane is occupied. */
KNIT_ALWAYS_INLINE void knit_session_occupy_lane(const struct knit_session_lane *lane)
{
    /* relaxed: this session alone writes the word; P1 and W1 lie behind. */
    atomic_store_explicit(lane->occupied,
        atomic_load_explicit(lane->occupied, memory_order_relaxed) | lane->bit,
        memory_order_relaxed);
}

/* The lane is published to for the first time since the last flush. */
KNIT_ALWAYS_INLINE void knit_session_enter_lane(
    struct knit_session *session, struct knit_session_lane *lane)
{
    lane->is_dirty = true;
    session->dirty++;
    session->dirty_lane = lane->index;
    knit_session_occupy_lane(lane);
}

/* The last answer to what was published to the lane is taken: it is not occupied any more, unless
 * another call may follow before the flush. */
KNIT_ALWAYS_INLINE void knit_session_leave_lane(struct knit_session *session, uint32_t index)
{
    const struct knit_session_lane *lane = &session->lanes[index];

    if (!lane->is_dirty)
        /* relaxed: who sees it late looks in vain. */
        atomic_store_explicit(lane->occupied,
            atomic_load_explicit(lane->occupied, memory_order_relaxed) & ~lane->bit,
            memory_order_relaxed);
}

/* ---- publish --------------------------------------------------------------------------------- */

/* What is known of a call that is put. */
enum knit_put {
    KNIT_PUT_WITH_DEPTH = 1, /* the session has a depth */
    KNIT_PUT_WITH_HEAD = 2,  /* `head` is what knit_meta() makes of the call, without a length */
    KNIT_PUT_PADDED = 4,     /* the argument lies in whole words, with zeros behind its end */
    KNIT_PUT_FLUSHED = 8,    /* the lane is not dirty, and need not become so */
    KNIT_PUT_IN_CLASS = 16,  /* the call's ring is another one than NORMAL */
};

/* FREE -> READY. `block` holds the argument, or is KNIT_NO_BLOCK or KNIT_IN_SLAB. The session has a
 * free slot. known: bits of enum knit_put, a constant. */
KNIT_ALWAYS_INLINE uint32_t knit_session_put(struct knit_session *session,
    struct knit_session_lane *lane, const struct knit_session_call *call, uint64_t head,
    uint64_t block, unsigned known)
{
    struct knit_session_ring *const ring =
        (known & KNIT_PUT_IN_CLASS) != 0 ? knit_session_other_ring(session, lane->index, call->ring)
                                         : &lane->normal;
    struct knit_request_cell *cell = ring->cell;
    struct knit_session_lane *owner;
    struct knit_session_slot *slot;
    uint32_t flags = call->flags, index;
    uint64_t gen24;

    knit_line_own_cell(cell + KNIT_OWN_AHEAD, call->len > KNIT_HEAD_WORDS * 8);
    /* relaxed: P1 publishes these stores. */
    if (block == KNIT_NO_BLOCK) {
        if ((known & KNIT_PUT_PADDED) != 0)
            knit_cell_store_words(cell->body, call->payload, call->len);
        else
            knit_cell_store(cell->body, call->payload, call->len);
    } else if (block != KNIT_IN_SLAB) {
        flags |= KNIT_CELL_IN_ARENA;
        atomic_store_explicit(&cell->body[0], block, memory_order_relaxed);
    }
    atomic_store_explicit(&cell->deadline, call->deadline_ns, memory_order_relaxed);
    if ((known & KNIT_PUT_WITH_HEAD) == 0)
        head = knit_meta(call->task, call->epoch, flags, 0);
    if (__builtin_expect(--session->until_stamp == 0, 0))
        head |= knit_session_stamp(session, cell, block == KNIT_NO_BLOCK ? call->len : 1);
    atomic_store_explicit(&cell->meta, head | (uint32_t)call->len, memory_order_relaxed);

    owner = knit_session_free_in(session, lane);
    index = owner->free_head;
    slot = &session->slots[index];
    owner->free_head = slot->next;
    session->free--;
    /* The next generation; it wraps by itself. */
    gen24 = slot->gen24 + (1ull << KNIT_GEN_SHIFT);
    slot->gen24 = gen24;
    slot->user = call->user;
    slot->block = block != KNIT_IN_SLAB ? block : KNIT_NO_BLOCK;
    slot->lane = lane->index;
    slot->state = KNIT_SLOT_IN_FLIGHT;
    if ((known & KNIT_PUT_FLUSHED) != 0)
        knit_session_occupy_lane(lane);
    else if (!lane->is_dirty)
        knit_session_enter_lane(session, lane);
    /* P1 publish, release: a worker that sees this ctrl sees the body and the argument's bytes. */
    atomic_store_explicit(
        &cell->ctrl, gen24 | knit_ctrl(0, index, ring->tag), memory_order_release);

    if (__builtin_expect(++cell == ring->end, 0)) {
        cell = ring->begin;
        ring->tag = knit_tag_next(ring->tag);
    }
    ring->cell = cell;
    lane->last_slot = index;
    session->queued[lane->index]++;
    if ((known & KNIT_PUT_WITH_DEPTH) != 0) {
        slot->work_ns = session->next_ns;
        session->work_ns[lane->index] += session->next_ns;
    }
    return index;
}

/* The lane of a call that may go to any, where that is the only lane, or the one that answered last
 * and is preferred; else NULL. */
KNIT_ALWAYS_INLINE struct knit_session_lane *knit_session_warm_lane(
    const struct knit_session *session)
{
    if (session->only_lane != NULL)
        return session->only_lane;
    if (knit_balance_is_warm(&session->balance, session->queued))
        return &session->lanes[session->balance.warm];
    return NULL;
}

/* The lane that a call goes to. */
KNIT_ALWAYS_INLINE struct knit_session_lane *knit_session_choose_lane(
    struct knit_session *session, const struct knit_session_call *call)
{
    struct knit_session_lane *lane;

    if (call->lane != KNIT_LANE_ANY)
        return &session->lanes[call->lane < session->geometry.lanes
                                   ? call->lane
                                   : call->lane % session->geometry.lanes];
    lane = knit_session_warm_lane(session);
    if (lane == NULL)
        lane = session->lanes +
               knit_balance_pick_other(&session->balance, call->task, session->queued);
    return lane;
}

/* Whether the session takes a call that fits a cell. */
KNIT_ALWAYS_INLINE bool knit_session_takes_small(
    const struct knit_session *session, const struct knit_session_call *call)
{
    return call->len <= KNIT_INLINE_MAX && session->free != 0 &&
           knit_state_is_open(&session->reply);
}

/* knit_session_publish() for a call that fits a cell, to a lane that has room for it; in a session
 * with a depth one that is known to be short. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_try_publish(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    const bool has_depth = session->work_ns != NULL;
    struct knit_session_lane *lane;

    if (call->ring != KNIT_RING_NORMAL || !knit_session_takes_small(session, call))
        return false;
    if (has_depth) {
        const uint32_t mean_ns = knit_board_mean_ns(&session->board, call->task);

        if (__builtin_expect(mean_ns - 1 >= KNIT_SESSION_SHORT_NS, 0))
            return false;
        session->next_ns = knit_session_estimate_of(session, mean_ns);
    }
    lane = knit_session_choose_lane(session, call);
    if (has_depth && session->work_ns[lane->index] + session->next_ns > session->options.depth_ns)
        return false;
    *ret_slot = knit_session_put(
        session, lane, call, 0, KNIT_NO_BLOCK, has_depth ? KNIT_PUT_WITH_DEPTH : 0);
    return true;
}

/* The same in a session without a depth, of a call of the ring NORMAL, where any lane is chosen
 * without a look at the others. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_try_publish_warm(struct knit_session *session,
    const struct knit_session_call *call, uint64_t head, uint32_t *ret_slot)
{
    struct knit_session_lane *lane = knit_session_warm_lane(session);

    if (lane == NULL || session->work_ns != NULL || !knit_session_takes_small(session, call))
        return false;
    *ret_slot = knit_session_put(session, lane, call, head, KNIT_NO_BLOCK, KNIT_PUT_WITH_HEAD);
    return true;
}

/* ---- collect --------------------------------------------------------------------------------- */

/* The slot's call is answered by that lane, and does not count as queued any more. */
KNIT_ALWAYS_INLINE void knit_session_note_answer(
    struct knit_session *session, const struct knit_session_slot *slot, uint32_t lane)
{
    if (--session->queued[slot->lane] == 0)
        knit_session_leave_lane(session, slot->lane);
    if (session->work_ns != NULL)
        session->work_ns[slot->lane] -= slot->work_ns;
    session->balance.warm = lane;
}

/* ANSWERED -> FREE for a result that lies in its cell, of a call whose argument lay in its cell as
 * well and whose outcome is wanted; else false, and nothing happened. The result goes to `body`,
 * where KNIT_CELL_WORDS words may be written. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_take_result(
    struct knit_session *session, uint32_t index, void *body, size_t *ret_len, uint32_t *ret_lane)
{
    struct knit_session_slot *slot = &session->slots[index];
    struct knit_reply_cell *cell = &session->reply.reply[index];
    /* A1, acquire: the outcome's bytes. */
    const uint64_t word = atomic_load_explicit(&cell->word, memory_order_acquire);
    uint64_t meta;
    uint32_t lane, len;

    if (word != (slot->gen24 | knit_word(0, KNIT_STATUS_RESULT, 0)) ||
        slot->state != KNIT_SLOT_IN_FLIGHT || slot->block != KNIT_NO_BLOCK)
        return false;
    /* relaxed: A1 made it visible. */
    meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    lane = knit_meta_lane(meta);
    len = knit_meta_len(meta);
    if (len > KNIT_INLINE_MAX || lane >= session->geometry.lanes)
        return false;
    knit_cell_load(body, cell->body, len);
    knit_session_note_answer(session, slot, lane);
    knit_session_push_free(session, index, lane);
    *ret_len = len;
    *ret_lane = lane;
    return true;
}

/* The slot that the lane's next completion names, which the caller passes over by adding 1 to
 * lane->completion_next once it has taken the slot's result. Below 0: there is none; above 0:
 * knit_session_collect() must see to it. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE int knit_session_next_slot(
    const struct knit_session *session, const struct knit_session_lane *lane, uint32_t *ret_slot)
{
    const uint64_t next = lane->completion_next;
    const uint32_t cells = session->geometry.cells;
    /* N1, acquire: the reply word that the entry is about. */
    const uint32_t entry =
        atomic_load_explicit(&lane->completion_ring[next & (cells - 1)], memory_order_acquire);
    const int lead = knit_completion_lead(entry, next, cells);

    *ret_slot = knit_completion_slot(entry);
    return lead == 0 && *ret_slot >= session->geometry.slots ? 1 : lead;
}

/* Whether there may be answers that no completion names: knit_session_collect() looks for them. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_must_scan(const struct knit_session *session)
{
    /* acquire: as in note_rescan(), which looks again. */
    return session->scan_from != KNIT_NO_SLOT || atomic_load_explicit(&session->reply.state->rescan,
                                                     memory_order_acquire) != session->rescan;
}

/* knit_session_collect_slot() for such a call. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_try_collect(
    struct knit_session *session, uint32_t index, uint64_t *body, size_t *ret_len)
{
    uint32_t lane;

    if (session->unread_left == 0 ||
        !knit_session_take_result(session, index, body, ret_len, &lane))
        return false;
    session->unread_left--;
    return true;
}
