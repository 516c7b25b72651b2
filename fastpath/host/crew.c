/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that hangs in a module's hook has no lane yet and never gets one once it was told to
 * stop, so it can be left behind while the pool is open. One that serves has: a second worker of
 * its lane would write the same words.
 */
#include "fastpath/host/crew.h"

#include <string.h>

#include "fastpath/host/death.h"
#include "fastpath/host/reason.h"
#include "fastpath/host/supervisor.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"

int knit_crew_open(
    struct knit_host *pool, const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    const struct knit_crew_options crew = {.program = options->program,
        .modules = options->modules,
        .module_count = options->module_count,
        .bootstrap = options->bootstrap != NULL ? options->bootstrap : ""};
    int error = options->threads->open_crew(&crew, &pool->crew, ret_why);

    if (error > 0) {
        knit_sentence_prefix(ret_why, "worker startup failed");
        return KNIT_HOST_E_STARTUP;
    }
    if (error == 0)
        pool->registry = options->threads->registry(pool->crew);
    return error;
}

void knit_crew_close(struct knit_host *pool)
{
    if (pool->crew == NULL)
        return;
    pool->registry = NULL;
    pool->crew = pool->options.threads->close_crew(pool->crew);
}

/* Asks it to end, and waits for that a short while. */
static bool ends_now(struct knit_worker *worker)
{
    worker->threads->stop(worker->thread);
    return worker->threads->reap(&worker->thread, &worker->was_ended_by_task);
}

static void leave(struct knit_host *pool, struct knit_worker *worker)
{
    const bool is_running = worker->step == KNIT_STEP_SERVING;
    struct knit_sentence text;
    struct knit_host_event event = {.kind = KNIT_HOST_WORKER_LEFT,
        .lane = worker->lane,
        .task = is_running ? knit_board_task(&pool->board, worker->lane) : KNIT_HOST_TASK_NONE,
        .text = text.text};

    (void)knit_sentence_set(&text, 0, "its thread has not come back while %.900s",
        is_running ? "running a task" : worker->start_step.text);
    pool->options.threads->leave(worker->thread);
    worker->thread = NULL;
    pool->left_behind++;
    knit_notices_add_event(&pool->notices, &event);
}

bool knit_crew_start(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    const struct knit_host_options *options = &pool->options;
    struct knit_thread_options thread = {.crew = pool->crew,
        .host = pool->number,
        .deferred_max = options->deferred_max,
        .lane = {.index = worker->lane,
            .lanes = options->workers,
            .board = pool->board,
            .pool = pool->shared,
            .steal = options->steal,
            .spin_us = options->spin_us,
            .pause_ns = options->pause_ns,
            .park_ms = options->park_ms,
            .has_one_bell = true,
            .result_max_bytes = options->call_max_bytes,
            .argument_max_bytes = options->call_max_bytes}};
    int error;

    (void)knit_sentence_set(&worker->start_step, 0, "starting its thread");
    knit_worker_take_owner(pool, worker);
    thread.lane.owner = worker->owner;
    error = options->threads->start(&thread, &worker->thread);
    if (error == 0) {
        worker->step = KNIT_STEP_READY;
        worker->kill_at_ns = now_ns + (uint64_t)options->startup_ms * 1000000u;
        error = knit_worker_listen(pool, worker, options->threads->fd(worker->thread));
    }
    if (error == 0)
        return true;
    (void)knit_sentence_set(&worker->refusal, 0, "no thread can be started: %s", strerror(-error));
    if (worker->thread != NULL && !ends_now(worker))
        leave(pool, worker);
    worker->step = KNIT_STEP_NONE;
    return false;
}

int knit_crew_attach(struct knit_host *pool, struct knit_worker *worker,
    const struct knit_host_session *session, bool is_trusted)
{
    /* Its mappings and its bell are this process's, and stay until DETACHED is reported. */
    const struct knit_lane_session lane = {.id = session->id,
        .geometry = session->view.geometry,
        .request = session->view.request,
        .reply = session->view.reply,
        .bell_fd = session->view.bell_fd,
        .bell_is_pipe = session->view.bell_is_pipe,
        .trusted = is_trusted,
        .reply_budget_bytes = pool->options.reply_budget_bytes};

    return pool->options.threads->attach(worker->thread, &lane) == 0 ? 0 : KNIT_CONTROL_E_EXHAUSTED;
}

void knit_crew_give_up(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    const bool serves = worker->step == KNIT_STEP_SERVING;

    if (worker->step == KNIT_STEP_ENDED || (serves && pool->phase < KNIT_PHASE_STOPPING))
        return;
    knit_worker_drop_interest(pool, worker->threads->fd(worker->thread));
    if (ends_now(worker)) {
        knit_death_finalize(pool, worker, now_ns);
        return;
    }
    leave(pool, worker);
    if (!serves) {
        knit_death_finalize(pool, worker, now_ns);
        return;
    }
    /* Its links stay: what it has of sessions is not freed. */
    worker->step = KNIT_STEP_NONE;
    worker->up_since_ns = 0;
}
