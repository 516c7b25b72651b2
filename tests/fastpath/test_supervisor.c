/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that die, hang, are stopped or are killed: the outcomes of their calls and of other
 * calls, and what happens to the lane.
 *
 * Method: real processes and real signals. A ledger counts runs, so "all others ran once" is a
 * comparison of numbers. Times are printed, and bounded at ten times the goal.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/host.h"
#include "fastpath/host/quarantine.h"
#include "fastpath/lane/bell.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

static uint64_t runs(const struct pools *pools, uint32_t id)
{
    return atomic_load_explicit(&pools->ledger[id], memory_order_seq_cst);
}

static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

static pid_t pid_of(struct pools *pools, uint32_t lane)
{
    struct knit_host_lane_stats stats;

    knit_host_lane_stats(pools->pool, lane, &stats);
    return stats.pid;
}

static bool all_serve(struct pools *pools)
{
    struct knit_host_stats stats;

    knit_host_stats(pools->pool, &stats);
    return stats.lanes_serving == stats.lanes;
}

/* The lane that runs a call. */
static uint32_t busy_lane(struct pools *pools)
{
    struct knit_host_lane_stats stats;

    for (uint32_t lane = 0; lane < knit_host_lanes(pools->pool); lane++) {
        knit_host_lane_stats(pools->pool, lane, &stats);
        if (stats.is_running)
            return lane;
    }
    fail_msg("no lane is busy");
    return 0;
}

static void kill_with_one_running_and_many_queued(uint32_t workers, bool steal)
{
    struct pools pools;
    struct pools_outcome running = {0}, queued[32] = {0};
    uint64_t killed_ns, reported_ns;
    pid_t victim;

    pools_init(&pools, workers);
    pools.options.steal = steal;
    assert_int_equal(pools_open(&pools), 0);
    pools_start_number(&pools, "hold", 1, &running);
    assert_true(KNIT_WAIT_UNTIL(runs(&pools, 1) == 1, 10000));
    /* While only one lane is busy. */
    victim = pid_of(&pools, busy_lane(&pools));
    for (int i = 0; i < 32; i++)
        pools_start_number(&pools, "count", i + 2, &queued[i]);
    killed_ns = knit_clock_ns();
    assert_int_equal(kill(victim, SIGKILL), 0);
    pools_wait(&pools, &running);
    reported_ns = knit_clock_ns();
    assert_int_equal(running.code, KNIT_WORKER_DIED);
    assert_int_equal(running.failure.started, KNIT_STARTED_YES);
    assert_int_equal(running.failure.signal, SIGKILL);
    for (int i = 0; i < 32; i++) {
        pools_wait(&pools, &queued[i]);
        assert_int_equal(queued[i].code, 0);
        assert_int_equal(runs(&pools, (uint32_t)i + 2), 1);
    }
    assert_int_equal(runs(&pools, 1), 1);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && all_serve(&pools), 10000));
    print_message("reported after %.2f ms, replaced after %.2f ms\n", ms(killed_ns, reported_ns),
        ms(killed_ns, knit_clock_ns()));
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_STARTED), workers + 1);
    pools_fini(&pools);
}

static void a_killed_worker_fails_only_the_call_that_it_ran(void **state)
{
    (void)state;
    kill_with_one_running_and_many_queued(1, true);
    kill_with_one_running_and_many_queued(2, true);
    kill_with_one_running_and_many_queued(4, false);
}

static void expect_death(const char *how, int signal, int status)
{
    struct pools pools;
    struct pools_outcome dead = {0};

    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools_add(&pools);
    pools_start_text(&pools, "die", how, &dead);
    pools_wait(&pools, &dead);
    assert_int_equal(dead.code, KNIT_WORKER_DIED);
    assert_int_equal(dead.failure.signal, signal);
    assert_int_equal(dead.failure.started, KNIT_STARTED_YES);
    pools_add(&pools);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 1);
    for (uint32_t i = 0; i < pools.event_count; i++) {
        if (pools.events[i].kind != KNIT_HOST_WORKER_DIED)
            continue;
        assert_int_equal(pools.events[i].signal, signal);
        assert_int_equal(pools.events[i].status, status);
        assert_int_equal(pools.events[i].lost, 1);
        assert_string_equal(
            knit_registry_at(knit_host_registry(pools.pool), pools.events[i].task)->name, "die");
    }
    pools_fini(&pools);
}

