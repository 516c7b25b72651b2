/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that changes its request segment while a worker reads it gains nothing: the worker uses
 * the values that it checked, its turn ends, and what it writes stays within the protocol. Method:
 * the worker is stalled before each of its atomic accesses, and meanwhile the caller lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/session_private.h"
#include "tests/fastpath/steps.h"
#include "tests/fastpath/steps_world.h"

#define ARENA 65536u

static struct world world;

static const struct world_shape shape = {.slots = WORLD_SLOTS, .arena_bytes = ARENA, .steal = true};

static struct knit_request_cell *cell_at(uint64_t position)
{
    return &world.side->request.ring[position];
}

static void write_ctrl(uint64_t position, uint64_t gen, uint32_t slot)
{
    atomic_store_explicit(&cell_at(position)->ctrl,
        knit_ctrl(gen, slot, knit_tag(position, world.side->geometry.cells)), memory_order_release);
}

static uint32_t evictions(void)
{
    return atomic_exchange_explicit(&world.lanes.evictions, 0, memory_order_relaxed);
}

/* ---- lies about one call ---- */

static void names_another_slot(void *arg)
{
    (void)arg;
    write_ctrl(0, 1, world.call[0].slot + 1);
}

static void names_no_slot(void *arg)
{
    (void)arg;
    write_ctrl(0, 1, world.side->geometry.slots);
}

static void skips_a_generation(void *arg)
{
    (void)arg;
    write_ctrl(0, 2, world.call[0].slot);
}

static void says_it_is_longer(void *arg)
{
    (void)arg;
    atomic_store_explicit(
        &cell_at(0)->meta, knit_meta(LANES_ECHO, 0, 0, UINT32_MAX), memory_order_relaxed);
}

static void says_it_lies_elsewhere(void *arg)
{
    (void)arg;
    atomic_store_explicit(&cell_at(0)->body[0], UINT64_MAX - 3, memory_order_relaxed);
    atomic_store_explicit(
        &cell_at(0)->meta, knit_meta(LANES_ECHO, 0, KNIT_CELL_IN_ARENA, 8), memory_order_relaxed);
}

static void call_once(void)
{
    struct knit_session_call call = {
        .task = LANES_ECHO, .lane = 0, .payload = "argument", .len = 8};
    assert_int_equal(knit_session_publish(world.session, &call, &world.call[0].slot), 0);
}

static void call_was_refused_or_run_as_published(void)
{
    const struct knit_job *job = &world.lanes.worker[0]->job;
    if (evictions() == 0)
        assert_true(knit_job_gen(job) == 1 && knit_job_len(job) == 8);
}

static void what_was_checked_is_what_is_used(void **state)
{
    steps_act *const lies[] = {names_another_slot, names_no_slot, skips_a_generation,
        says_it_is_longer, says_it_lies_elsewhere};
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        world_play(&world, &(struct world_scene){.shape = shape,
                               .begin = call_once,
                               .party = WORLD_WORKER,
                               .act = world_worker_takes_one,
                               .meanwhile = lies[i],
                               .judge = call_was_refused_or_run_as_published});
}

/* ---- lies without end ---- */

static uint32_t turned;

static void turns_the_cell_over(void *arg)
{
    /* Another slot that does not exist each time: no two loads return the same. */
    write_ctrl(0, 1, world.side->geometry.slots + turned);
    /* A turn looks at every cell of a ring once, with fewer than ten accesses. */
    assert_true(++turned < 10 * world.side->geometry.cells);
    steps_stall_again(0, turns_the_cell_over, arg);
}

static void a_cell_that_changes_all_the_time_costs_one_turn(void **state)
{
    (void)state;
    turned = 0;
    world_init(&world, &shape);
    turns_the_cell_over(&world);
    steps_stall(0, turns_the_cell_over, &world);
    (void)steps_as(WORLD_WORKER, world_worker_takes_one, &world);
    assert_true(turned > world.side->geometry.cells);
    assert_int_equal(evictions(), 0);
    world_fini(&world);
}

