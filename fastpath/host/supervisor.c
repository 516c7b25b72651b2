/* SPDX-License-Identifier: Apache-2.0 */
/* Workers while they live: start them, hear them, tell them things, hand on what they print.
 *
 * A worker goes through the steps of enum knit_worker_step by its own messages; a message that
 * does not belong to its step, like anything else it does wrong, ends it: `why` is set, its group
 * is killed, and all the rest happens where its process ends (death.c). So there is one way out.
 *
 * epoll's data is source | lane | serial of the process: an event that was fetched before a worker
 * was replaced does not reach its successor.
 */
#include "fastpath/host/host.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/control/control.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"

#define OUTPUT_BYTES_A_TURN 65536u
#define OUTPUT_BYTES_LAST   (1u << 20) /* of a worker that is dead: more than a pipe holds */
#define MESSAGES_A_TURN     256
#define CLOSED_NS           1000000000u  /* a worker may live so long without a control socket */
#define DAMAGE_FORGOTTEN_NS 20000000000u /* longer than a replacement is ever kept back */
#define LATER_NS            10000000u    /* until it tries again what the kernel could not do */

static uint64_t epoll_data(enum knit_source source, const struct knit_worker *worker)
{
    return (uint64_t)source << 56 | (uint64_t)worker->lane << 32 | worker->serial;
}

