/* SPDX-License-Identifier: Apache-2.0 */
/* Each message belongs to one step of enum knit_worker_step; what comes at another step is refused
 * by the caller. What the host sends meanwhile fits into the socket of a worker that has read
 * nothing yet, so a send that fails refuses the worker instead of waiting.
 *
 * The first worker's list of tasks becomes the pool's registry; a worker with another list is
 * refused, because calls carry task numbers.
 */
#include "fastpath/host/startup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/host/relay.h"
#include "fastpath/host/rights.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"

static int memfd_of(const char *name, const void *bytes, size_t len)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd >= 0 && pwrite(fd, bytes, len, 0) != (ssize_t)len) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* The socket of a worker that has read nothing yet has room for the messages of its start. */
static void send_message(
    struct knit_worker *worker, const struct knit_control_message *message, const int *fds)
{
    int error = knit_control_send(worker->process.control_fd, message, fds, false);

    if (error == KNIT_CONTROL_E_EXHAUSTED)
        knit_worker_refuse(
            worker, "the system is short of memory or of descriptors on their way to processes");
    else if (error != 0)
        knit_worker_refuse(worker, "it does not listen while %s", worker->start_step.text);
}

static void handle_hello(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    struct knit_control_message start;

    if (message->hello.error != 0) {
        knit_worker_refuse(
            worker, "%s: cannot be run: %s", pool->launch.argv[0], strerror(message->hello.error));
        return;
    }
    if (strcmp(message->text, KNIT_VERSION) != 0) {
        knit_worker_refuse(worker, "%s: is of version %.64s, this program of %s",
            pool->launch.worker_path, message->text, KNIT_VERSION);
        return;
    }
    if (message->hello.layout_version != KNIT_LAYOUT_VERSION) {
        knit_worker_refuse(worker,
            "%s: is of another version of %s than this program: its memory has layout %u, not %u",
            pool->launch.worker_path, KNIT_VERSION, message->hello.layout_version,
            KNIT_LAYOUT_VERSION);
        return;
    }
    worker->start_fd = memfd_of("knit-start", pool->launch.start_text, pool->launch.start_bytes);
    if (worker->start_fd < 0) {
        knit_worker_refuse(worker, "out of memory");
        return;
    }
    knit_control_init(&start, KNIT_CONTROL_START);
    start.start.lane = worker->lane;
    start.start.lanes = pool->options.workers;
    start.start.text_bytes = (uint32_t)pool->launch.start_bytes;
    start.start.modules = pool->launch.modules;
    start.start.read_paths = pool->launch.read_paths;
    start.start.write_paths = pool->launch.write_paths;
    start.start.rules = pool->options.confinement.rules;
    send_message(worker, &start, &worker->start_fd);
    KNIT_FAULT(STARTUP_AFTER_START);
    worker->step = KNIT_STEP_REGISTRY;
}

/* The host cannot check what CONFINED reports, but no module has run in the process yet. */
static void handle_confined(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    struct knit_host_event event = {.kind = KNIT_HOST_UNCONFINED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .task = KNIT_HOST_TASK_NONE,
        .text = message->text};

    if (message->confined.force.profile != pool->options.confinement.rules.profile) {
        knit_worker_refuse(worker, "it is confined in another way than it was told");
        return;
    }
    if (!knit_relay_begin(pool, worker, message->confined.wait_error)) {
        knit_worker_refuse(worker,
            "futex_waitv is refused to it (%s), and was not to the workers that the pool began "
            "with: it could not sleep",
            strerror(message->confined.wait_error));
        return;
    }
    worker->is_confined = true;
    pool->confinement = message->confined.force;
    if (message->text[0] != '\0' && !pool->unconfined_reported)
        knit_notices_add_event(&pool->notices, &event);
    pool->unconfined_reported = pool->unconfined_reported || message->text[0] != '\0';
}

/* The announcement's bytes. False: they cannot be read, and the worker is refused. */
static bool read_registry(struct knit_worker *worker, uint32_t len, struct knit_buffer *ret)
{
    uint8_t *bytes;

    knit_buffer_init(ret, KNIT_REGISTRY_BYTES_MAX);
    bytes = len != 0 ? knit_buffer_reserve(ret, len) : NULL;
    if (bytes == NULL || pread(worker->start_fd, bytes, len, 0) != (ssize_t)len) {
        knit_buffer_fini(ret);
        knit_worker_refuse(worker, "its list of tasks cannot be read");
        return false;
    }
    ret->len = len;
    return true;
}

