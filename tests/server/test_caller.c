/* SPDX-License-Identifier: Apache-2.0 */
/* The router and a caller that is no connection: what it is given, when it waits, what is charged
 * to it, and that it may go at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "tests/server/turns.h"

enum { HELD_MAX = 8, RESULT_LEN = 20000 };

/* A caller that keeps numbers instead of bytes, and the messages that wait. */
struct counter {
    struct knit_caller caller;
    struct knit_message message;
    uint32_t next, end; /* msgids not brought yet */
    uint32_t results, errors;
    uint32_t code; /* of the last error */
    uint32_t held[HELD_MAX];
    uint32_t held_count;
    uint32_t ready;
    bool is_closed;
};

static struct counter *counter_of(struct knit_caller *caller)
{
    return (struct counter *)(void *)((char *)caller - offsetof(struct counter, caller));
}

static void deliver(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    struct counter *counter = counter_of(caller);

    (void)msgid;
    if (outcome->status == KNIT_STATUS_RESULT)
        counter->results++;
    else
        counter->errors++;
    if (!outcome->held)
        return;
    assert_true(counter->held_count < HELD_MAX);
    counter->held[counter->held_count++] = outcome->slot;
}

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    struct counter *counter = counter_of(caller);

    (void)msgid;
    counter->errors++;
    counter->code = failure->code;
}

static void bring(struct counter *counter)
{
    while (counter->next < counter->end && counter->caller.pauses == 0) {
        counter->message.msgid = counter->next;
        if (knit_router_call(&counter->caller, &counter->message, turns.loop.turn.now_ns) ==
            KNIT_ROUTER_LATER)
            return;
        counter->next++;
    }
}

static void ready(struct knit_caller *caller)
{
    counter_of(caller)->ready++;
}

static void resume(struct knit_caller *caller)
{
    bring(counter_of(caller));
}

static void close_counter(struct knit_caller *caller)
{
    counter_of(caller)->is_closed = true;
    knit_router_forget(caller);
}

static const struct knit_caller_ops ops = {.deliver = deliver,
    .refuse = refuse,
    .ready = ready,
    .resume = resume,
    .close_without_memory = close_counter};

/* Calls of the task with these params, as many as `count`. */
static void begin(
    struct counter *counter, const char *task, struct knit_span params, uint32_t count)
{
    *counter = (struct counter){
        .caller = {.ops = &ops, .router = &turns.loop.router, .turn = &turns.loop.turn},
        .message = {.kind = KNIT_MESSAGE_REQUEST,
            .method = {.name = knit_span_text(task)},
            .params = params},
        .end = count};
    counter->caller.principal = turns.principals.anonymous;
    bring(counter);
}

/* A bin of RESULT_LEN zeros, which does not fit a cell. */
static struct knit_span large_params(uint8_t *room)
{
    static const uint8_t head[] = {0x91, 0xc5, RESULT_LEN >> 8, RESULT_LEN & 0xff};

    memcpy(room, head, sizeof(head));
    memset(room + sizeof(head), 0, RESULT_LEN);
    return knit_span(room, sizeof(head) + RESULT_LEN);
}

static void a_caller_gets_results_and_is_charged_until_its_slots_are_free(void **state)
{
    struct counter counter;

    (void)state;
    begin(&counter, "gate", knit_span("\x91\x01", 2), 10);
    assert_int_equal(counter.caller.account.slots, 10);
    assert_int_equal(counter.caller.calls.count, 10);
    assert_int_equal(turns.loop.router.outstanding, 10);
    turns_open_gate();
    TURNS_UNTIL(counter.results == 10);
    assert_int_equal(counter.caller.account.slots, 0);
    assert_int_equal(counter.caller.calls.count, 0);
    assert_int_equal(turns.loop.router.outstanding, 0);
    knit_router_forget(&counter.caller);
}

