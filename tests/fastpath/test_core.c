/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for a side on its own core gives way at once. Method: one thread is caller and worker
 * by turns, so both look at the same core, or at what the test stores in its place. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/core.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

enum { SPIN_US = 20, WAIT_NS = 1000000 };

static struct lanes lanes;
static cpu_set_t allowed;

static int first_core(void)
{
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &allowed))
            return i;
    }
    return -1;
}

static void pin_to(int core)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(core, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static int setup(void **state)
{
    (void)state;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return -1;
    pin_to(first_core());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return sched_setaffinity(0, sizeof(allowed), &allowed);
}

static struct knit_session *with_one_worker(void)
{
    struct knit_session *session;

    lanes_init(&lanes, 1, false, SPIN_US);
    session = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    return session;
}

static uint32_t start_call(struct knit_session *session)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "hello", 5);
    uint32_t slot;

    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    return slot;
}

/* ---- the core -------------------------------------------------------------------------------- */

static void a_core_is_new_once(void **state)
{
    struct knit_core core = {0};

    (void)state;
    assert_true(knit_core_look(&core));
    assert_int_equal(core.number, first_core() + 1);
    assert_true(core.is_only);
    assert_false(knit_core_look(&core));
}

static void who_has_several_cores_does_not_yield(void **state)
{
    struct knit_core core = {.is_only = false};

    (void)state;
    if (CPU_COUNT(&allowed) < 2)
        skip();
    assert_int_equal(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
    assert_true(knit_core_look(&core));
    assert_false(core.is_only);
    assert_false(knit_core_yield(&core));
}

static _Atomic bool is_over;

static void *be_busy(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed))
        ;
    return NULL;
}

static bool has_given_up(struct knit_core *core)
{
    (void)knit_core_yield(core);
    return core->no_yield_until_ns != 0;
}

/* The third party inherits this thread's only core, and keeps it for whole slices. */
static void a_long_yield_is_the_last_for_long(void **state)
{
    struct knit_core core = {0};
    pthread_t third;

    (void)state;
    assert_true(knit_core_look(&core));
    atomic_store_explicit(&is_over, false, memory_order_relaxed);
    assert_int_equal(pthread_create(&third, NULL, be_busy, NULL), 0);
    KNIT_WAIT_UNTIL(has_given_up(&core), 10000);
    atomic_store_explicit(&is_over, true, memory_order_relaxed);
    assert_int_equal(pthread_join(third, NULL), 0);
    core.no_yield_until_ns = UINT64_MAX;
    assert_false(knit_core_yield(&core));
    core.no_yield_until_ns = 1;
    assert_true(knit_core_yield(&core));
}

/* ---- callers --------------------------------------------------------------------------------- */

static void a_caller_spins_for_a_worker_on_another_core(void **state)
{
    struct knit_session *session;
    uint32_t slot;

    (void)state;
    session = with_one_worker();
    slot = start_call(session);
    atomic_store_explicit(
        &lanes.board.park[0].core, (uint32_t)first_core() + 2, memory_order_relaxed);
    assert_false(knit_session_shares_core(session));
    assert_int_equal(
        knit_session_wait(session, slot, knit_clock_ns() + WAIT_NS), KNIT_SESSION_E_TIMEOUT);
    assert_int_equal(session->spin.failed, 1);
}

static void a_caller_does_not_spin_for_a_worker_on_its_own_core(void **state)
{
    struct knit_session *session;
    uint32_t slot;

    (void)state;
    session = with_one_worker();
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING); /* it idles */
    assert_false(knit_session_shares_core(session));                      /* no call is in flight */
    slot = start_call(session);
    assert_true(knit_session_shares_core(session));
    for (uint32_t wait = KNIT_SLOT_ANY; wait != slot; wait = slot) {
        assert_int_equal(
            knit_session_wait(session, wait, knit_clock_ns() + WAIT_NS), KNIT_SESSION_E_TIMEOUT);
        assert_int_equal(session->spin.failed, 0);
    }
    assert_int_equal(session->spin.now_ns, session->spin.max_ns);
}

/* ---- workers --------------------------------------------------------------------------------- */

/* A call whose caller has waited, on this core as it says; then the worker's rings are empty. */
static struct knit_lane *answer_and_idle(uint32_t core)
{
    struct knit_session *session = with_one_worker();
    uint32_t slot = start_call(session);

    (void)knit_session_wait(session, slot, knit_clock_ns() + WAIT_NS);
    atomic_store_explicit(lanes.session[0].request.core, core, memory_order_relaxed);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    return lanes.worker[0];
}

static void a_worker_spins_for_a_caller_on_another_core(void **state)
{
    struct knit_lane *worker;
    uint32_t before;

    (void)state;
    worker = answer_and_idle((uint32_t)first_core() + 2);
    before = worker->spin.failed;
    assert_int_equal(knit_lane_turn(worker), KNIT_LANE_RUNNING);
    assert_int_equal(worker->spin.failed, before + 1);
}

static void a_worker_does_not_spin_for_a_caller_on_its_own_core(void **state)
{
    struct knit_session *session;
    struct knit_lane *worker;
    uint64_t parks;
    uint32_t slot;

    (void)state;
    session = with_one_worker();
    worker = lanes.worker[0];
    assert_int_equal(knit_lane_turn(worker), KNIT_LANE_RUNNING); /* it idles */
    assert_int_equal(worker->spin.failed, 1);
    slot = start_call(session);
    (void)knit_session_wait(session, slot, knit_clock_ns() + WAIT_NS);
    assert_int_equal(knit_lane_turn(worker), KNIT_LANE_RUNNING);
    assert_true(worker->shares_core);
    parks = atomic_load_explicit(&worker->busy->parks, memory_order_relaxed);
    assert_int_equal(knit_lane_turn(worker), KNIT_LANE_RUNNING);
    assert_int_equal(worker->spin.failed, 1);
    assert_int_equal(atomic_load_explicit(&worker->busy->parks, memory_order_relaxed), parks + 1);
}

int main(void)
{
#define ON_ONE_CORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ON_ONE_CORE(a_core_is_new_once),
        ON_ONE_CORE(who_has_several_cores_does_not_yield),
        ON_ONE_CORE(a_long_yield_is_the_last_for_long),
        ON_ONE_CORE(a_caller_spins_for_a_worker_on_another_core),
        ON_ONE_CORE(a_caller_does_not_spin_for_a_worker_on_its_own_core),
        ON_ONE_CORE(a_worker_spins_for_a_caller_on_another_core),
        ON_ONE_CORE(a_worker_does_not_spin_for_a_caller_on_its_own_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
