/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and dispatching: short reads, limits, half-closed and broken streams, on a loop whose
 * turns the test makes (turns.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "server/net/input.h"
#include "server/net/lookahead.h"
#include "tests/server/turns.h"

static const struct knit_method echo = {.name = {(const uint8_t *)"echo", 4}};

static void a_message_may_come_byte_by_byte(void **state)
{
    struct turns_caller *caller;
    struct knit_buffer buffer;

    (void)state;
    caller = turns_connect();
    knit_buffer_init(&buffer, 4096);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(
            knit_message_put_request(&buffer, 70000 + i, &echo, knit_span("\x91\xa2hi", 4), NULL),
            0);
    for (size_t i = 0; i < buffer.len; i++) {
        assert_int_equal(send(caller->fd, buffer.bytes + i, 1, 0), 1);
        (void)turns_turn();
    }
    turns_expect(caller, 3);
    assert_int_equal(caller->code, 0);
    /* Its input buffer is freed. */
    assert_null(caller->connection->input.bytes);
    knit_buffer_fini(&buffer);
}

static void a_large_message_is_read_into_its_own_memory(void **state)
{
    struct turns_caller *caller;
    int small = 4096;

    (void)state;
    caller = turns_connect();
    (void)setsockopt(
        caller->connection->transport.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(turns_request(caller, "room", 100000, i, 1, NULL));
        turns_expect(caller, i + 1);
        assert_int_equal(caller->code, 0);
        assert_true(caller->result_len >= 100000);
    }
    assert_null(caller->connection->input.bytes);
}

static void calls_beyond_in_flight_max_wait_in_the_socket(void **state)
{
    struct turns_caller *caller;

    (void)state;
    turns.settings.in_flight_max = 4;
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 1, 10, NULL));
    TURNS_UNTIL(caller->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    assert_int_equal(caller->connection->caller.calls.count, 4);
    turns_open_gate();
    turns_expect(caller, 10);
    assert_int_equal(caller->connection->caller.pauses, 0);
}

/* Up to four times the limit a message is skipped; a longer one ends the stream. */
static void a_message_that_is_too_large_is_refused_and_the_next_one_served(void **state)
{
    struct turns_caller *caller;

    (void)state;
    turns.settings.message_max_bytes = 1000;
    caller = turns_connect();
    assert_true(turns_request(caller, "echo", 3000, 1, 1, NULL));
    turns_expect(caller, 1);
    assert_int_equal(caller->msgid, 1);
    assert_int_equal(caller->code, KNIT_TOO_LARGE);
    assert_true(turns_request(caller, "echo", 10, 2, 1, NULL));
    turns_expect(caller, 2);
    assert_int_equal(caller->msgid, 2);
    assert_int_equal(caller->code, 0);
    assert_true(turns_request(caller, "echo", 5000, 3, 1, NULL));
    TURNS_UNTIL(!turns_read(caller));
    assert_int_equal(caller->msgid, 3);
    assert_int_equal(caller->code, KNIT_TOO_LARGE);
}

static void the_end_of_the_callers_stream_aborts_its_calls(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 1, 3, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_int_equal(shutdown(caller->fd, SHUT_WR), 0);
    /* The gate stays shut: the running call ends because it sees its abort. */
    TURNS_UNTIL(turns_is_idle());
    assert_false(turns_read(caller));
    assert_int_equal(caller->responses, 0);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.connections_closed), 1);
}

