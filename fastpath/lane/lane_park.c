/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker falls asleep.
 *
 * Parking: load all bells, announce, fence, look once more at everything that may be claimed, sleep
 * on the bells' old values. A READY call in another lane keeps the worker awake until it was
 * claimed or may be stolen: a claim in between came after the announcement, so the claimer sees
 * this worker parked and notifies it for the calls behind. tests/model/park.pml shows without any
 * timeout that no worker sleeps while there is work.
 *
 * Edges:
 *   W1 wake    the fence behind the announcement of a park; with the fences of the session's flush
 *              and release, and of knit_lane_wake_sibling()
 *   V1 vacate  the same fence, before the look at vacant lanes; with the host's, between VACANT and
 *              the bells (recovery.c)
 *   B1 parked  the bit on the board, with who searches for a parked lane (board.h); before the same
 *              fence, so that who does not see the bit is seen by the last looks
 *   W3 bell    lane_bell and bell acquire, before the announcement; with the release of the side
 *              that changes them (wake.h, session_publish.c)
 */
#include "fastpath/lane/lane_steal.h"

#include "fastpath/lane/board.h"

#define WAKES_JUDGED        1000u /* by one session's bell in a second: beyond it is judged */
#define WAKES_PER_CALL_MAX  32u   /* on average */
#define LOOKS_WHILE_PARKING 64u   /* at calls in other lanes that may not be stolen yet */

void knit_lane_announce(struct knit_lane *lane, uint32_t state)
{
    lane->park = knit_park_next(lane->park, state);
    /* release: a caller that sees PARKED sees what this worker did before. */
    atomic_store_explicit(
        &lane->options.board.park[lane->options.index].value, lane->park, memory_order_release);
    /* B1. Only here and by the host, for a dead worker: a waker that cleared the bit could clear
     * that of the next park. */
    knit_board_say_parked(&lane->options.board, lane->options.index, state == KNIT_PARK_PARKED);
    knit_bell_fence(); /* W1 */
}

/* The last looks of a worker that has announced its sleep. True: there is something to do, or soon
 * will be. */
static bool must_not_sleep(struct knit_lane *lane)
{
    if (knit_lane_has_requests(lane) || knit_lane_has_home_work(lane, true) ||
        knit_lane_send_any_deferred(lane, UINT32_MAX))
        return true;
    for (int look = 0; look < (int)LOOKS_WHILE_PARKING; look++) {
        enum knit_lane_stealable got = knit_lane_scan_others(lane, UINT32_MAX, false);
        uint64_t until;
        if (got == KNIT_STEAL_NOTHING)
            return false;
        if (got == KNIT_STEAL_NOW || knit_lane_has_home_work(lane, true))
            return true;
        until = knit_clock_ns() + KNIT_STEAL_AFTER_NS;
        while (knit_clock_ns() < until)
            knit_bell_pause();
    }
    return true;
}

static const _Atomic uint32_t *word_of(const struct futex_waitv *bell)
{
    return (const _Atomic uint32_t *)(uintptr_t)bell->uaddr;
}

static uint64_t calls_consumed(
    const struct knit_lane *lane, const struct knit_worker_session *session)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < lane->options.lanes; i++) {
        for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++)
            sum +=
                atomic_load_explicit(&session->in.reply.head[i].value[ring], memory_order_relaxed);
    }
    return sum;
}

/* Evicts a session that wakes this worker often and calls rarely. A single wake-up without a call
 * proves nothing: a sibling may have stolen the call before this worker was scheduled. So the
 * session's wake-ups in a second are compared with its calls that any worker claimed in that
 * second. A wake-up is a bell that changed, or the wake of a bell that did not, which no correct
 * caller sends. */
static void judge_wakes(struct knit_lane *lane, int woken)
{
    uint64_t now = knit_clock_ns();
    for (int i = 1; i <= (int)lane->session_count; i++) {
        const struct futex_waitv *bell = &lane->bells[i];
        struct knit_worker_session *session;
        uint64_t calls;

        if (atomic_load_explicit(word_of(bell), memory_order_relaxed) == bell->val && i != woken)
            continue;
        session = lane->sessions[i - 1];
        /* While a reply is deferred, the caller notifies with each release, and none of its calls
         * is claimed; nor is one that is held. */
        if (session->is_evicted || session->deferred.any || session->is_held)
            continue;
        if (now - session->wakes_since_ns > 1000000000u) {
            session->wakes_since_ns = now;
            session->wakes = 0;
            session->wakes_consumed = calls_consumed(lane, session);
        }
        if (++session->wakes <= WAKES_JUDGED)
            continue;
        calls = calls_consumed(lane, session) - session->wakes_consumed;
        if (calls < WAKES_JUDGED / WAKES_PER_CALL_MAX)
            knit_lane_evict(lane, session, "rings the bell without calling");
        session->wakes_since_ns = 0;
    }
}

/* Sleeps while all bells have the values that were read. Returns which one was woken, or -1. */
static int sleep_on_bells(const struct knit_lane *lane)
{
    const uint64_t until = lane->reserve.holds ? knit_clock_ns() + KNIT_RESERVE_NAP_NS
                           : lane->options.park_ms != 0
                               ? knit_clock_ns() + lane->options.park_ms * (uint64_t)1000000
                               : 0;

    if (!lane->options.has_one_bell)
        return knit_bell_wait_many(lane->bells, 1 + lane->session_count, until);
    (void)knit_bell_wait(word_of(lane->bells), (uint32_t)lane->bells[0].val, until);
    return -1;
}

void knit_lane_begin_bells(struct knit_lane *lane)
{
    const uint32_t index = lane->options.index;

    lane->bells[0] = knit_bell_word(&lane->options.pool.lane_bell[index].value, 0);
    for (uint32_t i = 0; i < lane->session_count; i++) {
        lane->bells[1 + i] = knit_bell_word(&lane->sessions[i]->in.request.bell[index], 0);
        if (lane->sessions[i]->is_evicted)
            lane->bells[1 + i].uaddr = lane->bells[0].uaddr;
    }
}

/* The lane's own bell is there twice. */
void knit_lane_mute_bell(struct knit_lane *lane, const struct knit_worker_session *session)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        if (lane->sessions[i] == session)
            lane->bells[1 + i].uaddr = lane->bells[0].uaddr;
    }
}

/* Before the announcement: a waker changes a bell after it. */
static void read_bells(struct knit_lane *lane)
{
    const struct futex_waitv *end = lane->bells + 1 + lane->session_count;

    for (struct futex_waitv *bell = lane->bells; bell < end; bell++)
        bell->val = atomic_load_explicit(word_of(bell), memory_order_acquire);
}

void knit_lane_park(struct knit_lane *lane)
{
    read_bells(lane);
    knit_lane_announce(lane, KNIT_PARK_PARKED);
    if (!must_not_sleep(lane)) {
        knit_board_count(&lane->busy->parks, 1);
        judge_wakes(lane, sleep_on_bells(lane));
    }
    knit_lane_announce(lane, KNIT_PARK_AWAKE);
    lane->poll.compares_all = true;
    knit_lane_wake_callers(lane); /* of deferred replies that were sent */
}
