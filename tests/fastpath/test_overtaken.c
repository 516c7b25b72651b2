/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever is stalled in the midst of a call is overtaken by all others, and nothing is lost, run
 * twice or mixed up by that. Method: one party is stalled before each of its atomic accesses in
 * turn, and meanwhile the others do what harms most there. steps_world.h says what is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "tests/fastpath/steps.h"
#include "tests/fastpath/steps_world.h"

#define ARENA 65536u
#define MANY  1000u /* accesses of one act: more than any has */

static struct world world;

/* ---- the ring ---- */

static void worker_takes_one(void *arg)
{
    (void)world_take(arg, 0, 0);
}

static void a_worker_is_overtaken(
    const struct world_shape *shape, uint32_t lag, bool is_short, steps_act *by)
{
    uint64_t at = 0;
    do {
        world_init(&world, shape);
        for (uint32_t i = 0; i < lag; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
            world_collect(&world);
        }
        for (int i = 0; i < 3; i++)
            assert_true(world_publish(&world, 0));
        world.lanes.worker[0]->mean_ns[LANES_COUNT] = is_short ? 1 : 1000000;
        steps_stall(at, by, &world);
        (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
        /* However far behind, it finds what is there. */
        world_collect(&world);
        (void)world_publish(&world, 0);
        assert_true(world_take(&world, 0, 0));
        world_ends(&world);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

static void a_worker_that_takes_is_overtaken_by_whole_rings(void **state)
{
    (void)state;
    for (uint32_t lag = 0; lag <= 2 * KNIT_HEAD_LAG_MAX; lag++) {
        struct world_shape shape = {
            .slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true, .lazy = lag % 2 == 1};
        a_worker_is_overtaken(&shape, lag, lag % 4 < 2, world_goes_round);
    }
}

static void sibling_takes(void *arg)
{
    (void)steps_as(WORLD_SIBLING, world_sibling_takes, arg);
}

/* Its cell still says what it said, so nothing tells it that it looked too late. */
static void a_worker_that_takes_is_overtaken_by_a_thief(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    a_worker_is_overtaken(&shape, 0, false, sibling_takes);
    a_worker_is_overtaken(&shape, KNIT_HEAD_LAG_MAX, true, sibling_takes);
}

/* Tags, positions, generations. */
static void a_worker_is_overtaken_where_numbers_wrap(void **state)
{
    const uint64_t starts[] = {1023 * 32 - 40, (1ull << 32) - 50, (1ull << 40) - 10, 0ull - 30};
    (void)state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct world_shape shape = {
            .slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true, .start = starts[i]};
        a_worker_is_overtaken(&shape, KNIT_HEAD_LAG_MAX, false, world_goes_round);
    }
}

/* A free slot means a free cell, also for one who begins at a `taken` that lags. */
static void a_ring_is_longer_than_its_slots_and_the_lag(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS_MAX, .arena_bytes = ARENA, .steal = true};
    (void)state;
    world_init(&world, &shape);
    world_goes_round(&world);
    assert_true(world_take(&world, 0, 0));
    world_ends(&world);
    world_fini(&world);
}

static void caller_publishes(void *arg)
{
    (void)world_publish(arg, 0);
    (void)world_publish(arg, 1);
    knit_session_flush(((struct world *)arg)->session);
}

static void both_take(void *arg)
{
    (void)steps_as(WORLD_WORKER, world_worker_takes, arg);
    (void)steps_as(WORLD_SIBLING, world_sibling_takes, arg);
}

static void a_call_is_seen_whole_or_not_at_all(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    for (uint32_t before = 0; before < 10; before++) {
        uint64_t at = 0;
        do {
            shape.lazy = before % 2 == 1;
            world_init(&world, &shape);
            for (uint32_t i = 0; i < before; i++) {
                (void)world_publish(&world, 0);
                both_take(&world);
                world_collect(&world);
            }
            steps_stall(at, both_take, &world);
            (void)steps_as(WORLD_CALLER, caller_publishes, &world);
            world_ends(&world);
            world_fini(&world);
        } while (steps_was_stalled() && at++ < MANY);
        assert_true(at > 10 && at < MANY);
    }
}

static void a_caller_that_collects_misses_nothing_that_comes_meanwhile(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        for (uint32_t i = 0; i < 5; i++) {
            (void)world_publish(&world, i % 2);
            (void)world_take(&world, 0, i % 2);
        }
        while (world_publish(&world, 0))
            ;
        steps_stall(at, both_take, &world);
        (void)steps_as(WORLD_CALLER, world_caller_collects, &world);
        world_ends(&world);
        /* By news alone. */
        assert_int_equal(knit_session_counters(world.session)->rescans, 0);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

/* ---- abort and settle ---- */

static void caller_settles(void *arg)
{
    struct world *in = arg;
    struct world_call *call = &in->call[0];
    if (!call->is_over)
        call->is_settled = knit_session_settle(in->session, call->slot, &call->started);
}

static void caller_aborts(void *arg)
{
    struct world *in = arg;
    if (in->call[0].is_over)
        return;
    in->call[0].may_fail = true;
    knit_session_abort(in->session, in->call[0].slot);
}

static void (*what_caller_does)(void *);

static void caller_gives_up(void *arg)
{
    (void)steps_as(WORLD_CALLER, what_caller_does, arg);
}

/* Each slot is used twice more: nothing of what was given up hits a later call. */
static void later_calls_are_well(void)
{
    for (uint32_t i = 0; i < 2 * WORLD_SLOTS; i++) {
        world_collect(&world);
        assert_true(world_publish(&world, i % 2));
        both_take(&world);
    }
}

static void give_up(bool lazy, bool caller_is_stalled)
{
    struct world_shape shape = {
        .slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true, .lazy = lazy};
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        (void)world_publish(&world, 0);
        steps_stall(at, caller_is_stalled ? both_take : caller_gives_up, &world);
        if (caller_is_stalled)
            caller_gives_up(&world);
        (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
        later_calls_are_well();
        world_ends(&world);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 0 && at < MANY);
}

static void what_is_settled_as_not_started_never_runs(void **state)
{
    (void)state;
    what_caller_does = caller_settles;
    for (int i = 0; i < 4; i++)
        give_up(i % 2 == 1, i < 2);
}

static void an_abort_hits_its_own_call_alone(void **state)
{
    (void)state;
    what_caller_does = caller_aborts;
    for (int i = 0; i < 4; i++)
        give_up(i % 2 == 1, i < 2);
}

static void everything_settled_is_taken_back(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = 8192, .steal = true};
    (void)state;
    world_init(&world, &shape);
    world.len = 3000;
    for (int round = 0; round < 20; round++) {
        int started;
        assert_true(world_publish(&world, 0));
        struct world_call *call = &world.call[world.calls - 1];
        /* The worker has begun, so it runs all the same, and its result takes room in an arena. */
        if (round % 2 == 0)
            assert_true(world_take(&world, 0, 0));
        call->is_settled = knit_session_settle(world.session, call->slot, &started);
        call->started = started;
        assert_int_equal(call->is_settled, round % 2 == 1);
        assert_int_equal(world_take(&world, 0, 0), round % 2 == 1);
        world_collect(&world);
        assert_false(world.lanes.worker[0]->sessions[0]->deferred.any);
    }
    world_ends(&world);
    world_fini(&world);
}

/* Whenever it was settled: running, its result takes room in an arena all the same. */
static void a_settled_calls_result_gives_its_room_back(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = 8192};
    (void)state;
    what_caller_does = caller_settles;
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        world.len = 3000;
        assert_true(world_publish(&world, 0));
        steps_stall(at, caller_gives_up, &world);
        (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
        world_collect(&world);
        world.holds = true;
        for (int i = 0; i < 2; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
        }
        assert_false(world.lanes.worker[0]->sessions[0]->deferred.any);
        world_ends(&world);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

static void caller_settles_and_calls_again(void *arg)
{
    caller_settles(arg);
    assert_true(world_publish(arg, 1));
}

/* A task may still read it. */
static void a_settled_calls_argument_stays_until_it_is_answered(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA};
    (void)state;
    what_caller_does = caller_settles_and_calls_again;
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        world.len = 3000;
        assert_true(world_publish(&world, 0));
        steps_stall(at, caller_gives_up, &world);
        (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
        world_ends(&world);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

static bool was_claimed;

static void host_closes(void *arg)
{
    struct world *in = arg;
    was_claimed = knit_claim_gen(atomic_load_explicit(
                      &in->side->reply.claim[in->call[0].slot], memory_order_relaxed)) == 1;
    atomic_store_explicit(&in->side->reply.state->state, KNIT_STATE_CLOSED, memory_order_seq_cst);
}

static void what_is_claimed_of_a_closed_session_is_not_run(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA};
    (void)state;
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        world.may_fail = true;
        assert_true(world_publish(&world, 0));
        steps_stall(at, host_closes, &world);
        (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
        world_collect(&world);
        assert_true(world.call[0].is_over);
        if (steps_was_stalled() && !was_claimed)
            assert_true(world.call[0].has_failed);
        world_ends(&world);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

/* ---- the host ---- */

static void host_answers(void *arg)
{
    struct world *in = arg;
    struct knit_recovery_death death = {.lane = 0,
        .owner = WORLD_DEAD,
        .special_slot = UINT32_MAX,
        .error = &in->died,
        .special = &in->died};
    (void)knit_recovery_answer(&in->view, &death);
}

static void host_refuses(void *arg)
{
    struct world *in = arg;
    (void)knit_recovery_refuse(&in->view, &in->refused);
}

static void host_mends(void *arg)
{
    (void)steps_as(WORLD_HOST, host_answers, arg);
}

static void host_mends_and_refuses(void *arg)
{
    host_mends(arg);
    (void)steps_as(WORLD_HOST, host_refuses, arg);
    (void)steps_as(WORLD_CALLER, world_caller_collects, arg);
}

/* Half of its calls it had answered, and slots are used again while the host looks at them. */
static void the_dead_ones_calls_are_answered_once_while_slots_are_used_again(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    uint64_t at = 0;
    do {
        world_init(&world, &shape);
        world.lanes.worker[0]->options.owner = WORLD_DEAD;
        for (uint32_t i = 0; i < WORLD_SLOTS / 2; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
        }
        world.may_fail = true;
        assert_true(world_publish(&world, 0));
        world_claim(&world, WORLD_SLOTS / 2, WORLD_DEAD);
        world.may_fail = false;
        assert_true(world_publish(&world, 0));
        world.lanes.worker[0]->options.owner = 5;
        steps_stall(at, world_goes_round, &world);
        (void)steps_as(WORLD_HOST, host_answers, &world);
        world_ends(&world);
        assert_true(world.call[WORLD_SLOTS / 2].has_failed);
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

/* Nobody wants its outcome any more, but it takes a slot until it is answered. */
static void what_was_settled_is_taken_back_from_the_dead(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    what_caller_does = caller_settles;
    for (int i = 0; i < 4; i++) {
        uint64_t at = 0;
        do {
            shape.lazy = i % 2 == 1;
            world_init(&world, &shape);
            world.may_fail = true;
            assert_true(world_publish(&world, 0));
            world_claim(&world, 0, WORLD_DEAD);
            steps_stall(at, i < 2 ? host_mends : caller_gives_up, &world);
            if (i < 2)
                caller_gives_up(&world);
            host_mends(&world);
            world_ends(&world);
            world_fini(&world);
        } while (steps_was_stalled() && at++ < MANY);
        assert_true(at > 0 && at < MANY);
    }
}

/* Whatever the answer before it was. */
static void an_answer_of_the_host_lies_in_its_cell(void **state)
{
    struct world_shape shape = {.slots = 1, .arena_bytes = ARENA};
    struct knit_session_outcome outcome;
    (void)state;
    world_init(&world, &shape);
    world.len = 3000;
    assert_true(world_publish(&world, 0));
    assert_true(world_take(&world, 0, 0));
    world_collect(&world);
    assert_true(world_publish(&world, 0));
    world_claim(&world, 1, WORLD_DEAD);
    host_answers(&world);
    assert_true(knit_session_collect_slot(world.session, world.call[1].slot, &outcome));
    assert_false(outcome.held);
    assert_int_equal(outcome.len, world.died.len);
    assert_memory_equal(outcome.payload, world.died.bytes, world.died.len);
    world_fini(&world);
}

static void a_call_is_run_or_refused_and_not_both(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    for (int who = 0; who < 2; who++) {
        uint64_t at = 0;
        do {
            world_init(&world, &shape);
            world.may_fail = true;
            for (uint32_t i = 0; i < WORLD_SLOTS; i++)
                (void)world_publish(&world, i % 3 == 0);
            steps_stall(at, who == 0 ? world_goes_round : host_mends_and_refuses, &world);
            if (who == 0)
                (void)steps_as(WORLD_HOST, host_refuses, &world);
            else
                (void)steps_as(WORLD_WORKER, worker_takes_one, &world);
            world_ends(&world);
            world_fini(&world);
        } while (steps_was_stalled() && at++ < MANY);
        assert_true(at > 10 && at < MANY);
    }
}

/* A walk longer than `taken` may lag, and calls behind it. */
static void refusals_keep_up_with_the_ring(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
    (void)state;
    for (uint32_t lag = 0; lag < 2 * KNIT_HEAD_LAG_MAX; lag++) {
        world_init(&world, &shape);
        world.may_fail = true;
        /* Taken, and `taken` was not raised: as one who died leaves it. */
        for (uint32_t i = 0; i < lag; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
            world_collect(&world);
        }
        while (world_publish(&world, 0))
            ;
        (void)steps_as(WORLD_HOST, host_refuses, &world);
        world_collect(&world);
        assert_int_equal(knit_session_in_flight(world.session), 0);
        world_ends(&world);
        assert_true(knit_recovery_is_idle(&world.view));
        world_fini(&world);
    }
}

/* ---- arenas ---- */

static void caller_releases_and_calls_again(void *arg)
{
    struct world *in = arg;
    knit_session_release(in->session, in->call[0].slot);
    assert_true(world_publish(in, 1));
}

static void slot_moves_to_the_sibling(void *arg)
{
    (void)steps_as(WORLD_CALLER, caller_releases_and_calls_again, arg);
    (void)steps_as(WORLD_SIBLING, world_sibling_takes, arg);
}

static void replacement_starts(void *arg)
{
    lanes_add_worker(&((struct world *)arg)->lanes, 0, 50);
}

/* The block of a slot that moved on meanwhile lies, by its number, in the midst of one that is
 * held. */
static void a_replacement_keeps_off_what_is_held(void **state)
{
    struct world_shape shape = {.slots = 3, .arena_bytes = 16384};
    (void)state;
    uint64_t at = 0;
    do {
        struct knit_session_outcome held;
        unsigned char before[3000];
        world_init(&world, &shape);
        world.len = 3000;
        for (uint32_t i = 0; i < 2; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
            assert_true(knit_session_collect_slot(world.session, world.call[i].slot, &held));
            assert_true(held.held);
        }
        memcpy(before, held.payload, sizeof(before));
        world.len = 3100;
        assert_true(world_publish(&world, 1));
        assert_true(world_take(&world, 1, 1));
        struct knit_session_outcome third;
        assert_true(knit_session_collect_slot(world.session, world.call[2].slot, &third));
        lanes_stop_worker(&world.lanes, 0);
        world.len = 200;
        steps_stall(at, slot_moves_to_the_sibling, &world);
        (void)steps_as(WORLD_WORKER, replacement_starts, &world);
        if (!steps_was_stalled())
            slot_moves_to_the_sibling(&world);
        assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
        world_collect(&world);
        /* Longer than what lies before the held one. */
        world.len = 3100;
        for (int i = 0; i < 5; i++) {
            assert_true(world_publish(&world, 0));
            assert_true(world_take(&world, 0, 0));
            world_collect(&world);
        }
        assert_memory_equal(held.payload, before, sizeof(before));
        world_fini(&world);
    } while (steps_was_stalled() && at++ < MANY);
    assert_true(at > 10 && at < MANY);
}

/* A block of another lane's arena is none of its own, though the numbers are the same. */
static void a_replacement_takes_its_own_blocks_alone(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = 8192};
    struct knit_session_outcome held[2];
    unsigned char before[3000];
    (void)state;
    world_init(&world, &shape);
    world.len = sizeof(before);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(world_publish(&world, i));
        assert_true(world_take(&world, i, i));
        assert_true(knit_session_collect_slot(world.session, world.call[i].slot, &held[i]));
    }
    memcpy(before, held[0].payload, sizeof(before));
    lanes_stop_worker(&world.lanes, 0);
    replacement_starts(&world);
    assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
    knit_session_release(world.session, world.call[1].slot);
    world.holds = true;
    assert_true(world_publish(&world, 0));
    assert_true(world_take(&world, 0, 0));
    world_collect(&world);
    assert_false(world.lanes.worker[0]->sessions[0]->deferred.any);
    assert_memory_equal(held[0].payload, before, sizeof(before));
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_takes_is_overtaken_by_whole_rings),
        cmocka_unit_test(a_worker_that_takes_is_overtaken_by_a_thief),
        cmocka_unit_test(a_worker_is_overtaken_where_numbers_wrap),
        cmocka_unit_test(a_ring_is_longer_than_its_slots_and_the_lag),
        cmocka_unit_test(a_call_is_seen_whole_or_not_at_all),
        cmocka_unit_test(a_caller_that_collects_misses_nothing_that_comes_meanwhile),
        cmocka_unit_test(what_is_settled_as_not_started_never_runs),
        cmocka_unit_test(an_abort_hits_its_own_call_alone),
        cmocka_unit_test(everything_settled_is_taken_back),
        cmocka_unit_test(a_settled_calls_result_gives_its_room_back),
        cmocka_unit_test(a_settled_calls_argument_stays_until_it_is_answered),
        cmocka_unit_test(what_is_claimed_of_a_closed_session_is_not_run),
        cmocka_unit_test(the_dead_ones_calls_are_answered_once_while_slots_are_used_again),
        cmocka_unit_test(what_was_settled_is_taken_back_from_the_dead),
        cmocka_unit_test(an_answer_of_the_host_lies_in_its_cell),
        cmocka_unit_test(a_call_is_run_or_refused_and_not_both),
        cmocka_unit_test(refusals_keep_up_with_the_ring),
        cmocka_unit_test(a_replacement_keeps_off_what_is_held),
        cmocka_unit_test(a_replacement_takes_its_own_blocks_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
