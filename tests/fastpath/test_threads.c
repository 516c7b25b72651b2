/* SPDX-License-Identifier: Apache-2.0 */
/* Pools whose workers are threads of this process, with tasks of this program and of modules.
 *
 * Bounds of time are ten times the expected time. Threads that are left behind stay until the
 * program ends, or until a gate lets them go.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/task.h>

#include "fastpath/lane/bell.h"
#include "fastpath/worker/thread.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"
#include "tests/support/scratch.h"

#define SHARED TEST_MODULES "/module_shared.so"

/* ---- tasks of this program ---- */

static _Atomic uint32_t gate, held;

KNIT_TASK(add, "add(a: int, b: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
}

KNIT_TASK(large, "large(len: int) -> bin")
{
    const size_t len = (size_t)knit_arg_int(call, 0);
    unsigned char *bytes = knit_return_bin_place(call, len);

    for (size_t i = 0; bytes != NULL && i < len; i++)
        bytes[i] = (unsigned char)i;
    return 0;
}

KNIT_TASK(leave_thread, "leave_thread() -> nil")
{
    (void)call;
    pthread_exit(NULL);
}

KNIT_TASK(be_cancelled, "be_cancelled() -> nil")
{
    (void)pthread_cancel(pthread_self());
    pthread_testcancel();
    return knit_return_nil(call);
}

/* Waits for the gate whatever its caller does. */
KNIT_TASK(hold, "hold() -> nil")
{
    atomic_fetch_add_explicit(&held, 1, memory_order_seq_cst);
    (void)KNIT_WAIT_UNTIL(atomic_load_explicit(&gate, memory_order_seq_cst) != 0, 60000);
    atomic_fetch_sub_explicit(&held, 1, memory_order_seq_cst);
    return knit_return_nil(call);
}

KNIT_TASK(wait_abort, "wait_abort() -> nil")
{
    (void)KNIT_WAIT_UNTIL(knit_aborted(call), 60000);
    return knit_return_aborted(call);
}

KNIT_TASK(host_of, "host_of() -> int", .doc = "Whose worker runs it.")
{
    return knit_return_int(call, (int64_t)knit_thread_host());
}

KNIT_TASK(unblocked, "unblocked() -> int", .doc = "How many signals may interrupt it.")
{
    sigset_t set;
    int64_t count = 0;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    for (int number = 1; number <= SIGRTMAX; number++) {
        /* Behind the last of the standard ones lie those of the C library itself. */
        if (number != SIGKILL && number != SIGSTOP && (number <= SIGSYS || number >= SIGRTMIN))
            count += sigismember(&set, number) == 0;
    }
    return knit_return_int(call, count);
}

KNIT_TASK(round_down, "round_down() -> nil", .doc = "Leaves another state of the float unit.")
{
#ifdef __x86_64__
    const uint32_t down = 0x3f80;

    __asm__ volatile("ldmxcsr %0" : : "m"(down));
#endif
    return knit_return_nil(call);
}

KNIT_TASK(rounding, "rounding() -> int")
{
    uint32_t word = 0x1f80;

#ifdef __x86_64__
    __asm__ volatile("stmxcsr %0" : "=m"(word));
#endif
    return knit_return_int(call, word);
}

/* ---- what tests share ---- */

static void make_threads(struct pools *pools, uint32_t workers)
{
    pools_init(pools, workers);
    pools->options.threads = &knit_threads;
    pools->options.program = knit_own_tasks();
    pools->options.module_count = 0;
    pools->options.worker_path = NULL;
    pools->options.environment = NULL;
    pools->options.abort_grace_ms = pools->options.abandoned_ms = 0;
}

static void open_threads(struct pools *pools, uint32_t workers)
{
    make_threads(pools, workers);
    if (pools_open(pools) != 0)
        fail_msg("%s", pools->why.text);
}

static int64_t ask(struct pools *pools, const char *task)
{
    struct pools_outcome outcome = {0};

    pools_start_empty(pools, task, &outcome);
    pools_wait(pools, &outcome);
    assert_int_equal(outcome.code, 0);
    return outcome.number;
}

