/* SPDX-License-Identifier: Apache-2.0 */
/* From a message to a slot and back: shares of the slots, waiting for one, deadlines, cancelling,
 * callers that leave. On a loop whose turns the test makes (turns.h); while the worker waits at the
 * gate, all other calls stay queued.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/session_inline.h"
#include "tests/server/turns.h"

enum { SHARE_ALONE = 40, RESERVE = TURNS_SLOTS / 16 };

static void block(struct turns_caller *caller)
{
    assert_true(turns_request(caller, "gate", 1, 1000000, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
}

static uint32_t slots_free(void)
{
    return knit_session_slots_free(turns.session.session);
}

static void a_connection_has_a_share_of_the_slots(void **state)
{
    struct turns_caller *greedy, *second, *modest;

    (void)state;
    greedy = turns_connect();
    second = turns_connect();
    modest = turns_connect();
    block(greedy);
    assert_true(turns_request(greedy, "echo", 1, 1, 100, NULL));
    assert_true(turns_request(second, "echo", 1, 1, 100, NULL));
    TURNS_UNTIL(greedy->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT &&
                second->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    assert_true(greedy->connection->caller.calls.count <= SHARE_ALONE);
    assert_int_equal(knit_share_alone(turns.loop.router.slots), SHARE_ALONE);
    assert_true(slots_free() > RESERVE);
    assert_int_equal(turns.loop.router.share.waiting, 0);
    assert_true(turns_request(modest, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(modest->connection->caller.calls.count == 1);
    assert_int_equal(modest->connection->caller.pauses, 0);
    turns_open_gate();
    turns_expect(greedy, 101);
    turns_expect(second, 100);
    turns_expect(modest, 1);
}

static void notifications_count_in_the_share(void **state)
{
    struct turns_caller *greedy, *modest;

    (void)state;
    greedy = turns_connect();
    modest = turns_connect();
    block(modest);
    turns_notify(greedy, "echo", 200);
    TURNS_UNTIL(greedy->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    assert_int_equal(greedy->connection->caller.calls.count, 0);
    assert_true(greedy->connection->caller.account.slots <= SHARE_ALONE);
    assert_true(slots_free() > RESERVE);
    /* After it has left they run, those that wait too, which others then need not wait for. */
    turns_hang_up(greedy);
    TURNS_UNTIL(greedy->connection->caller.gone_ns != 0);
    assert_true(turns_request(modest, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(modest->connection->caller.calls.count == 2);
    turns_open_gate();
    turns_expect(modest, 2);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.calls_answered) == 202);
    turns_leave(greedy);
}

/* Requests do not: nobody waits for them. */
static void of_what_waits_when_its_caller_leaves_notifications_run(void **state)
{
    enum { MAX_MS = 50 };
    struct turns_caller *caller, *other;

    (void)state;
    turns.settings.notification_max_ms = MAX_MS;
    caller = turns_connect();
    other = turns_connect();
    block(other);
    assert_true(turns_request(caller, "echo", 1, 1, 100, NULL));
    turns_notify(caller, "echo", 3);
    assert_true(turns_request(caller, "echo", 1, 200, 5, NULL));
    turns_notify(caller, "echo", 3);
    TURNS_UNTIL(caller->connection->lookahead != NULL);
    turns_hang_up(caller);
    turns_open_gate();
    turns_expect(other, 1);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.notifications) == 6);
    turns_leave(caller);
    TURNS_UNTIL(turns_is_idle());
    /* The six, the gate, and what was published before: its share. */
    assert_true(knit_counter_read(&turns.loop.turn.counters.calls_answered) >= 7);
    assert_true(knit_counter_read(&turns.loop.turn.counters.calls_published) <= SHARE_ALONE + 7);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.notifications), 6);
    assert_int_equal(turns.loop.router.waiting, 0);
}

/* They wait as long as they may run. */
static void notifications_that_wait_too_long_after_their_caller_are_dropped(void **state)
{
    enum { MAX_MS = 50 };
    struct turns_caller *caller, *other;
    uint64_t until_ns;

    (void)state;
    turns.settings.notification_max_ms = MAX_MS;
    caller = turns_connect();
    other = turns_connect();
    block(other);
    turns_notify(caller, "echo", 100);
    TURNS_UNTIL(caller->connection->lookahead != NULL);
    turns_hang_up(caller);
    TURNS_UNTIL(caller->connection->caller.gone_ns != 0);
    until_ns = caller->connection->caller.gone_ns + MAX_MS * UINT64_C(1000000);
    TURNS_UNTIL(knit_clock_ns() > until_ns);
    turns_open_gate();
    turns_leave(caller);
    turns_expect(other, 1);
    assert_true(knit_counter_read(&turns.loop.turn.counters.notifications_dropped) > 0);
}

