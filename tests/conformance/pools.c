/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool takes of the program that opens it, and what it leaves of it. Where the sentence is
 * about sessions alone, daemons are asked too. Tasks of this program are in each pool of threads,
 * beside those of modules; a program that shall crash or exit is a child that opens a pool. */
#include "tests/conformance/conformance.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <knitting/task.h>

/* ---- tasks of the program ---- */

KNIT_TASK(own_sum, "own_sum(a: int, b: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
}

KNIT_TASK(own_is_host, "own_is_host() -> bool")
{
    return knit_return_bool(call, knit_is_host());
}

KNIT_TASK(own_open_pool, "own_open_pool() -> int", .doc = "The code with which it fails.")
{
    struct knit_pool *pool;
    int code = knit_pool_open(NULL, &pool, NULL);

    (void)knit_pool_close(pool);
    return knit_return_int(call, code);
}

KNIT_TASK(own_leave, "own_leave() -> nil", .doc = "Ends its thread.")
{
    pthread_exit(NULL);
}

KNIT_TASK(own_crash, "own_crash() -> nil")
{
    abort();
}

static _Atomic bool has_begun;

KNIT_TASK(own_wait, "own_wait() -> nil", .doc = "Does not come back.")
{
    atomic_store_explicit(&has_begun, true, memory_order_seq_cst);
    while (atomic_load_explicit(&has_begun, memory_order_seq_cst))
        (void)pause();
    return knit_return_nil(call);
}

/* ---- sessions ---- */

static void *call_often(void *arg)
{
    struct conformance *c = arg;
    struct knit *k = NULL;
    int64_t sum = 0, wrong = 0;

    if (place_session(c->place, NULL, &k, NULL) != KNIT_OK)
        return arg;
    for (int64_t i = 0; i < 300; i++) {
        if (knit_call(k, NULL, "add", "(int, int) -> int", i, (int64_t)1, &sum) != KNIT_OK)
            wrong++;
        wrong += sum != i + 1;
    }
    (void)knit_close(k);
    return wrong != 0 ? arg : NULL;
}

