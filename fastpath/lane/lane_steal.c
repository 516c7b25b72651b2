/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of other lanes: which of them this worker may claim, and when it looks.
 *
 * When its home rings are empty, a worker reads other lanes' rings, once in KNIT_STEAL_AFTER_NS and
 * not more often, because each read moves a cache line away from a busy worker. A lane without a
 * worker is emptied at once; a call of a living worker is stolen only if it was READY at two such
 * looks. It does not matter whether that worker is busy, stopped or overloaded: the claim word
 * decides, and a busy flag would be stale in exactly this moment.
 */
#include "fastpath/lane/lane_private.h"

#include "fastpath/lane/board.h"

#define SCAN_NS 1000000u /* longest time between two scans of other lanes' rings */

/* Whether that ring has a call that this worker may claim. LATER: it has one that is not READY for
 * long enough yet. */
static enum knit_lane_stealable may_steal(struct knit_lane *lane,
    struct knit_worker_session *session, uint32_t from, uint64_t now, struct knit_ready_call *ret)
{
    struct knit_cursor *cursor = &session->cursor[from];
    bool vacant = knit_board_is_vacant(&lane->options.board, from);
    if ((!vacant && !lane->options.steal) || !knit_lane_find(lane, session, cursor, ret)) {
        cursor->stood_ns = 0;
        return KNIT_STEAL_NOTHING;
    }
    if (vacant)
        return KNIT_STEAL_NOW;
    /* Like an empty ring: its worker lives, and claims what is behind it or wakes a sibling. */
    if ((knit_meta_flags(ret->head.meta) & KNIT_CELL_PINNED) != 0) {
        cursor->stood_ns = 0;
        return KNIT_STEAL_NOTHING;
    }
    if (cursor->stood_ns == 0 || cursor->stood_q != (uint16_t)cursor->q) {
        cursor->stood_q = (uint16_t)cursor->q;
        cursor->stood_ns = now;
        return KNIT_STEAL_LATER;
    }
    return now - cursor->stood_ns >= KNIT_STEAL_AFTER_NS ? KNIT_STEAL_NOW : KNIT_STEAL_LATER;
}

enum knit_lane_stealable knit_lane_scan_others(struct knit_lane *lane, uint32_t rings, bool take)
{
    const uint32_t lanes = lane->options.lanes;
    const uint32_t all = lane->session_count * lanes;
    enum knit_lane_stealable best = KNIT_STEAL_NOTHING;
    uint64_t now;
    if (lanes == 1 || all == 0)
        return best;
    now = knit_clock_ns();
    for (uint32_t i = 0; i < rings && i < all; i++) {
        struct knit_worker_session *session;
        enum knit_lane_stealable got;
        uint32_t from;
        struct knit_ready_call found;

        if (lane->steal_from >= all)
            lane->steal_from = 0;
        session = lane->sessions[lane->steal_from / lanes];
        from = lane->steal_from % lanes;
        lane->steal_from++;
        if (from == lane->options.index || knit_worker_session_is_shut(session))
            continue;
        got = may_steal(lane, session, from, now, &found);
        if (got == KNIT_STEAL_NOW) {
            if (!take)
                lane->steal_from--;
            if (take && knit_lane_call(lane, session, &session->cursor[from], &found))
                knit_board_count(&lane->busy->stolen, 1);
            return KNIT_STEAL_NOW;
        }
        if (got > best)
            best = got;
    }
    return best;
}

/* A worker whose home rings are never empty still scans the other rings from time to time: a call
 * in a lane without a worker, or behind a long call, would otherwise wait as long as callers keep
 * all other workers busy. */
void knit_lane_help_others(struct knit_lane *lane)
{
    uint64_t now = knit_clock_ns();
    lane->turns = 0;
    if (now - lane->scanned_ns < SCAN_NS)
        return;
    lane->scanned_ns = now;
    if (knit_lane_scan_others(lane, KNIT_STEAL_RINGS, true) == KNIT_STEAL_NOW)
        knit_lane_wake_callers(lane);
}
