/* SPDX-License-Identifier: Apache-2.0 */
/* Publishing calls, and waking workers for them: FREE -> READY, flush.
 *
 * Edges:
 *   P1 publish  ctrl release, in knit_session_put(), with the acquire of knit_cursor_ctrl(): the
 *               cell's body, the argument's bytes
 *   K1 stir     ctrl of the next cell of the ring NORMAL release, behind a call of another ring;
 *               with the acquire fence of knit_lane_has_something(): that call
 *   W1 wake     fence between publish and the load of park; with the fence between announcing a
 *               park and the last looks (lane_park.c)
 *   W3 bell     bell changed, release, with the parking worker's acquire: what was published
 */
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/clock.h"
#include "fastpath/lane/session_inline.h"
#include "fastpath/lane/trace.h"
#include "fastpath/lane/wake.h"

/* When calls queue up behind a long task, one flush of so many wakes a second worker. */
#define CROWDED_FLUSHES 16u
/* A call that goes on for so long is not over before another worker could be awake. */
#define WATCH_NS 2000u

/* ---- the depth of lanes --------------------------------------------------------------------- */

/* Calls that are deferred wait for something, and take no time of their lane. The pool's words are
 * hints: a wrong one makes a lane look emptier than it is. */
static __attribute__((noinline)) void find_deferred(struct knit_session *session)
{
    for (uint32_t i = 0; i < session->geometry.slots; i++) {
        struct knit_session_slot *slot = &session->slots[i];

        if (!knit_session_is_pending(session, i) || slot->work_ns == 0 ||
            atomic_load_explicit(&session->reply.reply[i].block, memory_order_relaxed) !=
                knit_session_gen(session, i))
            continue;
        session->work_ns[slot->lane] -= slot->work_ns;
        slot->work_ns = 0;
    }
}

void knit_session_note_deferrals(struct knit_session *session)
{
    /* D1, acquire: the slots that were marked. */
    const uint32_t deferrals = atomic_load_explicit(session->reply.deferrals, memory_order_acquire);

    if (session->work_ns == NULL || deferrals == session->deferrals)
        return;
    session->deferrals = deferrals;
    find_deferred(session);
}

bool knit_session_has_room_in(const struct knit_session *session, uint32_t lane)
{
    return session->work_ns == NULL ||
           session->work_ns[lane % session->geometry.lanes] + session->next_ns <=
               session->options.depth_ns;
}

/* The lane with the least work of this session, of those that have a worker; of all, where none
 * has. */
static uint32_t least_filled(const struct knit_session *session)
{
    uint32_t best = KNIT_LANE_ANY;
    bool is_best_vacant = true;

    for (uint32_t i = 0; i < session->geometry.lanes; i++) {
        bool is_vacant = knit_board_is_vacant(&session->board, i);

        if (best == KNIT_LANE_ANY || (is_best_vacant && !is_vacant) ||
            (is_best_vacant == is_vacant && session->work_ns[i] < session->work_ns[best])) {
            best = i;
            is_best_vacant = is_vacant;
        }
    }
    return best;
}

bool knit_session_has_room(const struct knit_session *session)
{
    return session->work_ns == NULL || knit_session_has_room_in(session, least_filled(session));
}

void knit_session_fill_lanes(struct knit_session *session)
{
    free(session->work_ns);
    session->work_ns = NULL;
}

/* The lane if it has room for the call; else, if the call may go to any, another one; NULL: none
 * has. */
static struct knit_session_lane *with_room(struct knit_session *session,
    const struct knit_session_call *call, struct knit_session_lane *lane)
{
    session->next_ns = knit_session_estimate(session, call->task);
    if (knit_session_has_room_in(session, lane->index))
        return lane;
    if (call->lane != KNIT_LANE_ANY)
        return NULL;
    lane = &session->lanes[least_filled(session)];
    return knit_session_has_room_in(session, lane->index) ? lane : NULL;
}

