/* SPDX-License-Identifier: Apache-2.0 */
/* A session's life, and what its caller may say of a call that is published: abort, settle.
 *
 * Edges:
 *   S1 settle  abort, then claim, seq_cst; with the worker's claim, then abort, seq_cst: one sees
 *              the other
 */
#include "fastpath/lane/session.h"

#include <errno.h>
#include <stdlib.h>

#include <knitting/code.h>

#include "fastpath/lane/session_inline.h"
#include "proto/text.h"

#define CLAIMS_A_LINE (KNIT_LINE / 8)

/* Slots whose claim words share a line begin in one lane, whose worker writes them; but all lanes
 * have some. */
static uint32_t slots_in_a_run(const struct knit_geometry *geometry)
{
    const uint32_t each =
        geometry->slots / geometry->lanes; /* NOLINT: a checked geometry has lanes. */

    return each == 0 ? 1 : each < CLAIMS_A_LINE ? each : CLAIMS_A_LINE;
}

/* Continues where the ring was consumed. */
static void begin_ring(const struct knit_session *session, uint32_t lane, enum knit_ring ring,
    struct knit_session_ring *ret)
{
    const uint32_t cells = session->geometry.cells;
    /* acquire: with the release of the side that used the segment before. */
    const uint64_t tail =
        atomic_load_explicit(&session->reply.head[lane].value[ring], memory_order_acquire);

    ret->begin = knit_layout_ring(&session->geometry, &session->request, lane, ring);
    ret->end = ret->begin + cells;
    ret->cell = ret->begin + (tail & (cells - 1));
    ret->tag = knit_tag(tail, cells);
}

/* Continues where the segments stand: generations, ring tails and arm numbers. */
static void start_from_segments(struct knit_session *session)
{
    const struct knit_geometry *geometry = &session->geometry;
    const uint32_t run = slots_in_a_run(geometry);

    for (uint32_t i = 0; i < geometry->lanes; i++) {
        struct knit_session_lane *lane = &session->lanes[i];

        *lane = (struct knit_session_lane){
            .completion_ring = session->reply.completions + (size_t)i * geometry->cells,
            .occupied = &session->request.occupied[i / 64],
            .bit = (uint64_t)1 << i % 64,
            .index = i,
            .last_slot = KNIT_NO_SLOT,
            .flushed_slot = KNIT_NO_SLOT,
            .free_head = KNIT_NO_SLOT};
        begin_ring(session, i, KNIT_RING_NORMAL, &lane->normal);
        for (uint32_t ring = 1; ring < geometry->classes; ring++)
            begin_ring(session, i, ring, knit_session_other_ring(session, i, ring));
        lane->completion_next =
            atomic_load_explicit(&session->reply.lane[i].completion_tail, memory_order_acquire);
    }
    /* Backwards, so that slots are taken from the first one on. */
    for (uint32_t i = geometry->slots; i-- > 0;) {
        struct knit_session_slot *slot = &session->slots[i];
        uint64_t word = atomic_load_explicit(&session->reply.reply[i].word, memory_order_acquire);
        *slot = (struct knit_session_slot){
            .gen24 = knit_word_gen(word) << KNIT_GEN_SHIFT, .block = KNIT_NO_BLOCK};
        /* The segment begins with zeros, and generations wrap: without this, the call of generation
         * 0 would be aborted and its block released from the start. */
        atomic_store_explicit(
            &session->request.abort[i], knit_word_gen(word), memory_order_relaxed);
        atomic_store_explicit(
            &session->request.released[i], knit_word_gen(word), memory_order_relaxed);
        knit_session_push_free(session, i, i / run % geometry->lanes);
    }
    for (uint32_t i = 0; i < KNIT_LANE_WORDS; i++)
        atomic_store_explicit(&session->request.occupied[i], 0, memory_order_relaxed);
    atomic_store_explicit(session->request.classes, 0, memory_order_relaxed);
    session->rescan = atomic_load_explicit(&session->reply.state->rescan, memory_order_acquire);
    session->arm = atomic_load_explicit(session->reply.notified, memory_order_acquire) >> 1;
    session->deferrals = atomic_load_explicit(session->reply.deferrals, memory_order_acquire);
    session->strays = atomic_load_explicit(session->reply.strays, memory_order_acquire);
    session->scan_from = KNIT_NO_SLOT;
    session->unread_left = (uint64_t)geometry->cells << 14;
}

enum { POLL_TURNS = 64 };

