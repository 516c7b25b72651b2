/* SPDX-License-Identifier: Apache-2.0 */
/* What the host does by the clock: it ends start-ups and stops that take too long, starts
 * replacements, finalizes dead workers, enforces hard timeouts, refuses calls when no lane has a
 * worker, and goes through the steps of a shutdown.
 *
 * One timer serves all of it. After each dispatch it is set to what is due next, so an idle pool
 * without a hard timeout sets none.
 */
#include "fastpath/host/tick.h"

#include "fastpath/host/crew.h"
#include "fastpath/host/death.h"
#include "fastpath/host/departed.h"
#include "fastpath/host/orphans.h"
#include "fastpath/host/quarantine.h"
#include "fastpath/host/stop.h"
#include "fastpath/host/supervisor.h"
#include "fastpath/host/timeout.h"
#include "fastpath/host/watch.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/state.h"
#include "fastpath/lane/timer.h"

#define NO_WORKER_NS      1000000000u /* from the last worker's end until calls are refused */
#define SWEEP_NS          10000000u   /* how often queued calls are refused meanwhile */
#define ORPHANS_NS        10000000u   /* how often orphans are looked for while there are some */
#define DEGRADED_CHECK_NS 100000000u  /* how often a crash loop is checked for its end */
#define DRAIN_CHECK_NS    5000000u    /* how often a drain is checked for its end */
#define DROPPED_SAID_NS   1000000000u /* how often dropped output is spoken of */

/* Ends all queued calls with this error. */
static void refuse_queued(struct knit_host *pool, enum knit_code code, const char *message)
{
    struct knit_recovery_error error;

    knit_recovery_make_error(&error, code, KNIT_STARTED_NO, message, 0, 0);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && !pool->sessions[i]->is_evicted)
            pool->recovered += knit_recovery_refuse(&pool->sessions[i]->view, &error);
    }
}

static bool all_idle(const struct knit_host *pool)
{
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && !session->is_evicted && !session->is_closing &&
            !knit_recovery_is_idle(&session->view))
            return false;
    }
    return true;
}

/* From here on no call is started. */
static void begin_stop(struct knit_host *pool, uint64_t now_ns)
{
    uint64_t grace = now_ns + (uint64_t)pool->options.stop_ms * 1000000u;

    pool->phase = KNIT_PHASE_STOPPING;
    if (pool->deadline_ns < now_ns)
        pool->deadline_ns = now_ns;
    /* Threads learn of the end by their tasks' abort flags alone, and only now. */
    if (pool->deadline_ns > grace || pool->options.threads != NULL)
        pool->deadline_ns = grace;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && !pool->sessions[i]->is_evicted)
            knit_state_write(&pool->sessions[i]->view.reply, KNIT_STATE_CLOSED);
    }
    KNIT_FAULT(SHUTDOWN_AFTER_CLOSED);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        pool->workers[i].restart_at_ns = 0;
        knit_worker_stop(pool, &pool->workers[i], pool->deadline_ns);
        KNIT_FAULT(SHUTDOWN_AFTER_STOP);
    }
}

static bool has_workers(const struct knit_host *pool)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        if (pool->workers[i].step != KNIT_STEP_NONE)
            return true;
    }
    return false;
}

static void end_stop(struct knit_host *pool)
{
    struct knit_host_event event = {.kind = KNIT_HOST_STOPPED, .task = KNIT_HOST_TASK_NONE};

    KNIT_FAULT(SHUTDOWN_BEFORE_STOPPED);
    pool->phase = KNIT_PHASE_STOPPED;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL)
            knit_recovery_wake(&pool->sessions[i]->view);
    }
    knit_notices_add_event(&pool->notices, &event);
}

/* Kills what dead workers left behind. A process that the kernel does not end is not awaited for
 * ever. */
static void kill_orphans(struct knit_host *pool, uint64_t now_ns)
{
    pool->has_orphans = knit_orphans_kill(pool) != 0 && now_ns < pool->orphans_until_ns;
    pool->orphans_due_ns = now_ns + ORPHANS_NS;
}