/* A number that tells nothing of the calls, which may come in a pattern. */
static uint32_t draw_stamped(uint64_t now_ns)
{
    return 1 + (uint32_t)(now_ns * 0x9e3779b97f4a7c15u >> 57); /* 64.5 on average */
}

void knit_session_begin_stamps(struct knit_session *session)
{
    session->until_stamp = draw_stamped(knit_clock_ns());
}

__attribute__((cold, noinline)) uint64_t knit_session_stamp(
    struct knit_session *session, struct knit_request_cell *cell, size_t body_len)
{
    const uint64_t now_ns = knit_clock_ns();

    session->until_stamp = draw_stamped(now_ns);
    if ((session->geometry.features & KNIT_CELL_STAMPED) == 0 ||
        body_len > (KNIT_CELL_WORDS - 1) * sizeof(uint64_t))
        return 0;
    /* relaxed: P1 publishes it. */
    atomic_store_explicit(&cell->body[KNIT_CELL_WORDS - 1],
        knit_clock_shifted(now_ns, session->clock_shift_ns), memory_order_relaxed);
    return knit_meta(0, 0, KNIT_CELL_STAMPED, 0);
}

/* Sticky, before the first call of that ring: workers read the other rings of this session from
 * now on. */
static void use_ring(struct knit_session *session, enum knit_ring ring)
{
    const uint32_t bit = 1u << ring;

    if ((session->classes & bit) != 0)
        return;
    session->classes |= bit;
    /* relaxed: P1 lies behind. */
    atomic_store_explicit(session->request.classes, session->classes, memory_order_relaxed);
}

/* Behind a call of another ring. Workers that have found this session idle for a while look at the
 * next cell of its ring NORMAL alone (lane_poll.h), so that cell changes: its ctrl names the
 * generation before, of which no worker makes a call, whatever lap it takes the cell for. */
static void stir(const struct knit_session_lane *lane)
{
    _Atomic uint64_t *ctrl = &lane->normal.cell->ctrl;

    /* K1, release: who sees it sees the call. relaxed: this session alone writes the word. */
    atomic_store_explicit(ctrl,
        atomic_load_explicit(ctrl, memory_order_relaxed) - ((uint64_t)1 << KNIT_GEN_SHIFT),
        memory_order_release);
}

/* Not inlined, because the frame would cost calls of the ring NORMAL. */
static __attribute__((noinline)) uint32_t put_in_class(struct knit_session *session,
    struct knit_session_lane *lane, const struct knit_session_call *call, uint64_t block)
{
    uint32_t slot;

    use_ring(session, call->ring);
    slot = session->work_ns != NULL
               ? knit_session_put(
                     session, lane, call, 0, block, KNIT_PUT_IN_CLASS | KNIT_PUT_WITH_DEPTH)
               : knit_session_put(session, lane, call, 0, block, KNIT_PUT_IN_CLASS);
    stir(lane);
    return slot;
}

static inline unsigned depth(const struct knit_session *session)
{
    return session->work_ns != NULL ? KNIT_PUT_WITH_DEPTH : 0;
}

/* knit_session_put() of any call. */
static inline uint32_t put(struct knit_session *session, struct knit_session_lane *lane,
    const struct knit_session_call *call, uint64_t block)
{
    return call->ring != KNIT_RING_NORMAL && call->ring < session->geometry.classes
               ? put_in_class(session, lane, call, block)
               : knit_session_put(session, lane, call, 0, block, depth(session));
}

/* ---- publishing ----------------------------------------------------------------------------- */

/* An argument of so many bytes goes into the slab of the slot that the call takes. All of it comes
 * before the cell: a worker that spins there would take the line back meanwhile. */
static inline uint32_t publish_in_slab(struct knit_session *session, struct knit_session_lane *lane,
    const struct knit_session_call *call)
{
    const uint32_t slot = knit_session_free_in(session, lane)->free_head;

    knit_cell_copy_long(knit_slab(session->request.slab, slot), call->payload, call->len);
    return put(session, lane, call, KNIT_IN_SLAB);
}

