/* SPDX-License-Identifier: Apache-2.0 */
/* Which long calls a loop holds back. Method: the routers of two loops beside workers that nobody
 * runs, so that the test is between what one loop looks at and what it does. Callers are bare
 * structures that call; another principal has called lately in each loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "server/rpc/hold.h"
#include "tests/fastpath/lanes.h"

enum { LOOPS = 2, WORKERS = 3, SLOTS = 16, TASK = LANES_SPIN, LONG_NS = 3000000 };

/* One of them leaves a worker free. */
enum { MOST = WORKERS - 1 };

static struct lanes lanes;
static struct knit_principals principals;

static struct loop {
    struct knit_turn turn;
    struct knit_host_own_session session;
    struct knit_router router;
    struct knit_caller caller, other;
    struct knit_record records[SLOTS];
} loops[LOOPS];

static void init_caller(struct loop *loop, struct knit_caller *caller, const char *name)
{
    caller->turn = &loop->turn;
    caller->router = &loop->router;
    caller->principal = knit_principals_named(&principals, KNIT_PRINCIPAL_TOKEN, name);
    assert_non_null(caller->principal);
    assert_non_null(knit_flow_of(&loop->router.share.flows, caller));
    caller->flow->active_ns = loop->turn.now_ns;
}

static void fini_caller(struct loop *loop, struct knit_caller *caller)
{
    knit_flow_drop(&loop->router.share.flows, caller);
    knit_principals_drop(&principals, caller->principal);
}

static void init_loop(struct loop *loop, const struct knit_registry *registry)
{
    const struct lanes_session *side = lanes_add_session(&lanes, SLOTS, 65536, 0);

    loop->turn = (struct knit_turn){.principals = &principals, .now_ns = knit_clock_ns()};
    loop->session = (struct knit_host_own_session){.id = lanes.sessions,
        .session = side->session,
        .reply = side->reply,
        .geometry = side->geometry,
        .bell_fd = side->bell_fd};
    assert_int_equal(knit_router_init(&loop->router, &loop->turn, &loop->session, registry), 0);
    loop->router.share.flows.places = (struct knit_places){.waiting = &lanes.waiting,
        .long_calls = &lanes.long_calls,
        .waited = lanes.pool.waited,
        .note = lanes.pool.note};
    init_caller(loop, &loop->caller, "greedy");
    init_caller(loop, &loop->other, "other");
}

static int setup(void **state)
{
    struct knit_registry *registry = knit_registry_new(KNIT_REGISTRY_EPOCH_FIRST);

    (void)state;
    memset(&lanes, 0, sizeof(lanes));
    memset(loops, 0, sizeof(loops));
    lanes_init(&lanes, WORKERS, true, 0);
    lanes.depth_ns = 500000;
    assert_int_equal(knit_principals_init(&principals), 0);
    for (size_t i = 0; i < LOOPS; i++)
        init_loop(&loops[i], registry);
    for (uint32_t i = 0; i < WORKERS; i++)
        lanes_add_worker(&lanes, i, 5 + i);
    atomic_store_explicit(&lanes.board.mean_ns[TASK], LONG_NS, memory_order_relaxed);
    knit_registry_free(registry);
    return 0;
}

static uint32_t long_calls(void)
{
    return knit_tally_of(&lanes.long_calls, loops[0].caller.principal->number);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(long_calls(), 0);
    for (size_t i = 0; i < LOOPS; i++) {
        fini_caller(&loops[i], &loops[i].caller);
        fini_caller(&loops[i], &loops[i].other);
        knit_router_fini(&loops[i].router);
    }
    lanes_fini(&lanes);
    knit_principals_fini(&principals);
    return 0;
}

/* The loop looks whether it may give that long call to a lane. */
static bool looks(size_t loop, uint32_t slot)
{
    struct knit_record *record = &loops[loop].records[slot];

    *record = (struct knit_record){.charged_to = &loops[loop].caller, .task = TASK};
    return !knit_hold_must_wait(&loops[loop].caller, record);
}

