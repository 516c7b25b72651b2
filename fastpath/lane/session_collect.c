/* SPDX-License-Identifier: Apache-2.0 */
/* Collecting outcomes: ANSWERED -> FREE, or held until released.
 *
 * Completions and `rescan` only say where to look. What is lost there costs a look at all slots,
 * never an outcome.
 *
 * Edges:
 *   A1 answer      word acquire        with the owner's word release: the outcome's bytes
 *   N1 completion  completion acquire  with the worker's completion release: the word it names is
 *                  visible
 *   R1 release     released release    with the worker's acquire: the session's reads of the block
 *                  came before
 *   W1 release     fence between `released` and the load of blocked_on_arena; with the worker's
 *                  fence between blocked_on_arena and its look at `released` (lane_reply.c), and
 *                  with the one behind its park (lane_park.c)
 */
#include <assert.h>

#include "fastpath/lane/session_inline.h"

static __attribute__((noinline)) void release_argument(
    struct knit_session *session, struct knit_session_slot *slot)
{
    knit_arena_release(session->arena, slot->block);
    slot->block = KNIT_NO_BLOCK;
}

static void release_block(struct knit_session *session, uint32_t index, uint32_t lane)
{
    /* R1, release: the reads of the block come before the worker uses it again. */
    atomic_store_explicit(
        &session->request.released[index], knit_session_gen(session, index), memory_order_release);
    /* W1: `released` is stored before blocked_on_arena and park are loaded. */
    knit_bell_fence();
    /* relaxed: ordered by the fence. */
    if (atomic_load_explicit(&session->reply.lane[lane].blocked_on_arena, memory_order_relaxed) !=
        0)
        (void)knit_session_wake_lane(session, lane);
}

/* An answer that does not lie in its cell: in its slot's slab, in a block, or nowhere. Not inlined,
 * because the frame would cost small results. */
static __attribute__((noinline)) void read_place(
    struct knit_session *session, uint32_t index, uint32_t flags, struct knit_session_outcome *ret)
{
    const uint64_t arena = session->geometry.reply_arena_bytes;
    struct knit_session_slot *slot = &session->slots[index];
    uint64_t block;

    ret->held = true;
    slot->has_block = (flags & KNIT_CELL_IN_ARENA) != 0;
    if (ret->lane >= session->geometry.lanes)
        goto broken;
    if (!slot->has_block) {
        if (ret->len > KNIT_SLAB_BYTES)
            goto broken;
        ret->payload = knit_slab(session->reply.slab, index);
        return;
    }
    /* relaxed: A1 made it visible. */
    block = atomic_load_explicit(&session->reply.reply[index].block, memory_order_relaxed);
    if (block > arena || ret->len > arena - block)
        goto broken;
    ret->payload = session->reply.arena + ret->lane * arena + block;
    return;
broken:
    ret->status = KNIT_STATUS_BROKEN;
    ret->lane = 0;
    ret->len = 0;
    ret->payload = ret->body;
    ret->held = false;
}

/* Reads status, place and length of the answer; every number is loaded once and checked before it
 * is used. */
static void read_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    struct knit_reply_cell *cell = &session->reply.reply[index];
    /* relaxed: A1 made these visible. */
    const uint64_t word = atomic_load_explicit(&cell->word, memory_order_relaxed);
    const uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    const uint32_t lane = knit_meta_lane(meta), len = knit_meta_len(meta);
    const uint32_t flags = knit_word_flags(word);

    ret->status = knit_word_status(word);
    ret->lane = lane;
    ret->len = len;
    if ((flags & KNIT_CELL_IN_ARENA) != 0 || len > KNIT_INLINE_MAX ||
        lane >= session->geometry.lanes) {
        read_place(session, index, flags, ret);
        return;
    }
    ret->payload = ret->body;
    ret->held = false;
    knit_cell_load(ret->body, cell->body, len);
}

/* The answer of a settled call, whose outcome was given before. True: report_settled wants an
 * outcome for the freed slot. */
static __attribute__((cold, noinline)) bool drop_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *outcome)
{
    struct knit_session_slot *slot = &session->slots[index];
    session->zombies--;
    if (outcome->held && slot->has_block)
        release_block(session, index, outcome->lane);
    knit_session_push_free(session, index, outcome->lane);
    if (slot->block != KNIT_NO_BLOCK)
        release_argument(session, slot);
    outcome->held = false;
    return session->options.report_settled;
}

/* ANSWERED -> FREE, or -> held until released. False: the answer was dropped and gives no
 * outcome. Not inlined, because the frame would cost small results. */
static __attribute__((noinline)) bool take_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    struct knit_session_slot *slot = &session->slots[index];
    read_answer(session, index, ret);
    knit_session_note_answer(session, slot, ret->lane);
    ret->user = slot->user;
    ret->slot = index;
    if (slot->state == KNIT_SLOT_ZOMBIE)
        return drop_answer(session, index, ret);
    if (ret->held) {
        session->held++;
        slot->state = KNIT_SLOT_HELD;
        slot->block_lane = (uint16_t)ret->lane;
    } else {
        knit_session_push_free(session, index, ret->lane);
    }
    if (slot->block != KNIT_NO_BLOCK)
        release_argument(session, slot);
    return true;
}

