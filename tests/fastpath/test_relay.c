/* SPDX-License-Identifier: Apache-2.0 */
/* Pools whose workers are refused futex_waitv, with EPERM and with ENOSYS, as filters of containers
 * and Linux before 5.16 do: they sleep, they are woken exactly, and a caller that asks the host too
 * often is evicted.
 *
 * A seccomp filter answers in place of the kernel. The workers inherit it; of two filters that
 * refuse a call the later one names the error. The test's thread is the host, a second one the
 * caller, which looks at no clock: a wake-up that is lost is found by the bound of the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/state.h"
#include "tests/fastpath/guests.h"
#include "tests/support/deadline.h"

#define LONG_MS     20000
#define ROUNDS      500
#define MEASURED_NS 300000000u /* how long idle workers are watched */
#define IDLE_PART   100u /* of a core that they may take: ten times the goal, which is 0.1 % */

static int refused_with;

static void refuse(int error)
{
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex_waitv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof(lines) / sizeof(lines[0]), lines};

    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), 0);
    assert_int_equal(knit_bell_why_not_many(), error);
    refused_with = error;
}

static bool all_parked(struct pools *pools)
{
    struct knit_host_lane_stats stats;

    (void)pools_turn(pools);
    for (uint32_t i = 0; i < pools->options.workers; i++) {
        knit_host_lane_stats(pools->pool, i, &stats);
        if (!stats.is_parked)
            return false;
    }
    return true;
}

static uint64_t cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec used;

    assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static uint64_t cpu_of_workers_ns(struct pools *pools)
{
    struct knit_host_lane_stats stats;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < pools->options.workers; i++) {
        knit_host_lane_stats(pools->pool, i, &stats);
        sum += cpu_ns(stats.pid);
    }
    return sum;
}

static void an_idle_worker_takes_no_time_and_the_host_says_why(void **state)
{
    struct pools pools;
    struct guest guest;
    struct knit_host_stats stats;
    uint64_t before, until;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &guest);
    pools_add(&pools);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_RELAYING), 1);
    assert_non_null(strstr(pools.text, strerror(refused_with)));
    knit_host_stats(pools.pool, &stats);
    assert_int_equal(stats.wait_error, refused_with);
    assert_true(KNIT_WAIT_UNTIL(all_parked(&pools), LONG_MS));
    before = cpu_of_workers_ns(&pools);
    until = knit_clock_ns() + MEASURED_NS;
    assert_true(KNIT_WAIT_UNTIL(knit_clock_ns() >= until, LONG_MS));
    assert_in_range(
        cpu_of_workers_ns(&pools) - before, 0, pools.options.workers * MEASURED_NS / IDLE_PART);
    assert_true(all_parked(&pools));
    /* The host wakes the workers for its own sessions without a detour. */
    knit_host_stats(pools.pool, &stats);
    assert_int_equal(stats.relayed, 0);
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

/* ---- calls ---- */

struct caller {
    struct pools *pools;
    struct guest *guest;
    uint32_t lanes;
    _Atomic bool is_over;
    uint32_t failed; /* rounds */
    uint64_t slowest_ns;
};

static bool is_parked(const struct caller *caller, uint32_t lane)
{
    struct knit_board_view board;

    knit_layout_board(caller->lanes, caller->guest->board.base, &board);
    return knit_board_park_state(&board, lane) == KNIT_PARK_PARKED;
}

static bool call_once(const struct caller *caller, uint32_t lane)
{
    const struct knit_registry *registry = knit_host_registry(caller->pools->pool);
    const struct knit_session_call call = {.task = knit_registry_find(registry, "add", 3)->id,
        .epoch = knit_registry_epoch(registry),
        .lane = lane,
        .payload = "\x92\x02\x03",
        .len = 3};
    struct knit_session_outcome outcome;
    uint32_t slot;

    if (knit_session_publish(caller->guest->session, &call, &slot) != 0)
        return false;
    knit_session_flush(caller->guest->session);
    while (knit_session_wait(
               caller->guest->session, slot, knit_clock_ns() + LONG_MS * 1000000ull) == 0) {
        if (knit_session_collect_slot(caller->guest->session, slot, &outcome))
            return outcome.status == KNIT_STATUS_RESULT && *(unsigned char *)outcome.body == 5;
    }
    return false;
}