/* It gives it. */
static void gives(size_t loop, uint32_t slot)
{
    struct knit_record *record = &loops[loop].records[slot];

    knit_hold_note_call(&loops[loop].caller, record, slot);
    loops[loop].router.records[slot] = *record;
}

static void ends(size_t loop, uint32_t slot)
{
    knit_hold_end(&loops[loop].router, slot);
}

static void of_two_loops_that_look_at_once_one_gives_the_last_call(void **state)
{
    (void)state;
    assert_true(looks(0, 0));
    gives(0, 0);
    assert_true(looks(0, 1));
    assert_false(looks(1, 0));
    gives(0, 1);
    assert_int_equal(long_calls(), MOST);
    ends(0, 0);
    assert_true(looks(1, 0));
    gives(1, 0);
    ends(0, 1);
    ends(1, 0);
}

static void a_call_that_finds_no_slot_leaves_its_place_to_others(void **state)
{
    (void)state;
    for (uint32_t slot = 0; slot < MOST; slot++)
        assert_true(looks(0, slot));
    assert_false(looks(1, 0));
    for (uint32_t slot = 0; slot < MOST; slot++)
        knit_hold_give_back(&loops[0].caller, &loops[0].records[slot]);
    assert_int_equal(loops[0].caller.flow->long_calls, 0);
    assert_true(looks(1, 0));
    knit_hold_give_back(&loops[1].caller, &loops[1].records[0]);
    knit_hold_give_back(&loops[1].caller, &loops[1].records[0]);
}

/* Another worker may find between look and publish that calls of the task are short. */
static void a_call_that_was_counted_is_counted_until_it_ends(void **state)
{
    (void)state;
    assert_true(looks(0, 0));
    atomic_store_explicit(&lanes.board.mean_ns[TASK], 1000, memory_order_relaxed);
    gives(0, 0);
    assert_int_equal(long_calls(), 1);
    assert_ptr_equal(loops[0].router.charges[0].flow, loops[0].caller.flow);
    ends(0, 0);
}

/* A worker says what it does with long calls of the principal's session. */
static void say(uint32_t lane, enum knit_reserve_state state)
{
    const uint32_t mark = knit_reserve_mark(loops[0].caller.principal->number);

    atomic_store_explicit(&lanes.pool.note[lane].long_call,
        knit_reserve_long_call(mark, knit_reserve_ms(knit_clock_ns()), state),
        memory_order_relaxed);
}

static void calls_by_shared_memory_count_as_well(void **state)
{
    (void)state;
    say(0, KNIT_RESERVE_RUNNING);
    assert_true(looks(0, 0));
    assert_false(looks(1, 0));
    say(1, KNIT_RESERVE_WAITING);
    knit_hold_give_back(&loops[0].caller, &loops[0].records[0]);
    assert_true(looks(1, 0));
    knit_hold_give_back(&loops[1].caller, &loops[1].records[0]);
    say(1, KNIT_RESERVE_TRYING);
    assert_false(looks(0, 0));
    assert_int_equal(long_calls(), 0);
    /* What a dead worker has left behind. */
    atomic_store_explicit(&lanes.board.park[1].value, KNIT_PARK_VACANT, memory_order_relaxed);
    say(0, KNIT_RESERVE_NOTHING);
    assert_true(looks(0, 0));
    knit_hold_give_back(&loops[0].caller, &loops[0].records[0]);
}

static void nothing_is_held_where_nobody_else_calls(void **state)
{
    (void)state;
    loops[0].other.flow->active_ns = 0;
    for (uint32_t slot = 0; slot <= MOST; slot++) {
        assert_true(looks(0, slot));
        gives(0, slot);
    }
    assert_int_equal(long_calls(), MOST + 1);
    for (uint32_t slot = 0; slot <= MOST; slot++)
        ends(0, slot);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(of_two_loops_that_look_at_once_one_gives_the_last_call),
        TEST(a_call_that_finds_no_slot_leaves_its_place_to_others),
        TEST(a_call_that_was_counted_is_counted_until_it_ends),
        TEST(calls_by_shared_memory_count_as_well),
        TEST(nothing_is_held_where_nobody_else_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
