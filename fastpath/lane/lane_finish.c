/* SPDX-License-Identifier: Apache-2.0 */
/* CLAIMED -> ANSWERED for calls whose job returned without an outcome: it comes from any thread, as
 * a handover does (lane_session.c), and is written by whoever may use the lane's sessions then: the
 * lane's thread at its next turn, or the thread that brings it while that one is away in a task.
 *
 * A running task may use the arena of its own session. So while the lane's thread is away in a call
 * of a session, an outcome for this session that needs a block there waits until it returns.
 */
#include "fastpath/lane/lane_steps.h"

#include <string.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/emit.h"
#include "proto/text.h"

/* The lane has nothing more to do with it. */
static void be_done(const struct knit_lane *lane, struct knit_finished *finished)
{
    lane->options.on_finished(lane->options.run_arg, finished);
}

static struct knit_worker_session *find_session(const struct knit_lane *lane, uint64_t id)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        if (lane->sessions[i]->in.id == id)
            return lane->sessions[i];
    }
    return NULL;
}

/* False: the outcome is one that waits for room, with those before it. */
static bool write_large(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_finished *finished, const struct knit_lane_answer *answer)
{
    uint64_t block;

    if (session->deferred.any) {
        *session->behind_end = finished;
        session->behind_end = &finished->next;
        return false;
    }
    if (knit_reply_arena_alloc(&session->arena, answer->len, &block) != 0) {
        const struct knit_deferred_reply reply = {.any = true,
            .slot = answer->slot,
            .gen = answer->gen,
            .status = answer->status,
            .bytes = (unsigned char *)finished->bytes,
            .len = answer->len,
            .finished = finished};

        knit_lane_hold_reply(lane, session, &reply);
        return false;
    }
    memcpy(knit_reply_arena_base(&session->arena) + block, finished->bytes, answer->len);
    knit_reply_arena_keep(&session->arena, answer->slot, answer->gen, block);
    knit_lane_answer_with_block(session, answer, block);
    return true;
}

static void write_one(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_finished *finished)
{
    const struct knit_lane_answer answer = {
        finished->slot, finished->status, finished->gen, finished->len, 0};
    struct knit_reply_cell *cell = &session->in.reply.reply[answer.slot];

    finished->next = NULL;
    if (answer.len > KNIT_SLAB_BYTES) {
        if (!write_large(lane, session, finished, &answer))
            return;
    } else {
        if (answer.len > KNIT_INLINE_MAX)
            memcpy(knit_slab(session->in.reply.slab, answer.slot), finished->bytes, answer.len);
        else
            knit_cell_store(cell->body, finished->bytes, answer.len);
        knit_lane_publish_answer(session, cell, &answer, 0);
    }
    knit_lane_note_stray(session); /* perhaps it was stolen */
    knit_lane_show(lane, session);
    be_done(lane, finished);
}

struct knit_finished *knit_lane_write_finished(struct knit_lane *lane, struct knit_finished *list)
{
    struct knit_finished *postponed = NULL, **end = &postponed;

    while (list != NULL) {
        struct knit_finished *finished = list;
        struct knit_worker_session *session = find_session(lane, finished->session);

        list = finished->next;
        if (session == NULL) {
            be_done(lane, finished);
        } else if (session == lane->current && finished->len > KNIT_SLAB_BYTES) {
            finished->next = NULL;
            *end = finished;
            end = &finished->next;
        } else {
            write_one(lane, session, finished);
        }
    }
    return postponed;
}

void knit_lane_drop_finished(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_finished *finished = session->behind, *next;

    if (session->deferred.finished != NULL) {
        be_done(lane, session->deferred.finished);
        session->deferred.bytes = NULL;
    }
    for (; finished != NULL; finished = next) {
        next = finished->next;
        be_done(lane, finished);
    }
    session->behind = NULL;
}

bool knit_lane_end_held_reply(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_finished *sent = session->deferred.finished, *next = session->behind;

    session->deferred = (struct knit_deferred_reply){0};
    if (sent != NULL)
        be_done(lane, sent);
    if (next == NULL)
        return true;
    session->behind = next->next;
    if (session->behind == NULL)
        session->behind_end = &session->behind;
    session->deferred = (struct knit_deferred_reply){.any = true,
        .slot = next->slot,
        .gen = next->gen,
        .status = next->status,
        .bytes = (unsigned char *)next->bytes,
        .len = next->len,
        .finished = next};
    return false;
}

/* ---- a job whose outcome comes later --------------------------------------------------------- */

const struct knit_lane_session *knit_lane_session_of(const struct knit_lane *lane)
{
    return &lane->current->in;
}

uint64_t knit_lane_hard_ns(const struct knit_lane *lane)
{
    return knit_board_hard_ns(&lane->options.board, lane->options.index);
}

bool knit_lane_is_cancelled_at(const struct knit_lane_session *in, uint32_t slot, uint64_t gen)
{
    /* acquire: the flag publishes nothing; it only must not be loaded early. With IF_QUEUED it is
     * no generation: that kind does not end what runs. */
    return atomic_load_explicit(&in->request.abort[slot], memory_order_acquire) == gen;
}

bool knit_lane_is_stopped_at(const struct knit_lane_session *in, uint32_t slot, uint64_t gen)
{
    return knit_state_stops(&in->reply, knit_state_word(&in->reply), slot, gen);
}

size_t knit_lane_reason_at(
    const struct knit_lane_session *in, uint32_t slot, uint64_t gen, char *ret_text)
{
    struct knit_emitted reason;

    if (!knit_lane_is_cancelled_at(in, slot, gen) ||
        !knit_emit_read(&in->request.reason[slot], gen, 0, &reason) ||
        !knit_text_is_utf8(reason.body, reason.len))
        return 0;
    memcpy(ret_text, reason.body, reason.len);
    return reason.len;
}

bool knit_lane_is_served_at(const struct knit_lane_session *in)
{
    return knit_state_is_served(knit_state_read(&in->reply));
}