static struct knit_host_stats stats_of(struct pools *pools)
{
    struct knit_host_stats stats;

    knit_host_stats(pools->pool, &stats);
    return stats;
}

static uint32_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    uint32_t count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

static uint32_t count_threads(void)
{
    return count_entries("/proc/self/task");
}

/* ---- serving ---- */

static void threads_serve_the_program_s_own_tasks(void **state)
{
    struct pools pools;
    struct pools_outcome bytes = {0};
    struct knit_host_lane_stats lane;

    (void)state;
    open_threads(&pools, 2);
    pools_add(&pools);
    pools_start_number(&pools, "large", 5000, &bytes);
    pools_wait(&pools, &bytes);
    assert_int_equal(bytes.code, 0);
    assert_int_equal(bytes.len, 5003);
    assert_int_equal(bytes.bytes[3 + 4999], 4999 % 256);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STARTED), 2);
    knit_host_lane_stats(pools.pool, 1, &lane);
    assert_int_equal(lane.state, KNIT_HOST_LANE_SERVING);
    assert_int_equal(lane.pid, 0);
    pools_fini(&pools);
}

static void nothing_stays_when_a_pool_is_closed(void **state)
{
    struct pools pools;
    uint32_t threads, descriptors;

    (void)state;
    open_threads(&pools, 2);
    pools_fini(&pools);
    threads = count_threads();
    descriptors = count_entries("/proc/self/fd");
    for (int i = 0; i < 20; i++) {
        open_threads(&pools, 3);
        pools_add(&pools);
        pools_fini(&pools);
    }
    assert_int_equal(count_threads(), threads);
    assert_int_equal(count_entries("/proc/self/fd"), descriptors);
}

static void a_thread_knows_its_host_and_gets_no_signals(void **state)
{
    struct pools pools;
    int64_t first;

    (void)state;
    open_threads(&pools, 1);
    assert_int_equal(knit_thread_host(), 0);
    first = ask(&pools, "host_of");
    assert_int_equal(first, knit_host_number(pools.pool));
    assert_int_equal(ask(&pools, "unblocked"), 0);
    pools_fini(&pools);
    /* It may lie where the first one lay. */
    open_threads(&pools, 1);
    assert_int_not_equal(ask(&pools, "host_of"), first);
    pools_fini(&pools);
}

static void a_thread_s_float_state_is_put_back(void **state)
{
    struct pools pools;

    (void)state;
    open_threads(&pools, 1);
    (void)ask(&pools, "round_down");
    assert_int_equal(ask(&pools, "rounding") & ~0x3f, 0x1f80 & ~0x3f);
    pools_fini(&pools);
}

static void a_parked_thread_is_woken_by_its_lane_s_bell(void **state)
{
    struct pools pools;
    struct knit_host_lane_stats lane;

    (void)state;
    make_threads(&pools, 1);
    pools.options.spin_us = 0;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 100; i++) {
        assert_true(
            KNIT_WAIT_UNTIL((knit_host_lane_stats(pools.pool, 0, &lane), lane.is_parked), 2000));
        pools_add(&pools);
    }
    assert_true(lane.parks >= 99);
    pools_fini(&pools);
}

static void a_first_result_comes_soon(void **state)
{
    uint64_t best_ns = UINT64_MAX;

    (void)state;
    for (int i = 0; i < 10; i++) {
        struct pools pools;
        uint64_t began_ns;

        make_threads(&pools, 1);
        pools_make_ledger(&pools);
        began_ns = knit_clock_ns();
        assert_int_equal(pools_open(&pools), 0);
        pools_add(&pools);
        began_ns = knit_clock_ns() - began_ns;
        best_ns = began_ns < best_ns ? began_ns : best_ns;
        pools_fini(&pools);
    }
    print_message("first result after %llu us\n", (unsigned long long)(best_ns / 1000));
    assert_true(best_ns < 10000000);
}

/* ---- ends ---- */

