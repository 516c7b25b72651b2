/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, dispatch and closing.
 *
 * All events arrive through one epoll descriptor: ends of processes, their sockets and output, and
 * one timer that is set to what is due next. Dispatch handles them under the mutex, which adds
 * notices for the host, and calls back without it: a callback may use the pool, and a slow callback
 * does not delay other threads.
 */
#include "fastpath/host/pool.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "fastpath/host/crew.h"
#include "fastpath/host/departed.h"
#include "fastpath/host/host.h"
#include "fastpath/host/leaf.h"
#include "fastpath/host/relay.h"
#include "fastpath/host/segments.h"
#include "fastpath/host/session.h"
#include "fastpath/host/startup.h"
#include "fastpath/host/supervisor.h"
#include "fastpath/host/tick.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/state.h"
#include "fastpath/lane/timer.h"

#define EVENTS_A_TURN 64
#define TURNS         4

static_assert(KNIT_HOST_LINE_BYTES == KNIT_OUTPUT_LINE_BYTES, "lines of output have one length");
static_assert(KNIT_HOST_SESSIONS_MAX == KNIT_LANE_SESSIONS_MAX, "what a worker can serve");

/* ---- opening ---- */

static int make_shared(struct knit_host *pool)
{
    uint32_t lanes = pool->options.workers;
    uint64_t board_bytes = knit_layout_board_bytes(lanes);
    uint64_t pool_bytes = knit_layout_pool_bytes(lanes);
    int error = knit_segment_create("knit-board", board_bytes, &pool->board_fd);

    if (error == 0)
        error = knit_segment_create("knit-pool", pool_bytes, &pool->pool_fd);
    if (error == 0)
        error = knit_segment_map(pool->board_fd, board_bytes, true, &pool->board_map);
    if (error == 0)
        error = knit_segment_map(pool->pool_fd, pool_bytes, true, &pool->pool_map);
    if (error != 0)
        return error < 0 ? error : -EIO;
    knit_layout_board(lanes, pool->board_map.base, &pool->board);
    knit_layout_pool(lanes, pool->pool_map.base, &pool->shared);
    *pool->board.header = (struct knit_segment_header){.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = KNIT_SEGMENT_BOARD,
        .total_bytes = board_bytes,
        .geometry = {.version = KNIT_LAYOUT_VERSION, .lanes = lanes}};
    *pool->shared.header = *pool->board.header;
    pool->shared.header->kind = KNIT_SEGMENT_POOL;
    pool->shared.header->total_bytes = pool_bytes;
    return 0;
}

static int make_loop(struct knit_host *pool)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)KNIT_SOURCE_TIMER << 56};

    pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pool->timer_fd = knit_timer_open();
    if (pool->options.threads == NULL)
        pool->host_fd = pidfd_open(getpid(), 0);
    if (pool->epoll_fd < 0 || pool->timer_fd < 0 ||
        (pool->options.threads == NULL && pool->host_fd < 0) ||
        epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, pool->timer_fd, &event) != 0) {
        int error = -errno;

        /* knit_host_free() waits for the shutdown only if there is a timer that reports it. */
        knit_fd_close(&pool->timer_fd);
        return error;
    }
    return 0;
}

static uint64_t half_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    return pages > 0 && page > 0 ? (uint64_t)pages / 2 * (uint64_t)page : UINT64_MAX;
}

static uint64_t memory_max(const struct knit_host_options *options)
{
    return options->memory_max_bytes != 0 ? options->memory_max_bytes : half_of_memory();
}

uint64_t knit_host_memory_bytes(const struct knit_host_options *options, uint32_t own_count)
{
    const struct knit_host_ask ask = knit_host_ask_all(options->slots, options->arena_bytes);
    struct knit_geometry geometry;
    uint64_t cost, own, all, most = memory_max(options);

    if (knit_segments_geometry(options, &ask, &geometry) != 0)
        return most;
    cost = knit_segments_cost(options, &geometry);
    own = own_count * cost;
    all = own + options->sessions_max * cost;
    /* The host's own are never refused. */
    most = most < own ? own : most;
    return all < most ? all : most;
}

