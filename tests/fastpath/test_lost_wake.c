/* SPDX-License-Identifier: Apache-2.0 */
/* No party sleeps while there is work, an answer or room for it. Method: a party that goes to sleep
 * is stalled before each of its atomic accesses, and asleep, while the other side does all that
 * should wake it; then the same with the two sides exchanged; each with stores seen at once and as
 * late as x86 allows. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "tests/fastpath/steps.h"
#include "tests/fastpath/steps_world.h"

#define ARENA 8192u

static struct world world;

/* Who sleeps, who wakes, and what must hold after both. */
struct pair {
    struct world_shape shape;
    void (*begin)(void);
    steps_act *sleeps, *wakes;
    unsigned sleeper, waker; /* parties */
    void (*judge)(void);
};

static struct pair pair;

static void sleeper_acts(void *arg)
{
    (void)steps_as(pair.sleeper, pair.sleeps, arg);
}

static void waker_acts(void *arg)
{
    (void)steps_as(pair.waker, pair.wakes, arg);
}

static void judge_pair(void)
{
    if (steps_was_stalled())
        pair.judge();
    /* A host wakes once more for a worker that may have died before its own wake. */
    if (pair.waker != WORLD_HOST)
        assert_int_equal(steps_vain_wakes(), 0);
}

static void stall_both(struct pair which)
{
    struct world_scene scenes[] = {
        {.party = which.sleeper, .act = which.sleeps, .meanwhile = waker_acts},
        {.party = which.waker, .act = which.wakes, .meanwhile = sleeper_acts},
    };
    pair = which;
    for (int i = 0; i < 4; i++) {
        struct world_scene *scene = &scenes[i % 2];
        scene->shape = which.shape;
        scene->shape.lazy = i / 2 == 1;
        scene->begin = which.begin;
        scene->judge = judge_pair;
        scene->is_brief = true;
        world_play(&world, scene);
    }
}