/* Not inlined, because the frame would cost small calls. */
static __attribute__((noinline)) int publish_large(struct knit_session *session,
    struct knit_session_lane *lane, const struct knit_session_call *call, uint32_t *ret_slot)
{
    uint64_t block;

    if (call->len > session->options.argument_max_bytes)
        return KNIT_SESSION_E_TOO_LARGE;
    if (call->len <= KNIT_SLAB_BYTES) {
        *ret_slot = publish_in_slab(session, lane, call);
        return 0;
    }
    if (knit_arena_alloc(session->arena, call->len, &block) != 0)
        return KNIT_SESSION_E_ARENA_FULL;
    knit_cell_copy_long(session->request.arena + block, call->payload, call->len);
    *ret_slot = put(session, lane, call, block);
    return 0;
}

static __attribute__((cold, noinline)) int why_not_open(const struct knit_session *session)
{
    return knit_session_is_closed(session) ? KNIT_SESSION_E_CLOSED : KNIT_SESSION_E_DRAINING;
}

static inline int publish_to(struct knit_session *session, struct knit_session_lane *lane,
    const struct knit_session_call *call, uint32_t *ret_slot)
{
    if (call->len > KNIT_INLINE_MAX)
        return publish_large(session, lane, call, ret_slot);
    *ret_slot = put(session, lane, call, KNIT_NO_BLOCK);
    return 0;
}

/* Not inlined, because the frame would cost sessions without a depth. */
static __attribute__((noinline)) int publish_with_room(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    struct knit_session_lane *lane =
        with_room(session, call, knit_session_choose_lane(session, call));

    return lane != NULL ? publish_to(session, lane, call, ret_slot) : KNIT_SESSION_E_CROWDED;
}

/* For the slot that the call takes next. */
static __attribute__((cold, noinline)) void store_trace(struct knit_session *session,
    struct knit_session_lane *lane, const struct knit_session_call *call)
{
    const uint32_t slot = knit_session_free_in(session, lane)->free_head;

    if (call->trace != NULL)
        knit_trace_store(&session->request.trace[slot], call->trace,
            knit_gen_next(knit_session_gen(session, slot)));
}

/* The lane that gets any call, and the call's trace for it. Returns 0, or why it cannot begin. */
static int find_lane(struct knit_session *session, const struct knit_session_call *call,
    struct knit_session_lane **ret_lane)
{
    struct knit_session_lane *lane;

    if (!knit_state_is_open(&session->reply))
        return why_not_open(session);
    if (session->free == 0)
        return KNIT_SESSION_E_FULL;
    lane = knit_session_choose_lane(session, call);
    if (session->work_ns != NULL)
        lane = with_room(session, call, lane);
    if (lane == NULL)
        return KNIT_SESSION_E_CROWDED;
    store_trace(session, lane, call);
    *ret_lane = lane;
    return 0;
}

/* Not inlined, because the frame would cost calls without a trace. */
static __attribute__((noinline)) int publish_traced(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    struct knit_session_lane *lane;
    int r = find_lane(session, call, &lane);

    return r == 0 ? publish_to(session, lane, call, ret_slot) : r;
}

int knit_session_publish(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    if (call->trace != NULL)
        return publish_traced(session, call, ret_slot);
    if (knit_session_try_publish(session, call, ret_slot))
        return 0;
    if (!knit_state_is_open(&session->reply))
        return why_not_open(session);
    if (session->free == 0)
        return KNIT_SESSION_E_FULL;
    if (session->work_ns != NULL)
        return publish_with_room(session, call, ret_slot);
    return publish_to(session, knit_session_choose_lane(session, call), call, ret_slot);
}

/* The slot's call was published to the lane, and is queued there or run by its worker. One that was
 * claimed by another worker does not count. */
