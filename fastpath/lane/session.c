/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's side of the lane protocol. LAYOUT.md's state table is the text, this is its left
 * column.
 *
 * A slot is this session's place for one call. Which call: its generation, one more than the last.
 * The state of a call is never stored in shared memory; it is read off three words, of which the
 * caller writes the first:
 *
 *     ring cell's ctrl    gen g published          (we write, release)
 *     claim[slot]         gen g taken by an owner  (workers and host, CAS)
 *     reply[slot].word    gen g answered           (the owner, or the host after the reap; release)
 *
 * News and rescan only say where to look. So whatever is lost there costs a look at all slots,
 * never an outcome.
 *
 * Edges (pairs are named at both ends; the other end is lane_call.c, for W1 lane.c):
 *   P1 publish  ctrl release  with find's ctrl acquire: the cell's body, the argument's bytes
 *   A1 answer   word acquire  with answer's word release: the outcome's bytes
 *   N1 news     news acquire  with answer's news release: the word it speaks of is visible
 *   R1 release  rel release   with sweep's rel acquire: our reads of the block came before
 *   W1 wake     fence between publish and the look at park; with the fence between announcing a
 *               park and the last looks
 *   W2 sleep    fence between `waiting` and the look at the replies; with the fence between answer
 *               and the look at `waiting`
 *   S1 settle   abort, then claim, seq_cst; with claim, then abort, seq_cst: one sees the other
 */
#include "fastpath/lane/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/arena.h"
#include "fastpath/lane/balancer.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/state.h"

#define NO_BLOCK UINT64_MAX
#define NO_SLOT  UINT32_MAX

/* A crowded lane, whose worker sits in a long task, wakes a second one at one flush of so many. */
#define CROWDED_FLUSHES 16u

enum slot_state {
    SLOT_FREE,
    SLOT_FLYING, /* published, its outcome is wanted */
    SLOT_ZOMBIE, /* published, its outcome was given early and the answer will be dropped */
    SLOT_HELD,   /* answered; the user still reads the block */
};

struct slot {
    uint64_t gen; /* of the call it carries, or carried last */
    void *user;
    uint64_t block;      /* of the argument in the request arena, or NO_BLOCK */
    uint32_t lane;       /* published to; while free or held: that answered last */
    uint32_t next;       /* free list */
    uint32_t block_lane; /* held: whose arena the reply's block lies in */
    uint8_t state;
};

/* What the session knows of each lane. */
struct lane {
    struct knit_request_cell *ring;    /* [cells] */
    _Atomic uint32_t *completion_ring; /* [cells] */
    uint64_t tail;                     /* ring position of the next publish */
    uint64_t completions;              /* news position read next */
    uint32_t index;
    uint32_t notified_park;        /* park word last rung */
    uint32_t newest;               /* slot published last */
    uint32_t free_head, free_tail; /* free slots this lane answered last */
    bool is_dirty;                 /* published to since the last flush */
};

struct knit_session {
    struct knit_geometry geometry;
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;
    struct knit_session_options options;
    struct knit_balance balance;
    struct knit_arena *arena;
    struct slot *slots;
    struct lane *lanes;
    uint32_t *queued;    /* [lanes]: published there, not yet answered */
    uint32_t dirty;      /* how many lanes are */
    uint32_t dirty_lane; /* one of them */
    uint32_t flying, zombies, free;
    uint32_t rescan; /* last value acted on */
    uint32_t arm;    /* last arm number given out */
    uint32_t crowded;
    uint32_t scan_from;       /* where a scan of all slots goes on; NO_SLOT: none under way */
    uint32_t completion_lane; /* lane whose news is read next */
    bool is_armed;
    uint64_t unread; /* news at most, of any lane */
    struct knit_spin spin;
    struct knit_session_counters counters;
};

static inline void free_push(struct knit_session *session, uint32_t index, uint32_t lane_index)
{
    struct lane *lane = &session->lanes[lane_index];
    struct slot *slot = &session->slots[index];
    slot->state = SLOT_FREE;
    slot->lane = lane_index;
    slot->next = NO_SLOT;
    if (lane->free_head == NO_SLOT)
        lane->free_head = index;
    else
        session->slots[lane->free_tail].next = index;
    lane->free_tail = index;
    session->free++;
}

