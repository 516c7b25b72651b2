/* SPDX-License-Identifier: Apache-2.0 */
/* A party that is stalled in the middle of an operation is overtaken by all others, and no call is
 * lost, run twice or answered with another one's bytes. Method: one party is stalled before each of
 * its atomic accesses in turn, and meanwhile the others do what can do most harm there.
 * steps_world.h says what is checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "tests/fastpath/steps.h"
#include "tests/fastpath/steps_world.h"

#define ARENA 65536u

static struct world world;

static const struct world_shape stealing = {
    .slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};
static const struct world_shape not_stealing = {.slots = WORLD_SLOTS, .arena_bytes = ARENA};
static const struct world_shape short_arena = {.slots = WORLD_SLOTS, .arena_bytes = 8192};

/* ---- the ring ---- */

static uint32_t calls_before;
static bool next_call_is_short;

/* Calls that the worker took, and three that it has yet to take. */
static void worker_took_some(void)
{
    for (uint32_t i = 0; i < calls_before; i++) {
        assert_true(world_publish(&world, 0));
        assert_true(world_take(&world, 0, 0));
        world_collect(&world);
    }
    for (int i = 0; i < 3; i++)
        assert_true(world_publish(&world, 0));
    world.lanes.worker[0]->mean_ns[LANES_COUNT] = next_call_is_short ? 1 : 1000000;
}

/* However far it was overtaken. */
static void worker_finds_the_next_call(void)
{
    world_collect(&world);
    (void)world_publish(&world, 0);
    assert_true(world_take(&world, 0, 0));
    world_ends(&world);
}

static void a_worker_is_overtaken(
    const struct world_shape *shape, uint32_t lag, bool is_short, steps_act *by)
{
    calls_before = lag;
    next_call_is_short = is_short;
    world_play(&world, &(struct world_scene){.shape = *shape,
                           .begin = worker_took_some,
                           .party = WORLD_WORKER,
                           .act = world_worker_takes_one,
                           .meanwhile = by,
                           .judge = worker_finds_the_next_call});
}

static void a_worker_that_takes_is_overtaken_by_whole_rings(void **state)
{
    struct world_shape shape = stealing;
    (void)state;
    for (uint32_t lag = 0; lag <= 2 * KNIT_HEAD_LAG_MAX; lag++) {
        shape.lazy = lag % 2 == 1;
        a_worker_is_overtaken(&shape, lag, lag % 4 < 2, world_goes_round);
    }
}

static void sibling_takes(void *arg)
{
    (void)steps_as(WORLD_SIBLING, world_sibling_takes, arg);
}

/* The cells still hold the calls that the sibling took, so only the claims show that it did. */
static void a_worker_that_takes_is_overtaken_by_a_thief(void **state)
{
    (void)state;
    a_worker_is_overtaken(&stealing, 0, false, sibling_takes);
    a_worker_is_overtaken(&stealing, KNIT_HEAD_LAG_MAX, true, sibling_takes);
}

/* Tags, positions and generations wrap. */
static void a_worker_is_overtaken_where_numbers_wrap(void **state)
{
    const uint64_t starts[] = {1023 * 32 - 40, (1ull << 32) - 50, (1ull << 40) - 10, 0ull - 30};
    struct world_shape shape = stealing;
    (void)state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        shape.start = starts[i];
        a_worker_is_overtaken(&shape, KNIT_HEAD_LAG_MAX, false, world_goes_round);
    }
}

/* A free slot means a free cell, also for a walk that begins at a head that lags. */
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

static void some_calls_are_over(void)
{
    for (uint32_t i = 0; i < calls_before; i++) {
        (void)world_publish(&world, 0);
        both_take(&world);
        world_collect(&world);
    }
}

static void every_call_has_one_outcome(void)
{
    world_ends(&world);
}

static void a_call_is_seen_whole_or_not_at_all(void **state)
{
    struct world_scene scene = {.shape = stealing,
        .begin = some_calls_are_over,
        .party = WORLD_CALLER,
        .act = caller_publishes,
        .meanwhile = both_take,
        .judge = every_call_has_one_outcome};
    (void)state;
    for (calls_before = 0; calls_before < 10; calls_before++) {
        scene.shape.lazy = calls_before % 2 == 1;
        world_play(&world, &scene);
    }
}

static void some_calls_are_answered_and_others_ready(void)
{
    for (uint32_t i = 0; i < 5; i++) {
        (void)world_publish(&world, i % 2);
        (void)world_take(&world, 0, i % 2);
    }
    while (world_publish(&world, 0))
        ;
}

static void caller_needed_no_rescan(void)
{
    world_ends(&world);
    assert_int_equal(knit_session_counters(world.session)->rescans, 0);
}