static void every_kind_of_death_is_reported_and_the_worker_replaced(void **state)
{
    (void)state;
    expect_death("exit", 0, 3);
    expect_death("abort", SIGABRT, 0);
    expect_death("segv", SIGSEGV, 0);
    expect_death("overflow", SIGSEGV, 0);
    expect_death("kill", SIGKILL, 0);
}

static void a_crash_loop_delays_replacements_and_quarantines_the_task(void **state)
{
    struct pools pools;
    struct knit_host_stats stats;

    (void)state;
    pools_init(&pools, 1);
    pools.options.deaths_per_minute = 3;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 3; i++) {
        struct pools_outcome dead = {0};

        pools_start_text(&pools, "die", "abort", &dead);
        pools_wait(&pools, &dead);
        assert_int_equal(dead.code, KNIT_WORKER_DIED);
    }
    knit_host_stats(pools.pool, &stats);
    assert_true(stats.is_degraded);
    assert_int_equal(stats.quarantined, 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 1);
    for (int i = 0; i < 2; i++) {
        struct pools_outcome refused = {0};

        pools_start_text(&pools, "die", "abort", &refused);
        pools_wait(&pools, &refused);
        assert_int_equal(refused.code, KNIT_QUARANTINED);
        assert_int_equal(refused.failure.started, KNIT_STARTED_NO);
    }
    /* Calls of other tasks still run, and the first one ends the crash loop. */
    pools_add(&pools);
    pools_wait_events(&pools, KNIT_HOST_DEGRADED, 2);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_DEGRADED), 2);
    pools_fini(&pools);
}

static void a_worker_that_dies_in_its_second_call_is_no_early_death(void **state)
{
    struct pools pools;

    (void)state;
    pools_init(&pools, 1);
    pools.options.deaths_per_minute = 100;
    assert_int_equal(pools_open(&pools), 0);
    for (uint32_t i = 1; i <= 3; i++) {
        struct pools_outcome dead = {0};

        pools_add(&pools);
        pools_start_text(&pools, "die", "kill", &dead);
        pools_wait(&pools, &dead);
        assert_int_equal(dead.code, KNIT_WORKER_DIED);
        pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, i);
        assert_int_equal(pools.pool->workers[0].early_deaths, 0);
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_DEGRADED), 0);
    pools_fini(&pools);
}

/* The lane of a crash loop is well again, and its worker dies once more at the end. */
static void a_worker_that_is_killed_at_the_end_makes_no_crash_loop(void **state)
{
    struct pools pools;
    struct pools_outcome dead = {0}, held = {0};

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 2; i++) {
        dead.is_there = false;
        pools_start_text(&pools, "die", "abort", &dead);
        pools_wait(&pools, &dead);
    }
    pools_wait_events(&pools, KNIT_HOST_DEGRADED, 1);
    pools_add(&pools);
    pools_wait_events(&pools, KNIT_HOST_DEGRADED, 2);
    pools_start_number(&pools, "hold", 1, &held);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && runs(&pools, 1) == 1, 10000));
    knit_host_shutdown(pools.pool, true, knit_clock_ns());
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && knit_host_is_stopped(pools.pool), 10000));
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 3);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_DEGRADED), 2);
    pools_fini(&pools);
}

static uint32_t task_of(const struct pools *pools, const char *name)
{
    return knit_registry_find(knit_host_registry(pools->pool), name, strlen(name))->id;
}

/* Calls `die` so often; each time the worker dies. */
static void die(struct pools *pools, const char *how, int times)
{
    for (int i = 0; i < times; i++) {
        struct pools_outcome dead = {0};

        pools_start_text(pools, "die", how, &dead);
        pools_wait(pools, &dead);
        assert_int_equal(dead.code, KNIT_WORKER_DIED);
        /* So that no replacement is delayed. */
        pools_add(pools);
    }
}

