/* SPDX-License-Identifier: Apache-2.0 */
/* What waits is summed up call by call. What the lanes hold is looked up, once a turn and only
 * where somebody asks: calls that need not wait pay nothing. The session counts long calls for less
 * than they take (`depth_ns` of session.h), so its sums do not do.
 */
#include "server/rpc/backlog.h"

#include "fastpath/lane/board.h"
#include "server/admin/stats.h"
#include "server/config/setting.h"
#include "server/rpc/refusal.h"
#include "server/rpc/router_private.h"

enum {
    UNKNOWN_NS = 50000, /* of a task that was not measured yet */
    MS = 1000000,
};

uint32_t knit_backlog_work_ns(const struct knit_router *router, uint32_t task)
{
    const uint32_t mean_ns = knit_board_mean_ns(&knit_router_session(router)->board, task);

    return mean_ns != 0 ? mean_ns : UNKNOWN_NS;
}

static void add(struct knit_router *router, uint32_t calls, uint64_t more_ns)
{
    router->waiting += calls;
    router->backlog.waiting_ns += more_ns;
    knit_counter_set(&router->turn->counters.work_waiting_us, router->backlog.waiting_ns / 1000);
}

void knit_backlog_add(struct knit_caller *caller, int32_t calls, int64_t more_ns)
{
    caller->waiting_calls += (uint32_t)calls;
    knit_share_note_work(caller, more_ns);
    if (caller->waiting_in != KNIT_SHARE_WAITING_LIMIT)
        add(caller->router, (uint32_t)calls, (uint64_t)more_ns);
}

void knit_backlog_withdraw(struct knit_caller *caller)
{
    add(caller->router, -caller->waiting_calls, -caller->work_ns);
}

void knit_backlog_return(struct knit_caller *caller)
{
    add(caller->router, caller->waiting_calls, caller->work_ns);
}

/* Calls that are deferred take no time of a worker: they count for nothing in session and here. */
static uint64_t work_in_lanes(const struct knit_router *router)
{
    const struct knit_session *session = knit_router_session(router);
    uint64_t work_ns = 0;

    for (uint32_t slot = 0; slot < router->slots; slot++) {
        if (knit_session_is_pending(session, slot) &&
            (session->work_ns == NULL || session->slots[slot].work_ns != 0))
            work_ns += knit_backlog_work_ns(router, router->records[slot].task);
    }
    return work_ns;
}

static uint64_t in_lanes(struct knit_router *router)
{
    struct knit_backlog *backlog = &router->backlog;

    if (backlog->looked_ns != router->turn->now_ns) {
        backlog->looked_ns = router->turn->now_ns;
        backlog->lanes_ns = work_in_lanes(router);
    }
    return backlog->lanes_ns;
}

static uint64_t in_other_loops(const struct knit_router *router)
{
    const struct knit_stats_sources *stats =
        router->backend != NULL ? router->backend->stats : NULL;
    uint64_t work_us = 0;

    for (uint32_t i = 0; stats != NULL && i < stats->loops; i++) {
        if (stats->counters[i] != &router->turn->counters)
            work_us += knit_counter_read(&stats->counters[i]->work_waiting_us);
    }
    return work_us * 1000;
}

static uint64_t workers_of(const struct knit_router *router)
{
    return knit_router_session(router)->geometry.lanes;
}

static bool is_too_late(const struct knit_router *router, uint64_t start_by_ns, uint64_t wait_ns)
{
    return knit_router_after(router->turn->now_ns, wait_ns) > start_by_ns;
}

bool knit_backlog_refuses(const struct knit_caller *caller, const struct knit_outlook *outlook,
    struct knit_failure *ret_failure)
{
    struct knit_router *router = caller->router;
    const uint64_t most_ms = router->turn->settings->queue_delay_ms;
    uint64_t wait_ns;

    if (most_ms == 0)
        return false;
    wait_ns = knit_flow_ahead_ns(
        &router->share.flows, caller, router->backlog.waiting_ns + in_other_loops(router));
    wait_ns = (wait_ns + in_lanes(router)) / workers_of(router);
    if (wait_ns > most_ms * MS) {
        *ret_failure = knit_router_overload(router,
            "the call would wait longer than the server lets calls wait (queue_delay_ms)", wait_ns);
        ret_failure->limit = most_ms;
        ret_failure->actual = wait_ns / MS;
        return true;
    }
    /* A third more, for it is an estimate: while there is too much, all that is taken is at the
     * limit, and half of it would turn out to be beyond. */
    if (!is_too_late(router, outlook->start_by_ns, wait_ns + wait_ns / 3))
        return false;
    *ret_failure = knit_router_overload(
        router, "the call would begin too late for the time that its caller gives it", wait_ns);
    return true;
}

bool knit_backlog_has_spent(
    struct knit_router *router, uint64_t start_by_ns, struct knit_failure *ret_failure)
{
    uint64_t wait_ns;

    if (router->turn->settings->queue_delay_ms == 0 || start_by_ns == UINT64_MAX)
        return false;
    wait_ns = in_lanes(router) / workers_of(router);
    if (!is_too_late(router, start_by_ns, wait_ns))
        return false;
    *ret_failure = knit_router_overload(
        router, "the call has waited, and its task takes longer than its caller waits on", wait_ns);
    return true;
}

__attribute__((cold)) void knit_backlog_note_wait(
    const struct knit_caller *caller, uint32_t task, uint64_t since_ns)
{
    struct knit_turn *turn = caller->turn;

    knit_run_times_note(&turn->waits[knit_runs_row(task)],
        since_ns < turn->now_ns ? turn->now_ns - since_ns : 0, 1);
}