/* One runs, one is queued behind it, and no worker is left for others until both have ended. */
static void notifications_end_some_time_after_their_caller_has_gone(void **state)
{
    enum { MAX_MS = 50 };
    struct turns_caller *caller, *other;
    uint64_t until_ns = knit_clock_ns() + 4 * MAX_MS * UINT64_C(1000000);

    (void)state;
    turns.settings.notification_max_ms = MAX_MS;
    caller = turns_connect();
    other = turns_connect();
    turns_notify(caller, "gate", 2);
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(other, "echo", 1, 1, 1, NULL));
    /* Its caller is there: it may go on. */
    TURNS_UNTIL(knit_clock_ns() >= until_ns);
    assert_int_equal(other->responses, 0);
    assert_int_equal(caller->connection->caller.account.slots, 2);
    until_ns = knit_clock_ns() + MAX_MS * UINT64_C(1000000);
    turns_leave(caller);
    turns_expect(other, 1);
    assert_true(knit_clock_ns() >= until_ns);
    TURNS_UNTIL(turns_is_idle());
}

/* No caller takes their results, which are too long for a cell and lie in the arena. */
static void results_of_notifications_free_their_slots(void **state)
{
    enum { CALLS = 2 * TURNS_SLOTS };
    static const uint8_t params[3 + 200] = {0x91, 0xc4, 200};
    const struct knit_method method = {.name = knit_span_text("echo")};
    struct turns_caller *caller;
    struct knit_buffer buffer;

    (void)state;
    caller = turns_connect();
    knit_buffer_init(&buffer, CALLS * 256);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(
            knit_message_put_notification(&buffer, &method, knit_span(params, sizeof(params))), 0);
    assert_int_equal(send(caller->fd, buffer.bytes, buffer.len, 0), (ssize_t)buffer.len);
    knit_buffer_fini(&buffer);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.calls_answered) == CALLS);
    assert_true(turns_is_idle());
}

enum { LARGE = 128 * 1024, LARGE_MAX = TURNS_ARENA_BYTES / LARGE };

static void a_connection_has_a_share_of_the_arena(void **state)
{
    struct turns_caller *greedy, *modest;
    uint32_t sent = 0;

    (void)state;
    greedy = turns_connect();
    modest = turns_connect();
    while (greedy->connection->caller.pauses != KNIT_PAUSE_IN_FLIGHT) {
        assert_true(sent < LARGE_MAX);
        assert_true(turns_request(greedy, "gate", LARGE, ++sent, 1, NULL));
        TURNS_UNTIL(greedy->connection->caller.calls.count == sent ||
                    greedy->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    }
    assert_true(greedy->connection->caller.account.argument_bytes >= TURNS_ARENA_BYTES / 2);
    assert_true(greedy->connection->caller.account.argument_bytes <= TURNS_ARENA_BYTES / 4 * 3);
    assert_true(turns_request(modest, "gate", LARGE, 1, 1, NULL));
    TURNS_UNTIL(modest->connection->caller.calls.count == 1);
    /* A settled call keeps its room in the arena. */
    knit_router_cancel(&greedy->connection->caller, 2, knit_span(NULL, 0));
    assert_true(greedy->connection->caller.account.argument_bytes > LARGE * (sent - 2));
    turns_open_gate();
    turns_expect(greedy, sent);
    turns_expect(modest, 1);
    assert_int_equal(greedy->connection->caller.account.argument_bytes, 0);
    assert_int_equal(turns.loop.router.share.argument_bytes, 0);
}

static void small_calls_pass_those_that_wait_for_arena_space(void **state)
{
    enum { CALLERS = LARGE_MAX + 4 };
    struct turns_caller *callers[CALLERS];
    struct turns_caller *modest;

    (void)state;
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "gate", LARGE, 1, 1, NULL));
    }
    TURNS_UNTIL(callers[CALLERS - 1]->connection->caller.pauses == KNIT_PAUSE_SLOT);
    assert_true(slots_free() > 0);
    modest = turns_connect();
    assert_true(turns_request(modest, "gate", 1, 1, 10, NULL));
    TURNS_UNTIL(modest->connection->caller.calls.count == 10);
    assert_int_equal(modest->connection->caller.pauses, 0);
    /* A large one waits behind the others. */
    assert_true(turns_request(modest, "gate", LARGE, 11, 1, NULL));
    TURNS_UNTIL(modest->connection->caller.pauses == KNIT_PAUSE_SLOT);
    assert_ptr_equal(
        TAILQ_LAST(&turns.loop.router.share.queues[KNIT_SHARE_WAITING_ARENA], knit_share_queue),
        &modest->connection->caller);
    turns_open_gate();
    for (uint32_t i = 0; i < CALLERS; i++)
        turns_expect(callers[i], 1);
    turns_expect(modest, 11);
    assert_int_equal(turns.loop.router.share.argument_bytes, 0);
}