/* The last ways to end need leftovers.c, for whose functions a sanitizer has its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { OWN = 6, FROM_OUTSIDE = 4 };
#else
enum { OWN = 9, FROM_OUTSIDE = 6 };
#endif

static void good_calls_between_do_not_save_a_task_that_kills_workers(void **state)
{
    static const char *const own[] = {
        "abort", "segv", "overflow", "exit", "wild", "illegal", "default", "blocked", "pthread"};
    static const int signals[] = {
        SIGABRT, SIGSEGV, SIGSEGV, 0, SIGSEGV, SIGILL, SIGBUS, SIGSEGV, SIGSEGV};
    struct pools pools;
    struct pools_outcome refused = {0}, served = {0};
    struct knit_host_task_deaths deaths;

    (void)state;
    pools_init(&pools, 1);
    pools.options.deaths_per_minute = OWN;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < OWN; i++) {
        assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 0);
        die(&pools, own[i], 1);
        knit_host_task_deaths(pools.pool, task_of(&pools, "die"), &deaths);
        assert_string_equal(deaths.task, "die");
        assert_int_equal(deaths.deaths, i + 1);
        assert_int_equal(deaths.signal, signals[i]);
        assert_int_equal(deaths.is_quarantined, i == OWN - 1);
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 1);
    pools_start_text(&pools, "die", "not", &refused);
    pools_wait(&pools, &refused);
    assert_int_equal(refused.code, KNIT_QUARANTINED);
    assert_true(knit_host_lift(pools.pool, task_of(&pools, "die")));
    assert_false(knit_host_lift(pools.pool, task_of(&pools, "die")));
    pools_start_text(&pools, "die", "not", &served);
    pools_wait(&pools, &served);
    assert_int_equal(served.code, 0);
    pools_wait_events(&pools, KNIT_HOST_TASK_LIFTED, 1);
    pools_fini(&pools);
}

static void a_quarantine_ends_by_itself(void **state)
{
    struct pools pools;
    struct pools_outcome served = {0};
    struct knit_host_stats stats;

    (void)state;
    pools_init(&pools, 1);
    /* One leaks out in 50 ms: sooner than that many workers can be killed. */
    pools.options.deaths_per_minute = 1200;
    assert_int_equal(pools_open(&pools), 0);
    pthread_mutex_lock(&pools.pool->mutex);
    for (int i = 0; i < 1200; i++)
        knit_quarantine_count(pools.pool, task_of(&pools, "die"), SIGSEGV, knit_clock_ns());
    pthread_mutex_unlock(&pools.pool->mutex);
    knit_host_stats(pools.pool, &stats);
    assert_int_equal(stats.quarantined, 1);
    pools_wait_events(&pools, KNIT_HOST_TASK_LIFTED, 1);
    pools_start_text(&pools, "die", "not", &served);
    pools_wait(&pools, &served);
    assert_int_equal(served.code, 0);
    pools_fini(&pools);
}

/* At a time that is handed in, which no tick of the pool's own reaches meanwhile. */
static bool quarantines(struct pools *pools, int deaths, uint64_t now_ns)
{
    uint32_t task = task_of(pools, "die");
    bool is_quarantined;

    pthread_mutex_lock(&pools->pool->mutex);
    knit_quarantine_tick(pools->pool, now_ns);
    for (int i = 0; i < deaths; i++)
        knit_quarantine_count(pools->pool, task, SIGSEGV, now_ns);
    is_quarantined = pools->pool->task_deaths[task].is_quarantined;
    pthread_mutex_unlock(&pools->pool->mutex);
    return is_quarantined;
}

static void deaths_leak_out_of_the_bucket_one_by_one(void **state)
{
    const uint64_t second = 1000000000u, hour = 3600 * second;
    struct pools pools;
    uint64_t now = knit_clock_ns() + hour;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    assert_false(quarantines(&pools, 9, now));
    assert_true(quarantines(&pools, 1, now));
    assert_true(quarantines(&pools, 0, now + 6 * second - 1));
    assert_false(quarantines(&pools, 0, now + 6 * second));
    assert_true(quarantines(&pools, 1, now + 6 * second));
    /* Calls that ran elsewhere when it was quarantined count too. */
    assert_true(quarantines(&pools, 2, now + 7 * second));
    assert_true(quarantines(&pools, 0, now + 24 * second - 1));
    assert_false(quarantines(&pools, 0, now + 24 * second));
    /* In a minute all have leaked out. */
    now += 85 * second;
    assert_false(quarantines(&pools, 9, now));
    assert_true(quarantines(&pools, 1, now));
    /* Ten a minute can be borne for ever, eleven cannot. */
    for (int i = 0; i < 100; i++) {
        now += 6 * second;
        assert_false(quarantines(&pools, 0, now));
        (void)quarantines(&pools, 1, now);
    }
    now += 60 * second;
    for (int i = 0; i < 100; i++)
        assert_false(quarantines(&pools, 1, now += 6 * second));
    for (int i = 0; i < 101; i++)
        (void)quarantines(&pools, 1, now += 5 * second);
    assert_true(quarantines(&pools, 0, now));
    pools_fini(&pools);
}