static int take_options(
    struct knit_host *pool, const struct knit_host_options *options, struct knit_sentence *ret_why)
{
    pool->options = *options;
    pool->options.program = NULL;
    pool->options.worker_path = pool->options.bootstrap = NULL;
    pool->options.prefix = pool->options.modules = pool->options.environment = NULL;
    pool->options.confinement.read = pool->options.confinement.write = NULL;
    return options->threads != NULL ? knit_crew_open(pool, options, ret_why)
                                    : knit_launch_init(&pool->launch, options, ret_why);
}

static struct knit_host *new_pool(void)
{
    static _Atomic uint64_t count;
    struct knit_host *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return NULL;
    /* relaxed: a count. */
    pool->number = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1;
    pool->epoll_fd = pool->timer_fd = pool->host_fd = -1;
    pool->board_fd = pool->pool_fd = pool->rights_fd = pool->leaves_fd = -1;
    pool->next_session = 1;
    pool->next_owner = KNIT_OWNER_HOST + 1;
    knit_notices_init(&pool->notices);
    (void)pthread_mutex_init(&pool->mutex, NULL);
    return pool;
}

static int make_workers(struct knit_host *pool)
{
    pool->workers = calloc(pool->options.workers, sizeof(*pool->workers));
    if (pool->workers == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        pool->workers[i].lane = i;
        pool->workers[i].threads = pool->options.threads;
        pool->workers[i].process = (struct knit_spawned){0, -1, -1, -1, -1, -1};
        pool->workers[i].start_fd = -1;
    }
    return 0;
}

/* Calls back for all notices. */
static void deliver(struct knit_host *pool)
{
    struct knit_notices pending;

    knit_notices_init(&pending);
    pthread_mutex_lock(&pool->mutex);
    knit_notices_take(&pool->notices, &pending);
    pthread_mutex_unlock(&pool->mutex);
    knit_notices_deliver(&pending, &pool->options.callbacks);
}

static bool all_serve(const struct knit_host *pool)
{
    if (pool->options.has_no_workers)
        return true;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        if (pool->workers[i].step != KNIT_STEP_SERVING)
            return false;
    }
    return true;
}

/* Waits until all workers serve, one of them cannot start, or stop_fd is readable. Each worker has
 * startup_ms; workers that start and die in turn have twice that time together. */
static int start_all(struct knit_host *pool)
{
    struct pollfd poll_fds[2] = {
        {.fd = pool->epoll_fd, .events = POLLIN}, {.fd = pool->options.stop_fd, .events = POLLIN}};
    int error;

    pthread_mutex_lock(&pool->mutex);
    pool->open_by_ns = knit_clock_ns() + 2 * (uint64_t)pool->options.startup_ms * 1000000u;
    for (uint32_t i = 0; !pool->options.has_no_workers && i < pool->options.workers &&
                         knit_sentence_is_empty(&pool->open_failure);
         i++)
        knit_supervisor_start(pool, &pool->workers[i], knit_clock_ns());
    knit_tick_arm(pool);
    while (!all_serve(pool) && knit_sentence_is_empty(&pool->open_failure)) {
        pthread_mutex_unlock(&pool->mutex);
        (void)poll(poll_fds, 2, -1);
        if (poll_fds[1].revents != 0)
            return KNIT_HOST_E_CLOSED;
        knit_host_dispatch(pool);
        pthread_mutex_lock(&pool->mutex);
    }
    error = knit_sentence_is_empty(&pool->open_failure) ? 0 : KNIT_HOST_E_STARTUP;
    if (error == 0)
        pool->phase = KNIT_PHASE_OPEN;
    pthread_mutex_unlock(&pool->mutex);
    return error;
}

