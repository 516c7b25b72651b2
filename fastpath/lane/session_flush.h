/* SPDX-License-Identifier: Apache-2.0 */
/* Flushing where nobody has to be woken, inline: of what was published before, and of one call that
 * is published and flushed at once because its caller waits for it.
 *
 * Edges: P1 and W1, as in session_publish.c.
 *
 * Threads: as the session: one at a time. */
#pragma once

#include "fastpath/lane/session_inline.h"

/* knit_session_flush() where nobody has to be woken: calls went to one lane since the last flush,
 * its worker is awake, and no other call of this session is queued there. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_try_flush(struct knit_session *session)
{
    struct knit_session_lane *lane = &session->lanes[session->dirty_lane];

    if (session->dirty != 1 || session->queued[lane->index] > 1)
        return session->dirty == 0;
    knit_bell_fence(); /* W1 */
    if (knit_board_park_state(&session->board, lane->index) != KNIT_PARK_AWAKE)
        return false;
    lane->flushed_slot = lane->last_slot;
    lane->flushed_gen = knit_session_gen(session, lane->last_slot);
    lane->is_dirty = false;
    session->dirty = 0;
    return true;
}

/* knit_session_try_publish_warm() and knit_session_flush() of a call to a lane where this session
 * has no other one, while no lane waits for a flush. known: of
 * the argument. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_try_send(struct knit_session *session,
    const struct knit_session_call *call, uint64_t head, unsigned known, uint32_t *ret_slot)
{
    struct knit_session_lane *lane = knit_session_warm_lane(session);

    if (lane == NULL || session->work_ns != NULL || session->dirty != 0 ||
        session->queued[lane->index] != 0 || !knit_session_takes_small(session, call))
        return false;
    *ret_slot = knit_session_put(
        session, lane, call, head, KNIT_NO_BLOCK, known | KNIT_PUT_WITH_HEAD | KNIT_PUT_FLUSHED);
    lane->flushed_slot = *ret_slot;
    lane->flushed_gen = knit_session_gen(session, *ret_slot);
    knit_bell_fence(); /* W1 */
    if (knit_board_park_state(&session->board, lane->index) != KNIT_PARK_AWAKE) {
        knit_session_enter_lane(session, lane);
        knit_session_flush(session);
    }
    return true;
}
