/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that is resumed leaves its queue first and, when it finds no slot after some calls,
 * joins it at the end: so the order of the queue is the order of turns.
 */
#include "server/rpc/share.h"

#include <errno.h>
#include <stdlib.h>

#include "server/rpc/backlog.h"

enum {
    CALLS_A_TURN = 16, /* of a caller that waited, while others wait too */
    KINDS = 3,         /* of queues */
    FRESH_IN_A_ROW = 16,
};

int knit_share_init(
    struct knit_share *share, struct knit_session *session, const struct knit_geometry *geometry)
{
    const uint32_t count = KNIT_SHARE_WAITING_LANE + geometry->lanes;

    *share = (struct knit_share){.session = session,
        .slots = geometry->slots,
        .lanes = geometry->lanes,
        .arena_bytes = geometry->request_arena_bytes,
        .queues = calloc(count, sizeof(*share->queues))};
    if (share->queues == NULL)
        return -ENOMEM;
    knit_flows_init(&share->flows);
    knit_limited_init(&share->limited);
    for (uint32_t i = 0; i < count; i++)
        TAILQ_INIT(&share->queues[i]);
    return 0;
}

void knit_share_fini(struct knit_share *share)
{
    knit_limited_fini(&share->limited);
    knit_flows_fini(&share->flows);
    free(share->queues);
    share->queues = NULL;
}

/* The first number that knit_share_may_take() turns down. */
uint32_t knit_share_alone(uint32_t slots)
{
    uint32_t shared = slots - slots / KNIT_SHARE_RESERVE_PART;

    return (KNIT_SHARE_FACTOR * shared + KNIT_SHARE_FACTOR) / (KNIT_SHARE_FACTOR + 1);
}

/* What else may be the matter is found out when the call is published. */
bool knit_share_has_arena(const struct knit_share *share, size_t argument_bytes)
{
    void *room;
    int r = argument_bytes > 0 ? knit_session_reserve(share->session, argument_bytes, &room)
                               : KNIT_SESSION_E_FULL;

    if (r == 0)
        knit_session_unreserve(share->session, room);
    return r != KNIT_SESSION_E_ARENA_FULL;
}

static bool is_for_any_lane(uint32_t kind)
{
    return kind == KNIT_SHARE_WAITING_FRESH || kind == KNIT_SHARE_WAITING_SLOT;
}

/* Its flow keeps its turn. */
static void leave(struct knit_share *share, struct knit_caller *caller)
{
    const uint32_t kind = caller->waiting_in;

    if (is_for_any_lane(kind))
        knit_flow_leave(&share->flows, caller, kind == KNIT_SHARE_WAITING_FRESH);
    else
        TAILQ_REMOVE(&share->queues[kind], caller, in_waiting);
    caller->waiting_in = KNIT_SHARE_NOT_WAITING;
    share->waiting--;
}

void knit_share_leave(struct knit_share *share, struct knit_caller *caller)
{
    const uint32_t kind = caller->waiting_in;

    if (kind == KNIT_SHARE_NOT_WAITING)
        return;
    if (kind == KNIT_SHARE_WAITING_LIMIT) {
        knit_limited_leave(&share->limited, caller);
        caller->waiting_in = KNIT_SHARE_NOT_WAITING;
        knit_backlog_return(caller);
        return;
    }
    leave(share, caller);
    if (is_for_any_lane(kind))
        knit_flow_settle(&share->flows, caller->flow, caller->turn->now_ns);
}

void knit_share_part(struct knit_share *share, struct knit_caller *caller)
{
    knit_share_leave(share, caller);
    knit_flow_drop(&share->flows, caller);
}

void knit_share_note_work(struct knit_caller *caller, int64_t more_ns)
{
    caller->work_ns += (uint64_t)more_ns;
    if (is_for_any_lane(caller->waiting_in))
        caller->flow->work_ns += (uint64_t)more_ns;
}