static void tick_shutdown(struct knit_host *pool, uint64_t now_ns)
{
    if (pool->phase == KNIT_PHASE_DRAINING &&
        (pool->stop_now || now_ns >= pool->deadline_ns || all_idle(pool)))
        begin_stop(pool, now_ns);
    if (pool->phase != KNIT_PHASE_STOPPING)
        return;
    refuse_queued(pool, KNIT_SHUTDOWN, "the pool is shut down");
    if (!has_workers(pool) && !pool->has_orphans)
        end_stop(pool);
}

static void tick_no_worker(struct knit_host *pool, uint64_t now_ns)
{
    bool is_served = false;

    for (uint32_t i = 0; i < pool->options.workers; i++)
        is_served = is_served || pool->workers[i].step == KNIT_STEP_SERVING;
    if (is_served) {
        pool->vacant_since_ns = 0;
        return;
    }
    if (pool->vacant_since_ns == 0)
        pool->vacant_since_ns = now_ns;
    if (now_ns - pool->vacant_since_ns >= NO_WORKER_NS && now_ns >= pool->sweep_ns) {
        refuse_queued(pool, KNIT_NO_WORKER, "no worker could be started for a while");
        pool->sweep_ns = now_ns + SWEEP_NS;
    }
}

/* Says how much output was dropped, once a second. */
static void tick_dropped(struct knit_host *pool, uint64_t now_ns)
{
    struct knit_notices *notices = &pool->notices;
    struct knit_host_event event = {.kind = KNIT_HOST_OUTPUT_DROPPED,
        .task = KNIT_HOST_TASK_NONE,
        .lost = (uint32_t)(notices->dropped - pool->dropped_reported),
        .bytes = notices->dropped_bytes - pool->dropped_bytes_reported};

    if (now_ns < pool->dropped_due_ns || (event.lost == 0 && event.bytes == 0))
        return;
    knit_notices_add_event(notices, &event);
    pool->dropped_reported = notices->dropped;
    pool->dropped_bytes_reported = notices->dropped_bytes;
    pool->dropped_due_ns = now_ns + DROPPED_SAID_NS;
}

void knit_tick(struct knit_host *pool, uint64_t now_ns)
{
    knit_watch_note_delay(pool, now_ns);
    if (pool->has_orphans && now_ns >= pool->orphans_due_ns)
        kill_orphans(pool, now_ns);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->reap_at_ns != 0 && now_ns >= worker->reap_at_ns)
            knit_supervisor_end(pool, worker, now_ns);
        if (worker->step == KNIT_STEP_ENDED && now_ns >= worker->finalize_at_ns)
            knit_death_finalize(pool, worker, now_ns);
        if (worker->kill_at_ns != 0 && now_ns >= worker->kill_at_ns &&
            worker->step != KNIT_STEP_NONE) {
            worker->kill_at_ns = 0;
            if (worker->has_closed_control && !worker->is_stopping)
                knit_worker_refuse(worker, "it closed its pipe to the pool");
            else if (worker->step != KNIT_STEP_SERVING)
                knit_worker_refuse(worker, "it took longer than %u ms, %s",
                    pool->options.startup_ms, worker->start_step.text);
            if (worker->threads != NULL)
                knit_crew_give_up(pool, worker, now_ns);
            else
                knit_worker_kill(worker);
        }
        if (worker->restart_at_ns != 0 && now_ns >= worker->restart_at_ns && !pool->has_orphans)
            knit_supervisor_start(pool, worker, now_ns);
        if (worker->flush_retry_ns != 0 && now_ns >= worker->flush_retry_ns)
            knit_worker_flush(pool, worker);
        if (worker->output_due_ns != 0 && now_ns >= worker->output_due_ns)
            knit_supervisor_end_line(pool, worker);
    }
    if (pool->departed_due_ns != 0 && now_ns >= pool->departed_due_ns)
        knit_departed_look(pool, now_ns);
    knit_watch_running(pool, now_ns);
    knit_timeout_enforce(pool, now_ns);
    knit_stop_tick(pool, now_ns);
    knit_quarantine_tick(pool, now_ns);
    tick_dropped(pool, now_ns);
    knit_death_update_degraded(pool);
    if (pool->phase == KNIT_PHASE_OPENING && now_ns >= pool->open_by_ns &&
        knit_sentence_is_empty(&pool->open_failure))
        (void)knit_sentence_set(&pool->open_failure, 0,
            "worker startup failed: after %u ms not all serve at once; the last death: %.900s",
            2 * pool->options.startup_ms,
            knit_sentence_is_empty(&pool->last_death) ? "none" : pool->last_death.text);
    if (pool->phase == KNIT_PHASE_OPEN)
        tick_no_worker(pool, now_ns);
    tick_shutdown(pool, now_ns);
}

