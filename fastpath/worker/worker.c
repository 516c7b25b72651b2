/* SPDX-License-Identifier: Apache-2.0 */
/* The program knitting-worker: loads modules, then serves one lane until it is told to stop.
 *
 * It is started by a pool's supervisor and exchanges messages with it over descriptor
 * KNIT_CONTROL_FD (control.h). The start is sequential: hello, confine, load, bootstrap, announce,
 * serve. Then there are two threads. The main one runs turns of the lane, and with them the tasks.
 * The other one serves the control socket, so that a session can be attached while a task runs for
 * minutes. It uses only the functions that lane.h allows a second thread, and it blocks all
 * signals, so that handlers which tasks install run on the thread that runs tasks.
 *
 * A mapping belongs to the lane from attach to on_detached; then it is unmapped and the host gets a
 * message. When the host is gone, the worker ends itself and its process group, also during a task:
 * by the control thread, or by the kernel as long as there is no such thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/confine/confine.h"
#include "fastpath/control/control.h"
#include "fastpath/control/image.h"
#include "fastpath/control/kin.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/segment.h"
#include "fastpath/worker/capture.h"
#include "fastpath/worker/deferred.h"
#include "fastpath/worker/fatal.h"
#include "fastpath/worker/leftovers.h"
#include "fastpath/worker/module.h"
#include "fastpath/worker/runner.h"
#include "fastpath/worker/serve.h"
#include "fastpath/worker/task_api.h"

#define START_BYTES_MAX (16u << 20)
#define DENIED_A_SECOND 4u

#ifdef __SANITIZE_ADDRESS__
/* A task's crash must end the worker by its signal in a build with AddressSanitizer too. Its
 * options come from here because a worker's environment is not that of the daemon. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_abort=0";
}
#endif

struct attached {
    uint64_t id; /* 0 = free */
    struct knit_mapping request;
    struct knit_mapping reply;
    int bell_fd;
};

struct worker {
    uint32_t index;
    uint32_t lanes;
    int start_fd; /* START's file, in which the tasks are announced */
    char *start_text;
    const char **paths; /* modules, how each is loaded, paths to read, to write; each row
                           NULL-ended */
    struct knit_module_copy *copies; /* of the modules */
    struct knit_modules *modules;
    struct knit_serve serve;
    struct knit_mapping board, pool, rights_map;
    struct knit_rights_view rights;
    int host_fd;    /* a pidfd of the host */
    int wait_error; /* with which futex_waitv is refused; 0 = it is not */
    uint32_t owner;
    struct knit_note_line *note; /* in the pool segment */
    struct knit_busy_line *busy; /* on the board */
    pthread_mutex_t mutex;       /* guards attached */
    struct attached attached[KNIT_LANE_SESSIONS_MAX];
    uint64_t denied_second; /* the last one in which a call was denied, */
    uint32_t denied_said;   /* and how many were then */
};

/* Its own, by which it finds what left its process group; "" = none can. */
static char own_mark[KNIT_KIN_MARK_SIZE];

/* ---- messages to the host ---- */

static _Noreturn void leave(void)
{
    if (own_mark[0] != '\0')
        knit_kin_kill(own_mark);
    /* The group holds this process and the children that tasks started. */
    if (getpgrp() == getpid())
        (void)kill(0, SIGKILL);
    _exit(0);
}

static void send_message(const struct knit_control_message *message)
{
    if (knit_control_report(KNIT_CONTROL_REPORT_FD, message) != 0)
        leave();
}

static void send_text(enum knit_control_type type, const char *text)
{
    struct knit_control_message message;

    knit_control_init(&message, type);
    (void)snprintf(message.text, sizeof(message.text), "%s", text);
    send_message(&message);
}