/* A free slot, of which there is one; first among those that `lane` answered last: their reply
 * cells are in its worker's cache. */
static uint32_t free_pop(struct knit_session *session, struct lane *lane)
{
    while (lane->free_head == NO_SLOT)
        lane = &session->lanes[lane->index + 1 < session->geometry.lanes ? lane->index + 1 : 0];
    uint32_t index = lane->free_head;
    lane->free_head = session->slots[index].next;
    session->free--;
    return index;
}

static void start_from_segments(struct knit_session *session)
{
    const struct knit_geometry *geometry = &session->geometry;
    for (uint32_t i = 0; i < geometry->lanes; i++) {
        struct lane *lane = &session->lanes[i];
        *lane = (struct lane){.ring = session->request.ring + (size_t)i * geometry->cells,
            .completion_ring = session->reply.completions + (size_t)i * geometry->cells,
            .index = i,
            .newest = NO_SLOT,
            .free_head = NO_SLOT,
            .free_tail = NO_SLOT};
        /* acquire: whoever prepared the segment did so before it was handed over. */
        lane->tail = atomic_load_explicit(&session->reply.head[i].value, memory_order_acquire);
        lane->completions =
            atomic_load_explicit(&session->reply.lane[i].completion_tail, memory_order_acquire);
    }
    for (uint32_t i = 0; i < geometry->slots; i++) {
        struct slot *slot = &session->slots[i];
        uint64_t word = atomic_load_explicit(&session->reply.reply[i].word, memory_order_acquire);
        *slot = (struct slot){.gen = knit_word_gen(word), .block = NO_BLOCK};
        /* So that no generation to come, not even after 2^40 of them, finds itself aborted or
         * released by the zeros that the segment began with. */
        atomic_store_explicit(&session->request.abort[i], slot->gen, memory_order_relaxed);
        atomic_store_explicit(&session->request.released[i], slot->gen, memory_order_relaxed);
        free_push(session, i, i % geometry->lanes); /* NOLINT: a checked geometry has lanes. */
    }
    session->rescan = atomic_load_explicit(&session->reply.state->rescan, memory_order_acquire);
    session->arm = atomic_load_explicit(session->reply.notified, memory_order_acquire) >> 1;
    session->scan_from = NO_SLOT;
}

int knit_session_new(const struct knit_geometry *geometry, const struct knit_request_view *request,
    const struct knit_reply_view *reply, const struct knit_board_view *board,
    const struct knit_session_options *options, struct knit_session **ret)
{
    struct knit_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    session->geometry = *geometry;
    session->request = *request;
    session->reply = *reply;
    session->board = *board;
    session->options = *options;
    if (session->options.argument_max_bytes == 0)
        session->options.argument_max_bytes = geometry->request_arena_bytes / 8;
    if (session->options.argument_max_bytes > UINT32_MAX)
        session->options.argument_max_bytes = UINT32_MAX;
    knit_spin_init(&session->spin, options->spin_us);
    session->slots = calloc(geometry->slots, sizeof(*session->slots));
    session->lanes = calloc(geometry->lanes, sizeof(*session->lanes));
    session->queued = calloc(geometry->lanes, sizeof(*session->queued));
    int error = knit_arena_new(geometry->request_arena_bytes, geometry->slots + 1, &session->arena);
    if (error == 0)
        error = knit_balance_init(&session->balance, options->balancer, options->steal,
            geometry->lanes, board, options->random_seed);
    if (session->slots == NULL || session->lanes == NULL || session->queued == NULL)
        error = -ENOMEM;
    if (error != 0) {
        (void)knit_session_free(session);
        return error;
    }
    start_from_segments(session);
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
    free(session);
    return NULL;
}

/* ---- publish -------------------------------------------------------------------------------- */

bool knit_session_is_closed(const struct knit_session *session)
{
    return !knit_state_is_open(&session->reply);
}

static struct knit_request_cell *next_cell(
    const struct knit_session *session, const struct lane *lane)
{
    return &lane->ring[lane->tail & (session->geometry.cells - 1)];
}