/* Passes over the lane's unread completions. The caller scans all slots instead. */
static void skip_lane(struct knit_session *session, uint32_t index)
{
    session->lanes[index].completion_next =
        atomic_load_explicit(&session->reply.lane[index].completion_tail, memory_order_acquire);
}

static __attribute__((cold, noinline)) void skip_completions(struct knit_session *session)
{
    for (uint32_t i = 0; i < session->geometry.lanes; i++)
        skip_lane(session, i);
    session->scan_from = 0;
    session->unread_left = (uint64_t)session->geometry.cells << 14;
}

bool knit_session_collect_slot(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    if (session->slots[index].state != KNIT_SLOT_IN_FLIGHT ||
        !knit_session_is_answered(session, index))
        return false;
    /* Completions of calls that are collected by slot stay unread. A lap has 16 bits, so reader and
     * writer must not be half of that range apart. */
    if (session->unread_left == 0)
        skip_completions(session);
    session->unread_left--;
    return take_answer(session, index, ret);
}

/* The outcome of a slot whose call may be answered; false: it gives none. */
static inline bool take(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    if (knit_session_take_result(session, index, ret->body, &ret->len, &ret->lane)) {
        ret->user = session->slots[index].user;
        ret->slot = index;
        ret->status = KNIT_STATUS_RESULT;
        ret->held = false;
        ret->payload = ret->body;
        return true;
    }
    return knit_session_is_pending(session, index) && knit_session_is_answered(session, index) &&
           take_answer(session, index, ret);
}

/* Reads one lane's completions; returns the number of outcomes. */
static size_t collect_completions(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *outcomes, size_t max)
{
    struct knit_session_lane *lane = &session->lanes[index];
    const uint32_t cells = session->geometry.cells, slots = session->geometry.slots;
    const _Atomic uint32_t *ring = lane->completion_ring;
    uint64_t next = lane->completion_next;
    const uint64_t end = next + cells;
    size_t count = 0;
    int lead = 0;

    /* Bounded by the ring, because a pool could write completions faster than this reads them. */
    while (count < max && next != end) {
        /* N1, acquire: the reply word that the entry is about. */
        const uint32_t entry =
            atomic_load_explicit(&ring[next & (cells - 1)], memory_order_acquire);
        const uint32_t slot = knit_completion_slot(entry);

        lead = knit_completion_lead(entry, next, cells);
        if (lead != 0)
            break;
        next++;
        if (slot < slots && take(session, slot, &outcomes[count]))
            count++;
    }
    lane->completion_next = next;
    if (lead > 0) {
        /* Overwritten unread, because calls were collected by slot. */
        skip_lane(session, index);
        session->scan_from = 0;
    }
    return count;
}

/* Reads the reply word of every pending slot, from scan_from on. */
static size_t collect_scan(
    struct knit_session *session, struct knit_session_outcome *outcomes, size_t max)
{
    size_t count = 0;
    uint32_t index = session->scan_from;
    for (; index < session->geometry.slots && count < max; index++) {
        if (take(session, index, &outcomes[count]))
            count++;
    }
    session->scan_from = index < session->geometry.slots ? index : KNIT_NO_SLOT;
    return count;
}

static void note_rescan(struct knit_session *session)
{
    /* acquire: with the host's release, the answers that it wrote before it raised the word. */
    uint32_t rescan = atomic_load_explicit(&session->reply.state->rescan, memory_order_acquire);
    if (rescan != session->rescan) {
        session->rescan = rescan;
        session->scan_from = 0;
        session->counters.rescans++;
    }
}

/* The completions of the lanes `first` to `end`: of all, or where this session has calls. */
static size_t collect_lanes(struct knit_session *session, uint32_t first, uint32_t end, bool all,
    struct knit_session_outcome *outcomes, size_t max)
{
    size_t count = 0;

    for (uint32_t i = first; count < max && (i = knit_session_next_lane(session, i, all)) < end;
         i++) {
        count += collect_completions(session, i, outcomes + count, max - count);
        if (count < max) /* all of this lane was read: the next collect begins with another one */
            session->completion_lane = i + 1 < session->geometry.lanes ? i + 1 : 0;
    }
    return count;
}

size_t knit_session_collect(
    struct knit_session *session, struct knit_session_outcome *outcomes, size_t max)
{
    const uint32_t lanes = session->geometry.lanes, first = session->completion_lane;
    size_t count;
    uint32_t strays;
    bool all;

    note_rescan(session);
    if (session->free + session->held == session->geometry.slots) {
        session->scan_from = KNIT_NO_SLOT;
        return 0;
    }
    all = knit_session_begin_look(session, &strays);
    count = collect_lanes(session, first, lanes, all, outcomes, max);
    count += collect_lanes(session, 0, first, all, outcomes + count, max - count);
    knit_session_end_look(session, strays, all, count < max);
    if (session->scan_from != KNIT_NO_SLOT && count < max)
        count += collect_scan(session, outcomes + count, max - count);
    return count;
}

void knit_session_release(struct knit_session *session, uint32_t index)
{
    uint32_t lane;

    assert(session->slots[index].state == KNIT_SLOT_HELD);
    lane = session->slots[index].block_lane;
    if (session->slots[index].has_block)
        release_block(session, index, lane);
    session->held--;
    knit_session_push_free(session, index, lane);
}