static void enter(struct knit_share *share, struct knit_caller *caller, uint32_t kind)
{
    if (is_for_any_lane(kind))
        knit_flow_enter(&share->flows, caller, kind == KNIT_SHARE_WAITING_FRESH);
    else
        TAILQ_INSERT_TAIL(&share->queues[kind], caller, in_waiting);
    caller->waiting_in = (uint16_t)kind;
    share->waiting++;
}

void knit_share_wait(struct knit_share *share, struct knit_caller *caller, uint32_t kind)
{
    if (kind == KNIT_SHARE_WAITING_SLOT && caller->account.slots == 0)
        kind = KNIT_SHARE_WAITING_FRESH;
    caller->pauses |= KNIT_PAUSE_SLOT;
    if (caller->waiting_in == kind)
        return;
    knit_share_leave(share, caller);
    if (is_for_any_lane(kind) && knit_flow_of(&share->flows, caller) == NULL) {
        caller->ops->close_without_memory(caller);
        return;
    }
    enter(share, caller, kind);
    KNIT_COUNT(caller->turn, waits_for_slot);
}

bool knit_share_is_over_limit(const struct knit_share *share, const struct knit_caller *caller)
{
    const struct knit_quota *quota = &caller->principal->quota;

    return knit_quota_is_limited(quota) && knit_quota_waits(quota) &&
           knit_limited_must_wait(
               &share->limited, caller, share->resumed == caller && share->turns_left > 0);
}

void knit_share_wait_for_limit(struct knit_share *share, struct knit_caller *caller)
{
    caller->pauses |= KNIT_PAUSE_SLOT;
    if (caller->waiting_in == KNIT_SHARE_WAITING_LIMIT)
        return;
    knit_share_leave(share, caller);
    if (knit_limited_enter(&share->limited, caller) != 0) {
        caller->ops->close_without_memory(caller);
        return;
    }
    knit_backlog_withdraw(caller);
    caller->waiting_in = KNIT_SHARE_WAITING_LIMIT;
    KNIT_COUNT(caller->turn, waits_for_limit);
}

/* One whose last call has ended waits from now on among those without any: so they are not always
 * before it. */
void knit_share_note_end(struct knit_share *share, struct knit_caller *caller)
{
    if (--caller->account.slots > 0 || caller->waiting_in != KNIT_SHARE_WAITING_SLOT)
        return;
    leave(share, caller);
    enter(share, caller, KNIT_SHARE_WAITING_FRESH);
}

/* One that has had the time of its flow does not go on. What it pays is its own flow's: it may have
 * become another principal since it was resumed. */
void knit_share_note_turn(struct knit_share *share, uint32_t task, struct knit_charge *charge)
{
    struct knit_flow *flow = share->resumed->flow;
    uint32_t mean_ns = knit_board_mean_ns(&share->session->board, task);

    share->turns_left--;
    share->has_published = true;
    if (!share->is_charged)
        return;
    knit_flow_enter_call(flow, charge, share->now_ns);
    mean_ns = knit_reserve_mean_ns(&flow->means, task, mean_ns);
    charge->ns = mean_ns != 0 ? knit_flow_cost_ns(mean_ns) : KNIT_FLOW_UNKNOWN_NS;
    if (!knit_flow_charge(&share->flows, flow, charge->ns))
        share->turns_left = 0;
}

static bool has_room(const struct knit_share *share, uint32_t kind)
{
    if (knit_session_slots_free(share->session) == 0)
        return false;
    if (kind >= KNIT_SHARE_WAITING_LANE)
        return knit_session_has_room_in(share->session, kind - KNIT_SHARE_WAITING_LANE);
    return kind == KNIT_SHARE_WAITING_ARENA || knit_session_has_room(share->session);
}

/* The caller has its turn. */
static void resume(struct knit_share *share, struct knit_caller *caller)
{
    leave(share, caller);
    caller->pauses &= (uint8_t)~KNIT_PAUSE_SLOT;
    share->resumed = caller;
    share->turns_left = CALLS_A_TURN;
    share->has_published = false;
    caller->ops->resume(caller);
    share->resumed = NULL;
    share->is_cut_short = caller->turn->now_ns >= share->until_ns;
}

