/* SPDX-License-Identifier: Apache-2.0 */
/* The usual call's way through the router and the general one: whatever state the router is in, and
 * whatever the message says, both end alike. Which of them is tried first depends on whether the
 * caller has named the task before, so each case is played twice, in a new loop each time; while
 * the worker waits at the gate nothing else moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/state.h"
#include "tests/server/turns.h"

enum { FIRST = 1, SECOND = 2, MS = 1000000 };

/* All that its caller can notice of one message, and what is kept of it. */
struct told {
    enum knit_router_verdict verdict;
    uint32_t refusals, code, started;
    bool is_retryable, is_in_flight, is_known;
    uint64_t limit, actual;
    char text[160];
    uint8_t pauses;
    uint16_t waiting_in;
    uint32_t calls, slots, outstanding, waiting;
    size_t argument_bytes;
    uint64_t timeout_ns, queue_ns, abort_ns; /* of the record; the first two after the message */
    bool is_next;                            /* the deadline is the router's next one */
    struct knit_counter_values counted;
};

static struct told told;

static void refuse(struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    (void)caller;
    assert_int_equal(msgid, SECOND);
    told.refusals++;
    told.code = failure->code;
    told.started = failure->started;
    told.is_retryable = failure->is_retryable;
    told.limit = failure->limit;
    told.actual = failure->actual;
    assert_true(failure->message.len < sizeof(told.text));
    memcpy(told.text, failure->message.bytes, failure->message.len);
}

static void ignore_outcome(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    (void)msgid;
    if (outcome->held)
        knit_router_release(caller, outcome->slot);
}

static void ignore(struct knit_caller *caller)
{
    (void)caller;
}

static const struct knit_caller_ops ops = {.deliver = ignore_outcome,
    .refuse = refuse,
    .ready = ignore,
    .resume = ignore,
    .close_without_memory = ignore};

/* ---- states of the router ------------------------------------------------------------------- */

static struct knit_caller other;

static void drain(void)
{
    turns.loop.router.is_draining = true;
}

static void close_session(void)
{
    knit_state_write(&turns.session.reply, KNIT_STATE_DRAINING);
}

static void fill_in_flight(void)
{
    turns.settings.in_flight_max = 1;
}

static void fill_queue(void)
{
    turns.settings.queue_max = 2;
}

static void leave_room_in_queue(void)
{
    turns.settings.queue_max = 3;
}

static void allow_little(void)
{
    turns.settings.call_max_bytes = 4;
}

/* Another caller waits for a slot. */
static void let_other_wait(void)
{
    other =
        (struct knit_caller){.ops = &ops, .router = &turns.loop.router, .turn = &turns.loop.turn};
    knit_share_wait(&turns.loop.router.share, &other, KNIT_SHARE_WAITING_SLOT);
}

static void let_other_wait_for_arena(void)
{
    other =
        (struct knit_caller){.ops = &ops, .router = &turns.loop.router, .turn = &turns.loop.turn};
    knit_share_wait(&turns.loop.router.share, &other, KNIT_SHARE_WAITING_ARENA);
}

/* By others, as many as they may have; what is left is for callers without any. */
static void take_slots(void)
{
    enum { TAKERS = 8 };
    struct turns_caller *takers[TAKERS];

    for (int i = 0; i < TAKERS; i++) {
        takers[i] = turns_connect();
        assert_true(turns_request(takers[i], "echo", 1, 1, TURNS_SLOTS, NULL));
        TURNS_UNTIL(takers[i]->connection->caller.pauses != 0);
    }
}

/* ---- cases ---------------------------------------------------------------------------------- */

#define OPTIONS(text)                                                                              \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

struct way_case {
    const char *name;
    void (*prepare)(void);
    const char *task;
    struct knit_span options;
    size_t params_len;
    uint64_t age_ns; /* how long ago the message was read */
    enum knit_message_kind kind;
    uint32_t msgid; /* 0 = SECOND */
};