static const struct world_shape stealing = {
    .slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
static const struct world_shape not_stealing = {.slots = WORLD_SLOTS, .arena_bytes = ARENA};

/* ---- callers ---- */

static void caller_waits(void *arg)
{
    struct world *in = arg;
    world_collect(in);
    if (knit_session_in_flight(in->session) > 0)
        assert_int_equal(knit_session_wait(in->session, KNIT_SLOT_ANY, 0), 0);
}

static void caller_waits_for_the_last(void *arg)
{
    struct world *in = arg;
    const struct world_call *call = &in->call[in->calls - 1];
    world_collect(in);
    if (!call->is_over)
        assert_int_equal(knit_session_wait(in->session, call->slot, 0), 0);
}

static void caller_arms(void *arg)
{
    struct world *in = arg;
    knit_session_disarm(in->session);
    world_collect(in);
    if (knit_session_in_flight(in->session) > 0)
        (void)knit_session_arm(in->session);
}

static bool caller_sleeps(void)
{
    struct pollfd bell = {.fd = world.side->bell_fd, .events = POLLIN};
    return steps_is_asleep(WORLD_CALLER) ||
           (knit_session_is_armed(world.session) && poll(&bell, 1, 0) == 0);
}

static void caller_was_woken(void)
{
    for (uint32_t i = 0; i < world.calls; i++) {
        if (pair.sleeps != caller_waits_for_the_last || i == world.calls - 1)
            assert_false(caller_sleeps() && world_is_answered(&world, i));
    }
    world_ends(&world);
}

static void worker_answers(void *arg)
{
    while (world_take(arg, 0, 0))
        ;
    knit_lane_wake_callers(((struct world *)arg)->lanes.worker[0]);
}

/* The sibling answers in between, so the worker finds the first sleep over. */
static void caller_waits_twice(void *arg)
{
    struct world *in = arg;
    if (knit_session_in_flight(in->session) == 0)
        return;
    if (!steps_as(WORLD_CALLER, caller_waits, arg) && world_take(in, 1, 1))
        knit_lane_wake_callers(in->lanes.worker[1]);
    if (!steps_is_asleep(WORLD_CALLER))
        (void)steps_as(WORLD_CALLER, caller_waits, arg);
}

/* The caller has slept and was woken, as before every arm but the first. */
static void slept_before(void)
{
    assert_true(world_publish(&world, 0));
    (void)steps_as(WORLD_CALLER, pair.sleeps == caller_arms ? caller_arms : caller_waits, &world);
    assert_true(caller_sleeps());
    (void)steps_as(WORLD_WORKER, worker_answers, &world);
    assert_false(caller_sleeps());
    knit_session_disarm(world.session);
    world_collect(&world);
    assert_int_equal(knit_session_in_flight(world.session), 0);
    assert_true(world_publish(&world, 1));
    assert_true(world_publish(&world, 0));
    knit_session_flush(world.session);
}

static void a_caller_is_woken_for_every_answer(void **state)
{
    steps_act *const sleeps[] = {
        caller_waits, caller_waits_for_the_last, caller_arms, caller_waits_twice};
    (void)state;
    for (size_t i = 0; i < sizeof(sleeps) / sizeof(sleeps[0]); i++)
        stall_both((struct pair){stealing, slept_before, sleeps[i], worker_answers, WORLD_CALLER,
            WORLD_WORKER, caller_was_woken});
}

/* An answer is not held back until a long call has run. */
static void a_caller_is_woken_before_a_long_call_begins(void **state)
{
    (void)state;
    world_init(&world, &stealing);
    assert_true(world_publish(&world, 0));
    assert_false(steps_as(WORLD_CALLER, caller_waits_for_the_last, &world));
    assert_true(world_publish(&world, 0));
    assert_true(world_take(&world, 0, 0));
    assert_true(steps_is_asleep(WORLD_CALLER));
    world.lanes.worker[0]->mean_ns[LANES_COUNT] = 1000000;
    assert_true(world_take(&world, 0, 0));
    assert_false(steps_is_asleep(WORLD_CALLER));
    world_ends(&world);
    world_fini(&world);
}

/* `waiting` and `notified` wrap. */
static void sleeps_are_told_apart_where_their_numbers_wrap(void **state)
{
    struct knit_session_options options = {.bell_fd = -1, .argument_max_bytes = ARENA};
    (void)state;
    pair = (struct pair){.sleeps = caller_waits};
    world_init(&world, &stealing);
    (void)knit_session_free(world.session);
    world.notified = 0xfffffff9u;
    atomic_store_explicit(world.side->reply.notified, world.notified, memory_order_relaxed);
    assert_int_equal(knit_session_new(&world.side->geometry, &world.side->request,
                         &world.side->reply, &world.lanes.board, &options, &world.session),
        0);
    world.side->session = world.session;
    for (int i = 0; i < 10; i++) {
        assert_true(world_publish(&world, 0));
        assert_false(steps_as(WORLD_CALLER, caller_waits, &world));
        (void)steps_as(WORLD_WORKER, worker_answers, &world);
        assert_false(steps_is_asleep(WORLD_CALLER));
        world_collect(&world);
    }
    world_ends(&world);
    world_fini(&world);
}

/* ---- the host in place of a dead worker ---- */

static void two_are_a_dead_workers(void)
{
    world.may_fail = true;
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(world_publish(&world, 0));
        world_claim(&world, i, WORLD_DEAD);
    }
    knit_session_flush(world.session);
}

/* The worker died after it had answered and before it posted the completion. */
static void two_are_answered_by_a_dead_worker(void)
{
    two_are_a_dead_workers();
    for (uint32_t i = 0; i < 2; i++) {
        struct knit_reply_cell *cell = &world.side->reply.reply[world.call[i].slot];
        atomic_store_explicit(&cell->meta, knit_meta(0, 0, 0, sizeof(int)), memory_order_relaxed);
        atomic_store_explicit(
            &cell->word, knit_word(world.call[i].gen, KNIT_STATUS_ERROR, 0), memory_order_release);
    }
}