static int watch(struct knit_pool *pool, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void knit_supervisor_kill(struct knit_worker *worker)
{
    if (worker->step == KNIT_STEP_NONE || worker->step == KNIT_STEP_ENDED)
        return;
    worker->was_killed = true;
    /* The group first: it is there as long as its leader is not reaped. */
    (void)kill(-worker->process.pid, SIGKILL);
    (void)kill(worker->process.pid, SIGKILL);
}

void knit_supervisor_refuse(struct knit_worker *worker, const char *format, ...)
{
    va_list args;

    if (!knit_sentence_is_empty(&worker->refusal) || worker->step == KNIT_STEP_ENDED)
        return;
    va_start(args, format);
    (void)vsnprintf(worker->refusal.text, sizeof(worker->refusal.text), format, args);
    va_end(args);
    knit_supervisor_kill(worker);
}

/* ---- starting ---- */

static void unwatch(const struct knit_pool *pool, int fd)
{
    if (fd >= 0)
        (void)epoll_ctl(pool->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* A program that forks leaves copies of its descriptors to its children, and what is closed only
 * here stays in the epoll and is readable for ever. */
static void close_watched(const struct knit_pool *pool, int *fd)
{
    unwatch(pool, *fd);
    knit_fd_close(fd);
}

void knit_supervisor_fini(struct knit_pool *pool, struct knit_worker *worker)
{
    close_watched(pool, &worker->process.pid_fd);
    close_watched(pool, &worker->process.control_fd);
    close_watched(pool, &worker->process.output_fd);
    worker->process.pid = 0;
    worker->owner = 0;
    worker->kill_at_ns = worker->finalize_at_ns = 0;
    worker->step = KNIT_STEP_NONE;
}

void knit_supervisor_start(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns)
{
    struct knit_spawn_options options = {
        .argv = pool->argv, .environment = pool->options.environment};
    int error;

    worker->serial = ++pool->next_serial;
    worker->is_stopping = worker->is_stop_sent = worker->wants_write = worker->was_killed = false;
    worker->is_confined = worker->has_closed = false;
    worker->owner = 0;
    worker->signal = worker->status = 0;
    worker->hard_session = 0;
    worker->hard_again_ns = 0;
    worker->restart_at_ns = worker->finalize_at_ns = worker->flush_again_ns = 0;
    worker->reap_at_ns = worker->halt_ns = 0;
    worker->refusal.text[0] = '\0';
    (void)knit_sentence_say(&worker->start_step, 0, "starting %s", pool->argv[0]);
    memset(worker->links, KNIT_LINK_NONE, sizeof(worker->links));
    knit_output_init(&worker->output);
    error = knit_spawn(&options, &worker->process);
    KNIT_FAULT(SUPERVISOR_AFTER_SPAWN);
    if (error == 0) {
        worker->step = KNIT_STEP_HELLO;
        worker->kill_at_ns = now_ns + (uint64_t)pool->options.startup_ms * 1000000u;
        error = watch(pool, worker->process.pid_fd, EPOLLIN, epoll_data(KNIT_SOURCE_PID, worker));
    }
    if (error == 0)
        error = watch(
            pool, worker->process.control_fd, EPOLLIN, epoll_data(KNIT_SOURCE_CONTROL, worker));
    if (error == 0)
        error =
            watch(pool, worker->process.output_fd, EPOLLIN, epoll_data(KNIT_SOURCE_OUTPUT, worker));
    if (error == 0)
        return;
    (void)knit_sentence_say(&worker->refusal, 0, "no process can be started: %s", strerror(-error));
    if (worker->step != KNIT_STEP_NONE) {
        knit_supervisor_kill(worker);
        (void)knit_death_reap(worker, true, now_ns);
    }
    knit_death_finalize(pool, worker, now_ns);
}

static int memfd_of(const char *name, const void *bytes, size_t len)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd >= 0 && pwrite(fd, bytes, len, 0) != (ssize_t)len) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Start-up messages are sent blocking: the socket of a worker that has read nothing yet has room.
 * */
static void queue_event(
    struct knit_worker *worker, const struct knit_control_message *message, const int *fds)
{
    int error = knit_control_send(worker->process.control_fd, message, fds, false);

    if (error == KNIT_CONTROL_E_LATER)
        knit_supervisor_refuse(
            worker, "the system is short of memory or of descriptors on their way to processes");
    else if (error != 0)
        knit_supervisor_refuse(worker, "it does not listen while %s", worker->start_step.text);
}

static void handle_hello(
    struct knit_pool *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    struct knit_control_message start;
    int fd;

    if (message->hello.error != 0) {
        knit_supervisor_refuse(
            worker, "%s: cannot be run: %s", pool->argv[0], strerror(message->hello.error));
        return;
    }
    if (strcmp(message->text, KNIT_VERSION) != 0) {
        knit_supervisor_refuse(worker, "%s: is of version %.64s, this program of %s",
            pool->options.worker_path, message->text, KNIT_VERSION);
        return;
    }
    if (message->hello.layout_version != KNIT_LAYOUT_VERSION) {
        knit_supervisor_refuse(worker,
            "%s: is of another version of %s than this program: its memory has layout %u, not %u",
            pool->options.worker_path, KNIT_VERSION, message->hello.layout_version,
            KNIT_LAYOUT_VERSION);
        return;
    }
    fd = memfd_of("knit-start", pool->start_text, pool->start_bytes);
    if (fd < 0) {
        knit_supervisor_refuse(worker, "out of memory");
        return;
    }
    knit_control_init(&start, KNIT_CONTROL_START);
    start.start.lane = worker->lane;
    start.start.lanes = pool->options.workers;
    start.start.text_bytes = (uint32_t)pool->start_bytes;
    start.start.modules = pool->options.module_count;
    start.start.read_paths = pool->read_paths;
    start.start.write_paths = pool->write_paths;
    start.start.rules = pool->options.confinement.rules;
    queue_event(worker, &start, &fd);
    KNIT_FAULT(SUPERVISOR_AFTER_START);
    (void)close(fd);
    worker->step = KNIT_STEP_REGISTRY;
}

/* What it says cannot be checked, but it is said before any module is in that process. */
static void handle_confined(
    struct knit_pool *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_UNCONFINED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .task = KNIT_POOL_TASK_NONE,
        .text = message->text};

    if (message->confined.profile != pool->options.confinement.rules.profile) {
        knit_supervisor_refuse(worker, "it is confined in another way than it was told");
        return;
    }
    worker->is_confined = true;
    pool->confinement = message->confined;
    if (message->text[0] != '\0' && !pool->unconfined_reported)
        knit_notices_add_event(&pool->notices, &event);
    pool->unconfined_reported = pool->unconfined_reported || message->text[0] != '\0';
}

/* The announcement's bytes. False: they cannot be had. */
static bool read_registry(struct knit_worker *worker, uint32_t len, int fd, struct knit_buffer *ret)
{
    uint8_t *bytes;

    knit_buffer_init(ret, KNIT_REGISTRY_BYTES_MAX);
    bytes = len != 0 ? knit_buffer_reserve(ret, len) : NULL;
    if (bytes == NULL || pread(fd, bytes, len, 0) != (ssize_t)len) {
        knit_buffer_fini(ret);
        knit_supervisor_refuse(worker, "its list of tasks cannot be read");
        return false;
    }
    ret->len = len;
    return true;
}

static void note_limits(struct knit_pool *pool, struct knit_worker *worker)
{
    uint32_t least = pool->options.hard_timeout_ms;

    for (uint32_t id = 0; id < knit_registry_count(pool->registry); id++) {
        uint32_t own = knit_registry_at(pool->registry, id)->hard_timeout_ms;

        if (own != 0 && (least == 0 || own < least))
            least = own;
    }
    pool->hard_least_ms = least;
    pool->task_deaths = calloc(knit_registry_count(pool->registry), 1);
    if (pool->task_deaths == NULL)
        knit_supervisor_refuse(worker, "out of memory");
}

static void serve(struct knit_pool *pool, struct knit_worker *worker)
{
    struct knit_control_message message;
    int fds[2] = {pool->board_fd, pool->pool_fd};

    worker->owner = pool->next_owner++;
    if (pool->next_owner > KNIT_OWNER_MAX)
        pool->next_owner = KNIT_OWNER_HOST + 1;
    worker->calls_before = knit_board_calls(&pool->board, worker->lane);
    knit_control_init(&message, KNIT_CONTROL_SERVE);
    message.serve = (struct knit_control_serve){.owner = worker->owner,
        .steal = pool->options.steal,
        .spin_us = pool->options.spin_us,
        .pause_ns = pool->options.pause_ns,
        .park_ms = pool->options.park_ms,
        .hard_timeout_ms = pool->options.hard_timeout_ms,
        .result_max_bytes = pool->options.call_max_bytes};
    queue_event(worker, &message, fds);
    KNIT_FAULT(SUPERVISOR_AFTER_SERVE);
    worker->step = KNIT_STEP_READY;
}

/* The first worker's registry is the pool's; all others must say the same. */
static void handle_registry(
    struct knit_pool *pool, struct knit_worker *worker, uint32_t len, int fd)
{
    struct knit_buffer said;
    int error;

    if (!read_registry(worker, len, fd, &said))
        return;
    if (pool->registry == NULL) {
        error = knit_registry_parse(knit_buffer_span(&said), &pool->registry);
        if (error != 0) {
            knit_buffer_fini(&said);
            knit_supervisor_refuse(worker, "its list of tasks is damaged");
            return;
        }
        pool->announcement = said;
        note_limits(pool, worker);
        if (knit_sentence_is_empty(&worker->refusal))
            serve(pool, worker);
        return;
    }
    if (said.len != pool->announcement.len ||
        memcmp(said.bytes, pool->announcement.bytes, said.len) != 0)
        knit_supervisor_refuse(
            worker, "it has other tasks than the workers before it: a module was changed");
    knit_buffer_fini(&said);
    if (knit_sentence_is_empty(&worker->refusal))
        serve(pool, worker);
}

static void handle_ready(struct knit_pool *pool, struct knit_worker *worker)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_WORKER_STARTED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .again = worker->is_again,
        .task = KNIT_POOL_TASK_NONE};

    KNIT_FAULT(SUPERVISOR_AFTER_READY);
    worker->step = KNIT_STEP_SERVING;
    worker->kill_at_ns = 0;
    worker->up_since_ns = knit_clock_ns();
    worker->is_again = true;
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && session->is_published && !session->is_closing &&
            !session->is_evicted)
            worker->links[i] = KNIT_LINK_ATTACH_DUE;
    }
    knit_notices_add_event(&pool->notices, &event);
    if (pool->phase >= KNIT_PHASE_STOPPING)
        knit_supervisor_stop(pool, worker, pool->deadline_ns);
    knit_supervisor_flush(pool, worker);
}

