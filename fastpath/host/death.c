/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a worker: by itself, by a task, or by the pool; and what follows.
 *
 * Order matters. The group is killed while its leader is a zombie, for then its number cannot
 * belong to anybody else. Outcomes are given only after the reap *and* after the control socket's
 * other end is closed: with a command prefix the worker may be a child of the process that was
 * reaped, and the kernel closes a process's descriptors only after its memory is gone, so nobody
 * writes replies any more. Only then siblings, callers and the successor are let at what it left.
 *
 * A hard timeout must not hit the call after the one it is meant for. So the worker is stopped
 * first, looked at while it cannot move, and then either killed or continued.
 */
#include "fastpath/host/death.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "fastpath/host/session.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/mark.h"

#define FINALIZE_NS      1000000000u /* a socket that somebody else holds is waited for so long */
#define BACKOFF_FIRST_NS 50000000u
#define BACKOFF_MAX_NS   5000000000u
#define QUARANTINE_AFTER 3u

/* ---- reaping ---- */

bool knit_death_reap(struct knit_worker *worker, bool may_block, uint64_t now_ns)
{
    siginfo_t info = {0};
    int got;

    (void)kill(-worker->process.pid, SIGKILL);
    KNIT_FAULT(DEATH_BEFORE_REAP);
    do
        got = waitid(
            P_PIDFD, (id_t)worker->process.pid_fd, &info, WEXITED | (may_block ? 0 : WNOHANG));
    while (got != 0 && errno == EINTR);
    if (got == 0 && info.si_pid == 0)
        return false;
    if (got == 0 && info.si_code == CLD_EXITED)
        worker->status = info.si_status;
    else if (got == 0)
        worker->signal = info.si_status;
    KNIT_FAULT(DEATH_AFTER_REAP);
    worker->step = KNIT_STEP_ENDED;
    worker->finalize_at_ns = now_ns + FINALIZE_NS;
    return true;
}

static void describe_end(const struct knit_worker *worker, struct knit_sentence *ret_text)
{
    const char *name = worker->signal != 0 ? sigabbrev_np(worker->signal) : NULL;

    if (worker->signal != 0)
        (void)knit_sentence_say(
            ret_text, 0, "killed by signal %d (SIG%s)", worker->signal, name != NULL ? name : "?");
    else
        (void)knit_sentence_say(ret_text, 0, "exited with status %d", worker->status);
}

/* ---- tasks that workers die in ---- */

static void record_crash(struct knit_pool *pool, uint32_t task)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_TASK_QUARANTINED, .task = task};
    enum knit_mark mark = knit_mark_read(&pool->shared, task);

    if (mark == KNIT_MARK_QUARANTINED)
        return;
    /* A worker sets it back to trusted when a call ends well: the deaths before do not count. */
    if (mark == KNIT_MARK_TRUSTED)
        pool->task_deaths[task] = 0;
    if (++pool->task_deaths[task] < QUARANTINE_AFTER) {
        knit_mark_write(&pool->shared, task, KNIT_MARK_PROBATION);
        return;
    }
    knit_mark_write(&pool->shared, task, KNIT_MARK_QUARANTINED);
    pool->quarantined++;
    knit_notices_add_event(&pool->notices, &event);
}

/* ---- burying ---- */

/* Recovery as LAYOUT.md has it. Returns how many calls the worker had. */
static uint32_t recover(struct knit_pool *pool, struct knit_worker *worker)
{
    struct knit_recovery_error error, special;
    struct knit_recovery_death death = {
        .lane = worker->lane, .owner = worker->owner, .error = &error, .special = &special};
    uint32_t lost = 0;
    struct knit_sentence text, end;

    describe_end(worker, &end);
    (void)knit_sentence_say(
        &text, 0, "the worker %s%s", worker->signal != 0 ? "was " : "", end.text);
    if (pool->phase == KNIT_PHASE_STOPPING)
        knit_recovery_make_error(
            &error, KNIT_SHUTDOWN, KNIT_STARTED_YES, "the pool was shut down meanwhile", 0, 0);
    else
        knit_recovery_make_error(
            &error, KNIT_WORKER_DIED, KNIT_STARTED_YES, text.text, worker->signal, 0);
    knit_recovery_make_error(&special, KNIT_HARD_TIMEOUT, KNIT_STARTED_YES,
        "the task ran longer than its hard timeout", 0, worker->hard_ms);
    knit_recovery_vacate(&pool->board, &pool->shared, pool->options.workers, worker->lane);
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL)
            continue;
        death.special_slot = session->id == worker->hard_session && worker->hard_session != 0
                                 ? worker->hard_slot
                                 : UINT32_MAX;
        lost += knit_recovery_answer(&session->view, &death);
    }
    pool->recovered += lost;
    return lost;
}

/* A worker that did some work before it died is replaced at once; one that did not, after a while
 * that doubles. What the pool itself has killed for a hard timeout says nothing about the worker.
 * */
static void schedule_replacement(
    struct knit_pool *pool, struct knit_worker *worker, bool has_worked, uint64_t now_ns)
{
    uint64_t delay_ns = 0;