static bool is_there(const struct knit_session *session, uint32_t index, uint32_t lane)
{
    uint64_t claim;

    if (!knit_session_is_pending(session, index) || session->slots[index].lane != lane ||
        knit_session_is_answered(session, index))
        return false;
    /* relaxed: a hint, like all that a balancer reads. */
    claim = atomic_load_explicit(&session->reply.claim[index], memory_order_relaxed);
    return knit_claim_gen(claim) != knit_session_gen(session, index) ||
           knit_claim_owner(claim) == knit_board_owner(&session->board, lane);
}

/* No call of this session that was published to the lane is there. Claims follow the ring, so the
 * call published last tells it of all, while there is one ring. */
static bool has_no_call_of_ours(const struct knit_session *session, uint32_t lane)
{
    const uint32_t index = session->lanes[lane].last_slot;

    if (session->classes == 0)
        return index == KNIT_NO_SLOT || !is_there(session, index, lane);
    for (uint32_t i = 0; i < session->geometry.slots; i++) {
        if (is_there(session, i, lane))
            return false;
    }
    return true;
}

static bool is_idle(const struct knit_session *session, uint32_t lane)
{
    struct knit_board_running running;

    if (knit_board_is_vacant(&session->board, lane) || !has_no_call_of_ours(session, lane))
        return false;
    running = knit_board_running(&session->board, lane);
    if (running.session == 0)
        return true;
    /* The word stays until the worker has found its rings empty. A call of this session that is
     * answered does not run any more. */
    return running.session == session->id && running.slot < session->geometry.slots &&
           (!knit_session_is_pending(session, running.slot) ||
               knit_session_is_answered(session, running.slot));
}

/* The lane that answered last comes first: its worker is most likely awake. */
static uint32_t find_idle(const struct knit_session *session)
{
    const uint32_t lanes = session->geometry.lanes;

    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t lane = (session->balance.warm + i) % lanes; /* NOLINT: there are lanes. */

        if (is_idle(session, lane))
            return lane;
    }
    return KNIT_LANE_ANY;
}

int knit_session_publish_at_once(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    uint32_t lane;

    if (!knit_state_is_open(&session->reply))
        return why_not_open(session);
    lane = call->lane == KNIT_LANE_ANY ? find_idle(session) : call->lane % session->geometry.lanes;
    if (lane == KNIT_LANE_ANY || !is_idle(session, lane))
        return KNIT_SESSION_E_BUSY;
    if (session->free == 0)
        return KNIT_SESSION_E_FULL;
    if (session->work_ns != NULL)
        session->next_ns = knit_session_estimate(session, call->task);
    store_trace(session, &session->lanes[lane], call);
    return publish_to(session, &session->lanes[lane], call, ret_slot);
}

int knit_session_reserve(struct knit_session *session, size_t len, void **ret_room)
{
    uint64_t block;

    if (!knit_state_is_open(&session->reply))
        return why_not_open(session);
    if (len > session->options.argument_max_bytes)
        return KNIT_SESSION_E_TOO_LARGE;
    if (knit_arena_alloc(session->arena, len > 0 ? len : 1, &block) != 0)
        return KNIT_SESSION_E_ARENA_FULL;
    *ret_room = session->request.arena + block;
    return 0;
}

int knit_session_publish_reserved(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    struct knit_session_lane *lane;
    int r = find_lane(session, call, &lane);

    if (r == 0)
        *ret_slot = put(session, lane, call,
            (uint64_t)((const unsigned char *)call->payload - session->request.arena));
    return r;
}

void knit_session_unreserve(struct knit_session *session, void *room)
{
    knit_arena_release(session->arena, (uint64_t)((unsigned char *)room - session->request.arena));
}

uint32_t knit_session_place(const struct knit_session *session, uint64_t affinity)
{
    return knit_balance_place(&session->board, session->geometry.lanes, affinity);
}

/* ---- waking workers ------------------------------------------------------------------------- */

