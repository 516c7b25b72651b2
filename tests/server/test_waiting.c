/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait in their callers because lanes hold little: who is next, what becomes of those
 * that wait. On a loop whose turns the test makes (turns.h); while the worker waits at the gate, a
 * lane has room for one call more of a task that it does not know.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/board.h"
#include "tests/server/turns.h"

enum { DEPTH_NS = 500000, BIT_NS = 1000 };

static int setup(void **state)
{
    turns_depth_ns = DEPTH_NS;
    return turns_setup(state);
}

/* Two calls a lane, whatever they take. */
static int setup_for_two(void **state)
{
    turns_depth_ns = 2;
    return turns_setup(state);
}

static int teardown(void **state)
{
    int r = turns_teardown(state);

    turns_depth_ns = 0;
    return r;
}

static void block(struct turns_caller *caller)
{
    assert_true(turns_request(caller, "gate", 1, 1000000, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
}

static uint64_t published(void)
{
    return knit_counter_read(&turns.loop.turn.counters.calls_published);
}

/* Reads what has come for two callers until one has `count` responses. */
static void expect_first(struct turns_caller *first, struct turns_caller *other, uint32_t count)
{
    TURNS_UNTIL(turns_read(other) && turns_read(first) && first->responses >= count);
}

static void what_a_lane_should_not_hold_waits(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 1, 30, NULL));
    TURNS_UNTIL(turns_is_at_gate() && turns.loop.router.waiting == 28);
    assert_int_equal(published(), 2);
    assert_int_equal(caller->connection->caller.pauses, KNIT_PAUSE_SLOT);
    turns_open_gate();
    turns_expect(caller, 30);
    assert_int_equal(caller->code, 0);
    assert_int_equal(turns.loop.router.waiting, 0);
    assert_null(caller->connection->lookahead);
    assert_int_equal(turns.loop.router.share.waiting, 0);
}

/* However much another connection has sent, one that has no call in flight is before it. */
static void a_connection_without_calls_is_next(void **state)
{
    const struct knit_share_queue *fresh, *others;
    struct turns_caller *greedy, *other, *quiet;

    (void)state;
    greedy = turns_connect();
    other = turns_connect();
    quiet = turns_connect();
    block(greedy);
    assert_true(turns_request(greedy, "echo", 1, 1, 50, NULL));
    TURNS_UNTIL(greedy->connection->caller.pauses != 0);
    assert_true(turns_request(other, "echo", 1, 1, 50, NULL));
    TURNS_UNTIL(other->connection->caller.pauses != 0);
    assert_true(turns_request(quiet, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(quiet->connection->caller.pauses != 0);
    fresh = &quiet->connection->caller.flow->fresh;
    others = &quiet->connection->caller.flow->others;
    assert_ptr_equal(TAILQ_FIRST(others), &greedy->connection->caller);
    assert_ptr_equal(TAILQ_FIRST(fresh), &other->connection->caller);
    assert_ptr_equal(TAILQ_LAST(fresh, knit_share_queue), &quiet->connection->caller);
    /* Its calls have ended in the end, so they are not always before it. */
    turns_cancel(greedy, 1);
    turns_open_gate();
    turns_expect(quiet, 1);
    turns_expect(greedy, 51);
    turns_expect(other, 50);
}

enum { OTHERS = 8 };

/* Each calls again once it has its response, so there is always one without a call that waits. */
static bool go_on_calling(struct turns_caller *callers[OTHERS])
{
    for (uint32_t i = 0; i < OTHERS; i++) {
        const struct knit_connection *connection = callers[i]->connection;

        assert_true(turns_read(callers[i]));
        if (connection->caller.calls.count == 0 && connection->caller.waiting_in == 0 &&
            callers[i]->responses == callers[i]->msgid)
            assert_true(turns_request(callers[i], "echo", 1, callers[i]->responses + 1, 1, NULL));
    }
    return true;
}

/* It is not kept out for as long as there are others without any. */
static void a_connection_with_a_long_call_has_its_turn(void **state)
{
    struct turns_caller *caller, *blocker, *others[OTHERS];

    (void)state;
    caller = turns_connect();
    blocker = turns_connect();
    for (uint32_t i = 0; i < OTHERS; i++)
        others[i] = turns_connect();
    block(blocker);
    TURNS_UNTIL(go_on_calling(others) && turns.loop.router.share.waiting > OTHERS / 2);
    /* As if another lane ran its call. */
    caller->connection->caller.account.slots++;
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(caller->connection->caller.waiting_in != 0);
    turns_open_gate();
    TURNS_UNTIL(go_on_calling(others) && turns_read(caller) && caller->responses == 1);
    caller->connection->caller.account.slots--;
}

static void connections_have_their_turn_one_after_the_other(void **state)
{
    enum { CALLS = 60, APART = 40 }; /* sixteen a turn, and what is under way */
    struct turns_caller *one, *other;

    (void)state;
    one = turns_connect();
    other = turns_connect();
    block(one);
    assert_true(turns_request(one, "echo", 1, 1, CALLS, NULL));
    assert_true(turns_request(other, "echo", 1, 1, CALLS, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 2 * CALLS - 1);
    turns_open_gate();
    expect_first(one, other, CALLS + 1);
    assert_true(other->responses + APART >= CALLS);
    turns_expect(other, CALLS);
}

static void short_calls_fill_the_lane(void **state)
{
    struct turns_caller *caller;

    (void)state;
    turns_set_mean(LANES_ECHO, BIT_NS);
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 30, NULL));
    TURNS_UNTIL(published() == 31);
    assert_int_equal(caller->connection->caller.pauses, 0);
    turns_open_gate();
    turns_expect(caller, 31);
}

/* Those that wait may have much behind what waits, and all get room at the same time: a turn takes
 * up only as many as its time is for, each of which has a slice. */
static void those_that_go_on_together_share_the_time_of_a_turn(void **state)
{
    enum {
        CALLERS = 60,
        BEHIND = 900,
        A_TURN_MAX = KNIT_NET_TURN_NS / KNIT_NET_FRESH_SLICE_NS + 1
    };
    struct turns_caller *callers[CALLERS], *blocker;
    const struct knit_share *share = &turns.loop.router.share;
    uint32_t most = 0;

    (void)state;
    turns_set_mean(LANES_ECHO, BIT_NS);
    blocker = turns_connect();
    assert_true(turns_request(blocker, "gate", 1, 1, 2, NULL));
    TURNS_UNTIL(turns_is_at_gate() && published() == 2);
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "echo", 1, 1, 1, NULL));
        assert_true(turns_request(callers[i], "nobody", 1, 2, BEHIND, NULL));
    }
    TURNS_UNTIL(share->waiting == CALLERS);
    turns_open_gate();
    while (share->waiting > 0) {
        uint32_t before = share->waiting;

        (void)turns_turn();
        most = before - share->waiting > most ? before - share->waiting : most;
    }
    print_message("of %u callers at most %u went on in one turn\n", CALLERS, most);
    assert_in_range(most, 1, A_TURN_MAX);
    for (size_t i = 0; i < CALLERS; i++)
        turns_expect(callers[i], 1 + BEHIND);
    turns_expect(blocker, 2);
}

