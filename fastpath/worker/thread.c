/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be reported lies in the thread's structure as flags, one for each kind and session, so
 * that a report needs no memory; an eventfd says that there is one.
 *
 * The last thing that a thread does with its structure is to note its end, under the mutex. The
 * structure is freed by reap(), after the thread is joined. A thread that was left behind frees it
 * itself, if it ends at all.
 */
#include "fastpath/worker/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"
#include "fastpath/worker/deferred.h"
#include "fastpath/worker/module.h"
#include "fastpath/worker/serve.h"
#include "fastpath/worker/task_api.h"

#define REAP_POLLS   100 /* with a pause of REAP_POLL_NS between two */
#define REAP_POLL_NS 50000

struct knit_crew {
    _Atomic uint32_t users; /* the host, and each worker */
    struct knit_modules *modules;
    char *bootstrap;
    pthread_mutex_t hooks; /* held while one runs */
};

/* A session that the lane has, or had until its reports are read. */
struct place {
    uint64_t id;        /* 0 = free */
    const char *broken; /* how its memory broke the protocol, to be reported; or NULL */
    bool is_detached;   /* the same */
};

struct knit_thread {
    pthread_t id;
    struct knit_crew *crew;
    uint64_t host;
    uint32_t deferred_max;
    struct knit_lane_options lane;
    struct knit_serve serve; /* made by the thread; used by others once it is up */

    pthread_mutex_t mutex; /* guards what follows */
    int event_fd;          /* -1: nobody wants to know any more */
    bool is_up;
    bool is_stopping;
    bool is_left;
    bool has_ended;
    bool was_ended_by_task;
    bool says_step, says_ready, says_failure;
    struct knit_sentence step, failure;
    struct place places[KNIT_LANE_SESSIONS_MAX];
};

static _Thread_local uint64_t own_host;

/* While modules are loaded. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool is_loading;

uint64_t knit_thread_host(void)
{
    return own_host;
}

/* ---- the tasks ---- */

static struct knit_crew *close_crew(struct knit_crew *crew)
{
    /* acq_rel: the last one sees what the others did. */
    if (crew == NULL || atomic_fetch_sub_explicit(&crew->users, 1, memory_order_acq_rel) != 1)
        return NULL;
    crew->modules = knit_modules_free(crew->modules);
    free(crew->bootstrap);
    (void)pthread_mutex_destroy(&crew->hooks);
    free(crew);
    return NULL;
}

/* Nothing kills the worker of a task that runs too long, so a limit would be a promise that is not
 * kept. */
static int refuse_limits(const struct knit_registry *registry, struct knit_sentence *ret_why)
{
    for (uint32_t id = 0; id < knit_registry_count(registry); id++) {
        const struct knit_registry_task *task = knit_registry_at(registry, id);

        if (task->hard_timeout_ms != 0)
            return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
                "task %s has a hard timeout of %u ms: workers that are threads cannot be killed, "
                "so none is possible",
                task->name, task->hard_timeout_ms);
    }
    return 0;
}

static bool has_tasks(const struct knit_module *program)
{
    return program != NULL && program->tasks_end > program->tasks;
}

/* Some thread of the parent may have had it. To take it before each fork() was rejected: that would
 * hang in a module's constructor, and in a thread for which one waits. */
