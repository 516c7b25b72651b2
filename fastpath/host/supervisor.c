/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the workers' descriptors: messages, output, ends of processes.
 *
 * A worker goes through the steps of enum knit_worker_step by its own messages. A message that does
 * not belong to its step refuses it, like any other violation: `refusal` is set, its group is
 * killed, and everything else happens when the end of its process is reported (death.c). So a
 * worker has one way out, however it fails.
 */
#include "fastpath/host/supervisor.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/control/control.h"
#include "fastpath/host/death.h"
#include "fastpath/host/session.h"
#include "fastpath/host/startup.h"
#include "fastpath/host/watch.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fd.h"

#define OUTPUT_BYTES_A_TURN 65536u
#define OUTPUT_LINES_A_TURN 1024u
#define OUTPUT_BYTES_LAST   (1u << 20) /* of a dead worker: more than a pipe holds */
#define MESSAGES_A_TURN     256
#define CLOSED_NS           1000000000u  /* until a worker without a pipe to the host is killed */
#define DAMAGE_FORGOTTEN_NS 20000000000u /* longer than any delay of a replacement */
#define REAP_RETRY_NS       10000000u    /* until a zombie that a debugger traces is reaped again */

/* ---- messages ---- */

/* The worker leaves after its running call, or is killed after stop_ms; then it is replaced. */
static void replace_worker(struct knit_host *pool, struct knit_worker *worker, int error)
{
    if (worker->is_stopping || !knit_sentence_is_empty(&worker->refusal))
        return;
    (void)knit_sentence_set(&worker->refusal, 0, "it cannot attach a session: %s", strerror(error));
    knit_worker_stop(pool, worker, knit_clock_ns() + (uint64_t)pool->options.stop_ms * 1000000u);
}

/* A worker reports a session of the host's own as damaged. The host did not do that: a task has
 * written either into the session's memory or into the memory of its own worker. The worker is
 * replaced. If a process that was started after the report finds the same, the session itself is
 * damaged for every worker to come, and the host is notified. A replacement finds it within seconds
 * at most, so a report older than DAMAGE_FORGOTTEN_NS counts as that worker's own damage. */
static void handle_damage(struct knit_host *pool, struct knit_worker *worker,
    struct knit_host_session *session, const char *text)
{
    struct knit_host_event event = {.kind = KNIT_HOST_SESSION_DAMAGED,
        .session = session->id,
        .task = KNIT_HOST_TASK_NONE,
        .text = text};
    const uint64_t now_ns = knit_clock_ns();

    knit_worker_refuse(worker, "it finds a session of the pool itself damaged: %s", text);
    if (session->damaged_serial == 0 || now_ns - session->damaged_ns > DAMAGE_FORGOTTEN_NS)
        session->damaged_serial = pool->next_serial + 1;
    session->damaged_ns = now_ns;
    if (worker->serial < session->damaged_serial || session->is_damaged)
        return;
    session->is_damaged = true;
    knit_notices_add_event(&pool->notices, &event);
}

static void handle_session(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    struct knit_host_session *session = knit_host_session_find(pool, message->session.session);

    if (session == NULL)
        return;
    if (message->type == KNIT_CONTROL_EVICTED && !session->is_foreign) {
        handle_damage(pool, worker, session, message->text);
    } else if (message->type == KNIT_CONTROL_EVICTED) {
        knit_host_session_evict(pool, session, message->text);
    } else if (message->type == KNIT_CONTROL_DETACHED) {
        if (worker->links[session->index] == KNIT_LINK_DETACH_SENT)
            knit_host_session_unlink(pool, worker, session->index);
    } else if (message->session.error != 0) {
        /* The host has made the session, so the worker lacks something, memory or descriptors. Its
         * replacement may have it. */
        replace_worker(pool, worker, message->session.error);
        knit_host_session_unlink(pool, worker, session->index);
    } else if (worker->links[session->index] == KNIT_LINK_ATTACH_SENT) {
        worker->links[session->index] = KNIT_LINK_ATTACHED;
    }
}