int knit_host_open(const struct knit_host_options *options, struct knit_host **ret_pool,
    struct knit_sentence *ret_why)
{
    struct knit_host *pool;
    int error = knit_host_options_check(options, ret_why);

    if (error != 0)
        return error;
    pool = new_pool();
    error = pool != NULL ? take_options(pool, options, ret_why) : -ENOMEM;
    if (error == 0)
        error = make_workers(pool);
    if (error == 0)
        error = make_shared(pool);
    if (error == 0)
        error = make_loop(pool);
    if (error == 0 && pool->registry != NULL)
        error = knit_startup_note_tasks(pool);
    if (error != 0) {
        if (knit_sentence_is_empty(ret_why))
            (void)knit_sentence_set(ret_why, 0, "the pool cannot be made: %s", strerror(-error));
        knit_host_free(pool);
        return error;
    }
    pool->memory_max_bytes = memory_max(options);
    if (options->kill_orphans)
        knit_leaf_init(pool);
    error = start_all(pool);
    if (error != 0) {
        if (!knit_sentence_is_empty(&pool->open_failure))
            *ret_why = pool->open_failure;
        else
            (void)knit_sentence_set(ret_why, 0, "%s", knit_host_reason(error));
        knit_host_free(pool);
        return error;
    }
    *ret_pool = pool;
    return 0;
}

/* ---- dispatch ---- */

int knit_host_fd(const struct knit_host *pool)
{
    return pool->epoll_fd;
}

static void handle(struct knit_host *pool, const struct epoll_event *event)
{
    uint64_t expirations;

    if (event->data.u64 >> 56 == KNIT_SOURCE_TIMER)
        (void)!read(pool->timer_fd, &expirations, sizeof(expirations));
    else if (event->data.u64 >> 56 == KNIT_SOURCE_RELAY)
        knit_relay_event(pool, event->data.u64 & ~(UINT64_MAX << 56), knit_clock_ns());
    else
        knit_supervisor_event(pool, event->data.u64);
}

void knit_host_dispatch(struct knit_host *pool)
{
    for (int turn = 0; turn < TURNS; turn++) {
        struct epoll_event events[EVENTS_A_TURN];
        int count = epoll_wait(pool->epoll_fd, events, EVENTS_A_TURN, 0);

        pthread_mutex_lock(&pool->mutex);
        for (int i = 0; i < count; i++)
            handle(pool, &events[i]);
        knit_tick(pool, knit_clock_ns());
        pool->has_notices = false; /* delivered below */
        knit_tick_arm(pool);
        pthread_mutex_unlock(&pool->mutex);
        deliver(pool);
        if (count < EVENTS_A_TURN)
            break;
    }
}

/* ---- closing ---- */

/* Callers learn by their sessions' memory that nothing more is taken; a daemon's own loops know. */
static void refuse_new_calls(struct knit_host *pool)
{
    pool->refuses_callers = true;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session != NULL && (session->is_foreign || pool->options.own_sessions_drain) &&
            !session->is_closing && !session->is_evicted)
            knit_state_write(&session->view.reply, KNIT_STATE_DRAINING);
    }
}

void knit_host_refuse_callers(struct knit_host *pool)
{
    pthread_mutex_lock(&pool->mutex);
    refuse_new_calls(pool);
    pthread_mutex_unlock(&pool->mutex);
}

void knit_host_shutdown(struct knit_host *pool, bool drain, uint64_t deadline_ns)
{
    /* 0 means a time in the past here, and "no deadline" in the structure. */
    if (deadline_ns == 0)
        deadline_ns = 1;
    pthread_mutex_lock(&pool->mutex);
    if (pool->phase == KNIT_PHASE_OPEN || pool->phase == KNIT_PHASE_OPENING) {
        pool->phase = KNIT_PHASE_DRAINING;
        pool->deadline_ns = deadline_ns;
        refuse_new_calls(pool);
    } else if (deadline_ns < pool->deadline_ns) {
        pool->deadline_ns = deadline_ns;
    }
    pool->stop_now = pool->stop_now || !drain;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->is_stopping && deadline_ns < worker->kill_at_ns)
            worker->kill_at_ns = deadline_ns;
    }
    knit_tick_arm(pool);
    pthread_mutex_unlock(&pool->mutex);
}