static void unlock_in_child(void)
{
    if (!is_loading)
        one_at_a_time = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* Without memory for the handler, a child may find the mutex taken. */
static void install(void)
{
    (void)pthread_atfork(NULL, NULL, unlock_in_child);
}

int knit_thread_load(const struct knit_module_loading *loading, struct knit_modules **ret_modules,
    struct knit_sentence *ret_why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct knit_module_loading own = *loading;
    int error;

    if (!has_tasks(own.program))
        own.program = NULL;
    (void)pthread_once(&once, install);
    (void)pthread_mutex_lock(&one_at_a_time);
    is_loading = true;
    error = knit_modules_load(&own, ret_modules, ret_why);
    is_loading = false;
    (void)pthread_mutex_unlock(&one_at_a_time);
    return error;
}

static int load(
    const struct knit_crew_options *options, struct knit_crew *crew, struct knit_sentence *ret_why)
{
    const struct knit_module_loading loading = {.program = options->program,
        .paths = options->modules,
        .count = options->module_count,
        .epoch = KNIT_REGISTRY_EPOCH_FIRST,
        .api = knit_task_api()};

    if (!has_tasks(loading.program) && loading.count == 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "no modules are named, and the program has no tasks: no KNIT_TASK() is linked into it "
            "(out of a static library the linker takes what KNIT_LINK_TASK() names)");
    return knit_thread_load(&loading, &crew->modules, ret_why);
}

static int open_crew(const struct knit_crew_options *options, struct knit_crew **ret_crew,
    struct knit_sentence *ret_why)
{
    struct knit_crew *crew = calloc(1, sizeof(*crew));
    int error = -ENOMEM;

    if (crew == NULL)
        return -ENOMEM;
    atomic_init(&crew->users, 1);
    (void)pthread_mutex_init(&crew->hooks, NULL);
    crew->bootstrap = strdup(options->bootstrap);
    if (crew->bootstrap != NULL)
        error = load(options, crew, ret_why);
    if (error == 0)
        error = refuse_limits(knit_modules_registry(crew->modules), ret_why);
    if (error != 0) {
        (void)close_crew(crew);
        return error;
    }
    *ret_crew = crew;
    return 0;
}

static const struct knit_registry *registry_of(const struct knit_crew *crew)
{
    return knit_modules_registry(crew->modules);
}

/* ---- reports ---- */

/* Under the mutex. */
static void say(const struct knit_thread *thread)
{
    const uint64_t one = 1;

    if (thread->event_fd >= 0)
        (void)!write(thread->event_fd, &one, sizeof(one));
}

/* Under the mutex. id 0: a free one. */
static struct place *find_place(struct knit_thread *thread, uint64_t id)
{
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++) {
        if (thread->places[i].id == id)
            return &thread->places[i];
    }
    return NULL;
}

static struct knit_thread *free_thread(struct knit_thread *thread)
{
    knit_serve_fini(&thread->serve);
    knit_fd_close(&thread->event_fd);
    (void)close_crew(thread->crew);
    (void)pthread_mutex_destroy(&thread->mutex);
    free(thread);
    return NULL;
}

/* The thread's last use of its structure. */
static void note_end(struct knit_thread *thread, bool was_by_task)
{
    bool is_left;

    (void)pthread_mutex_lock(&thread->mutex);
    thread->has_ended = true;
    thread->was_ended_by_task = was_by_task;
    is_left = thread->is_left;
    say(thread);
    (void)pthread_mutex_unlock(&thread->mutex);
    if (is_left)
        (void)free_thread(thread);
}

static void note_failure(struct knit_thread *thread, const char *text)
{
    (void)pthread_mutex_lock(&thread->mutex);
    thread->says_failure = true;
    (void)knit_sentence_set(&thread->failure, 0, "%s", text);
    say(thread);
    (void)pthread_mutex_unlock(&thread->mutex);
}

static void on_step(void *arg, const char *text)
{
    struct knit_thread *thread = arg;

    (void)pthread_mutex_lock(&thread->mutex);
    thread->says_step = true;
    (void)knit_sentence_set(&thread->step, 0, "%s", text);
    say(thread);
    (void)pthread_mutex_unlock(&thread->mutex);
}

/* On either thread. */
static void on_detached(void *arg, uint64_t id)
{
    struct knit_thread *thread = arg;
    struct place *place;

    /* Threads of deferred calls look at its memory. */
    knit_runner_close_session(thread->serve.runner, id);
    (void)pthread_mutex_lock(&thread->mutex);
    place = find_place(thread, id);
    if (place != NULL) {
        place->is_detached = true;
        say(thread);
    }
    (void)pthread_mutex_unlock(&thread->mutex);
}

/* The reasons are literals of the lane's. */
static void on_evict(void *arg, uint64_t id, const char *reason)
{
    struct knit_thread *thread = arg;
    struct place *place;

    (void)pthread_mutex_lock(&thread->mutex);
    place = find_place(thread, id);
    if (place != NULL) {
        place->broken = reason;
        say(thread);
    }
    (void)pthread_mutex_unlock(&thread->mutex);
}

