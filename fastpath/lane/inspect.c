/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of LAYOUT.md, each as a check of the memory.
 *
 * Slots: a call is claimed before it is answered, so claim and answer are of one generation or one
 * apart; while apart, the owner is a worker on the board. Caller and pool take turns at a slot, so
 * neither abort nor release runs ahead of what was answered. Blocks that are named and not released
 * do not overlap.
 *
 * Rings: every cell bears the lap of the last position that can have been published there. The
 * published positions before `head` are claimed; those from `head` on have no gap and are claimed
 * in their order. A call that breaks this is never found by a cursor.
 *
 * The inspector publishes nothing, so only the order of its own loads matters: a word that follows
 * another one is loaded after it (a reply after its release, `head` after a claim). */
#include "fastpath/lane/inspect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/cursor.h"
#include "fastpath/lane/rights.h"

#define READS 8 /* tries to read the words of a slot while they stand still */

#define NO_LANE UINT32_MAX

/* A block that an answer names. */
struct block {
    uint64_t begin, end;
    uint64_t word; /* of the reply that names it; unchanged: the block is still the same */
    uint32_t lane, slot;
};

struct look {
    const struct knit_inspect_session *in;
    const struct knit_inspect_report *report;
    struct knit_inspect_counts counts;
    struct block *blocks; /* [slots] */
    uint32_t block_count;
    uint8_t *is_queued; /* [slots] */
};

