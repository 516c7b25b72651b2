/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of other lanes: which of them this worker may claim, and when it looks.
 *
 * There are as many rings as sessions times lanes. A caller says in `occupied` in which lanes it
 * has calls, and only those are looked at. What it says too much costs looks; of what it does not
 * say its calls wait for the lane's own worker.
 *
 * When its home rings are empty, a worker reads other lanes' rings, once in KNIT_STEAL_AFTER_NS and
 * not more often, because each read moves a cache line away from a busy worker. A lane without a
 * worker is emptied at once; a call of a living worker is stolen only if it was READY at two such
 * looks. It does not matter whether that worker is busy, stopped or overloaded: the claim word
 * decides, and a busy flag would be stale in exactly this moment.
 */
#include "fastpath/lane/lane_steal.h"

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_classes.h"

#define SCAN_NS 1000000u /* longest time between two scans of other lanes' rings */

/* A call of another lane that may be claimed. */
struct prey {
    struct knit_cursor *cursor;
    struct knit_ready_call call;
};

/* Whether that ring has a call that this worker may claim. LATER: it has one that is not READY for
 * long enough yet. */
static enum knit_lane_stealable may_take(struct knit_lane *lane,
    struct knit_worker_session *session, bool is_vacant, uint64_t now, struct prey *prey)
{
    struct knit_cursor *cursor = prey->cursor;

    if (!knit_lane_find(lane, session, cursor, &prey->call)) {
        cursor->stood_ns = 0;
        return KNIT_STEAL_NOTHING;
    }
    (void)knit_lane_has_aged(cursor, now);
    if (knit_lane_holds(lane, session, cursor, knit_meta_task(prey->call.head.meta), false))
        return KNIT_STEAL_NOTHING;
    return is_vacant || now - cursor->stood_ns >= KNIT_STEAL_AFTER_NS ? KNIT_STEAL_NOW
                                                                      : KNIT_STEAL_LATER;
}

/* The same of all rings of a lane whose session uses several. The first in their order comes first,
 * but for one that has stood for long: of these the one that has for longest. PINNED is left to the
 * lane's own worker while it lives. */
static __attribute__((noinline)) enum knit_lane_stealable may_steal_of_classes(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t from, uint64_t now,
    struct prey *ret)
{
    static const enum knit_ring order[KNIT_CLASSES_MAX] = {
        KNIT_RING_URGENT, KNIT_RING_NORMAL, KNIT_RING_PINNED, KNIT_RING_BACKGROUND};
    const uint32_t used = knit_rings_used(&session->in.geometry, &session->in.request);
    const bool is_vacant = knit_board_is_vacant(&lane->options.board, from);
    enum knit_lane_stealable best = KNIT_STEAL_NOTHING;
    uint64_t oldest_ns = UINT64_MAX;

    for (uint32_t i = 0; i < KNIT_CLASSES_MAX && !session->is_evicted; i++) {
        const enum knit_ring ring = order[i];
        enum knit_lane_stealable got;
        struct prey prey;
        bool is_oldest;

        if ((used >> ring & 1) == 0 || (ring == KNIT_RING_PINNED && !is_vacant))
            continue;
        prey.cursor = knit_lane_cursor(lane, session, from, ring);
        got = may_take(lane, session, is_vacant, now, &prey);
        is_oldest = got == KNIT_STEAL_NOW && knit_lane_has_aged(prey.cursor, now) &&
                    prey.cursor->stood_ns < oldest_ns;
        if (is_oldest)
            oldest_ns = prey.cursor->stood_ns;
        if (got > best || is_oldest)
            *ret = prey;
        if (got > best)
            best = got;
    }
    return best;
}

/* The same of all rings of a lane. */
static enum knit_lane_stealable may_steal(struct knit_lane *lane,
    struct knit_worker_session *session, uint32_t from, uint64_t now, struct prey *ret)
{
    const bool is_vacant = knit_board_is_vacant(&lane->options.board, from);

    ret->cursor = &session->cursor[from];
    if (!is_vacant && !lane->options.steal) {
        ret->cursor->stood_ns = 0;
        return KNIT_STEAL_NOTHING;
    }
    if (knit_worker_session_has_classes(session))
        return may_steal_of_classes(lane, session, from, now, ret);
    return may_take(lane, session, is_vacant, now, ret);
}