/* ---- telling a worker that serves ---- */

/* Arguments of these are read where they lie. Root and the host's own uid could attach a debugger
 * to a worker anyway, so a copy would protect against nothing but accidents. */
static bool is_trusted(const struct knit_host_session *session)
{
    return !session->is_foreign || session->peer.uid == 0 || session->peer.uid == geteuid();
}

/* Returns knit_control_send()'s. */
static int send_attach(
    struct knit_pool *pool, struct knit_worker *worker, const struct knit_host_session *session)
{
    struct knit_control_message message;
    int fds[3] = {session->request_fd, session->reply_fd, -1};
    int error = knit_host_session_bell(session, &fds[2]);

    if (error != 0)
        return KNIT_CONTROL_E_LATER;
    knit_control_init(&message, KNIT_CONTROL_ATTACH);
    message.attach = (struct knit_control_attach){.session = session->id,
        .geometry = session->view.geometry,
        .reply_budget_bytes = pool->options.reply_budget_bytes,
        .is_trusted = is_trusted(session),
        .bell_is_pipe = session->view.bell_is_pipe};
    error = knit_control_send(worker->process.control_fd, &message, fds, false);
    knit_host_session_bell_end(session, fds[2]);
    return error;
}

static int send_links(struct knit_pool *pool, struct knit_worker *worker)
{
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        struct knit_control_message message;
        int error = 0;

        if (worker->links[i] == KNIT_LINK_ATTACH_DUE) {
            error = send_attach(pool, worker, pool->sessions[i]);
            KNIT_FAULT(SUPERVISOR_AFTER_ATTACH);
            if (error == 0)
                worker->links[i] = KNIT_LINK_ATTACH_SENT;
        } else if (worker->links[i] == KNIT_LINK_DETACH_DUE) {
            knit_control_init(&message, KNIT_CONTROL_DETACH);
            message.session.session = pool->sessions[i]->id;
            error = knit_control_send(worker->process.control_fd, &message, NULL, false);
            if (error == 0)
                worker->links[i] = KNIT_LINK_DETACH_SENT;
        }
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
    knit_control_init(&message, KNIT_CONTROL_STOP);
    error = knit_control_send(worker->process.control_fd, &message, NULL, false);
    worker->is_stop_sent = error == 0;
    return error;
}