/* A sender may write any number of a process into what it queues, but not every code. */
static void send_as_if_from_itself(pid_t pid, int signal)
{
    siginfo_t info = {.si_signo = signal, .si_code = SI_QUEUE};

    info.si_pid = pid;
    assert_int_equal(syscall(SYS_rt_sigqueueinfo, pid, signal, &info), 0);
    info.si_code = SI_USER;
    assert_int_equal(syscall(SYS_rt_sigqueueinfo, pid, signal, &info), -1);
}

/* Which faults in the task that runs next. */
static void leave_thread(struct pools *pools, const char *how)
{
    struct pools_outcome left = {0};

    pools_start_text(pools, "die", how, &left);
    pools_wait(pools, &left);
    assert_int_equal(left.code, 0);
}

static void what_ends_a_worker_from_outside_is_not_its_tasks_fault(void **state)
{
    struct pools pools;
    struct pools_outcome held = {0};
    struct knit_host_task_deaths deaths;

    (void)state;
    pools_init(&pools, 1);
    pools.options.deaths_per_minute = 1;
    assert_int_equal(pools_open(&pools), 0);
    die(&pools, "kill", 2);
    die(&pools, "timer", 2);
    /* What a child does is not noted for its parent. */
    pools_start_text(&pools, "die", "child", &held);
    pools_wait(&pools, &held);
    assert_int_equal(held.code, 0);
    for (int i = 0; i < FROM_OUTSIDE; i++) {
        static const int signals[] = {SIGSEGV, SIGABRT, SIGALRM, SIGSEGV, SIGSEGV, SIGSEGV};
        uint64_t before = runs(&pools, 1);

        held = (struct pools_outcome){0};
        pools_start_number(&pools, "hold", 1, &held);
        assert_true(KNIT_WAIT_UNTIL(runs(&pools, 1) > before, 5000));
        if (i < 3)
            assert_int_equal(kill(pid_of(&pools, 0), signals[i]), 0);
        else if (i == 3)
            send_as_if_from_itself(pid_of(&pools, 0), signals[i]);
        pools_wait(&pools, &held);
        assert_int_equal(held.code, KNIT_WORKER_DIED);
        assert_int_equal(held.failure.signal, signals[i]);
        pools_add(&pools);
        if (i == 3 || i == 4)
            leave_thread(&pools, i == 3 ? "leave" : "new");
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 0);
    assert_int_equal(knit_host_deaths(pools.pool, &deaths, 1), 0);
    pools_fini(&pools);
}

/* ---- hard timeouts ---- */

static void a_hung_task_is_killed_and_no_other(void **state)
{
    static const char sentence[] = "the task hang ran longer than its hard timeout of 200 ms";
    struct pools pools;
    struct pools_outcome hung = {0}, after[8] = {0};
    uint64_t start_ns, took_ns;
    pid_t group;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    group = pid_of(&pools, 0);
    start_ns = knit_clock_ns();
    pools_start_empty(&pools, "hang", &hung);
    for (int i = 0; i < 8; i++)
        pools_start_number(&pools, "count", i + 1, &after[i]);
    pools_wait(&pools, &hung);
    took_ns = knit_clock_ns() - start_ns;
    print_message("hard timeout of 200 ms: reported after %.1f ms\n", ms(0, took_ns));
    assert_int_equal(hung.code, KNIT_HARD_TIMEOUT);
    assert_int_equal(hung.failure.started, KNIT_STARTED_YES);
    assert_int_equal(hung.failure.limit, 200);
    assert_non_null(
        memmem(hung.failure.message.bytes, hung.failure.message.len, sentence, strlen(sentence)));
    assert_true(took_ns >= 199000000u && took_ns < 2000000000u);
    for (int i = 0; i < 8; i++) {
        pools_wait(&pools, &after[i]);
        assert_int_equal(after[i].code, 0);
        assert_int_equal(runs(&pools, (uint32_t)i + 1), 1);
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_HARD_TIMEOUT), 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 0);
    /* The children of the worker are killed too. */
    assert_true(KNIT_WAIT_UNTIL(kill(-group, 0) != 0 && errno == ESRCH, 5000));
    pools_fini(&pools);
}

static void short_calls_in_a_row_do_not_reach_the_hard_timeout(void **state)
{
    struct pools pools;
    uint64_t until_ns;

    (void)state;
    pools_init(&pools, 2);
    pools.options.hard_timeout_ms = 150;
    assert_int_equal(pools_open(&pools), 0);
    until_ns = knit_clock_ns() + 1500000000u;
    while (knit_clock_ns() < until_ns) {
        struct pools_outcome outcomes[64] = {0};

        for (int i = 0; i < 64; i++)
            pools_start_number(&pools, "count", 1, &outcomes[i]);
        for (int i = 0; i < 64; i++) {
            pools_wait(&pools, &outcomes[i]);
            assert_int_equal(outcomes[i].code, 0);
        }
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_HARD_TIMEOUT), 0);
    pools_fini(&pools);
}

