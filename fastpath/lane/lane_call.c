/* SPDX-License-Identifier: Apache-2.0 */
/* One call on the worker's side: READY -> CLAIMED -> ANSWERED.
 *
 * What no correct caller can write into a cell evicts the session, but only after a second load of
 * ctrl returned the same: a cell that changes in between was merely read too late.
 *
 * Edges, beside those of cursor.h and wake.h:
 *   A1 answer       word release        with the session's word acquire: outcome's bytes
 *   N1 completion   completion release  with the session's completion acquire
 *   R1 release      released acquire    with the session's release: it no longer reads the block
 *   S1 settle       claim, then abort, seq_cst; with the session's abort, then claim: one sees the
 *                   other
 */
#include "fastpath/lane/lane_private.h"

#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/state.h"
#include "fastpath/lane/wake.h"

#define RECLAIM_CALL    8u                /* blocks looked at for each one that is allocated */
#define COPY_KEPT_BYTES ((size_t)1 << 20) /* a larger copy of an argument is given back */

/* ---- finding -------------------------------------------------------------------------------- */

void knit_lane_evict(
    struct knit_lane *lane, struct knit_worker_session *session, const char *reason)
{
    session->is_evicted = true;
    if (lane->options.on_evict != NULL)
        lane->options.on_evict(lane->options.event_arg, session->in.id, reason);
}

/* NULL, or what no correct caller could have written. */
static const char *check_ready(const struct knit_worker_session *session,
    const struct knit_ready_call *ready, uint64_t argument_max)
{
    uint64_t len = knit_meta_len(ready->meta);
    if ((knit_meta_flags(ready->meta) & ~KNIT_CELL_IN_ARENA) != 0)
        return "unknown flags in a request cell";
    if (argument_max != 0 && len > argument_max)
        return "an argument over the limit in a request cell";
    if ((knit_meta_flags(ready->meta) & KNIT_CELL_IN_ARENA) == 0)
        return len <= KNIT_INLINE_MAX ? NULL : "a length over the cell's in a request cell";
    uint64_t arena = session->in.geometry.request_arena_bytes;
    uint64_t offset = ready->body[0];
    if (offset > arena || len > arena - offset)
        return "an argument outside the request arena";
    return NULL;
}

bool knit_lane_find(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, struct knit_ready_call *ret)
{
    /* A caller that publishes without end gains one turn of one worker. */
    uint32_t steps = cursor->cells;
    knit_cursor_catch_up(cursor);
    for (;;) {
        const char *wrong = NULL;
        switch (knit_cursor_find(cursor, &steps, ret)) {
        case KNIT_CELL_READY:
            wrong = check_ready(session, ret, lane->options.argument_max_bytes);
            break;
        case KNIT_CELL_BAD_SLOT:
            wrong = "a slot that does not exist in a request cell";
            break;
        case KNIT_CELL_BAD_GENERATION:
            wrong = "a generation that skips in a request cell";
            break;
        case KNIT_CELL_EMPTY:
        case KNIT_CELL_CLAIMED:
        default:
            return false;
        }
        if (wrong == NULL)
            return true;
        /* A cell that has changed was read too late: it is read again. */
        if (knit_cursor_ctrl(cursor, cursor->q) == ret->ctrl) {
            knit_lane_evict(lane, session, wrong);
            return false;
        }
        steps--;
    }
}

/* ---- reply arena ---------------------------------------------------------------------------- */

/* Has the caller let go of the slot's block? It says so in rel, and so does a later call of the
 * slot, which may have gone to another lane and raised rel beyond our block's generation. */
static bool is_released(const struct knit_worker_session *session, uint32_t slot)
{
    /* R1, acquire. */
    uint64_t released =
        atomic_load_explicit(&session->in.request.released[slot], memory_order_acquire);
    if (released == session->block_gen[slot])
        return true;
    /* acquire: whoever claimed that call saw it published (P1), which was after the release. */
    uint64_t claim = atomic_load_explicit(&session->in.reply.claim[slot], memory_order_acquire);
    return knit_claim_gen(claim) != session->block_gen[slot];
}