/* An orderly end; with an unread reply in the socket it is a reset, which is an error. */
static void a_peer_that_leaves_while_it_is_not_read_is_noticed(void **state)
{
    (void)state;
    for (int is_reset = 0; is_reset <= 1; is_reset++) {
        struct turns_caller *caller;

        turns_restart();
        turns.settings.in_flight_max = 4;
        caller = turns_connect();
        assert_true(turns_request(caller, "echo", 1, 1, 1, NULL));
        TURNS_UNTIL(turns_is_idle());
        if (!is_reset)
            turns_expect(caller, 1);
        assert_true(turns_request(caller, "gate", 1, 2, 5, NULL));
        TURNS_UNTIL(caller->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
        /* With more to read than it looks ahead, it waits for the end of the stream alone. */
        turns_notify(caller, "nobody", 8000);
        TURNS_UNTIL(caller->connection->input.len >= KNIT_LOOKAHEAD_BYTES);
        turns_notify(caller, "nobody", 1);
        TURNS_UNTIL(caller->connection->interest == KNIT_INTEREST_END);
        turns_leave(caller);
        TURNS_UNTIL(turns_is_idle());
    }
}

/* One write of thousands of messages keeps others waiting for one turn, not for its end. */
static void a_flood_of_messages_lets_others_have_their_turns(void **state)
{
    const _Atomic uint64_t *dropped;
    struct turns_caller *flood, *other;

    (void)state;
    dropped = &turns.loop.turn.counters.notifications_dropped;
    flood = turns_connect();
    other = turns_connect();
    turns_notify(flood, "nobody", 15000);
    assert_true(turns_request(other, "$/ping", 1, 1, 1, NULL));
    (void)turns_turn();
    assert_in_range(knit_counter_read(dropped), 1, 14999);
    (void)turns_turn();
    assert_true(turns_read(other));
    assert_int_equal(other->responses, 1);
    TURNS_UNTIL(knit_counter_read(dropped) == 15000);
    assert_null(flood->connection->input.bytes);
    /* It is read again. */
    assert_true(turns_request(flood, "$/ping", 1, 1, 1, NULL));
    turns_expect(flood, 1);
}

static void a_question_that_wants_no_answer_gets_no_work(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    turns_notify(caller, "$/ping", 1);
    /* These would ask the pool, which does not exist here. */
    turns_notify(caller, "$/tasks", 1);
    turns_notify(caller, "$/stats", 1);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.notifications_dropped) == 3);
}

enum { PART_BYTES = 300 * 1024, WAITING_BYTES = 64 * 1024 };

/* The first bytes of a message of 900,000. */
static void send_part(struct turns_caller *caller, size_t len)
{
    static const uint8_t head[] = {
        0x94, 0, 1, 0xa4, 'e', 'c', 'h', 'o', 0x91, 0xc6, 0, 0x0d, 0xbb, 0xa0};
    static const uint8_t zeros[16 * 1024];
    size_t sent = sizeof(head);

    assert_int_equal(send(caller->fd, head, sizeof(head), 0), sizeof(head));
    while (sent < len) {
        ssize_t n = send(caller->fd, zeros, sizeof(zeros), MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        (void)turns_turn();
    }
}

/* The longest message, 1 MiB, is charged for it. */
static void begin_message(struct turns_caller *caller)
{
    send_part(caller, PART_BYTES);
    TURNS_UNTIL(caller->connection->input.charged_bytes == turns.settings.message_max_bytes);
}

static bool waits_for_budget(const struct turns_caller *caller)
{
    return caller->connection->caller.pauses == KNIT_PAUSE_BUDGET;
}

/* A message that does not go on has its tenant's only place; a second one waits until the first has
 * made no progress for a while, or its caller leaves. */
static void messages_that_never_end_do_not_keep_others_out(void **state)
{
    (void)state;
    for (int leaves = 0; leaves <= 1; leaves++) {
        struct turns_caller *first, *second;

        turns_restart();
        turns.settings.input_max_bytes = 4 << 20;
        first = turns_connect();
        second = turns_connect();
        turns.is_fresh = true;
        begin_message(first);
        assert_true(turns_request(second, "echo", 150000, 1, 1, NULL));
        TURNS_UNTIL(waits_for_budget(second));
        assert_int_equal(turns.loop.net.inputs.charged_bytes, 1 << 20);
        turns.is_fresh = false;
        if (leaves) {
            turns_leave(first);
        } else {
            first->connection->input.progress_ns -= UINT64_C(2000000000);
            knit_inputs_sweep(&turns.loop.net);
        }
        turns_expect(second, 1);
        assert_int_equal(second->code, 0);
        assert_int_equal(turns.loop.net.inputs.charged_bytes, 0);
        assert_int_equal(knit_counter_read(&turns.loop.turn.counters.connections_closed), 1);
        assert_int_equal(knit_counter_read(&turns.loop.turn.counters.inputs_dropped), !leaves);
        assert_true(TAILQ_EMPTY(&turns.loop.net.inputs.large));
    }
}

/* Whoever waits for a place of its tenant has no use for what is not in one: calls that wait in a
 * connection that is not read, having too many in flight. */
static void what_is_in_no_place_is_not_closed_for_one(void **state)
{
    struct turns_caller *waiting, *first, *second;

    (void)state;
    turns.settings.input_max_bytes = 5 << 20;
    turns.settings.in_flight_max = 1;
    waiting = turns_connect();
    assert_true(turns_request(waiting, "gate", 1, 1, 2, NULL));
    TURNS_UNTIL(waiting->connection->caller.pauses == KNIT_PAUSE_IN_FLIGHT);
    assert_true(turns_request(waiting, "echo", 1000, 3, 60, NULL));
    TURNS_UNTIL(waiting->connection->input.charged_bytes > 0);
    first = turns_connect();
    begin_message(first);
    waiting->connection->input.progress_ns = 0;
    first->connection->input.progress_ns = 0;
    second = turns_connect();
    begin_message(second);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.inputs_dropped), 1);
    assert_false(turns_read(first));
    turns_open_gate();
    turns_expect(waiting, 62);
}