static void a_caller_is_woken_for_what_a_dead_worker_left(void **state)
{
    steps_act *const sleeps[] = {caller_waits, caller_waits_for_the_last, caller_arms};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(sleeps) / sizeof(sleeps[0]); i++)
        stall_both((struct pair){stealing,
            i % 2 == 0 ? two_are_a_dead_workers : two_are_answered_by_a_dead_worker, sleeps[i / 2],
            world_host_answers, WORLD_CALLER, WORLD_HOST, caller_was_woken});
}

static void a_caller_that_a_dead_worker_had_notified_is_woken(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        pair = (struct pair){.sleeps = how == 0 ? caller_waits : caller_arms};
        world_init(&world, &stealing);
        two_are_a_dead_workers();
        (void)steps_as(WORLD_CALLER, pair.sleeps, &world);
        assert_true(caller_sleeps());
        atomic_store_explicit(world.side->reply.notified,
            atomic_load_explicit(world.side->request.waiting, memory_order_relaxed),
            memory_order_relaxed);
        (void)steps_as(WORLD_HOST, world_host_answers, &world);
        assert_false(caller_sleeps());
        world_ends(&world);
        world_fini(&world);
    }
}

/* ---- workers ---- */

static void worker_turns(void *arg)
{
    for (int i = 0; i < 3; i++)
        (void)knit_lane_turn(((struct world *)arg)->lanes.worker[0]);
}

static void sibling_turns(void *arg)
{
    for (int i = 0; i < 3; i++)
        (void)knit_lane_turn(((struct world *)arg)->lanes.worker[1]);
}

static void calls_lane_0(void *arg)
{
    assert_true(world_publish(arg, 0));
    knit_session_flush(((struct world *)arg)->session);
}

static void calls_lane_1(void *arg)
{
    assert_true(world_publish(arg, 1));
    knit_session_flush(((struct world *)arg)->session);
}

static void calls_lane_1_and_sleeps(void *arg)
{
    calls_lane_1(arg);
    caller_arms(arg);
}

static void worker_does_not_sleep_beside_work(void)
{
    assert_false(steps_is_asleep(WORLD_WORKER) && world_has_ready(&world, 0));
    assert_false(steps_is_asleep(WORLD_WORKER) && world_has_ready(&world, 1));
    world_ends(&world);
}

/* The worker has slept, was woken, and has answered. */
static void worker_slept_before(void)
{
    assert_false(steps_as(WORLD_WORKER, worker_turns, &world));
    (void)steps_as(WORLD_CALLER, calls_lane_0, &world);
    assert_false(steps_is_asleep(WORLD_WORKER));
    assert_true(world_take(&world, 0, 0));
    world_collect(&world);
}

static void a_worker_is_woken_for_calls_in_its_lane(void **state)
{
    (void)state;
    stall_both((struct pair){not_stealing, worker_slept_before, worker_turns, calls_lane_0,
        WORLD_WORKER, WORLD_CALLER, worker_does_not_sleep_beside_work});
    stall_both((struct pair){stealing, worker_slept_before, worker_turns, calls_lane_0,
        WORLD_WORKER, WORLD_CALLER, worker_does_not_sleep_beside_work});
}

static void one_flush_wakes_every_lane_that_was_published_to(void **state)
{
    (void)state;
    world_init(&world, &not_stealing);
    assert_false(steps_as(WORLD_WORKER, worker_turns, &world));
    assert_false(steps_as(WORLD_SIBLING, sibling_turns, &world));
    assert_true(world_publish(&world, 0));
    assert_true(world_publish(&world, 1));
    knit_session_flush(world.session);
    assert_false(steps_is_asleep(WORLD_WORKER) || steps_is_asleep(WORLD_SIBLING));
    world_ends(&world);
    world_fini(&world);
}

static void host_vacates(void *arg)
{
    struct world *in = arg;
    knit_recovery_vacate(&in->lanes.board, &in->lanes.pool, WORLD_LANES, 1);
}

static void lane_1_is_vacant(void)
{
    host_vacates(&world);
    worker_slept_before();
}

