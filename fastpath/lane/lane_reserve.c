/* SPDX-License-Identifier: Apache-2.0 */
/* A worker decides by what it reads of all lanes at that moment, and by its own average of it: no
 * word has two writers, and a worker that is stopped or dead keeps none from deciding.
 */
#include "fastpath/lane/lane_reserve.h"

#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_classes.h"
#include "fastpath/lane/note.h"

#define PUBLISH_NS 50000000u
#define WAITING_MS 200u  /* a nap, and much that a busy machine adds */
#define LOOKS_MAX  4000u /* at a higher lane that has not decided */

static uint32_t mark_of(const struct knit_lane_flow *flow)
{
    return knit_reserve_mark(flow->number);
}

static struct knit_note_line *own_line(struct knit_lane *lane)
{
    return &lane->options.pool.note[lane->options.index];
}

static void say(struct knit_lane *lane, uint64_t value)
{
    /* relaxed: G1 orders what has to be ordered. */
    atomic_store_explicit(&own_line(lane)->long_call, value, memory_order_relaxed);
}

void knit_lane_begin_reserve(struct knit_lane *lane)
{
    say(lane, 0);
}

static uint64_t read_word(const struct knit_lane *lane, uint32_t index)
{
    return knit_note_long_call(&lane->options.pool.note[index]);
}

/* ---- who was active ---- */

static void publish(struct knit_lane *lane, const struct knit_lane_flow *flow, uint64_t now_ns)
{
    _Atomic uint64_t *served = own_line(lane)->served;
    const uint32_t mark = mark_of(flow);
    const uint64_t first = atomic_load_explicit(&served[0], memory_order_relaxed);
    const uint64_t second = atomic_load_explicit(&served[1], memory_order_relaxed);
    uint32_t at = (uint32_t)first - (uint32_t)second > UINT32_MAX / 2 ? 0 : 1; /* the older one */

    if (first >> 32 == mark)
        at = 0;
    else if (second >> 32 == mark)
        at = 1;
    /* relaxed: a hint. */
    atomic_store_explicit(&served[at], knit_reserve_served(mark, now_ns), memory_order_relaxed);
}

static void publish_now(struct knit_lane *lane, uint64_t now_ns)
{
    struct knit_lane_reserve *reserve = &lane->reserve;

    for (int i = 1; i >= 0; i--) {
        if (reserve->seen[i] != NULL)
            publish(lane, reserve->seen[i], now_ns);
        reserve->seen[i] = NULL;
    }
}

/* Loops do not ask for the sessions of each other. */
static void publish_waits(struct knit_lane *lane, uint64_t now_ns)
{
    for (uint32_t i = 0; i < lane->session_count; i++) {
        struct knit_lane_flow *flow = lane->sessions[i]->flow;

        if (flow->has_waited && !knit_lane_flow_is_of_loop(flow))
            knit_moments_note(lane->options.pool.waited, flow->number, now_ns);
        flow->has_waited = false;
    }
}

void knit_lane_publish_flows(struct knit_lane *lane, uint64_t now_ns)
{
    if (lane->flows.count <= 1 || now_ns - lane->reserve.published_ns < PUBLISH_NS)
        return;
    lane->reserve.published_ns = now_ns;
    publish_now(lane, now_ns);
    publish_waits(lane, now_ns);
}

/* The marks of flows that were active lately, two a lane. */
struct active {
    uint32_t mark[2 * KNIT_LANES_MAX];
    uint32_t count;
};

static bool is_among(const struct active *active, uint32_t mark)
{
    for (uint32_t i = 0; i < active->count; i++)
        if (active->mark[i] == mark)
            return true;
    return false;
}