/* With more connections than slots some wait, in turn, and all are served. */
static void connections_without_any_slot_wait_for_one(void **state)
{
    enum { CALLERS = TURNS_SLOTS + 20 };
    struct turns_caller *callers[CALLERS];
    uint32_t waiting = 0;

    (void)state;
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "gate", 1, 1, 1, NULL));
    }
    TURNS_UNTIL(slots_free() == 0);
    for (int i = 0; i < 20; i++)
        (void)turns_turn();
    for (uint32_t i = 0; i < CALLERS; i++)
        waiting += callers[i]->connection->caller.pauses == KNIT_PAUSE_SLOT;
    assert_int_equal(waiting, CALLERS - TURNS_SLOTS);
    turns_open_gate();
    for (uint32_t i = 0; i < CALLERS; i++)
        turns_expect(callers[i], 1);
}

/* Slots of large results come free when those have been written, after callers that wait had their
 * turn: without another one the loop would sleep with nothing in flight. */
static void what_comes_free_at_the_end_of_a_turn_is_noticed(void **state)
{
    enum { LEN = 16 * 1024 };
    const struct knit_share *share = &turns.loop.router.share;
    struct turns_caller *callers[TURNS_SLOTS + 1];
    bool has_come_free = false;

    (void)state;
    for (uint32_t i = 0; i <= TURNS_SLOTS; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "gate", LEN, 1, 1, NULL));
    }
    TURNS_UNTIL(share->waiting == 1);
    turns_open_gate();
    while (share->waiting > 0) {
        (void)turns_turn();
        has_come_free |= share->waiting > 0 && slots_free() > 0;
        assert_true(share->waiting == 0 || slots_free() == 0 || knit_share_is_due(share));
    }
    assert_true(has_come_free);
    for (uint32_t i = 0; i <= TURNS_SLOTS; i++)
        turns_expect(callers[i], 1);
    assert_false(knit_share_is_due(share));
}

static void what_is_overdue_is_answered_while_its_slot_is_still_taken(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    options.timeout_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 1, 5, &options));
    options = knit_options();
    options.queue_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 11, 5, &options));
    turns_expect(caller, 10);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    assert_int_equal(caller->connection->caller.calls.count, 1);
    assert_int_equal(slots_free(), TURNS_SLOTS - 11);
    assert_int_equal(caller->connection->caller.account.slots, 11);
    turns_open_gate();
    turns_expect(caller, 11);
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_timed_out), 10);
    assert_int_equal(caller->connection->caller.account.slots, 0);
}

/* A deadline passes also without a slot, and behind others. */
static void what_waits_for_a_slot_is_answered_at_its_deadline(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 100, NULL));
    options.timeout_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 101, 5, &options));
    options = knit_options();
    options.queue_ns = 30000000;
    assert_true(turns_request(caller, "echo", 1, 106, 5, &options));
    turns_expect(caller, 10);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    assert_in_range(caller->msgid, 106, 110);
    assert_int_equal(caller->connection->caller.pauses, KNIT_PAUSE_IN_FLIGHT);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_timed_out), 10);
    turns_open_gate();
    turns_expect(caller, 111);
    assert_int_equal(caller->code, 0);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_published), 101);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.requests), 111);
    TURNS_UNTIL(caller->connection->lookahead == NULL);
}

/* What has started goes on. */
static void the_end_of_the_time_in_the_queue_ends_no_running_call(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    options.queue_ns = 100000000;
    assert_true(turns_request(caller, "gate", 1, 1, 1, &options));
    TURNS_UNTIL(turns_is_at_gate());
    TURNS_UNTIL(turns.loop.router.next_ns == UINT64_MAX);
    assert_int_equal(caller->connection->caller.calls.count, 1);
    turns_open_gate();
    turns_expect(caller, 1);
    assert_int_equal(caller->code, 0);
}