static void drop_block(struct knit_worker_session *session, uint32_t slot)
{
    const uint32_t next = session->block_next[slot], before = session->block_before[slot];
    knit_arena_release(session->arena, session->block[slot]);
    session->block[slot] = KNIT_NO_BLOCK;
    if (before == KNIT_NO_SLOT)
        session->block_head = next;
    else
        session->block_next[before] = next;
    if (next == KNIT_NO_SLOT)
        session->block_tail = before;
    else
        session->block_before[next] = before;
    if (session->block_at == slot)
        session->block_at = next;
}

void knit_lane_note_block(
    struct knit_worker_session *session, uint32_t slot, uint64_t gen, uint64_t block)
{
    session->block[slot] = block;
    session->block_gen[slot] = gen;
    session->block_next[slot] = KNIT_NO_SLOT;
    session->block_before[slot] = session->block_tail;
    if (session->block_tail == KNIT_NO_SLOT)
        session->block_head = slot;
    else
        session->block_next[session->block_tail] = slot;
    session->block_tail = slot;
}

/* Frees those of up to `most` blocks that the caller has let go of, going on where the last sweep
 * ended: one that is held for long keeps nobody behind it, and many that are held cost each call no
 * more than one. */
static void reclaim(struct knit_worker_session *session, uint32_t most)
{
    if (most == UINT32_MAX)
        session->block_at = KNIT_NO_SLOT;
    uint32_t slot = session->block_at != KNIT_NO_SLOT ? session->block_at : session->block_head;
    for (uint32_t i = 0; i < most && slot != KNIT_NO_SLOT; i++) {
        uint32_t next = session->block_next[slot];
        if (is_released(session, slot))
            drop_block(session, slot);
        slot = next;
    }
    session->block_at = slot;
}

/* Lets the arena grow by what is asked for, while all lanes together stay within the session's
 * budget. Not by all that is left of it: what others grow by is seen only when they have. */
static bool raise_limit(struct knit_lane *lane, struct knit_worker_session *session, size_t len)
{
    uint64_t arena = session->in.geometry.reply_arena_bytes;
    uint64_t budget = session->in.reply_budget_bytes;
    if (session->arena_limit >= arena)
        return false;
    uint64_t others = 0;
    for (uint32_t i = 0; i < lane->options.lanes; i++) {
        /* relaxed: a count; two workers that grow at once may pass the budget by what they grow. */
        if (i != lane->options.index)
            others +=
                atomic_load_explicit(&session->in.reply.lane[i].touched, memory_order_relaxed);
    }
    uint64_t limit = budget > others ? budget - others : 0;
    uint64_t wanted = knit_arena_touched(session->arena) + len + KNIT_ARENA_ALIGN;
    if (limit > arena)
        limit = arena;
    if (limit > wanted)
        limit = wanted;
    if (limit <= session->arena_limit)
        return false;
    session->arena_limit = limit;
    knit_arena_limit(session->arena, limit);
    return true;
}

static int note_touched(struct knit_lane *lane, struct knit_worker_session *session)
{
    /* relaxed: a count. */
    atomic_store_explicit(&session->in.reply.lane[lane->options.index].touched,
        knit_arena_touched(session->arena), memory_order_relaxed);
    return 0;
}

static int alloc_more(
    struct knit_lane *lane, struct knit_worker_session *session, size_t len, uint64_t *ret_offset)
{
    if (!raise_limit(lane, session, len) || knit_arena_alloc(session->arena, len, ret_offset) != 0)
        return KNIT_ARENA_E_FULL;
    return note_touched(lane, session);
}

static int alloc_block(
    struct knit_lane *lane, struct knit_worker_session *session, size_t len, uint64_t *ret_offset)
{
    reclaim(session, RECLAIM_CALL);
    int got = knit_arena_alloc(session->arena, len, ret_offset);
    if (got != 0) {
        reclaim(session, UINT32_MAX);
        got = knit_arena_alloc(session->arena, len, ret_offset);
    }
    return got == 0 ? note_touched(lane, session) : alloc_more(lane, session, len, ret_offset);
}

static unsigned char *arena_base(
    const struct knit_lane *lane, const struct knit_worker_session *session)
{
    return session->in.reply.arena + lane->options.index * session->in.geometry.reply_arena_bytes;
}