static void a_session_for_each_thread(struct conformance *c)
{
    enum { THREADS_OF_PROGRAM = 4 };
    pthread_t threads[THREADS_OF_PROGRAM];
    void *failed;

    for (int i = 0; i < THREADS_OF_PROGRAM; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, c), 0);
    for (int i = 0; i < THREADS_OF_PROGRAM; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static uint32_t threads_of_program(void)
{
    DIR *dir = opendir("/proc/self/task");
    uint32_t count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void threads_that_are_started(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 3};
    const uint32_t before = threads_of_program();
    struct knit *k;
    uint32_t with_pool;

    conformance_open_place(c, &wish);
    with_pool = threads_of_program();
    assert_int_equal(with_pool - before, c->distance == THREADS                 ? 1 + 3
                                         : (AT(c->distance) & AT_IN_HOUSE) != 0 ? 1
                                                                                : 0);
    k = conformance_session(c, NULL);
    conformance_serves(c);
    assert_int_equal(threads_of_program(), with_pool);
    (void)knit_close(k);
}

/* ---- opening ---- */

/* A pool that the case opens itself. */
static struct knit_pool_options options_of(const struct conformance *c, const char *const *modules)
{
    const bool is_threads = c->distance == THREADS;

    return (struct knit_pool_options){.kind = is_threads ? KNIT_POOL_THREADS : KNIT_POOL_PROCESSES,
        .modules = modules,
        .worker_program = is_threads ? NULL : getenv("KNIT_WORKER")};
}

static void a_pool_without_options(struct conformance *c)
{
    const struct knit_pool_options processes = {
        .kind = KNIT_POOL_PROCESSES, .worker_program = getenv("KNIT_WORKER")};
    KNIT_POOL_AUTO struct knit_pool *pool = NULL;
    struct knit *k = NULL;
    int64_t sum = 0;

    if (c->distance == PROCESSES) {
        conformance_fails(c, knit_pool_open(&processes, &pool, &c->error), KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(c->error.message, "modules"));
        assert_null(pool);
        return;
    }
    conformance_succeeds(c, knit_pool_open(NULL, &pool, &c->error));
    conformance_succeeds(c, knit_pool_session(pool, NULL, &k, &c->error));
    conformance_succeeds(
        c, knit_call(k, &c->error, "own_sum", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum));
    assert_true(sum == 5);
    (void)knit_close(k);
}

static void no_pool_within_a_worker(struct conformance *c)
{
    const bool is_threads = c->distance == THREADS;
    char module[512], paths[512];
    const struct place_wish wish = {.options = {module, paths}};
    bool is_host = true;
    int64_t code = KNIT_OK;

    assert_true(knit_is_host());
    if (!is_threads) {
        assert_non_null(getenv("KNIT_POOL_MODULE"));
        (void)snprintf(module, sizeof(module), "module=%s", getenv("KNIT_POOL_MODULE"));
        (void)snprintf(paths, sizeof(paths), "read_paths=%s", getenv("KNIT_LIBRARY_FOLDER"));
        conformance_open_place(c, &wish);
    }
    conformance_succeeds(c,
        knit_call(c->k, &c->error, is_threads ? "own_is_host" : "is_host", "() -> bool", &is_host));
    assert_false(is_host);
    conformance_succeeds(c,
        knit_call(c->k, &c->error, is_threads ? "own_open_pool" : "open_pool", "() -> int", &code));
    assert_true(code == KNIT_BAD_ARGUMENT);
}

static void what_threads_cannot_have(struct conformance *c)
{
    static const char *const environment[] = {"A=b", NULL}, *const paths[] = {"/usr", NULL};
    static const char *const ports[] = {"any", NULL};
    static const struct {
        const char *name;
        struct knit_pool_options options;
    } cases[] = {
        {"hard_timeout_ms", {.hard_timeout_ms = 60000}},
        {"abort_grace_ms", {.abort_grace_ms = 60000}},
        {"environment", {.environment = environment}},
        {"worker_program", {.worker_program = "/bin/true"}},
        {"permission", {.permission = "strict"}},
        {"read_paths", {.read_paths = paths}},
        {"write_paths", {.write_paths = paths}},
        {"connect_ports", {.connect_ports = ports}},
        {"listen_ports", {.listen_ports = ports}},
        {"udp_sockets", {.udp_sockets = KNIT_POOL_ON}},
        {"unix_sockets", {.unix_sockets = KNIT_POOL_ON}},
        {"exec_programs", {.exec_programs = KNIT_POOL_ON}},
        {"memory_max_bytes", {.memory_max_bytes = UINT64_C(1) << 30}},
        {"files_max", {.files_max = 100}},
        {"core_max_bytes", {.core_max_bytes = 1000}},
        {"file_max_bytes", {.file_max_bytes = 1000}},
    };
    const char *modules[] = {getenv("KNIT_VALUES"), NULL};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_pool_options options = cases[i].options;
        struct knit_pool *pool = NULL;
        int code;

        options.kind = c->distance == THREADS ? KNIT_POOL_THREADS : KNIT_POOL_PROCESSES;
        if (c->distance == PROCESSES) {
            options.modules = modules;
            options.worker_program = getenv("KNIT_WORKER");
            options.permission = options.permission != NULL ? options.permission : "custom";
        }
        code = knit_pool_open(&options, &pool, &c->error);
        if (c->distance == PROCESSES) {
            conformance_succeeds(c, code);
        } else {
            conformance_fails(c, code, KNIT_BAD_ARGUMENT);
            if (strstr(c->error.message, cases[i].name) == NULL ||
                strstr(c->error.message, "threads") == NULL)
                fail_msg("%s", c->error.message);
            assert_null(pool);
        }
        (void)knit_pool_close(pool);
    }
}

