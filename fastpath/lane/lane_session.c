/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of a worker: built, handed over by another thread, taken in and out.
 *
 * Edges:
 *   H1 handover  has_handover, then `where`, seq_cst, by the thread that hands over; with `where`,
 *                then has_handover, seq_cst, in knit_lane_leave(): one sees the other
 *   H2 visit     `where` release with `where` acquire, between the worker's thread and a visitor:
 *                what the one did with the sessions, the other sees (tests/model/visit.pml)
 */
#include "fastpath/lane/lane_private.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

/* Which thread may touch the sessions of a lane. */
enum knit_lane_where {
    KNIT_LANE_HERE,    /* the worker's thread */
    KNIT_LANE_AWAY,    /* none: the worker's thread runs a long task and needs only `current` */
    KNIT_LANE_VISITED, /* another thread, during such a task */
};

struct knit_worker_session *knit_worker_session_free(struct knit_worker_session *session)
{
    if (session == NULL)
        return NULL;
    knit_reply_arena_fini(&session->arena);
    free(session->cursor);
    free(session->deferred.bytes);
    free(session);
    return NULL;
}

/* Where the lane's completions continue. A worker that died within a turn leaves entries behind
 * completion_tail which may have been read already, so second entries at the same places would not
 * be read. Its replacement may die in the same way, which leaves some more. */
static uint64_t find_completion_tail(
    const struct knit_lane *lane, const struct knit_lane_session *source)
{
    const uint32_t index = lane->options.index, cells = source->geometry.cells;
    uint64_t tail =
        atomic_load_explicit(&source->reply.lane[index].completion_tail, memory_order_acquire);
    for (uint32_t i = 0; i < cells; i++, tail++) {
        /* relaxed: its writer is dead. */
        uint32_t entry = atomic_load_explicit(
            &source->reply.completions[(size_t)index * cells + (tail & (cells - 1))],
            memory_order_relaxed);
        if (knit_completion_lead(entry, tail, cells) != 0)
            break;
    }
    return tail;
}

static uint64_t find_result_max(
    const struct knit_lane *lane, const struct knit_lane_session *source)
{
    uint64_t most = source->geometry.reply_arena_bytes;

    if (lane->options.result_max_bytes != 0 && lane->options.result_max_bytes < most)
        most = lane->options.result_max_bytes;
    return most > KNIT_INLINE_MAX ? most : KNIT_INLINE_MAX;
}

static int session_new(const struct knit_lane *lane, const struct knit_lane_session *source,
    struct knit_worker_session **ret)
{
    struct knit_worker_session *session = aligned_alloc(KNIT_LINE, sizeof(*session));
    struct knit_reply_arena_options options;
    if (session == NULL)
        return -ENOMEM;
    *session = (struct knit_worker_session){.in = *source};
    options = (struct knit_reply_arena_options){.geometry = &session->in.geometry,
        .request = &session->in.request,
        .reply = &session->in.reply,
        .lane = lane->options.index,
        .budget_bytes = source->reply_budget_bytes,
        .result_max_bytes = lane->options.result_max_bytes};
    session->cursor = aligned_alloc(KNIT_LINE,
        (size_t)source->geometry.classes * source->geometry.lanes * sizeof(*session->cursor));
    if (session->cursor == NULL || knit_reply_arena_init(&session->arena, &options) != 0) {
        (void)knit_worker_session_free(session);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < source->geometry.classes * source->geometry.lanes; i++)
        knit_cursor_begin(&session->cursor[i], &session->in.geometry, &session->in.request,
            &session->in.reply, i % source->geometry.lanes, i / source->geometry.lanes);
    session->home = session->cursor[lane->options.index];
    session->other_rings = ((1u << source->geometry.classes) - 1) & ~(1u << KNIT_RING_NORMAL);
    session->running = knit_running(source->id, 0);
    session->completion_tail = find_completion_tail(lane, source);
    session->completions =
        session->in.reply.completions + (size_t)lane->options.index * session->in.geometry.cells;
    session->own_line = &session->in.reply.lane[lane->options.index];
    session->reply_meta = knit_meta(lane->options.index, 0, 0, 0);
    session->result_max = find_result_max(lane, source);
    session->behind_end = &session->behind;
    *ret = session;
    return 0;
}

/* ---- handovers ---- */

/* Under the mutex. The entry is complete. */
static void hand_over(struct knit_lane *lane, struct knit_handover *handover)
{
    handover->next = NULL;
    *lane->handovers_end = handover;
    lane->handovers_end = &handover->next;
    /* H1, seq_cst. */
    atomic_store_explicit(&lane->has_handover, true, memory_order_seq_cst);
}

/* The same for an outcome. */
static void hand_over_finished(struct knit_lane *lane, struct knit_finished *finished)
{
    finished->next = NULL;
    *lane->finished_end = finished;
    lane->finished_end = &finished->next;
    /* H1, seq_cst. */
    atomic_store_explicit(&lane->has_handover, true, memory_order_seq_cst);
}

static void take_out(struct knit_lane *lane, uint64_t id)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        if (lane->sessions[i]->in.id != id)
            continue;
        lane->deferred_count -= lane->sessions[i]->deferred.any;
        knit_lane_drop_finished(lane, lane->sessions[i]);
        (void)knit_worker_session_free(lane->sessions[i]);
        lane->sessions[i] = lane->sessions[--lane->session_count];
        pthread_mutex_lock(&lane->mutex);
        lane->attached--;
        pthread_mutex_unlock(&lane->mutex);
        break;
    }
    if (lane->options.on_detached != NULL)
        lane->options.on_detached(lane->options.event_arg, id);
}