/* Every other call begins when its worker is parked, the others at any moment of its parking. */
static void *run_caller(void *arg)
{
    struct caller *caller = arg;

    for (uint32_t i = 0; i < ROUNDS && caller->failed == 0; i++) {
        uint32_t lane = i / 2 % caller->lanes;
        uint64_t start;

        if (i % 2 == 0)
            caller->failed += !KNIT_WAIT_UNTIL(is_parked(caller, lane), LONG_MS);
        start = knit_clock_ns();
        caller->failed += !call_once(caller, lane);
        if (knit_clock_ns() - start > caller->slowest_ns)
            caller->slowest_ns = knit_clock_ns() - start;
    }
    atomic_store_explicit(&caller->is_over, true, memory_order_release);
    return NULL;
}

static void run(struct pools *pools, struct guest *guest, struct caller *ret_caller)
{
    pthread_t thread;

    *ret_caller = (struct caller){.pools = pools, .guest = guest, .lanes = pools->options.workers};
    assert_int_equal(pthread_create(&thread, NULL, run_caller, ret_caller), 0);
    while (!atomic_load_explicit(&ret_caller->is_over, memory_order_acquire)) {
        struct pollfd poll_fd = {.fd = knit_host_fd(pools->pool), .events = POLLIN};

        (void)poll(&poll_fd, 1, 10);
        knit_host_dispatch(pools->pool);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void each_call_to_a_parked_worker_wakes_it(void **state)
{
    struct pools pools;
    struct guest guest;
    struct caller caller;
    struct knit_host_stats stats;

    (void)state;
    pools_init(&pools, 2);
    pools.options.steal = false;
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &guest);
    run(&pools, &guest, &caller);
    assert_int_equal(caller.failed, 0);
    knit_host_stats(pools.pool, &stats);
    assert_in_range(stats.relayed, ROUNDS / 4, ROUNDS);
    assert_int_equal(stats.evicted, 0);
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

static void the_calls_of_a_lane_run_in_order(void **state)
{
    struct pools pools;
    struct guest guest;
    const struct knit_registry *registry;
    struct knit_session_call call;
    struct knit_session_outcome outcomes[1];
    uint32_t slots[32], answered = 0;

    (void)state;
    pools_init(&pools, 1);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &guest);
    registry = knit_host_registry(pools.pool);
    call = (struct knit_session_call){.task = knit_registry_find(registry, "add", 3)->id,
        .epoch = knit_registry_epoch(registry),
        .lane = KNIT_LANE_ANY,
        .payload = "\x92\x02\x03",
        .len = 3};
    assert_true(KNIT_WAIT_UNTIL(all_parked(&pools), LONG_MS));
    for (uint32_t i = 0; i < 32; i++)
        assert_int_equal(knit_session_publish(guest.session, &call, &slots[i]), 0);
    knit_session_flush(guest.session);
    while (answered < 32) {
        assert_true(KNIT_WAIT_UNTIL(
            pools_turn(&pools) && knit_session_collect(guest.session, outcomes, 1) == 1, LONG_MS));
        assert_int_equal(outcomes[0].slot, slots[answered++]);
    }
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

/* ---- abuse ---- */

static bool is_evicted(struct pools *pools, const struct guest *guest)
{
    struct knit_reply_view reply;

    (void)pools_turn(pools);
    knit_layout_reply(&guest->grant.geometry, guest->reply.base, &reply);
    return knit_state_read(&reply) == KNIT_STATE_EVICTED;
}

static bool ask_and_look(struct pools *pools, const struct guest *guest)
{
    knit_bell_ask_host(guest->grant.host_fd);
    return is_evicted(pools, guest);
}

static void a_caller_that_asks_without_end_is_evicted_and_the_others_are_served(void **state)
{
    struct pools pools;
    struct guest rude, quiet;
    struct caller caller;
    struct knit_host_stats before, after;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &rude);
    guests_open(&pools, 1001, &quiet);
    assert_true(KNIT_WAIT_UNTIL(all_parked(&pools), LONG_MS));
    knit_host_stats(pools.pool, &before);
    while (!ask_and_look(&pools, &rude))
        ;
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_SESSION_EVICTED), 1);
    /* It named no lane in its bells, so it has woken none. */
    knit_host_stats(pools.pool, &after);
    assert_int_equal(after.relayed, before.relayed);
    assert_true(knit_session_is_closed(rude.session));
    run(&pools, &quiet, &caller);
    assert_int_equal(caller.failed, 0);
    guests_close(&pools, &rude);
    guests_close(&pools, &quiet);
    pools_fini(&pools);
}