__attribute__((format(printf, 1, 2))) static _Noreturn void give_up(const char *format, ...)
{
    char text[KNIT_CONTROL_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    send_text(KNIT_CONTROL_FAILED, text);
    exit(1);
}

static void on_step(void *arg, const char *text)
{
    (void)arg;
    send_text(KNIT_CONTROL_LOADING, text);
}

static void send_session(enum knit_control_type type, uint64_t id, int error, const char *text)
{
    struct knit_control_message message;

    knit_control_init(&message, type);
    message.session.session = id;
    message.session.error = error;
    (void)snprintf(message.text, sizeof(message.text), "%s", text);
    send_message(&message);
}

/* ---- starting ---- */

static void expect(
    enum knit_control_type type, struct knit_control_message *ret_message, int *ret_fds)
{
    int error = knit_control_receive(KNIT_CONTROL_FD, ret_message, ret_fds, true);

    if (error == KNIT_CONTROL_E_CLOSED)
        leave();
    if (error == KNIT_CONTROL_E_VERSION)
        give_up("the pool speaks another version than knitting-worker %s", KNIT_VERSION);
    if (error != 0 || ret_message->type != type)
        give_up("the pool sent what knitting-worker %s did not expect", KNIT_VERSION);
}

static void send_hello(void)
{
    struct knit_control_message message;

    knit_control_init(&message, KNIT_CONTROL_HELLO);
    message.hello.layout_version = KNIT_LAYOUT_VERSION;
    (void)snprintf(message.text, sizeof(message.text), "%s", KNIT_VERSION);
    send_message(&message);
}

/* The next `count` strings of the start text, with a NULL behind them. */
static const char **read_row(char **next, const char *end, const char **row, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (*next >= end)
            give_up("the start text is too short");
        *row++ = *next;
        *next += strlen(*next) + 1;
    }
    *row = NULL;
    return row + 1;
}

/* The modules' copies, which came with the process. */
static void take_copies(struct worker *worker, const char *const *how, uint32_t modules)
{
    worker->copies = calloc((size_t)modules + 1, sizeof(*worker->copies));
    if (worker->copies == NULL)
        give_up("out of memory");
    for (uint32_t i = 0; i < modules; i++) {
        int fd = KNIT_IMAGE_FD_FIRST + (int)i;

        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            give_up("the pool handed over no copy of %s", worker->paths[i]);
        worker->copies[i] =
            (struct knit_module_copy){.fd = fd, .is_frozen = strcmp(how[i], "copy") == 0};
    }
}

/* The start text: bootstrap text, paths of modules, how each is loaded, paths of the policy, each
 * with its NUL. */
static void read_start(struct worker *worker, const struct knit_control_start *start, int fd,
    struct knit_confine_policy *ret_policy)
{
    size_t bytes = start->text_bytes;
    size_t rows = 2 * (size_t)start->modules + start->read_paths + start->write_paths;
    const char **row, **how;
    char *next, *end;

    if (bytes == 0 || bytes > START_BYTES_MAX || rows > bytes)
        give_up("the pool sent a start text of %zu bytes", bytes);
    worker->start_text = malloc(bytes);
    worker->paths = calloc(rows + 4, sizeof(*worker->paths));
    if (worker->start_text == NULL || worker->paths == NULL)
        give_up("out of memory");
    if (pread(fd, worker->start_text, bytes, 0) != (ssize_t)bytes ||
        worker->start_text[bytes - 1] != '\0')
        give_up("the start text cannot be read");
    worker->start_fd = fd;
    end = worker->start_text + bytes;
    next = worker->start_text + strlen(worker->start_text) + 1;
    ret_policy->rules = start->rules;
    row = how = read_row(&next, end, worker->paths, start->modules);
    row = read_row(&next, end, row, start->modules);
    take_copies(worker, how, start->modules);
    ret_policy->read = row;
    row = read_row(&next, end, row, start->read_paths);
    ret_policy->write = row;
    (void)read_row(&next, end, row, start->write_paths);
}

/* Before any module is mapped, and while there is one thread. */
static void confine(struct worker *worker, const struct knit_confine_policy *policy)
{
    struct knit_control_message message;
    struct knit_sentence missing;
    int error;

    knit_control_init(&message, KNIT_CONTROL_CONFINED);
    error = knit_confine_apply(policy, worker->paths, &message.confined.force, &missing);
    if (error != 0)
        give_up("permission %s cannot be enforced: %s", knit_confine_name(policy->rules.profile),
            missing.text);
    (void)snprintf(message.text, sizeof(message.text), "%s", missing.text);
    worker->wait_error = message.confined.wait_error = knit_bell_why_not_many();
    send_message(&message);
}