static void what_it_holds_is_charged_until_it_is_released(void **state)
{
    uint8_t room[RESULT_LEN + 16];
    struct counter counter;

    (void)state;
    begin(&counter, "room", large_params(room), 3);
    assert_true(counter.caller.account.argument_bytes > 3 * RESULT_LEN);
    TURNS_UNTIL(counter.results == 3);
    assert_int_equal(counter.held_count, 3);
    assert_int_equal(counter.caller.account.argument_bytes, 0);
    assert_int_equal(counter.caller.account.slots, 3);
    assert_int_equal(turns.loop.router.outstanding, 0);
    for (uint32_t i = 0; i < 3; i++)
        knit_router_release(&counter.caller, counter.held[i]);
    assert_int_equal(counter.caller.account.slots, 0);
    knit_router_forget(&counter.caller);
}

/* It waits for its share: the call is brought again by itself, in a turn of its own. */
static void beyond_its_share_it_is_paused_and_then_ready(void **state)
{
    struct counter counter;

    (void)state;
    begin(&counter, "gate", knit_span("\x91\x01", 2), TURNS_SLOTS);
    assert_int_equal(counter.caller.pauses, KNIT_PAUSE_IN_FLIGHT);
    assert_int_equal(counter.next, knit_share_alone(TURNS_SLOTS));
    turns_open_gate();
    TURNS_UNTIL(counter.ready > 0);
    assert_int_equal(counter.caller.pauses, 0);
    TURNS_UNTIL((bring(&counter), counter.results == TURNS_SLOTS));
    knit_router_forget(&counter.caller);
}

/* Without a slot of its own it stands in the queue, and the router resumes it. */
static void without_any_slot_it_is_resumed(void **state)
{
    static struct counter many[TURNS_SLOTS], last;

    (void)state;
    for (uint32_t i = 0; i < TURNS_SLOTS; i++)
        begin(&many[i], "gate", knit_span("\x91\x01", 2), 1);
    assert_int_equal(knit_session_slots_free(turns.session.session), 0);
    begin(&last, "gate", knit_span("\x91\x01", 2), 1);
    assert_int_equal(last.caller.pauses, KNIT_PAUSE_SLOT);
    assert_int_equal(last.caller.waiting_in, KNIT_SHARE_WAITING_FRESH);
    turns_open_gate();
    TURNS_UNTIL(last.results == 1);
    assert_int_equal(last.caller.waiting_in, KNIT_SHARE_NOT_WAITING);
    assert_int_equal(last.ready, 0);
    TURNS_UNTIL(turns_is_idle());
    for (uint32_t i = 0; i < TURNS_SLOTS; i++)
        assert_int_equal(many[i].results, 1);
}

static void one_that_goes_leaves_no_charge_and_gets_no_outcome(void **state)
{
    struct counter counter;

    (void)state;
    begin(&counter, "gate", knit_span("\x91\x01", 2), 10);
    knit_router_forget(&counter.caller);
    assert_int_equal(counter.caller.account.slots, 0);
    turns_open_gate();
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(counter.results + counter.errors, 0);
}

static void a_router_that_drains_refuses_new_calls(void **state)
{
    struct counter counter, late;

    (void)state;
    begin(&counter, "gate", knit_span("\x91\x01", 2), 2);
    turns.loop.router.is_draining = true;
    begin(&late, "echo", knit_span("\x91\x01", 2), 2);
    assert_int_equal(late.errors, 2);
    assert_int_equal(late.code, KNIT_DRAINING);
    turns_open_gate();
    TURNS_UNTIL(counter.results == 2);
    knit_router_forget(&counter.caller);
    knit_router_forget(&late.caller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_caller_gets_results_and_is_charged_until_its_slots_are_free),
        TURNS_TEST(what_it_holds_is_charged_until_it_is_released),
        TURNS_TEST(beyond_its_share_it_is_paused_and_then_ready),
        TURNS_TEST(without_any_slot_it_is_resumed),
        TURNS_TEST(one_that_goes_leaves_no_charge_and_gets_no_outcome),
        TURNS_TEST(a_router_that_drains_refuses_new_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