static void fill_session(
    struct knit_control_message *message, enum knit_control_type type, uint64_t id)
{
    knit_control_init(message, type);
    message->session.session = id;
}

static void fill_text(
    struct knit_control_message *message, enum knit_control_type type, const char *text)
{
    knit_control_init(message, type);
    (void)snprintf(message->text, sizeof(message->text), "%s", text);
}

static bool take(bool *is_due)
{
    const bool was_due = *is_due;

    *is_due = false;
    return was_due;
}

/* Under the mutex. The order of one session's reports is kept. */
static int take_report(struct knit_thread *thread, struct knit_control_message *ret_message)
{
    if (take(&thread->says_step)) {
        fill_text(ret_message, KNIT_CONTROL_LOADING, thread->step.text);
        return 0;
    }
    if (take(&thread->says_failure)) {
        fill_text(ret_message, KNIT_CONTROL_FAILED, thread->failure.text);
        return 0;
    }
    if (take(&thread->says_ready)) {
        knit_control_init(ret_message, KNIT_CONTROL_READY);
        return 0;
    }
    for (uint32_t i = 0; i < KNIT_LANE_SESSIONS_MAX; i++) {
        struct place *place = &thread->places[i];

        if (place->id != 0 && place->broken != NULL) {
            fill_session(ret_message, KNIT_CONTROL_EVICTED, place->id);
            (void)snprintf(ret_message->text, sizeof(ret_message->text), "%s", place->broken);
            place->broken = NULL;
            return 0;
        }
        if (place->id != 0 && place->is_detached) {
            fill_session(ret_message, KNIT_CONTROL_DETACHED, place->id);
            *place = (struct place){0};
            return 0;
        }
    }
    return thread->has_ended ? KNIT_CONTROL_E_CLOSED : KNIT_CONTROL_E_AGAIN;
}

static int read_report(struct knit_thread *thread, struct knit_control_message *ret_message)
{
    uint64_t times;
    int error;

    (void)pthread_mutex_lock(&thread->mutex);
    error = take_report(thread, ret_message);
    /* Not before: it is readable while anything is left. */
    if (error == KNIT_CONTROL_E_AGAIN)
        (void)!read(thread->event_fd, &times, sizeof(times));
    (void)pthread_mutex_unlock(&thread->mutex);
    return error;
}

static int fd_of(const struct knit_thread *thread)
{
    return thread->event_fd;
}

/* ---- the thread ---- */

static void on_thread_end(void *arg)
{
    note_end(arg, true);
}

static void on_hook_end(void *arg)
{
    struct knit_thread *thread = arg;

    (void)pthread_mutex_unlock(&thread->crew->hooks);
    note_failure(thread, "a bootstrap hook ended the thread of its worker");
    note_end(thread, true);
}

static bool run_hooks(struct knit_thread *thread)
{
    struct knit_bootstrap info = {.text = thread->crew->bootstrap,
        .index = thread->lane.index,
        .total = thread->lane.lanes,
        .kind = KNIT_WORKER_THREAD};
    const struct knit_module_loading loading = {.on_step = on_step, .arg = thread};
    struct knit_sentence why = {""};
    int error;

    (void)pthread_mutex_lock(&thread->crew->hooks);
    pthread_cleanup_push(on_hook_end, thread);
    error = knit_modules_bootstrap(thread->crew->modules, &info, &loading, &why);
    pthread_cleanup_pop(0);
    (void)pthread_mutex_unlock(&thread->crew->hooks);
    if (error != 0)
        note_failure(thread, why.text);
    return error == 0;
}

/* False: it does not come to serving. */
static bool begin(struct knit_thread *thread)
{
    const struct knit_runner_options runner = {.modules = thread->crew->modules,
        .result_max_bytes = thread->lane.result_max_bytes,
        .deferred_max = thread->deferred_max,
        .busy = &thread->lane.board.busy[thread->lane.index],
        .pool = thread->lane.pool};
    bool has_memory = true, is_up = false;

    if (!run_hooks(thread))
        return false;
    /* The lane is on the board from here on, so one that was told to stop makes none. */
    (void)pthread_mutex_lock(&thread->mutex);
    if (!thread->is_stopping) {
        has_memory = knit_serve_init(&thread->serve, &runner, &thread->lane) == 0;
        is_up = thread->is_up = thread->says_ready = has_memory;
        say(thread);
    }
    (void)pthread_mutex_unlock(&thread->mutex);
    if (!has_memory)
        note_failure(thread, "out of memory");
    return is_up;
}

