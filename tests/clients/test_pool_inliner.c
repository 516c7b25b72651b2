/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a program runs its own tasks on the thread that calls, with workers beside it or without
 * any. Method: the tasks are this program's and say what they see; most pools here have no worker,
 * so that all calls are inlined. What is the same with a daemon is in tests/conformance/inliner.c.
 */
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/pool.h>

static struct knit_pool *pool;
static struct knit *k;
static struct knit_error error;
static struct knit_pool_options options;
static struct knit_handle *victim;
static int code_of_call, ran;
static _Atomic int told, told_here;
static const char *const module[] = {TEST_MODULES "/module_shared.so", NULL};

KNIT_TASK(add, "add(a: int, b: int) -> int", .flags = KNIT_TASK_INLINE_SAFE)
{
    ran++;
    return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
}

KNIT_TASK(thread, "thread() -> int", .flags = KNIT_TASK_INLINE_SAFE)
{
    return knit_return_int(call, gettid());
}

KNIT_TASK(rounding, "rounding() -> int", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "The rounding mode that it finds; it leaves another one.")
{
    const int mode = fegetround();

    (void)fesetround(FE_DOWNWARD);
    return knit_return_int(call, mode);
}

KNIT_TASK(emit, "emit() -> int", .flags = KNIT_TASK_INLINE_SAFE)
{
    (void)knit_progress_int(call, 1);
    (void)knit_progress_int(call, 2);
    return knit_return_int(call, 3);
}

KNIT_TASK(call_back, "call_back() -> int", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "Uses the session that runs it.")
{
    struct knit_handle *handle = NULL;

    code_of_call =
        knit_call(k, NULL, "add", "(int, int) -> int", (int64_t)1, (int64_t)1, &(int64_t){0});
    if (knit_start(k, NULL, &handle, NULL, "add", "(int, int) -> int", (int64_t)1, (int64_t)1) !=
        KNIT_OK)
        return knit_fail(call, 1, "no call");
    (void)knit_dispatch(k, NULL);
    (void)knit_free(handle);
    return knit_return_bool(call, knit_close(k) == k && knit_is_host());
}

KNIT_TASK(free_own, "free_own() -> nil", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "Frees the handle of its own call.")
{
    victim = knit_free(victim);
    return knit_return_nil(call);
}

KNIT_TASK(leave_thread, "leave_thread() -> nil", .flags = KNIT_TASK_INLINE_SAFE)
{
    (void)call;
    pthread_exit(NULL);
}

KNIT_TASK(tell, "tell() -> nil", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "Counts its calls, and those that no worker runs.")
{
    atomic_fetch_add_explicit(&told_here, knit_is_host(), memory_order_seq_cst);
    atomic_fetch_add_explicit(&told, 1, memory_order_seq_cst);
    return knit_return_nil(call);
}

KNIT_TASK(trace, "trace() -> str", .flags = KNIT_TASK_INLINE_SAFE)
{
    char text[KNIT_CALL_TRACE_SIZE];
    const size_t len = knit_call_trace(call, text);

    return knit_return_str(call, text, len);
}

static void note_open(void *user, const struct knit_pool_event *event)
{
    if (event->kind == KNIT_POOL_DEBUG && strstr(event->text, "workers: 0,") != NULL)
        *(bool *)user = true;
}

static void open_with(const char *position, uint32_t workers, uint32_t batch)
{
    options.inliner_position = position;
    options.workers = workers;
    options.inliner_batch = batch;
    if (knit_pool_open(&options, &pool, &error) != KNIT_OK ||
        knit_pool_session(pool, NULL, &k, &error) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
}

static void open_alone(uint32_t batch)
{
    open_with("first", KNIT_POOL_NONE, batch);
}

static int set_up(void **state)
{
    (void)state;
    options = (struct knit_pool_options){.kind = KNIT_POOL_THREADS};
    pool = NULL;
    k = NULL;
    ran = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    k = knit_close(k);
    pool = knit_pool_close(pool);
    return 0;
}

static void expect_refused(const char *part)
{
    struct knit_pool *refused = NULL;

    assert_int_equal(knit_pool_open(&options, &refused, &error), KNIT_BAD_ARGUMENT);
    assert_null(refused);
    if (strstr(error.message, part) == NULL)
        fail_msg("%s", error.message);
}

static int64_t call_int(const char *task)
{
    int64_t value = -1;

    if (knit_call(k, &error, task, "() -> int", &value) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    return value;
}

static struct knit_handle *start_add(void)
{
    struct knit_handle *handle = NULL;

    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3),
        KNIT_OK);
    return handle;
}

static void without_workers_the_calling_thread_runs_all(void **state)
{
    int64_t sum = 0;

    (void)state;
    open_alone(0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(call_int("thread"), gettid());
        assert_int_equal(
            knit_call(k, &error, "add", "(int, int) -> int", (int64_t)i, (int64_t)1, &sum),
            KNIT_OK);
        assert_int_equal(sum, i + 1);
    }
}