static void one_lies_in_lane_1(void)
{
    worker_slept_before();
    calls_lane_1(&world);
}

static void a_worker_is_woken_for_calls_in_a_vacant_lane(void **state)
{
    (void)state;
    stall_both((struct pair){not_stealing, lane_1_is_vacant, worker_turns, calls_lane_1,
        WORLD_WORKER, WORLD_CALLER, worker_does_not_sleep_beside_work});
    stall_both((struct pair){not_stealing, one_lies_in_lane_1, worker_turns, host_vacates,
        WORLD_WORKER, WORLD_HOST, worker_does_not_sleep_beside_work});
}

/* Lane 1 has a worker, which is stopped. */
static void a_worker_is_woken_for_calls_of_a_stopped_one(void **state)
{
    (void)state;
    stall_both((struct pair){stealing, worker_slept_before, worker_turns, calls_lane_1_and_sleeps,
        WORLD_WORKER, WORLD_CALLER, worker_does_not_sleep_beside_work});
}

static void worker_begins_a_long_call(void *arg)
{
    assert_true(world_take(arg, 0, 0));
}

static void calls_lane_0_twice(void *arg)
{
    calls_lane_0(arg);
    calls_lane_0(arg);
}

/* The lane's own worker is awake, so the caller wakes none. */
static void worker_begins_the_first_of_two(void *arg)
{
    (void)steps_as(WORLD_CALLER, calls_lane_0_twice, arg);
    worker_begins_a_long_call(arg);
}

/* The sibling cannot know how long the worker stays with the call that it took. */
static void sibling_does_not_sleep_beside_work(void)
{
    assert_false(steps_is_asleep(WORLD_SIBLING) && world_has_ready(&world, 0));
    world_ends(&world);
}

static void a_sibling_is_woken_for_calls_behind_a_long_one(void **state)
{
    (void)state;
    stall_both((struct pair){stealing, NULL, sibling_turns, worker_begins_the_first_of_two,
        WORLD_SIBLING, WORLD_WORKER, sibling_does_not_sleep_beside_work});
}

static void arms_beside_a_sleeping_sibling(void *arg)
{
    (void)steps_as(WORLD_CALLER, caller_arms, arg);
    assert_false(steps_is_asleep(WORLD_SIBLING) && world_has_ready(&world, 0));
}

static uint64_t stalled_again;

static void calls_and_stalls_again(void *arg)
{
    (void)steps_as(WORLD_CALLER, calls_lane_0, arg);
    steps_stall_again(stalled_again, arms_beside_a_sleeping_sibling, arg);
}

static void sibling_sleeps(void)
{
    assert_false(steps_as(WORLD_SIBLING, sibling_turns, &world));
}

/* A worker that is stopped on its way to sleep may be marked as parked: its lane's calls need
 * another worker's bell. */
static void a_caller_wakes_a_sibling_for_a_stopped_worker(void **state)
{
    (void)state;
    for (stalled_again = 0; stalled_again < 40; stalled_again++)
        world_play(&world, &(struct world_scene){.shape = stealing,
                               .begin = sibling_sleeps,
                               .party = WORLD_WORKER,
                               .act = worker_turns,
                               .meanwhile = calls_and_stalls_again});
}

/* ---- room ---- */

static void worker_answers_or_defers(void *arg)
{
    (void)world_take(arg, 0, 0);
    worker_turns(arg);
}

static void caller_releases(void *arg)
{
    knit_session_release(world.session, world.call[0].slot);
    (void)arg;
}

static void arena_is_full(void)
{
    world.holds = true;
    world.len = 3000;
    for (int i = 0; i < 3; i++) {
        assert_true(world_publish(&world, 0));
        if (i < 2)
            assert_true(world_take(&world, 0, 0));
        world_collect(&world);
    }
}

static void worker_does_not_sleep_beside_room(void)
{
    assert_false(steps_is_asleep(WORLD_WORKER) && world.lanes.worker[0]->sessions[0]->deferred.any);
    world_ends(&world);
}

