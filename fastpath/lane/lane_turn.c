/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's turns: serve the home rings, steal, spin, park.
 *
 * Order of preference. The home rings come first, and sessions share the worker's time (deficit.h).
 * When they are empty, the worker reads other lanes' rings, once in KNIT_STEAL_AFTER_NS and not
 * more often, because each read moves a cache line away from a busy worker. A lane without a worker
 * is emptied at once; a call of a living worker is stolen only if it was READY at two such looks.
 * It does not matter whether that worker is busy, stopped or overloaded: the claim word decides,
 * and a busy flag would be stale in exactly this moment.
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
 *   W3 bell    lane_bell and bell acquire, before the announcement; with the release of the side
 *              that changes them (wake.h, session_publish.c)
 */
#include "fastpath/lane/lane_private.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/wake.h"

#define TURN_ANSWERS        16u
#define SWEEP_TURN          16u      /* blocks looked at in a turn to send a deferred reply */
#define BURST_ANSWERS       4u       /* of one session, then others have their turn */
#define SCAN_TURNS          64u      /* of short calls, between two reads of the clock */
#define SCAN_NS             1000000u /* longest time between two scans of other lanes' rings */
#define STEAL_RINGS         64u      /* read in one scan while spinning; before parking, all are */
#define TIGHT_SPIN_NS       2000u    /* then pause_ns lie between two looks of a spin */
#define WAKES_JUDGED        1000u    /* by one session's bell in a second: beyond it is judged */
#define WAKES_PER_CALL_MAX  32u      /* on average */
#define LOOKS_WHILE_PARKING 64u      /* at calls in other lanes that may not be stolen yet */

/* ---- life ----------------------------------------------------------------------------------- */

/* The park word's next value. What is loaded after this is not older than the announcement. */
static void announce(struct knit_lane *lane, uint32_t state)
{
    lane->park = knit_park_next(lane->park, state);
    /* release: a caller that sees PARKED sees what this worker did before. */
    atomic_store_explicit(
        &lane->options.board.park[lane->options.index].value, lane->park, memory_order_release);
    knit_bell_fence(); /* W1 */
}

int knit_lane_new(const struct knit_lane_options *options, struct knit_lane **ret)
{
    struct knit_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return -ENOMEM;
    lane->options = *options;
    lane->park_notified = calloc(options->lanes, sizeof(*lane->park_notified));
    lane->mean_ns = calloc(KNIT_TASKS, sizeof(*lane->mean_ns));
    if (lane->park_notified == NULL || lane->mean_ns == NULL) {
        free(lane->park_notified);
        free(lane->mean_ns);
        free(lane);
        return -ENOMEM;
    }
    pthread_mutex_init(&lane->mutex, NULL);
    lane->handovers_end = &lane->handovers;
    lane->busy = &options->board.busy[options->index];
    lane->room = KNIT_NO_BLOCK;
    knit_spin_init(&lane->spin, options->spin_us);
    lane->calls = atomic_load_explicit(&lane->busy->calls, memory_order_relaxed);
    atomic_store_explicit(&lane->busy->running, 0, memory_order_relaxed);
    atomic_store_explicit(&lane->busy->owner, options->owner, memory_order_relaxed);
    lane->park =
        atomic_load_explicit(&options->board.park[options->index].value, memory_order_acquire);
    announce(lane, KNIT_PARK_AWAKE);
    *ret = lane;
    return 0;
}

struct knit_lane *knit_lane_free(struct knit_lane *lane)
{
    if (lane == NULL)
        return NULL;
    knit_lane_apply_handovers(lane);
    for (uint32_t i = 0; i < lane->session_count; i++)
        (void)knit_worker_session_free(lane->sessions[i]);
    pthread_mutex_destroy(&lane->mutex);
    free(lane->copy);
    free(lane->park_notified);
    free(lane->mean_ns);
    free(lane);
    return NULL;
}

void knit_lane_wake(struct knit_lane *lane)
{
    knit_wake_worker(&lane->options.pool, lane->options.index);
}

void knit_lane_stop(struct knit_lane *lane)
{
    atomic_store_explicit(&lane->is_stopping, true, memory_order_seq_cst);
    knit_lane_wake(lane);
}

/* ---- serving and stealing ------------------------------------------------------------------- */

