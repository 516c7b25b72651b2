/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that go on when no caller waits for them, calls that run for long, and time in which the
 * machine stood still.
 *
 * Method: as test_supervisor.c. A freeze is made of what it is: all workers are stopped, and the
 * host does not dispatch meanwhile.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/host/host.h"
#include "fastpath/host/stop.h"
#include "fastpath/host/watch.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

static uint64_t runs(const struct pools *pools, uint32_t id)
{
    return atomic_load_explicit(&pools->ledger[id], memory_order_seq_cst);
}

static pid_t pid_of(struct pools *pools, uint32_t lane)
{
    struct knit_host_lane_stats stats;

    knit_host_lane_stats(pools->pool, lane, &stats);
    return stats.pid;
}

/* Of the call that lane 0 runs; waits until it runs one. */
static uint32_t running_slot(struct pools *pools)
{
    struct knit_board_running running;

    assert_true(KNIT_WAIT_UNTIL(
        (running = knit_board_running(&pools->pool->board, 0), running.session != 0), 10000));
    return running.slot;
}

/* Starts hold(id), which ends when the gate opens, and waits until it runs. */
static void start_hold(struct pools *pools, int64_t id, struct pools_outcome *outcome)
{
    pools_start_number(pools, "hold", id, outcome);
    assert_true(KNIT_WAIT_UNTIL(pools_turn(pools) && runs(pools, (uint32_t)id) == 1, 10000));
}

/* Starts hold(1) in a session of its own, which closes while it runs. */
static void leave_held(struct pools *pools, struct pools_outcome *ignored)
{
    struct knit_session_options options = {.spin_us = 0};
    struct knit_host_own_session *first = pools->session;

    assert_int_equal(knit_host_own_session_open(pools->pool, 16, &options, &pools->session), 0);
    start_hold(pools, 1, ignored);
    knit_host_own_session_close(pools->pool, pools->session);
    pools->session = first;
}

/* Dispatches meanwhile. */
static void turn_for(struct pools *pools, uint64_t ns)
{
    uint64_t until_ns = knit_clock_ns() + ns;

    assert_true(KNIT_WAIT_UNTIL(pools_turn(pools) && knit_clock_ns() >= until_ns, 60000));
}

static void a_task_that_ignores_its_abort_is_killed_after_the_grace(void **state)
{
    struct pools pools;
    struct pools_outcome held = {0}, after = {0};
    struct knit_host_task_deaths deaths;
    uint64_t aborted_ns, took_ns;
    pid_t before;

    (void)state;
    pools_init(&pools, 1);
    pools.options.abort_grace_ms = 200;
    assert_int_equal(pools_open(&pools), 0);
    before = pid_of(&pools, 0);
    start_hold(&pools, 1, &held);
    pools_start_number(&pools, "count", 2, &after);
    aborted_ns = knit_clock_ns();
    knit_session_abort(pools.session->session, running_slot(&pools));
    pools_wait(&pools, &held);
    took_ns = knit_clock_ns() - aborted_ns;
    print_message("abort ignored, grace 200 ms: ended after %.1f ms\n", (double)took_ns / 1e6);
    assert_true(took_ns >= 199000000u && took_ns < 3000000000u);
    assert_int_equal(held.code, KNIT_CANCELLED);
    assert_int_equal(held.failure.started, KNIT_STARTED_YES);
    pools_wait(&pools, &after);
    assert_int_equal(after.code, 0);
    assert_true(pid_of(&pools, 0) != before);
    pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, 1);
    assert_non_null(strstr(pools.text, "its task hold went on for 200 ms"));
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_QUARANTINED), 0);
    assert_int_equal(knit_host_deaths(pools.pool, &deaths, 1), 1);
    assert_string_equal(deaths.task, "hold");
    assert_int_equal(deaths.signal, SIGKILL);
    pools_fini(&pools);
}

/* Somebody waits for the one; the other stops in time. */
static void no_other_task_is_killed_for_the_grace(void **state)
{
    struct pools pools;
    struct pools_outcome held = {0}, stopped = {0};

    (void)state;
    pools_init(&pools, 1);
    pools.options.abort_grace_ms = 300;
    assert_int_equal(pools_open(&pools), 0);
    start_hold(&pools, 1, &held);
    turn_for(&pools, 900000000u);
    assert_false(held.is_there);
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    pools_wait(&pools, &held);
    assert_int_equal(held.code, 0);
    pools_start_empty(&pools, "wait_abort", &stopped);
    knit_session_abort(pools.session->session, running_slot(&pools));
    pools_wait(&pools, &stopped);
    assert_int_equal(stopped.code, 0);
    turn_for(&pools, 600000000u);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 0);
    pools_fini(&pools);
}