static void a_worker_is_woken_for_room_for_a_deferred_reply(void **state)
{
    (void)state;
    stall_both((struct pair){not_stealing, arena_is_full, worker_answers_or_defers, caller_releases,
        WORLD_WORKER, WORLD_CALLER, worker_does_not_sleep_beside_room});
}

/* ---- stopping and detaching ---- */

static void host_stops_it(void *arg)
{
    knit_lane_stop(((struct world *)arg)->lanes.worker[0]);
}

static void host_detaches_another(void *arg)
{
    assert_int_equal(knit_lane_detach(((struct world *)arg)->lanes.worker[0], 77), 0);
}

static void worker_is_awake(void)
{
    assert_false(steps_is_asleep(WORLD_WORKER));
}

/* Once it has detached the session it turns on, and sleeps. */
static void worker_is_awake_or_has_detached(void)
{
    assert_true(!steps_was_stalled() || !steps_is_asleep(WORLD_WORKER) ||
                atomic_load_explicit(&world.lanes.detached, memory_order_relaxed) == 1);
}

static void host_detaches(void *arg)
{
    (void)steps_as(WORLD_HOST, host_detaches_another, arg);
}

static void a_worker_is_woken_to_stop_and_to_detach(void **state)
{
    (void)state;
    stall_both((struct pair){not_stealing, worker_slept_before, worker_turns, host_stops_it,
        WORLD_WORKER, WORLD_HOST, worker_is_awake});
    /* The host holds a mutex in some of its steps, so it is not stalled. */
    world_play(&world, &(struct world_scene){.shape = not_stealing,
                           .begin = worker_slept_before,
                           .party = WORLD_WORKER,
                           .act = worker_turns,
                           .meanwhile = host_detaches,
                           .judge = worker_is_awake_or_has_detached});
}

static bool had_run;

static void host_detaches_during_the_call(void *arg)
{
    had_run = atomic_load_explicit(&world.executions[0], memory_order_relaxed) != 0;
    host_detaches(arg);
}

static void one_call_is_ready(void)
{
    assert_true(world_publish(&world, 0));
}

static void session_has_left(void)
{
    /* Asked before the task began, the worker detached before the task ended. */
    if (steps_was_stalled() && !had_run)
        assert_int_equal(atomic_load_explicit(&world.lanes.detached, memory_order_relaxed), 1);
    assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
    if (steps_was_stalled())
        assert_int_equal(atomic_load_explicit(&world.lanes.detached, memory_order_relaxed), 1);
    world_ends(&world);
}

static void a_session_is_detached_while_a_call_runs(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = not_stealing,
                           .begin = one_call_is_ready,
                           .party = WORLD_WORKER,
                           .act = worker_begins_a_long_call,
                           .meanwhile = host_detaches_during_the_call,
                           .judge = session_has_left});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_is_woken_for_every_answer),
        cmocka_unit_test(a_caller_is_woken_before_a_long_call_begins),
        cmocka_unit_test(sleeps_are_told_apart_where_their_numbers_wrap),
        cmocka_unit_test(a_caller_is_woken_for_what_a_dead_worker_left),
        cmocka_unit_test(a_caller_that_a_dead_worker_had_notified_is_woken),
        cmocka_unit_test(a_worker_is_woken_for_calls_in_its_lane),
        cmocka_unit_test(one_flush_wakes_every_lane_that_was_published_to),
        cmocka_unit_test(a_worker_is_woken_for_calls_in_a_vacant_lane),
        cmocka_unit_test(a_worker_is_woken_for_calls_of_a_stopped_one),
        cmocka_unit_test(a_sibling_is_woken_for_calls_behind_a_long_one),
        cmocka_unit_test(a_caller_wakes_a_sibling_for_a_stopped_worker),
        cmocka_unit_test(a_worker_is_woken_for_room_for_a_deferred_reply),
        cmocka_unit_test(a_worker_is_woken_to_stop_and_to_detach),
        cmocka_unit_test(a_session_is_detached_while_a_call_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