/* ---- calls of a session that has closed ---- */

static uint32_t claimed_when_it_closed;

static uint32_t claimed(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < world.side->geometry.slots; i++)
        count += knit_claim_gen(
                     atomic_load_explicit(&world.side->reply.claim[i], memory_order_relaxed)) != 0;
    return count;
}

/* They are short, so that a turn serves several. */
static void call_in_all_slots(void)
{
    for (uint32_t task = 0; task <= LANES_ROOM; task++)
        world.lanes.worker[0]->mean_ns[task] = 100;
    world.lanes.worker[0]->unmeasured = UINT32_MAX;
    world.may_fail = true;
    while (knit_session_slots_free(world.session) > 0)
        assert_true(world_publish(&world, 0));
}

static void takes_a_turn(void *arg)
{
    (void)arg;
    assert_int_equal(knit_lane_turn(world.lanes.worker[0]), KNIT_LANE_RUNNING);
}

static void closes(void *arg)
{
    (void)arg;
    claimed_when_it_closed = claimed();
    atomic_store_explicit(&world.side->reply.state->state, KNIT_STATE_CLOSED, memory_order_release);
}

static void at_most_one_was_claimed_after_that(void)
{
    assert_true(claimed() <= claimed_when_it_closed + 1);
}

static void nothing_more_is_claimed_of_a_session_that_has_closed(void **state)
{
    (void)state;
    world_play(&world, &(struct world_scene){.shape = shape,
                           .begin = call_in_all_slots,
                           .party = WORLD_WORKER,
                           .act = takes_a_turn,
                           .meanwhile = closes,
                           .judge = at_most_one_was_claimed_after_that});
}

/* ---- lies about the order of calls ---- */

static void a_slot_is_not_claimed_before_its_last_call_is_answered(void **state)
{
    (void)state;
    world_init(&world, &shape);
    assert_true(world_publish(&world, 0));
    world_claim(&world, 0, WORLD_DEAD);
    write_ctrl(1, 2, world.call[0].slot);
    assert_false(world_take(&world, 0, 0));
    assert_int_equal(evictions(), 1);
    assert_int_equal(
        atomic_load_explicit(&world.side->reply.claim[world.call[0].slot], memory_order_relaxed),
        knit_claim(1, WORLD_DEAD));
    world_fini(&world);
}

static void flags_that_were_not_granted_evict(void **state)
{
    (void)state;
    for (uint32_t flag = KNIT_CELL_IN_ARENA << 1; flag < 0x100; flag <<= 1) {
        struct world_shape modest = shape;

        modest.denied = flag;
        world_init(&world, &modest);
        atomic_store_explicit(
            &cell_at(0)->meta, knit_meta(LANES_ECHO, 0, flag, 1), memory_order_relaxed);
        write_ctrl(0, 1, 0);
        assert_false(world_take(&world, 0, 0));
        assert_int_equal(evictions(), 1);
        world_fini(&world);
    }
}

/* ---- bounds ---- */

static bool is_taken(uint64_t offset, uint32_t len)
{
    bool got;

    world_init(&world, &shape);
    atomic_store_explicit(
        &cell_at(0)->meta, knit_meta(LANES_ECHO, 0, KNIT_CELL_IN_ARENA, len), memory_order_relaxed);
    atomic_store_explicit(&cell_at(0)->body[0], offset, memory_order_relaxed);
    write_ctrl(0, 1, 0);
    got = world_take(&world, 0, 0);
    assert_int_equal(evictions(), got ? 0 : 1);
    world_fini(&world);
    return got;
}

static void an_argument_lies_within_the_arena_to_the_last_byte(void **state)
{
    (void)state;
    assert_true(is_taken(0, ARENA));
    assert_true(is_taken(ARENA - 1, 1));
    assert_true(is_taken(ARENA - 200, 200));
    assert_true(is_taken(ARENA, 0));
    assert_false(is_taken(0, ARENA + 1));
    assert_false(is_taken(ARENA - 1, 2));
    assert_false(is_taken(ARENA - 200, 201));
    assert_false(is_taken(ARENA, 1));
    assert_false(is_taken(ARENA + 1, 0));
    assert_false(is_taken(UINT64_MAX, 1));
}