static const struct way_case cases[] = {
    {.name = "usual"},
    {.name = "large", .params_len = 4000},
    {.name = "the largest in a cell", .params_len = 104},
    {.name = "one byte more", .params_len = 105},
    {.name = "too large", .prepare = allow_little, .params_len = 5},
    {.name = "just so large", .prepare = allow_little, .params_len = 4},
    {.name = "too large for any", .params_len = (1 << 19) + 1},
    {.name = "number in flight", .msgid = FIRST},
    {.name = "number in flight while draining", .prepare = drain, .msgid = FIRST},
    {.name = "draining", .prepare = drain},
    {.name = "session closed", .prepare = close_session},
    {.name = "at most in flight", .prepare = fill_in_flight},
    {.name = "queue full", .prepare = fill_queue},
    {.name = "queue not full", .prepare = leave_room_in_queue},
    {.name = "another waits", .prepare = let_other_wait},
    {.name = "another waits for arena", .prepare = let_other_wait_for_arena},
    {.name = "share is used up", .prepare = take_slots},
    {.name = "unknown task", .task = "eko"},
    {.name = "another task", .task = "count"},
    {.name = "notification", .kind = KNIT_MESSAGE_NOTIFICATION},
    {.name = "timeout", .options = OPTIONS("\x81\xa7timeout\xcd\x27\x10")},
    {.name = "timeout as float", .options = OPTIONS("\x81\xa7timeout\xca\x46\x1c\x40\x00")},
    {.name = "timeout over", .options = OPTIONS("\x81\xa7timeout\x05"), .age_ns = 6 * MS},
    {.name = "timeout 0", .options = OPTIONS("\x81\xa7timeout\x00")},
    {.name = "timeout negative", .options = OPTIONS("\x81\xa7timeout\xff")},
    {.name = "timeout no number", .options = OPTIONS("\x81\xa7timeout\xa1x")},
    {.name = "timeout nil", .options = OPTIONS("\x81\xa7timeout\xc0")},
    {.name = "no options in the map", .options = OPTIONS("\x80")},
    {.name = "timeout and queue",
        .options = OPTIONS("\x82\xa7timeout\xcd\x27\x10\xa5queue\xcd\x03\xe8")},
    {.name = "queue", .options = OPTIONS("\x81\xa5queue\xcd\x03\xe8")},
    {.name = "must not wait", .options = OPTIONS("\x81\xa5queue\x00")},
    {.name = "affinity",
        .options = OPTIONS("\x81\xa8"
                           "affinity\x07")},
    {.name = "this epoch",
        .options = OPTIONS("\x81\xa5"
                           "epoch\x01")},
    {.name = "another epoch",
        .options = OPTIONS("\x81\xa5"
                           "epoch\x07")},
    {.name = "timeout while draining",
        .prepare = drain,
        .options = OPTIONS("\x81\xa7timeout\xcd\x27\x10")},
};

static const struct knit_registry_task *task_named(const char *name)
{
    return knit_registry_find(turns.registry, name, strlen(name));
}

static void bring_first(struct knit_caller *caller)
{
    const struct knit_message message = {.kind = KNIT_MESSAGE_REQUEST,
        .msgid = FIRST,
        .method = {.name = knit_span_text("echo")},
        .params = knit_span("\x91\x01", 2)};

    assert_int_equal(knit_router_call(caller, &message, turns.loop.turn.now_ns), KNIT_ROUTER_DONE);
    assert_int_equal(caller->calls.count, 1);
}

static void note_record(const struct knit_caller *caller, const struct way_case *case_)
{
    const struct knit_router *router = &turns.loop.router;
    const struct knit_record *record;
    uint64_t since_ns = turns.loop.turn.now_ns - case_->age_ns;
    uint32_t slot;

    told.is_in_flight = knit_in_flight_find(&caller->calls, SECOND, &slot);
    if (!told.is_in_flight)
        return;
    record = &router->records[slot];
    assert_ptr_equal(record->caller, caller);
    assert_ptr_equal(record->charged_to, caller);
    assert_int_equal(record->msgid, SECOND);
    told.is_known = record->task == task_named(case_->task != NULL ? case_->task : "echo")->id;
    told.timeout_ns =
        record->deadline_ns == UINT64_MAX ? UINT64_MAX : record->deadline_ns - since_ns;
    told.queue_ns =
        record->queue_deadline_ns == UINT64_MAX ? UINT64_MAX : record->queue_deadline_ns - since_ns;
    told.abort_ns = record->abort_ns;
    told.is_next = router->next_ns == record->deadline_ns;
}

