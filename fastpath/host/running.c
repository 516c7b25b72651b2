/* SPDX-License-Identifier: Apache-2.0 */
/* A call's age counts from the look that first found it, be it one of watch.c, which come once a
 * second or more seldom, or one from here. So whoever looks again and again is told the age to
 * within the time between two looks, and calls pay nothing for a clock.
 *
 * What the board says of a call may be torn: place and task are two words. A task that does not fit
 * its place is that of a call of the same lane a moment before. */
#include "fastpath/host/running.h"

#include "fastpath/host/host.h"
#include "fastpath/host/pool.h"
#include "fastpath/host/session.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"

/* When it was seen first from here. */
static uint64_t seen_ns(struct knit_worker *worker, const struct knit_board_running *running,
    uint64_t claim, uint64_t now_ns)
{
    struct knit_shown *shown = &worker->shown;

    if (shown->session != running->session || shown->slot != running->slot || shown->claim != claim)
        *shown = (struct knit_shown){running->session, running->slot, claim, now_ns};
    return shown->since_ns;
}

/* False: the lane runs nothing that exists. */
static bool look(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns,
    struct knit_host_running *ret_row)
{
    const struct knit_watch *watch = &worker->watch;
    struct knit_board_running running = knit_board_running(&pool->board, worker->lane);
    const struct knit_host_session *session = knit_host_session_find(pool, running.session);
    uint32_t task = knit_board_task(&pool->board, worker->lane);
    uint64_t claim, age_ns, gen;

    if (running.session == 0 || session == NULL || running.slot >= session->view.geometry.slots ||
        knit_registry_at(pool->registry, task) == NULL ||
        !knit_recovery_holds(&session->view, running.slot, worker->owner, &gen))
        return false;
    claim = knit_recovery_claim(&session->view, running.slot);
    age_ns = now_ns - seen_ns(worker, &running, claim, now_ns);
    if (watch->session == running.session && watch->slot == running.slot && watch->claim == claim &&
        watch->age_ns > age_ns)
        age_ns = watch->age_ns;
    *ret_row = (struct knit_host_running){.lane = worker->lane,
        .pid = worker->process.pid,
        .session = running.session,
        .slot = running.slot,
        .gen = gen,
        .task = task,
        .age_ns = age_ns,
        .is_foreign = session->is_foreign,
        .uid = session->peer.uid};
    return true;
}

uint32_t knit_host_running(
    struct knit_host *pool, struct knit_host_running ret_running[KNIT_LANES_MAX])
{
    uint64_t now_ns = knit_clock_ns();
    uint32_t count = 0;

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < pool->options.workers; i++)
        if (pool->workers[i].step == KNIT_STEP_SERVING &&
            look(pool, &pool->workers[i], now_ns, &ret_running[count]))
            count++;
    pthread_mutex_unlock(&pool->mutex);
    return count;
}
