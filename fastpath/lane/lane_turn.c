/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's turns: serve the home rings by turns of their sessions, then wake callers.
 *
 * Order of preference. The home rings come first, and principals share the worker's time
 * (lane_flows.h), and their sessions what each gets (deficit.h).
 * When they are empty, the worker idles: it steals, spins, and in the end parks (lane_idle.c).
 */
#include "fastpath/lane/lane_classes.h"

#include <errno.h>
#include <stdlib.h>

#include "fastpath/lane/lane_steal.h"
#include "fastpath/lane/wake.h"

#define TURN_ANSWERS   16u
#define BURST_ANSWERS  4u /* of one session, then others have their turn */
#define VISIT_ANSWERS  8u /* of one flow: so that a full turn serves two of them */
#define LONG_VISIT_NS  (VISIT_ANSWERS * KNIT_SHORT_NS)
#define WATCH_FACTOR   256       /* one of 16 calls of short tasks is measured */
#define RETIRE_LOOK_NS 50000000u /* a caller may release a block meanwhile */
#define SCAN_TURNS     64u       /* of short calls, between two reads of the clock */

/* ---- life ----------------------------------------------------------------------------------- */

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
    lane->finished_end = &lane->finished;
    lane->busy = &options->board.busy[options->index];
    lane->slab_max = KNIT_SLAB_BYTES;
    if (options->argument_max_bytes != 0 && options->argument_max_bytes < KNIT_SLAB_BYTES)
        lane->slab_max = (uint32_t)options->argument_max_bytes;
    lane->inline_max = lane->slab_max < KNIT_INLINE_MAX ? lane->slab_max : KNIT_INLINE_MAX;
    if (lane->options.serve == NULL)
        lane->options.serve = knit_lane_serve;
    for (uint32_t i = 0; i < options->lanes; i++)
        lane->others[i / 64] |= (uint64_t)(i != options->index) << i % 64;
    knit_lane_begin_bells(lane);
    lane->room = KNIT_NO_BLOCK;
    lane->unmeasured = lane->drawn = 1;
    knit_spin_init(&lane->spin, options->spin_us);
    lane->calls = atomic_load_explicit(&lane->busy->calls, memory_order_relaxed);
    atomic_store_explicit(&lane->busy->running, 0, memory_order_relaxed);
    knit_lane_begin_reserve(lane);
    atomic_store_explicit(&lane->busy->owner, options->owner, memory_order_relaxed);
    lane->park =
        atomic_load_explicit(&options->board.park[options->index].value, memory_order_acquire);
    knit_lane_announce(lane, KNIT_PARK_AWAKE);
    *ret = lane;
    return 0;
}

struct knit_lane *knit_lane_free(struct knit_lane *lane)
{
    if (lane == NULL)
        return NULL;
    /* A call that ended its thread keeps nothing waiting. */
    lane->current = NULL;
    knit_lane_apply_handovers(lane);
    for (uint32_t i = 0; i < lane->session_count; i++) {
        knit_lane_drop_finished(lane, lane->sessions[i]);
        (void)knit_worker_session_free(lane->sessions[i]);
    }
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
    atomic_store_explicit(&lane->is_stopping, KNIT_LANE_STOPS, memory_order_seq_cst);
    knit_lane_wake(lane);
}

void knit_lane_retire(struct knit_lane *lane)
{
    uint32_t goes_on = KNIT_LANE_GOES_ON;

    (void)atomic_compare_exchange_strong_explicit(&lane->is_stopping, &goes_on, KNIT_LANE_RETIRES,
        memory_order_seq_cst, memory_order_relaxed);
    knit_lane_wake(lane);
}

bool knit_lane_is_retiring(const struct knit_lane *lane)
{
    return atomic_load_explicit(&lane->is_stopping, memory_order_relaxed) == KNIT_LANE_RETIRES;
}

/* ---- turns ---------------------------------------------------------------------------------- */

KNIT_ALWAYS_INLINE uint32_t serve_session(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    if (session->deferred.any)
        return knit_lane_send_deferred(lane, session, KNIT_SWEEP_TURN) ? 1 : 0;
    if (knit_worker_session_is_shut(session))
        return 0;
    if (__builtin_expect(knit_worker_session_has_classes(session), 0))
        return knit_lane_serve_classes(lane, session, most);
    return lane->options.serve(lane, session, most);
}

/* What waits for room in the arena may be the reply to a stolen call, of a session that is cold. */
static __attribute__((noinline)) void heat_deferred(struct knit_lane *lane)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        if (lane->sessions[i]->deferred.any)
            knit_poll_heat(&lane->poll, i);
    }
}

/* One look: places in `sessions` of those that have something, from where the last turn ended;
 * fresh ones first. */