static void handle_denied(struct knit_host *pool, const struct knit_worker *worker,
    const struct knit_control_message *message)
{
    const struct knit_host_session *session =
        knit_host_session_find(pool, message->session.session);
    const bool is_task = knit_registry_at(pool->registry, message->session.task) != NULL;
    struct knit_host_event event = {.kind = KNIT_HOST_CALL_DENIED,
        .lane = worker->lane,
        .session = message->session.session,
        .task = is_task ? message->session.task : KNIT_HOST_TASK_NONE};

    if (session == NULL || !session->is_foreign)
        return;
    event.uid = session->peer.uid;
    event.pid = session->peer.pid;
    knit_notices_add_event(&pool->notices, &event);
}

/* A message of a worker that serves. False: it does not belong to that step. */
static bool handle_serving(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    if (worker->step != KNIT_STEP_SERVING)
        return false;
    if (message->type == KNIT_CONTROL_ATTACHED || message->type == KNIT_CONTROL_DETACHED ||
        message->type == KNIT_CONTROL_EVICTED)
        handle_session(pool, worker, message);
    else if (message->type == KNIT_CONTROL_DENIED)
        handle_denied(pool, worker, message);
    else
        return false;
    return true;
}

static void handle_message(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    if (!knit_sentence_is_empty(&worker->refusal) || worker->step == KNIT_STEP_ENDED)
        return;
    if (!knit_startup_handle(pool, worker, message) && !handle_serving(pool, worker, message))
        knit_worker_refuse(worker, "it sent message %u out of turn", message->type);
}

static int read_report(struct knit_worker *worker, struct knit_control_message *ret_message)
{
    return worker->threads != NULL
               ? worker->threads->read_report(worker->thread, ret_message)
               : knit_control_read_report(worker->process.report_fd, ret_message);
}

/* Handles a bounded number of messages; epoll reports the rest. True: the other end is closed. */
static bool handle_all(struct knit_host *pool, struct knit_worker *worker)
{
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        struct knit_control_message message;
        int error = read_report(worker, &message);

        if (error == KNIT_CONTROL_E_AGAIN)
            return false;
        if (error == KNIT_CONTROL_E_CLOSED)
            return true;
        if (error == KNIT_CONTROL_E_VERSION)
            knit_worker_refuse(worker,
                "%s: is of another version than this program, which is of %s",
                pool->launch.worker_path, KNIT_VERSION);
        else if (error != 0)
            knit_worker_refuse(worker, "it sent what is no message");
        if (error < 0)
            return true;
        if (error != 0)
            continue;
        handle_message(pool, worker, &message);
    }
    return false;
}

/* ---- output of tasks ---- */

struct output_origin {
    struct knit_host *pool;
    struct knit_worker *worker;
    struct knit_host_event from;
};

/* Of what is read now: the task that the worker runs, or ran last. */
static struct knit_host_event output_from(struct knit_host *pool, const struct knit_worker *worker)
{
    struct knit_host_event from = {
        .lane = worker->lane, .pid = worker->process.pid, .task = KNIT_HOST_TASK_NONE};
    uint64_t calls = worker->up_since_ns != 0 ? knit_board_calls(&pool->board, worker->lane) : 0;

    if (calls != 0 && calls != worker->calls_before) {
        from.task = knit_board_task(&pool->board, worker->lane);
        from.call = calls;
        knit_watch_describe(pool, worker, &from);
    }
    return from;
}

static void on_line(void *arg, const char *line, size_t len, size_t cut)
{
    const struct output_origin *origin = arg;

    knit_notices_add_line(&origin->pool->notices, &origin->from, line, len, cut);
    origin->worker->output_due_ns = 0;
}

void knit_supervisor_end_line(struct knit_host *pool, struct knit_worker *worker)
{
    struct output_origin origin = {pool, worker, worker->output_from};

    knit_output_end(&worker->output, on_line, &origin);
}

/* Reads at most bytes_max and lines_max, so that a worker that prints without end delays no other:
 * each has its own share of a turn. True: there is nothing more to come. */