static struct lane *choose_lane(struct knit_session *session, const struct knit_session_call *call)
{
    const uint32_t lanes = session->geometry.lanes;
    if (lanes == 1)
        return session->lanes;
    return &session->lanes[call->lane == KNIT_LANE_ANY
                               ? knit_balance_pick(&session->balance, call->task, session->queued)
                               : call->lane % lanes];
}

/* FREE -> READY. `block` holds the argument, or is NO_BLOCK. Somewhere there is a free slot. */
static int publish_cell(struct knit_session *session, struct lane *lane,
    const struct knit_session_call *call, uint64_t block, uint32_t *ret_slot)
{
    struct knit_request_cell *cell = next_cell(session, lane);
    uint32_t flags = 0;
    /* relaxed: P1 publishes all of it. */
    if (block != NO_BLOCK) {
        flags = KNIT_CELL_IN_ARENA;
        atomic_store_explicit(&cell->body[0], block, memory_order_relaxed);
    } else {
        knit_cell_store(cell->body, call->payload, call->len);
    }
    atomic_store_explicit(&cell->deadline, call->deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&cell->meta,
        knit_meta(call->task, call->epoch, flags, (uint32_t)call->len), memory_order_relaxed);

    uint32_t index = free_pop(session, lane);
    struct slot *slot = &session->slots[index];
    slot->gen = knit_gen_next(slot->gen);
    slot->user = call->user;
    slot->block = block;
    slot->lane = lane->index;
    slot->state = SLOT_FLYING;
    /* P1 publish, release: a worker that sees this ctrl sees the body and the argument's bytes. */
    atomic_store_explicit(&cell->ctrl,
        knit_ctrl(slot->gen, index, knit_tag(lane->tail, session->geometry.cells)),
        memory_order_release);

    lane->tail++;
    lane->newest = index;
    session->queued[lane->index]++;
    if (!lane->is_dirty) {
        lane->is_dirty = true;
        session->dirty++;
        session->dirty_lane = lane->index;
    }
    session->flying++;
    session->counters.published++;
    *ret_slot = index;
    return 0;
}

/* Not inlined: a small call would pay for its frame. */
static __attribute__((noinline)) int publish_large(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    uint64_t block;
    if (call->len > session->options.argument_max_bytes)
        return KNIT_SESSION_E_TOO_LARGE;
    if (knit_arena_alloc(session->arena, call->len, &block) != 0)
        return KNIT_SESSION_E_ARENA_FULL;
    memcpy(session->request.arena + block, call->payload, call->len);
    return publish_cell(session, choose_lane(session, call), call, block, ret_slot);
}

int knit_session_publish(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    if (knit_session_is_closed(session))
        return KNIT_SESSION_E_CLOSED;
    if (session->free == 0)
        return KNIT_SESSION_E_FULL;
    if (call->len > KNIT_INLINE_MAX)
        return publish_large(session, call, ret_slot);
    return publish_cell(session, choose_lane(session, call), call, NO_BLOCK, ret_slot);
}

int knit_session_reserve(struct knit_session *session, size_t len, void **ret_room)
{
    if (knit_session_is_closed(session))
        return KNIT_SESSION_E_CLOSED;
    if (len > session->options.argument_max_bytes)
        return KNIT_SESSION_E_TOO_LARGE;
    uint64_t block;
    if (knit_arena_alloc(session->arena, len > 0 ? len : 1, &block) != 0)
        return KNIT_SESSION_E_ARENA_FULL;
    *ret_room = session->request.arena + block;
    return 0;
}

int knit_session_publish_reserved(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot)
{
    if (knit_session_is_closed(session))
        return KNIT_SESSION_E_CLOSED;
    if (session->free == 0)
        return KNIT_SESSION_E_FULL;
    uint64_t block = (uint64_t)((const unsigned char *)call->payload - session->request.arena);
    return publish_cell(session, choose_lane(session, call), call, block, ret_slot);
}

void knit_session_unreserve(struct knit_session *session, void *room)
{
    knit_arena_release(session->arena, (uint64_t)((unsigned char *)room - session->request.arena));
}

/* ---- waking workers ------------------------------------------------------------------------- */