/* A caller over shared memory that does not enter the library stores no abort. */
static void a_task_that_ignores_its_deadline_is_killed_after_the_grace(void **state)
{
    struct pools pools;
    struct pools_outcome held = {0}, stopped = {0};
    uint64_t deadline_ns, took_ns;

    (void)state;
    pools_init(&pools, 1);
    pools.options.abort_grace_ms = 200;
    assert_int_equal(pools_open(&pools), 0);
    pools.deadline_ns = deadline_ns = knit_clock_ns() + 100000000u;
    start_hold(&pools, 1, &held);
    pools_wait(&pools, &held);
    took_ns = knit_clock_ns() - deadline_ns;
    print_message("deadline ignored, grace 200 ms: ended %.1f ms later\n", (double)took_ns / 1e6);
    assert_true(took_ns >= 199000000u && took_ns < 3000000000u);
    assert_int_equal(held.code, KNIT_TIMEOUT);
    assert_int_equal(held.failure.started, KNIT_STARTED_YES);
    pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, 1);
    /* A task that looks is told. */
    pools.deadline_ns = knit_clock_ns() + 100000000u;
    pools_start_empty(&pools, "wait_abort", &stopped);
    pools_wait(&pools, &stopped);
    assert_int_equal(stopped.code, 0);
    assert_true(knit_clock_ns() >= pools.deadline_ns);
    turn_for(&pools, 400000000u);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 1);
    pools_fini(&pools);
}

static void a_task_of_a_closed_session_has_the_same_grace(void **state)
{
    struct pools pools;
    struct pools_outcome ignored = {0}, after = {0};

    (void)state;
    pools_init(&pools, 1);
    pools.options.abort_grace_ms = 100;
    assert_int_equal(pools_open(&pools), 0);
    leave_held(&pools, &ignored);
    pools_start_number(&pools, "count", 2, &after);
    pools_wait(&pools, &after);
    assert_int_equal(after.code, 0);
    pools_wait_events(&pools, KNIT_HOST_WORKER_DIED, 1);
    pools_wait_sessions(&pools, 1);
    pools_fini(&pools);
}

/* Or whoever asks again and again would keep alive what is to be killed. */
static void a_kill_is_not_put_off_by_further_asking(void **state)
{
    const uint32_t grace_ms = 50;
    struct knit_host_address call;
    struct pools pools;
    struct pools_outcome held = {0};
    uint64_t due_ns;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    start_hold(&pools, 1, &held);
    call.session = pools.session->id;
    call.slot = running_slot(&pools);
    call.gen = knit_session_gen_of(pools.session->session, call.slot);
    assert_int_equal(knit_host_stop(pools.pool, &call, &grace_ms), KNIT_HOST_STOP_ASKED);
    due_ns = pools.pool->stops_due_ns;
    assert_int_equal(knit_host_stop(pools.pool, &call, NULL), KNIT_HOST_STOP_ASKED);
    assert_int_equal(pools.pool->stops_due_ns, due_ns);
    pools_wait(&pools, &held);
    assert_int_equal(held.code, KNIT_CANCELLED);
    pools_fini(&pools);
}

static void a_slow_call_is_reported_once(void **state)
{
    struct pools pools;
    struct pools_outcome held = {0};

    (void)state;
    pools_init(&pools, 2);
    pools.options.slow_call_ms = 50;
    assert_int_equal(pools_open(&pools), 0);
    start_hold(&pools, 1, &held);
    pools_wait_events(&pools, KNIT_HOST_TASK_SLOW, 1);
    turn_for(&pools, 200000000u);
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    pools_wait(&pools, &held);
    assert_int_equal(held.code, 0);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_SLOW), 1);
    for (uint32_t i = 0; i < pools.event_count; i++) {
        const struct knit_host_event *event = &pools.events[i];

        if (event->kind != KNIT_HOST_TASK_SLOW)
            continue;
        assert_true(event->age_ms >= 50 && event->pid == pid_of(&pools, event->lane));
        assert_string_equal(
            knit_registry_at(knit_host_registry(pools.pool), event->task)->name, "hold");
    }
    pools_fini(&pools);
}

/* Puts into shared memory what a worker does that runs this call and no other. */
static void show_running(const struct pools *pools, uint32_t slot, uint64_t gen)
{
    const struct knit_host_session *session = pools->pool->sessions[0];
    const struct knit_worker *worker = &pools->pool->workers[0];

    atomic_store_explicit(&session->view.reply.claim[slot],
        gen != 0 ? knit_claim(gen, worker->owner) : 0, memory_order_release);
    atomic_store_explicit(&pools->pool->board.busy[0].running,
        gen != 0 ? knit_running(session->id, slot) : 0, memory_order_relaxed);
}