/* The best of some, and ten times what is meant: 1 ms with a thread, 20 with a process. */
static void the_first_result(struct conformance *c)
{
    const char *modules[] = {getenv("KNIT_CONFORMANCE"), NULL};
    const struct knit_pool_options options = options_of(c, modules);
    uint64_t best_ns = UINT64_MAX;

    for (int i = 0; i < 5; i++) {
        const uint64_t begin_ns = knit_deadline_now_ns();
        struct knit_pool *pool = NULL;
        struct knit *k = NULL;
        int64_t sum = 0;
        uint64_t took_ns;

        conformance_succeeds(c, knit_pool_open(&options, &pool, &c->error));
        conformance_succeeds(c, knit_pool_session(pool, NULL, &k, &c->error));
        conformance_succeeds(
            c, knit_call(k, &c->error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum));
        took_ns = knit_deadline_now_ns() - begin_ns;
        assert_true(sum == 5);
        best_ns = took_ns < best_ns ? took_ns : best_ns;
        (void)knit_close(k);
        (void)knit_pool_close(pool);
    }
    (void)printf("the first result came after %.2f ms\n", (double)best_ns / 1e6);
    assert_true(
        best_ns < knit_deadline_stretched_ns(c->distance == THREADS ? 10000000 : 200000000));
}

static void signals_are_as_they_were(struct conformance *c)
{
    static const struct place_wish usual;
    struct sigaction before[NSIG], after;
    sigset_t mask_before, mask_after;

    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, NULL, &before[i]);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    conformance_open_place(c, &usual);
    conformance_serves(c);
    for (int i = 1; i < NSIG; i++) {
        if (sigaction(i, NULL, &after) == 0)
            assert_true(after.sa_handler == before[i].sa_handler);
    }
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i < NSIG; i++)
        assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
}

/* ---- what it tells, and how it ends ---- */

static void what_a_pool_tells(struct conformance *c)
{
    static const struct place_wish usual;

    conformance_open_place(c, &usual);
    assert_int_equal(place_told(c->place, KNIT_POOL_WORKER_STARTED), 2);
    conformance_fails(c,
        c->distance == THREADS ? knit_call(c->k, &c->error, "own_leave", "()")
                               : knit_call(c->k, &c->error, "die", "(str)", "kill"),
        KNIT_WORKER_DIED);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    assert_true(KNIT_WAIT_UNTIL(place_told(c->place, KNIT_POOL_WORKER_DIED) == 1 &&
                                    place_told(c->place, KNIT_POOL_WORKER_STARTED) == 3,
        PLACE_MS));
    c->k = knit_close(c->k);
    place_kill(c->place, SIGTERM);
    assert_true(place_has_ended(c->place));
    assert_int_equal(place_told(c->place, KNIT_POOL_WORKER_STOPPED), 2);
}

static void a_task_that_ends_its_thread(struct conformance *c)
{
    struct knit_handle *held = conformance_hold(c, c->k, 0, 1, true);

    for (int i = 0; i < 3; i++) {
        conformance_fails(c, knit_call(c->k, &c->error, "own_leave", "()"), KNIT_WORKER_DIED);
        assert_int_equal(c->error.started, KNIT_STARTED_YES);
        assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
        assert_true(KNIT_WAIT_UNTIL(place_lanes_serving(c->place) == 2, PLACE_MS));
    }
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
}

static void closing_in_any_order(struct conformance *c)
{
    const char *modules[] = {getenv("KNIT_CONFORMANCE"), NULL};
    const struct knit_pool_options options = options_of(c, modules);

    for (int order = 0; order < 3; order++) {
        KNIT_POOL_AUTO struct knit_pool *pool = NULL;
        struct knit *k[2] = {NULL};
        struct knit_handle *running = NULL;

        conformance_succeeds(c, knit_pool_open(&options, &pool, &c->error));
        for (int i = 0; i < 2; i++)
            conformance_succeeds(c, knit_pool_session(pool, NULL, &k[i], &c->error));
        conformance_succeeds(c, knit_start(k[0], NULL, &running, &c->error, "obey", "()"));
        conformance_succeeds(c, knit_flush(k[0], &c->error));
        if (order == 0)
            k[0] = knit_close(k[0]);
        if (order < 2)
            pool = knit_pool_close(pool);
        assert_true((pool == NULL) == (order < 2));
        if (order == 1)
            conformance_fails(
                c, knit_await(running, conformance_patience_ms(), &c->error), KNIT_SHUTDOWN);
        if (order < 2)
            conformance_fails(c,
                knit_call(k[1], &c->error, "add", "(int, int)", (int64_t)1, (int64_t)1),
                KNIT_SHUTDOWN);
        for (int i = 0; i < 2; i++)
            (void)knit_close(k[i]);
    }
    assert_null(knit_pool_close(NULL));
}

