/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's thread owns the host: it opens it, because a worker dies with the thread that started
 * it, dispatches its events, and shuts it down. Closing tells the thread, and joins it. So the
 * host's mutex is held for moments only, and by no thread that calls back.
 *
 * The host itself is freed with the last session, whose calls lie in its memory.
 *
 * A forked child has a copy of all this, without the thread, and perhaps with locks that were taken
 * when it was forked: it looks at the page `alive` before anything else.
 */
#include "clients/lib/pool.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clients/lib/error.h"
#include "clients/lib/forks.h"
#include "fastpath/control/control.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "fastpath/worker/thread.h"

/* ---- what the program is told ---- */

static const char *task_name(const struct knit_pool *pool, uint32_t task)
{
    const struct knit_registry_task *entry =
        pool->host != NULL && task != KNIT_HOST_TASK_NONE
            ? knit_registry_at(knit_host_registry(pool->host), task)
            : NULL;

    return entry != NULL ? entry->name : "";
}

/* 0: of no interest where all sessions are the program's own. */
static int kind_of(enum knit_host_event_kind kind)
{
    static const uint8_t kinds[] = {
        [KNIT_HOST_WORKER_STARTED] = KNIT_POOL_WORKER_STARTED,
        [KNIT_HOST_WORKER_DIED] = KNIT_POOL_WORKER_DIED,
        [KNIT_HOST_WORKER_REFUSED] = KNIT_POOL_WORKER_REFUSED,
        [KNIT_HOST_WORKER_STOPPED] = KNIT_POOL_WORKER_STOPPED,
        [KNIT_HOST_WORKER_LEFT] = KNIT_POOL_WORKER_LEFT,
        [KNIT_HOST_HARD_TIMEOUT] = KNIT_POOL_HARD_TIMEOUT,
        [KNIT_HOST_TASK_SLOW] = KNIT_POOL_TASK_SLOW,
        [KNIT_HOST_TASK_QUARANTINED] = KNIT_POOL_TASK_QUARANTINED,
        [KNIT_HOST_TASK_LIFTED] = KNIT_POOL_TASK_LIFTED,
        [KNIT_HOST_SESSION_DAMAGED] = KNIT_POOL_DAMAGED,
        [KNIT_HOST_DEGRADED] = KNIT_POOL_DEGRADED,
        [KNIT_HOST_RELAYING] = KNIT_POOL_RELAYING,
        [KNIT_HOST_OUTPUT_DROPPED] = KNIT_POOL_OUTPUT_DROPPED,
        [KNIT_HOST_STOPPED] = 0,
    };

    return kinds[kind];
}

static struct knit_pool_event event_of(
    const struct knit_pool *pool, const struct knit_host_event *event)
{
    return (struct knit_pool_event){.kind = (enum knit_pool_event_kind)kind_of(event->kind),
        .worker = event->lane,
        .pid = event->pid,
        .signal = event->signal,
        .status = event->status,
        .is_replacement = event->is_replacement,
        .is_degraded = event->is_degraded,
        .lost = event->lost,
        .time_ms = event->kind == KNIT_HOST_HARD_TIMEOUT ? event->limit_ms : event->age_ms,
        .task = task_name(pool, event->task),
        .text = event->text != NULL ? event->text : ""};
}

static void on_event(void *arg, const struct knit_host_event *event)
{
    struct knit_pool *pool = arg;
    const struct knit_pool_event told = event_of(pool, event);

    if (told.kind == KNIT_POOL_HARD_TIMEOUT && pool->ends_by_hard_timeout)
        pool->is_overrun = true;
    if (pool->on_event != NULL && told.kind != 0)
        pool->on_event(pool->user, &told);
    if (told.kind == KNIT_POOL_WORKER_DIED)
        knit_pool_debug_lane(&pool->debug, pool->host, told.worker);
}

static void on_output(
    void *arg, const struct knit_host_event *from, const char *line, size_t len, bool truncated)
{
    const struct knit_pool *pool = arg;
    const struct knit_pool_event told = event_of(pool, from);

    if (pool->on_output != NULL)
        pool->on_output(pool->user, &told, line, len, truncated);
}