bool knit_session_wake_lane(struct knit_session *session, uint32_t index)
{
    struct knit_session_lane *lane = &session->lanes[index];
    /* relaxed: ordered by the fence W1, which lies before. */
    uint32_t park = atomic_load_explicit(&session->board.park[index].value, memory_order_relaxed);
    if (knit_park_state(park) != KNIT_PARK_PARKED || lane->park_notified == park)
        return false;
    lane->park_notified = park;
    session->counters.wakes++;
    if (session->options.pool != NULL) {
        knit_wake_worker(session->options.pool, index);
        return true;
    }
    /* W3, release: a worker, or the host, that sees the changed bell sees what was published. */
    atomic_store_explicit(&session->request.bell[index], park, memory_order_release);
    if (session->options.asks_host)
        knit_bell_ask_host(session->options.host_fd);
    else
        knit_bell_wake(&session->request.bell[index], 1);
    return true;
}

/* Wakes one parked worker that this session has not notified yet, of any lane but `except`: it
 * finds its home rings empty and steals. False: there is none. */
static bool wake_other(struct knit_session *session, uint32_t except)
{
    const uint32_t lanes = session->geometry.lanes;
    /* The pool writes the bits. */
    const bool all = ++session->searches % KNIT_BITS_DOUBTED == 0;

    for (uint32_t i = 0; (i = knit_lane_bits_next(session->board.parked, i, lanes, all)) < lanes;
         i++) {
        if (i != except && knit_session_wake_lane(session, i))
            return true;
    }
    return false;
}

static bool has_begun(const struct knit_session *session, uint32_t slot)
{
    return slot < session->geometry.slots && knit_session_is_pending(session, slot) &&
           knit_session_has_started(session, slot);
}

static bool goes_on(const struct knit_session *session, uint32_t slot)
{
    uint64_t until_ns;

    if (knit_session_is_answered(session, slot))
        return false;
    until_ns = knit_clock_ns() + WATCH_NS;
    do {
        for (int i = 0; i < 8; i++) {
            knit_bell_pause();
            if (knit_session_is_answered(session, slot))
                return false;
        }
    } while (knit_clock_ns() < until_ns);
    return true;
}

/* The slot of the call behind which a flush has queued its own, if it was claimed before them; or
 * none. A worker that claims a call looks behind it: so while the call flushed last before them
 * (slot `before` in its generation) is unclaimed, they need nothing, and the fence W1 decides
 * whether its claim is seen here or they are seen there. Once it is over, the lane's worker has
 * come past it, or a thief has run it, and then the board says what the worker runs. */
static uint32_t own_call_ahead(
    const struct knit_session *session, uint32_t index, uint32_t before, uint64_t gen)
{
    uint32_t ahead = before;

    if (before == KNIT_NO_SLOT)
        return KNIT_NO_SLOT;
    if (!knit_session_is_pending(session, before) || knit_session_gen(session, before) != gen) {
        ahead = knit_board_running(&session->board, index).slot;
    } else if (knit_session_is_answered(session, before)) {
        /* relaxed: a hint, which A1 made visible. */
        uint64_t meta =
            atomic_load_explicit(&session->reply.reply[before].meta, memory_order_relaxed);
        if (knit_meta_lane(meta) == index)
            return KNIT_NO_SLOT;
        ahead = knit_board_running(&session->board, index).slot;
    }
    return has_begun(session, ahead) ? ahead : KNIT_NO_SLOT;
}

/* The lane's own worker will not claim what was published there soon, so another one should steal
 * it. That calls of other sessions are long is not known here. */
static bool needs_thief(struct knit_session *session, uint32_t index, uint32_t before, uint64_t gen)
{
    uint32_t ahead;

    if (knit_board_is_vacant(&session->board, index))
        return true;
    if (!session->options.steal || session->geometry.lanes == 1 || session->queued[index] < 2)
        return false;
    ahead = own_call_ahead(session, index, before, gen);
    return (ahead != KNIT_NO_SLOT && goes_on(session, ahead)) ||
           ++session->crowded_flushes % CROWDED_FLUSHES == 0;
}