/* Of each priority the first has waited for so long that it is next; the earliest is the oldest. */
static void where_all_calls_are_long_each_priority_has_its_turn(void **state)
{
    enum { OF_A_KIND = 4, FIRST = 10, LONG = 1 /* byte: 0.116 s for "spin", by its params */ };
    uint32_t ended[KNIT_PRIORITY_MAX + 1] = {0};
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    for (uint32_t i = 0; i <= KNIT_PRIORITY_MAX; i++) {
        options.priority = (uint8_t)(KNIT_PRIORITY_MAX - i);
        assert_true(turns_request(
            caller, "spin", LONG, FIRST * (1u + options.priority), OF_A_KIND, &options));
    }
    TURNS_UNTIL(turns.loop.router.waiting == OF_A_KIND * (KNIT_PRIORITY_MAX + 1));
    turns_open_gate();
    for (uint32_t i = 2; i < 2 + 2 * (KNIT_PRIORITY_MAX + 1); i++) {
        TURNS_UNTIL(turns_read(caller) && caller->responses > i);
        ended[caller->msgids[i] / FIRST - 1]++;
    }
    for (uint32_t i = 0; i <= KNIT_PRIORITY_MAX; i++)
        assert_true(ended[i] >= 1);
    turns_expect(caller, 2 + OF_A_KIND * (KNIT_PRIORITY_MAX + 1));
}

/* Those that were begun before it came do not count. */
static void a_background_call_is_behind_those_that_wait_when_it_comes(void **state)
{
    enum { SHORT = 20, LONG = 6, WAIT = 4, BACKGROUND = 100, NOTHING = 0 /* 0.05 s for "spin" */ };
    struct knit_options options = knit_options();
    struct turns_caller *caller;
    uint32_t slot;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 1 + SHORT, NULL));
    assert_true(turns_request(caller, "spin", NOTHING, 50, LONG, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == SHORT + LONG);
    turns_open_gate();
    TURNS_UNTIL(turns.loop.router.waiting == WAIT);
    options.priority = KNIT_PRIORITY_MAX;
    assert_true(turns_request(caller, "echo", 1, BACKGROUND, 1, &options));
    TURNS_UNTIL(knit_in_flight_find(&caller->connection->caller.calls, BACKGROUND, &slot));
    assert_true(turns.loop.router.waiting < WAIT);
    turns_expect(caller, 2 + SHORT + LONG + 1);
}