/* ---- the pool's thread ---- */

/* Begins the end: calls under way may go on until *ret_stop_ns; 0 = they may not. */
static void shut_down(struct knit_pool *pool, uint64_t *ret_stop_ns)
{
    const uint64_t drained_ns = knit_clock_ns() + (uint64_t)pool->drain_ms * 1000000;

    knit_host_shutdown(
        pool->host, pool->drain_ms != 0, drained_ns + (uint64_t)pool->stop_ms * 1000000);
    *ret_stop_ns = pool->drain_ms != 0 ? drained_ns : 0;
}

static int wait_ms(uint64_t until_ns)
{
    const uint64_t now_ns = knit_clock_ns();
    uint64_t left_ms;

    if (until_ns == 0)
        return -1;
    left_ms = until_ns > now_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

/* What other threads add to the eventfd. */
#define TO_LOOK_AT_NOTIFIER UINT64_C(1)
#define TO_CLOSE            (UINT64_C(1) << 32)

static void ask(struct knit_pool *pool, uint64_t what)
{
    (void)!write(pool->wake_fd, &what, sizeof(what));
}

/* What was asked of the thread since it last looked. */
static uint64_t take_asked(struct knit_pool *pool)
{
    uint64_t asked = 0;

    return read(pool->wake_fd, &asked, sizeof(asked)) == sizeof(asked) ? asked : 0;
}

/* Their number alone is left by those who open and close them, on threads of the program. */
static void look_at_sessions(struct knit_pool *pool)
{
    uint32_t sessions;

    pthread_mutex_lock(&pool->mutex);
    sessions = pool->references - 1;
    pthread_mutex_unlock(&pool->mutex);
    knit_pool_debug_sessions(&pool->debug, sessions);
}

static void serve(struct knit_pool *pool)
{
    struct pollfd files[] = {{.fd = knit_host_fd(pool->host), .events = POLLIN},
        {.fd = pool->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    uint64_t stop_ns = 0;

    while (!knit_host_is_stopped(pool->host)) {
        uint64_t asked;

        (void)poll(files, 3, wait_ms(stop_ns));
        asked = files[1].revents != 0 ? take_asked(pool) : 0;
        if (asked != 0)
            files[2].fd = knit_notifier_fd(&pool->notifier);
        if (asked != 0)
            look_at_sessions(pool);
        if (asked != 0 || files[2].revents != 0)
            knit_notifier_dispatch(&pool->notifier);
        if (asked >= TO_CLOSE) {
            shut_down(pool, &stop_ns);
        } else if (stop_ns != 0 && wait_ms(stop_ns) == 0) {
            stop_ns = 0;
            knit_host_shutdown(
                pool->host, false, knit_clock_ns() + (uint64_t)pool->stop_ms * 1000000);
        }
        knit_host_dispatch(pool->host);
        if (pool->is_overrun)
            knit_host_shutdown(
                pool->host, false, knit_clock_ns() + (uint64_t)pool->stop_ms * 1000000);
        pool->is_overrun = false;
    }
    knit_notifier_end(&pool->notifier);
    knit_pool_debug_stopped(&pool->debug, pool->host);
}

static void *run(void *arg)
{
    struct knit_pool *pool = arg;
    struct knit_sentence why = {""};
    int error = knit_host_open(pool->opens, &pool->host, &why);

    /* What it was opened with is its opener's, who waits for the answer. */
    if (error == 0)
        knit_pool_debug_opened(&pool->debug, pool->host, pool->opens);
    pthread_mutex_lock(&pool->mutex);
    pool->error = error;
    pool->why = why;
    pool->has_answered = true;
    pthread_cond_signal(&pool->answered);
    pthread_mutex_unlock(&pool->mutex);
    if (error == 0)
        serve(pool);
    return NULL;
}

int knit_pool_notify(struct knit_pool *pool, const char *task, struct knit_span params, bool waits,
    struct knit_error *ret_error)
{
    const bool is_its_thread = pthread_equal(pthread_self(), pool->thread) != 0;
    bool is_first;
    int code = knit_notifier_start(
        &pool->notifier, pool, waits && !is_its_thread, task, params, &is_first, ret_error);

    if (is_first)
        ask(pool, TO_LOOK_AT_NOTIFIER);
    return code;
}

/* ---- lifetime ---- */

static void free_pool(struct knit_pool *pool)
{
    knit_fd_close(&pool->wake_fd);
    knit_notifier_fini(&pool->notifier);
    (void)pthread_cond_destroy(&pool->answered);
    (void)pthread_mutex_destroy(&pool->mutex);
    knit_forks_free_page(pool->alive);
    free(pool);
}

/* Under the mutex, as long as somebody holds the pool. */
static void tell_sessions(struct knit_pool *pool)
{
    if (knit_pool_debug_has(&pool->debug, KNIT_DEBUG_HOST))
        ask(pool, TO_LOOK_AT_NOTIFIER);
}

void knit_pool_hold(struct knit_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->references++;
    tell_sessions(pool);
    pthread_mutex_unlock(&pool->mutex);
}

void knit_pool_release(struct knit_pool *pool)
{
    bool is_last;

    if (!knit_pool_is_ours(pool)) {
        /* The host and the locks are as some thread of the parent left them in its midst. */
        if (--pool->references == 0) {
            (void)knit_inline_tasks_close(pool->inline_tasks);
            knit_fd_close(&pool->wake_fd);
            knit_forks_free_page(pool->alive);
            free(pool);
        }
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    is_last = --pool->references == 0;
    if (!is_last)
        tell_sessions(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (!is_last)
        return;
    (void)knit_inline_tasks_close(pool->inline_tasks);
    (void)knit_host_free(pool->host);
    free_pool(pool);
}

/* NULL: memory or descriptors are lacking. */
static struct knit_pool *new_pool(const struct knit_pool_options *options)
{
    struct knit_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return NULL;
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->answered, NULL);
    knit_notifier_init(&pool->notifier);
    pool->references = 1;
    pool->drain_ms = options->drain_ms != KNIT_POOL_NONE ? options->drain_ms : 0;
    pool->on_event = options->on_event;
    pool->on_output = options->on_output;
    pool->user = options->user;
    pool->alive = knit_forks_new_page();
    pool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->alive != NULL && pool->wake_fd >= 0)
        return pool;
    free_pool(pool);
    return NULL;
}

/* All signals are the program's own threads'. Returns 0 or an errno. */
static int start_thread(struct knit_pool *pool)
{
    sigset_t all, before;
    int error;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&pool->thread, NULL, run, pool);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return error;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->has_answered)
        pthread_cond_wait(&pool->answered, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    if (pool->error != 0)
        (void)pthread_join(pool->thread, NULL);
    return 0;
}

static int start(struct knit_pool *pool, struct knit_error *ret_error)
{
    int error = start_thread(pool);

    if (error != 0)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO,
            "the pool's thread cannot be started: %s", strerror(error));
    if (pool->error < 0)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "%s", pool->why.text);
    if (pool->error > 0) {
        (void)knit_error_make(ret_error, KNIT_NO_WORKER, KNIT_STARTED_NO, "%s", pool->why.text);
        knit_error_set_lasting(ret_error);
        return KNIT_NO_WORKER;
    }
    return KNIT_OK;
}