static void a_caller_that_collects_misses_nothing_that_is_answered_meanwhile(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = stealing,
                           .begin = some_calls_are_answered_and_others_ready,
                           .party = WORLD_CALLER,
                           .act = world_caller_collects,
                           .meanwhile = both_take,
                           .judge = caller_needed_no_rescan});
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

/* The call's time in the queue is over. What is not settled may still be refused, if its worker had
 * claimed it and not started it. */
static void caller_withdraws(void *arg)
{
    struct world *in = arg;
    struct world_call *call = &in->call[0];
    if (call->is_over)
        return;
    call->is_settled = knit_session_withdraw(in->session, call->slot);
    call->started = KNIT_STARTED_NO;
    call->may_fail = !call->is_settled;
}

static void caller_cancels(void *arg)
{
    struct world *in = arg;
    struct world_call *call = &in->call[0];
    if (call->is_over)
        return;
    call->is_settled = knit_session_cancel(in->session, call->slot);
    call->started = KNIT_STARTED_NO;
    call->may_fail = !call->is_settled;
}

static steps_act *how_caller_gives_up;

static void caller_gives_up(void *arg)
{
    (void)steps_as(WORLD_CALLER, how_caller_gives_up, arg);
}

static void one_call_is_ready(void)
{
    assert_true(world_publish(&world, 0));
}

/* Each slot is used twice more: giving up a call affects no later one. */
static void later_calls_succeed(void)
{
    (void)steps_as(WORLD_WORKER, world_worker_takes_one, &world);
    for (uint32_t i = 0; i < 2 * WORLD_SLOTS; i++) {
        world_collect(&world);
        assert_true(world_publish(&world, i % 2));
        both_take(&world);
    }
    world_ends(&world);
}

/* Caller and worker are stalled in turn, with stores seen at once and late. */
static void give_up(steps_act *how)
{
    struct world_scene scenes[] = {
        {.party = WORLD_CALLER, .act = how, .meanwhile = both_take},
        {.party = WORLD_WORKER, .act = world_worker_takes_one, .meanwhile = caller_gives_up},
    };
    how_caller_gives_up = how;
    for (int i = 0; i < 4; i++) {
        struct world_scene *scene = &scenes[i / 2];
        scene->shape = stealing;
        scene->shape.lazy = i % 2 == 1;
        scene->begin = one_call_is_ready;
        scene->judge = later_calls_succeed;
        scene->is_brief = true;
        world_play(&world, scene);
    }
}

static void what_is_settled_as_not_started_never_runs(void **state)
{
    (void)state;
    give_up(caller_settles);
}

static void what_is_withdrawn_never_runs_and_what_has_started_goes_on(void **state)
{
    (void)state;
    give_up(caller_withdraws);
    give_up(caller_cancels);
}

static void an_abort_affects_its_own_call_alone(void **state)
{
    (void)state;
    give_up(caller_aborts);
}

static void slots_and_blocks_of_settled_calls_become_free(void **state)
{
    struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = 8192, .steal = true};
    (void)state;
    world_init(&world, &shape);
    world.len = 3000;
    for (int round = 0; round < 20; round++) {
        int started;
        struct world_call *call;
        assert_true(world_publish(&world, 0));
        call = &world.call[world.calls - 1];
        /* The worker has taken the call, so it runs, and its result takes room in an arena. */
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

static void a_long_call_is_ready(void)
{
    world.len = 3000;
    assert_true(world_publish(&world, 0));
}

static void arena_has_room_for_two(void)
{
    world_collect(&world);
    world.holds = true;
    for (int i = 0; i < 2; i++) {
        assert_true(world_publish(&world, 0));
        assert_true(world_take(&world, 0, 0));
    }
    assert_false(world.lanes.worker[0]->sessions[0]->deferred.any);
    world_ends(&world);
}

/* Whenever the call is settled while it runs, its result takes room in an arena. */
static void the_result_of_a_settled_call_releases_its_block(void **state)
{
    (void)state;
    how_caller_gives_up = caller_settles;
    world_play(&world, &(struct world_scene){.shape = short_arena,
                           .begin = a_long_call_is_ready,
                           .party = WORLD_WORKER,
                           .act = world_worker_takes_one,
                           .meanwhile = caller_gives_up,
                           .judge = arena_has_room_for_two});
}

static void caller_settles_and_calls_again(void *arg)
{
    caller_settles(arg);
    assert_true(world_publish(arg, 1));
}

/* The task may still read it. */
static void a_settled_calls_argument_stays_until_it_is_answered(void **state)
{
    (void)state;
    how_caller_gives_up = caller_settles_and_calls_again;
    world_play(&world, &(struct world_scene){.shape = not_stealing,
                           .begin = a_long_call_is_ready,
                           .party = WORLD_WORKER,
                           .act = world_worker_takes_one,
                           .meanwhile = caller_gives_up,
                           .judge = every_call_has_one_outcome});
}

static bool was_claimed;

static void host_closes(void *arg)
{
    struct world *in = arg;
    was_claimed = knit_claim_gen(atomic_load_explicit(
                      &in->side->reply.claim[in->call[0].slot], memory_order_relaxed)) == 1;
    atomic_store_explicit(&in->side->reply.state->state, KNIT_STATE_CLOSED, memory_order_seq_cst);
}

static void one_call_that_may_fail_is_ready(void)
{
    world.may_fail = true;
    one_call_is_ready();
}

static void what_was_not_claimed_has_failed(void)
{
    world_collect(&world);
    assert_true(world.call[0].is_over);
    if (steps_was_stalled() && !was_claimed)
        assert_true(world.call[0].has_failed);
    world_ends(&world);
}

static void a_call_claimed_after_the_close_does_not_run(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = not_stealing,
                           .begin = one_call_that_may_fail_is_ready,
                           .party = WORLD_WORKER,
                           .act = world_worker_takes_one,
                           .meanwhile = host_closes,
                           .judge = what_was_not_claimed_has_failed});
}