/* Claims the prey and answers it. Its flow pays as for calls of the home ring: if it is in debt, it
 * is its turn nevertheless, and so many rounds pass as pay it. */
static bool steal(struct knit_lane *lane, struct knit_worker_session *session, struct prey *prey)
{
    const int32_t credit_ns = session->deficit.ns;
    struct knit_lane_flow *flow = session->flow;

    if (knit_lane_holds(lane, session, prey->cursor, knit_meta_task(prey->call.head.meta), true))
        return false;
    lane->took_ns = 0;
    if (!knit_lane_call(lane, session, prey->cursor, &prey->call))
        return false;
    if (lane->flows.count == 1)
        return true;
    knit_lane_flows_begin_round(&lane->flows, &flow, 1);
    knit_lane_note_flow(lane, flow);
    knit_lane_flow_charge(flow, credit_ns - session->deficit.ns, lane->took_ns);
    return true;
}

struct scan {
    struct knit_lane *lane;
    bool take;
    uint32_t due;   /* flows that owe so many rounds are left out; 0 = none is */
    uint32_t rings; /* that may still be read */
    uint64_t now;   /* 0 = no clock was read yet */
    enum knit_lane_stealable best;
};

/* Other lanes in which a session has calls, as its caller says; 64 lanes a word. */
static inline uint64_t lanes_with_calls(const struct knit_lane *lane, uint32_t place, uint32_t word)
{
    /* relaxed: who looks before it sleeps has fenced (W1, V1); another look may be late. */
    return atomic_load_explicit(&lane->occupied[place][word], memory_order_relaxed) &
           lane->others[word];
}

/* Whether the session's flow owes so many rounds here, where others are served. */
static bool owes(struct knit_lane *lane, const struct knit_worker_session *session, uint32_t rounds)
{
    struct knit_lane_flow *flow = session->flow;

    knit_lane_flow_renew(&lane->flows, flow);
    return knit_lane_flows_due(&flow, 1) >= rounds;
}

/* Reads the rings of a session in the lanes `first` to `end`. True: the scan is over, and the next
 * one begins where the lane says. */
static bool scan_session(struct scan *scan, uint32_t place, uint32_t first, uint32_t end)
{
    struct knit_lane *lane = scan->lane;
    struct knit_worker_session *session = lane->sessions[place];

    if (scan->due != 0 && owes(lane, session, scan->due))
        return false;
    for (uint32_t from = first; from < end && !knit_worker_session_is_shut(session); from++) {
        const uint64_t bits = lanes_with_calls(lane, place, from / 64) >> from % 64;
        struct prey prey;
        enum knit_lane_stealable got;

        if (bits == 0) {
            from |= 63;
            continue;
        }
        from += (uint32_t)__builtin_ctzll(bits);
        if (from >= end)
            return false;
        lane->steal_place = place;
        lane->steal_lane = from;
        if (scan->rings-- == 0)
            return true;
        if (scan->now == 0)
            scan->now = knit_clock_ns();
        got = may_steal(lane, session, from, scan->now, &prey);
        if (got > scan->best)
            scan->best = got;
        if (got != KNIT_STEAL_NOW)
            continue;
        lane->steal_lane += scan->take;
        if (scan->take && steal(lane, session, &prey))
            knit_board_count(&lane->busy->stolen, 1);
        return true;
    }
    return false;
}

static bool scan_sessions(struct scan *scan, uint32_t first, uint32_t end)
{
    const struct knit_lane *lane = scan->lane;
    const uint32_t words = (lane->options.lanes + 63) / 64;

    for (uint32_t place = first; place < end; place++) {
        uint64_t bits = lanes_with_calls(lane, place, 0);

        for (uint32_t word = 1; word < words; word++)
            bits |= lanes_with_calls(lane, place, word);
        if (bits != 0 && scan_session(scan, place, 0, lane->options.lanes))
            return true;
    }
    return false;
}

static void scan_all(struct scan *scan)
{
    const struct knit_lane *lane = scan->lane;
    const uint32_t count = lane->session_count, lanes = lane->options.lanes;
    const uint32_t place = lane->steal_place < count ? lane->steal_place : 0;
    const uint32_t from = lane->steal_lane;

    /* The first session is also last, with the lanes before the first one. */
    if (!scan_session(scan, place, from, lanes) && !scan_sessions(scan, place + 1, count) &&
        !scan_sessions(scan, 0, place))
        (void)scan_session(scan, place, 0, from);
}

