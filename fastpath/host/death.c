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
#include "fastpath/host/host.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/mark.h"

#define FINALIZE_NS      1000000000u /* a socket that somebody else holds is waited for so long */
#define BACKOFF_FIRST_NS 50000000u
#define BACKOFF_MAX_NS   5000000000u
#define QUARANTINE_AFTER 3u
#define HALT_WAIT_NS     20000000u /* longer than it takes a processor to hear of a signal */
#define HALT_AGAIN_NS    5000000u
#define HALT_LOOKS       20 /* in one go, while the host waits */
#define HALT_LOOK_NS     50000
#define HARD_SCAN_MAX_NS 1000000000u
#define HARD_SCAN_MIN_NS 1000000u
#define GONE_LOOK_NS     50000000u

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
static void plan_successor(
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
        .again = worker->is_again,
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
    plan_successor(pool, worker, has_worked, now_ns);
    worker->up_since_ns = 0;
    knit_supervisor_fini(pool, worker);
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

void knit_death_judge(struct knit_pool *pool)
{
    bool is_degraded = knit_death_is_degraded(pool);
    struct knit_pool_event event = {
        .kind = KNIT_POOL_DEGRADED, .again = is_degraded, .task = KNIT_POOL_TASK_NONE};

    if (is_degraded == pool->was_degraded)
        return;
    pool->was_degraded = is_degraded;
    knit_notices_add_event(&pool->notices, &event);
}

/* ---- killing for time ---- */

enum halt {
    HALT_SENT, /* it may still move: look again soon */
    HALT_DONE, /* nothing of it runs in user space */
    HALT_OVER, /* it has ended */
};

/* Has the worker stand still, to be looked at. A process that waits in the kernel for what no
 * signal ends (a disk, a vfork's child) is never seen stopped; but with the signal pending it comes
 * back to user space no more, so after HALT_WAIT_NS the look is as good. */
static enum halt halt_worker(struct knit_worker *worker, uint64_t now_ns)
{
    const struct timespec pause = {.tv_nsec = HALT_LOOK_NS};

    if (worker->halt_ns == 0) {
        worker->halt_ns = now_ns;
        (void)kill(-worker->process.pid, SIGSTOP);
    }
    for (int look = 0; look < HALT_LOOKS; look++) {
        siginfo_t info = {0};

        if (waitid(P_PIDFD, (id_t)worker->process.pid_fd, &info,
                WSTOPPED | WEXITED | WNOHANG | WNOWAIT) != 0)
            return HALT_OVER;
        if (info.si_pid != 0 && info.si_code != CLD_STOPPED)
            return HALT_OVER;
        if (info.si_pid != 0) {
            (void)waitid(P_PIDFD, (id_t)worker->process.pid_fd, &info, WSTOPPED | WNOHANG);
            return HALT_DONE;
        }
        (void)nanosleep(&pause, NULL);
    }
    return knit_clock_ns() - worker->halt_ns >= HALT_WAIT_NS ? HALT_DONE : HALT_SENT;
}

static void resume_worker(struct knit_worker *worker)
{
    worker->halt_ns = 0;
    (void)kill(-worker->process.pid, SIGCONT);
}

/* The session and slot of the call that the stopped worker runs; NULL when it has answered it. */
static struct knit_host_session *running_call(
    struct knit_pool *pool, const struct knit_worker *worker, uint32_t *ret_slot)
{
    struct knit_board_running running = knit_board_running(&pool->board, worker->lane);
    struct knit_host_session *session = knit_host_session_find(pool, running.session);

    if (session == NULL || running.slot >= session->view.geometry.slots ||
        !knit_recovery_holds(&session->view, running.slot, worker->owner))
        return NULL;
    *ret_slot = running.slot;
    return session;
}

static void enforce_hard(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns)
{
    struct knit_pool_event event = {
        .kind = KNIT_POOL_HARD_TIMEOUT, .lane = worker->lane, .pid = worker->process.pid};
    const struct knit_registry_task *task;
    const struct knit_host_session *session;
    uint64_t hard_ns;

    switch (halt_worker(worker, now_ns)) {
    case HALT_SENT:
        worker->hard_again_ns = now_ns + HALT_AGAIN_NS;
        return;
    case HALT_OVER:
        worker->hard_again_ns = now_ns + HALT_WAIT_NS;
        return;
    case HALT_DONE:
    default:
        break;
    }
    KNIT_FAULT(DEATH_AFTER_STOP);
    hard_ns = knit_board_hard_ns(&pool->board, worker->lane);
    session =
        hard_ns != 0 && hard_ns <= now_ns ? running_call(pool, worker, &worker->hard_slot) : NULL;
    if (session == NULL) {
        resume_worker(worker);
        return;
    }
    event.task = knit_board_task(&pool->board, worker->lane);
    task = knit_registry_at(pool->registry, event.task);
    worker->hard_session = session->id;
    worker->hard_ms = task != NULL && task->hard_timeout_ms != 0 ? task->hard_timeout_ms
                                                                 : pool->options.hard_timeout_ms;
    pool->hard_timeouts++;
    knit_notices_add_event(&pool->notices, &event);
    knit_supervisor_kill(worker);
    KNIT_FAULT(DEATH_AFTER_HARD_KILL);
}

static void scan_hard(struct knit_pool *pool, uint64_t now_ns)
{
    /* A call that begins right after a scan is seen by the next one before its time is up. */
    uint64_t period_ns = (uint64_t)pool->hard_least_ms * 1000000u / 2;
    uint64_t next_ns;

    if (period_ns > HARD_SCAN_MAX_NS)
        period_ns = HARD_SCAN_MAX_NS;
    if (period_ns < HARD_SCAN_MIN_NS)
        period_ns = HARD_SCAN_MIN_NS;
    next_ns = now_ns + period_ns;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];
        uint64_t hard_ns;

        if (worker->step != KNIT_STEP_SERVING || worker->was_killed)
            continue;
        hard_ns = knit_board_hard_ns(&pool->board, i);
        if (hard_ns == 0)
            continue;
        if (hard_ns < worker->hard_again_ns)
            hard_ns = worker->hard_again_ns;
        if (hard_ns <= now_ns) {
            enforce_hard(pool, worker, now_ns);
            hard_ns = worker->hard_again_ns;
        }
        if (hard_ns > now_ns && hard_ns < next_ns)
            next_ns = hard_ns;
    }
    pool->hard_scan_ns = next_ns;
}