/* It goes on in the place that it got for the message before. */
static void a_place_serves_for_what_follows_a_message_that_waited(void **state)
{
    struct turns_caller *caller, *other;

    (void)state;
    turns.settings.input_max_bytes = 4 << 20;
    turns.settings.in_flight_max = 1;
    other = turns_connect();
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    assert_true(turns_request(other, "echo", 20000, 1, 1, NULL));
    for (uint32_t i = 0; i < 3; i++)
        assert_true(turns_request(caller, "echo", 50000, 2 + i, 1, NULL));
    TURNS_UNTIL(caller->connection->has_message);
    for (uint32_t i = 0; i < 10; i++)
        (void)turns_turn();
    turns_open_gate();
    turns_expect(caller, 4);
    assert_true(turns_request(caller, "echo", 190000, 9, 1, NULL));
    turns_expect(caller, 5);
    turns_expect(other, 1);
    assert_int_equal(caller->connection->tenant->places, 0);
}

/* What is announced to be short needs no place: it passes beside long ones. */
static void a_short_message_needs_no_place_for_a_long_one(void **state)
{
    struct turns_caller *first, *second, *third;
    struct knit_inputs *inputs = &turns.loop.net.inputs;

    (void)state;
    turns.settings.input_max_bytes = 9 << 20;
    first = turns_connect();
    second = turns_connect();
    third = turns_connect();
    send_part(first, PART_BYTES);
    TURNS_UNTIL(inputs->charged_bytes >= 900000 && !first->connection->input.has_place);
    send_part(second, PART_BYTES);
    TURNS_UNTIL(second->connection->input.has_place);
    assert_int_equal(second->connection->input.charged_bytes, 1 << 20);
    assert_int_equal(second->connection->tenant->places, 1);
    assert_true(turns_request(third, "echo", 150000, 1, 1, NULL));
    turns_expect(third, 1);
    assert_int_equal(third->code, 0);
    turns_leave(first);
    turns_leave(second);
    assert_int_equal(third->connection->tenant->places, 0);
    assert_int_equal(third->connection->tenant->rest_bytes, 0);
}