/* As long ones do of a task that is short otherwise: their worker counts them when their turn is
 * over. The worker does not move. */
static void calls_of_one_slot_and_turn_do_not_add_up(void **state)
{
    enum { SLOT = 5, STEP_NS = 30000000 };
    struct pools pools;
    uint64_t now_ns;

    (void)state;
    pools_init(&pools, 1);
    pools.options.slow_call_ms = 50;
    assert_int_equal(pools_open(&pools), 0);
    assert_int_equal(kill(pid_of(&pools, 0), SIGSTOP), 0);
    now_ns = knit_clock_ns() + 1000000000u;
    for (uint64_t gen = 1; gen <= 3; gen++) {
        show_running(&pools, SLOT, gen);
        knit_watch_running(pools.pool, now_ns);
        knit_watch_running(pools.pool, now_ns += STEP_NS);
        now_ns += STEP_NS;
    }
    (void)pools_turn(&pools);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_SLOW), 0);
    /* The last one goes on. */
    knit_watch_running(pools.pool, now_ns);
    (void)pools_turn(&pools);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_SLOW), 1);
    show_running(&pools, SLOT, 0);
    assert_int_equal(kill(pid_of(&pools, 0), SIGCONT), 0);
    pools_fini(&pools);
}

/* All processes are stopped for so long: the host's one does not run either. */
static void freeze(struct pools *pools, uint64_t ns)
{
    uint64_t until_ns = knit_clock_ns() + ns;

    for (uint32_t i = 0; i < pools->pool->options.workers; i++)
        assert_int_equal(kill(pid_of(pools, i), SIGSTOP), 0);
    assert_true(KNIT_WAIT_UNTIL(knit_clock_ns() >= until_ns, 60000));
    for (uint32_t i = 0; i < pools->pool->options.workers; i++)
        assert_int_equal(kill(pid_of(pools, i), SIGCONT), 0);
}

static void time_in_which_the_machine_stood_still_does_not_count(void **state)
{
    struct pools pools;
    struct pools_outcome held[3] = {0}, hung = {0};
    uint64_t start_ns;

    (void)state;
    pools_init(&pools, 3);
    pools.options.hard_timeout_ms = 800;
    pools.options.slow_call_ms = 800;
    assert_int_equal(pools_open(&pools), 0);
    for (int i = 0; i < 3; i++)
        start_hold(&pools, i + 1, &held[i]);
    turn_for(&pools, 150000000u);
    freeze(&pools, 2000000000u);
    turn_for(&pools, 150000000u);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_TASK_SLOW), 0);
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    for (int i = 0; i < 3; i++) {
        pools_wait(&pools, &held[i]);
        assert_int_equal(held[i].code, 0);
    }
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_HARD_TIMEOUT), 0);
    /* The limit of a later call is not longer for it. */
    atomic_store_explicit(&pools.ledger[0], 0, memory_order_seq_cst);
    start_ns = knit_clock_ns();
    start_hold(&pools, 4, &hung);
    pools_wait(&pools, &hung);
    assert_int_equal(hung.code, KNIT_HARD_TIMEOUT);
    assert_true(knit_clock_ns() - start_ns < 2000000000u);
    pools_fini(&pools);
}

/* Nor does it bring the end of what a closed session has left nearer. */
static void time_in_which_the_machine_stood_still_does_not_count_after_a_close(void **state)
{
    struct pools pools;
    struct pools_outcome ignored = {0};

    (void)state;
    pools_init(&pools, 1);
    pools.options.abort_grace_ms = 0;
    pools.options.abandoned_ms = 800;
    assert_int_equal(pools_open(&pools), 0);
    leave_held(&pools, &ignored);
    turn_for(&pools, 150000000u);
    freeze(&pools, 2000000000u);
    turn_for(&pools, 150000000u);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 0);
    atomic_store_explicit(&pools.ledger[0], 1, memory_order_seq_cst);
    pools_wait_sessions(&pools, 1);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_WORKER_DIED), 0);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_that_ignores_its_abort_is_killed_after_the_grace),
        cmocka_unit_test(no_other_task_is_killed_for_the_grace),
        cmocka_unit_test(a_task_that_ignores_its_deadline_is_killed_after_the_grace),
        cmocka_unit_test(a_task_of_a_closed_session_has_the_same_grace),
        cmocka_unit_test(a_kill_is_not_put_off_by_further_asking),
        cmocka_unit_test(a_slow_call_is_reported_once),
        cmocka_unit_test(calls_of_one_slot_and_turn_do_not_add_up),
        cmocka_unit_test(time_in_which_the_machine_stood_still_does_not_count),
        cmocka_unit_test(time_in_which_the_machine_stood_still_does_not_count_after_a_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