/* ring(l): only when its worker is parked and this park was not rung before. */
static bool wake_lane(struct knit_session *session, uint32_t index)
{
    struct lane *lane = &session->lanes[index];
    /* relaxed: the fence of the caller (W1) ordered it after what was published. */
    uint32_t park = atomic_load_explicit(&session->board.park[index].value, memory_order_relaxed);
    if (knit_park_state(park) != KNIT_PARK_PARKED || lane->notified_park == park)
        return false;
    lane->notified_park = park;
    /* release: whoever wakes up from the changed bell sees what was published. */
    atomic_store_explicit(&session->request.bell[index], park, memory_order_release);
    knit_bell_wake(&session->request.bell[index], 1);
    session->counters.wakes++;
    return true;
}

/* One parked worker that was not rung yet, of any lane but `except`: an empty home ring tells it to
 * steal. False: there is none. */
static bool wake_other(struct knit_session *session, uint32_t except)
{
    for (uint32_t i = 0; i < session->geometry.lanes; i++) {
        if (i != except && wake_lane(session, i))
            return true;
    }
    return false;
}

static bool wants_help(struct knit_session *session, uint32_t index)
{
    if (knit_board_is_vacant(&session->board, index))
        return true;
    return session->options.steal && session->queued[index] >= 2 &&
           ++session->crowded % CROWDED_FLUSHES == 0;
}

void knit_session_flush(struct knit_session *session)
{
    if (session->dirty == 0)
        return;
    knit_bell_fence(); /* W1 */
    bool help = false;
    uint32_t from = session->dirty == 1 ? session->dirty_lane : 0;
    for (uint32_t i = from; i < session->geometry.lanes && session->dirty > 0; i++) {
        if (!session->lanes[i].is_dirty)
            continue;
        session->lanes[i].is_dirty = false;
        session->dirty--;
        if (!wake_lane(session, i) && wants_help(session, i))
            help = true;
    }
    if (help)
        (void)wake_other(session, NO_SLOT);
}

/* Before sleeping: a call of ours that nobody took, though somebody awake should, may sit behind a
 * long task. Its own lane is no help even when it is announced as parked: its worker may have seen
 * the call in its last look already, take another one first, and stay with that. */
static void wake_for_unclaimed(struct knit_session *session)
{
    if (session->geometry.lanes == 1)
        return;
    for (uint32_t i = 0; i < session->geometry.lanes; i++) {
        uint32_t newest = session->lanes[i].newest;
        if (session->queued[i] == 0 || newest == NO_SLOT)
            continue;
        if (!session->options.steal && !knit_board_is_vacant(&session->board, i))
            continue;
        /* relaxed: a hint. */
        uint64_t claim = atomic_load_explicit(&session->reply.claim[newest], memory_order_relaxed);
        if (knit_claim_gen(claim) != session->slots[newest].gen && wake_other(session, i))
            return;
    }
}

/* ---- collect -------------------------------------------------------------------------------- */

static bool is_answered(const struct knit_session *session, uint32_t index)
{
    const struct slot *slot = &session->slots[index];
    /* A1, acquire: the outcome's bytes. */
    uint64_t word = atomic_load_explicit(&session->reply.reply[index].word, memory_order_acquire);
    return knit_word_gen(word) == slot->gen;
}

static __attribute__((noinline)) void release_argument(
    struct knit_session *session, struct slot *slot)
{
    knit_arena_release(session->arena, slot->block);
    slot->block = NO_BLOCK;
}

static void release_block(struct knit_session *session, uint32_t index, uint32_t lane)
{
    /* R1, release: our reads of the block come before the worker uses it again. */
    atomic_store_explicit(
        &session->request.released[index], session->slots[index].gen, memory_order_release);
    knit_bell_fence(); /* W1: rel before the look at starved and park */
    /* relaxed: ordered by the fence. */
    if (atomic_load_explicit(&session->reply.lane[lane].blocked_on_arena, memory_order_relaxed) !=
        0)
        (void)wake_lane(session, lane);
}

/* Reads the answer's shape out of the cell; every number is loaded once and checked before it is
 * used. */