static void expect_death(struct pools *pools, const char *task)
{
    static const char lost[] = "the worker lost its thread: the task ended it";
    struct pools_outcome outcome = {0};

    pools_start_empty(pools, task, &outcome);
    pools_wait(pools, &outcome);
    assert_int_equal(outcome.code, KNIT_WORKER_DIED);
    assert_int_equal(outcome.failure.started, KNIT_STARTED_YES);
    assert_true(outcome.failure.message.len == sizeof(lost) - 1);
    assert_memory_equal(outcome.failure.message.bytes, lost, sizeof(lost) - 1);
}

static void a_task_that_ends_its_thread_fails_its_call_and_the_thread_is_replaced(void **state)
{
    struct pools pools;

    (void)state;
    open_threads(&pools, 1);
    pools_add(&pools);
    expect_death(&pools, "leave_thread");
    pools_add(&pools);
    expect_death(&pools, "be_cancelled");
    pools_add(&pools);
    assert_int_equal(stats_of(&pools).deaths, 2);
    pools_wait_events(&pools, KNIT_HOST_WORKER_STARTED, 3);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 2);
    pools_fini(&pools);
}

static void calls_behind_a_task_that_ends_its_thread_are_run(void **state)
{
    struct pools pools;
    struct pools_outcome sums[32] = {0}, lost = {0};

    (void)state;
    open_threads(&pools, 1);
    pools_start_empty(&pools, "leave_thread", &lost);
    for (int i = 0; i < 32; i++)
        pools_start(&pools, "add", "\x92\x02\x03", 3, &sums[i]);
    pools_wait(&pools, &lost);
    assert_int_equal(lost.code, KNIT_WORKER_DIED);
    for (int i = 0; i < 32; i++) {
        pools_wait(&pools, &sums[i]);
        assert_int_equal(sums[i].number, 5);
    }
    pools_fini(&pools);
}

static void a_task_that_ends_threads_again_and_again_is_quarantined(void **state)
{
    struct pools pools;
    struct pools_outcome refused = {0};

    (void)state;
    make_threads(&pools, 1);
    pools.options.deaths_per_minute = 2;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 2; i++) {
        pools_add(&pools);
        expect_death(&pools, "leave_thread");
    }
    pools_wait_events(&pools, KNIT_HOST_TASK_QUARANTINED, 1);
    pools_start_empty(&pools, "leave_thread", &refused);
    pools_wait(&pools, &refused);
    assert_int_equal(refused.code, KNIT_QUARANTINED);
    pools_add(&pools);
    pools_fini(&pools);
}

static void a_running_task_learns_that_its_pool_stops(void **state)
{
    struct pools pools;
    struct pools_outcome outcome = {0};

    (void)state;
    open_threads(&pools, 1);
    pools_start_empty(&pools, "wait_abort", &outcome);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && stats_of(&pools).lanes_serving == 1, 2000));
    knit_host_shutdown(pools.pool, false, knit_deadline_in_ms(10000));
    pools_wait(&pools, &outcome);
    assert_int_equal(outcome.code, KNIT_SHUTDOWN);
    knit_host_wait_stopped(pools.pool);
    assert_int_equal(stats_of(&pools).left_behind, 0);
    pools_fini(&pools);
}

static void a_thread_that_does_not_come_back_is_left_behind(void **state)
{
    struct pools pools;
    struct pools_outcome outcome = {0};
    uint32_t threads = count_threads();
    uint64_t until_ns;

    (void)state;
    atomic_store_explicit(&gate, 0, memory_order_seq_cst);
    make_threads(&pools, 1);
    pools.options.stop_ms = 50;
    assert_int_equal(pools_open(&pools), 0);
    pools_start_empty(&pools, "hold", &outcome);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && atomic_load_explicit(&held, memory_order_seq_cst) == 1, 2000));
    until_ns = knit_deadline_in_ms(2000);
    knit_host_shutdown(pools.pool, false, knit_deadline_in_ms(10000));
    knit_host_wait_stopped(pools.pool);
    assert_true(knit_deadline_now_ns() < until_ns);
    assert_int_equal(stats_of(&pools).left_behind, 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_LEFT), 1);
    assert_non_null(strstr(pools.text, "its thread has not come back while running a task"));
    assert_true(knit_session_is_closed(pools.session->session));
    pools_fini(&pools);
    /* It answers into memory that is still there, and ends by itself. */
    assert_int_equal(count_threads(), threads + 1);
    atomic_store_explicit(&gate, 1, memory_order_seq_cst);
    assert_true(KNIT_WAIT_UNTIL(count_threads() == threads, 2000));
}