static struct told play(const struct way_case *case_, bool has_named)
{
    const char *name = case_->task != NULL ? case_->task : "echo";
    size_t len = case_->params_len != 0 ? case_->params_len : 2;
    uint8_t *params = calloc(1, len);
    struct knit_message message = {.kind = case_->kind,
        .msgid = case_->msgid != 0 ? case_->msgid : SECOND,
        .method = {.name = knit_span_text(name)},
        .params = knit_span(params, len),
        .options = case_->options};
    struct knit_caller caller;
    struct turns_caller *blocker = turns_connect();

    assert_true(turns_request(blocker, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    caller = (struct knit_caller){.ops = &ops,
        .router = &turns.loop.router,
        .turn = &turns.loop.turn,
        .principal = turns.principals.anonymous};
    bring_first(&caller);
    if (case_->prepare != NULL)
        case_->prepare();
    caller.named = has_named ? task_named(name) : NULL;
    memset(&told, 0, sizeof(told));
    told.verdict = knit_router_call(&caller, &message, turns.loop.turn.now_ns - case_->age_ns);
    told.pauses = caller.pauses;
    told.waiting_in = caller.waiting_in;
    told.calls = caller.calls.count;
    told.slots = caller.account.slots;
    told.argument_bytes = caller.account.argument_bytes;
    told.outstanding = turns.loop.router.outstanding;
    told.waiting = turns.loop.router.share.waiting;
    note_record(&caller, case_);
    knit_counters_sum(&told.counted, &turns.loop.turn.counters);
    /* How often the loop turned until what a case prepares was there is chance. */
    told.counted.bytes_in = told.counted.bytes_out = told.counted.sleeps = told.counted.turns = 0;
    knit_router_forget(&caller);
    if (other.router != NULL)
        knit_share_leave(&turns.loop.router.share, &other);
    other = (struct knit_caller){0};
    turns.loop.router.is_draining = false;
    knit_state_write(&turns.session.reply, KNIT_STATE_OPEN);
    free(params);
    return told;
}

static void both_ways_say_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told general, usual;

        general = play(&cases[i], false);
        turns_restart();
        usual = play(&cases[i], true);
        turns_restart();
        if (memcmp(&general, &usual, sizeof(usual)) != 0)
            fail_msg("%s: the ways differ: %d %u '%s', %d %u '%s'", cases[i].name, general.verdict,
                general.code, general.text, usual.verdict, usual.code, usual.text);
    }
}

static uint64_t in_flight(void)
{
    return atomic_load_explicit(&turns.principals.anonymous->quota.in_flight, memory_order_relaxed);
}

/* Nobody gets around a limit by closing connections, and nothing stays counted: a request is then
 * aborted, and its task goes on for as long as it likes. */
static void what_goes_on_without_its_caller_counts_until_its_end(void **state)
{
    const struct knit_policy_limits limits = {.weight = 1, .calls_in_flight = 2};
    struct turns_caller *caller = turns_connect(), *after;

    (void)state;
    knit_quota_set(&turns.principals.anonymous->quota, &limits);
    assert_true(turns_request(caller, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    turns_notify(caller, "echo", 1);
    TURNS_UNTIL(in_flight() == 2);
    turns_leave(caller);
    assert_int_equal(in_flight(), 2);
    after = turns_connect();
    turns_open_gate();
    TURNS_UNTIL(turns_is_idle());
    assert_int_equal(in_flight(), 0);
    assert_true(turns_request(after, "echo", 1, 1, 1, NULL));
    turns_expect(after, 1);
    assert_int_equal(after->code, 0);
}

/* What the cases above are about does happen. */
static void the_cases_end_in_different_ways(void **state)
{
    unsigned verdicts[3] = {0}, codes = 0, started = 0, timed = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told got = play(&cases[i], true);

        turns_restart();
        verdicts[got.verdict]++;
        codes += got.refusals;
        started += got.is_in_flight && got.is_known;
        timed += got.is_in_flight && got.timeout_ns == 10000ull * MS && got.is_next;
    }
    assert_true(verdicts[KNIT_ROUTER_LATER] >= 3);
    assert_int_equal(verdicts[KNIT_ROUTER_TWICE], 2);
    assert_true(codes >= 10);
    assert_true(started >= 12);
    assert_int_equal(timed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(what_goes_on_without_its_caller_counts_until_its_end),
        TURNS_TEST(both_ways_say_the_same),
        TURNS_TEST(the_cases_end_in_different_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