/* A call of a flow that owes less than so many rounds; those of others wait. */
static enum knit_lane_stealable take_of_others(struct knit_lane *lane, uint32_t due)
{
    struct scan scan = {.lane = lane,
        .take = true,
        .due = lane->flows.count > 1 ? due : 0,
        .rings = KNIT_STEAL_RINGS};

    if (lane->options.lanes > 1 && lane->session_count > 0)
        scan_all(&scan);
    return scan.best;
}

enum knit_lane_stealable knit_lane_scan_others(struct knit_lane *lane, uint32_t rings, bool take)
{
    struct scan scan = {.lane = lane, .take = take, .rings = rings};

    if (lane->options.lanes == 1 || lane->session_count == 0)
        return KNIT_STEAL_NOTHING;
    /* Of several principals those come first that have got less than their part here; but a worker
     * that has nothing else takes what there is. */
    if (take && __builtin_expect(lane->flows.count > 1, 0) &&
        take_of_others(lane, 1) == KNIT_STEAL_NOW)
        return KNIT_STEAL_NOW;
    scan_all(&scan);
    return scan.best;
}

bool knit_lane_serve_lesser_debtor(struct knit_lane *lane, uint32_t due)
{
    uint64_t until = 0;

    for (;;) {
        const enum knit_lane_stealable got = take_of_others(lane, due);
        uint64_t now;

        if (got != KNIT_STEAL_LATER)
            return got == KNIT_STEAL_NOW;
        now = knit_clock_ns();
        if (until == 0)
            until = now + 2 * KNIT_STEAL_AFTER_NS;
        if (now >= until)
            return false;
        knit_bell_pause();
    }
}

/* A long call of a home ring has ended: one of its flow that is held in another lane has its turn
 * before the next one here. */
static bool serve_waiting(struct knit_lane *lane)
{
    const uint32_t from = knit_lane_next_waiting(lane);

    for (uint32_t i = 0; i < lane->session_count && from < lane->options.lanes; i++) {
        const uint32_t place = (lane->reserve.place + i) % lane->session_count;
        struct knit_worker_session *session = lane->sessions[place];
        const uint64_t begun = knit_clock_ns();
        struct prey prey;

        if (!knit_lane_is_of_own(lane, session) || knit_worker_session_is_shut(session) ||
            (lanes_with_calls(lane, place, from / 64) >> from % 64 & 1) == 0)
            continue;
        while (may_steal(lane, session, from, knit_clock_ns(), &prey) == KNIT_STEAL_LATER &&
               knit_clock_ns() - begun < 2 * KNIT_STEAL_AFTER_NS)
            knit_bell_pause();
        if (may_steal(lane, session, from, knit_clock_ns(), &prey) == KNIT_STEAL_NOW &&
            steal(lane, session, &prey)) {
            knit_board_count(&lane->busy->stolen, 1);
            lane->reserve.place = place + 1;
            return true;
        }
    }
    return false;
}

/* A worker whose home rings are never empty still scans the other rings from time to time: a call
 * in a lane without a worker, or behind a long call, would otherwise wait as long as callers keep
 * all other workers busy. What is of a principal that has got its part here waits like its calls in
 * the home rings, whose calls pay for rounds: until it owes less than who is next there. Who owes
 * the same may be that one itself, and then its calls here and there take turns by chance: neither
 * keep the others waiting, whosever calls come between them. */
void knit_lane_help_others(struct knit_lane *lane)
{
    const uint64_t now = knit_clock_ns();
    const uint32_t due = lane->flows.due;
    const bool may_be_next = due > 0 && (now * 0x9e3779b97f4a7c15u >> 63) != 0;

    lane->turns = 0;
    if (now - lane->scanned_ns < SCAN_NS)
        return;
    lane->scanned_ns = now;
    knit_lane_publish_flows(lane, now);
    if (lane->reserve.own != 0 && serve_waiting(lane))
        knit_lane_wake_callers(lane);
    lane->reserve.own = 0;
    if (take_of_others(lane, due > 1 ? due : 1) == KNIT_STEAL_NOW ||
        (may_be_next && take_of_others(lane, due + 1) == KNIT_STEAL_NOW))
        knit_lane_wake_callers(lane);
}