/* With a queue of 0 a call is started at once or refused, also where others wait. */
static void what_must_start_at_once_waits_for_nothing(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    options.queue_ns = 0;
    /* The worker is a thread: it may not have been scheduled in time. */
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(turns_request(caller, "echo", 1, i, 1, &options));
        turns_expect(caller, i + 1);
        assert_true(caller->code == 0 || caller->code == KNIT_TIMEOUT);
        TURNS_UNTIL(turns_is_idle());
    }
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 101, 1, &options));
    turns_expect(caller, 21);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    /* Behind what waits for a slot, too. */
    assert_true(turns_request(caller, "echo", 1, 200, 100, NULL));
    assert_true(turns_request(caller, "echo", 1, 102, 1, &options));
    turns_expect(caller, 22);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_int_equal(caller->msgid, 102);
    assert_int_equal(caller->connection->caller.pauses, KNIT_PAUSE_IN_FLIGHT);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_overloaded), 2);
    turns_open_gate();
    turns_expect(caller, 123);
}

/* The request behind it is then handled. */
static void the_first_that_waits_may_be_overdue(void **state)
{
    enum { OTHERS = TURNS_SLOTS };
    struct turns_caller *others[OTHERS];
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    for (uint32_t i = 0; i < OTHERS; i++) {
        others[i] = turns_connect();
        assert_true(turns_request(others[i], "gate", 1, 1, 1, NULL));
    }
    TURNS_UNTIL(slots_free() == 0);
    caller = turns_connect();
    options.timeout_ns = 20000000;
    assert_true(turns_request(caller, "echo", 1, 1, 1, &options));
    assert_true(turns_request(caller, "$/ping", 1, 2, 1, NULL));
    /* Asking does not wait behind it. */
    turns_expect(caller, 1);
    assert_int_equal(caller->msgid, 2);
    assert_int_equal(caller->connection->caller.pauses, KNIT_PAUSE_SLOT);
    turns_expect(caller, 2);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    assert_int_equal(caller->connection->caller.pauses, 0);
    assert_int_equal(turns.loop.router.share.waiting, 0);
    turns_open_gate();
    for (uint32_t i = 0; i < OTHERS; i++)
        turns_expect(others[i], 1);
}

static void what_is_cancelled_in_the_queue_is_answered_at_once(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
    TURNS_UNTIL(caller->connection->caller.calls.count == 2);
    knit_router_cancel(&caller->connection->caller, 1, knit_span(NULL, 0));
    /* No call has that number, so nothing happens. */
    knit_router_cancel(&caller->connection->caller, 77, knit_span(NULL, 0));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_CANCELLED);
    /* A call that runs sees the abort, and answers itself. */
    knit_router_cancel(&caller->connection->caller, 1000000, knit_span(NULL, 0));
    turns_expect(caller, 2);
    assert_int_equal(caller->msgid, 1000000);
}

/* Sent with the calls or later, for a call in flight or one that waits. */
static void a_cancel_does_not_wait_behind_what_waits(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    block(caller);
    assert_true(turns_request(caller, "echo", 1, 1, 100, NULL));
    turns_cancel(caller, 1);
    turns_cancel(caller, 90);
    turns_cancel(caller, 91);
    turns_expect(caller, 3);
    assert_int_equal(caller->code, KNIT_CANCELLED);
    assert_int_equal(caller->msgid, 91);
    TURNS_UNTIL(caller->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    turns_cancel(caller, 92);
    turns_expect(caller, 4);
    assert_int_equal(caller->msgid, 92);
    /* A call behind it may have the same number, and is another one. */
    turns_cancel(caller, 150);
    assert_true(turns_request(caller, "echo", 1, 150, 1, NULL));
    for (uint8_t msgid = 2; msgid < 90; msgid++)
        turns_cancel(caller, msgid);
    turns_expect(caller, 92);
    assert_int_equal(caller->msgid, 89);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_cancelled), 92);
    turns_open_gate();
    turns_expect(caller, 102);
    assert_int_equal(caller->code, 0);
    assert_int_equal(caller->msgid, 150);
}

/* Until it is answered it occupies a slot of the connection's share. */
static void what_is_cancelled_counts_until_its_slot_is_free(void **state)
{
    struct turns_caller *greedy, *modest;

    (void)state;
    greedy = turns_connect();
    modest = turns_connect();
    block(modest);
    for (uint32_t i = 0; i < SHARE_ALONE; i++) {
        assert_true(turns_request(greedy, "echo", 1, i, 1, NULL));
        (void)turns_turn();
        knit_router_cancel(&greedy->connection->caller, i, knit_span(NULL, 0));
    }
    assert_true(turns_request(greedy, "echo", 1, 1000, 100, NULL));
    TURNS_UNTIL(greedy->connection->caller.pauses != 0);
    assert_true(greedy->connection->caller.account.slots <= SHARE_ALONE);
    assert_true(slots_free() > RESERVE);
    turns_expect(greedy, SHARE_ALONE);
    /* After it has left nothing is charged to it. */
    turns_leave(greedy);
    turns_open_gate();
    turns_expect(modest, 1);
    TURNS_UNTIL(turns_is_idle());
}