static void limit_files(const struct knit_confine_rules *rules)
{
    struct knit_sentence why = {""};

    if (knit_confine_limit_files(rules, &why) != 0)
        give_up("%s", why.text);
}

static void load(struct worker *worker, uint32_t modules)
{
    struct knit_module_loading loading = {.paths = worker->paths,
        .copies = worker->copies,
        .count = modules,
        .epoch = KNIT_REGISTRY_EPOCH_FIRST,
        .api = knit_task_api(),
        .on_step = on_step};
    struct knit_bootstrap info = {
        .text = worker->start_text, .index = worker->index, .total = worker->lanes};
    struct knit_sentence why = {""};
    int error = knit_modules_load(&loading, &worker->modules, &why);

    for (uint32_t i = 0; i < modules; i++)
        (void)close(worker->copies[i].fd);
    if (error == 0)
        error = knit_modules_bootstrap(worker->modules, &info, &loading, &why);
    if (error > 0)
        give_up("%s", why.text);
    if (error < 0)
        give_up("the modules cannot be loaded: %s", strerror(-error));
}

static void announce(struct worker *worker)
{
    struct knit_control_message message;
    struct knit_buffer buffer;

    knit_buffer_init(&buffer, KNIT_REGISTRY_BYTES_MAX);
    if (knit_registry_put(knit_modules_registry(worker->modules), &buffer) != 0)
        give_up("the registry does not fit %u bytes", KNIT_REGISTRY_BYTES_MAX);
    for (size_t done = 0; done < buffer.len;) {
        ssize_t wrote =
            pwrite(worker->start_fd, buffer.bytes + done, buffer.len - done, (off_t)done);

        if (wrote <= 0)
            give_up("the registry cannot be announced: %s", strerror(errno));
        done += (size_t)wrote;
    }
    knit_control_init(&message, KNIT_CONTROL_REGISTRY);
    message.registry.bytes = (uint32_t)buffer.len;
    send_message(&message);
    (void)close(worker->start_fd);
    knit_buffer_fini(&buffer);
}

/* ---- sessions ---- */

static void release(struct attached *attached)
{
    knit_segment_unmap(&attached->request);
    knit_segment_unmap(&attached->reply);
    if (attached->bell_fd >= 0)
        (void)close(attached->bell_fd);
    attached->id = 0;
}

/* On either thread, when the lane uses no pointer into the session any more. */
static void on_detached(void *arg, uint64_t id)
{
    struct worker *worker = arg;

    /* Threads of deferred calls look at its memory. */
    knit_runner_close_session(worker->serve.runner, id);
    pthread_mutex_lock(&worker->mutex);
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++) {
        if (worker->attached[i].id == id)
            release(&worker->attached[i]);
    }
    pthread_mutex_unlock(&worker->mutex);
    send_session(KNIT_CONTROL_DETACHED, id, 0, "");
}

static void on_evict(void *arg, uint64_t id, const char *reason)
{
    (void)arg;
    send_session(KNIT_CONTROL_EVICTED, id, 0, reason);
}

/* As many lines of the log as a person can read; all are counted in the pool segment. */
static void on_denied(void *arg, uint64_t id, uint32_t task)
{
    struct worker *worker = arg;
    struct knit_control_message message;
    const uint64_t second = knit_clock_ns() / 1000000000;

    if (worker->denied_second != second)
        worker->denied_said = 0;
    worker->denied_second = second;
    if (worker->denied_said++ >= DENIED_A_SECOND)
        return;
    knit_control_init(&message, KNIT_CONTROL_DENIED);
    message.session.session = id;
    message.session.task = task;
    send_message(&message);
}