static void whatever_a_caller_does_with_its_eventfd_costs_its_own_wakes_alone(void **state)
{
    const uint64_t most = UINT64_MAX - 1;
    struct pools pools;
    struct guest rude, quiet;
    struct caller caller;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &rude);
    guests_open(&pools, 1001, &quiet);
    /* Full, and blocking: the flag is of the open file, which the host has too. */
    assert_int_equal(write(rude.grant.host_fd, &most, sizeof(most)), sizeof(most));
    assert_int_equal(fcntl(rude.grant.host_fd, F_SETFL, 0), 0);
    assert_false(is_evicted(&pools, &rude));
    run(&pools, &quiet, &caller);
    assert_int_equal(caller.failed, 0);
    /* Its descriptor outlives the session; epoll has forgotten it. */
    knit_host_detach(pools.pool, rude.grant.id);
    pools_wait_sessions(&pools, 2);
    run(&pools, &quiet, &caller);
    assert_int_equal(caller.failed, 0);
    guests_close(&pools, &rude);
    guests_close(&pools, &quiet);
    pools_fini(&pools);
}

static bool pool_has_event(const struct pools *pools)
{
    struct pollfd wanted = {.fd = knit_host_fd(pools->pool), .events = POLLIN};

    return poll(&wanted, 1, 0) != 0;
}

/* Who has not said that its session is attached cannot be evicted for asking: it is not heard. */
static void a_caller_that_is_not_attached_cannot_ask(void **state)
{
    struct pools pools;
    struct guest rude;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_map(&pools, 1000, &rude);
    assert_true(KNIT_WAIT_UNTIL(all_parked(&pools), LONG_MS));
    assert_true(KNIT_WAIT_UNTIL(pools_turn(&pools) && !pool_has_event(&pools), LONG_MS));
    knit_bell_ask_host(rude.grant.host_fd);
    assert_false(pool_has_event(&pools));
    guests_close(&pools, &rude);
    pools_fini(&pools);
}

/* ---- without a filter ---- */

static void workers_that_may_sleep_on_many_words_are_woken_directly(void **state)
{
    struct pools pools;
    struct guest guest;
    struct caller caller;
    struct knit_host_stats stats;

    (void)state;
    if (knit_bell_why_not_many() != 0) {
        print_message("skipped: this machine refuses futex_waitv\n");
        skip();
    }
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    guests_open(&pools, 1000, &guest);
    assert_false(guest.grant.asks_host);
    assert_int_equal(guest.grant.host_fd, -1);
    run(&pools, &guest, &caller);
    assert_int_equal(caller.failed, 0);
    knit_host_stats(pools.pool, &stats);
    assert_int_equal(stats.wait_error, 0);
    assert_int_equal(stats.relayed, 0);
    assert_int_equal(pools_count_events(&pools, KNIT_HOST_RELAYING), 0);
    guests_close(&pools, &guest);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest direct[] = {
        cmocka_unit_test(workers_that_may_sleep_on_many_words_are_woken_directly),
    };
    const struct CMUnitTest relayed[] = {
        cmocka_unit_test(an_idle_worker_takes_no_time_and_the_host_says_why),
        cmocka_unit_test(each_call_to_a_parked_worker_wakes_it),
        cmocka_unit_test(the_calls_of_a_lane_run_in_order),
        cmocka_unit_test(a_caller_that_asks_without_end_is_evicted_and_the_others_are_served),
        cmocka_unit_test(whatever_a_caller_does_with_its_eventfd_costs_its_own_wakes_alone),
        cmocka_unit_test(a_caller_that_is_not_attached_cannot_ask),
    };
    int failed = cmocka_run_group_tests(direct, NULL, NULL);

    refuse(EPERM);
    failed += cmocka_run_group_tests_name("EPERM", relayed, NULL, NULL);
    refuse(ENOSYS);
    failed += cmocka_run_group_tests_name("ENOSYS", relayed, NULL, NULL);
    return failed;
}