KNIT_ALWAYS_INLINE uint32_t find_busy(struct knit_lane *lane, uint8_t *ret_places, bool has_flows)
{
    struct knit_poll *poll = &lane->poll;
    uint32_t at = 0, count = 0, fresh = 0;
    uint32_t hot;

    /* While others make long calls a quiet session waits for one of these, not for several. */
    knit_poll_compare(poll, lane->was_long);
    if (lane->deferred_count > 0)
        heat_deferred(lane);
    hot = poll->hot_count;
    while (at < hot && poll->hot[at] < lane->turn_from)
        at++;
    for (uint32_t i = 0; i < hot; i++, at++) {
        struct knit_worker_session *session;
        uint8_t place;

        if (at >= hot)
            at = 0;
        place = poll->hot[at];
        session = lane->sessions[place];
        if (!knit_lane_has_something(lane, session, place))
            continue;
        knit_deficit_renew(&session->deficit,
            has_flows ? knit_lane_flow_session_rounds(lane->round, session->flow) : lane->round);
        ret_places[count] = place;
        if (knit_deficit_is_fresh(&session->deficit)) {
            ret_places[count] = ret_places[fresh];
            ret_places[fresh++] = place;
        }
        count++;
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

/* A visit of a flow with credit: calls of its next session. A task that is short by its mean may
 * take long with what somebody sends, and few of its calls are measured: a flow that had a long
 * call is charged by the clock until it has had WATCH_FACTOR times as much. */
static uint32_t visit(struct knit_lane *lane, struct knit_lane_flow *flow, uint32_t most)
{
    const uint8_t place = knit_lane_flow_next(lane, flow);
    struct knit_worker_session *session = lane->sessions[place];
    const uint64_t begun = flow->watch_ns > 0 ? knit_clock_ns() : 0;
    int32_t spent_ns = session->deficit.ns;
    uint64_t took_ns;
    uint32_t got;

    lane->took_ns = 0;
    got = serve_session(lane, session, most);
    spent_ns -= session->deficit.ns;
    took_ns = lane->took_ns;
    if (begun != 0) {
        const uint64_t all_ns = knit_clock_ns() - begun;

        flow->watch_ns -= spent_ns;
        if (all_ns > LONG_VISIT_NS)
            took_ns = all_ns;
    }
    if (took_ns > LONG_VISIT_NS && (int64_t)took_ns * WATCH_FACTOR > flow->watch_ns)
        flow->watch_ns = (int64_t)took_ns * WATCH_FACTOR;
    knit_lane_note_flow(lane, flow);
    knit_lane_flow_charge(flow, spent_ns, took_ns);
    if (got > 0)
        lane->turn_from = place + 1u;
    if (got == most || !knit_deficit_has_credit(&session->deficit))
        knit_lane_flow_again(lane, flow, place);
    return got;
}

/* All of these have had long calls, and others that have calls in other lanes have not. */
static bool comes_after_others(
    struct knit_lane *lane, struct knit_lane_flow *const *turn, uint32_t count)
{
    const uint32_t due = knit_lane_flows_due(turn, count);

    return __builtin_expect(due >= KNIT_LANE_FLOW_DUE_LONG, 0) &&
           knit_lane_serve_lesser_debtor(lane, due);
}

/* One session has something, as is usual: its flow pays, and rounds pass as it does. */
static inline uint32_t serve_alone(struct knit_lane *lane, uint32_t place)
{
    struct knit_worker_session *session = lane->sessions[place];
    struct knit_lane_flow *flow = session->flow;
    uint32_t answers = 0;
    int32_t credit_ns;

    do {
        knit_lane_flow_renew(&lane->flows, flow);
        if (__builtin_expect(flow->credit_ns <= 0, 0)) {
            if (answers == 0 && comes_after_others(lane, &flow, 1))
                return 1;
            knit_lane_flows_begin_round(&lane->flows, &flow, 1);
        }
        if (!knit_deficit_has_credit(&session->deficit)) {
            flow->own_rounds += knit_deficit_rounds_due(&session->deficit);
            knit_deficit_renew(&session->deficit, knit_lane_flow_session_rounds(lane->round, flow));
        }
        credit_ns = session->deficit.ns;
        lane->took_ns = 0;
        answers += serve_session(lane, session, TURN_ANSWERS - answers);
        knit_lane_flow_charge(flow, credit_ns - session->deficit.ns, lane->took_ns);
        /* Only debt may keep it. */
    } while (
        answers < TURN_ANSWERS && !lane->was_long && !knit_deficit_has_credit(&session->deficit));
    if (__builtin_expect(flow->credit_ns <= 0, 0))
        lane->flows.due = knit_lane_flows_due(&flow, 1);
    knit_lane_note_flow(lane, flow);
    if (answers > 0)
        lane->turn_from = place + 1u;
    return answers;
}

/* The same as serve_home(), where flows take turns before their sessions do. */
static __attribute__((noinline)) uint32_t serve_flows(struct knit_lane *lane)
{
    uint8_t places[KNIT_LANE_SESSIONS_MAX];
    struct knit_lane_flow *turn[KNIT_LANE_SESSIONS_MAX];
    const uint32_t count = find_busy(lane, places, true);
    uint32_t answers = 0, waiting;

    lane->was_long = false;
    lane->flows.due = 0;
    if (__builtin_expect(lane->reserve.holds, 0))
        knit_lane_let_go(lane);
    if (count == 0)
        return 0;
    if (count == 1)
        return serve_alone(lane, places[0]);
    waiting = knit_lane_flows_line_up(lane, places, count, turn);
    if (comes_after_others(lane, turn, waiting))
        return 1;
    while (waiting > 0) {
        uint32_t still = 0;

        knit_lane_flows_begin_round(&lane->flows, turn, waiting);
        for (uint32_t i = 0; i < waiting; i++) {
            struct knit_lane_flow *flow = turn[i];
            const uint32_t left = TURN_ANSWERS - answers;

            if (flow->credit_ns > 0)
                answers += visit(lane, flow, VISIT_ANSWERS < left ? VISIT_ANSWERS : left);
            if (flow->first != KNIT_LANE_FLOW_NO_PLACE)
                turn[still++] = flow;
            if (answers == TURN_ANSWERS || lane->was_long) {
                while (++i < waiting)
                    turn[still++] = turn[i];
                lane->flows.due = still > 0 ? knit_lane_flows_due(turn, still) : 0;
                return answers;
            }
        }
        waiting = still;
    }
    return answers;
}

/* Up to TURN_ANSWERS calls. Sessions are looked at once a turn and not once a call; those that have
 * credit are served by turns, several calls at a time, a single one as many as it has. A call that
 * was not short ends the turn, because sessions may have come or gone during it. */
static uint32_t serve_home(struct knit_lane *lane)
{
    uint8_t places[KNIT_LANE_SESSIONS_MAX];
    uint32_t answers = 0, count;

    if (__builtin_expect(lane->flows.count > 1, 0))
        return serve_flows(lane);
    count = find_busy(lane, places, false);
    lane->was_long = false;
    while (count > 0) {
        const uint32_t burst = count == 1 ? TURN_ANSWERS : BURST_ANSWERS;
        uint32_t still = 0;

        begin_round(lane, places, count);
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t place = places[i];
            struct knit_worker_session *session = lane->sessions[place];
            uint32_t most = burst < TURN_ANSWERS - answers ? burst : TURN_ANSWERS - answers;
            uint32_t got = 0;

            if (knit_deficit_has_credit(&session->deficit))
                got = serve_session(lane, session, most);
            if (got > 0)
                lane->turn_from = place + 1u;
            answers += got;
            if (answers == TURN_ANSWERS || lane->was_long)
                return answers;
            /* It has nothing more, or only debt keeps it. */
            if (got == most || !knit_deficit_has_credit(&session->deficit))
                places[still++] = place;
        }
        count = still;
    }
    return answers;
}

/* A turn of a worker that claims nothing more: it waits for the outcomes that are to come. */
static __attribute__((cold, noinline)) int retire(struct knit_lane *lane)
{
    _Atomic uint32_t *bell = &lane->options.pool.lane_bell[lane->options.index].value;
    /* W3, acquire. Before the looks: who finishes a call stores that, then changes the bell. */
    const uint32_t before = atomic_load_explicit(bell, memory_order_acquire);

    atomic_store_explicit(&lane->busy->running, 0, memory_order_relaxed);
    if (knit_lane_send_any_deferred(lane, UINT32_MAX))
        knit_lane_wake_callers(lane);
    if (atomic_load_explicit(&lane->has_handover, memory_order_acquire))
        return KNIT_LANE_RUNNING;
    if (lane->deferred_count == 0 && lane->options.is_over(lane->options.run_arg))
        return KNIT_LANE_STOPPED;
    (void)knit_bell_wait(bell, before, knit_clock_ns() + RETIRE_LOOK_NS);
    return KNIT_LANE_RUNNING;
}

int knit_lane_turn(struct knit_lane *lane)
{
    uint32_t end;

    if (atomic_load_explicit(&lane->has_handover, memory_order_acquire)) {
        /* Before sessions go: `answered` must not name one of them. */
        knit_lane_wake_callers(lane);
        knit_lane_apply_handovers(lane);
    }
    end = atomic_load_explicit(&lane->is_stopping, memory_order_acquire);
    if (end != KNIT_LANE_GOES_ON)
        return end == KNIT_LANE_STOPS ? KNIT_LANE_STOPPED : retire(lane);
    if (serve_home(lane) == 0) {
        knit_lane_idle(lane);
        return KNIT_LANE_RUNNING;
    }
    knit_lane_wake_callers(lane);
    if (lane->was_long || ++lane->turns >= SCAN_TURNS)
        knit_lane_help_others(lane);
    return KNIT_LANE_RUNNING;
}