static void want_write(struct knit_pool *pool, struct knit_worker *worker, bool wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u),
        .data.u64 = epoll_data(KNIT_SOURCE_CONTROL, worker)};

    if (worker->wants_write != wanted)
        (void)epoll_ctl(pool->epoll_fd, EPOLL_CTL_MOD, worker->process.control_fd, &event);
    worker->wants_write = wanted;
}

void knit_supervisor_flush(struct knit_pool *pool, struct knit_worker *worker)
{
    int error;

    if (worker->step != KNIT_STEP_SERVING)
        return;
    error = send_links(pool, worker);
    if (error == 0)
        error = send_stop(worker);
    want_write(pool, worker, error == KNIT_CONTROL_E_AGAIN);
    worker->flush_again_ns = error == KNIT_CONTROL_E_LATER ? knit_clock_ns() + LATER_NS : 0;
    /* GONE: its end is near. */
    if (error < 0)
        knit_supervisor_refuse(worker, "its control socket failed: %s", strerror(-error));
}

void knit_supervisor_stop(struct knit_pool *pool, struct knit_worker *worker, uint64_t kill_at_ns)
{
    if (worker->step == KNIT_STEP_NONE || worker->step == KNIT_STEP_ENDED)
        return;
    if (worker->step != KNIT_STEP_SERVING) {
        /* Still loading: there is nothing to wait for. */
        worker->is_stopping = true;
        knit_supervisor_kill(worker);
        return;
    }
    if (!worker->is_stopping || kill_at_ns < worker->kill_at_ns)
        worker->kill_at_ns = kill_at_ns;
    worker->is_stopping = true;
    knit_supervisor_flush(pool, worker);
}

/* ---- hearing ---- */

/* It is told to leave after the call that it runs; one that runs for long is not waited for. */
static void replace(struct knit_pool *pool, struct knit_worker *worker, int error)
{
    if (worker->is_stopping || !knit_sentence_is_empty(&worker->refusal))
        return;
    (void)knit_sentence_say(&worker->refusal, 0, "it cannot attach a session: %s", strerror(error));
    knit_supervisor_stop(
        pool, worker, knit_clock_ns() + (uint64_t)pool->options.stop_ms * 1000000u);
}