static int map_session(const struct worker *worker, const struct knit_control_attach *request,
    const int *fds, struct attached *attached, struct knit_lane_session *ret_session)
{
    int error;

    if (knit_geometry_check(&request->geometry) != NULL || request->session == 0 ||
        request->right > KNIT_RIGHTS_PLACES || request->weight > KNIT_RIGHTS_PLACES)
        return -EINVAL;
    error = knit_segment_map(
        fds[0], knit_layout_request_bytes(&request->geometry), false, &attached->request);
    if (error == 0)
        error = knit_segment_map(
            fds[1], knit_layout_reply_bytes(&request->geometry), true, &attached->reply);
    if (error != 0)
        return error < 0 ? error : -EINVAL;
    *ret_session = (struct knit_lane_session){.id = request->session,
        .geometry = request->geometry,
        .bell_fd = fds[2],
        .bell_is_pipe = request->bell_is_pipe != 0,
        .trusted = request->is_trusted != 0,
        .right = request->right != 0 ? &worker->rights.member[request->right - 1] : NULL,
        .flow = request->flow,
        .weight = request->weight != 0 ? &worker->rights.weight[request->weight - 1] : NULL,
        .reply_budget_bytes = request->reply_budget_bytes};
    knit_layout_request(&request->geometry, attached->request.base, &ret_session->request);
    knit_layout_reply(&request->geometry, attached->reply.base, &ret_session->reply);
    return 0;
}

static void attach(struct worker *worker, const struct knit_control_attach *request, const int *fds)
{
    struct attached attached = {.bell_fd = fds[2]};
    struct knit_lane_session session;
    struct attached *place = NULL;
    int error = map_session(worker, request, fds, &attached, &session);

    (void)close(fds[0]);
    (void)close(fds[1]);
    pthread_mutex_lock(&worker->mutex);
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX && place == NULL; i++) {
        if (worker->attached[i].id == 0)
            place = &worker->attached[i];
    }
    if (error == 0 && place == NULL)
        error = -ENOSPC;
    /* Entered first, because on_detached may be called as soon as the lane has the session. */
    if (error == 0) {
        attached.id = request->session;
        *place = attached;
    }
    pthread_mutex_unlock(&worker->mutex);
    if (error == 0) {
        error = knit_lane_attach(worker->serve.lane, &session);
        if (error != 0) {
            pthread_mutex_lock(&worker->mutex);
            release(place);
            pthread_mutex_unlock(&worker->mutex);
        }
    } else {
        release(&attached);
    }
    send_session(KNIT_CONTROL_ATTACHED, request->session, -error, "");
}

/* ---- the control thread ---- */

/* Waits until the host has sent something, and hands on what tasks print meanwhile. A child that
 * the host's program has forked holds the other end of the socket too, so the end of the host is
 * looked for beside it. */
static void await_control(int host_fd)
{
    struct pollfd files[] = {{.fd = KNIT_CONTROL_FD, .events = POLLIN},
        {.fd = KNIT_CONTROL_CAPTURE_READ_FD, .events = POLLIN}, {.fd = host_fd, .events = POLLIN}};

    do {
        files[0].revents = files[1].revents = files[2].revents = 0;
        /* Without poll() it waits in the reading alone. */
        if (poll(files, 3, -1) < 0 && errno != EINTR)
            return;
        if (files[1].revents != 0 && ((files[1].revents & POLLIN) == 0 || !knit_capture_read()))
            files[1].fd = -1;
        if (files[2].revents != 0)
            leave();
    } while (files[0].revents == 0);
}

static void *serve_control(void *arg)
{
    struct worker *worker = arg;

    for (;;) {
        struct knit_control_message message;
        int fds[KNIT_CONTROL_FDS_MAX];
        int error;

        await_control(worker->host_fd);
        error = knit_control_receive(KNIT_CONTROL_FD, &message, fds, true);

        if (error == KNIT_CONTROL_E_NO_FDS && message.type == KNIT_CONTROL_ATTACH) {
            /* A task has used all descriptors of this process. Its call goes on; the host handles
             * the failed attach. */
            send_session(KNIT_CONTROL_ATTACHED, message.attach.session, EMFILE, "");
            continue;
        }
        /* The host is gone, or broke the protocol. */
        if (error != 0)
            leave();
        switch ((enum knit_control_type)message.type) {
        case KNIT_CONTROL_ATTACH:
            attach(worker, &message.attach, fds);
            break;
        case KNIT_CONTROL_DETACH:
            /* The host keeps the session's memory until the answer. */
            if (knit_lane_detach(worker->serve.lane, message.session.session) != 0) {
                (void)fprintf(stderr, "knitting-worker: no memory to detach a session\n");
                leave();
            }
            break;
        case KNIT_CONTROL_STOP:
            knit_lane_stop(worker->serve.lane);
            break;
        case KNIT_CONTROL_HELLO:
        case KNIT_CONTROL_START:
        case KNIT_CONTROL_CONFINED:
        case KNIT_CONTROL_LOADING:
        case KNIT_CONTROL_REGISTRY:
        case KNIT_CONTROL_FAILED:
        case KNIT_CONTROL_SERVE:
        case KNIT_CONTROL_READY:
        case KNIT_CONTROL_ATTACHED:
        case KNIT_CONTROL_DETACHED:
        case KNIT_CONTROL_EVICTED:
        case KNIT_CONTROL_DENIED:
        case KNIT_CONTROL_TYPES:
        default:
            leave();
        }
    }
    return NULL;
}

