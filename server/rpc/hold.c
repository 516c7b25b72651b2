/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of lanes was written by workers, whose tasks could write anything there: it decides
 * when a call begins, and about nothing else.
 */
#include "server/rpc/hold.h"

#include "fastpath/lane/bell.h"
#include "fastpath/lane/lane_flows.h"
#include "fastpath/lane/note.h"

/* ---- who else is there ---- */

/* Flows by shared memory and of other loops are told by the lanes, two of each; what they weigh is
 * not known here. */
static uint64_t weights_elsewhere(
    const struct knit_router *router, const struct knit_flow *flow, uint64_t now_ns)
{
    const uint32_t own = knit_reserve_mark(flow->number);
    const uint32_t loop = knit_reserve_mark(KNIT_LANE_FLOW_OF_LOOP | router->session->id);
    const struct knit_note_line *notes = router->share.flows.places.note;
    uint32_t marks[2 * KNIT_LANES_MAX], count = 0;

    if (notes == NULL)
        return 0;
    for (uint32_t i = 0; i < 2 * router->session->geometry.lanes; i++) {
        const uint32_t mark = knit_reserve_active(knit_note_served(&notes[i / 2], i % 2), now_ns);
        uint32_t j = 0;

        while (j < count && marks[j] != mark)
            j++;
        if (j == count && mark != 0 && mark != own && mark != loop)
            marks[count++] = mark;
    }
    return count;
}

/* 0: no other is active. */
static uint64_t weights_of_others(
    const struct knit_router *router, const struct knit_flow *flow, uint64_t now_ns)
{
    const struct knit_flow *other;
    uint64_t all = weights_elsewhere(router, flow, now_ns);

    LIST_FOREACH(other, &router->share.flows.all, in_all)
    if (other != flow && knit_flow_is_active(other, now_ns))
        all += other->whole_weight;
    return all;
}

/* ---- what workers do ---- */

struct lanes {
    uint32_t workers;
    uint32_t busy; /* with calls of others */
};

/* The word of a lane stays for a moment when its call has ended. */
static bool is_of_another(
    const struct knit_router *router, uint32_t slot, const struct knit_flow *flow)
{
    const struct knit_record *record;

    if (slot >= router->slots)
        return false;
    if (router->charges[slot].flow != NULL)
        return router->charges[slot].flow != flow;
    record = &router->records[slot];
    return record->charged_to != NULL && record->charged_to->flow != flow;
}

/* Whether its worker runs a long call of the principal's sessions, or is about to. */
static bool is_of_its_session(
    const struct knit_router *router, const struct knit_flow *flow, uint32_t lane)
{
    const struct knit_note_line *notes = router->share.flows.places.note;

    return notes != NULL && knit_reserve_has_begun(
                                knit_note_long_call(&notes[lane]), knit_reserve_mark(flow->number));
}

static struct lanes look_at_lanes(const struct knit_router *router, const struct knit_flow *flow)
{
    const struct knit_session *session = knit_router_session(router);
    struct lanes lanes = {0};

    for (uint32_t i = 0; i < session->geometry.lanes; i++) {
        const struct knit_board_running running = knit_board_running(&session->board, i);

        if (knit_board_is_vacant(&session->board, i))
            continue;
        lanes.workers++;
        if (running.session == session->id)
            lanes.busy += is_of_another(router, running.slot, flow);
        else
            lanes.busy += running.session != 0 && !is_of_its_session(router, flow, i);
    }
    return lanes;
}

/* Long calls of its principal by shared memory. */
static uint32_t long_calls_of_sessions(
    const struct knit_router *router, const struct knit_flow *flow)
{
    const struct knit_session *session = knit_router_session(router);
    uint32_t count = 0;

    for (uint32_t i = 0; i < session->geometry.lanes; i++)
        count += !knit_board_is_vacant(&session->board, i) && is_of_its_session(router, flow, i);
    return count;
}

/* Those in the lanes by all loops. */
static uint32_t long_calls_of(const struct knit_flows *flows, const struct knit_flow *flow)
{
    return flows->places.long_calls != NULL ? knit_tally_of(flows->places.long_calls, flow->number)
                                            : flow->long_calls;
}

/* How many there may be of both together. */
static uint32_t most_of(struct knit_router *router, struct knit_flow *flow, uint64_t now_ns)
{
    const uint64_t others = weights_of_others(router, flow, now_ns);
    const uint32_t own = long_calls_of(&router->share.flows, flow);
    uint32_t elsewhere;
    struct lanes lanes;

    if (others == 0)
        return UINT32_MAX;
    lanes = look_at_lanes(router, flow);
    if (lanes.workers <= 1)
        return UINT32_MAX;
    elsewhere = own > flow->long_calls ? own - flow->long_calls : 0;
    lanes.busy -= elsewhere < lanes.busy ? elsewhere : lanes.busy;
    knit_reserve_look(&flow->busy, lanes.busy, now_ns);
    return knit_reserve_most(
        &flow->busy, lanes.workers, flow->whole_weight, flow->whole_weight + others);
}