/* False: no other flow was. */
static bool find_active(
    const struct knit_lane *lane, uint32_t own, uint64_t now_ns, struct active *ret)
{
    ret->count = 0;
    for (uint32_t i = 0; i < 2 * lane->options.lanes; i++) {
        const uint32_t mark =
            knit_reserve_active(knit_note_served(&lane->options.pool.note[i / 2], i % 2), now_ns);

        if (mark != 0 && mark != own && !is_among(ret, mark))
            ret->mark[ret->count++] = mark;
    }
    return ret->count > 0;
}

/* ---- how many may run ---- */

/* Of those that are active, but this one. */
static uint64_t weights_of_others(
    const struct knit_lane *lane, const struct knit_lane_flow *flow, const struct active *active)
{
    uint64_t all = 0;

    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++) {
        const struct knit_lane_flow *other = &lane->flows.flow[i];

        if (other != flow && other->sessions != 0 && is_among(active, mark_of(other)))
            all += knit_lane_flow_weight(other);
    }
    return all;
}

/* What that lane's word says, when it has decided, where this one is to wait for that. */
static uint64_t decided(const struct knit_lane *lane, uint32_t index, uint32_t mark, bool begins)
{
    uint64_t said = read_word(lane, index);

    if (!begins || index < lane->options.index)
        return said;
    /* A stopped worker counts as one that runs. */
    for (uint32_t looks = 0; knit_reserve_is(said, mark, KNIT_RESERVE_TRYING) && looks < LOOKS_MAX;
         looks++) {
        knit_bell_pause();
        said = read_word(lane, index);
    }
    return said;
}

/* Other lanes, as one that wants to begin a call of that flow sees them. */
struct others {
    uint32_t workers; /* with its own */
    uint32_t running; /* long calls of that flow, or by loops of its principal */
    uint32_t busy;    /* with calls of others */
};

/* Whether a call of that session is one of another flow. A session that is not known here is. */
static bool runs_another(const struct knit_lane *lane, uint64_t session, uint32_t mark)
{
    if (session == 0)
        return false;
    for (uint32_t i = 0; i < lane->session_count; i++)
        if (lane->sessions[i]->in.id == session)
            return mark_of(lane->sessions[i]->flow) != mark;
    return true;
}

static void look_at_others(
    const struct knit_lane *lane, uint32_t mark, bool begins, struct others *ret)
{
    const struct knit_board_view *board = &lane->options.board;

    *ret = (struct others){.workers = 1};
    for (uint32_t i = 0; i < lane->options.lanes; i++) {
        uint64_t said;

        if (i == lane->options.index || knit_board_is_vacant(board, i))
            continue;
        ret->workers++;
        said = decided(lane, i, mark, begins);
        if (knit_reserve_has_begun(said, mark))
            ret->running++;
        else if (runs_another(lane, knit_board_running(board, i).session, mark))
            ret->busy++;
    }
}

/* Calls of its principal that loops have given to workers run as those of the loops, that is, of
 * others. */
static void count_those_of_loops(
    const struct knit_lane *lane, const struct knit_lane_flow *flow, struct others *others)
{
    const struct knit_tally *long_calls = lane->options.rights.long_calls;
    const uint32_t count = long_calls != NULL ? knit_tally_of(long_calls, flow->number) : 0;

    others->running += count;
    others->busy -= count < others->busy ? count : others->busy;
}

/* Whether one more may run. What of its principal waits in loops is a part of theirs too: so it
 * counts twice where they do, and has rather less than its part. */
static bool is_over(struct knit_lane *lane, const struct knit_lane_flow *flow,
    const struct active *active, bool begins)
{
    const uint64_t own = knit_lane_flow_whole_weight(flow);
    struct others others;

    look_at_others(lane, mark_of(flow), begins, &others);
    count_those_of_loops(lane, flow, &others);
    knit_reserve_look(&lane->reserve.others, others.busy, knit_clock_ns());
    return others.running >= knit_reserve_most(&lane->reserve.others, others.workers, own,
                                 own + weights_of_others(lane, flow, active));
}