/* *due_ns becomes the earlier of the two; 0 = never. */
static void bring_forward(uint64_t *due_ns, uint64_t other_ns)
{
    if (other_ns != 0 && (*due_ns == 0 || other_ns < *due_ns))
        *due_ns = other_ns;
}

static uint64_t next_due(const struct knit_host *pool, uint64_t now_ns)
{
    uint64_t due_ns = 0;

    if (pool->has_notices)
        bring_forward(&due_ns, now_ns);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];

        if (worker->step != KNIT_STEP_NONE)
            bring_forward(&due_ns, worker->kill_at_ns);
        if (worker->step == KNIT_STEP_ENDED)
            bring_forward(&due_ns, worker->finalize_at_ns);
        if (!pool->has_orphans)
            bring_forward(&due_ns, worker->restart_at_ns);
        bring_forward(&due_ns, worker->reap_at_ns);
        bring_forward(&due_ns, worker->output_due_ns);
        if (worker->step == KNIT_STEP_SERVING)
            bring_forward(&due_ns, worker->flush_retry_ns);
        if (worker->step == KNIT_STEP_SERVING && !worker->was_killed)
            bring_forward(&due_ns, worker->abort_retry_ns);
        if (worker->step == KNIT_STEP_SERVING && worker->halted_at_ns != 0 && !worker->was_killed)
            bring_forward(&due_ns, worker->halted_at_ns + KNIT_TIMEOUT_HALT_MAX_NS);
    }
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL)
            bring_forward(&due_ns, pool->sessions[i]->abandoned_kill_ns);
    }
    if (pool->has_orphans)
        bring_forward(&due_ns, pool->orphans_due_ns);
    if (pool->phase == KNIT_PHASE_OPENING)
        bring_forward(&due_ns, pool->open_by_ns);
    bring_forward(&due_ns, pool->hard_scan_ns);
    bring_forward(&due_ns, pool->watch_due_ns);
    bring_forward(&due_ns, pool->departed_due_ns);
    bring_forward(&due_ns, pool->quarantine_due_ns);
    bring_forward(&due_ns, pool->stops_due_ns);
    if (pool->notices.dropped_bytes != pool->dropped_bytes_reported)
        bring_forward(&due_ns, pool->dropped_due_ns != 0 ? pool->dropped_due_ns : now_ns);
    if (pool->was_degraded)
        bring_forward(&due_ns, now_ns + DEGRADED_CHECK_NS);
    if (pool->phase == KNIT_PHASE_OPEN && pool->vacant_since_ns != 0)
        bring_forward(&due_ns, now_ns + SWEEP_NS);
    if (pool->phase == KNIT_PHASE_DRAINING)
        bring_forward(&due_ns, pool->stop_now ? now_ns : now_ns + DRAIN_CHECK_NS);
    if (pool->phase == KNIT_PHASE_STOPPING)
        bring_forward(&due_ns, now_ns + SWEEP_NS);
    return due_ns;
}

void knit_tick_arm(struct knit_host *pool)
{
    pool->due_ns = next_due(pool, knit_clock_ns());
    knit_timer_arm(pool->timer_fd, pool->due_ns);
}