/* Of the host's own session nothing can be wrong, but what a task of some worker wrote into it, or
 * into its own worker's memory. So this worker is replaced; and when its replacement finds it too,
 * all that will come would, and the host is told. A replacement finds it within moments, or within
 * seconds when it is kept back; what was found long ago was that worker's alone. */
static void handle_damage(struct knit_pool *pool, struct knit_worker *worker,
    struct knit_host_session *session, const char *text)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_SESSION_DAMAGED,
        .session = session->id,
        .task = KNIT_POOL_TASK_NONE,
        .text = text};
    const uint64_t now_ns = knit_clock_ns();

    knit_supervisor_refuse(worker, "it finds a session of the pool itself damaged: %s", text);
    if (session->damaged_serial == 0 || now_ns - session->damaged_ns > DAMAGE_FORGOTTEN_NS)
        session->damaged_serial = pool->next_serial + 1;
    session->damaged_ns = now_ns;
    if (worker->serial < session->damaged_serial || session->is_damaged)
        return;
    session->is_damaged = true;
    knit_notices_add_event(&pool->notices, &event);
}

static void handle_session(
    struct knit_pool *pool, struct knit_worker *worker, const struct knit_control_message *message)
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
        /* The host made it, so nothing is wrong with it: it is this worker that lacks something,
         * and the next one may have it. */
        replace(pool, worker, message->session.error);
        knit_host_session_unlink(pool, worker, session->index);
    } else if (worker->links[session->index] == KNIT_LINK_ATTACH_SENT) {
        worker->links[session->index] = KNIT_LINK_ATTACHED;
    }
}

/* A message of a worker that has started. False: it does not belong here. */
static bool handle_serving(
    struct knit_pool *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    if (worker->step != KNIT_STEP_SERVING)
        return false;
    if (message->type == KNIT_CONTROL_ATTACHED || message->type == KNIT_CONTROL_DETACHED ||
        message->type == KNIT_CONTROL_EVICTED)
        handle_session(pool, worker, message);
    else
        return false;
    return true;
}

static void hear(struct knit_pool *pool, struct knit_worker *worker,
    const struct knit_control_message *message, const int *fds)
{
    bool is_starting = worker->step == KNIT_STEP_REGISTRY || worker->step == KNIT_STEP_READY;

    if (!knit_sentence_is_empty(&worker->refusal) || worker->step == KNIT_STEP_ENDED)
        return;
    if (message->type == KNIT_CONTROL_HELLO && worker->step == KNIT_STEP_HELLO)
        handle_hello(pool, worker, message);
    else if (message->type == KNIT_CONTROL_LOADING && is_starting)
        (void)knit_sentence_say(&worker->start_step, 0, "%s", message->text);
    else if (message->type == KNIT_CONTROL_FAILED && is_starting)
        knit_supervisor_refuse(worker, "%s", message->text);
    else if (message->type == KNIT_CONTROL_CONFINED && worker->step == KNIT_STEP_REGISTRY &&
             !worker->is_confined)
        handle_confined(pool, worker, message);
    else if (message->type == KNIT_CONTROL_REGISTRY && worker->step == KNIT_STEP_REGISTRY &&
             worker->is_confined)
        handle_registry(pool, worker, message->registry.bytes, fds[0]);
    else if (message->type == KNIT_CONTROL_READY && worker->step == KNIT_STEP_READY)
        handle_ready(pool, worker);
    else if (!handle_serving(pool, worker, message))
        knit_supervisor_refuse(worker, "it sent message %u out of turn", message->type);
}