/* More of a message that was begun, two seconds after what came last. */
static void trickle(struct turns_caller *caller, size_t len)
{
    static const uint8_t zeros[16 * 1024];
    size_t sent = 0;

    caller->connection->input.progress_ns -= UINT64_C(2000000000);
    caller->connection->input.progress_bytes = 0;
    while (sent < len) {
        ssize_t n = send(caller->fd, zeros, sizeof(zeros), MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        (void)turns_turn();
    }
}

/* The rate that keeps a place is a sixteenth of what is charged: one that sends 64 KiB a second and
 * is charged with 4 MiB gives way. */
static void a_trickle_that_is_charged_for_much_gives_way(void **state)
{
    (void)state;
    for (int is_fast = 0; is_fast <= 1; is_fast++) {
        struct turns_caller *caller, *other;

        turns_restart();
        turns.settings.message_max_bytes = 4 << 20;
        turns.settings.input_max_bytes = 16 << 20;
        caller = turns_connect();
        begin_message(caller);
        trickle(caller, is_fast ? 272 * 1024 : 80 * 1024);
        turns.is_fresh = is_fast;
        other = turns_connect();
        assert_true(turns_request(other, "echo", 150000, 1, 1, NULL));
        if (is_fast)
            TURNS_UNTIL(waits_for_budget(other));
        else
            turns_expect(other, 1);
        assert_int_equal(knit_counter_read(&turns.loop.turn.counters.inputs_dropped), !is_fast);
    }
}

/* As if it came from elsewhere. */
static void become_tenant(struct turns_caller *caller, uint64_t key)
{
    struct knit_connection *connection = caller->connection;

    knit_tenant_leave(connection->tenant);
    connection->tenant = knit_tenant_join(&turns.loop.net.inputs.tenants, key);
    assert_non_null(connection->tenant);
    connection->caller.kept_by_tenant = &connection->tenant->kept_bytes;
}

static void a_tenant_holds_a_quarter_and_others_find_room(void **state)
{
    struct turns_caller *first, *second, *other;
    struct knit_inputs *inputs = &turns.loop.net.inputs;

    (void)state;
    turns.is_fresh = true;
    turns.settings.input_max_bytes = 4 << 20;
    first = turns_connect();
    second = turns_connect();
    other = turns_connect();
    assert_ptr_equal(first->connection->tenant, second->connection->tenant);
    become_tenant(other, 1);
    begin_message(first);
    assert_true(turns_request(second, "echo", 150000, 1, 1, NULL));
    TURNS_UNTIL(waits_for_budget(second));
    assert_ptr_equal(TAILQ_FIRST(&inputs->waiting), second->connection->tenant);
    assert_int_equal(inputs->charged_bytes, 1 << 20);
    begin_message(other);
    assert_int_equal(inputs->charged_bytes, 2 << 20);
    /* What another gives back is no use to it. */
    turns_leave(other);
    (void)turns_turn();
    assert_true(waits_for_budget(second));
    turns_leave(first);
    turns_expect(second, 1);
    assert_int_equal(second->code, 0);
    assert_true(TAILQ_EMPTY(&inputs->waiting));
    assert_int_equal(second->connection->tenant->charged_bytes, 0);
}

/* Of results that are kept for references it has a quarter as well, by however many connections. */
static void a_tenant_keeps_a_quarter_and_others_may_too(void **state)
{
    enum { RESULT_BYTES = 100000, KEPT_MAX = 1 << 20, CALLERS = 12 };
    struct knit_options options = knit_options();
    struct turns_caller *callers[CALLERS], *other;
    const size_t *kept;

    (void)state;
    turns.settings.input_max_bytes = 4 * KEPT_MAX;
    options.keep = 1;
    for (size_t i = 0; i < CALLERS; i++)
        callers[i] = turns_connect();
    other = turns_connect();
    become_tenant(other, 1);
    kept = &callers[0]->connection->tenant->kept_bytes;
    for (size_t i = 0; i < CALLERS; i++) {
        assert_true(turns_request(callers[i], "room", RESULT_BYTES, 1, 1, &options));
        turns_expect(callers[i], 1);
    }
    assert_in_range(*kept, 10 * RESULT_BYTES, KEPT_MAX);
    assert_true(turns_request(other, "room", RESULT_BYTES, 1, 1, &options));
    turns_expect(other, 1);
    assert_in_range(other->connection->tenant->kept_bytes, RESULT_BYTES, KEPT_MAX);
    assert_int_equal(
        turns.loop.router.referenced_bytes, *kept + other->connection->tenant->kept_bytes);
    turns_leave(callers[0]);
    assert_in_range(*kept, 9 * RESULT_BYTES, KEPT_MAX - RESULT_BYTES);
}

/* Four tenants hold all of the budget. Of two that wait, the one with more connections gets no more
 * for that. */
static void tenants_that_wait_go_by_turns(void **state)
{
    struct turns_caller *holders[4], *many[2], *one;

    (void)state;
    turns.is_fresh = true;
    turns.settings.input_max_bytes = 4 << 20;
    for (size_t i = 0; i < 4; i++) {
        holders[i] = turns_connect();
        become_tenant(holders[i], 10 + i);
        begin_message(holders[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        many[i] = turns_connect();
        send_part(many[i], WAITING_BYTES);
        TURNS_UNTIL(waits_for_budget(many[i]));
    }
    one = turns_connect();
    become_tenant(one, 1);
    send_part(one, WAITING_BYTES);
    TURNS_UNTIL(waits_for_budget(one));
    turns_leave(holders[0]);
    TURNS_UNTIL(many[0]->connection->input.charged_bytes == 1 << 20);
    assert_true(waits_for_budget(many[1]) && waits_for_budget(one));
    turns_leave(holders[1]);
    TURNS_UNTIL(one->connection->input.charged_bytes == 1 << 20);
    turns_leave(holders[2]);
    (void)turns_turn();
    assert_true(waits_for_budget(many[1]));
    turns_leave(many[0]);
    TURNS_UNTIL(many[1]->connection->input.charged_bytes == 1 << 20);
}

static void a_message_must_be_whole_within_message_max_s(void **state)
{
    struct turns_caller *caller;
    uint64_t most_ns;

    (void)state;
    most_ns = turns.settings.message_max_s * UINT64_C(1000000000);
    assert_int_equal(most_ns, UINT64_C(120000000000));
    caller = turns_connect();
    send_part(caller, PART_BYTES);
    TURNS_UNTIL(caller->connection->input.charged_bytes > 0);
    assert_true(turns.loop.turn.needs_sweep);
    caller->connection->input.began_ns -= most_ns - UINT64_C(60000000000);
    knit_connections_sweep(&turns.loop.net);
    assert_true(turns_read(caller));
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.inputs_dropped), 0);
    caller->connection->input.began_ns -= UINT64_C(60000000000);
    knit_connections_sweep(&turns.loop.net);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.inputs_dropped), 1);
    TURNS_UNTIL(!turns_read(caller));
}