static void a_session_may_be_closed_while_its_call_runs(void **state)
{
    struct pools pools;
    struct pools_outcome outcome = {0};
    struct knit_session_options session = {.spin_us = 20};

    (void)state;
    atomic_store_explicit(&gate, 0, memory_order_seq_cst);
    open_threads(&pools, 1);
    pools_start_empty(&pools, "hold", &outcome);
    assert_true(KNIT_WAIT_UNTIL(
        pools_turn(&pools) && atomic_load_explicit(&held, memory_order_seq_cst) == 1, 2000));
    pools.session = knit_host_own_session_close(pools.pool, pools.session);
    assert_int_equal(stats_of(&pools).closing_sessions, 1);
    assert_int_equal(knit_host_own_session_open(pools.pool, 16, &session, &pools.session), 0);
    atomic_store_explicit(&gate, 1, memory_order_seq_cst);
    pools_add(&pools);
    pools_wait_sessions(&pools, 1);
    pools_fini(&pools);
}

/* ---- refusals ---- */

#define EXPECT_OPTION_REFUSED(set, name)                                                           \
    do {                                                                                           \
        make_threads(&pools, 1);                                                                   \
        (void)(set);                                                                               \
        pools_expect_refusal(                                                                      \
            &pools, name " is set: workers that are threads of the program cannot have it");       \
    } while (0)

static void what_threads_cannot_have_is_refused_by_name(void **state)
{
    static const char *const prefix[] = {"nice", NULL}, *const environment[] = {"A=b", NULL};
    struct pools pools;

    (void)state;
    EXPECT_OPTION_REFUSED(pools.options.hard_timeout_ms = 100, "hard_timeout_ms");
    EXPECT_OPTION_REFUSED(pools.options.abort_grace_ms = 100, "abort_grace_ms");
    EXPECT_OPTION_REFUSED(pools.options.abandoned_ms = 100, "abandoned_ms");
    EXPECT_OPTION_REFUSED(
        pools.options.confinement.rules.profile = KNIT_CONFINE_STRICT, "permission");
    EXPECT_OPTION_REFUSED(pools.options.prefix = prefix, "prefix");
    EXPECT_OPTION_REFUSED(pools.options.environment = environment, "environment");
    EXPECT_OPTION_REFUSED(pools.options.kill_orphans = true, "kill_orphans");
}

static void a_task_with_a_hard_timeout_is_refused_by_name(void **state)
{
    struct pools pools;

    (void)state;
    make_threads(&pools, 1);
    pools.options.program = NULL;
    pools.options.module_count = 1;
    pools_expect_refusal(&pools,
        "worker startup failed: task hang has a hard timeout of 200 ms: workers that are threads");
}

static void the_program_s_tasks_are_for_threads(void **state)
{
    struct pools pools;

    (void)state;
    pools_init(&pools, 1);
    pools.options.program = knit_own_tasks();
    pools_expect_refusal(
        &pools, "tasks of the program itself are for workers that are its threads");
}

