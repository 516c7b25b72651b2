/* SPDX-License-Identifier: Apache-2.0 */
/* The socket of a worker that serves may be full, so nothing is queued for it: its links and
 * is_stopping say what it must still be sent, and knit_worker_flush() sends as much as goes. epoll
 * reports room in the socket; when the kernel lacks memory a timer retries, because epoll reports
 * nothing then.
 *
 * epoll's data is source | lane | serial of the process: an event that was fetched before a worker
 * was replaced is not taken for one of the replacement.
 */
#include "fastpath/host/worker.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "fastpath/control/control.h"
#include "fastpath/host/crew.h"
#include "fastpath/host/leaf.h"
#include "fastpath/host/loop_bell.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"

static_assert(KNIT_HOST_MODULES_MAX < KNIT_SPAWN_FDS_MAX, "all modules and the program fit");

#define RETRY_NS 10000000u /* until a message is sent again for which the kernel lacked memory */

static uint64_t epoll_data(enum knit_source source, const struct knit_worker *worker)
{
    return (uint64_t)source << 56 | (uint64_t)worker->lane << 32 | worker->serial;
}

static int add_interest(struct knit_host *pool, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void knit_worker_drop_interest(const struct knit_host *pool, int fd)
{
    if (fd >= 0)
        (void)epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* epoll forgets a file when its last descriptor is closed. A child that the host's program has
 * forked holds another, so the interest is removed here, or epoll reports the file for ever. */
void knit_worker_close_fd(const struct knit_host *pool, int *fd)
{
    knit_worker_drop_interest(pool, *fd);
    knit_fd_close(fd);
}

/* ---- ending ---- */

void knit_worker_kill_group(const struct knit_worker *worker)
{
    /* The number is this worker's group's until the leader is reaped, and as long as the group has
     * members. A leader that the program has reaped may have left none: then a process may have
     * that number now. */
    if (pidfd_send_signal(worker->process.pid_fd, 0, NULL, 0) == 0 || errno != ESRCH ||
        (kill(worker->process.pid, 0) != 0 && errno == ESRCH))
        (void)kill(-worker->process.pid, SIGKILL);
}

void knit_worker_kill(struct knit_worker *worker)
{
    if (worker->step == KNIT_STEP_NONE || worker->step == KNIT_STEP_ENDED)
        return;
    worker->was_killed = true;
    if (worker->threads != NULL) {
        worker->threads->stop(worker->thread);
        return;
    }
    knit_worker_kill_group(worker);
    (void)pidfd_send_signal(worker->process.pid_fd, SIGKILL, NULL, 0);
}

void knit_worker_refuse(struct knit_worker *worker, const char *format, ...)
{
    va_list args;

    if (!knit_sentence_is_empty(&worker->refusal) || worker->step == KNIT_STEP_ENDED)
        return;
    va_start(args, format);
    (void)vsnprintf(worker->refusal.text, sizeof(worker->refusal.text), format, args);
    va_end(args);
    knit_worker_kill(worker);
}

void knit_worker_fini(struct knit_host *pool, struct knit_worker *worker)
{
    knit_worker_close_fd(pool, &worker->process.pid_fd);
    knit_worker_close_fd(pool, &worker->process.control_fd);
    knit_worker_close_fd(pool, &worker->process.report_fd);
    knit_worker_close_fd(pool, &worker->process.output_fd);
    knit_fd_close(&worker->process.capture_fd);
    knit_fd_close(&worker->start_fd);
    worker->process.pid = 0;
    worker->owner = 0;
    worker->kill_at_ns = worker->finalize_at_ns = 0;
    worker->step = KNIT_STEP_NONE;
}

/* ---- starting ---- */

int knit_worker_listen(struct knit_host *pool, const struct knit_worker *worker, int report_fd)
{
    return add_interest(pool, report_fd, EPOLLIN, epoll_data(KNIT_SOURCE_REPORT, worker));
}

void knit_worker_take_owner(struct knit_host *pool, struct knit_worker *worker)
{
    worker->owner = pool->next_owner++;
    if (pool->next_owner > KNIT_OWNER_MAX)
        pool->next_owner = KNIT_OWNER_HOST + 1;
    worker->calls_before = knit_board_calls(&pool->board, worker->lane);
}

bool knit_worker_start(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    struct knit_spawn_options options = {.argv = pool->launch.argv,
        .environment = pool->launch.environment,
        .program = pool->launch.program,
        .fds = pool->launch.fds,
        .fd_count = pool->launch.modules + 1};
    int error;

    worker->serial = ++pool->next_serial;
    worker->is_stopping = worker->is_stop_sent = worker->wants_write = worker->was_killed = false;
    worker->is_confined = worker->has_closed_control = worker->was_ended_by_task = false;
    worker->owner = 0;
    worker->signal = worker->status = 0;
    worker->is_end_unknown = false;
    worker->hard_session = 0;
    worker->given_up = KNIT_OK;
    worker->is_stopped = false;
    worker->hard_retry_ns = worker->hard_seen_ns = worker->abort_retry_ns = 0;
    worker->watch = (struct knit_watch){0};
    worker->restart_at_ns = worker->finalize_at_ns = worker->flush_retry_ns = 0;
    worker->reap_at_ns = worker->halted_at_ns = 0;
    worker->refusal.text[0] = '\0';
    memset(worker->links, KNIT_LINK_NONE, sizeof(worker->links));
    knit_output_init(&worker->output);
    worker->output_due_ns = 0;
    if (worker->threads != NULL)
        return knit_crew_start(pool, worker, now_ns);
    (void)knit_sentence_set(&worker->start_step, 0, "starting %s", pool->launch.argv[0]);
    if (knit_launch_check(&pool->launch, &worker->refusal) != 0)
        return false;
    knit_launch_mark(&pool->launch, worker->serial);
    options.group_fd = knit_leaf_open(pool, worker->lane);
    error = knit_spawn(&options, &worker->process);
    knit_fd_close(&options.group_fd);
    KNIT_FAULT(WORKER_AFTER_SPAWN);
    if (error == 0) {
        worker->step = KNIT_STEP_HELLO;
        worker->kill_at_ns = now_ns + (uint64_t)pool->options.startup_ms * 1000000u;
        error = add_interest(
            pool, worker->process.pid_fd, EPOLLIN, epoll_data(KNIT_SOURCE_PID, worker));
    }
    if (error == 0)
        error = knit_worker_listen(pool, worker, worker->process.report_fd);
    if (error == 0)
        error = add_interest(
            pool, worker->process.output_fd, EPOLLIN, epoll_data(KNIT_SOURCE_OUTPUT, worker));
    if (error == 0)
        return true;
    (void)knit_sentence_set(&worker->refusal, 0, "no process can be started: %s", strerror(-error));
    return false;
}

/* ---- messages to a worker that serves ---- */

/* Arguments of a trusted session are read in place, without a copy. Root and the host's uid can
 * attach a debugger to a worker, so a copy would protect it from their mistakes only. */
static bool is_trusted(const struct knit_host_session *session)
{
    return !session->is_foreign || session->peer.uid == 0 || session->peer.uid == geteuid();
}

/* These return what knit_control_send() returns. */
static int send_attach(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_host_session *session)
{
    struct knit_control_message message;
    int fds[3] = {session->request_fd, session->reply_fd, -1};
    int error = knit_loop_bell_copy(session, &fds[2]);

    if (error != 0)
        return KNIT_CONTROL_E_EXHAUSTED;
    knit_control_init(&message, KNIT_CONTROL_ATTACH);
    message.attach = (struct knit_control_attach){.session = session->id,
        .geometry = session->view.geometry,
        .reply_budget_bytes = pool->options.reply_budget_bytes,
        .is_trusted = is_trusted(session),
        .bell_is_pipe = session->view.bell_is_pipe,
        .flow = session->flow,
        .weight = session->index + 1,
        .right = session->right != NULL ? session->index + 1 : 0};
    error = knit_control_send(worker->process.control_fd, &message, fds, false);
    knit_loop_bell_close_copy(session, fds[2]);
    return error;
}

/* Tells the worker; a thread has the session at once. */
static int tell_attach(struct knit_host *pool, struct knit_worker *worker, uint32_t index)
{
    const struct knit_host_session *session = pool->sessions[index];
    int error = worker->threads != NULL
                    ? knit_crew_attach(pool, worker, session, is_trusted(session))
                    : send_attach(pool, worker, session);

    KNIT_FAULT(WORKER_AFTER_ATTACH);
    if (error == 0)
        worker->links[index] = worker->threads != NULL ? KNIT_LINK_ATTACHED : KNIT_LINK_ATTACH_SENT;
    return error;
}

static int tell_detach(struct knit_host *pool, struct knit_worker *worker, uint32_t index)
{
    struct knit_control_message message;
    int error;

    if (worker->threads != NULL) {
        error = worker->threads->detach(worker->thread, pool->sessions[index]->id) == 0
                    ? 0
                    : KNIT_CONTROL_E_EXHAUSTED;
    } else {
        knit_control_init(&message, KNIT_CONTROL_DETACH);
        message.session.session = pool->sessions[index]->id;
        error = knit_control_send(worker->process.control_fd, &message, NULL, false);
    }
    if (error == 0)
        worker->links[index] = KNIT_LINK_DETACH_SENT;
    return error;
}

static int send_links(struct knit_host *pool, struct knit_worker *worker)
{
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        int error = 0;

        if (worker->links[i] == KNIT_LINK_ATTACH_DUE)
            error = tell_attach(pool, worker, i);
        else if (worker->links[i] == KNIT_LINK_DETACH_DUE)
            error = tell_detach(pool, worker, i);
        if (error != 0)
            return error;
    }
    return 0;
}

static int send_stop(struct knit_worker *worker)
{
    struct knit_control_message message;
    int error;

    if (!worker->is_stopping || worker->is_stop_sent)
        return 0;
    if (worker->threads != NULL) {
        worker->threads->stop(worker->thread);
        worker->is_stop_sent = true;
        return 0;
    }
    knit_control_init(&message, KNIT_CONTROL_STOP);
    error = knit_control_send(worker->process.control_fd, &message, NULL, false);
    worker->is_stop_sent = error == 0;
    return error;
}

/* False: epoll cannot report room. */
static bool want_write(struct knit_host *pool, struct knit_worker *worker, bool wanted)
{
    const int fd = worker->process.control_fd;

    if (worker->wants_write && !wanted)
        knit_worker_drop_interest(pool, fd);
    else if (!worker->wants_write && wanted &&
             add_interest(pool, fd, EPOLLOUT, epoll_data(KNIT_SOURCE_ROOM, worker)) != 0)
        return false;
    worker->wants_write = wanted;
    return true;
}

void knit_worker_flush(struct knit_host *pool, struct knit_worker *worker)
{
    int error;

    if (worker->step != KNIT_STEP_SERVING)
        return;
    error = send_links(pool, worker);
    if (error == 0)
        error = send_stop(worker);
    if (!want_write(pool, worker, error == KNIT_CONTROL_E_AGAIN))
        error = KNIT_CONTROL_E_EXHAUSTED;
    worker->flush_retry_ns = error == KNIT_CONTROL_E_EXHAUSTED ? knit_clock_ns() + RETRY_NS : 0;
    /* CLOSED: the end of its process is reported next. */
    if (error < 0)
        knit_worker_refuse(worker, "its control socket failed: %s", strerror(-error));
}

void knit_worker_stop(struct knit_host *pool, struct knit_worker *worker, uint64_t kill_at_ns)
{
    if (worker->step == KNIT_STEP_NONE || worker->step == KNIT_STEP_ENDED)
        return;
    if (worker->step != KNIT_STEP_SERVING) {
        /* Still loading: it runs no call that could be waited for. */
        worker->is_stopping = true;
        knit_worker_kill(worker);
        if (worker->threads != NULL && kill_at_ns < worker->kill_at_ns)
            worker->kill_at_ns = kill_at_ns;
        return;
    }
    if (!worker->is_stopping || kill_at_ns < worker->kill_at_ns)
        worker->kill_at_ns = kill_at_ns;
    worker->is_stopping = true;
    knit_worker_flush(pool, worker);
}