/* One more, if there are fewer. */
static bool take(
    struct knit_flows *flows, struct knit_flow *flow, struct knit_record *record, uint32_t most)
{
    struct knit_tally *all = flows->places.long_calls;

    if (all != NULL ? !knit_tally_take(all, flow->number, most) : flow->long_calls >= most)
        return false;
    flow->long_calls++;
    record->extras |= KNIT_RECORD_LONG;
    return true;
}

/* One less. */
static void drop(struct knit_flows *flows, struct knit_flow *flow, struct knit_record *record)
{
    if (flows->places.long_calls != NULL)
        knit_tally_less(flows->places.long_calls, flow->number);
    flow->long_calls--;
    record->extras &= (uint8_t)~KNIT_RECORD_LONG;
}

/* It is counted before the second look, as workers say that they try before they count (G2 of
 * lane_reserve.h). */
static bool may_begin(
    struct knit_router *router, struct knit_flow *flow, struct knit_record *record, uint64_t now_ns)
{
    struct knit_flows *flows = &router->share.flows;
    const uint32_t most = most_of(router, flow, now_ns);
    const uint32_t sessions = long_calls_of_sessions(router, flow);

    if (!take(flows, flow, record, sessions < most ? most - sessions : 0))
        return false;
    knit_bell_fence(); /* G2 */
    if (long_calls_of(flows, flow) + long_calls_of_sessions(router, flow) <= most)
        return true;
    drop(flows, flow, record);
    return false;
}

/* What the caller's calls of the task take. */
static uint32_t mean_of(const struct knit_caller *caller, uint32_t task)
{
    return knit_reserve_mean_ns(&caller->flow->means, task,
        knit_board_mean_ns(&knit_router_session(caller->router)->board, task));
}

bool knit_hold_holds(struct knit_caller *caller, struct knit_record *record)
{
    const uint32_t mean_ns = mean_of(caller, record->task);
    struct knit_router *router = caller->router;
    struct knit_flows *flows = &router->share.flows;
    struct knit_flow *flow = caller->flow;
    uint64_t now_ns;

    if (mean_ns <= KNIT_RESERVE_LONG_NS || knit_router_session(router)->work_ns == NULL)
        return false;
    now_ns = knit_clock_ns();
    if (may_begin(router, flow, record, now_ns))
        return false;
    if (flow->held_ns == 0)
        flow->held_ns = now_ns;
    if (knit_reserve_is_overdue(now_ns - flow->held_ns, mean_ns))
        return false;
    flow->held_until_ns = now_ns + KNIT_HOLD_LOOK_NS;
    flows->held_until_ns = now_ns + KNIT_RESERVE_NAP_NS;
    return true;
}

void knit_hold_give_back(struct knit_caller *caller, struct knit_record *record)
{
    if ((record->extras & KNIT_RECORD_LONG) != 0)
        drop(&caller->router->share.flows, caller->flow, record);
}

void knit_hold_begin(struct knit_caller *caller, struct knit_record *record, uint32_t slot)
{
    struct knit_flows *flows = &caller->router->share.flows;
    struct knit_flow *flow = caller->flow;

    knit_flow_enter_call(flow, &caller->router->charges[slot], caller->turn->now_ns);
    if ((record->extras & KNIT_RECORD_LONG) == 0 &&
        mean_of(caller, record->task) > KNIT_RESERVE_LONG_NS)
        (void)take(flows, flow, record, UINT32_MAX);
    if ((record->extras & KNIT_RECORD_LONG) != 0)
        flow->held_ns = 0;
}

void knit_hold_end_charged(struct knit_router *router, uint32_t slot)
{
    struct knit_record *record = &router->records[slot];
    struct knit_flows *flows = &router->share.flows;
    struct knit_charge *charge = &router->charges[slot];
    struct knit_flow *flow = charge->flow;
    const uint64_t run_ns = knit_router_is_inlined(router, slot)
                                ? 0
                                : knit_session_run_ns(knit_router_session(router), slot);

    if ((record->extras & KNIT_RECORD_LONG) != 0) {
        drop(flows, flow, record);
        flow->held_until_ns = 0;
    }
    knit_flow_end_call(flow, charge, record->task, run_ns, router->turn->now_ns);
}