static void start_control(struct worker *worker)
{
    pthread_t thread;
    sigset_t all, before;
    int error;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread, NULL, serve_control, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        give_up("no thread for the control socket: %s", strerror(error));
    (void)pthread_detach(thread);
}

/* ---- serving ---- */

static const struct knit_runner_capture capture = {knit_capture_begin, knit_capture_end};

static void prepare(struct worker *worker, const struct knit_control_serve *serve, const int *fds)
{
    struct knit_runner_options runner = {.modules = worker->modules,
        .result_max_bytes = serve->result_max_bytes,
        .hard_timeout_ms = serve->hard_timeout_ms,
        .leftovers = knit_leftovers_touched(),
        .undo_leftovers = knit_leftovers_undo,
        .capture = &capture,
        .deferred_max = serve->deferred_max,
        .abort_grace_ms = serve->abort_grace_ms,
        .output = stdout};
    struct knit_lane_options lane = {.index = worker->index,
        .lanes = worker->lanes,
        .owner = serve->owner,
        .steal = serve->steal != 0,
        .spin_us = serve->spin_us,
        .pause_ns = serve->pause_ns,
        .park_ms = serve->park_ms,
        .has_one_bell = worker->wait_error != 0,
        .result_max_bytes = serve->result_max_bytes,
        .argument_max_bytes = serve->result_max_bytes,
        .on_evict = on_evict,
        .on_denied = on_denied,
        .on_detached = on_detached,
        .event_arg = worker};

    const uint32_t tasks = knit_registry_count(knit_modules_registry(worker->modules));

    if (knit_segment_map(fds[0], knit_layout_board_bytes(worker->lanes), true, &worker->board) !=
            0 ||
        knit_segment_map(fds[1], knit_layout_pool_bytes(worker->lanes), true, &worker->pool) != 0 ||
        knit_segment_map(fds[3], knit_layout_rights_bytes(tasks), false, &worker->rights_map) != 0)
        give_up("the pool's memory cannot be mapped");
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(fds[3]);
    worker->host_fd = fds[2];
    knit_layout_rights(tasks, worker->rights_map.base, &worker->rights);
    lane.rights = worker->rights;
    knit_layout_board(worker->lanes, worker->board.base, &lane.board);
    knit_layout_pool(worker->lanes, worker->pool.base, &lane.pool);
    worker->busy = runner.busy = &lane.board.busy[worker->index];
    runner.pool = lane.pool;
    worker->note = lane.pool.note + worker->index;
    worker->owner = serve->owner;
    if (knit_serve_init(&worker->serve, &runner, &lane) != 0)
        give_up("out of memory");
}

/* A task ended the thread it ran on. The control thread would keep the process alive, and the lane
 * would look served although no thread runs its turns. */
static void on_thread_end(void *unused)
{
    (void)unused;
    (void)fprintf(stderr, "knitting-worker: a task ended its worker's thread\n");
    _exit(EXIT_FAILURE);
}

static void serve(struct worker *worker)
{
    knit_fatal_begin(worker->note, worker->busy, worker->owner);
    knit_leftovers_begin();
    knit_serve_run(&worker->serve, on_thread_end, NULL);
    if (!knit_lane_is_retiring(worker->serve.lane))
        return;
    /* Threads of the module go on, so nothing of the process is taken down under them. */
    (void)fprintf(stderr, "knitting-worker: leaves, since a deferred call did not end in time\n");
    _exit(0);
}