void *knit_lane_room(struct knit_lane *lane, struct knit_job *job, size_t len)
{
    struct knit_worker_session *session = lane->current;
    if (lane->room != KNIT_NO_BLOCK) {
        knit_arena_release(session->arena, lane->room);
        lane->room = KNIT_NO_BLOCK;
    }
    if (len == 0 || len > job->result_max || alloc_block(lane, session, len, &lane->room) != 0)
        return NULL;
    return arena_base(lane, session) + lane->room;
}

/* ---- answering ------------------------------------------------------------------------------ */

/* The numbers of an answer. */
struct answer {
    uint32_t slot, status;
    uint64_t gen;
    size_t len;
};

/* CLAIMED -> ANSWERED. `block`: where the bytes lie in our arena, or KNIT_NO_BLOCK: they go into
 * the cell. */
static void write_answer(struct knit_lane *lane, struct knit_worker_session *session,
    const struct answer *answer, const void *bytes, uint64_t block)
{
    const uint32_t slot = answer->slot;
    const size_t len = answer->len;
    struct knit_reply_cell *cell = &session->in.reply.reply[slot];
    uint32_t flags = 0;
    /* relaxed: A1 publishes all of it. */
    if (block != KNIT_NO_BLOCK) {
        flags = KNIT_CELL_IN_ARENA;
        atomic_store_explicit(&cell->block, block, memory_order_relaxed);
    } else {
        knit_cell_store(cell->body, bytes, len);
    }
    atomic_store_explicit(
        &cell->meta, knit_meta(lane->options.index, 0, 0, (uint32_t)len), memory_order_relaxed);
    /* A1 answer, release: the one outcome. */
    atomic_store_explicit(
        &cell->word, knit_word(answer->gen, answer->status, flags), memory_order_release);

    const uint32_t cells = session->in.geometry.cells;
    uint64_t position = session->completion_tail++;
    /* N1 news, release. */
    atomic_store_explicit(
        &session->in.reply
             .completions[(size_t)lane->options.index * cells + (position & (cells - 1))],
        knit_completion(slot, position, cells), memory_order_release);
    atomic_store_explicit(&session->in.reply.lane[lane->options.index].completion_tail,
        position + 1, memory_order_release);
    session->slot_step = slot - session->last_slot;
    session->last_slot = slot;
    if (!session->has_answers)
        lane->answered[lane->answered_count++] = session;
    session->has_answers = true;
}

/* The slot is used again: its last block is released, whether or not its caller took the trouble to
 * say so. */
static void forget_block(struct knit_worker_session *session, uint32_t slot)
{
    if (session->block[slot] != KNIT_NO_BLOCK)
        drop_block(session, slot);
}

/* No room: hold the result back and say so, for the caller to ring us when it releases
 * something. */
static bool defer_reply(
    struct knit_lane *lane, struct knit_worker_session *session, const struct knit_job *job)
{
    unsigned char *bytes = malloc(job->result_len);
    if (bytes == NULL)
        return false;
    memcpy(bytes, job->result, job->result_len);
    session->deferred = (struct knit_deferred_reply){.any = true,
        .slot = job->slot,
        .gen = job->gen,
        .status = job->status,
        .bytes = bytes,
        .len = job->result_len};
    atomic_store_explicit(
        &session->in.reply.lane[lane->options.index].blocked_on_arena, 1, memory_order_relaxed);
    /* Starved before the look at rel; the caller: rel before the look at starved. */
    knit_bell_fence();
    (void)knit_lane_send_deferred(lane, session, UINT32_MAX);
    return true;
}

bool knit_lane_send_deferred(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    struct knit_deferred_reply *deferred = &session->deferred;
    uint64_t block;
    reclaim(session, most);
    if (knit_arena_alloc(session->arena, deferred->len, &block) == 0)
        (void)note_touched(lane, session);
    else if (alloc_more(lane, session, deferred->len, &block) != 0)
        return false;
    memcpy(arena_base(lane, session) + block, deferred->bytes, deferred->len);
    knit_lane_note_block(session, deferred->slot, deferred->gen, block);
    struct answer answer = {deferred->slot, deferred->status, deferred->gen, deferred->len};
    write_answer(lane, session, &answer, NULL, block);
    atomic_store_explicit(
        &session->in.reply.lane[lane->options.index].blocked_on_arena, 0, memory_order_relaxed);
    free(deferred->bytes);
    *deferred = (struct knit_deferred_reply){0};
    return true;
}