static void a_stopped_worker_does_not_delay_other_workers(void **state)
{
    struct pools pools;
    struct pools_outcome running = {0}, others[16] = {0};
    pid_t stopped;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    pools_start_number(&pools, "hold", 1, &running);
    assert_true(KNIT_WAIT_UNTIL(runs(&pools, 1) == 1, 10000));
    stopped = pid_of(&pools, busy_lane(&pools));
    assert_int_equal(kill(stopped, SIGSTOP), 0);
    for (int i = 0; i < 16; i++)
        pools_start_number(&pools, "count", i + 2, &others[i]);
    for (int i = 0; i < 16; i++) {
        pools_wait(&pools, &others[i]);
        assert_int_equal(others[i].code, 0);
    }
    assert_false(running.is_there);
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    assert_int_equal(kill(stopped, SIGCONT), 0);
    pools_wait(&pools, &running);
    assert_int_equal(running.code, 0);
    pools_fini(&pools);
}

/* The state after a call that ended between SIGSTOP and the host's check. */
static void a_worker_stopped_after_its_call_ended_continues(void **state)
{
    struct pools pools;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    pools.pool->workers[0].halted_at_ns = knit_clock_ns();
    assert_int_equal(kill(pid_of(&pools, 0), SIGSTOP), 0);
    pools_add(&pools);
    assert_int_equal(pools.pool->workers[0].halted_at_ns, 0);
    pools_fini(&pools);
}

/* ---- damaged sessions ---- */

/* Claims of wrong generations, as a task may leave them that writes to wild addresses. */
static void shift_claims(struct pools *pools, int64_t by)
{
    for (uint32_t slot = 0; slot < pools->session->geometry.slots; slot++) {
        _Atomic uint64_t *word = &pools->session->reply.claim[slot];
        uint64_t claim = atomic_load_explicit(word, memory_order_relaxed);

        atomic_store_explicit(word,
            knit_claim(
                (knit_claim_gen(claim) + (uint64_t)by) & KNIT_GEN_MASK, knit_claim_owner(claim)),
            memory_order_seq_cst);
    }
}

static void a_worker_that_damaged_the_hosts_session_is_replaced(void **state)
{
    struct pools pools;
    struct pools_outcome sum = {0};

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    shift_claims(&pools, -2);
    pools_start(&pools, "add", "\x92\x02\x03", 3, &sum);
    pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, 1);
    assert_non_null(strstr(pools.text, "damaged"));
    shift_claims(&pools, 2);
    pools_wait(&pools, &sum);
    assert_int_equal(sum.number, 5);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_SESSION_EVICTED), 0);
    pools_fini(&pools);
}

/* When the replacement of a worker finds the same damage, the session itself is damaged. */
static void damage_found_by_two_workers_in_a_row_is_reported(void **state)
{
    struct pools pools;
    struct pools_outcome sum = {0};

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    /* A report of a minute ago does not count. */
    pools.pool->sessions[0]->damaged_serial = 1;
    pools.pool->sessions[0]->damaged_ns = knit_clock_ns() - 60000000000u;
    shift_claims(&pools, -2);
    pools_start(&pools, "add", "\x92\x02\x03", 3, &sum);
    pools_wait_events(&pools, KNIT_HOST_SESSION_DAMAGED, 1);
    assert_true(pools_count_events(&pools, KNIT_HOST_WORKER_DIED) >= 1);
    shift_claims(&pools, 2);
    pools_wait(&pools, &sum);
    assert_int_equal(sum.number, 5);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_SESSION_DAMAGED), 1);
    pools_fini(&pools);
}

/* ---- no worker at all ---- */

