/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a worker wakes: callers that sleep on answers, and a sibling that may steal. Edges: W2 and
 * W3 of wake.h; W1, the fence between the worker's claim and the load of the sibling's park word,
 * with the sibling's fence between its park word and its last looks. */
#include "fastpath/lane/lane_private.h"

#include "fastpath/lane/emit.h"
#include "fastpath/lane/lane_bits.h"
#include "fastpath/lane/wake.h"

static void wake_caller(const struct knit_lane_session *in)
{
    uint32_t waiting = knit_wake_waiting(&in->request);
    if (waiting != 0 && knit_wake_raise(&in->reply, waiting))
        knit_wake_caller(&in->reply, waiting, in->bell_fd, in->bell_is_pipe);
}

void knit_lane_emit(
    struct knit_lane *lane, const struct knit_job *job, const void *value, size_t len)
{
    knit_lane_emit_at(
        &lane->current->in, knit_job_slot(job), knit_job_gen(job), knit_span(value, len));
}

void knit_lane_emit_at(
    const struct knit_lane_session *in, uint32_t slot, uint64_t gen, struct knit_span value)
{
    knit_emit_write(&in->reply.progress[slot], gen, value.bytes, value.len);
    knit_bell_fence(); /* W2 */
    wake_caller(in);
}

void knit_lane_wake_callers(struct knit_lane *lane)
{
    if (lane->answered_count == 0)
        return;
    lane->shares_core = false;
    knit_bell_fence(); /* W2 */
    for (uint32_t i = 0; i < lane->answered_count; i++) {
        struct knit_worker_session *session = lane->answered[i];

        session->has_answers = false;
        wake_caller(&session->in);
        if (knit_wake_caller_core(&session->in.request) == lane->core.number)
            lane->shares_core = lane->core.number != 0;
    }
    lane->answered_count = 0;
}

void knit_lane_wake_sibling(struct knit_lane *lane)
{
    const struct knit_board_view *board = &lane->options.board;
    const uint32_t lanes = lane->options.lanes;
    bool all;

    if (lanes == 1)
        return;
    /* A task can write the bits. */
    all = ++lane->searches % KNIT_BITS_DOUBTED == 0;
    knit_bell_fence(); /* W1 */
    for (uint32_t i = 0; (i = knit_lane_bits_next(board->parked, i, lanes, all)) < lanes; i++) {
        uint32_t park = atomic_load_explicit(&board->park[i].value, memory_order_relaxed);
        if (i == lane->options.index || knit_park_state(park) != KNIT_PARK_PARKED ||
            lane->park_notified[i] == park)
            continue;
        lane->park_notified[i] = park;
        knit_wake_worker(&lane->options.pool, i);
        return;
    }
}