static void a_bad_module_is_refused_with_one_sentence(void **state)
{
    static const struct {
        const char *module, *sentence;
    } bad[] = {
        {TEST_MODULES "/module_bad_1.so", "was built for module ABI 8, this worker has 1"},
        {TEST_MODULES "/module_bad_8.so", "its bootstrap hook failed with 5: no database today"},
        {TEST_MODULES "/module_bad_9.so", "is no module: it has no KNIT_MODULE()"},
        {TEST_MODULES "/module_bad_12.so", "task \"wrong name\": a name is 1 to 128"},
        {"/nowhere/x.so", "cannot open shared object file: No such file or directory"},
    };
    struct knit_module empty = *knit_own_tasks();
    struct pools pools;

    (void)state;
    empty.tasks_end = empty.tasks;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        make_threads(&pools, 2);
        pools.modules[0] = bad[i].module;
        pools.options.module_count = 1;
        pools_expect_refusal(&pools, bad[i].sentence);
    }
    make_threads(&pools, 1);
    pools.options.program = NULL;
    pools_expect_refusal(&pools, "no modules are named");
    make_threads(&pools, 1);
    pools.options.program = &empty;
    pools_expect_refusal(&pools, "the program has no tasks: no KNIT_TASK() is linked into it");
}

static void a_hook_that_hangs_is_refused_and_left_behind(void **state)
{
    struct pools pools;

    (void)state;
    make_threads(&pools, 1);
    pools.modules[0] = TEST_MODULES "/module_bad_15.so";
    pools.options.module_count = 1;
    pools.options.startup_ms = 100;
    pools_expect_refusal(&pools,
        "it took longer than 100 ms, running the bootstrap hook of " TEST_MODULES
        "/module_bad_15.so");
}

/* ---- modules ---- */

static void add_shared(struct pools *pools)
{
    pools->modules[0] = SHARED;
    pools->options.module_count = 1;
}

/* In place of the program's list of tasks: takes as long as the gate is closed. */
static int list_late(
    const struct knit_task *const **ret_tasks, size_t *ret_count, char *message, size_t size)
{
    const struct knit_module *own = knit_own_tasks();

    (void)message, (void)size;
    atomic_fetch_add_explicit(&held, 1, memory_order_seq_cst);
    (void)KNIT_WAIT_UNTIL(atomic_load_explicit(&gate, memory_order_seq_cst) != 0, 60000);
    *ret_tasks = own->tasks;
    *ret_count = (size_t)(own->tasks_end - own->tasks);
    return 0;
}

static void *load_late(void *unused)
{
    struct knit_module late = *knit_own_tasks();
    const struct knit_crew_options options = {.program = &late, .bootstrap = ""};
    struct knit_sentence why = {""};
    struct knit_crew *crew = NULL;

    late.list = list_late;
    assert_int_equal(knit_threads.open_crew(&options, &crew, &why), 0);
    (void)knit_threads.close_crew(crew);
    return unused;
}