static uint64_t load64(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static uint32_t load32(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

__attribute__((format(printf, 3, 0))) static void report_finding(
    const struct knit_inspect_report *report, uint32_t *findings, const char *format, va_list args)
{
    char sentence[KNIT_INSPECT_SENTENCE_BYTES];

    if (++*findings > KNIT_INSPECT_FINDINGS_MAX || report->on_finding == NULL)
        return;
    (void)vsnprintf(sentence, sizeof(sentence), format, args);
    report->on_finding(report->arg, sentence);
}

__attribute__((format(printf, 2, 3))) static void found(struct look *look, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    report_finding(look->report, &look->counts.findings, format, args);
    va_end(args);
}

typedef unsigned long long ull;

/* ---- slots ---- */

struct words {
    uint64_t abort, released, claim, word, meta, block;
};

/* False: the slot changes faster than it can be read, so it is not stuck. */
static bool read_slot(const struct knit_inspect_session *in, uint32_t slot, struct words *ret)
{
    const struct knit_reply_cell *cell = &in->reply.reply[slot];

    for (int i = 0; i < READS; i++) {
        /* The caller's words first, because they follow the pool's. */
        ret->abort = load64(&in->request.abort[slot]);
        ret->released = load64(&in->request.released[slot]);
        ret->claim = load64(&in->reply.claim[slot]);
        ret->word = load64(&cell->word);
        ret->meta = load64(&cell->meta);
        ret->block = load64(&cell->block);
        if (load64(&in->reply.claim[slot]) == ret->claim && load64(&cell->word) == ret->word)
            return true;
    }
    return false;
}

/* The lane that this owner serves. */
static uint32_t lane_of(const struct knit_inspect_session *in, uint32_t owner)
{
    for (uint32_t i = 0; i < in->geometry.lanes; i++) {
        if (load32(&in->board.busy[i].owner) == owner)
            return i;
    }
    return NO_LANE;
}

static bool is_claimed(const struct words *words)
{
    return knit_claim_gen(words->claim) == knit_gen_next(knit_word_gen(words->word));
}

static void check_owner(struct look *look, uint32_t slot, const struct words *words)
{
    const uint32_t owner = knit_claim_owner(words->claim);
    const uint32_t lane = lane_of(look->in, owner);
    struct words again;
    const char *wrong = NULL;

    if (owner == KNIT_OWNER_NONE)
        wrong = "no owner";
    else if (owner == KNIT_OWNER_HOST)
        wrong = "the host, which has not answered it";
    else if (lane == NO_LANE)
        wrong = "a worker that serves no lane";
    else if (knit_park_state(load32(&look->in->board.park[lane].value)) == KNIT_PARK_VACANT)
        wrong = "a worker that is gone";
    if (wrong != NULL && read_slot(look->in, slot, &again) && again.claim == words->claim &&
        again.word == words->word)
        found(look, "slot %u: generation %llu is claimed by %s (owner %u)", slot,
            (ull)knit_claim_gen(words->claim), wrong, owner);
}

/* The value that the slot's call emitted last. One that is half written may be a dead worker's. */
static void check_emitted(struct look *look, uint32_t slot)
{
    const struct knit_progress_cell *cell = &look->in->reply.progress[slot];
    const uint64_t seq = load64(&cell->seq);
    const uint32_t len = (uint32_t)load64(&cell->meta);

    if (seq != 0 && (seq & 1) == 0 && (len == 0 || len > KNIT_VALUE_MAX) &&
        load64(&cell->seq) == seq)
        found(look, "slot %u: a value of %u bytes was emitted", slot, len);
}

/* The answer in the slot, collected or not. */
static void check_answer(struct look *look, uint32_t slot, const struct words *words)
{
    const struct knit_geometry *geometry = &look->in->geometry;
    const uint64_t gen = knit_word_gen(words->word), len = knit_meta_len(words->meta);
    const uint32_t lane = knit_meta_lane(words->meta);

    if (knit_word_status(words->word) > KNIT_STATUS_ERROR)
        found(look, "slot %u: its answer has status %u", slot, knit_word_status(words->word));
    if (knit_word_flags(words->word) > KNIT_CELL_IN_ARENA)
        found(look, "slot %u: its answer has flags %#x", slot, knit_word_flags(words->word));
    if (lane >= geometry->lanes) {
        found(look, "slot %u: its answer is of lane %u of %u", slot, lane, geometry->lanes);
        return;
    }
    if ((knit_word_flags(words->word) & KNIT_CELL_IN_ARENA) == 0) {
        if (len > KNIT_SLAB_BYTES)
            found(look, "slot %u: its answer has %llu bytes in a slab that holds %u", slot,
                (ull)len, KNIT_SLAB_BYTES);
        return;
    }
    if (words->released == gen)
        return;
    if (words->block > geometry->reply_arena_bytes ||
        len > geometry->reply_arena_bytes - words->block) {
        found(look, "slot %u: its answer's block, %llu bytes at %llu, is outside the arena", slot,
            (ull)len, (ull)words->block);
        return;
    }
    look->counts.held++;
    look->counts.held_bytes += len;
    /* An answer may begin inside its block; the boundary before it belongs to the block. */
    look->blocks[look->block_count++] =
        (struct block){.begin = words->block / KNIT_ARENA_ALIGN * KNIT_ARENA_ALIGN,
            .end = words->block + len,
            .word = words->word,
            .lane = lane,
            .slot = slot};
}

static void check_slot(struct look *look, uint32_t slot)
{
    struct words words;
    uint64_t claimed, answered, aborted;

    if (!read_slot(look->in, slot, &words))
        return;
    claimed = knit_claim_gen(words.claim);
    answered = knit_word_gen(words.word);
    if (words.released > KNIT_GEN_MASK || knit_gen_diff(words.released, answered) > 0)
        found(look, "slot %u: generation %llu is released and %llu is answered", slot,
            (ull)words.released, (ull)answered);
    aborted = words.abort & ~KNIT_ABORT_IF_QUEUED;
    if (aborted > KNIT_GEN_MASK || knit_gen_diff(aborted, answered) > 1)
        found(look, "slot %u: generation %llu is aborted and %llu is answered", slot, (ull)aborted,
            (ull)answered);
    if (is_claimed(&words)) {
        look->counts.running++;
        check_owner(look, slot, &words);
    } else if (claimed != answered) {
        found(look, "slot %u: generation %llu is claimed and %llu is answered", slot, (ull)claimed,
            (ull)answered);
    } else {
        if (words.claim != 0 && knit_claim_owner(words.claim) == KNIT_OWNER_NONE)
            found(look, "slot %u: generation %llu was claimed by no owner", slot, (ull)claimed);
        check_answer(look, slot, &words);
    }
    check_emitted(look, slot);
}

/* ---- blocks ---- */

static int by_place(const void *a, const void *b)
{
    const struct block *left = a, *right = b;

    if (left->lane != right->lane)
        return left->lane < right->lane ? -1 : 1;
    return (left->begin > right->begin) - (left->begin < right->begin);
}

static bool is_live(const struct look *look, const struct block *block)
{
    uint64_t released = load64(&look->in->request.released[block->slot]);

    return released != knit_word_gen(block->word) &&
           load64(&look->in->reply.reply[block->slot].word) == block->word &&
           knit_claim_gen(load64(&look->in->reply.claim[block->slot])) ==
               knit_word_gen(block->word);
}

static void check_blocks(struct look *look)
{
    const struct block *furthest = NULL;

    qsort(look->blocks, look->block_count, sizeof(*look->blocks), by_place);
    for (uint32_t i = 0; i < look->block_count; i++) {
        const struct block *block = &look->blocks[i];
        uint64_t touched = load64(&look->in->reply.lane[block->lane].touched);

        if (block->end > touched && is_live(look, block))
            found(look, "slot %u: its answer's block ends at %llu, lane %u used %llu bytes",
                block->slot, (ull)block->end, block->lane, (ull)touched);
        if (furthest != NULL && furthest->lane == block->lane && furthest->end > block->begin &&
            is_live(look, furthest) && is_live(look, block))
            found(look, "slots %u and %u: their answers' blocks overlap in the arena of lane %u",
                furthest->slot, block->slot, block->lane);
        if (furthest == NULL || furthest->lane != block->lane || block->end > furthest->end)
            furthest = block;
    }
}

/* ---- rings ---- */

struct ring {
    struct look *look;
    struct knit_cursor cursor; /* for its reads alone: it is neither moved nor raised */
    uint32_t lane;
    const char *name; /* behind the lane's number */
    uint64_t head;
    uint64_t ready; /* first READY position ... */
    bool has_ready; /* ... if there is one */
};

/* No process has written there, nor consumed from there, since it was loaded. */
static bool stands(const struct ring *ring, uint64_t q, uint64_t ctrl)
{
    return knit_cursor_ctrl(&ring->cursor, q) == ctrl && load64(ring->cursor.head) == ring->head;
}

/* Whether the published call of that cell is READY. */
static bool is_ready(const struct ring *ring, uint64_t ctrl)
{
    uint64_t claim;

    return knit_ctrl_slot(ctrl) < ring->cursor.slots &&
           knit_cursor_state(&ring->cursor, ctrl, &claim) == KNIT_CELL_READY;
}

/* Whoever looks for calls to steal looks there. */
static void check_occupied(const struct ring *ring, uint64_t q, uint64_t ctrl)
{
    const uint32_t lane = ring->lane;

    if ((load64(&ring->look->in->request.occupied[lane / 64]) >> lane % 64 & 1) == 0 &&
        is_ready(ring, ctrl) && knit_cursor_ctrl(&ring->cursor, q) == ctrl)
        found(ring->look,
            "lane %u%s, position %llu: queued, but the caller says it has no calls there", lane,
            ring->name, (ull)q);
}

static void check_ready(struct ring *ring, uint64_t q, uint64_t ctrl)
{
    struct look *look = ring->look;
    const struct knit_request_cell *cell = knit_cursor_cell(&ring->cursor, q);
    const uint64_t meta = load64(&cell->meta), offset = load64(&cell->body[0]);
    const uint64_t len = knit_meta_len(meta), arena = look->in->geometry.request_arena_bytes;
    const uint32_t flags = knit_meta_flags(meta), slot = knit_ctrl_slot(ctrl);
    const bool is_block = (flags & KNIT_CELL_IN_ARENA) != 0;

    if (knit_cursor_ctrl(&ring->cursor, q) != ctrl)
        return;
    if (look->is_queued[slot])
        found(look, "lane %u%s, position %llu: slot %u is queued twice", ring->lane, ring->name,
            (ull)q, slot);
    look->is_queued[slot] = 1;
    look->counts.queued++;
    check_occupied(ring, q, ctrl);
    if (!ring->has_ready)
        ring->ready = q;
    ring->has_ready = true;
    if ((flags & ~(KNIT_CELL_IN_ARENA | look->in->geometry.features)) != 0)
        found(look, "lane %u%s, position %llu: flags %#x", ring->lane, ring->name, (ull)q, flags);
    else if (!is_block && len > KNIT_SLAB_BYTES)
        found(look, "lane %u%s, position %llu: %llu bytes in a slab that holds %u", ring->lane,
            ring->name, (ull)q, (ull)len, KNIT_SLAB_BYTES);
    else if (is_block && (offset > arena || len > arena - offset))
        found(look,
            "lane %u%s, position %llu: its argument, %llu bytes at %llu, is outside the arena",
            ring->lane, ring->name, (ull)q, (ull)len, (ull)offset);
}

static void check_claimed(const struct ring *ring, uint64_t q)
{
    struct look *look = ring->look;
    /* Loaded after the claim, because a claimer raises it before. */
    uint64_t head = load64(ring->cursor.head);

    if ((int64_t)(q + 1 - head) > (int64_t)KNIT_HEAD_LAG_MAX)
        found(look, "lane %u%s, position %llu: claimed though only %llu are consumed", ring->lane,
            ring->name, (ull)q, (ull)head);
    if (ring->has_ready) {
        uint64_t ctrl = knit_cursor_ctrl(&ring->cursor, ring->ready);

        if (knit_cursor_is_published(&ring->cursor, ring->ready, ctrl) && is_ready(ring, ctrl))
            found(look, "lane %u%s, position %llu: claimed before position %llu", ring->lane,
                ring->name, (ull)q, (ull)ring->ready);
    }
}

/* A cell of the published run that begins at `head`. */
static void check_published(struct ring *ring, uint64_t q, uint64_t ctrl)
{
    struct look *look = ring->look;
    const uint32_t slot = knit_ctrl_slot(ctrl);
    uint64_t claim;

    if (slot >= look->in->geometry.slots) {
        if (stands(ring, q, ctrl))
            found(look, "lane %u%s, position %llu: slot %u of %u", ring->lane, ring->name, (ull)q,
                slot, look->in->geometry.slots);
        return;
    }
    switch (knit_cursor_state(&ring->cursor, ctrl, &claim)) {
    case KNIT_CELL_READY:
        check_ready(ring, q, ctrl);
        break;
    case KNIT_CELL_CLAIMED:
        check_claimed(ring, q);
        break;
    case KNIT_CELL_BAD_GENERATION:
        if (stands(ring, q, ctrl))
            found(look, "lane %u%s, position %llu: generation %llu of slot %u, which has skipped",
                ring->lane, ring->name, (ull)q, (ull)knit_ctrl_gen(ctrl), slot);
        break;
    case KNIT_CELL_EMPTY:
    case KNIT_CELL_BAD_SLOT:
    default:
        break; /* seen before */
    }
}

/* A cell behind the published run, which ends at `end`. */
static void check_behind(const struct ring *ring, uint64_t q, uint64_t end)
{
    struct look *look = ring->look;
    const struct knit_cursor *cursor = &ring->cursor;
    const uint64_t ctrl = knit_cursor_ctrl(cursor, q), before = q - cursor->cells;

    if (knit_cursor_is_published(cursor, q, ctrl)) {
        if (q != end && stands(ring, q, ctrl) &&
            !knit_cursor_is_published(cursor, end, knit_cursor_ctrl(cursor, end)))
            found(look, "lane %u%s, position %llu: published, but position %llu is not", ring->lane,
                ring->name, (ull)q, (ull)end);
    } else if (!knit_cursor_is_published(cursor, before, ctrl)) {
        if (stands(ring, q, ctrl))
            found(look, "lane %u%s, position %llu: bears lap %u, before it is published %u",
                ring->lane, ring->name, (ull)q, knit_ctrl_tag(ctrl),
                knit_tag(before, cursor->cells));
    } else if (is_ready(ring, ctrl) && stands(ring, q, ctrl)) {
        found(look, "lane %u%s, position %llu: passed over, its call is not claimed", ring->lane,
            ring->name, (ull)before);
    }
}

static void check_ring(struct look *look, uint32_t lane, enum knit_ring which)
{
    static const char *const names[KNIT_CLASSES_MAX] = {[KNIT_RING_NORMAL] = "",
        [KNIT_RING_URGENT] = " (urgent)",
        [KNIT_RING_BACKGROUND] = " (background)",
        [KNIT_RING_PINNED] = " (pinned)"};
    const struct knit_inspect_session *in = look->in;
    const uint32_t count = in->geometry.cells;
    struct ring ring = {.look = look, .lane = lane, .name = names[which]};
    const struct knit_cursor *cursor = &ring.cursor;
    uint64_t q, end, ctrl;

    knit_cursor_begin(&ring.cursor, &in->geometry, &in->request, &in->reply, lane, which);
    q = ring.head = cursor->q;
    ctrl = knit_cursor_ctrl(cursor, q - 1);
    if (!knit_cursor_is_published(cursor, q - 1, ctrl) &&
        !knit_cursor_is_published(cursor, q - 1 + count, ctrl) && stands(&ring, q - 1, ctrl))
        found(look, "lane %u%s: %llu positions are consumed, the last was never published", lane,
            ring.name, (ull)q);
    for (; q != ring.head + count; q++) {
        ctrl = knit_cursor_ctrl(cursor, q);
        if (!knit_cursor_is_published(cursor, q, ctrl))
            break;
        check_published(&ring, q, ctrl);
    }
    for (end = q; q != ring.head + count; q++)
        check_behind(&ring, q, end);
}

/* ---- lines ---- */

static void check_completions(struct look *look, uint32_t lane)
{
    const uint32_t count = look->in->geometry.cells;
    const _Atomic uint32_t *ring = look->in->reply.completions + (size_t)lane * count;
    const uint64_t tail = load64(&look->in->reply.lane[lane].completion_tail);

    /* Entries are written before the tail moves; a worker may die in between, and its replacement
     * too. */
    uint32_t ahead = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t position = tail - count + i;
        uint32_t entry = load32(&ring[position & (count - 1)]);
        uint16_t lap = (uint16_t)(position / count + 1), bears_lap = (uint16_t)(entry & 0xffff);
        bool is_fine = bears_lap == lap || (i == ahead && bears_lap == (uint16_t)(lap + 1));

        if (load64(&look->in->reply.lane[lane].completion_tail) != tail)
            return; /* it changes, so it is not stuck */
        ahead += is_fine && bears_lap != lap;
        if (!is_fine)
            found(look, "lane %u, completion %llu: bears lap %u instead of %u", lane, (ull)position,
                bears_lap, lap);
        else if (knit_completion_slot(entry) >= look->in->geometry.slots)
            found(look, "lane %u, completion %llu: slot %u of %u", lane, (ull)position,
                knit_completion_slot(entry), look->in->geometry.slots);
    }
}

/* blocked_on_arena means that the lane's worker has finished a call and could not answer it. */
static void check_blocked_on_arena(struct look *look, uint32_t lane)
{
    const struct knit_inspect_session *in = look->in;
    const _Atomic uint32_t *blocked = &in->reply.lane[lane].blocked_on_arena;
    const uint32_t owner = load32(&in->board.busy[lane].owner), value = load32(blocked);
    struct words words;

    if (value == 0)
        return;
    if (value > 1) {
        found(look, "lane %u: blocked_on_arena is %u", lane, value);
        return;
    }
    look->counts.blocked_on_arena++;
    for (uint32_t slot = 0; slot < in->geometry.slots; slot++) {
        if (!read_slot(in, slot, &words) ||
            (is_claimed(&words) && knit_claim_owner(words.claim) == owner))
            return;
    }
    if (load32(blocked) == 1)
        found(look, "lane %u: blocked on its arena, though its worker defers no reply", lane);
}

static void check_bell(struct look *look, uint32_t lane)
{
    uint32_t bell = load32(&look->in->request.bell[lane]);
    uint32_t park = load32(&look->in->board.park[lane].value);

    if (bell == 0)
        return;
    if (knit_park_state(bell) != KNIT_PARK_PARKED)
        found(look, "lane %u: the bell names a park of a worker that is not parked (%#x)", lane,
            bell);
    else if ((int32_t)(bell - park) > 0)
        found(look, "lane %u: the bell names a park to come (%#x, now %#x)", lane, bell, park);
}

static void check_lines(struct look *look)
{
    const struct knit_inspect_session *in = look->in;
    uint32_t state = load32(&in->reply.state->state) & ~KNIT_STATE_STOPS;
    uint32_t notified = load32(in->reply.notified), waiting = load32(in->request.waiting);

    look->counts.state = (enum knit_session_state)state;
    if (state > KNIT_STATE_EVICTED)
        found(look, "the session's state is %u", state);
    /* 1: a sleep on the futex without an arm. */
    if (waiting == 1)
        found(look, "the caller waits without saying for what");
    else if (waiting != 0 && (int32_t)(notified - waiting) > 0)
        found(look, "the caller was woken from a sleep to come (%#x, now %#x)", notified, waiting);
    for (uint32_t lane = in->geometry.lanes; lane < KNIT_LANES_MAX; lane++) {
        if ((load64(&in->request.occupied[lane / 64]) >> lane % 64 & 1) != 0)
            found(look, "the caller has calls in lane %u of %u", lane, in->geometry.lanes);
    }
    for (uint32_t lane = 0; lane < in->geometry.lanes; lane++) {
        check_bell(look, lane);
        check_blocked_on_arena(look, lane);
        check_completions(look, lane);
    }
}

int knit_inspect_session(const struct knit_inspect_session *session,
    const struct knit_inspect_report *report, struct knit_inspect_counts *ret_counts)
{
    const struct knit_geometry *geometry = &session->geometry;
    const uint32_t used = knit_rings_used(geometry, &session->request);
    struct look look = {.in = session,
        .report = report,
        .blocks = calloc(geometry->slots, sizeof(*look.blocks)),
        .is_queued = calloc(geometry->slots, sizeof(*look.is_queued))};

    if (look.blocks == NULL || look.is_queued == NULL) {
        free(look.blocks);
        free(look.is_queued);
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < geometry->slots; slot++)
        check_slot(&look, slot);
    check_blocks(&look);
    for (uint32_t i = 0; i < geometry->lanes * KNIT_CLASSES_MAX; i++) {
        if ((used >> i % KNIT_CLASSES_MAX & 1) != 0)
            check_ring(&look, i / KNIT_CLASSES_MAX, i % KNIT_CLASSES_MAX);
    }
    check_lines(&look);
    free(look.blocks);
    free(look.is_queued);
    *ret_counts = look.counts;
    return 0;
}

/* ---- board ---- */

struct board_look {
    const struct knit_board_view *board;
    const struct knit_inspect_report *report;
    uint32_t lanes, findings;
};

__attribute__((format(printf, 2, 3))) static void board_found(
    struct board_look *look, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    report_finding(look->report, &look->findings, format, args);
    va_end(args);
}

/* Who searches for a parked worker looks where the bit is. */
static void check_parked(struct board_look *look, uint32_t lane)
{
    const _Atomic uint32_t *place = &look->board->park[lane].value;
    const uint32_t park = load32(place);
    const bool is_said = knit_board_is_said_parked(look->board, lane);

    if (is_said == (knit_park_state(park) == KNIT_PARK_PARKED) || load32(place) != park ||
        knit_board_is_said_parked(look->board, lane) != is_said)
        return;
    board_found(look,
        is_said ? "lane %u: is said to be parked, and is not" : "lane %u: parked unsaid", lane);
}

static void check_lane(struct board_look *look, uint32_t lane)
{
    const struct knit_busy_line *busy = &look->board->busy[lane];
    const _Atomic uint32_t *place = &look->board->park[lane].value;
    const uint32_t park = load32(place), owner = load32(&busy->owner);
    const uint64_t running = load64(&busy->running);

    if (load32(place) != park)
        return; /* it changes, so it is not stuck */
    if (knit_park_state(park) > KNIT_PARK_PARKED) {
        board_found(look, "lane %u: its park word is %#x", lane, park);
        return;
    }
    if (knit_park_state(park) != KNIT_PARK_AWAKE && running != 0)
        board_found(look, "lane %u: runs a call of session %llu while %s", lane,
            (ull)knit_running_session(running),
            knit_park_state(park) == KNIT_PARK_PARKED ? "parked" : "it has no worker");
    if (knit_park_state(park) == KNIT_PARK_VACANT)
        return;
    if (owner <= KNIT_OWNER_HOST || owner > KNIT_OWNER_MAX) {
        board_found(look, "lane %u: is served by owner %u, which is no worker", lane, owner);
        return;
    }
    for (uint32_t i = 0; i < lane; i++) {
        if (load32(&look->board->busy[i].owner) == owner &&
            knit_park_state(load32(&look->board->park[i].value)) != KNIT_PARK_VACANT)
            board_found(look, "lanes %u and %u: are served by one owner, %u", i, lane, owner);
    }
}

uint32_t knit_inspect_board(
    const struct knit_board_view *board, uint32_t lanes, const struct knit_inspect_report *report)
{
    struct board_look look = {.board = board, .report = report, .lanes = lanes};

    for (uint32_t lane = 0; lane < lanes; lane++) {
        check_lane(&look, lane);
        check_parked(&look, lane);
    }
    for (uint32_t lane = lanes; lane < KNIT_LANES_MAX; lane++) {
        if (knit_board_is_said_parked(board, lane))
            board_found(&look, "lane %u of %u is said to be parked", lane, lanes);
    }
    return look.findings;
}

struct knit_inspect_lane knit_inspect_lane(const struct knit_board_view *board, uint32_t lane)
{
    static const char *const states[] = {"vacant", "awake", "parked", "in no state"};
    const struct knit_board_running call = knit_board_running(board, lane);

    return (struct knit_inspect_lane){.state = states[knit_board_park_state(board, lane)],
        .session = call.session,
        .slot = call.slot,
        .task = knit_board_task(board, lane)};
}

/* ---- headers ---- */

const char *knit_inspect_head(
    const struct knit_segment_header *header, enum knit_segment_kind kind, uint64_t bytes)
{
    const struct knit_geometry *geometry = &header->geometry;
    const char *wrong = NULL;
    uint64_t wanted = 0;

    if (header->magic != KNIT_LAYOUT_MAGIC)
        return "it does not begin like a segment";
    if (header->version != KNIT_LAYOUT_VERSION || geometry->version != KNIT_LAYOUT_VERSION)
        return "it has another version of the memory layout";
    if (header->kind != (uint32_t)kind)
        return "it is a segment of another kind";
    if (kind == KNIT_SEGMENT_REQUEST || kind == KNIT_SEGMENT_REPLY)
        wrong = knit_geometry_check(geometry);
    else if (kind == KNIT_SEGMENT_RIGHTS &&
             (geometry->slots < 1 || geometry->slots > KNIT_TASKS / 64 + 1))
        wrong = "a row has more words than there are tasks, or none";
    else if (geometry->lanes < 1 || geometry->lanes > KNIT_LANES_MAX)
        wrong = "lanes out of range (1 to 256)";
    if (wrong != NULL)
        return wrong;
    switch (kind) {
    case KNIT_SEGMENT_REQUEST:
        wanted = knit_layout_request_bytes(geometry);
        break;
    case KNIT_SEGMENT_REPLY:
        wanted = knit_layout_reply_bytes(geometry);
        break;
    case KNIT_SEGMENT_BOARD:
        wanted = knit_layout_board_bytes(geometry->lanes);
        break;
    case KNIT_SEGMENT_POOL:
        wanted = knit_layout_pool_bytes(geometry->lanes);
        break;
    case KNIT_SEGMENT_RIGHTS:
        wanted = knit_layout_rights_bytes(64 * (geometry->slots - 1));
        break;
    }
    return header->total_bytes == bytes && wanted == bytes ? NULL
                                                           : "it has another size than it says";
}