static void calls_are_refused_when_no_worker_can_be_started(void **state)
{
    struct pools pools;
    struct pools_outcome refused = {0};
    char worker[256], away[256];
    FILE *script;

    (void)state;
    pools_init(&pools, 1);
    /* A script is run by its path, so it can be moved away. */
    (void)snprintf(worker, sizeof(worker), "%s/worker", pools.dir);
    (void)snprintf(away, sizeof(away), "%s/away", pools.dir);
    script = fopen(worker, "we");
    assert_non_null(script);
    assert_true(fputs("#!/bin/sh\nexec " TEST_WORKER "\n", script) >= 0);
    assert_int_equal(fclose(script), 0);
    assert_int_equal(chmod(worker, 0700), 0);
    pools.options.worker_path = worker;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(rename(worker, away), 0);
    assert_int_equal(kill(pid_of(&pools, 0), SIGKILL), 0);
    pools_start(&pools, "add", "\x92\x02\x03", 3, &refused);
    pools_wait(&pools, &refused);
    assert_int_equal(refused.code, KNIT_NO_WORKER);
    assert_int_equal(refused.failure.started, KNIT_STARTED_NO);
    assert_true(pools_count_events(&pools, KNIT_HOST_WORKER_REFUSED) >= 1);
    assert_non_null(strstr(pools.text, "cannot be run: No such file or directory"));
    assert_int_equal(rename(away, worker), 0);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && all_serve(&pools), 20000));
    pools_add(&pools);
    pools_fini(&pools);
}

static void random_kills_fail_only_the_calls_of_killed_workers(void **state)
{
    struct pools pools;
    uint32_t died = 0;
    uint64_t until_ns, kill_ns;
    uint32_t lane = 0;
    uint64_t total = 0, run = 0;
    int descriptors;

    (void)state;
    pools_init(&pools, 3);
    assert_int_equal(pools_open(&pools), 0);
    descriptors = count_descriptors();
    until_ns = knit_clock_ns() + 2000000000u;
    kill_ns = knit_clock_ns() + 50000000u;
    while (knit_clock_ns() < until_ns) {
        struct pools_outcome outcomes[100] = {0};

        for (int i = 0; i < 100; i++)
            pools_start_number(&pools, "count", i + 1, &outcomes[i]);
        total += 100;
        if (knit_clock_ns() >= kill_ns) {
            pid_t pid = pid_of(&pools, lane++ % 3);

            kill_ns += 50000000u;
            if (pid != 0)
                (void)kill(pid, SIGKILL);
        }
        for (int i = 0; i < 100; i++) {
            pools_wait(&pools, &outcomes[i]);
            if (outcomes[i].code != 0)
                assert_int_equal(outcomes[i].code, KNIT_WORKER_DIED);
            died += outcomes[i].code != 0;
        }
    }
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && all_serve(&pools), 10000));
    assert_int_equal(count_descriptors(), descriptors);
    for (uint32_t i = 1; i <= 100; i++)
        run += runs(&pools, i);
    print_message("%llu calls, %u died with their worker, %u workers killed\n",
        (unsigned long long)total, died, pools_count_events(&pools, KNIT_HOST_WORKER_DIED));
    /* A call that failed with its worker has run once or not at all; all others have run once. */
    assert_true(run <= total && run >= total - died);
    assert_true(died <= pools_count_events(&pools, KNIT_HOST_WORKER_DIED));
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_worker_fails_only_the_call_that_it_ran),
        cmocka_unit_test(every_kind_of_death_is_reported_and_the_worker_replaced),
        cmocka_unit_test(a_crash_loop_delays_replacements_and_quarantines_the_task),
        cmocka_unit_test(a_worker_that_dies_in_its_second_call_is_no_early_death),
        cmocka_unit_test(a_worker_that_is_killed_at_the_end_makes_no_crash_loop),
        cmocka_unit_test(good_calls_between_do_not_save_a_task_that_kills_workers),
        cmocka_unit_test(a_quarantine_ends_by_itself),
        cmocka_unit_test(deaths_leak_out_of_the_bucket_one_by_one),
        cmocka_unit_test(what_ends_a_worker_from_outside_is_not_its_tasks_fault),
        cmocka_unit_test(a_hung_task_is_killed_and_no_other),
        cmocka_unit_test(short_calls_in_a_row_do_not_reach_the_hard_timeout),
        cmocka_unit_test(a_stopped_worker_does_not_delay_other_workers),
        cmocka_unit_test(a_worker_stopped_after_its_call_ended_continues),
        cmocka_unit_test(a_worker_that_damaged_the_hosts_session_is_replaced),
        cmocka_unit_test(damage_found_by_two_workers_in_a_row_is_reported),
        cmocka_unit_test(calls_are_refused_when_no_worker_can_be_started),
        cmocka_unit_test(random_kills_fail_only_the_calls_of_killed_workers),
    };
    struct rlimit no_core = {0, 0};

    /* Workers die on purpose here: no core dumps. */
    (void)setrlimit(RLIMIT_CORE, &no_core);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