void knit_session_flush(struct knit_session *session)
{
    bool is_thief_needed;
    uint32_t from;

    if (session->dirty == 0)
        return;
    knit_bell_fence(); /* W1 */
    is_thief_needed = false;
    from = session->dirty == 1 ? session->dirty_lane : 0;
    for (uint32_t i = from; i < session->geometry.lanes && session->dirty > 0; i++) {
        struct knit_session_lane *lane = &session->lanes[i];
        uint32_t before = lane->flushed_slot;
        uint64_t gen = lane->flushed_gen;

        if (!lane->is_dirty)
            continue;
        lane->flushed_slot = lane->last_slot;
        lane->flushed_gen = knit_session_gen(session, lane->last_slot);
        lane->is_dirty = false;
        session->dirty--;
        if (!knit_session_wake_lane(session, i) && needs_thief(session, i, before, gen))
            is_thief_needed = true;
    }
    if (is_thief_needed)
        (void)wake_other(session, KNIT_NO_SLOT);
}

static bool is_unclaimed(const struct knit_session *session, uint32_t slot)
{
    /* relaxed: a hint. A claim that is missed costs one wake-up. */
    const uint64_t claim = atomic_load_explicit(&session->reply.claim[slot], memory_order_relaxed);

    return knit_claim_gen(claim) != knit_session_gen(session, slot);
}

/* A call that was published to the lane and that no worker has claimed: the last one, if any is;
 * where there are several rings, any. KNIT_NO_SLOT: there is none. */
static uint32_t find_unclaimed(const struct knit_session *session, uint32_t lane)
{
    const uint32_t last = session->lanes[lane].last_slot;

    if (session->queued[lane] == 0 || last == KNIT_NO_SLOT)
        return KNIT_NO_SLOT;
    if (session->classes == 0)
        return is_unclaimed(session, last) ? last : KNIT_NO_SLOT;
    for (uint32_t i = 0; i < session->geometry.slots; i++) {
        if (session->slots[i].lane == lane && knit_session_is_pending(session, i) &&
            is_unclaimed(session, i))
            return i;
    }
    return KNIT_NO_SLOT;
}

void knit_session_wake_for_unclaimed(struct knit_session *session)
{
    const uint32_t lanes = session->geometry.lanes;

    if (lanes == 1)
        return;
    for (uint32_t i = 0; (i = knit_session_next_lane(session, i, false)) < lanes; i++) {
        if (!session->options.steal && !knit_board_is_vacant(&session->board, i))
            continue;
        if (find_unclaimed(session, i) != KNIT_NO_SLOT && wake_other(session, i))
            return;
    }
}

/* Whether no worker claims the slot's call for WATCH_NS. */
static bool stays_unclaimed(const struct knit_session *session, uint32_t slot)
{
    uint64_t until_ns = 0;

    do {
        for (int i = 0; i < 8; i++) {
            if (knit_session_has_started(session, slot))
                return false;
            knit_bell_pause();
        }
        if (until_ns == 0)
            until_ns = knit_clock_ns() + WATCH_NS;
    } while (knit_clock_ns() < until_ns);
    return true;
}

void knit_session_part(struct knit_session *session)
{
    const uint32_t lanes = session->geometry.lanes;
    const bool all = ++session->searches % KNIT_BITS_DOUBTED == 0;

    /* W1 lies before, in the flush: a worker that is not parked here looks before it sleeps. */
    if (knit_lane_bits_next(session->board.parked, 0, lanes, all) >= lanes)
        return;
    for (uint32_t i = 0; (i = knit_session_next_lane(session, i, false)) < lanes; i++) {
        const uint32_t slot = find_unclaimed(session, i);

        if (slot != KNIT_NO_SLOT && knit_session_is_pending(session, slot) &&
            stays_unclaimed(session, slot)) {
            knit_session_wake_for_unclaimed(session);
            return;
        }
    }
}
