/* SPDX-License-Identifier: Apache-2.0 */
/* CLAIMED -> ANSWERED by the worker: the outcome goes into the reply cell, into the slot's slab or
 * into a block of the reply arena; without room there it is deferred.
 *
 * Edges, beside those of lane_steps.h and reply_arena.h:
 *   D1 deferral    deferrals release, with the session's acquire: which slot it is
 *   W1 release     fence between blocked_on_arena and the look at `released`; with the session's
 *                  fence between `released` and its look at blocked_on_arena
 */
#include "fastpath/lane/lane_steps.h"

#include <stdlib.h>
#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/cell.h"

/* Not inlined, because the frame would cost results that fit a slab. */
static __attribute__((noinline)) void *room_in_arena(
    struct knit_lane *lane, const struct knit_job *job, size_t len)
{
    struct knit_worker_session *session = lane->current;

    if (lane->room != KNIT_NO_BLOCK)
        knit_reply_arena_return(&session->arena, lane->room);
    lane->room = KNIT_NO_BLOCK;
    if (len == 0 || len > job->result_max ||
        knit_reply_arena_alloc(&session->arena, len, &lane->room) != 0)
        return NULL;
    lane->is_untidy = true;
    return knit_reply_arena_base(&session->arena) + lane->room;
}

void *knit_lane_room(struct knit_lane *lane, struct knit_job *job, size_t len)
{
    if (len == 0 || len > KNIT_SLAB_BYTES || len > job->result_max)
        return room_in_arena(lane, job, len);
    return knit_slab(lane->current->in.reply.slab, knit_job_slot(job));
}

void knit_lane_answer_with_block(
    struct knit_worker_session *session, const struct knit_lane_answer *answer, uint64_t block)
{
    struct knit_reply_cell *cell = &session->in.reply.reply[answer->slot];

    /* relaxed: A1 publishes it. */
    atomic_store_explicit(&cell->block, block, memory_order_relaxed);
    knit_lane_publish_answer(session, cell, answer, KNIT_CELL_IN_ARENA);
}

void knit_lane_hold_reply(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_deferred_reply *reply)
{
    lane->deferred_count++;
    session->deferred = *reply;
    atomic_store_explicit(
        &session->in.reply.lane[lane->options.index].blocked_on_arena, 1, memory_order_relaxed);
    knit_bell_fence(); /* W1 */
    (void)knit_lane_send_deferred(lane, session, UINT32_MAX);
}

/* No room: keep the result in private memory and set blocked_on_arena, so that the caller notifies
 * this lane when it releases a block. False: there is no private memory either. */
static bool defer_reply(
    struct knit_lane *lane, struct knit_worker_session *session, const struct knit_job *job)
{
    const struct knit_deferred_reply reply = {.any = true,
        .slot = knit_job_slot(job),
        .gen = knit_job_gen(job),
        .run = lane->run,
        .status = job->status,
        .bytes = malloc(job->result_len),
        .len = job->result_len};

    if (reply.bytes == NULL)
        return false;
    memcpy(reply.bytes, job->result, job->result_len);
    knit_lane_hold_reply(lane, session, &reply);
    lane->was_long = lane->is_untidy = true;
    return true;
}

bool knit_lane_send_deferred(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    struct knit_deferred_reply *deferred = &session->deferred;
    uint64_t block;
    struct knit_lane_answer answer;
    bool any = false;

    /* While there is another one behind, blocked_on_arena stays as it is. */
    do {
        if (knit_reply_arena_alloc_swept(&session->arena, deferred->len, most, &block) != 0)
            return any;
        memcpy(knit_reply_arena_base(&session->arena) + block, deferred->bytes, deferred->len);
        knit_reply_arena_keep(&session->arena, deferred->slot, deferred->gen, block);
        answer = (struct knit_lane_answer){
            deferred->slot, deferred->status, deferred->gen, deferred->len, deferred->run};
        knit_lane_answer_with_block(session, &answer, block);
        knit_lane_note_stray(session); /* perhaps it was stolen */
        knit_lane_show(lane, session);
        if (deferred->finished == NULL)
            free(deferred->bytes);
        any = true;
    } while (!knit_lane_end_held_reply(lane, session));
    atomic_store_explicit(
        &session->in.reply.lane[lane->options.index].blocked_on_arena, 0, memory_order_relaxed);
    lane->deferred_count--;
    return true;
}