/* The stream ends after the last answer, and what the caller still sends does not reset it. */
static void a_stream_without_boundaries_ends(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "echo", 10, 1, 1, NULL));
    turns_expect(caller, 1);
    assert_int_equal(send(caller->fd, "\xc1\xc1\xc1", 3, 0), 3);
    TURNS_UNTIL(!turns_read(caller));
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.messages_bad), 1);
    assert_int_equal(send(caller->fd, "more", 4, MSG_NOSIGNAL), 4);
}

static void a_msgid_twice_in_flight_ends_the_stream_and_the_calls(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 7, 1, NULL));
    assert_true(turns_request(caller, "echo", 1, 7, 1, NULL));
    TURNS_UNTIL(!turns_read(caller));
    assert_int_equal(caller->responses, 1);
    assert_int_equal(caller->code, KNIT_BAD_MESSAGE);
    turns_leave(caller);
    TURNS_UNTIL(turns_is_idle());
}

/* Also a request that is refused before its method is read; and the call that has the msgid does
 * not answer after the error. */
static void a_msgid_twice_in_flight_gets_one_response(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 3000; len += 2999) {
        struct turns_caller *caller;

        turns_restart();
        turns.settings.message_max_bytes = 1000;
        caller = turns_connect();
        assert_true(turns_request(caller, "gate", 1, 7, 1, NULL));
        TURNS_UNTIL(turns_is_at_gate());
        assert_true(turns_request(caller, "gate", len, 7, 1, NULL));
        TURNS_UNTIL(!turns_read(caller));
        /* The gate stays shut. */
        TURNS_UNTIL(turns_is_idle());
        assert_int_equal(caller->responses, 1);
        assert_int_equal(caller->code, KNIT_BAD_MESSAGE);
    }
}

static bool fails_next;

static void *allocate(size_t size)
{
    bool fails = fails_next;

    fails_next = false;
    return fails ? NULL : malloc(size);
}

/* The next allocation for output fails: all stages are taken, so it is libevent's. */
static void fail_next(void)
{
    turns.loop.net.stages.count = KNIT_STAGES_MAX;
    event_set_mem_functions(allocate, realloc, free);
    fails_next = true;
}

