/* SPDX-License-Identifier: Apache-2.0 */
/* Workers report neither the begin of a call nor its end, so the host looks at the board from time
 * to time: seldom while no lane runs anything, more often while one does. A call is known by its
 * place, which the board has, and by the claim of it, which no other call of that place has. Its
 * age counts from the first look that found it.
 *
 * Time passes for a call only while the host's own timer is punctual. A timer that is late means
 * that the host did not run: it was stopped, its cgroup frozen, the machine suspended. The host
 * cannot tell whether the task ran meanwhile, and usually it did not. Processor time was rejected
 * as a measure: a task that sleeps uses none and may hang all the same.
 */
#include "fastpath/host/watch.h"

#include "fastpath/host/session.h"
#include "fastpath/host/stop.h"
#include "fastpath/lane/board.h"

#define IDLE_MAX_NS   5000000000u
#define BUSY_MAX_NS   1000000000u
#define BUSY_MIN_NS   5000000u
#define LATE_LEAST_NS 10000000u /* what a busy machine delays a timer by */

/* ---- time that does not count ---- */

void knit_watch_note_delay(struct knit_host *pool, uint64_t now_ns)
{
    uint64_t late_ns =
        pool->due_ns != 0 && now_ns > pool->due_ns + LATE_LEAST_NS ? now_ns - pool->due_ns : 0;

    if (late_ns == 0)
        return;
    pool->due_ns = now_ns;
    pool->stood_ns += late_ns;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->kill_at_ns != 0 && worker->step != KNIT_STEP_SERVING && !worker->is_stopping)
            worker->kill_at_ns += late_ns;
    }
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && pool->sessions[i]->abandoned_kill_ns != 0)
            pool->sessions[i]->abandoned_kill_ns += late_ns;
    }
    knit_stop_put_off(pool, late_ns);
}

/* ---- running calls ---- */

struct knit_host_session *knit_watch_call(
    struct knit_host *pool, const struct knit_worker *worker, uint32_t *ret_slot)
{
    struct knit_board_running running = knit_board_running(&pool->board, worker->lane);
    struct knit_host_session *session = knit_host_session_find(pool, running.session);
    uint64_t gen;

    if (session == NULL || running.slot >= session->view.geometry.slots ||
        !knit_recovery_holds(&session->view, running.slot, worker->owner, &gen))
        return NULL;
    *ret_slot = running.slot;
    return session;
}

/* 0: the place does not exist any more. */
static uint64_t claim_of(struct knit_host *pool, const struct knit_board_running *running)
{
    const struct knit_host_session *session = knit_host_session_find(pool, running->session);

    return session != NULL && running->slot < session->view.geometry.slots
               ? knit_recovery_claim(&session->view, running->slot)
               : 0;
}

static bool is_same_call(struct knit_host *pool, const struct knit_worker *worker)
{
    const struct knit_watch *watch = &worker->watch;
    struct knit_board_running running = knit_board_running(&pool->board, worker->lane);

    return running.session != 0 && running.session == watch->session &&
           running.slot == watch->slot && claim_of(pool, &running) == watch->claim;
}

/* A caller over shared memory aborts its calls when it is in the library, and may not enter it for
 * long. So a deadline counts by itself: the worker's copy, which the caller cannot change. */
enum knit_code knit_watch_given_up(
    struct knit_host *pool, const struct knit_worker *worker, uint64_t now_ns)
{
    uint64_t deadline_ns = knit_board_deadline_ns(&pool->board, worker->lane);
    const struct knit_host_session *session;
    uint32_t slot;

    if (!is_same_call(pool, worker))
        return KNIT_OK;
    session = knit_watch_call(pool, worker, &slot);
    if (session == NULL)
        return KNIT_OK;
    if (session->is_closing || session->is_evicted ||
        knit_recovery_is_aborted(&session->view, slot, worker->owner))
        return KNIT_CANCELLED;
    return deadline_ns != 0 && deadline_ns <= now_ns ? KNIT_TIMEOUT : KNIT_OK;
}

bool knit_watch_is_overdue(const struct knit_host *pool, const struct knit_worker *worker)
{
    return pool->options.abort_grace_ms != 0 &&
           worker->watch.ignored_ns >= (uint64_t)pool->options.abort_grace_ms * 1000000u;
}