int knit_startup_note_tasks(struct knit_host *pool)
{
    uint32_t least = pool->options.hard_timeout_ms;

    for (uint32_t id = 0; id < knit_registry_count(pool->registry); id++) {
        uint32_t own = knit_registry_at(pool->registry, id)->hard_timeout_ms;

        if (own != 0 && (least == 0 || own < least))
            least = own;
    }
    pool->hard_least_ms = least;
    pool->task_deaths = calloc(knit_registry_count(pool->registry), sizeof(*pool->task_deaths));
    return pool->task_deaths != NULL ? 0 : -ENOMEM;
}

static void serve(struct knit_host *pool, struct knit_worker *worker)
{
    struct knit_control_message message;
    int fds[4] = {pool->board_fd, pool->pool_fd, pool->host_fd, pool->rights_fd};

    knit_worker_take_owner(pool, worker);
    knit_control_init(&message, KNIT_CONTROL_SERVE);
    message.serve = (struct knit_control_serve){.owner = worker->owner,
        .steal = pool->options.steal,
        .spin_us = pool->options.spin_us,
        .pause_ns = pool->options.pause_ns,
        .park_ms = pool->options.park_ms,
        .hard_timeout_ms = pool->options.hard_timeout_ms,
        .abort_grace_ms = pool->options.abort_grace_ms,
        .deferred_max = pool->options.deferred_max,
        .result_max_bytes = pool->options.call_max_bytes};
    send_message(worker, &message, fds);
    KNIT_FAULT(STARTUP_AFTER_SERVE);
    worker->step = KNIT_STEP_READY;
}

/* The first worker's registry becomes the pool's; all others must announce the same bytes. */
static void handle_registry(struct knit_host *pool, struct knit_worker *worker, uint32_t len)
{
    struct knit_registry *registry;
    struct knit_buffer announced;
    int error;

    if (!read_registry(worker, len, &announced))
        return;
    knit_fd_close(&worker->start_fd);
    if (pool->registry == NULL) {
        error = knit_registry_parse(knit_buffer_span(&announced), &registry);
        if (error != 0) {
            knit_buffer_fini(&announced);
            knit_worker_refuse(worker, "its list of tasks is damaged");
            return;
        }
        pool->registry = registry;
        pool->announcement = announced;
        if (knit_startup_note_tasks(pool) != 0 || knit_host_rights_make(pool) != 0)
            knit_worker_refuse(worker, "out of memory");
        if (knit_sentence_is_empty(&worker->refusal))
            serve(pool, worker);
        return;
    }
    if (announced.len != pool->announcement.len ||
        memcmp(announced.bytes, pool->announcement.bytes, announced.len) != 0)
        knit_worker_refuse(
            worker, "it has other tasks than the workers before it: a module was changed");
    knit_buffer_fini(&announced);
    if (knit_sentence_is_empty(&worker->refusal))
        serve(pool, worker);
}

static void handle_ready(struct knit_host *pool, struct knit_worker *worker)
{
    struct knit_host_event event = {.kind = KNIT_HOST_WORKER_STARTED,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .is_replacement = worker->is_replacement,
        .task = KNIT_HOST_TASK_NONE};

    KNIT_FAULT(STARTUP_AFTER_READY);
    worker->step = KNIT_STEP_SERVING;
    worker->kill_at_ns = 0;
    worker->up_since_ns = knit_clock_ns();
    worker->is_replacement = true;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && session->is_published && !session->is_closing &&
            !session->is_evicted)
            worker->links[i] = KNIT_LINK_ATTACH_DUE;
    }
    knit_notices_add_event(&pool->notices, &event);
    if (pool->phase >= KNIT_PHASE_STOPPING)
        knit_worker_stop(pool, worker, pool->deadline_ns);
    knit_worker_flush(pool, worker);
}

bool knit_startup_handle(
    struct knit_host *pool, struct knit_worker *worker, const struct knit_control_message *message)
{
    bool is_starting = worker->step == KNIT_STEP_REGISTRY || worker->step == KNIT_STEP_READY;

    if (message->type == KNIT_CONTROL_HELLO && worker->step == KNIT_STEP_HELLO)
        handle_hello(pool, worker, message);
    else if (message->type == KNIT_CONTROL_LOADING && is_starting)
        (void)knit_sentence_set(&worker->start_step, 0, "%s", message->text);
    else if (message->type == KNIT_CONTROL_FAILED && is_starting)
        knit_worker_refuse(worker, "%s", message->text);
    else if (message->type == KNIT_CONTROL_CONFINED && worker->step == KNIT_STEP_REGISTRY &&
             !worker->is_confined)
        handle_confined(pool, worker, message);
    else if (message->type == KNIT_CONTROL_REGISTRY && worker->step == KNIT_STEP_REGISTRY &&
             worker->is_confined)
        handle_registry(pool, worker, message->registry.bytes);
    else if (message->type == KNIT_CONTROL_READY && worker->step == KNIT_STEP_READY)
        handle_ready(pool, worker);
    else
        return false;
    return true;
}