/* It is closed, and those behind it in the list are told. */
static void a_connection_without_memory_for_its_goaway_keeps_it_from_no_other(void **state)
{
    struct turns_caller *callers[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        callers[i] = turns_connect();
        callers[i]->connection->caller.form = KNIT_FAILURE_FULL;
    }
    fail_next();
    knit_connections_drain(&turns.loop.net, 1000);
    assert_false(fails_next);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(callers[i]->connection->is_dead, i == 0);
    assert_true(callers[1]->connection->has_goaway);
    assert_true(callers[2]->connection->has_goaway);
    assert_false(turns_turn() && turns_read(callers[0]));
}

/* The last message of its slice ends it: it does not go on in the next turn. */
static void a_connection_that_ends_when_its_time_is_over_is_in_no_list(void **state)
{
    struct turns_caller *caller, *other;

    (void)state;
    caller = turns_connect();
    other = turns_connect();
    turns_notify(caller, "nobody", 7);
    assert_true(turns_request(caller, "$/ping", 1, 1, 1, NULL));
    /* With another one that waits for its turn, a connection has its slice and no more. */
    knit_net_add_ready(other->connection);
    turns.loop.net.slice_ns = 0;
    fail_next();
    (void)event_base_loop(turns.loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_true(caller->connection->is_dead);
    assert_int_equal(caller->connection->lists, 0);
    assert_false(turns_turn() && turns_read(caller));
}

/* Its peer sees the end and no more. */
static void a_connection_without_memory_for_its_output_is_closed_and_the_log_says_so(void **state)
{
    struct turns_caller *caller = turns_connect();
    char text[1024];
    int fds[2];
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    turns.log.fd = fds[1];
    fail_next();
    assert_true(turns_request(caller, "$/ping", 1, 1, 1, NULL));
    TURNS_UNTIL(!turns_read(caller));
    assert_int_equal(caller->responses, 0);
    n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "level=error msg=\"connection closed: out of memory\""));
    assert_non_null(strstr(text, "peer="));
    turns.log.fd = STDERR_FILENO;
    assert_int_equal(close(fds[0]) + close(fds[1]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_message_may_come_byte_by_byte),
        TURNS_TEST(a_large_message_is_read_into_its_own_memory),
        TURNS_TEST(calls_beyond_in_flight_max_wait_in_the_socket),
        TURNS_TEST(a_message_that_is_too_large_is_refused_and_the_next_one_served),
        TURNS_TEST(the_end_of_the_callers_stream_aborts_its_calls),
        TURNS_TEST(a_peer_that_leaves_while_it_is_not_read_is_noticed),
        TURNS_TEST(a_flood_of_messages_lets_others_have_their_turns),
        TURNS_TEST(a_question_that_wants_no_answer_gets_no_work),
        TURNS_TEST(messages_that_never_end_do_not_keep_others_out),
        TURNS_TEST(a_trickle_that_is_charged_for_much_gives_way),
        TURNS_TEST(what_is_in_no_place_is_not_closed_for_one),
        TURNS_TEST(a_place_serves_for_what_follows_a_message_that_waited),
        TURNS_TEST(a_short_message_needs_no_place_for_a_long_one),
        TURNS_TEST(a_tenant_holds_a_quarter_and_others_find_room),
        TURNS_TEST(a_tenant_keeps_a_quarter_and_others_may_too),
        TURNS_TEST(tenants_that_wait_go_by_turns),
        TURNS_TEST(a_message_must_be_whole_within_message_max_s),
        TURNS_TEST(a_stream_without_boundaries_ends),
        TURNS_TEST(a_msgid_twice_in_flight_ends_the_stream_and_the_calls),
        TURNS_TEST(a_msgid_twice_in_flight_gets_one_response),
        TURNS_TEST(a_connection_without_memory_for_its_goaway_keeps_it_from_no_other),
        TURNS_TEST(a_connection_that_ends_when_its_time_is_over_is_in_no_list),
        TURNS_TEST(a_connection_without_memory_for_its_output_is_closed_and_the_log_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
