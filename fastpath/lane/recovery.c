/* SPDX-License-Identifier: Apache-2.0 */
/* The claim word names a call's owner, the reply word whether the call is answered. So the calls of
 * a dead worker are found by reading all claims, and whatever else the worker kept (completions,
 * cursors, its arena's metadata) is neither needed nor trusted.
 *
 * Edges, beside those of cursor.h and wake.h:
 *   A1 answer  word release  with the session's word acquire: the outcome's bytes
 *   V1 vacate  fence between VACANT and the bells; with the sibling's fence between its park word
 *              and its look at vacant lanes */
#include "fastpath/lane/recovery.h"

#include <string.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/cursor.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/trace.h"
#include "fastpath/lane/wake.h"
#include "proto/failure.h"

void knit_recovery_make_error(struct knit_recovery_error *ret_error, enum knit_code code,
    enum knit_started started, const char *message, int signal, uint64_t limit)
{
    struct knit_failure failure = knit_failure(code, message);
    struct knit_buffer buffer;

    memset(ret_error, 0, sizeof(*ret_error));
    failure.started = started;
    failure.signal = (uint32_t)signal;
    if (limit != 0)
        failure.limit = limit;
    for (;;) {
        knit_buffer_init_fixed(&buffer, ret_error->bytes, sizeof(ret_error->bytes));
        if (knit_failure_put(&buffer, &failure, KNIT_FAILURE_COMPACT) == 0 ||
            failure.message.len == 0)
            break;
        failure.message.len = failure.message.len > 8 ? failure.message.len - 8 : 0;
    }
    ret_error->len = (uint32_t)buffer.len;
}

void knit_recovery_vacate(const struct knit_board_view *board, const struct knit_pool_view *pool,
    uint32_t lanes, uint32_t lane)
{
    _Atomic uint32_t *park = &board->park[lane].value;
    struct knit_busy_line *busy = &board->busy[lane];
    /* relaxed: its only other writer is dead. */
    uint32_t now = atomic_load_explicit(park, memory_order_relaxed);

    KNIT_FAULT(RECOVERY_BEFORE_VACANT);
    atomic_store_explicit(&busy->running, 0, memory_order_relaxed);
    atomic_store_explicit(&busy->hard_ns, 0, memory_order_relaxed);
    if (knit_park_state(now) != KNIT_PARK_VACANT)
        atomic_store_explicit(park, knit_park_next(now, KNIT_PARK_VACANT), memory_order_release);
    KNIT_FAULT(RECOVERY_AFTER_VACANT);
    knit_board_say_parked(board, lane, false);
    knit_bell_fence(); /* V1 */
    for (uint32_t i = 0; i < lanes; i++)
        knit_wake_worker(pool, i);
    KNIT_FAULT(RECOVERY_AFTER_BELLS);
}

/* A session whose request segment is not sealed has no request view here: its calls are not
 * read. */
static bool has_requests(const struct knit_host_session_view *session)
{
    return session->request.header != NULL;
}

void knit_recovery_wake(const struct knit_host_session_view *session)
{
    uint32_t waiting;

    /* release: a caller that sees the new count sees the answers before it. */
    atomic_fetch_add_explicit(&session->reply.state->rescan, 1, memory_order_release);
    KNIT_FAULT(RECOVERY_AFTER_RESCAN);
    if (!has_requests(session))
        return;
    knit_bell_fence(); /* W2 */
    waiting = knit_wake_waiting(&session->request);
    if (waiting == 0)
        return;
    (void)knit_wake_raise(&session->reply, waiting);
    KNIT_FAULT(RECOVERY_BEFORE_WAKE);
    /* Also when it was raised before: the worker that raised it may have died before its wake. */
    knit_wake_caller(&session->reply, waiting, session->bell_fd, session->bell_is_pipe);
    KNIT_FAULT(RECOVERY_AFTER_WAKE);
}

/* CLAIMED -> ANSWERED, by the host. */
static void answer(const struct knit_host_session_view *session, uint32_t slot, uint64_t gen,
    uint32_t lane, const struct knit_recovery_error *error)
{
    struct knit_reply_cell *cell = &session->reply.reply[slot];

    /* relaxed: A1 publishes these stores. */
    knit_cell_store(cell->body, error->bytes, error->len);
    atomic_store_explicit(&cell->meta, knit_meta(lane, 0, 0, error->len), memory_order_relaxed);
    KNIT_FAULT(RECOVERY_BEFORE_ANSWER);
    /* A1, release: the one outcome. */
    atomic_store_explicit(&cell->word, knit_word(gen, KNIT_STATUS_ERROR, 0), memory_order_release);
    KNIT_FAULT(RECOVERY_AFTER_ANSWER);
}

/* Whether the slot's call is claimed by this owner and not answered. The claim is loaded first, and
 * the answer must be exactly one generation behind: between the two loads an answered slot may be
 * used again, and then the answer is ahead. One behind is stable, because only the host moves
 * it. */
bool knit_recovery_holds(
    const struct knit_host_session_view *session, uint32_t slot, uint32_t owner, uint64_t *ret_gen)
{
    uint64_t claim = atomic_load_explicit(&session->reply.claim[slot], memory_order_acquire);
    uint64_t word;

    if (knit_claim_owner(claim) != owner)
        return false;
    word = atomic_load_explicit(&session->reply.reply[slot].word, memory_order_acquire);
    *ret_gen = knit_claim_gen(claim);
    return knit_gen_next(knit_word_gen(word)) == *ret_gen;
}