/* What the flow's calls of the task take here. */
static uint32_t mean_of(
    const struct knit_lane *lane, const struct knit_lane_flow *flow, uint32_t task)
{
    const uint32_t mean = lane->mean_ns[task];

    return knit_reserve_mean_ns(
        &flow->means, task, mean != 0 ? mean : knit_board_mean_ns(&lane->options.board, task));
}

/* The next call of that ring has been held for too long. */
static bool is_overdue(struct knit_cursor *cursor, uint64_t now_ns, uint32_t mean_ns)
{
    (void)knit_lane_has_aged(cursor, now_ns);
    return knit_reserve_is_overdue(now_ns - cursor->stood_ns, mean_ns);
}

/* The flow's call may not begin; with `begins`, what the own word says of that. */
static bool must_wait(
    struct knit_lane *lane, const struct knit_lane_flow *flow, uint64_t now_ns, bool begins)
{
    const uint32_t mark = mark_of(flow), now_ms = knit_reserve_ms(now_ns);
    struct active active;

    if (!find_active(lane, mark, now_ns, &active))
        return false;
    if (begins) {
        say(lane, knit_reserve_long_call(mark, now_ms, KNIT_RESERVE_TRYING));
        knit_bell_fence(); /* G1, G2 */
    }
    if (!is_over(lane, flow, &active, begins))
        return false;
    if (begins)
        say(lane, knit_reserve_long_call(mark, now_ms, KNIT_RESERVE_WAITING));
    return true;
}

bool knit_lane_holds(struct knit_lane *lane, const struct knit_worker_session *session,
    struct knit_cursor *cursor, uint32_t task, bool begins)
{
    const struct knit_lane_flow *flow = session->flow;
    uint32_t mean_ns;
    uint64_t now_ns;

    if (lane->flows.count == 1 || !lane->options.steal || lane->options.lanes == 1)
        return false;
    mean_ns = mean_of(lane, flow, task);
    if (mean_ns <= KNIT_RESERVE_LONG_NS)
        return false;
    now_ns = knit_clock_ns();
    publish_now(lane, now_ns);
    if (!knit_lane_flow_is_of_loop(flow) && !is_overdue(cursor, now_ns, mean_ns) &&
        must_wait(lane, flow, now_ns, begins)) {
        lane->reserve.holds = true;
        return true;
    }
    if (begins) {
        say(lane,
            knit_reserve_long_call(mark_of(flow), knit_reserve_ms(now_ns), KNIT_RESERVE_RUNNING));
        lane->reserve.is_running = true;
    }
    return false;
}

void knit_lane_end_long(struct knit_lane *lane, bool is_home)
{
    if (!lane->reserve.is_running)
        return;
    lane->reserve.is_running = false;
    lane->reserve.own = is_home ? (uint32_t)(read_word(lane, lane->options.index) >> 32) : 0;
    say(lane, 0);
}

void knit_lane_let_go(struct knit_lane *lane)
{
    lane->reserve.holds = false;
    for (uint32_t i = 0; i < lane->session_count; i++)
        lane->sessions[i]->is_held = false;
}

/* ---- those that wait ---- */

uint32_t knit_lane_next_waiting(struct knit_lane *lane)
{
    const uint32_t lanes = lane->options.lanes, now_ms = knit_reserve_ms(knit_clock_ns());
    const uint32_t mark = lane->reserve.own;

    for (uint32_t i = 0; i < lanes; i++) {
        const uint32_t index = (lane->reserve.next + i) % lanes;
        const uint64_t said = read_word(lane, index);

        if (index == lane->options.index || !knit_reserve_is(said, mark, KNIT_RESERVE_WAITING) ||
            ((now_ms - ((uint32_t)said >> 2)) & (UINT32_MAX >> 2)) > WAITING_MS)
            continue;
        lane->reserve.next = index + 1;
        return index;
    }
    return lanes;
}

bool knit_lane_is_of_own(const struct knit_lane *lane, const struct knit_worker_session *session)
{
    return mark_of(session->flow) == lane->reserve.own;
}