/* The first one of the queue has its turn. False: there is none, no room, or no time. */
static bool resume_first(struct knit_share *share, struct knit_share_queue *queue, uint32_t kind)
{
    struct knit_caller *caller = TAILQ_FIRST(queue);
    const struct knit_principal *principal;

    if (share->is_cut_short || caller == NULL || !has_room(share, kind))
        return false;
    principal = caller->principal;
    resume(share, caller);
    /* One that has become another principal waits in a queue of that one's flow. */
    if (share->has_published || caller->waiting_in != kind || caller->principal != principal)
        return true;
    /* It published nothing, so there is no room for what this queue waits for. It keeps its place
     * at the front, and the others behind it wait on. */
    TAILQ_REMOVE(queue, caller, in_waiting);
    TAILQ_INSERT_HEAD(queue, caller, in_waiting);
    return false;
}

static void resume_queue(struct knit_share *share, uint32_t kind)
{
    for (uint32_t i = 0; i < share->slots && resume_first(share, &share->queues[kind], kind); i++)
        ;
}

/* Those without a call in flight first. But where there always is such a one, one of the others has
 * its turn after some of them: its call may go on for as long as it likes. */
static bool resume_first_of(struct knit_share *share, struct knit_flow *flow)
{
    bool has_other = !TAILQ_EMPTY(&flow->others);
    bool is_others = has_other && (TAILQ_EMPTY(&flow->fresh) || flow->passed >= FRESH_IN_A_ROW);
    bool goes_on = is_others ? resume_first(share, &flow->others, KNIT_SHARE_WAITING_SLOT)
                             : resume_first(share, &flow->fresh, KNIT_SHARE_WAITING_FRESH);

    if (goes_on)
        flow->passed = has_other && !is_others ? flow->passed + 1 : 0;
    return goes_on;
}

/* A flow keeps its turn while one of its callers, which has left its queue, is resumed. */
static bool resume_first_of_any_lane(struct knit_share *share)
{
    struct knit_flow *flow = knit_flows_next(&share->flows);
    bool goes_on;

    if (flow == NULL)
        return false;
    share->is_charged = share->flows.count > 1;
    flow->refs++;
    goes_on = resume_first_of(share, flow) || knit_flow_is_held(&share->flows, flow);
    share->is_charged = false;
    flow->refs--;
    knit_flow_settle(&share->flows, flow, share->now_ns);
    return goes_on;
}

static void resume_any_lane(struct knit_share *share)
{
    for (uint32_t i = 0; i < share->slots && resume_first_of_any_lane(share); i++)
        ;
}

static void resume_one_lane(struct knit_share *share)
{
    uint32_t first = share->turn / KINDS;

    for (uint32_t i = 0; i < share->lanes; i++)
        resume_queue(share, KNIT_SHARE_WAITING_LANE + (first + i) % share->lanes);
}

static void resume_arena(struct knit_share *share)
{
    resume_queue(share, KNIT_SHARE_WAITING_ARENA);
}

/* By turns, as lanes are, for each could take all that comes free, or all the time. */
bool knit_share_resume(struct knit_share *share, uint64_t most_ns)
{
    static void (*const kinds[KINDS])(struct knit_share *) = {
        resume_any_lane, resume_one_lane, resume_arena};

    share->is_cut_short = false;
    share->has_freed = false;
    if (share->waiting == 0)
        return false;
    share->now_ns = knit_clock_ns();
    share->flows.now_ns = share->now_ns;
    if (share->flows.held_until_ns <= share->flows.now_ns)
        share->flows.held_until_ns = UINT64_MAX;
    share->until_ns = most_ns != UINT64_MAX ? share->now_ns + most_ns : UINT64_MAX;
    share->turn++;
    for (uint32_t i = 0; i < KINDS; i++)
        kinds[(share->turn + i) % KINDS](share);
    return true;
}
