/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a worker: by itself, by a task, or by the pool; and what follows.
 *
 * The order of the steps:
 *
 *  1. The worker's process group is killed while its leader is a zombie. After the reap the kernel
 *     may give the number to another group.
 *  2. The leader is reaped. A program with a pool of its own may have it reaped already, by
 *     ignoring SIGCHLD or by waiting for any child: how it ended is not known then. A worker that
 *     is a thread begins here: it is joined.
 *  3. The other end of the pipe to the host is closed. With a command prefix the worker may be a
 *     child of the process that was reaped, and live on; the kernel closes the descriptors of a
 *     process after its memory is freed, so from here on no worker of this lane writes replies.
 *  4. Calls that the worker had claimed get their outcomes (recovery.c), and the lane is vacant for
 *     other workers, for callers, and for the replacement.
 */
#include "fastpath/host/death.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "fastpath/host/orphans.h"
#include "fastpath/host/quarantine.h"
#include "fastpath/host/session.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/note.h"

#define FINALIZE_NS      1000000000u /* how long another holder of its pipe is awaited */
#define BACKOFF_FIRST_NS 50000000u
#define BACKOFF_MAX_NS   5000000000u

/* ---- reaping ---- */

static void note_reaped(struct knit_worker *worker, uint64_t now_ns)
{
    KNIT_FAULT(DEATH_AFTER_REAP);
    worker->step = KNIT_STEP_ENDED;
    worker->finalize_at_ns = now_ns + FINALIZE_NS;
}

static bool reap_thread(struct knit_worker *worker, uint64_t now_ns)
{
    if (!worker->threads->reap(&worker->thread, &worker->was_ended_by_task))
        return false;
    note_reaped(worker, now_ns);
    return true;
}

bool knit_death_reap(struct knit_worker *worker, bool may_block, uint64_t now_ns)
{
    siginfo_t info = {0};
    int got;

    if (worker->threads != NULL)
        return reap_thread(worker, now_ns);
    knit_worker_kill_group(worker);
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
    else
        worker->is_end_unknown = true;
    note_reaped(worker, now_ns);
    return true;
}

static void describe_end(const struct knit_worker *worker, struct knit_sentence *ret_text)
{
    const char *name = worker->signal != 0 ? sigabbrev_np(worker->signal) : NULL;

    if (worker->threads != NULL)
        (void)knit_sentence_set(ret_text, 0,
            worker->was_ended_by_task ? "lost its thread: the task ended it" : "ended");
    else if (worker->is_end_unknown)
        (void)knit_sentence_set(
            ret_text, 0, "ended; how is not known: this program reaps its children by itself");
    else if (worker->signal != 0)
        (void)knit_sentence_set(
            ret_text, 0, "killed by signal %d (SIG%s)", worker->signal, name != NULL ? name : "?");
    else
        (void)knit_sentence_set(ret_text, 0, "exited with status %d", worker->status);
}

/* ---- finalizing ---- */

/* Of the call for which the pool has killed the worker. */
static void make_killed_error(const struct knit_worker *worker, struct knit_recovery_error *ret)
{
    const char *name = worker->hard_task != NULL ? worker->hard_task->name : "";
    struct knit_sentence text;

    if (worker->given_up != KNIT_OK) {
        (void)knit_sentence_set(&text, 0,
            worker->is_stopped ? "an operator killed the task %.128s, which did not stop"
                               : "the task %.128s did not stop, and its worker was killed",
            name);
        knit_recovery_make_error(ret, worker->given_up, KNIT_STARTED_YES, text.text, 0, 0);
        return;
    }
    (void)knit_sentence_set(&text, 0, "the task %.128s ran longer than its hard timeout of %u ms",
        name, worker->hard_ms);
    knit_recovery_make_error(
        ret, KNIT_HARD_TIMEOUT, KNIT_STARTED_YES, text.text, 0, worker->hard_ms);
}