static bool serve_one(struct knit_lane *lane, struct knit_worker_session *session)
{
    struct knit_ready_call found;

    if (session->deferred.any)
        return knit_lane_send_deferred(lane, session, SWEEP_TURN);
    if (knit_worker_session_is_shut(session))
        return false;
    if (!knit_lane_find(lane, session, session->home, &found))
        return false;
    return knit_lane_call(lane, session, session->home, &found);
}

/* Places in `sessions` of those that have something, from where the last turn ended; fresh ones
 * first. */
static uint32_t find_busy(struct knit_lane *lane, uint8_t *ret_places)
{
    uint32_t at = lane->turn_from < lane->session_count ? lane->turn_from : 0;
    uint32_t count = 0, fresh = 0;

    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_worker_session *session = lane->sessions[at];

        if (knit_cursor_peek(session->home) || session->deferred.any) {
            knit_deficit_renew(&session->deficit, lane->round);
            ret_places[count] = (uint8_t)at;
            if (knit_deficit_is_fresh(&session->deficit)) {
                ret_places[count] = ret_places[fresh];
                ret_places[fresh++] = (uint8_t)at;
            }
            count++;
        }
        at = at + 1 < lane->session_count ? at + 1 : 0;
    }
    return count;
}

/* If all of these are in debt, so many rounds pass that one is not. */
static void begin_round(struct knit_lane *lane, const uint8_t *places, uint32_t count)
{
    uint32_t due = UINT32_MAX;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t own = knit_deficit_rounds_due(&lane->sessions[places[i]]->deficit);

        if (own == 0)
            return;
        if (own < due)
            due = own;
    }
    lane->round += due;
    for (uint32_t i = 0; i < count; i++)
        knit_deficit_renew(&lane->sessions[places[i]]->deficit, lane->round);
}

/* Up to TURN_ANSWERS calls. All sessions are looked at once, so an idle one costs one look a turn
 * and not one a call; those that have credit are served by turns. A call that was not short ends
 * the turn, because sessions may have come or gone during it. */
static uint32_t serve_home(struct knit_lane *lane)
{
    uint8_t places[KNIT_LANE_SESSIONS_MAX];
    uint32_t answers = 0, count = find_busy(lane, places);

    while (count > 0) {
        uint32_t still = 0;

        begin_round(lane, places, count);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t place = places[i];
            struct knit_worker_session *session = lane->sessions[place];
            uint32_t left = BURST_ANSWERS;

            for (; left > 0 && knit_deficit_has_credit(&session->deficit); left--) {
                if (!serve_one(lane, session))
                    break;
                lane->turn_from = place + 1u;
                if (++answers == TURN_ANSWERS || lane->was_long)
                    return answers;
            }
            /* It has nothing more, or only debt keeps it. */
            if (left == 0 || !knit_deficit_has_credit(&session->deficit))
                places[still++] = place;
        }
        count = still;
    }
    return answers;
}

static bool home_has_work(struct knit_lane *lane)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_worker_session *session = lane->sessions[i];
        if (knit_cursor_peek(session->home) && !knit_worker_session_is_shut(session))
            return true;
    }
    return false;
}

enum stealable { STEAL_NOTHING, STEAL_LATER, STEAL_NOW };

/* Whether that ring has a call that this worker may claim. LATER: it has one that is not READY for
 * long enough yet. */
static enum stealable may_steal(struct knit_lane *lane, struct knit_worker_session *session,
    uint32_t from, uint64_t now, struct knit_ready_call *ret)
{
    struct knit_cursor *cursor = &session->cursor[from];
    bool vacant = knit_board_is_vacant(&lane->options.board, from);
    if ((!vacant && !lane->options.steal) || !knit_lane_find(lane, session, cursor, ret)) {
        cursor->stood_ns = 0;
        return STEAL_NOTHING;
    }
    if (vacant)
        return STEAL_NOW;
    /* Like an empty ring: its worker lives, and claims what is behind it or wakes a sibling. */
    if ((knit_meta_flags(ret->meta) & KNIT_CELL_PINNED) != 0) {
        cursor->stood_ns = 0;
        return STEAL_NOTHING;
    }
    if (cursor->stood_ns == 0 || cursor->stood_q != cursor->q) {
        cursor->stood_q = cursor->q;
        cursor->stood_ns = now;
        return STEAL_LATER;
    }
    return now - cursor->stood_ns >= KNIT_STEAL_AFTER_NS ? STEAL_NOW : STEAL_LATER;
}

/* Reads at most `rings` rings of other lanes, from where the last scan ended. With `take`, a call
 * that may be stolen is claimed and answered before STEAL_NOW is returned, and the next scan begins
 * behind its ring: a ring that is always full does not delay the others. */