/* ---- the host ---- */

static void host_refuses(void *arg)
{
    struct world *in = arg;
    (void)knit_recovery_refuse(&in->view, &in->refused);
}

static void host_recovers(void *arg)
{
    (void)steps_as(WORLD_HOST, world_host_answers, arg);
}

static void host_recovers_and_refuses(void *arg)
{
    host_recovers(arg);
    (void)steps_as(WORLD_HOST, host_refuses, arg);
    (void)steps_as(WORLD_CALLER, world_caller_collects, arg);
}

/* It has answered half of its calls, claimed the next one and not the last. */
static void worker_died_in_a_call(void)
{
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
}

static void the_call_it_died_in_has_failed(void)
{
    world_ends(&world);
    assert_true(world.call[WORLD_SLOTS / 2].has_failed);
}

/* Slots are used again while the host looks at them. */
static void a_dead_workers_calls_are_answered_once_while_slots_are_used_again(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = stealing,
                           .begin = worker_died_in_a_call,
                           .party = WORLD_HOST,
                           .act = world_host_answers,
                           .meanwhile = world_goes_round,
                           .judge = the_call_it_died_in_has_failed});
}

static void one_call_is_a_dead_workers(void)
{
    one_call_that_may_fail_is_ready();
    world_claim(&world, 0, WORLD_DEAD);
}

static void host_frees_its_slot(void)
{
    host_recovers(&world);
    world_ends(&world);
}

/* No caller waits for its outcome, but it occupies a slot until it is answered. */
static void slots_settled_before_a_death_become_free(void **state)
{
    struct world_scene scenes[] = {
        {.party = WORLD_CALLER, .act = caller_settles, .meanwhile = host_recovers},
        {.party = WORLD_HOST, .act = world_host_answers, .meanwhile = caller_gives_up},
    };
    (void)state;
    how_caller_gives_up = caller_settles;
    for (int i = 0; i < 4; i++) {
        struct world_scene *scene = &scenes[i / 2];
        scene->shape = stealing;
        scene->shape.lazy = i % 2 == 1;
        scene->begin = one_call_is_a_dead_workers;
        scene->judge = host_frees_its_slot;
        scene->is_brief = true;
        world_play(&world, scene);
    }
}

/* Whichever answer the slot held before. */
static void an_answer_of_the_host_names_no_block(void **state)
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
    world_host_answers(&world);
    assert_true(knit_session_collect_slot(world.session, world.call[1].slot, &outcome));
    assert_false(outcome.held);
    assert_int_equal(outcome.len, world.died.len);
    assert_memory_equal(outcome.payload, world.died.bytes, world.died.len);
    world_fini(&world);
}

static void all_slots_hold_ready_calls(void)
{
    world.may_fail = true;
    for (uint32_t i = 0; i < WORLD_SLOTS; i++)
        (void)world_publish(&world, i % 3 == 0);
}