/* ---- what becomes of those that wait ---- */

static void what_waits_ends_at_its_deadline_or_when_it_is_cancelled(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;
    uint64_t before;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    options.timeout_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 10, 3, &options));
    options = knit_options();
    options.queue_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 20, 3, &options));
    assert_true(turns_request(caller, "echo", 1, 30, 1, NULL));
    turns_expect(caller, 6);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    options.queue_ns = 0;
    assert_true(turns_request(caller, "echo", 1, 40, 1, &options));
    turns_expect(caller, 7);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    before = published();
    turns_cancel(caller, 30);
    turns_expect(caller, 8);
    assert_int_equal(caller->code, KNIT_CANCELLED);
    assert_int_equal(turns.loop.router.waiting, 0);
    turns_open_gate();
    turns_expect(caller, 10);
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(published(), before);
}

static void asking_does_not_wait(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 20, NULL));
    assert_true(turns_request(caller, "$/ping", 1, 100, 1, NULL));
    assert_true(turns_request(caller, "$/tasks", 1, 101, 1, NULL));
    turns_expect(caller, 2);
    assert_int_equal(caller->msgid, 101);
    /* Under the number of a call that waits, it does: there must be no two responses of it. */
    assert_true(turns_request(caller, "$/ping", 1, 7, 1, NULL));
    for (int i = 0; i < 20; i++)
        (void)turns_turn();
    assert_true(turns_read(caller));
    assert_int_equal(caller->responses, 2);
}

/* A message that is refused is dropped while it is scanned, but not one of which the lookahead
 * knows where it ends. */
static void what_was_looked_ahead_at_stays_whole(void **state)
{
    enum { LEN = 32 * 1024 };
    const struct knit_method echo = {.name = knit_span_text("echo")};
    static uint8_t deep[LEN];
    struct turns_caller *blocker, *caller;
    struct knit_buffer buffer;

    (void)state;
    memset(deep, 0x91, sizeof(deep) - 1);
    blocker = turns_connect();
    caller = turns_connect();
    block(blocker);
    assert_true(turns_request(blocker, "echo", 1, 1, 1, NULL));
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    knit_buffer_init(&buffer, 2 * LEN);
    assert_int_equal(
        knit_message_put_request(&buffer, 2, &echo, knit_span(deep, sizeof(deep)), NULL), 0);
    assert_int_equal(send(caller->fd, buffer.bytes, buffer.len, 0), (ssize_t)buffer.len);
    knit_buffer_fini(&buffer);
    assert_true(turns_request(caller, "echo", 1, 3, 1, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 2);
    turns_open_gate();
    assert_true(KNIT_WAIT_UNTIL(!knit_board_is_running(&turns.lanes.board, 0), 10000));
    /* It goes on for one look at the clock, since another one waits for its turn. */
    knit_net_add_ready(blocker->connection);
    turns.loop.net.slice_ns = 0;
    (void)knit_router_turn(&turns.loop.router);
    assert_true(caller->connection->scan.used > 0 && !caller->connection->has_message);
    assert_true(caller->connection->input.len >= LEN);
    turns_expect(caller, 3);
}

static void beyond_queue_max_calls_are_refused_wherever_they_wait(void **state)
{
    struct turns_caller *caller, *other;

    (void)state;
    turns.settings.queue_max = 10;
    caller = turns_connect();
    other = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 30, NULL));
    turns_expect(caller, 21);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_int_equal(caller->msgid, 30);
    assert_int_equal(published(), 2);
    assert_int_equal(turns.loop.router.waiting, 8);
    assert_true(turns_request(other, "echo", 1, 1, 1, NULL));
    turns_expect(other, 1);
    assert_int_equal(other->code, KNIT_OVERLOADED);
    turns_open_gate();
    turns_expect(caller, 31);
    assert_int_equal(caller->code, 0);
    assert_int_equal(caller->msgid, 9);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_overloaded), 22);
}

static void a_caller_that_leaves_takes_what_waits_with_it(void **state)
{
    struct turns_caller *caller, *other;

    (void)state;
    caller = turns_connect();
    other = turns_connect();
    block(other);
    assert_true(turns_request(caller, "echo", 1, 1, 50, NULL));
    TURNS_UNTIL(turns.loop.router.waiting == 49);
    turns_leave(caller);
    assert_int_equal(turns.loop.router.waiting, 0);
    assert_int_equal(turns.loop.router.share.waiting, 0);
    turns_open_gate();
    turns_expect(other, 1);
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(published(), 2);
}

/* ---- a caller that shows who it is while it has its turn ---- */

static const struct knit_caller_ops *real_ops;