static void read_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    struct knit_reply_cell *cell = &session->reply.reply[index];
    /* relaxed: A1 made these visible. */
    const uint64_t word = atomic_load_explicit(&cell->word, memory_order_relaxed);
    const uint64_t meta = atomic_load_explicit(&cell->meta, memory_order_relaxed);
    const uint32_t lane = knit_meta_lane(meta), len = knit_meta_len(meta);
    ret->status = knit_word_status(word);
    ret->lane = lane;
    ret->len = len;
    if (lane >= session->geometry.lanes)
        goto broken;
    if ((knit_word_flags(word) & KNIT_CELL_IN_ARENA) != 0) {
        uint64_t block = atomic_load_explicit(&cell->block, memory_order_relaxed);
        uint64_t arena = session->geometry.reply_arena_bytes;
        if (block > arena || len > arena - block)
            goto broken;
        ret->payload = session->reply.arena + lane * arena + block;
        ret->held = true;
        return;
    }
    if (len > KNIT_INLINE_MAX)
        goto broken;
    ret->payload = ret->body;
    ret->held = false;
    knit_cell_load(ret->body, cell->body, len);
    return;
broken:
    ret->status = KNIT_STATUS_BROKEN;
    ret->lane = 0;
    ret->len = 0;
    ret->payload = ret->body;
    ret->held = false;
}

/* A settled call's answer: nobody wants it. Returns whether its end is to be told. */
static __attribute__((cold, noinline)) bool drop_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *outcome)
{
    struct slot *slot = &session->slots[index];
    session->zombies--;
    session->counters.dropped++;
    if (outcome->held)
        release_block(session, index, outcome->lane);
    free_push(session, index, outcome->lane);
    if (slot->block != NO_BLOCK)
        release_argument(session, slot);
    outcome->held = false;
    return session->options.report_settled;
}

/* ANSWERED -> FREE, or -> held until released. False: it was a settled call's answer, dropped. */
static bool take_answer(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    struct slot *slot = &session->slots[index];
    session->queued[slot->lane]--;
    read_answer(session, index, ret);
    session->balance.warm = ret->lane;
    ret->user = slot->user;
    ret->slot = index;
    if (slot->state == SLOT_ZOMBIE)
        return drop_answer(session, index, ret);
    session->flying--;
    session->counters.collected++;
    if (ret->held) {
        slot->state = SLOT_HELD;
        slot->block_lane = ret->lane;
    } else {
        free_push(session, index, ret->lane);
    }
    if (slot->block != NO_BLOCK)
        release_argument(session, slot);
    return true;
}

static bool is_pending(const struct knit_session *session, uint32_t index)
{
    uint8_t state = session->slots[index].state;
    return state == SLOT_FLYING || state == SLOT_ZOMBIE;
}

static __attribute__((cold, noinline)) void skip_completions(struct knit_session *session)
{
    for (uint32_t i = 0; i < session->geometry.lanes; i++)
        session->lanes[i].completions =
            atomic_load_explicit(&session->reply.lane[i].completion_tail, memory_order_acquire);
    session->scan_from = 0;
    session->unread = 0;
}

bool knit_session_collect_slot(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *ret)
{
    if (session->slots[index].state != SLOT_FLYING || !is_answered(session, index))
        return false;
    /* News of what is collected this way stays unread, and laps are told apart as long as the
     * reader is less than half of their range behind. */
    if (++session->unread >= (uint64_t)session->geometry.cells << 14)
        skip_completions(session);
    return take_answer(session, index, ret);
}

/* Follows one lane's news; how many outcomes it gave. */
static size_t collect_completions(
    struct knit_session *session, uint32_t index, struct knit_session_outcome *outcomes, size_t max)
{
    struct lane *lane = &session->lanes[index];
    const uint32_t cells = session->geometry.cells;
    size_t count = 0;
    /* Bounded by the ring: a pool that writes news faster than we read cannot keep us here. */
    for (uint32_t step = 0; step < cells && count < max; step++) {
        /* N1, acquire: the word it speaks of. */
        uint32_t entry = atomic_load_explicit(
            &lane->completion_ring[lane->completions & (cells - 1)], memory_order_acquire);
        int ahead = knit_completion_lead(entry, lane->completions, cells);
        if (ahead < 0)
            break;
        if (ahead > 0) {
            /* A lap ahead: news were overwritten unread, because calls were collected by slot. */
            lane->completions = atomic_load_explicit(
                &session->reply.lane[index].completion_tail, memory_order_acquire);
            session->scan_from = 0;
            break;
        }
        lane->completions++;
        uint32_t slot = knit_completion_slot(entry);
        if (slot < session->geometry.slots && is_pending(session, slot) &&
            is_answered(session, slot) && take_answer(session, slot, &outcomes[count]))
            count++;
    }
    return count;
}