static bool read_output(struct knit_host *pool, struct knit_worker *worker, int fd,
    size_t bytes_max, uint32_t lines_max)
{
    const uint32_t before = pool->notices.lines;
    char bytes[8192];

    while (bytes_max > 0 && pool->notices.lines - before < lines_max) {
        struct output_origin origin = {pool, worker, output_from(pool, worker)};
        /* As if each byte were a line. */
        size_t room = lines_max - (pool->notices.lines - before);
        ssize_t got = read(fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 || errno != EAGAIN;
        knit_output_feed(&worker->output, bytes, (size_t)got, on_line, &origin);
        if (worker->output.len > 0 && worker->output_due_ns == 0) {
            worker->output_due_ns = knit_clock_ns() + KNIT_HOST_LINE_NS;
            worker->output_from = origin.from;
        }
        bytes_max -= (size_t)got < bytes_max ? (size_t)got : bytes_max;
    }
    return false;
}

/* Of a worker that has ended: what its pipes hold is all there is. */
static void read_last_output(struct knit_host *pool, struct knit_worker *worker)
{
    const int pipes[] = {worker->process.output_fd, worker->process.capture_fd};

    for (int i = 0; i < 2; i++) {
        int left = 0;

        if (pipes[i] < 0 || read_output(pool, worker, pipes[i], OUTPUT_BYTES_LAST, UINT32_MAX))
            continue;
        /* What processes print that it has left. */
        if (ioctl(pipes[i], FIONREAD, &left) == 0)
            pool->notices.dropped_bytes += (uint64_t)left;
    }
    knit_supervisor_end_line(pool, worker);
    knit_worker_close_fd(pool, &worker->process.output_fd);
}

static void handle_output(struct knit_host *pool, struct knit_worker *worker)
{
    int fd = worker->process.output_fd;

    if (fd >= 0 && read_output(pool, worker, fd, OUTPUT_BYTES_A_TURN, OUTPUT_LINES_A_TURN)) {
        knit_supervisor_end_line(pool, worker);
        knit_worker_close_fd(pool, &worker->process.output_fd);
    }
}

/* ---- events ---- */

void knit_supervisor_start(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    if (knit_worker_start(pool, worker, now_ns))
        return;
    if (worker->step != KNIT_STEP_NONE) {
        knit_worker_kill(worker);
        (void)knit_death_reap(worker, true, now_ns);
    }
    knit_death_finalize(pool, worker, now_ns);
}

void knit_supervisor_end(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns)
{
    /* Messages that it has sent come first: after the reap handle_message() ignores all. */
    bool is_closed = handle_all(pool, worker);

    /* While a debugger traces the zombie it cannot be reaped, and its pidfd stays readable: a timer
     * tries again instead of epoll. */
    knit_worker_drop_interest(pool,
        worker->threads != NULL ? worker->threads->fd(worker->thread) : worker->process.pid_fd);
    worker->reap_at_ns = 0;
    if (!knit_death_reap(worker, false, now_ns)) {
        worker->reap_at_ns = now_ns + REAP_RETRY_NS;
        return;
    }
    read_last_output(pool, worker);
    if (is_closed || !pool->launch.has_prefix || handle_all(pool, worker))
        knit_death_finalize(pool, worker, now_ns);
}

void knit_supervisor_event(struct knit_host *pool, uint64_t data)
{
    enum knit_source source = (enum knit_source)(data >> 56);
    uint32_t lane = (uint32_t)(data >> 32) & 0xffffff;
    struct knit_worker *worker = &pool->workers[lane];
    uint64_t now_ns = knit_clock_ns();

    if (worker->serial != (uint32_t)data || worker->step == KNIT_STEP_NONE)
        return;
    if (source == KNIT_SOURCE_OUTPUT) {
        handle_output(pool, worker);
    } else if (source == KNIT_SOURCE_PID) {
        knit_supervisor_end(pool, worker, now_ns);
    } else if (source == KNIT_SOURCE_ROOM) {
        knit_worker_flush(pool, worker);
    } else if (source == KNIT_SOURCE_REPORT && handle_all(pool, worker)) {
        if (worker->threads != NULL) {
            knit_supervisor_end(pool, worker, now_ns);
        } else if (worker->step == KNIT_STEP_ENDED) {
            knit_death_finalize(pool, worker, now_ns);
        } else {
            /* Usually its process ends now. A worker that has only closed the pipe is killed. */
            knit_worker_drop_interest(pool, worker->process.report_fd);
            worker->has_closed_control = true;
            if (worker->kill_at_ns == 0 || worker->kill_at_ns > now_ns + CLOSED_NS)
                worker->kill_at_ns = now_ns + CLOSED_NS;
        }
    }
}