/* Ends the calls that the worker had claimed, as LAYOUT.md says. Returns how many they were. */
static uint32_t recover(struct knit_host *pool, struct knit_worker *worker)
{
    struct knit_recovery_error error, special;
    struct knit_recovery_death death = {
        .lane = worker->lane, .owner = worker->owner, .error = &error, .special = &special};
    uint32_t lost = 0;
    struct knit_sentence text, end = {""};

    describe_end(worker, &end);
    (void)knit_sentence_set(
        &text, 0, "the worker %s%s", worker->signal != 0 ? "was " : "", end.text);
    if (pool->phase == KNIT_PHASE_STOPPING)
        knit_recovery_make_error(
            &error, KNIT_SHUTDOWN, KNIT_STARTED_YES, "the pool was shut down meanwhile", 0, 0);
    else
        knit_recovery_make_error(
            &error, KNIT_WORKER_DIED, KNIT_STARTED_YES, text.text, worker->signal, 0);
    make_killed_error(worker, &special);
    knit_recovery_vacate(&pool->board, &pool->shared, pool->options.workers, worker->lane);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
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

/* A worker that had answered a call is replaced at once. One that had not counts as an early death,
 * and the delay doubles with each in a row. A worker that was killed for a hard timeout does not
 * count: its task was slow, and the worker may be well. */
static void schedule_replacement(
    struct knit_host *pool, struct knit_worker *worker, bool has_answered, uint64_t now_ns)
{
    uint64_t delay_ns = 0;

    /* While the pool opens too: it opens when all workers serve. */
    if (pool->phase >= KNIT_PHASE_STOPPING || !knit_sentence_is_empty(&pool->open_failure))
        return;
    if (has_answered)
        worker->early_deaths = 0;
    else if (worker->hard_session == 0)
        worker->early_deaths++;
    for (uint32_t i = 1; i < worker->early_deaths && delay_ns < BACKOFF_MAX_NS; i++)
        delay_ns = delay_ns == 0 ? BACKOFF_FIRST_NS : delay_ns * 2;
    worker->restart_at_ns = now_ns + (delay_ns < BACKOFF_MAX_NS ? delay_ns : BACKOFF_MAX_NS);
}

/* The worker has ended before it served. */
static void finalize_failed_start(struct knit_host *pool, struct knit_worker *worker)
{
    struct knit_host_event event = {.kind = KNIT_HOST_WORKER_REFUSED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .signal = worker->signal,
        .status = worker->status,
        .is_replacement = worker->is_replacement,
        .task = KNIT_HOST_TASK_NONE,
        .text = worker->refusal.text};

    if (knit_sentence_is_empty(&worker->refusal)) {
        struct knit_sentence end;

        describe_end(worker, &end);
        (void)knit_sentence_set(&worker->refusal, 0, "the worker %s%s while %.900s",
            worker->signal != 0 ? "was " : "", end.text, worker->start_step.text);
    }
    if (pool->phase != KNIT_PHASE_OPENING && !worker->is_stopping)
        knit_notices_add_event(&pool->notices, &event);
    else if (pool->phase == KNIT_PHASE_OPENING && knit_sentence_is_empty(&pool->open_failure))
        (void)knit_sentence_set(
            &pool->open_failure, 0, "worker startup failed: %.990s", worker->refusal.text);
}

static enum knit_host_death kind_of(const struct knit_worker *worker)
{
    if (worker->hard_session != 0)
        return worker->given_up == KNIT_OK ? KNIT_HOST_DEATH_HARD_TIMEOUT
                                           : KNIT_HOST_DEATH_NOT_STOPPED;
    if (!knit_sentence_is_empty(&worker->refusal))
        return KNIT_HOST_DEATH_REFUSED;
    if (worker->signal == 0)
        return KNIT_HOST_DEATH_EXIT;
    return worker->was_killed ? KNIT_HOST_DEATH_NOT_STOPPED : KNIT_HOST_DEATH_SIGNAL;
}

/* The worker has served. `lost` calls got their outcome from the host; it ran `task` last. */
static void finalize_serving(struct knit_host *pool, struct knit_worker *worker, uint32_t lost,
    uint32_t task, uint64_t now_ns)
{
    struct knit_quarantine_cause cause = knit_quarantine_cause(pool, worker);
    struct knit_sentence text;
    struct knit_host_event event = {.kind = KNIT_HOST_WORKER_DIED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .signal = worker->signal,
        .status = worker->status,
        .lost = lost,
        .task = lost != 0 ? task : KNIT_HOST_TASK_NONE,
        .text = text.text};

    describe_end(worker, &text);
    if (cause.has_note)
        (void)knit_sentence_append(&text, 0, "si_code %d, address 0x%llx", cause.note.code,
            (unsigned long long)cause.note.address);
    if (worker->is_stopping && lost == 0 && knit_sentence_is_empty(&worker->refusal)) {
        event.kind = KNIT_HOST_WORKER_STOPPED;
        knit_notices_add_event(&pool->notices, &event);
        return;
    }
    if (!knit_sentence_is_empty(&worker->refusal))
        text = worker->refusal;
    if (pool->phase == KNIT_PHASE_OPENING)
        pool->last_death = text;
    worker->deaths++;
    pool->deaths++;
    pool->deaths_by[kind_of(worker)]++;
    knit_notices_add_event(&pool->notices, &event);
    if (lost != 0 && cause.is_own)
        knit_quarantine_count(pool, task, worker->signal, now_ns);
}

void knit_death_finalize(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    bool has_served = worker->step != KNIT_STEP_NONE && worker->up_since_ns != 0;
    bool has_answered =
        worker->owner != 0 && knit_note_has_answered(&pool->shared, worker->lane, worker->owner);
    uint32_t task = knit_board_task(&pool->board, worker->lane);
    uint32_t lost = 0;

    /* The owner number is assigned before the worker serves, so claims may carry it. */
    if (worker->owner != 0) {
        lost = recover(pool, worker);
        KNIT_FAULT(DEATH_AFTER_RECOVERY);
    }
    /* knit_worker_flush() sends nothing to a worker in this step. */
    worker->step = KNIT_STEP_NONE;
    if (has_served)
        finalize_serving(pool, worker, lost, task, now_ns);
    else
        finalize_failed_start(pool, worker);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (worker->links[i] != KNIT_LINK_NONE)
            knit_host_session_unlink(pool, worker, i);
    }
    KNIT_FAULT(DEATH_AFTER_UNLINK);
    pool->has_orphans = pool->options.kill_orphans;
    pool->orphans_due_ns = now_ns;
    pool->orphans_until_ns = now_ns + KNIT_ORPHANS_MAX_NS;
    schedule_replacement(pool, worker, has_answered, now_ns);
    worker->up_since_ns = 0;
    knit_worker_fini(pool, worker);
    KNIT_FAULT(DEATH_AFTER_FINALIZE);
}

/* ---- crash loops ---- */

bool knit_death_is_degraded(const struct knit_host *pool)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];

        if (worker->early_deaths >= 2 &&
            (worker->step != KNIT_STEP_SERVING ||
                !knit_note_has_answered(&pool->shared, i, worker->owner)))
            return true;
    }
    return false;
}

void knit_death_update_degraded(struct knit_host *pool)
{
    bool is_degraded = knit_death_is_degraded(pool);
    struct knit_host_event event = {
        .kind = KNIT_HOST_DEGRADED, .is_degraded = is_degraded, .task = KNIT_HOST_TASK_NONE};

    /* At the end the pool itself kills workers that do not leave. */
    if (is_degraded == pool->was_degraded || pool->phase >= KNIT_PHASE_STOPPING)
        return;
    pool->was_degraded = is_degraded;
    knit_notices_add_event(&pool->notices, &event);
}