/* A worker that has not let go of a session which has been closed for gone_ms: its task does not
 * mind knit_aborted(), or it has nothing to do and does not hear. One that is busy with another
 * session's call lets go after that. When to look again. */
static uint64_t enforce_gone(
    struct knit_pool *pool, struct knit_host_session *session, uint64_t now_ns)
{
    uint64_t again_ns = now_ns + GONE_LOOK_NS;

    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];
        uint8_t link = worker->links[session->index];
        uint64_t running = knit_board_running(&pool->board, i).session;
        uint32_t slot;

        if ((link != KNIT_LINK_DETACH_SENT && link != KNIT_LINK_DETACH_DUE) ||
            worker->step != KNIT_STEP_SERVING || worker->was_killed)
            continue;
        if (running == 0) {
            (void)knit_sentence_say(
                &worker->refusal, 0, "it has nothing to do and does not let go of a session");
            knit_supervisor_kill(worker);
            continue;
        }
        if (running != session->id)
            continue;
        switch (halt_worker(worker, now_ns)) {
        case HALT_SENT:
            again_ns = now_ns + HALT_AGAIN_NS;
            break;
        case HALT_DONE:
            if (running_call(pool, worker, &slot) == session)
                knit_supervisor_kill(worker);
            else
                resume_worker(worker);
            break;
        case HALT_OVER:
        default:
            break;
        }
        KNIT_FAULT(DEATH_AFTER_GONE_KILL);
    }
    return again_ns;
}

void knit_death_enforce(struct knit_pool *pool, uint64_t now_ns)
{
    if (pool->hard_least_ms != 0 && now_ns >= pool->hard_scan_ns)
        scan_hard(pool, now_ns);
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && session->gone_at_ns != 0 && now_ns >= session->gone_at_ns)
            session->gone_at_ns = enforce_gone(pool, session, now_ns);
    }
    /* Each of these kills what it has halted, or lets it go on. Still halted is one whose call
     * ended before the signal had its effect, so that there is nothing left to look at. */
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->halt_ns != 0 && worker->step == KNIT_STEP_SERVING && !worker->was_killed &&
            now_ns >= worker->halt_ns + KNIT_HALT_MAX_NS)
            resume_worker(worker);
    }
}