static void stop_thread(struct knit_pool *pool)
{
    ask(pool, TO_CLOSE);
    (void)pthread_join(pool->thread, NULL);
}

/* The modules of the inliner are this program's, and their hooks run on this thread. */
static int load_inline(
    struct knit_pool *pool, const struct knit_pool_setup *setup, struct knit_error *ret_error)
{
    const struct knit_inline_tasks_options options = {.pool = knit_host_registry(pool->host),
        .program = setup->inline_program,
        .modules = setup->inline_modules,
        .module_count = setup->inline_count,
        .bootstrap = setup->host.bootstrap,
        .workers = pool->workers};
    const struct knit_registry_task *isolated;
    struct knit_sentence why = {""};
    int error = knit_inline_tasks_open(&options, &pool->inline_tasks, &why);

    if (error < 0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for the inliner");
    if (error > 0)
        return knit_error_make(
            ret_error, KNIT_NO_WORKER, KNIT_STARTED_NO, "inliner startup failed: %s", why.text);
    isolated = pool->workers == 0 ? knit_inline_tasks_isolated(pool->inline_tasks) : NULL;
    if (isolated != NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "no workers: task %s is isolated, and the inliner runs those alone that are marked "
            "inline-safe and have no hard timeout",
            isolated->name);
    return KNIT_OK;
}

static int open_inliner(
    struct knit_pool *pool, const struct knit_pool_setup *setup, struct knit_error *ret_error)
{
    int code;