/* The new one is there before the old one goes: its address tells whose a flow is. */
static void become(struct knit_caller *caller, const char *name)
{
    struct knit_principal *old = caller->principal;

    caller->principal = knit_principals_named(&turns.principals, KNIT_PRINCIPAL_TOKEN, name);
    assert_non_null(caller->principal);
    knit_principals_drop(&turns.principals, old);
}

/* As if what had waited were refused, and a token came before the next call. */
static void resume_as_another(struct knit_caller *caller)
{
    caller->ops = real_ops;
    become(caller, "after");
    turns_set_mean(LANES_ECHO, 3 * KNIT_RESERVE_LONG_NS);
    real_ops->resume(caller);
}

static void who_becomes_another_in_its_turn_pays_for_its_own_calls(void **state)
{
    struct knit_flows *flows = &turns.loop.router.share.flows;
    struct turns_caller *blocker, *caller, *other;
    struct knit_caller_ops ops;
    uint64_t before, after;
    const struct knit_flow *flow;

    (void)state;
    flows->places.long_calls = &turns.lanes.long_calls;
    blocker = turns_connect();
    caller = turns_connect();
    other = turns_connect();
    become(&caller->connection->caller, "before");
    become(&other->connection->caller, "other");
    before = caller->connection->caller.principal->number;
    block(blocker);
    assert_true(turns_request(blocker, "echo", 1, 1, 1, NULL));
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    assert_true(turns_request(other, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(
        caller->connection->caller.waiting_in != 0 && other->connection->caller.waiting_in != 0);
    real_ops = caller->connection->caller.ops;
    ops = *real_ops;
    ops.resume = resume_as_another;
    caller->connection->caller.ops = &ops;
    turns_open_gate();
    turns_expect(caller, 1);
    turns_expect(other, 1);
    turns_expect(blocker, 2);
    assert_ptr_equal(caller->connection->caller.ops, real_ops);
    after = caller->connection->caller.principal->number;
    LIST_FOREACH(flow, &flows->all, in_all)
    assert_int_equal(flow->long_calls, 0);
    assert_int_equal(knit_tally_of(&turns.lanes.long_calls, before), 0);
    assert_int_equal(knit_tally_of(&turns.lanes.long_calls, after), 0);
}

/* The same, and the next call waits too. */
static void resume_and_wait_as_another(struct knit_caller *caller)
{
    caller->ops = real_ops;
    become(caller, "after");
    knit_share_wait(&turns.loop.router.share, caller, KNIT_SHARE_WAITING_SLOT);
}

static void who_becomes_another_in_its_turn_waits_in_its_own_flow(void **state)
{
    const struct knit_flow *before, *after;
    struct turns_caller *blocker, *other;
    struct knit_caller *caller;
    struct knit_caller_ops ops;

    (void)state;
    blocker = turns_connect();
    other = turns_connect();
    caller = &other->connection->caller;
    become(caller, "before");
    block(blocker);
    assert_true(turns_request(blocker, "echo", 1, 1, 1, NULL));
    assert_true(turns_request(other, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(caller->waiting_in == KNIT_SHARE_WAITING_FRESH);
    before = caller->flow;
    /* So that it stays when nobody has it. */
    caller->flow->refs++;
    real_ops = caller->ops;
    ops = *real_ops;
    ops.resume = resume_and_wait_as_another;
    caller->ops = &ops;
    turns_open_gate();
    turns_expect(other, 1);
    after = caller->flow;
    assert_ptr_not_equal(after, before);
    assert_int_equal(before->waiting, 0);
    assert_true(TAILQ_EMPTY(&before->fresh));
    assert_int_equal(after->waiting, 0);
    assert_true(TAILQ_EMPTY(&after->fresh));
    turns_expect(blocker, 2);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_a_lane_should_not_hold_waits),
        TEST(a_connection_without_calls_is_next),
        cmocka_unit_test_setup_teardown(
            a_connection_with_a_long_call_has_its_turn, setup_for_two, teardown),
        TEST(connections_have_their_turn_one_after_the_other),
        TEST(short_calls_fill_the_lane),
        TEST(those_that_go_on_together_share_the_time_of_a_turn),
        TEST(where_all_calls_are_long_each_priority_has_its_turn),
        TEST(a_background_call_is_behind_those_that_wait_when_it_comes),
        TEST(what_waits_ends_at_its_deadline_or_when_it_is_cancelled),
        TEST(asking_does_not_wait),
        TEST(what_was_looked_ahead_at_stays_whole),
        TEST(beyond_queue_max_calls_are_refused_wherever_they_wait),
        TEST(a_caller_that_leaves_takes_what_waits_with_it),
        TEST(who_becomes_another_in_its_turn_pays_for_its_own_calls),
        TEST(who_becomes_another_in_its_turn_waits_in_its_own_flow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