static void answer_job(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_job *job)
{
    uint64_t block = KNIT_NO_BLOCK;
    if (job->result_len > KNIT_INLINE_MAX) {
        const unsigned char *base = arena_base(lane, session);
        const unsigned char *result = job->result;
        if (lane->room != KNIT_NO_BLOCK && result >= base + lane->room &&
            result < base + session->in.geometry.reply_arena_bytes) {
            uint64_t skipped = (uint64_t)(result - base) - lane->room;
            knit_arena_shrink(session->arena, lane->room, skipped + job->result_len);
            knit_lane_note_block(session, job->slot, job->gen, lane->room);
            lane->room = KNIT_NO_BLOCK;
            block = (uint64_t)(result - base);
        } else if (alloc_block(lane, session, job->result_len, &block) == 0) {
            memcpy(arena_base(lane, session) + block, job->result, job->result_len);
            knit_lane_note_block(session, job->slot, job->gen, block);
        } else if (defer_reply(lane, session, job)) {
            return;
        } else {
            /* Not even private memory: the runner words a small error instead. */
            job->refusal = KNIT_INTERNAL;
            lane->options.run(lane->options.run_arg, job);
        }
    }
    struct answer shape = {job->slot, job->status, job->gen, job->result_len};
    write_answer(lane, session, &shape, job->result, block);
}

/* ---- running -------------------------------------------------------------------------------- */

bool knit_lane_aborted(const struct knit_lane *lane, const struct knit_job *job)
{
    const struct knit_worker_session *session = lane->current;
    /* acquire: nothing is published by the flag; it only must not be loaded early. */
    return atomic_load_explicit(&session->in.request.abort[job->slot], memory_order_acquire) ==
               job->gen ||
           !knit_state_is_open(&session->in.reply);
}

/* Arguments of strangers are copied: they could change while the task reads them. */
static const void *private_copy(struct knit_lane *lane, const void *bytes, size_t len)
{
    if (len > lane->copy_size || lane->copy == NULL) {
        size_t size = len < 65536 ? 65536 : len;
        free(lane->copy);
        lane->copy = malloc(size);
        lane->copy_size = lane->copy != NULL ? size : 0;
        if (lane->copy == NULL)
            return NULL;
    }
    memcpy(lane->copy, bytes, len);
    return lane->copy;
}

static void prepare(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_ready_call *ready, struct knit_job *job)
{
    job->session = session->in.id;
    job->slot = knit_ctrl_slot(ready->ctrl);
    job->gen = knit_ctrl_gen(ready->ctrl);
    job->task = knit_meta_task(ready->meta);
    job->epoch = knit_meta_epoch(ready->meta);
    job->deadline_ns = ready->deadline;
    job->len = knit_meta_len(ready->meta);
    job->payload = ready->body;
    job->refusal = 0;
    job->was_refused = false;
    job->status = KNIT_STATUS_RESULT;
    job->result = job->body;
    job->result_len = 0;
    uint64_t most = session->in.geometry.reply_arena_bytes;
    if (lane->options.result_max_bytes != 0 && lane->options.result_max_bytes < most)
        most = lane->options.result_max_bytes;
    job->result_max = most > KNIT_INLINE_MAX ? most : KNIT_INLINE_MAX;
    /* S1, seq_cst: after our claim. */
    if (atomic_load_explicit(&session->in.request.abort[job->slot], memory_order_seq_cst) ==
            job->gen ||
        !knit_state_is_open(&session->in.reply)) {
        job->refusal = KNIT_CANCELLED;
        return;
    }
    if (job->deadline_ns != 0 && knit_clock_ns() >= job->deadline_ns) {
        job->refusal = KNIT_TIMEOUT;
        return;
    }
    if ((knit_meta_flags(ready->meta) & KNIT_CELL_IN_ARENA) != 0) {
        job->payload = session->in.request.arena + ready->body[0];
        if (!session->in.trusted)
            job->payload = private_copy(lane, job->payload, job->len);
        if (job->payload == NULL)
            job->refusal = KNIT_INTERNAL;
    }
}

/* Runs the job; its task's mean run follows, measured every time while it is long and now and then
 * while short. */