/* Looks at every slot in flight, from scan_from on. */
static size_t collect_scan(
    struct knit_session *session, struct knit_session_outcome *outcomes, size_t max)
{
    size_t count = 0;
    uint32_t index = session->scan_from;
    for (; index < session->geometry.slots && count < max; index++) {
        if (is_pending(session, index) && is_answered(session, index) &&
            take_answer(session, index, &outcomes[count]))
            count++;
    }
    session->scan_from = index < session->geometry.slots ? index : NO_SLOT;
    return count;
}

static void note_rescan(struct knit_session *session)
{
    /* acquire: the answers the host wrote before it raised this. */
    uint32_t rescan = atomic_load_explicit(&session->reply.state->rescan, memory_order_acquire);
    if (rescan != session->rescan) {
        session->rescan = rescan;
        session->scan_from = 0;
        session->counters.rescans++;
    }
}

size_t knit_session_collect(
    struct knit_session *session, struct knit_session_outcome *outcomes, size_t max)
{
    note_rescan(session);
    if (session->flying + session->zombies == 0) {
        session->scan_from = NO_SLOT;
        return 0;
    }
    size_t count = 0;
    const uint32_t lanes = session->geometry.lanes;
    for (uint32_t i = 0; i < lanes && count < max; i++) {
        uint32_t lane = session->completion_lane;
        count += collect_completions(session, lane, outcomes + count, max - count);
        if (count < max) /* this lane is read out: the next one first, so that none starves */
            session->completion_lane = lane + 1 < lanes ? lane + 1 : 0;
    }
    if (session->scan_from != NO_SLOT && count < max)
        count += collect_scan(session, outcomes + count, max - count);
    return count;
}

void knit_session_release(struct knit_session *session, uint32_t index)
{
    assert(session->slots[index].state == SLOT_HELD);
    uint32_t lane = session->slots[index].block_lane;
    release_block(session, index, lane);
    free_push(session, index, lane);
}

/* ---- abort and settle ----------------------------------------------------------------------- */

void knit_session_abort(struct knit_session *session, uint32_t index)
{
    if (!is_pending(session, index))
        return;
    /* S1: seq_cst against the claim, see settle. */
    atomic_store_explicit(
        &session->request.abort[index], session->slots[index].gen, memory_order_seq_cst);
}

bool knit_session_has_started(const struct knit_session *session, uint32_t index)
{
    /* S1: after settle's abort either this load sees the worker's claim, or the worker's load of
     * abort after its claim sees our store. */
    uint64_t claim = atomic_load_explicit(&session->reply.claim[index], memory_order_seq_cst);
    return knit_claim_gen(claim) == session->slots[index].gen;
}