static enum stealable scan_others(struct knit_lane *lane, uint32_t rings, bool take)
{
    const uint32_t lanes = lane->options.lanes;
    const uint32_t all = lane->session_count * lanes;
    enum stealable best = STEAL_NOTHING;
    uint64_t now;
    if (lanes == 1 || all == 0)
        return best;
    now = knit_clock_ns();
    for (uint32_t i = 0; i < rings && i < all; i++) {
        struct knit_worker_session *session;
        enum stealable got;
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
        if (got == STEAL_NOW) {
            if (!take)
                lane->steal_from--;
            if (take && knit_lane_call(lane, session, &session->cursor[from], &found))
                knit_board_count(&lane->busy->stolen, 1);
            return STEAL_NOW;
        }
        if (got > best)
            best = got;
    }
    return best;
}

static bool has_requests(const struct knit_lane *lane)
{
    return atomic_load_explicit(&lane->has_handover, memory_order_acquire) ||
           atomic_load_explicit(&lane->is_stopping, memory_order_acquire);
}

static bool send_any_deferred(struct knit_lane *lane, uint32_t most)
{
    bool any = false;
    for (uint32_t i = 0; i < lane->session_count; i++) {
        if (lane->sessions[i]->deferred.any &&
            knit_lane_send_deferred(lane, lane->sessions[i], most))
            any = true;
    }
    return any;
}

/* ---- parking -------------------------------------------------------------------------------- */

/* The last looks of a worker that has announced its sleep. True: there is something to do, or soon
 * will be. */
static bool must_not_sleep(struct knit_lane *lane)
{
    if (has_requests(lane) || home_has_work(lane) || send_any_deferred(lane, UINT32_MAX))
        return true;
    for (int look = 0; look < (int)LOOKS_WHILE_PARKING; look++) {
        enum stealable got = scan_others(lane, UINT32_MAX, false);
        uint64_t until;
        if (got == STEAL_NOTHING)
            return false;
        if (got == STEAL_NOW || home_has_work(lane))
            return true;
        until = knit_clock_ns() + KNIT_STEAL_AFTER_NS;
        while (knit_clock_ns() < until)
            knit_bell_pause();
    }
    return true;
}

static uint64_t calls_consumed(
    const struct knit_lane *lane, const struct knit_worker_session *session)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < lane->options.lanes; i++)
        sum += atomic_load_explicit(&session->in.reply.head[i].value, memory_order_relaxed);
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
    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_worker_session *session = lane->sessions[i];
        uint32_t bell = atomic_load_explicit(
            &session->in.request.bell[lane->options.index], memory_order_relaxed);
        bool was_notified =
            bell != session->bell_seen || (woken > 0 && woken == session->bell_word);
        uint64_t calls;
        /* While a reply is deferred, the caller notifies with each release, and none of its calls
         * is claimed. */
        if (!was_notified || session->is_evicted || session->deferred.any)
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

/* Sleeps while all words, of which the first is the lane's own, have these values. Returns which
 * word was woken, or -1. */
static int sleep_on(const struct knit_lane *lane, const struct futex_waitv *words, uint32_t count)
{
    const uint64_t until = lane->options.park_ms != 0
                               ? knit_clock_ns() + lane->options.park_ms * (uint64_t)1000000
                               : 0;

    if (!lane->options.has_one_bell)
        return knit_bell_wait_many(words, count, until);
    (void)knit_bell_wait(
        &lane->options.pool.lane_bell[lane->options.index].value, (uint32_t)words[0].val, until);
    return -1;
}

static void park(struct knit_lane *lane)
{
    struct futex_waitv words[KNIT_BELL_WORDS_MAX];
    _Atomic uint32_t *own = &lane->options.pool.lane_bell[lane->options.index].value;
    uint32_t count = 0;
    /* Values from before the announcement: a waker changes them after it. */
    words[count++] = knit_bell_word(own, atomic_load_explicit(own, memory_order_acquire));
    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_worker_session *session = lane->sessions[i];
        _Atomic uint32_t *bell = &session->in.request.bell[lane->options.index];
        session->bell_seen = atomic_load_explicit(bell, memory_order_acquire);
        session->bell_word = session->is_evicted ? 0 : (int)count;
        if (!session->is_evicted)
            words[count++] = knit_bell_word(bell, session->bell_seen);
    }
    announce(lane, KNIT_PARK_PARKED);
    if (!must_not_sleep(lane)) {
        knit_board_count(&lane->busy->parks, 1);
        judge_wakes(lane, sleep_on(lane, words, count));
    }
    announce(lane, KNIT_PARK_AWAKE);
    knit_lane_wake_callers(lane); /* of deferred replies that were sent */
}