    if (setup->inliner.at == KNIT_INLINER_AT_NONE)
        return KNIT_OK;
    pool->inliner = setup->inliner;
    pool->workers = setup->host.has_no_workers ? 0 : setup->host.workers;
    code = load_inline(pool, setup, ret_error);
    if (code != KNIT_OK)
        stop_thread(pool);
    return code;
}

static int open_with(struct knit_pool_setup *setup, const struct knit_pool_options *options,
    struct knit_pool **ret, struct knit_error *ret_error)
{
    struct knit_pool *pool = new_pool(options);
    int code;

    if (pool == NULL)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO,
            "the system has no memory or descriptors for a pool");
    setup->host.callbacks = (struct knit_host_callbacks){on_output, on_event, pool};
    pool->stop_ms = setup->host.stop_ms;
    pool->max_backoff_ms = setup->host.max_backoff_ms;
    pool->ends_by_hard_timeout = setup->ends_by_hard_timeout;
    pool->debug = (struct knit_pool_debug){
        .bits = setup->debug, .on_event = pool->on_event, .user = pool->user};
    pool->arena_bytes = setup->host.arena_bytes;
    pool->call_max_bytes = setup->host.call_max_bytes;
    pool->balancer = setup->balancer;
    pool->is_threads = setup->host.threads != NULL;
    pool->opens = &setup->host;
    code = start(pool, ret_error);
    pool->opens = NULL;
    if (code == KNIT_OK)
        code = open_inliner(pool, setup, ret_error);
    if (code == KNIT_OK)
        *ret = pool;
    else
        knit_pool_release(pool);
    return code;
}

int knit_pool_open_with(const struct knit_module *program, const struct knit_pool_options *options,
    struct knit_pool **ret, struct knit_error *ret_error)
{
    static const struct knit_pool_options defaults;
    struct knit_pool_setup setup;
    struct knit_sentence why = {""};
    int code;

    *ret = NULL;
    if (!knit_is_host())
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a worker opens no pool: knit_is_host() is false here");
    if (options == NULL)
        options = &defaults;
    code = knit_error_check_reserved("knit_pool_options", options->reserved,
        sizeof(options->reserved) / sizeof(options->reserved[0]), ret_error);
    if (code != KNIT_OK)
        return code;
    code = knit_pool_setup_init(&setup, program, options, &why);
    if (code == 0)
        code = open_with(&setup, options, ret, ret_error);
    else
        (void)knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s", why.text);
    knit_pool_setup_fini(&setup);
    return code;
}

#undef knit_pool_open
int knit_pool_open(
    const struct knit_pool_options *options, struct knit_pool **ret, struct knit_error *ret_error)
{
    return knit_pool_open_with(NULL, options, ret, ret_error);
}

struct knit_pool *knit_pool_close(struct knit_pool *pool)
{
    if (pool == NULL)
        return NULL;
    if (knit_pool_is_ours(pool)) {
        /* Both would wait for themselves. */
        if (pthread_equal(pthread_self(), pool->thread) != 0 ||
            knit_thread_host() == knit_host_number(pool->host))
            return pool;
        stop_thread(pool);
    }
    knit_pool_release(pool);
    return NULL;
}

bool knit_is_host(void)
{
    const char *worker = getenv(KNIT_CONTROL_PID_VARIABLE);
    char own[16];

    if (knit_thread_host() != 0)
        return false;
    /* A program that a task starts inherits the variable. */
    (void)snprintf(own, sizeof(own), "%d", (int)getpid());
    return worker == NULL || strcmp(worker, own) != 0;
}