static void without_workers_debug_counts_none(void **state)
{
    bool is_told = false;

    (void)state;
    options.debug = "lifecycle";
    options.on_event = note_open;
    options.user = &is_told;
    open_alone(0);
    k = knit_close(k);
    pool = knit_pool_close(pool);
    assert_true(is_told);
}

static void with_a_worker_the_calling_thread_runs_half(void **state)
{
    int own = 0;

    (void)state;
    open_with("last", 1, 0);
    for (int i = 0; i < 10; i++)
        own += call_int("thread") == gettid();
    assert_int_equal(own, 5);
}

static void a_batch_without_limit_is_one_turn(void **state)
{
    struct knit_handle *handles[20];

    (void)state;
    open_alone(KNIT_POOL_NONE);
    for (int i = 0; i < 20; i++)
        handles[i] = start_add();
    assert_int_equal(ran, 0);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_int_equal(ran, 20);
    for (int i = 0; i < 20; i++)
        (void)knit_free(handles[i]);
}

static void a_flush_is_a_turn(void **state)
{
    struct knit_handle *handles[3];

    (void)state;
    open_alone(2);
    for (int i = 0; i < 3; i++)
        handles[i] = start_add();
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_int_equal(ran, 2);
    assert_int_equal(knit_await(handles[2], 1000, &error), KNIT_OK);
    for (int i = 0; i < 3; i++)
        (void)knit_free(handles[i]);
}

static void a_start_that_finds_no_room_takes_a_turn(void **state)
{
    const struct knit_open_options few = {.slots = 16, .would_block = true};
    struct knit_handle *handles[64];

    (void)state;
    open_alone(0);
    k = knit_close(k);
    assert_int_equal(knit_pool_session(pool, &few, &k, &error), KNIT_OK);
    for (int i = 0; i < 64; i++)
        handles[i] = start_add();
    assert_int_equal(ran, 64 - 16);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(knit_await(handles[i], 1000, &error), KNIT_OK);
        (void)knit_free(handles[i]);
    }
}

static void a_task_finds_a_worker_s_rounding_and_leaves_its_caller_s(void **state)
{
    (void)state;
    open_alone(0);
    (void)fesetround(FE_UPWARD);
    assert_int_equal(call_int("rounding"), FE_TONEAREST);
    assert_int_equal(fegetround(), FE_UPWARD);
    (void)fesetround(FE_TONEAREST);
}

static void note(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    (void)handle;
    *(uint64_t *)user = count * 100 + ((const unsigned char *)value)[len - 1];
}

static void without_workers_values_are_there_afterwards(void **state)
{
    struct knit_call_options wanted = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    uint64_t seen = 0;

    (void)state;
    open_alone(0);
    wanted.progress = true;
    assert_int_equal(knit_start(k, &wanted, &handle, &error, "emit", "() -> int"), KNIT_OK);
    knit_on_progress(handle, note, &seen);
    assert_int_equal(knit_await(handle, 1000, &error), KNIT_OK);
    assert_int_equal(seen, 202);
    (void)knit_free(handle);
}

static void a_task_may_use_its_session_and_not_wait_for_it(void **state)
{
    (void)state;
    open_alone(0);
    assert_int_equal(knit_call(k, &error, "call_back", "() -> any", NULL, NULL), KNIT_BAD_RESULT);
    assert_int_equal(code_of_call, KNIT_BAD_ARGUMENT);
    assert_int_equal(ran, 0);
    assert_int_equal(call_int("thread"), gettid());
}

static void a_task_on_the_calling_thread_reads_its_trace(void **state)
{
    static const char trace_of_caller[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    struct knit_call_options call = KNIT_CALL_OPTIONS_INIT;
    const char *text;
    size_t len;

    (void)state;
    open_alone(1);
    call.trace = trace_of_caller;
    assert_int_equal(knit_call_with(k, &call, &error, "trace", "() -> str", &text, &len), KNIT_OK);
    assert_int_equal(len, strlen(trace_of_caller));
    assert_memory_equal(text, trace_of_caller, len);
    assert_int_equal(knit_call(k, &error, "trace", "() -> str", &text, &len), KNIT_OK);
    assert_int_equal(len, 0);
}

static void a_call_that_waited_too_long_does_not_start(void **state)
{
    struct knit_call_options wanted = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handles[2];
    uint64_t over_ns;

    (void)state;
    open_alone(0);
    wanted.queue_ms = 1;
    for (int i = 0; i < 2; i++)
        assert_int_equal(knit_start(k, &wanted, &handles[i], &error, "add", "(int, int) -> int",
                             (int64_t)1, (int64_t)1),
            KNIT_OK);
    over_ns = knit_now() + 1000000;
    while (knit_now() <= over_ns)
        ;
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(knit_await(handles[i], 1000, &error), KNIT_TIMEOUT);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        (void)knit_free(handles[i]);
    }
    assert_int_equal(ran, 0);
}

static void without_workers_nobody_takes_a_notification(void **state)
{
    (void)state;
    open_alone(0);
    assert_int_equal(knit_notify(k, &error, "add", "(int, int) -> int", (int64_t)1, (int64_t)1),
        KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(error.message, "workers"));
}