int knit_session_new(const struct knit_geometry *geometry, const struct knit_request_view *request,
    const struct knit_reply_view *reply, const struct knit_board_view *board,
    const struct knit_session_options *options, struct knit_session **ret)
{
    struct knit_session *session = calloc(1, sizeof(*session));
    int error;
    if (session == NULL)
        return -ENOMEM;
    session->id = reply->header->session;
    session->geometry = *geometry;
    session->request = *request;
    session->reply = *reply;
    session->board = *board;
    session->options = *options;
    if (session->options.argument_max_bytes == 0)
        session->options.argument_max_bytes = geometry->request_arena_bytes / 8;
    if (session->options.argument_max_bytes > UINT32_MAX)
        session->options.argument_max_bytes = UINT32_MAX;
    if (options->poll_turns == 0)
        session->options.poll_turns = POLL_TURNS;
    else if (options->poll_turns == UINT32_MAX)
        session->options.poll_turns = 0;
    knit_spin_init(&session->spin, options->spin_us);
    session->slots = calloc(geometry->slots, sizeof(*session->slots));
    session->lanes = calloc(geometry->lanes, sizeof(*session->lanes));
    session->queued = calloc(geometry->lanes, sizeof(*session->queued));
    session->others = calloc((size_t)geometry->classes * geometry->lanes, sizeof(*session->others));
    if (options->depth_ns != 0)
        session->work_ns = calloc(geometry->lanes, sizeof(*session->work_ns));
    error = knit_arena_new(geometry->request_arena_bytes, geometry->slots + 1, &session->arena);
    if (error == 0)
        error = knit_balance_init(&session->balance, options->balancer, options->steal,
            geometry->lanes, board, options->random_seed);
    if (session->slots == NULL || session->lanes == NULL || session->queued == NULL ||
        session->others == NULL || (options->depth_ns != 0 && session->work_ns == NULL))
        error = -ENOMEM;
    if (error != 0) {
        (void)knit_session_free(session);
        return error;
    }
    if (geometry->lanes == 1)
        session->only_lane = session->lanes;
    start_from_segments(session);
    knit_session_begin_stamps(session);
    *ret = session;
    return 0;
}

struct knit_session *knit_session_free(struct knit_session *session)
{
    if (session == NULL)
        return NULL;
    knit_balance_fini(&session->balance);
    (void)knit_arena_free(session->arena);
    free(session->slots);
    free(session->lanes);
    free(session->queued);
    free(session->others);
    free(session->work_ns);
    free(session->watches);
    free(session);
    return NULL;
}

void knit_session_set_clock_shift(struct knit_session *session, int64_t shift_ns)
{
    session->clock_shift_ns = shift_ns;
}

bool knit_session_is_closed(const struct knit_session *session)
{
    return !knit_state_is_served(knit_state_read(&session->reply));
}

uint64_t knit_session_gen_of(const struct knit_session *session, uint32_t index)
{
    return knit_session_gen(session, index);
}

/* ---- abort and settle ----------------------------------------------------------------------- */

void knit_session_abort(struct knit_session *session, uint32_t index)
{
    if (!knit_session_is_pending(session, index))
        return;
    /* S1: seq_cst against the claim, see settle. */
    atomic_store_explicit(
        &session->request.abort[index], knit_session_gen(session, index), memory_order_seq_cst);
}

void knit_session_tell(struct knit_session *session, uint32_t index, struct knit_span reason)
{
    struct knit_progress_cell *cell = &session->request.reason[index];
    const uint64_t gen = knit_session_gen(session, index);
    const size_t len = knit_text_cut(reason.bytes, reason.len, KNIT_VALUE_MAX);

    /* relaxed: this session alone writes the word. */
    if (len != 0 && knit_session_is_pending(session, index) &&
        atomic_load_explicit(&cell->seq, memory_order_relaxed) >> KNIT_GEN_SHIFT != gen)
        knit_emit_write(cell, gen, reason.bytes, len);
}

bool knit_session_has_started(const struct knit_session *session, uint32_t index)
{
    /* S1: after settle's abort, this load sees the worker's claim, or the worker's load of abort
     * after its claim sees this session's store. */
    uint64_t claim = atomic_load_explicit(&session->reply.claim[index], memory_order_seq_cst);
    return knit_claim_gen(claim) == knit_session_gen(session, index);
}

static void bury(struct knit_session *session, uint32_t index)
{
    struct knit_session_slot *slot = &session->slots[index];

    slot->state = KNIT_SLOT_ZOMBIE;
    slot->user = NULL;
    session->zombies++;
}

bool knit_session_settle(struct knit_session *session, uint32_t index, int *ret_started)
{
    if (session->slots[index].state != KNIT_SLOT_IN_FLIGHT ||
        knit_session_is_answered(session, index))
        return false;
    knit_session_abort(session, index);
    *ret_started = knit_session_has_started(session, index) ? KNIT_STARTED_YES : KNIT_STARTED_NO;
    bury(session, index);
    return true;
}

/* The abort is stored. What is answered by now was claimed. */
static bool bury_if_queued(struct knit_session *session, uint32_t index)
{
    if (session->slots[index].state != KNIT_SLOT_IN_FLIGHT ||
        knit_session_has_started(session, index))
        return false;
    bury(session, index);
    return true;
}

bool knit_session_withdraw(struct knit_session *session, uint32_t index)
{
    _Atomic uint64_t *abort = &session->request.abort[index];
    uint64_t gen = knit_session_gen(session, index);

    if (!knit_session_is_pending(session, index))
        return false;
    /* relaxed: this session alone writes the word. A call that was aborted stays aborted. */
    if (atomic_load_explicit(abort, memory_order_relaxed) != gen)
        /* S1: seq_cst against the claim, see settle. */
        atomic_store_explicit(abort, gen | KNIT_ABORT_IF_QUEUED, memory_order_seq_cst);
    return bury_if_queued(session, index);
}

bool knit_session_cancel(struct knit_session *session, uint32_t index)
{
    knit_session_abort(session, index);
    return bury_if_queued(session, index);
}

/* ---- counts --------------------------------------------------------------------------------- */

uint32_t knit_session_in_flight(const struct knit_session *session)
{
    return session->geometry.slots - session->free - session->zombies - session->held;
}

uint32_t knit_session_slots_free(const struct knit_session *session)
{
    return session->free;
}

const struct knit_session_counters *knit_session_counters(const struct knit_session *session)
{
    return &session->counters;
}
