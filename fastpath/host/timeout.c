/* SPDX-License-Identifier: Apache-2.0 */
/* A hard timeout must hit the call that it is meant for and no later one of the same worker. So the
 * worker is stopped with SIGSTOP first, its board line and claims are read while it cannot move,
 * and then it is killed or continued. Killing at once was rejected: the call could have ended just
 * before, and an innocent one would be lost.
 *
 * A task that goes on although no caller has waited for abort_grace_ms (watch.h), or whose session
 * has been closed for abandoned_ms, is killed in the same way: it would hold its worker, and its
 * session's memory, for ever.
 */
#include "fastpath/host/timeout.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "fastpath/host/watch.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"

#define HALT_WAIT_NS       20000000u /* longer than a processor takes to notice a signal */
#define HALT_RETRY_NS      5000000u
#define HALT_POLLS         20 /* in a row, with a pause of HALT_POLL_NS between two */
#define HALT_POLL_NS       50000
#define HARD_SCAN_MAX_NS   1000000000u
#define HARD_SCAN_MIN_NS   1000000u
#define HARD_BUSY_MAX_NS   100000000u /* between two scans while a call with a limit runs */
#define ABANDONED_RETRY_NS 50000000u

enum halt {
    HALT_SENT, /* SIGSTOP is sent; code of it may still run */
    HALT_DONE, /* no code of it runs in user space */
    HALT_OVER, /* it has ended */
};

/* Stops the worker, so that its words can be read while it writes none. A process that sleeps
 * uninterruptibly in the kernel (for a disk, for a vfork's child) is never reported as stopped. But
 * with the signal pending it does not return to user space, so after HALT_WAIT_NS it counts as
 * stopped. */
static enum halt halt_worker(struct knit_worker *worker, uint64_t now_ns)
{
    const struct timespec pause = {.tv_nsec = HALT_POLL_NS};

    if (worker->halted_at_ns == 0) {
        worker->halted_at_ns = now_ns;
        (void)kill(-worker->process.pid, SIGSTOP);
    }
    for (int i = 0; i < HALT_POLLS; i++) {
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
    return knit_clock_ns() - worker->halted_at_ns >= HALT_WAIT_NS ? HALT_DONE : HALT_SENT;
}

static void resume_worker(struct knit_worker *worker)
{
    worker->halted_at_ns = 0;
    (void)kill(-worker->process.pid, SIGCONT);
}

/* When the call with this limit, which its worker has announced, has to be over: time in which the
 * machine stood still is added. At the first sight of a limit it is not known whether the call
 * began before such a time or after; it gets that time. */
static uint64_t limit_of(struct knit_host *pool, struct knit_worker *worker, uint64_t hard_ns)
{
    if (hard_ns != worker->hard_seen_ns) {
        worker->hard_seen_ns = hard_ns;
        worker->hard_stood_ns = pool->hard_stood_ns;
    }
    return hard_ns != 0 ? hard_ns + (pool->stood_ns - worker->hard_stood_ns) : 0;
}

/* The limit of a call has passed: kills its worker, unless the call has ended meanwhile. */
static void enforce_hard(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    struct knit_host_event event = {
        .kind = KNIT_HOST_HARD_TIMEOUT, .lane = worker->lane, .pid = worker->process.pid};
    const struct knit_registry_task *task;
    const struct knit_host_session *session;
    uint64_t hard_ns;

    switch (halt_worker(worker, now_ns)) {
    case HALT_SENT:
        worker->hard_retry_ns = now_ns + HALT_RETRY_NS;
        return;
    case HALT_OVER:
        worker->hard_retry_ns = now_ns + HALT_WAIT_NS;
        return;
    case HALT_DONE:
    default:
        break;
    }
    KNIT_FAULT(TIMEOUT_AFTER_HALT);
    hard_ns = limit_of(pool, worker, knit_board_hard_ns(&pool->board, worker->lane));
    session = hard_ns != 0 && hard_ns <= now_ns ? knit_watch_call(pool, worker, &worker->hard_slot)
                                                : NULL;
    if (session == NULL) {
        resume_worker(worker);
        return;
    }
    event.task = knit_board_task(&pool->board, worker->lane);
    task = knit_registry_at(pool->registry, event.task);
    worker->hard_session = session->id;
    worker->hard_ms = task != NULL && task->hard_timeout_ms != 0 ? task->hard_timeout_ms
                                                                 : pool->options.hard_timeout_ms;
    worker->hard_task = task;
    event.limit_ms = worker->hard_ms;
    knit_watch_describe(pool, worker, &event);
    pool->hard_timeouts++;
    knit_notices_add_event(&pool->notices, &event);
    knit_worker_kill(worker);
    KNIT_FAULT(TIMEOUT_AFTER_HARD_KILL);
}

static void scan_hard(struct knit_host *pool, uint64_t now_ns)
{
    /* A call that begins after a scan is seen long before its limit, and a time in which the
     * machine stood still is known to within a period. */
    uint64_t period_ns = (uint64_t)pool->hard_least_ms * 1000000u / 8;
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
        hard_ns = limit_of(pool, worker, knit_board_hard_ns(&pool->board, i));
        if (hard_ns == 0)
            continue;
        if (next_ns > now_ns + HARD_BUSY_MAX_NS)
            next_ns = now_ns + HARD_BUSY_MAX_NS;
        if (hard_ns < worker->hard_retry_ns)
            hard_ns = worker->hard_retry_ns;
        if (hard_ns <= now_ns) {
            enforce_hard(pool, worker, now_ns);
            hard_ns = worker->hard_retry_ns;
        }
        if (hard_ns > now_ns && hard_ns < next_ns)
            next_ns = hard_ns;
    }
    pool->hard_scan_ns = next_ns;
    pool->hard_stood_ns = pool->stood_ns;
}