bool knit_session_settle(struct knit_session *session, uint32_t index, int *ret_started)
{
    struct slot *slot = &session->slots[index];
    if (slot->state != SLOT_FLYING || is_answered(session, index))
        return false;
    knit_session_abort(session, index);
    *ret_started = knit_session_has_started(session, index) ? KNIT_STARTED_YES : KNIT_STARTED_NO;
    slot->state = SLOT_ZOMBIE;
    slot->user = NULL;
    session->flying--;
    session->zombies++;
    return true;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* Is there something to collect? May say yes once too often, never no while there is. */
static bool is_ready(const struct knit_session *session, uint32_t index)
{
    if (index != KNIT_SLOT_ANY)
        return session->slots[index].state != SLOT_FLYING || is_answered(session, index);
    /* News that nobody read, of calls that were collected by slot, are of no use then. */
    if (session->flying + session->zombies == 0)
        return false;
    if (session->scan_from != NO_SLOT || atomic_load_explicit(&session->reply.state->rescan,
                                             memory_order_acquire) != session->rescan)
        return true;
    for (uint32_t i = 0; i < session->geometry.lanes; i++) {
        const struct lane *lane = &session->lanes[i];
        const uint32_t cells = session->geometry.cells;
        uint32_t entry = atomic_load_explicit(
            &lane->completion_ring[lane->completions & (cells - 1)], memory_order_acquire);
        if (knit_completion_lead(entry, lane->completions, cells) >= 0)
            return true;
    }
    return false;
}

/* While we spin, the line we shall write next comes here. */
static void prefetch_next(const struct knit_session *session, uint32_t index)
{
    uint32_t lane = index != KNIT_SLOT_ANY ? session->slots[index].lane : 0;
    struct knit_request_cell *cell = next_cell(session, &session->lanes[lane]);
    __builtin_prefetch(cell, 1, 3);
    __builtin_prefetch(&cell->body[KNIT_HEAD_WORDS], 1, 3);
}

/* A longer answer's second line is written before the first, so both travel at once. */
static void prefetch_spill(const struct knit_session *session, uint32_t index)
{
    if (index != KNIT_SLOT_ANY)
        __builtin_prefetch(&session->reply.reply[index].body[KNIT_HEAD_WORDS], 0, 3);
}

static bool spin_until_ready(struct knit_session *session, uint32_t index)
{
    /* Few where spinning has long been in vain: the worker may need this very core. */
    const int looks = session->spin.now_ns == 0 ? 2 : 64;
    for (int i = 0; i < looks; i++) {
        if (is_ready(session, index))
            return true;
        prefetch_spill(session, index);
        knit_bell_pause();
    }
    if (session->spin.now_ns == 0)
        return false;
    const uint64_t until = knit_clock_ns() + session->spin.now_ns;
    do {
        for (int i = 0; i < 32; i++) {
            if (is_ready(session, index)) {
                knit_spin_paid(&session->spin);
                return true;
            }
            prefetch_spill(session, index);
            knit_bell_pause();
        }
    } while (knit_clock_ns() < until);
    return false;
}

/* Announce a sleep; false: there is something to collect already, and the announcement is taken
 * back. */
static bool announce(struct knit_session *session, uint32_t index, uint32_t kind)
{
    session->arm = session->arm % 0x7fffffff + 1;
    atomic_store_explicit(session->request.waiting, session->arm << 1 | kind, memory_order_relaxed);
    knit_bell_fence(); /* W2 */
    if (!is_ready(session, index))
        return true;
    atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
    return false;
}

int knit_session_wait(struct knit_session *session, uint32_t index, uint64_t until_ns)
{
    knit_session_flush(session);
    prefetch_next(session, index);
    if (spin_until_ready(session, index))
        return 0;
    for (;;) {
        wake_for_unclaimed(session);
        /* Before the announcement: a waker changes it after having read that. */
        uint32_t notified = atomic_load_explicit(session->reply.notified, memory_order_acquire);
        if (!announce(session, index, 1))
            break;
        (void)knit_spin_failed(&session->spin);
        session->counters.sleeps++;
        int got = knit_bell_wait(session->reply.notified, notified, until_ns);
        atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
        if (is_ready(session, index))
            break;
        if (knit_session_is_closed(session))
            return KNIT_SESSION_E_CLOSED;
        if (got == ETIMEDOUT || (until_ns != 0 && knit_clock_ns() >= until_ns))
            return KNIT_SESSION_E_TIMEOUT;
    }
    return 0;
}

bool knit_session_arm(struct knit_session *session)
{
    knit_session_flush(session);
    wake_for_unclaimed(session);
    session->is_armed = announce(session, KNIT_SLOT_ANY, 0);
    return session->is_armed;
}

bool knit_session_is_armed(const struct knit_session *session)
{
    return session->is_armed;
}

void knit_session_disarm(struct knit_session *session)
{
    if (session->is_armed)
        atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
    session->is_armed = false;
    knit_bell_swallow(session->options.bell_fd, !session->options.bell_is_socket);
}

/* ---- looks ---------------------------------------------------------------------------------- */

uint32_t knit_session_in_flight(const struct knit_session *session)
{
    return session->flying;
}

uint32_t knit_session_slots_free(const struct knit_session *session)
{
    return session->free;
}

const struct knit_session_counters *knit_session_counters(const struct knit_session *session)
{
    return &session->counters;
}