/* Its slot's caller has read what lay there: it has published this call since. */
static void answer_in_slab(const struct knit_lane *lane, struct knit_worker_session *session)
{
    const struct knit_job *job = &lane->job;
    const struct knit_lane_answer answer = {
        knit_job_slot(job), job->status, knit_job_gen(job), job->result_len, lane->run};
    unsigned char *slab = knit_slab(session->in.reply.slab, knit_job_slot(job));

    if (job->result != slab)
        memmove(slab, job->result, job->result_len);
    knit_lane_publish_answer(session, &session->in.reply.reply[knit_job_slot(job)], &answer, 0);
}

static __attribute__((noinline)) void answer_in_arena(
    struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_job *job = &lane->job;
    uint64_t block = KNIT_NO_BLOCK;
    unsigned char *base = knit_reply_arena_base(&session->arena);
    const unsigned char *result = job->result;
    struct knit_lane_answer answer;
    if (lane->room != KNIT_NO_BLOCK && result >= base + lane->room &&
        result < base + session->in.geometry.reply_arena_bytes) {
        uint64_t skipped = (uint64_t)(result - base) - lane->room;
        knit_reply_arena_shrink(&session->arena, lane->room, skipped + job->result_len);
        knit_reply_arena_keep(&session->arena, knit_job_slot(job), knit_job_gen(job), lane->room);
        lane->room = KNIT_NO_BLOCK;
        block = (uint64_t)(result - base);
    } else if (knit_reply_arena_alloc(&session->arena, job->result_len, &block) == 0) {
        memcpy(base + block, job->result, job->result_len);
        knit_reply_arena_keep(&session->arena, knit_job_slot(job), knit_job_gen(job), block);
    } else if (defer_reply(lane, session, job)) {
        return;
    } else {
        /* The runner makes a small error instead. */
        job->refusal = KNIT_INTERNAL;
        lane->options.run(lane->options.run_arg, job);
        job->refusal = 0;
        knit_lane_answer_small(lane, session);
        return;
    }
    answer = (struct knit_lane_answer){
        knit_job_slot(job), job->status, knit_job_gen(job), job->result_len, lane->run};
    knit_lane_answer_with_block(session, &answer, block);
}

/* The call takes no time of the lane any more, which a caller that limits how much a lane holds is
 * told. There is no completion, so the loop over the ring begins anew. */
static __attribute__((noinline)) void let_go(
    struct knit_lane *lane, struct knit_worker_session *session)
{
    const struct knit_job *job = &lane->job;

    /* relaxed: D1 publishes it. */
    atomic_store_explicit(&session->in.reply.reply[knit_job_slot(job)].block, knit_job_gen(job),
        memory_order_relaxed);
    /* D1 deferral, release. */
    (void)atomic_fetch_add_explicit(session->in.reply.deferrals, 1, memory_order_release);
    if (!session->has_answers)
        lane->answered[lane->answered_count++] = session;
    session->has_answers = true;
    lane->was_long = lane->is_untidy = true;
    lane->options.on_deferred(lane->options.run_arg);
}

void knit_lane_answer_large(struct knit_lane *lane, struct knit_worker_session *session)
{
    if (lane->job.result_len <= KNIT_SLAB_BYTES) {
        answer_in_slab(lane, session);
    } else if (lane->job.result_len == KNIT_JOB_DEFERRED) {
        let_go(lane, session);
    } else {
        answer_in_arena(lane, session);
    }
}

bool knit_lane_send_any_deferred(struct knit_lane *lane, uint32_t most)
{
    bool any = false;
    for (uint32_t i = 0; lane->deferred_count > 0 && i < lane->session_count; i++) {
        if (lane->sessions[i]->deferred.any &&
            knit_lane_send_deferred(lane, lane->sessions[i], most))
            any = true;
    }
    return any;
}