/* A session whose call runs now stays until the call has ended. Returns the ends that have to wait
 * for that. */
static struct knit_handover *apply_list(struct knit_lane *lane, struct knit_handover *list)
{
    struct knit_handover *postponed = NULL;

    while (list != NULL) {
        struct knit_handover *handover = list;
        list = handover->next;
        if (handover->in != NULL) {
            knit_deficit_begin(&handover->in->deficit, lane->round);
            lane->sessions[lane->session_count++] = handover->in;
        } else if (lane->current != NULL && lane->current->in.id == handover->id) {
            postponed = handover;
            continue;
        } else {
            take_out(lane, handover->id);
        }
        free(handover);
    }
    knit_lane_begin_bells(lane);
    for (uint32_t i = 0; i < lane->session_count; i++)
        lane->occupied[i] = lane->sessions[i]->in.request.occupied;
    knit_poll_begin(&lane->poll, lane->session_count);
    knit_lane_flows_begin(lane);
    return postponed;
}

/* The whole lists are taken, and applied in their order: outcomes before the ends of their
 * sessions. */
void knit_lane_apply_handovers(struct knit_lane *lane)
{
    struct knit_handover *list, *postponed = NULL;
    struct knit_finished *finished;

    pthread_mutex_lock(&lane->mutex);
    list = lane->handovers;
    lane->handovers = NULL;
    lane->handovers_end = &lane->handovers;
    finished = lane->finished;
    lane->finished = NULL;
    lane->finished_end = &lane->finished;
    atomic_store_explicit(&lane->has_handover, false, memory_order_relaxed);
    pthread_mutex_unlock(&lane->mutex);
    if (finished != NULL) {
        finished = knit_lane_write_finished(lane, finished);
        /* Before sessions go: `answered` must not name one of them. */
        knit_lane_wake_callers(lane);
    }
    if (list != NULL)
        postponed = apply_list(lane, list);
    if (postponed == NULL && finished == NULL)
        return;
    pthread_mutex_lock(&lane->mutex);
    if (postponed != NULL)
        hand_over(lane, postponed);
    while (finished != NULL) {
        struct knit_finished *next = finished->next;

        hand_over_finished(lane, finished);
        finished = next;
    }
    pthread_mutex_unlock(&lane->mutex);
}

/* From any thread: applies what was handed over while the worker's thread is away. A call may take
 * long, and the sessions of callers that left would stay in memory until it has ended. A second
 * visitor waits for the first, which may have taken the list before the last entry was added. */
static void visit(struct knit_lane *lane)
{
    uint32_t where = KNIT_LANE_AWAY;
    /* H1, seq_cst, and H2, acquire. */
    while (!atomic_compare_exchange_strong_explicit(
        &lane->where, &where, KNIT_LANE_VISITED, memory_order_seq_cst, memory_order_seq_cst)) {
        if (where == KNIT_LANE_HERE)
            return;
        where = KNIT_LANE_AWAY;
        (void)sched_yield();
    }
    knit_lane_apply_handovers(lane);
    lane->was_visited = true;
    /* H2, release. */
    atomic_store_explicit(&lane->where, KNIT_LANE_AWAY, memory_order_release);
}

void knit_lane_leave(struct knit_lane *lane)
{
    /* H1, seq_cst; H2, release. */
    atomic_store_explicit(&lane->where, KNIT_LANE_AWAY, memory_order_seq_cst);
    if (atomic_load_explicit(&lane->has_handover, memory_order_seq_cst))
        visit(lane);
}

void knit_lane_return(struct knit_lane *lane)
{
    uint32_t where = KNIT_LANE_AWAY;
    /* H2, acquire. A visit takes a few system calls. */
    while (!atomic_compare_exchange_weak_explicit(
        &lane->where, &where, KNIT_LANE_HERE, memory_order_acquire, memory_order_relaxed)) {
        where = KNIT_LANE_AWAY;
        (void)sched_yield();
    }
    lane->was_long = lane->was_long || lane->was_visited;
    lane->was_visited = false;
}

int knit_lane_attach(struct knit_lane *lane, const struct knit_lane_session *source)
{
    struct knit_worker_session *session;
    int error = session_new(lane, source, &session);
    struct knit_handover *handover;
    bool is_full;
    if (error != 0)
        return error;
    handover = calloc(1, sizeof(*handover));
    if (handover == NULL) {
        (void)knit_worker_session_free(session);
        return -ENOMEM;
    }
    handover->in = session;
    pthread_mutex_lock(&lane->mutex);
    is_full = lane->attached >= KNIT_LANE_SESSIONS_MAX;
    if (!is_full) {
        lane->attached++;
        hand_over(lane, handover);
    }
    pthread_mutex_unlock(&lane->mutex);
    if (is_full) {
        free(handover);
        (void)knit_worker_session_free(session);
        return -ENOSPC;
    }
    visit(lane);
    knit_lane_wake(lane);
    return 0;
}

int knit_lane_detach(struct knit_lane *lane, uint64_t session)
{
    struct knit_handover *handover = calloc(1, sizeof(*handover));
    if (handover == NULL)
        return -ENOMEM;
    handover->id = session;
    pthread_mutex_lock(&lane->mutex);
    hand_over(lane, handover);
    pthread_mutex_unlock(&lane->mutex);
    visit(lane);
    knit_lane_wake(lane);
    return 0;
}

void knit_lane_finish(struct knit_lane *lane, struct knit_finished *finished)
{
    pthread_mutex_lock(&lane->mutex);
    hand_over_finished(lane, finished);
    pthread_mutex_unlock(&lane->mutex);
    visit(lane);
    knit_lane_wake(lane);
}