static void *run(void *arg)
{
    struct knit_thread *thread = arg;

    own_host = thread->host;
    (void)prctl(PR_SET_NAME, "knitting-worker");
    if (begin(thread))
        knit_serve_run(&thread->serve, on_thread_end, thread);
    note_end(thread, false);
    return NULL;
}

static int create(struct knit_thread *thread)
{
    sigset_t all, before;
    int error;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&thread->id, NULL, run, thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static int start(const struct knit_thread_options *options, struct knit_thread **ret_thread)
{
    struct knit_thread *thread = calloc(1, sizeof(*thread));
    int error;

    if (thread == NULL)
        return -ENOMEM;
    thread->crew = options->crew;
    atomic_fetch_add_explicit(&thread->crew->users, 1, memory_order_relaxed);
    thread->host = options->host;
    thread->deferred_max = options->deferred_max;
    thread->lane = options->lane;
    thread->lane.on_evict = on_evict;
    thread->lane.on_detached = on_detached;
    thread->lane.event_arg = thread;
    (void)pthread_mutex_init(&thread->mutex, NULL);
    thread->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = thread->event_fd >= 0 ? create(thread) : -errno;
    if (error != 0) {
        (void)free_thread(thread);
        return error;
    }
    *ret_thread = thread;
    return 0;
}

/* ---- what the host tells it ---- */

static int attach(struct knit_thread *thread, const struct knit_lane_session *session)
{
    struct place *place;
    int error;

    /* Entered first, because on_detached may be called as soon as the lane has the session. */
    (void)pthread_mutex_lock(&thread->mutex);
    place = find_place(thread, 0);
    if (place != NULL)
        *place = (struct place){.id = session->id};
    (void)pthread_mutex_unlock(&thread->mutex);
    if (place == NULL)
        return -ENOSPC;
    error = knit_lane_attach(thread->serve.lane, session);
    if (error != 0) {
        (void)pthread_mutex_lock(&thread->mutex);
        *place = (struct place){0};
        (void)pthread_mutex_unlock(&thread->mutex);
    }
    return error;
}

static int detach(struct knit_thread *thread, uint64_t session)
{
    return knit_lane_detach(thread->serve.lane, session);
}

static void stop(struct knit_thread *thread)
{
    (void)pthread_mutex_lock(&thread->mutex);
    thread->is_stopping = true;
    if (thread->is_up)
        knit_lane_stop(thread->serve.lane);
    (void)pthread_mutex_unlock(&thread->mutex);
}

static bool reap(struct knit_thread **thread, bool *ret_by_task)
{
    const struct timespec pause = {.tv_nsec = REAP_POLL_NS};
    int polls = 0;

    /* Between the note of its end and the end lie destructors of thread-specific data, which are
     * the task's own and may take any time. */
    while (pthread_tryjoin_np((*thread)->id, NULL) != 0) {
        if (++polls == REAP_POLLS)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    *ret_by_task = (*thread)->was_ended_by_task;
    *thread = free_thread(*thread);
    return true;
}

static void leave(struct knit_thread *thread)
{
    bool has_ended;

    (void)pthread_detach(thread->id);
    (void)pthread_mutex_lock(&thread->mutex);
    thread->is_stopping = thread->is_left = true;
    knit_fd_close(&thread->event_fd);
    has_ended = thread->has_ended;
    (void)pthread_mutex_unlock(&thread->mutex);
    /* It ends at this moment, and does not look at its structure any more. */
    if (has_ended)
        (void)free_thread(thread);
}

const struct knit_thread_kind knit_threads = {.open_crew = open_crew,
    .close_crew = close_crew,
    .registry = registry_of,
    .start = start,
    .fd = fd_of,
    .read_report = read_report,
    .attach = attach,
    .detach = detach,
    .stop = stop,
    .reap = reap,
    .leave = leave};