/* False: the descriptor is no control socket, so the program was started by hand. */
static bool take_control(void)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return getsockopt(KNIT_CONTROL_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
           type == SOCK_SEQPACKET && fcntl(KNIT_CONTROL_FD, F_SETFD, FD_CLOEXEC) == 0 &&
           fcntl(KNIT_CONTROL_REPORT_FD, F_SETFD, FD_CLOEXEC) == 0;
}

static void on_disregarded(int number)
{
    (void)number;
}

/* A service manager signals all processes of a service, and a terminal its whole job: the host
 * drains, and its workers leave when it says so. A file that reaches the limit of file sizes is an
 * error of the task's write. The others mean nothing here; those of timers and of the limit of
 * processor time a task may have asked for. Handlers and not SIG_IGN, which programs that a task
 * starts would inherit. */
static void set_signals(void)
{
    static const int disregarded[] = {
        SIGTERM, SIGINT, SIGXFSZ, SIGUSR1, SIGUSR2, SIGPOLL, SIGPWR, SIGSTKFLT};
    struct sigaction nothing = {.sa_handler = on_disregarded, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(disregarded) / sizeof(disregarded[0]); i++) {
        (void)sigaction(disregarded[i], &nothing, NULL);
        (void)sigaddset(&set, disregarded[i]);
    }
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        (void)sigaction(number, &nothing, NULL);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    /* A task that writes to a closed socket gets EPIPE, not a dead worker. */
    (void)sigaction(SIGPIPE, &ignore, NULL);
    /* The kernel sends SIGHUP to a stopped worker when its host dies; it would end this process
     * without the children that tasks started. */
    (void)sigaction(SIGHUP, &ignore, NULL);
}

static void set_variable(void)
{
    char number[16];

    (void)snprintf(number, sizeof(number), "%d", (int)getpid());
    if (setenv(KNIT_CONTROL_PID_VARIABLE, number, 1) != 0)
        give_up("out of memory");
}

int main(int argc, char **argv)
{
    static struct worker worker = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct knit_control_message message;
    struct knit_confine_policy policy;
    int fds[KNIT_CONTROL_FDS_MAX], error;

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)printf("knitting-worker %s\n", KNIT_VERSION);
        return 0;
    }
    if (!take_control()) {
        (void)fprintf(stderr, "knitting-worker: is started by knittingd, not by hand\n");
        return 2;
    }
    set_signals();
    if (getenv(KNIT_KIN_VARIABLE) != NULL)
        (void)snprintf(
            own_mark, sizeof(own_mark), KNIT_KIN_VARIABLE "=%s", getenv(KNIT_KIN_VARIABLE));
    /* The kernel has taken the name of a descriptor for the program's. */
    (void)prctl(PR_SET_NAME, "knitting-worker");
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    send_hello();
    set_variable();
    error = knit_capture_init();
    if (error != 0)
        give_up("what tasks print cannot be kept for callers: %s", strerror(-error));
    expect(KNIT_CONTROL_START, &message, fds);
    worker.index = message.start.lane;
    worker.lanes = message.start.lanes;
    if (worker.lanes == 0 || worker.lanes > KNIT_LANES_MAX || worker.index >= worker.lanes)
        give_up("the pool sent lane %u of %u", worker.index, worker.lanes);
    read_start(&worker, &message.start, fds[0], &policy);
    confine(&worker, &policy);
    load(&worker, message.start.modules);
    announce(&worker);
    limit_files(&policy.rules);
    expect(KNIT_CONTROL_SERVE, &message, fds);
    prepare(&worker, &message.serve, fds);
    start_control(&worker);
    /* From here on the end of the control socket ends the worker and its process group. The death
     * signal of the start would spare the children; this one continues a stopped worker, so that it
     * reads the end of the socket. */
    (void)prctl(PR_SET_PDEATHSIG, SIGCONT);
    send_text(KNIT_CONTROL_READY, "");
    serve(&worker);
    return 0;
}