static void a_pool_for_one_task(struct conformance *c)
{
    const char *modules[] = {getenv("KNIT_CONFORMANCE"), NULL};
    const struct knit_pool_options options = options_of(c, modules);
    struct knit_pool_options bad = options;
    struct knit_pool_task none = {0};

    for (int64_t i = 0; i < 3; i++) {
        KNIT_POOL_TASK_AUTO struct knit_pool_task add = {0};
        int64_t sum = 0;

        conformance_succeeds(
            c, knit_pool_task_open(&options, "add", "(int, int) -> int", &add, &c->error));
        for (int64_t k = 0; k < 10; k++) {
            conformance_succeeds(c, knit_call_prepared(add.call, NULL, &c->error, i, k, &sum));
            assert_true(sum == i + k);
        }
    }
    /* What fails leaves nothing open. */
    conformance_fails(
        c, knit_pool_task_open(&options, "add", "(integer)", &none, &c->error), KNIT_BAD_ARGUMENT);
    bad.workers = 257;
    conformance_fails(
        c, knit_pool_task_open(&bad, "add", NULL, &none, &c->error), KNIT_BAD_ARGUMENT);
    assert_true(none.pool == NULL && none.k == NULL && none.call == NULL);
}

/* ---- programs of their own, in a child ---- */