/* The worker's task ignores that no caller waits: kills it, unless the call has ended meanwhile. */
static void enforce_abort(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    const struct knit_registry_task *task =
        knit_registry_at(pool->registry, knit_board_task(&pool->board, worker->lane));
    const struct knit_host_session *session;
    enum knit_code given_up;

    worker->abort_retry_ns = now_ns + HALT_RETRY_NS;
    switch (halt_worker(worker, now_ns)) {
    case HALT_SENT:
    case HALT_OVER:
        return;
    case HALT_DONE:
    default:
        break;
    }
    given_up = knit_watch_given_up(pool, worker, now_ns);
    session = given_up != KNIT_OK ? knit_watch_call(pool, worker, &worker->hard_slot) : NULL;
    if (session == NULL) {
        worker->watch = (struct knit_watch){0};
        worker->abort_retry_ns = 0;
        resume_worker(worker);
        return;
    }
    worker->hard_session = session->id;
    worker->hard_task = task;
    worker->given_up = given_up;
    (void)knit_sentence_set(&worker->refusal, 0,
        "its task %s went on for %u ms when nobody waited any more, and was killed",
        task != NULL ? task->name : "?", pool->options.abort_grace_ms);
    knit_worker_kill(worker);
}

/* Whether the worker runs that call. */
static bool runs(
    struct knit_host *pool, const struct knit_worker *worker, const struct knit_host_stop *stop)
{
    uint32_t slot;
    uint64_t gen;
    const struct knit_host_session *session = knit_watch_call(pool, worker, &slot);

    return session != NULL && session->id == stop->session && slot == stop->slot &&
           knit_recovery_holds(&session->view, slot, worker->owner, &gen) && gen == stop->gen;
}

static void enforce_stop(struct knit_host *pool, struct knit_worker *worker,
    const struct knit_host_stop *stop, uint64_t now_ns)
{
    const struct knit_registry_task *task;

    if (halt_worker(worker, now_ns) != HALT_DONE)
        return;
    if (!runs(pool, worker, stop)) {
        resume_worker(worker);
        return;
    }
    task = knit_registry_at(pool->registry, knit_board_task(&pool->board, worker->lane));
    worker->hard_session = stop->session;
    worker->hard_slot = stop->slot;
    worker->hard_task = task;
    worker->given_up = KNIT_CANCELLED;
    worker->is_stopped = true;
    (void)knit_sentence_set(&worker->refusal, 0,
        "its task %s went on for %u ms when an operator had asked it to stop, and was killed",
        task != NULL ? task->name : "?", stop->grace_ms);
    knit_worker_kill(worker);
}

void knit_timeout_stop(struct knit_host *pool, const struct knit_host_stop *stop, uint64_t now_ns)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->step == KNIT_STEP_SERVING && !worker->was_killed && runs(pool, worker, stop))
            enforce_stop(pool, worker, stop, now_ns);
    }
}

/* The session has been closed for abandoned_ms, and workers still have it attached. A worker that
 * runs a call of it is killed: the task ignores knit_aborted(). A worker that runs nothing is
 * killed too, because it does not read its control socket. A worker that runs another session's
 * call detaches after that call. Returns when to check again. */
static uint64_t enforce_abandoned(
    struct knit_host *pool, struct knit_host_session *session, uint64_t now_ns)
{
    uint64_t next_ns = now_ns + ABANDONED_RETRY_NS;

    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];
        uint8_t link = worker->links[session->index];
        uint64_t running = knit_board_running(&pool->board, i).session;
        uint32_t slot;

        if ((link != KNIT_LINK_DETACH_SENT && link != KNIT_LINK_DETACH_DUE) ||
            worker->step != KNIT_STEP_SERVING || worker->was_killed)
            continue;
        if (running == 0) {
            (void)knit_sentence_set(
                &worker->refusal, 0, "it runs no call and does not detach a closed session");
            knit_worker_kill(worker);
            continue;
        }
        if (running != session->id)
            continue;
        switch (halt_worker(worker, now_ns)) {
        case HALT_SENT:
            next_ns = now_ns + HALT_RETRY_NS;
            break;
        case HALT_DONE:
            if (knit_watch_call(pool, worker, &slot) == session)
                knit_worker_kill(worker);
            else
                resume_worker(worker);
            break;
        case HALT_OVER:
        default:
            break;
        }
        KNIT_FAULT(TIMEOUT_AFTER_ABANDONED_KILL);
    }
    return next_ns;
}

void knit_timeout_enforce(struct knit_host *pool, uint64_t now_ns)
{
    if (pool->hard_least_ms != 0 && now_ns >= pool->hard_scan_ns)
        scan_hard(pool, now_ns);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->step == KNIT_STEP_SERVING && !worker->was_killed &&
            now_ns >= worker->abort_retry_ns && knit_watch_is_overdue(pool, worker))
            enforce_abort(pool, worker, now_ns);
    }
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && session->abandoned_kill_ns != 0 &&
            now_ns >= session->abandoned_kill_ns)
            session->abandoned_kill_ns = enforce_abandoned(pool, session, now_ns);
    }
    /* A worker can still be stopped here: its call ended before the signal took effect, so neither
     * of the functions above looks at it again. */
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->halted_at_ns != 0 && worker->step == KNIT_STEP_SERVING && !worker->was_killed &&
            now_ns >= worker->halted_at_ns + KNIT_TIMEOUT_HALT_MAX_NS)
            resume_worker(worker);
    }
}