static void run(struct knit_lane *lane, struct knit_job *job)
{
    uint32_t *mean = &lane->mean_ns[job->task & 0xffff];
    if (job->refusal != 0 || (*mean != 0 && *mean < KNIT_SHORT_NS / 2 && lane->calls % 16 != 0)) {
        lane->options.run(lane->options.run_arg, job);
        return;
    }
    uint64_t start = knit_clock_ns();
    lane->options.run(lane->options.run_arg, job);
    uint64_t took = knit_clock_ns() - start;
    lane->was_long = lane->was_long || took > KNIT_SHORT_NS;
    /* Refusals say nothing of the task. */
    if (job->was_refused)
        return;
    if (took > UINT32_MAX)
        took = UINT32_MAX;
    *mean = *mean == 0 ? (uint32_t)took | 1 : (uint32_t)(((uint64_t)*mean * 7 + took) / 8) | 1;
    if (took > KNIT_SHORT_NS)
        knit_board_count(&lane->busy->busy_ns, took);
}

bool knit_lane_call(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, const struct knit_ready_call *ready)
{
    uint32_t slot = knit_ctrl_slot(ready->ctrl);
    if (!knit_cursor_claim(cursor, ready, lane->options.owner))
        return false;
    cursor->stood_ns = 0;
    struct knit_job *job = &lane->job;
    lane->current = session;
    lane->room = KNIT_NO_BLOCK;
    prepare(lane, session, ready, job);
    forget_block(session, slot);
    /* relaxed: hints for balancers, exact enough for the supervisor, who looks at the claim as
     * well. */
    atomic_store_explicit(&lane->busy->calls, ++lane->calls, memory_order_relaxed);
    atomic_store_explicit(
        &lane->busy->running, knit_running(session->in.id, slot), memory_order_relaxed);
    uint32_t mean = lane->mean_ns[job->task & 0xffff];
    bool is_short = mean != 0 && mean <= KNIT_SHORT_NS;
    lane->was_long = mean > KNIT_SHORT_NS;
    if (!is_short) {
        knit_lane_wake_callers(lane);
        bool may_help = lane->options.steal || knit_board_is_vacant(&lane->options.board,
                                                   (uint32_t)(cursor - session->cursor));
        if (may_help && knit_cursor_peek(cursor))
            knit_lane_wake_sibling(lane);
        knit_lane_leave(lane);
    }
    run(lane, job);
    if (!is_short)
        knit_lane_return(lane);
    answer_job(lane, session, job);
    if (lane->room != KNIT_NO_BLOCK)
        knit_arena_release(session->arena, lane->room);
    lane->room = KNIT_NO_BLOCK;
    lane->current = NULL;
    if (lane->copy_size > COPY_KEPT_BYTES) {
        free(lane->copy);
        lane->copy = NULL;
        lane->copy_size = 0;
    }
    return true;
}

/* ---- waking --------------------------------------------------------------------------------- */

static void wake_caller(struct knit_worker_session *session)
{
    uint32_t waiting = knit_wake_waiting(&session->in.request);
    if (waiting != 0 && knit_wake_raise(&session->in.reply, waiting))
        knit_wake_caller(
            &session->in.reply, waiting, session->in.bell_fd, session->in.bell_is_pipe);
}

void knit_lane_wake_callers(struct knit_lane *lane)
{
    if (lane->answered_count == 0)
        return;
    knit_bell_fence(); /* W2 */
    for (uint32_t i = 0; i < lane->answered_count; i++) {
        lane->answered[i]->has_answers = false;
        wake_caller(lane->answered[i]);
    }
    lane->answered_count = 0;
}

void knit_lane_wake_sibling(struct knit_lane *lane)
{
    if (lane->options.lanes == 1)
        return;
    /* Our claim before the look at park; the sibling: its park before its look at claims. */
    knit_bell_fence();
    for (uint32_t i = 0; i < lane->options.lanes; i++) {
        uint32_t park =
            atomic_load_explicit(&lane->options.board.park[i].value, memory_order_relaxed);
        if (i == lane->options.index || knit_park_state(park) != KNIT_PARK_PARKED ||
            lane->notified_park[i] == park)
            continue;
        lane->notified_park[i] = park;
        knit_wake_worker(&lane->options.pool, i);
        return;
    }
}