static void a_child_loads_tasks_though_its_parent_was_loading(void **state)
{
    const struct knit_crew_options options = {.program = knit_own_tasks(), .bootstrap = ""};
    struct knit_sentence why = {""};
    struct knit_crew *crew = NULL;
    pthread_t thread;
    pid_t pid;
    int status;

    (void)state;
    atomic_store_explicit(&gate, 0, memory_order_seq_cst);
    atomic_store_explicit(&held, 0, memory_order_seq_cst);
    assert_int_equal(pthread_create(&thread, NULL, load_late, NULL), 0);
    assert_true(KNIT_WAIT_UNTIL(atomic_load_explicit(&held, memory_order_seq_cst) == 1, 10000));
    pid = fork();
    if (pid == 0) {
        (void)alarm(20);
        _exit(knit_threads.open_crew(&options, &crew, &why) != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    atomic_store_explicit(&gate, 1, memory_order_seq_cst);
    assert_int_equal(pthread_join(thread, NULL), 0);
    atomic_store_explicit(&held, 0, memory_order_seq_cst);
}

static void pools_of_one_process_share_a_module(void **state)
{
    struct pools first, second;
    int64_t hooks, calls;

    (void)state;
    make_threads(&first, 2);
    add_shared(&first);
    assert_int_equal(pools_open(&first), 0);
    pools_add(&first);
    hooks = ask(&first, "shared_hooks");
    assert_true(hooks >= 2);
    assert_int_equal(ask(&first, "shared_kind"), KNIT_WORKER_THREAD);
    make_threads(&second, 1);
    add_shared(&second);
    assert_int_equal(pools_open(&second), 0);
    assert_int_equal(ask(&second, "shared_hooks"), hooks + 1);
    calls = ask(&first, "shared_calls");
    assert_int_equal(ask(&second, "shared_calls"), calls + 1);
    pools_fini(&first);
    (void)ask(&second, "shared_calls");
    pools_fini(&second);
}

static void a_refused_pool_takes_nothing_from_another_one(void **state)
{
    struct pools good, bad;

    (void)state;
    make_threads(&good, 1);
    add_shared(&good);
    assert_int_equal(pools_open(&good), 0);
    make_threads(&bad, 1);
    add_shared(&bad);
    bad.modules[1] = TEST_MODULES "/module_bad_1.so";
    bad.options.module_count = 2;
    pools_expect_refusal(&bad, "was built for module ABI 8");
    make_threads(&bad, 1);
    add_shared(&bad);
    bad.modules[1] = SHARED;
    bad.options.module_count = 2;
    pools_expect_refusal(&bad, "has a task of that name already");
    (void)ask(&good, "shared_calls");
    pools_add(&good);
    pools_fini(&good);
}

static void copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    struct stat status;

    (void)unlink(to);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    assert_true(in >= 0 && out >= 0 && fstat(in, &status) == 0);
    while (status.st_size > 0) {
        ssize_t sent = sendfile(out, in, NULL, (size_t)status.st_size);

        assert_true(sent > 0);
        status.st_size -= sent;
    }
    (void)close(in);
    (void)close(out);
}

static void a_module_that_was_replaced_is_refused(void **state)
{
    struct pools pools;
    char *dir = knit_scratch_new(), *path = knit_scratch_path(dir, "module.so"),
         *other = knit_scratch_path(dir, "other.so");

    (void)state;
    copy_file(SHARED, path);
    make_threads(&pools, 1);
    pools.modules[0] = path;
    pools.options.module_count = 1;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(ask(&pools, "shared_hooks"), 1);
    pools_fini(&pools);
    copy_file(SHARED, other);
    assert_int_equal(rename(other, path), 0);
    make_threads(&pools, 1);
    pools.modules[0] = path;
    pools.options.module_count = 1;
    pools_expect_refusal(&pools, "module.so: was replaced since this program loaded it");
    free(path);
    free(other);
    (void)knit_scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_serve_the_program_s_own_tasks),
        cmocka_unit_test(nothing_stays_when_a_pool_is_closed),
        cmocka_unit_test(a_thread_knows_its_host_and_gets_no_signals),
        cmocka_unit_test(a_thread_s_float_state_is_put_back),
        cmocka_unit_test(a_parked_thread_is_woken_by_its_lane_s_bell),
        cmocka_unit_test(a_first_result_comes_soon),
        cmocka_unit_test(a_task_that_ends_its_thread_fails_its_call_and_the_thread_is_replaced),
        cmocka_unit_test(calls_behind_a_task_that_ends_its_thread_are_run),
        cmocka_unit_test(a_task_that_ends_threads_again_and_again_is_quarantined),
        cmocka_unit_test(a_running_task_learns_that_its_pool_stops),
        cmocka_unit_test(a_thread_that_does_not_come_back_is_left_behind),
        cmocka_unit_test(a_session_may_be_closed_while_its_call_runs),
        cmocka_unit_test(what_threads_cannot_have_is_refused_by_name),
        cmocka_unit_test(a_task_with_a_hard_timeout_is_refused_by_name),
        cmocka_unit_test(the_program_s_tasks_are_for_threads),
        cmocka_unit_test(a_bad_module_is_refused_with_one_sentence),
        cmocka_unit_test(a_child_loads_tasks_though_its_parent_was_loading),
        cmocka_unit_test(pools_of_one_process_share_a_module),
        cmocka_unit_test(a_refused_pool_takes_nothing_from_another_one),
        cmocka_unit_test(a_module_that_was_replaced_is_refused),
        cmocka_unit_test(a_hook_that_hangs_is_refused_and_left_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