/* What is there, up to a bound: epoll tells of the rest. True: the other end is closed. */
static bool handle_all(struct knit_pool *pool, struct knit_worker *worker)
{
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        struct knit_control_message message;
        int fds[KNIT_CONTROL_FDS_MAX];
        int error = knit_control_receive(worker->process.control_fd, &message, fds, false);

        if (error == KNIT_CONTROL_E_AGAIN)
            return false;
        if (error == KNIT_CONTROL_E_GONE)
            return true;
        if (error == KNIT_CONTROL_E_VERSION)
            knit_supervisor_refuse(worker,
                "%s: is of another version than this program, which is of %s",
                pool->options.worker_path, KNIT_VERSION);
        else if (error == KNIT_CONTROL_E_NO_FDS)
            knit_supervisor_refuse(worker, "the pool has no descriptor left for what it sent");
        else if (error != 0)
            knit_supervisor_refuse(worker, "it sent what is no message");
        if (error < 0)
            return true;
        if (error != 0)
            continue;
        hear(pool, worker, &message, fds);
        for (uint32_t j = 0; j < KNIT_CONTROL_FDS_MAX; j++)
            knit_fd_close(&fds[j]);
    }
    return false;
}

/* ---- what tasks print ---- */

struct printing {
    struct knit_pool *pool;
    struct knit_pool_event whose;
};

static void on_line(void *arg, const char *line, size_t len, bool truncated)
{
    struct printing *printing = arg;

    knit_notices_add_line(&printing->pool->notices, &printing->whose, line, len, truncated);
}

/* At most so many bytes, so that a worker that prints without end does not hold up the others.
 * Last: there is no worker behind it any more, only what is left in the pipe. */
static void handle_output(
    struct knit_pool *pool, struct knit_worker *worker, size_t most, bool is_last)
{
    struct printing printing = {
        pool, {.lane = worker->lane, .pid = worker->process.pid, .task = KNIT_POOL_TASK_NONE}};
    char bytes[8192];

    while (worker->process.output_fd >= 0 && most > 0) {
        ssize_t got = read(worker->process.output_fd, bytes, sizeof(bytes));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            is_last = true;
            break;
        }
        knit_output_feed(&worker->output, bytes, (size_t)got, on_line, &printing);
        most -= (size_t)got < most ? (size_t)got : most;
    }
    if (is_last) {
        knit_output_end(&worker->output, on_line, &printing);
        close_watched(pool, &worker->process.output_fd);
    }
}

/* ---- events ---- */

void knit_supervisor_end(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns)
{
    /* Its last words first: of a process that was reaped nothing is believed. */
    bool is_closed = handle_all(pool, worker);

    /* Whoever runs a debugger on it may take his time; its descriptor stays readable meanwhile. */
    unwatch(pool, worker->process.pid_fd);
    worker->reap_at_ns = 0;
    if (!knit_death_reap(worker, false, now_ns)) {
        worker->reap_at_ns = now_ns + LATER_NS;
        return;
    }
    handle_output(pool, worker, OUTPUT_BYTES_LAST, true);
    if (is_closed || !pool->has_prefix || handle_all(pool, worker))
        knit_death_finalize(pool, worker, now_ns);
}

void knit_supervisor_event(struct knit_pool *pool, uint64_t data, uint32_t events)
{
    enum knit_source source = (enum knit_source)(data >> 56);
    uint32_t lane = (uint32_t)(data >> 32) & 0xffffff;
    struct knit_worker *worker = &pool->workers[lane];
    uint64_t now_ns = knit_clock_ns();

    if (worker->serial != (uint32_t)data || worker->step == KNIT_STEP_NONE)
        return;
    if (source == KNIT_SOURCE_OUTPUT) {
        handle_output(pool, worker, OUTPUT_BYTES_A_TURN, false);
    } else if (source == KNIT_SOURCE_PID) {
        knit_supervisor_end(pool, worker, now_ns);
    } else if (source == KNIT_SOURCE_CONTROL) {
        bool is_closed =
            (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && handle_all(pool, worker);

        if (is_closed && worker->step == KNIT_STEP_ENDED) {
            knit_death_finalize(pool, worker, now_ns);
        } else if (is_closed) {
            /* It is ending, and its process will be next; a worker that merely closed it is ended.
             * */
            unwatch(pool, worker->process.control_fd);
            worker->has_closed = true;
            if (worker->kill_at_ns == 0 || worker->kill_at_ns > now_ns + CLOSED_NS)
                worker->kill_at_ns = now_ns + CLOSED_NS;
        } else if ((events & EPOLLOUT) != 0) {
            knit_supervisor_flush(pool, worker);
        }
    }
}