static int status_of(pid_t pid)
{
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void a_crash_in_a_thread(struct conformance *c)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct knit_pool *pool;
        struct knit *k;

        (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        (void)signal(SIGABRT, SIG_DFL);
        if (knit_pool_open(NULL, &pool, NULL) == KNIT_OK &&
            knit_pool_session(pool, NULL, &k, NULL) == KNIT_OK)
            (void)knit_call(k, NULL, "own_crash", "()");
        _exit(1);
    }
    status = status_of(pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    conformance_serves(c);
}

static void note_left(void *user, const struct knit_pool_event *event)
{
    if (event->kind == KNIT_POOL_WORKER_LEFT && strcmp(event->task, "own_wait") == 0)
        atomic_fetch_add_explicit((_Atomic uint32_t *)user, 1, memory_order_seq_cst);
}

/* 0: all was as it must be. */
static int leave_a_thread(void)
{
    _Atomic uint32_t left = 0;
    const struct knit_pool_options options = {
        .stop_ms = 50, .workers = 2, .on_event = note_left, .user = &left};
    struct knit_pool *pool;
    struct knit *k = NULL;
    struct knit_handle *handle = NULL;

    if (knit_pool_open(&options, &pool, NULL) != KNIT_OK ||
        knit_pool_session(pool, NULL, &k, NULL) != KNIT_OK ||
        knit_start(k, NULL, &handle, NULL, "own_wait", "()") != KNIT_OK)
        return 1;
    (void)knit_flush(k, NULL);
    if (!KNIT_WAIT_UNTIL(atomic_load_explicit(&has_begun, memory_order_seq_cst), PLACE_MS))
        return 2;
    if (knit_pool_close(pool) != NULL || atomic_load_explicit(&left, memory_order_seq_cst) != 1)
        return 3;
    if (knit_await(handle, conformance_patience_ms(), NULL) != KNIT_SHUTDOWN)
        return 4;
    (void)knit_close(k);
    /* The program may have another pool, and ends as it likes. */
    if (knit_pool_open(NULL, &pool, NULL) != KNIT_OK || knit_pool_close(pool) != NULL)
        return 5;
    return 0;
}

static void a_thread_that_does_not_come_back(struct conformance *c)
{
    pid_t pid = fork();

    (void)c;
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(leave_a_thread());
    assert_int_equal(status_of(pid), 0);
}

/* Opens a pool, forks a child that waits for the end of a pipe, and exits without closing. */
static _Noreturn void leave_all_open(enum distance distance, int told, int gate)
{
    static const struct place_wish usual;
    struct conformance c = {.distance = distance, .place = place_open(distance, &usual)};
    int64_t worker;
    char byte;

    if (place_session(c.place, NULL, &c.k, NULL) != KNIT_OK)
        _exit(1);
    (void)conformance_hold(&c, c.k, 0, 1, true);
    worker = (int64_t)place_lane_stat(c.place, 0, "pid");
    if (fork() == 0) {
        (void)close(told);
        (void)!read(gate, &byte, 1);
        _exit(0);
    }
    if (write(told, &worker, sizeof(worker)) != sizeof(worker))
        _exit(1);
    _exit(0);
}

static void a_program_that_exits_without_closing(struct conformance *c)
{
    int told[2], gate[2];
    int64_t worker = 0;
    pid_t program;

    /* What it leaves behind is handed over to this process. */
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(gate), 0);
    program = fork();
    assert_true(program >= 0);
    if (program == 0) {
        (void)close(gate[1]);
        leave_all_open(c->distance, told[1], gate[0]);
    }
    (void)close(told[1]);
    assert_int_equal(read(told[0], &worker, sizeof(worker)), sizeof(worker));
    assert_int_equal(status_of(program), 0);
    if (c->distance == PROCESSES)
        assert_true(
            KNIT_WAIT_UNTIL(waitpid((pid_t)worker, NULL, WNOHANG) == (pid_t)worker, PLACE_MS));
    (void)close(told[0]);
    (void)close(gate[1]);
    (void)close(gate[0]);
    /* The child of that program, and its other worker. */
    for (int i = 0; i < (c->distance == PROCESSES ? 2 : 1); i++)
        assert_true(waitpid(-1, NULL, 0) > 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static const struct conformance_case cases[] = {
    {"N1", "each thread that calls has a session of its own", a_session_for_each_thread, 0, 0, 0},
    {"N2", "a session starts no thread, a pool one, and one for each worker that is a thread",
        threads_that_are_started, 0, 0, 0},
    {"N3", "without options a pool has one thread with the tasks of the program",
        a_pool_without_options, AT(PROCESSES), 0, AT_DAEMONS},
    {"N4", "a worker is no host, and opens no pool", no_pool_within_a_worker, 0, 0, 0},
    {"N5", "what threads cannot have is refused by its name", what_threads_cannot_have, AT(THREADS),
        0, AT_DAEMONS},
    {"N6", "the first result of a pool comes soon", the_first_result, 0, 0, AT_DAEMONS},
    {"N7", "a pool leaves handlers and masks of signals as they are", signals_are_as_they_were, 0,
        0, AT_DAEMONS},
    {"N8", "a pool tells which workers started, died and stopped", what_a_pool_tells, 0, 0,
        AT_DAEMONS},
    {"N9", "a task that ends its thread fails its call alone, and the thread is replaced",
        a_task_that_ends_its_thread, 0, 0, AT(PROCESSES) | AT_DAEMONS},
    {"N10", "pool and sessions are closed in any order, the pool also by its variable's end",
        closing_in_any_order, 0, 0, AT_DAEMONS},
    {"N14", "one call opens a pool for one task, and nothing is left where it fails",
        a_pool_for_one_task, 0, 0, AT_DAEMONS},
    {"N11", "a crash in a worker that is a thread ends the program", a_crash_in_a_thread, 0, 0,
        AT(PROCESSES) | AT_DAEMONS},
    {"N12", "a thread that does not come back is left behind and told",
        a_thread_that_does_not_come_back, 0, 0, AT(PROCESSES) | AT_DAEMONS},
    {"N13", "of a program that exits without closing nothing is left, though its child lives on",
        a_program_that_exits_without_closing, 0, 0, AT_DAEMONS},
};

const struct conformance_section conformance_pools =
    CONFORMANCE_SECTION("pools of the program's own", cases);