/* ---- turns ---------------------------------------------------------------------------------- */

/* Fetches the lines of the next answer into this core's cache while there is nothing to do. */
static void prefetch_answer(const struct knit_lane *lane)
{
    const struct knit_worker_session *session;
    uint32_t slot;

    if (lane->session_count == 0)
        return;
    session = lane->sessions[0];
    slot = session->last_slot + session->slot_step;
    if (slot >= session->in.geometry.slots)
        slot = 0;
    __builtin_prefetch(&session->in.reply.reply[slot], 1, 3);
    __builtin_prefetch(&session->in.reply.reply[slot].body[KNIT_HEAD_WORDS], 1, 3);
    __builtin_prefetch(&session->in.reply.claim[slot], 1, 3);
}

/* When the kernel knows of no shared cache, as on many virtual machines, a woken thread stays on
 * the core it slept on. A caller and a worker that meet on one core then stay there: no spin of
 * either succeeds, each call costs a context switch, and other cores are idle. So a worker whose
 * spins have failed for long moves to another core of those it is allowed, before it spins fully
 * again. */
static void step_aside(void)
{
    cpu_set_t allowed, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0)
        return;
    if (sched_setaffinity(0, sizeof(others), &others) == 0)
        (void)sched_setaffinity(0, sizeof(allowed), &allowed);
}

/* The home rings are empty: spin, steal, and in the end park. */
static void idle(struct knit_lane *lane)
{
    uint64_t start, steal_at;
    bool tries_again;
    int looks;

    atomic_store_explicit(&lane->busy->running, 0, memory_order_relaxed);
    lane->round += KNIT_ROUNDS_MAX;
    prefetch_answer(lane);
    start = knit_clock_ns();
    steal_at = start;
    /* When no spin has succeeded for long, a caller may be waiting for this core. */
    looks = lane->spin.now_ns == 0 ? 1 : 16;
    for (;;) {
        uint64_t now;

        for (int i = 0; i < looks; i++) {
            if (home_has_work(lane)) {
                knit_spin_paid(&lane->spin);
                return;
            }
            knit_bell_pause();
        }
        now = knit_clock_ns();
        if (has_requests(lane))
            return;
        if (send_any_deferred(lane, SWEEP_TURN)) {
            knit_lane_wake_callers(lane);
            return;
        }
        if (now >= steal_at) {
            if (scan_others(lane, STEAL_RINGS, true) == STEAL_NOW) {
                knit_lane_wake_callers(lane);
                return;
            }
            steal_at = now + KNIT_STEAL_AFTER_NS;
        }
        if (now - start >= lane->spin.now_ns)
            break;
        if (now - start > TIGHT_SPIN_NS) {
            while (knit_clock_ns() - now < lane->options.pause_ns)
                knit_bell_pause();
        }
    }
    tries_again = knit_spin_failed(&lane->spin);
    park(lane);
    if (tries_again)
        step_aside();
}

/* A worker whose home rings are never empty still scans the other rings from time to time: a call
 * in a lane without a worker, or behind a long call, would otherwise wait as long as callers keep
 * all other workers busy. */
static void help_others(struct knit_lane *lane)
{
    uint64_t now = knit_clock_ns();
    lane->turns = 0;
    if (now - lane->scanned_ns < SCAN_NS)
        return;
    lane->scanned_ns = now;
    if (scan_others(lane, STEAL_RINGS, true) == STEAL_NOW)
        knit_lane_wake_callers(lane);
}

int knit_lane_turn(struct knit_lane *lane)
{
    if (atomic_load_explicit(&lane->has_handover, memory_order_acquire)) {
        /* Before sessions go: `answered` must not name one of them. */
        knit_lane_wake_callers(lane);
        knit_lane_apply_handovers(lane);
    }
    if (atomic_load_explicit(&lane->is_stopping, memory_order_acquire))
        return KNIT_LANE_STOPPED;
    if (serve_home(lane) == 0) {
        idle(lane);
        return KNIT_LANE_RUNNING;
    }
    knit_lane_wake_callers(lane);
    if (lane->was_long || ++lane->turns >= SCAN_TURNS)
        help_others(lane);
    return KNIT_LANE_RUNNING;
}