/* ---- arguments ---- */

/* lanes.c trusts every other session, beginning with the first. */
static void an_untrusted_argument_is_copied_before_it_is_read(void **state)
{
    struct lanes lanes;
    struct lanes_session *sides[2];
    struct knit_session_outcome outcome;
    static unsigned char bytes[1500];

    (void)state;
    steps_init(NULL, NULL);
    lanes_init(&lanes, 1, false, 0);
    for (int i = 0; i < 2; i++)
        sides[i] = lanes_add_session(&lanes, 4, ARENA, 0);
    lanes_add_worker(&lanes, 0, 5);
    for (int i = 0; i < 2; i++) {
        struct knit_session_call call = {
            .task = LANES_ECHO, .lane = 0, .payload = bytes, .len = sizeof(bytes)};
        uint32_t slot;
        const unsigned char *payload, *arena;

        assert_int_equal(knit_session_publish(sides[i]->session, &call, &slot), 0);
        (void)knit_lane_turn(lanes.worker[0]);
        payload = atomic_load_explicit(&lanes.payload, memory_order_relaxed);
        arena = sides[i]->request.arena;
        assert_int_equal(payload >= arena && payload < arena + ARENA, i == 0);
        assert_true(knit_session_collect_slot(sides[i]->session, slot, &outcome));
    }
    lanes_fini(&lanes);
}

/* An abort word with more than the call's generation refuses nothing, which is seen when the
 * argument has been taken. What the call before it left where offsets of the general way lie is no
 * offset. */
static void a_call_that_is_not_quite_aborted_has_its_own_argument(void **state)
{
    const uint64_t no_offset = ARENA / 2;
    struct lanes lanes;
    struct lanes_session *sides[2];
    struct knit_session_outcome outcome;
    static unsigned char bytes[1500];

    (void)state;
    steps_init(NULL, NULL);
    lanes_init(&lanes, 1, false, 0);
    for (int i = 0; i < 2; i++)
        sides[i] = lanes_add_session(&lanes, 4, ARENA, 0);
    lanes_add_worker(&lanes, 0, 5);
    lanes.worker[0]->mean_ns[LANES_ECHO] = 100;
    lanes.worker[0]->unmeasured = UINT32_MAX;
    memset(bytes, 'b', sizeof(bytes));
    for (int i = 0; i < 2; i++) {
        struct knit_session *session = sides[i]->session;
        struct knit_session_call call = {
            .task = LANES_ECHO, .lane = 0, .payload = &no_offset, .len = sizeof(no_offset)};
        uint32_t slot;

        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        call.payload = bytes;
        call.len = sizeof(bytes);
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        atomic_store_explicit(&sides[i]->request.abort[slot],
            knit_session_gen(session, slot) | (uint64_t)1 << 50, memory_order_relaxed);
        (void)knit_lane_turn(lanes.worker[0]);
        assert_true(knit_session_collect_slot(session, slot, &outcome));
        assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
        assert_int_equal(outcome.len, sizeof(bytes));
        assert_memory_equal(outcome.payload, bytes, sizeof(bytes));
    }
    lanes_fini(&lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_checked_is_what_is_used),
        cmocka_unit_test(a_cell_that_changes_all_the_time_costs_one_turn),
        cmocka_unit_test(nothing_more_is_claimed_of_a_session_that_has_closed),
        cmocka_unit_test(a_slot_is_not_claimed_before_its_last_call_is_answered),
        cmocka_unit_test(flags_that_were_not_granted_evict),
        cmocka_unit_test(an_argument_lies_within_the_arena_to_the_last_byte),
        cmocka_unit_test(an_untrusted_argument_is_copied_before_it_is_read),
        cmocka_unit_test(a_call_that_is_not_quite_aborted_has_its_own_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