bool knit_recovery_trace(const struct knit_host_session_view *session, uint32_t slot, uint64_t gen,
    struct knit_trace *ret_trace)
{
    return has_requests(session) &&
           knit_trace_load_of(&session->request.trace[slot], gen, ret_trace);
}

uint32_t knit_recovery_count_claimed(const struct knit_host_session_view *session)
{
    uint32_t count = 0;

    for (uint32_t slot = 0; slot < session->geometry.slots; slot++) {
        uint64_t gen, claim = knit_recovery_claim(session, slot);

        count += knit_recovery_holds(session, slot, knit_claim_owner(claim), &gen);
    }
    return count;
}

uint64_t knit_recovery_claim(const struct knit_host_session_view *session, uint32_t slot)
{
    /* relaxed: it is compared, and nothing is read by it. */
    return atomic_load_explicit(&session->reply.claim[slot], memory_order_relaxed);
}

/* The generation that the slot's next answer has. */
static uint64_t awaited_gen(const struct knit_host_session_view *session, uint32_t slot)
{
    /* acquire: whoever looks for the call looks after that. */
    const uint64_t word =
        atomic_load_explicit(&session->reply.reply[slot].word, memory_order_acquire);

    return knit_gen_next(knit_word_gen(word));
}

bool knit_recovery_awaits(const struct knit_host_session_view *session, uint32_t slot, uint64_t gen)
{
    return awaited_gen(session, slot) == gen;
}

bool knit_recovery_has_answered(
    const struct knit_host_session_view *session, uint32_t slot, uint64_t gen)
{
    return gen > 0 && gen < awaited_gen(session, slot);
}

bool knit_recovery_is_aborted(
    const struct knit_host_session_view *session, uint32_t slot, uint32_t owner)
{
    uint64_t gen;

    /* relaxed: the caller may store it at any time; the host looks again. */
    return has_requests(session) && knit_recovery_holds(session, slot, owner, &gen) &&
           atomic_load_explicit(&session->request.abort[slot], memory_order_relaxed) == gen;
}

uint32_t knit_recovery_answer(
    const struct knit_host_session_view *session, const struct knit_recovery_death *death)
{
    uint32_t count = 0;
    uint64_t gen;

    for (uint32_t slot = 0; slot < session->geometry.slots; slot++) {
        if (!knit_recovery_holds(session, slot, death->owner, &gen))
            continue;
        answer(session, slot, gen, death->lane,
            slot == death->special_slot ? death->special : death->error);
        count++;
    }
    /* Its deferred reply is lost with it. */
    atomic_store_explicit(
        &session->reply.lane[death->lane].blocked_on_arena, 0, memory_order_relaxed);
    knit_recovery_wake(session);
    return count;
}

/* ---- queued calls ---- */

/* Calls that are published while the host walks are for its next sweep. */
static uint32_t steps_of(const struct knit_host_session_view *session)
{
    return 2 * session->geometry.cells;
}

static uint32_t refuse_ring(const struct knit_host_session_view *session, uint32_t lane,
    enum knit_ring ring, const struct knit_recovery_error *error)
{
    struct knit_cursor cursor;
    struct knit_ready_call ready;
    uint32_t steps = steps_of(session), count = 0;

    knit_cursor_begin(&cursor, &session->geometry, &session->request, &session->reply, lane, ring);
    /* A bad cell ends the walk as an empty one does: workers judge the session. */
    while (knit_cursor_find(&cursor, &steps, &ready) == KNIT_CELL_READY) {
        /* Counted also when a worker was first: the walk is bounded all the same. */
        steps--;
        if (!knit_cursor_claim(&cursor, &ready.head, KNIT_OWNER_HOST))
            continue;
        KNIT_FAULT(RECOVERY_AFTER_CLAIM);
        answer(
            session, knit_ctrl_slot(ready.head.ctrl), knit_ctrl_gen(ready.head.ctrl), lane, error);
        count++;
    }
    knit_cursor_raise_head(&cursor);
    return count;
}

uint32_t knit_recovery_refuse(
    const struct knit_host_session_view *session, const struct knit_recovery_error *error)
{
    uint32_t count = 0, used;

    if (!has_requests(session))
        return 0;
    used = knit_rings_used(&session->geometry, &session->request);
    for (uint32_t lane = 0; lane < session->geometry.lanes; lane++) {
        for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++) {
            if ((used >> ring & 1) != 0)
                count += refuse_ring(session, lane, ring, error);
        }
    }
    if (count != 0)
        knit_recovery_wake(session);
    return count;
}

static bool has_queued(
    const struct knit_host_session_view *session, uint32_t lane, enum knit_ring ring)
{
    struct knit_cursor cursor;
    struct knit_ready_call ready;
    uint32_t steps = steps_of(session);

    knit_cursor_begin(&cursor, &session->geometry, &session->request, &session->reply, lane, ring);
    return knit_cursor_find(&cursor, &steps, &ready) == KNIT_CELL_READY;
}

bool knit_recovery_is_idle(const struct knit_host_session_view *session)
{
    uint32_t used;

    if (!has_requests(session))
        return true;
    used = knit_rings_used(&session->geometry, &session->request);
    for (uint32_t lane = 0; lane < session->geometry.lanes; lane++) {
        for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++) {
            if ((used >> ring & 1) != 0 && has_queued(session, lane, ring))
                return false;
        }
    }
    for (uint32_t slot = 0; slot < session->geometry.slots; slot++) {
        uint64_t claim = atomic_load_explicit(&session->reply.claim[slot], memory_order_acquire);
        uint64_t word =
            atomic_load_explicit(&session->reply.reply[slot].word, memory_order_acquire);

        if (knit_claim_gen(claim) != knit_word_gen(word))
            return false;
    }
    return true;
}