static void a_call_is_run_or_refused_and_not_both(void **state)
{
    const struct world_scene scenes[] = {
        {.shape = stealing,
            .begin = all_slots_hold_ready_calls,
            .party = WORLD_HOST,
            .act = host_refuses,
            .meanwhile = world_goes_round,
            .judge = every_call_has_one_outcome},
        {.shape = stealing,
            .begin = all_slots_hold_ready_calls,
            .party = WORLD_WORKER,
            .act = world_worker_takes_one,
            .meanwhile = host_recovers_and_refuses,
            .judge = every_call_has_one_outcome},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
        world_play(&world, &scenes[i]);
}

/* A walk that is longer than the head may lag, with calls at its end. */
static void a_refusal_raises_the_head_over_a_long_run(void **state)
{
    (void)state;
    for (uint32_t lag = 0; lag < 2 * KNIT_HEAD_LAG_MAX; lag++) {
        world_init(&world, &stealing);
        world.may_fail = true;
        /* Taken without raising the head, as a worker that dies leaves it. */
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

static struct knit_session_outcome held;
static unsigned char held_bytes[3000];

/* The caller holds two results of lane 0 and one of lane 1. */
static void worker_left_a_block_that_is_held(void)
{
    struct knit_session_outcome third;
    world.len = sizeof(held_bytes);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(world_publish(&world, 0));
        assert_true(world_take(&world, 0, 0));
        assert_true(knit_session_collect_slot(world.session, world.call[i].slot, &held));
        assert_true(held.held);
    }
    memcpy(held_bytes, held.payload, sizeof(held_bytes));
    world.len = 3100;
    assert_true(world_publish(&world, 1));
    assert_true(world_take(&world, 1, 1));
    assert_true(knit_session_collect_slot(world.session, world.call[2].slot, &third));
    lanes_stop_worker(&world.lanes, 0);
    world.len = 200;
}

static void later_results_keep_off_what_is_held(void)
{
    if (!steps_was_stalled())
        slot_moves_to_the_sibling(&world);
    assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
    world_collect(&world);
    /* Longer than the room before the held block. */
    world.len = 3100;
    for (int i = 0; i < 5; i++) {
        assert_true(world_publish(&world, 0));
        assert_true(world_take(&world, 0, 0));
        world_collect(&world);
    }
    assert_memory_equal(held.payload, held_bytes, sizeof(held_bytes));
}

/* A slot moves to the other lane meanwhile; the offset of its new block, read as one in lane 0's
 * arena, lies in the middle of a block that is held. */
static void a_replacement_does_not_overwrite_held_results(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = {.slots = 3, .arena_bytes = 16384},
                           .begin = worker_left_a_block_that_is_held,
                           .party = WORLD_WORKER,
                           .act = replacement_starts,
                           .meanwhile = slot_moves_to_the_sibling,
                           .judge = later_results_keep_off_what_is_held});
}

/* A block of another lane's arena is not its own, though the offsets are equal. */
static void a_replacement_adopts_only_its_own_blocks(void **state)
{
    struct knit_session_outcome both[2];
    unsigned char before[3000];
    (void)state;
    world_init(&world, &short_arena);
    world.len = sizeof(before);
    for (uint32_t i = 0; i < 2; i++) {
        assert_true(world_publish(&world, i));
        assert_true(world_take(&world, i, i));
        assert_true(knit_session_collect_slot(world.session, world.call[i].slot, &both[i]));
    }
    memcpy(before, both[0].payload, sizeof(before));
    lanes_stop_worker(&world.lanes, 0);
    replacement_starts(&world);
    assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
    knit_session_release(world.session, world.call[1].slot);
    world.holds = true;
    assert_true(world_publish(&world, 0));
    assert_true(world_take(&world, 0, 0));
    world_collect(&world);
    assert_false(world.lanes.worker[0]->sessions[0]->deferred.any);
    assert_memory_equal(both[0].payload, before, sizeof(before));
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
        cmocka_unit_test(a_caller_that_collects_misses_nothing_that_is_answered_meanwhile),
        cmocka_unit_test(what_is_settled_as_not_started_never_runs),
        cmocka_unit_test(what_is_withdrawn_never_runs_and_what_has_started_goes_on),
        cmocka_unit_test(an_abort_affects_its_own_call_alone),
        cmocka_unit_test(slots_and_blocks_of_settled_calls_become_free),
        cmocka_unit_test(the_result_of_a_settled_call_releases_its_block),
        cmocka_unit_test(a_settled_calls_argument_stays_until_it_is_answered),
        cmocka_unit_test(a_call_claimed_after_the_close_does_not_run),
        cmocka_unit_test(a_dead_workers_calls_are_answered_once_while_slots_are_used_again),
        cmocka_unit_test(slots_settled_before_a_death_become_free),
        cmocka_unit_test(an_answer_of_the_host_names_no_block),
        cmocka_unit_test(a_call_is_run_or_refused_and_not_both),
        cmocka_unit_test(a_refusal_raises_the_head_over_a_long_run),
        cmocka_unit_test(a_replacement_does_not_overwrite_held_results),
        cmocka_unit_test(a_replacement_adopts_only_its_own_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