    /* Also while others still start: the pool opens when all serve. */
    if (pool->phase >= KNIT_PHASE_STOPPING)
        return;
    if (has_worked)
        worker->early_deaths = 0;
    else if (worker->hard_session == 0)
        worker->early_deaths++;
    for (uint32_t i = 1; i < worker->early_deaths && delay_ns < BACKOFF_MAX_NS; i++)
        delay_ns = delay_ns == 0 ? BACKOFF_FIRST_NS : delay_ns * 2;
    worker->restart_at_ns = now_ns + (delay_ns < BACKOFF_MAX_NS ? delay_ns : BACKOFF_MAX_NS);
}

/* It never served. */
static void finalize_failed_start(struct knit_pool *pool, struct knit_worker *worker)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_WORKER_REFUSED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .signal = worker->signal,
        .status = worker->status,
        .is_replacement = worker->is_replacement,
        .task = KNIT_POOL_TASK_NONE,
        .text = worker->refusal.text};

    if (knit_sentence_is_empty(&worker->refusal)) {
        struct knit_sentence end;

        describe_end(worker, &end);
        (void)knit_sentence_say(&worker->refusal, 0, "the worker %s%s while %.900s",
            worker->signal != 0 ? "was " : "", end.text, worker->start_step.text);
    }
    if (pool->phase != KNIT_PHASE_OPENING && !worker->is_stopping)
        knit_notices_add_event(&pool->notices, &event);
    else if (pool->phase == KNIT_PHASE_OPENING && knit_sentence_is_empty(&pool->open_failure))
        (void)knit_sentence_say(
            &pool->open_failure, 0, "worker startup failed: %.990s", worker->refusal.text);
}

static void finalize_serving(
    struct knit_pool *pool, struct knit_worker *worker, uint32_t lost, uint32_t task)
{
    struct knit_sentence text;
    struct knit_pool_event event = {.kind = KNIT_POOL_WORKER_DIED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .signal = worker->signal,
        .status = worker->status,
        .lost = lost,
        .task = lost != 0 ? task : KNIT_POOL_TASK_NONE,
        .text = text.text};

    describe_end(worker, &text);
    if (worker->is_stopping && lost == 0 && knit_sentence_is_empty(&worker->refusal)) {
        event.kind = KNIT_POOL_WORKER_STOPPED;
        knit_notices_add_event(&pool->notices, &event);
        return;
    }
    if (!knit_sentence_is_empty(&worker->refusal))
        text = worker->refusal;
    if (pool->phase == KNIT_PHASE_OPENING)
        pool->last_death = text;
    worker->deaths++;
    pool->deaths++;
    knit_notices_add_event(&pool->notices, &event);
    /* From outside, by the kernel for want of memory, or by the pool: not the task's doing. */
    if (lost != 0 && worker->signal != SIGKILL && !worker->was_killed &&
        pool->task_deaths != NULL && task < knit_registry_count(pool->registry))
        record_crash(pool, task);
}

void knit_death_finalize(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns)
{
    bool has_served = worker->step != KNIT_STEP_NONE && worker->up_since_ns != 0;
    bool has_worked = false;
    uint64_t calls = knit_board_calls(&pool->board, worker->lane);
    uint32_t task = knit_board_task(&pool->board, worker->lane);
    uint32_t lost = 0;

    /* Its owner number was given away before it served: there may be words of it. */
    if (worker->owner != 0) {
        lost = recover(pool, worker);
        KNIT_FAULT(DEATH_AFTER_RECOVERY);
        has_worked = calls - worker->calls_before > lost;
    }
    /* No longer among those that are told things. */
    worker->step = KNIT_STEP_NONE;
    if (has_served)
        finalize_serving(pool, worker, lost, task);
    else
        finalize_failed_start(pool, worker);
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        if (worker->links[i] != KNIT_LINK_NONE)
            knit_host_session_unlink(pool, worker, i);
    }
    KNIT_FAULT(DEATH_AFTER_UNLINK);
    schedule_replacement(pool, worker, has_worked, now_ns);
    worker->up_since_ns = 0;
    knit_worker_fini(pool, worker);
    KNIT_FAULT(DEATH_AFTER_FINALIZE);
}

/* ---- crash loops ---- */

bool knit_death_is_degraded(const struct knit_pool *pool)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];
        uint64_t calls;

        if (worker->early_deaths < 2)
            continue;
        calls = knit_board_calls(&pool->board, i) - worker->calls_before;
        if (worker->step == KNIT_STEP_SERVING &&
            (calls > 1 || (calls == 1 && knit_board_running(&pool->board, i).session == 0)))
            continue;
        return true;
    }
    return false;
}

void knit_death_update_degraded(struct knit_pool *pool)
{
    bool is_degraded = knit_death_is_degraded(pool);
    struct knit_pool_event event = {
        .kind = KNIT_POOL_DEGRADED, .is_degraded = is_degraded, .task = KNIT_POOL_TASK_NONE};

    if (is_degraded == pool->was_degraded)
        return;
    pool->was_degraded = is_degraded;
    knit_notices_add_event(&pool->notices, &event);
}