static void what_cannot_be_is_refused_and_takes_no_slot(void **state)
{
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "ecco", 1, 1, 1, NULL));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_UNKNOWN_TASK);
    turns.settings.call_max_bytes = 100;
    assert_true(turns_request(caller, "echo", 200, 2, 1, NULL));
    turns_expect(caller, 2);
    assert_int_equal(caller->code, KNIT_TOO_LARGE);
    options.timeout_ns = 0;
    assert_true(turns_request(caller, "echo", 1, 3, 1, &options));
    turns_expect(caller, 3);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    options = knit_options();
    options.epoch = 77;
    assert_true(turns_request(caller, "echo", 1, 4, 1, &options));
    turns_expect(caller, 4);
    assert_int_equal(caller->code, KNIT_STALE_EPOCH);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_published), 0);
    turns.settings.queue_max = 1;
    assert_true(turns_request(caller, "gate", 1, 5, 2, NULL));
    turns_expect(caller, 5);
    assert_int_equal(caller->code, KNIT_OVERLOADED);
    assert_int_equal(caller->msgid, 6);
}

/* ---- collecting ---- */

static int setup_two_lanes(void **state)
{
    turns_lanes = 2;
    return turns_setup(state);
}

static int teardown_two_lanes(void **state)
{
    turns_lanes = 1;
    return turns_teardown(state);
}

/* As a thief leaves it that stands still before it has said that it answered a stolen call. */
static void move_completion(struct knit_session *session, uint32_t from, uint32_t to)
{
    const struct knit_session_lane *source = &session->lanes[from], *target = &session->lanes[to];
    const uint32_t cells = session->geometry.cells;
    uint32_t slot;

    assert_true(KNIT_WAIT_UNTIL(knit_session_next_slot(session, source, &slot) == 0, 10000));
    assert_int_equal(session->queued[to], 0);
    atomic_store_explicit(
        &source->completion_ring[source->completion_next & (cells - 1)], 0, memory_order_relaxed);
    atomic_store_explicit(&target->completion_ring[target->completion_next & (cells - 1)],
        knit_completion(slot, target->completion_next, cells), memory_order_release);
}

/* Small results are collected in a loop of their own, whose look at all lanes finds these too. */
static void a_large_answer_that_nobody_has_told_of_is_collected(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "echo", 2000, 1, 1, NULL));
    (void)event_base_loop(turns.loop.base, EVLOOP_ONCE);
    knit_session_flush(turns.session.session);
    move_completion(turns.session.session, 0, 1);
    for (unsigned looks = 0; looks <= KNIT_BITS_DOUBTED; looks++)
        (void)turns_turn();
    assert_true(turns_read(caller));
    assert_int_equal(caller->responses, 1);
    assert_true(caller->result_len > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_connection_has_a_share_of_the_slots),
        TURNS_TEST(notifications_count_in_the_share),
        TURNS_TEST(of_what_waits_when_its_caller_leaves_notifications_run),
        TURNS_TEST(notifications_that_wait_too_long_after_their_caller_are_dropped),
        TURNS_TEST(notifications_end_some_time_after_their_caller_has_gone),
        TURNS_TEST(results_of_notifications_free_their_slots),
        TURNS_TEST(a_connection_has_a_share_of_the_arena),
        TURNS_TEST(small_calls_pass_those_that_wait_for_arena_space),
        TURNS_TEST(connections_without_any_slot_wait_for_one),
        TURNS_TEST(what_comes_free_at_the_end_of_a_turn_is_noticed),
        TURNS_TEST(what_is_overdue_is_answered_while_its_slot_is_still_taken),
        TURNS_TEST(what_waits_for_a_slot_is_answered_at_its_deadline),
        TURNS_TEST(the_end_of_the_time_in_the_queue_ends_no_running_call),
        TURNS_TEST(what_must_start_at_once_waits_for_nothing),
        TURNS_TEST(the_first_that_waits_may_be_overdue),
        TURNS_TEST(what_is_cancelled_in_the_queue_is_answered_at_once),
        TURNS_TEST(a_cancel_does_not_wait_behind_what_waits),
        TURNS_TEST(what_is_cancelled_counts_until_its_slot_is_free),
        TURNS_TEST(what_cannot_be_is_refused_and_takes_no_slot),
        cmocka_unit_test_setup_teardown(a_large_answer_that_nobody_has_told_of_is_collected,
            setup_two_lanes, teardown_two_lanes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