bool knit_host_is_stopped(const struct knit_host *pool)
{
    struct knit_host *locked = (struct knit_host *)pool;
    bool is_stopped;

    pthread_mutex_lock(&locked->mutex);
    is_stopped = pool->phase == KNIT_PHASE_STOPPED;
    pthread_mutex_unlock(&locked->mutex);
    return is_stopped;
}

void knit_host_wait_stopped(struct knit_host *pool)
{
    while (!knit_host_is_stopped(pool)) {
        struct pollfd poll_fd = {.fd = pool->epoll_fd, .events = POLLIN};

        (void)poll(&poll_fd, 1, -1);
        knit_host_dispatch(pool);
    }
}

static void free_parts(struct knit_host *pool)
{
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && pool->left_behind != 0)
            knit_host_session_leave(pool, pool->sessions[i]);
        else if (pool->sessions[i] != NULL)
            knit_host_session_free(pool, pool->sessions[i]);
    }
    knit_departed_fini(pool);
    knit_leaf_fini(pool);
    free(pool->workers);
    if (pool->crew == NULL)
        knit_registry_free((struct knit_registry *)pool->registry);
    knit_crew_close(pool);
    knit_buffer_fini(&pool->announcement);
    knit_notices_fini(&pool->notices);
    if (pool->left_behind == 0) {
        knit_segment_unmap(&pool->board_map);
        knit_segment_unmap(&pool->pool_map);
        knit_segment_unmap(&pool->rights_map);
    }
    knit_fd_close(&pool->epoll_fd);
    knit_fd_close(&pool->timer_fd);
    knit_fd_close(&pool->host_fd);
    knit_fd_close(&pool->board_fd);
    knit_fd_close(&pool->pool_fd);
    knit_fd_close(&pool->rights_fd);
    knit_launch_fini(&pool->launch);
    free(pool->task_deaths);
}

/* Processes are killed at once; what can only be asked to end has the time of any stop for it. */
static uint64_t free_by_ns(const struct knit_host *pool)
{
    const uint64_t now_ns = knit_clock_ns();

    return pool->options.threads != NULL ? now_ns + (uint64_t)pool->options.stop_ms * 1000000u
                                         : now_ns;
}

struct knit_host *knit_host_free(struct knit_host *pool)
{
    if (pool == NULL)
        return NULL;
    if (pool->workers != NULL && pool->epoll_fd >= 0 && pool->timer_fd >= 0) {
        knit_host_shutdown(pool, false, free_by_ns(pool));
        knit_host_wait_stopped(pool);
    }
    free_parts(pool);
    (void)pthread_mutex_destroy(&pool->mutex);
    free(pool);
    return NULL;
}

/* ---- queries ---- */

uint64_t knit_host_number(const struct knit_host *pool)
{
    return pool->number;
}

const struct knit_registry *knit_host_registry(const struct knit_host *pool)
{
    return pool->registry;
}

const _Atomic uint8_t *knit_host_marks(const struct knit_host *pool)
{
    return pool->shared.mark;
}

uint32_t knit_host_lanes(const struct knit_host *pool)
{
    return pool->options.workers;
}

uint32_t knit_host_sessions_max(const struct knit_host *pool)
{
    return pool->options.sessions_max;
}

bool knit_host_owns_pid(struct knit_host *pool, pid_t pid)
{
    bool is_ours = false;

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        const struct knit_worker *worker = &pool->workers[i];

        is_ours = is_ours || (worker->process.pid == pid && worker->step != KNIT_STEP_NONE &&
                                 worker->step != KNIT_STEP_ENDED);
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_ours;
}