static void workers_alone_run_notifications(void **state)
{
    (void)state;
    options.drain_ms = 60000;
    open_with("first", 1, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(knit_notify(k, &error, "tell", "() -> nil"), KNIT_OK);
    pool = knit_pool_close(pool);
    assert_int_equal(atomic_load_explicit(&told, memory_order_seq_cst), 10);
    assert_int_equal(atomic_load_explicit(&told_here, memory_order_seq_cst), 0);
}

static void a_task_may_free_its_own_call(void **state)
{
    (void)state;
    open_alone(0);
    assert_int_equal(knit_start(k, NULL, &victim, &error, "free_own", "() -> nil"), KNIT_OK);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_null(victim);
    assert_int_equal(call_int("thread"), gettid());
}

static void a_pool_that_closes_ends_what_waits(void **state)
{
    struct knit_handle *handle;

    (void)state;
    open_alone(0);
    handle = start_add();
    pool = knit_pool_close(pool);
    assert_int_equal(knit_await(handle, 1000, &error), KNIT_SHUTDOWN);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(ran, 0);
    (void)knit_free(handle);
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "add", "(int, int) -> int", (int64_t)1, (int64_t)1),
        KNIT_SHUTDOWN);
}

static void *leave(void *arg)
{
    (void)knit_await(arg, 1000, NULL);
    return arg;
}

static void a_task_that_ends_its_caller_s_thread_fails_its_call(void **state)
{
    struct knit_handle *handle;
    pthread_t thread;
    void *returned = &thread;

    (void)state;
    open_alone(0);
    assert_int_equal(knit_start(k, NULL, &handle, &error, "leave_thread", "() -> nil"), KNIT_OK);
    assert_int_equal(pthread_create(&thread, NULL, leave, handle), 0);
    assert_int_equal(pthread_join(thread, &returned), 0);
    assert_null(returned);
    assert_int_equal(knit_await(handle, 1000, &error), KNIT_WORKER_DIED);
    assert_int_equal(error.started, KNIT_STARTED_YES);
    (void)knit_free(handle);
    assert_int_equal(call_int("thread"), gettid());
}

static void a_forked_child_runs_nothing(void **state)
{
    struct knit_handle *handle;
    int status;
    pid_t child;

    (void)state;
    open_alone(0);
    handle = start_add();
    child = fork();
    if (child == 0) {
        const bool is_refused = knit_dispatch(k, NULL) == KNIT_DISCONNECTED && ran == 0;

        (void)knit_free(handle);
        (void)knit_close(k);
        (void)knit_pool_close(pool);
        _exit(is_refused ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(knit_await(handle, 1000, &error), KNIT_OK);
    (void)knit_free(handle);
}

static void a_program_without_tasks_has_those_of_modules(void **state)
{
    struct knit_module program = *knit_own_tasks();
    int own = 0;

    (void)state;
    program.tasks_end = program.tasks;
    options.modules = module;
    options.inliner_position = "first";
    if (knit_pool_open_with(&program, &options, &pool, &error) != KNIT_OK ||
        knit_pool_session(pool, NULL, &k, &error) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    for (int i = 0; i < 10; i++)
        own += call_int("shared_thread") == gettid();
    assert_int_equal(own, 5);
}

static void bad_options_are_refused_by_name(void **state)
{
    static const char *const two[] = {
        TEST_MODULES "/module_shared.so", TEST_MODULES "/module_tasks.so", NULL};
    static const char *const same[] = {
        TEST_MODULES "/module_shared.so", TEST_MODULES "/module_shared.so", NULL};

    (void)state;
    options.workers = KNIT_POOL_NONE;
    expect_refused("no workers");
    options.inliner_position = "middle";
    expect_refused("middle");
    options.inliner_position = "last";
    options.modules = module;
    expect_refused("isolated");
    options.modules = NULL;
    options.inliner_modules = module;
    expect_refused("is not one of modules");
    options.modules = two;
    options.inliner_modules = same;
    expect_refused("is named twice");
}

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, name, set_up, tear_down, NULL                                                       \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_workers_the_calling_thread_runs_all),
        TEST(without_workers_debug_counts_none),
        TEST(with_a_worker_the_calling_thread_runs_half),
        TEST(a_batch_without_limit_is_one_turn),
        TEST(a_flush_is_a_turn),
        TEST(a_start_that_finds_no_room_takes_a_turn),
        TEST(a_task_finds_a_worker_s_rounding_and_leaves_its_caller_s),
        TEST(without_workers_values_are_there_afterwards),
        TEST(a_task_may_use_its_session_and_not_wait_for_it),
        TEST(a_task_on_the_calling_thread_reads_its_trace),
        TEST(a_call_that_waited_too_long_does_not_start),
        TEST(without_workers_nobody_takes_a_notification),
        TEST(workers_alone_run_notifications),
        TEST(a_task_may_free_its_own_call),
        TEST(a_pool_that_closes_ends_what_waits),
        TEST(a_task_that_ends_its_caller_s_thread_fails_its_call),
        TEST(a_forked_child_runs_nothing),
        TEST(a_program_without_tasks_has_those_of_modules),
        TEST(bad_options_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