void knit_watch_describe(
    struct knit_host *pool, const struct knit_worker *worker, struct knit_host_event *event)
{
    uint32_t slot;
    const struct knit_host_session *session = knit_watch_call(pool, worker, &slot);
    struct knit_trace trace;
    uint64_t gen;

    if (session == NULL || !knit_recovery_holds(&session->view, slot, worker->owner, &gen))
        return;
    event->session = session->id;
    event->slot = slot;
    event->gen = gen;
    event->is_foreign = session->is_foreign;
    event->uid = session->peer.uid;
    if (knit_recovery_trace(&session->view, slot, gen, &trace))
        event->trace = trace;
}

static void report_slow(struct knit_host *pool, struct knit_worker *worker)
{
    struct knit_host_event event = {.kind = KNIT_HOST_TASK_SLOW,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .task = knit_board_task(&pool->board, worker->lane),
        .age_ms = worker->watch.age_ns / 1000000u};

    worker->watch.is_reported = true;
    knit_watch_describe(pool, worker, &event);
    knit_notices_add_event(&pool->notices, &event);
}

/* Returns whether the lane runs a call. */
static bool look(
    struct knit_host *pool, struct knit_worker *worker, uint64_t passed_ns, uint64_t now_ns)
{
    struct knit_watch *watch = &worker->watch;
    struct knit_board_running running = knit_board_running(&pool->board, worker->lane);
    uint32_t slow_ms = pool->options.slow_call_ms;
    bool was_given_up = watch->is_given_up;

    if (!is_same_call(pool, worker)) {
        *watch = (struct knit_watch){
            .session = running.session, .slot = running.slot, .claim = claim_of(pool, &running)};
        watch->is_given_up =
            running.session != 0 && knit_watch_given_up(pool, worker, now_ns) != KNIT_OK;
        return running.session != 0;
    }
    watch->age_ns += passed_ns;
    watch->is_given_up = knit_watch_given_up(pool, worker, now_ns) != KNIT_OK;
    if (!watch->is_given_up)
        watch->ignored_ns = 0;
    else if (was_given_up)
        watch->ignored_ns += passed_ns;
    if (slow_ms != 0 && !watch->is_reported && watch->age_ns >= (uint64_t)slow_ms * 1000000u)
        report_slow(pool, worker);
    return true;
}

/* The shorter of the two limits that are set; 0 = none is. */
static uint64_t least_ns(const struct knit_host_options *options)
{
    uint32_t grace_ms = options->abort_grace_ms, slow_ms = options->slow_call_ms;
    uint32_t least_ms = slow_ms == 0 || (grace_ms != 0 && grace_ms < slow_ms) ? grace_ms : slow_ms;

    return (uint64_t)least_ms * 1000000u;
}

void knit_watch_running(struct knit_host *pool, uint64_t now_ns)
{
    uint64_t least = least_ns(&pool->options), passed_ns, stood_ns, period_ns;
    bool is_busy = false;

    if (least == 0 || pool->phase >= KNIT_PHASE_STOPPING) {
        pool->watch_due_ns = 0;
        return;
    }
    if (now_ns < pool->watch_due_ns)
        return;
    passed_ns = now_ns - pool->watched_ns;
    stood_ns = pool->stood_ns - pool->watched_stood_ns;
    passed_ns = passed_ns > stood_ns ? passed_ns - stood_ns : 0;
    pool->watched_ns = now_ns;
    pool->watched_stood_ns = pool->stood_ns;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->step == KNIT_STEP_SERVING && !worker->was_killed)
            is_busy = look(pool, worker, passed_ns, now_ns) || is_busy;
        else
            worker->watch = (struct knit_watch){0};
    }
    period_ns = is_busy ? least / 10 : least / 2;
    if (period_ns > (is_busy ? BUSY_MAX_NS : IDLE_MAX_NS))
        period_ns = is_busy ? BUSY_MAX_NS : IDLE_MAX_NS;
    pool->watch_due_ns = now_ns + (period_ns > BUSY_MIN_NS ? period_ns : BUSY_MIN_NS);
}
