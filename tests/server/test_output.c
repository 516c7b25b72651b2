/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that are slow, or do not read at all: whose memory that costs, and that no reply is lost;
 * and where the replies of a turn are gathered.
 * On a loop whose turns the test makes (turns.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#include "fastpath/lane/session_private.h"
#include "tests/server/turns.h"

/* Slots whose outcome lies in some connection's output. */
static uint32_t pinned(void)
{
    return TURNS_SLOTS - knit_session_slots_free(turns.session.session) -
           turns.loop.router.outstanding;
}

static void narrow(struct turns_caller *caller)
{
    int bytes = 4096;

    assert_int_equal(
        setsockopt(caller->connection->transport.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)),
        0);
}

static void a_slow_reader_is_not_read_until_it_reads(void **state)
{
    enum { CALLS = 200 };
    struct turns_caller *caller;
    uint32_t sent = 0;

    (void)state;
    turns.settings.output_max_bytes = 64 * 1024;
    caller = turns_connect();
    narrow(caller);
    while (!(caller->connection->caller.pauses & KNIT_PAUSE_OUTPUT)) {
        assert_true(sent < CALLS);
        assert_true(turns_request(caller, "echo", 4000, ++sent, 1, NULL));
        TURNS_UNTIL(turns_is_idle());
    }
    assert_true(sent >= 64 * 1024 / 4100);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.waits_for_reader), 1);
    /* One more message stays in the socket. */
    assert_true(turns_request(caller, "echo", 10, ++sent, 1, NULL));
    for (int i = 0; i < 20; i++)
        (void)turns_turn();
    assert_true(turns_is_idle());
    assert_int_equal(caller->connection->caller.calls.count, 0);
    turns_expect(caller, sent);
    assert_int_equal(caller->connection->caller.pauses, 0);
    assert_int_equal(knit_output_waiting(caller->connection), 0);
}

/* A large result is not copied: it keeps its slot and its block, which count as the connection's,
 * until its last byte has left. */
static void large_results_stay_in_the_arena_until_they_are_written(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    narrow(caller);
    assert_true(turns_request(caller, "room", 32 * 1024, 1, 4, NULL));
    TURNS_UNTIL(pinned() == 4);
    assert_int_equal(caller->connection->caller.account.slots, 4);
    assert_int_equal(caller->connection->caller.calls.count, 0);
    assert_int_equal(turns.loop.router.outstanding, 0);
    turns_expect(caller, 4);
    assert_int_equal(pinned(), 0);
    assert_int_equal(turns.loop.net.pinned_bytes, 0);
    assert_int_equal(caller->connection->caller.account.slots, 0);
    assert_int_equal(caller->connection->pinned_bytes, 0);
}

/* Beyond its share of the arena its results are copied. */
static void one_reader_pins_an_eighth_of_the_arena(void **state)
{
    enum { LEN = 128 * 1024, CALLS = 16 };
    struct turns_caller *caller;

    (void)state;
    turns.settings.output_max_bytes = 16 << 20;
    caller = turns_connect();
    narrow(caller);
    for (uint32_t i = 0; i < CALLS; i++) {
        assert_true(turns_request(caller, "room", LEN, i, 1, NULL));
        TURNS_UNTIL(knit_output_waiting(caller->connection) > i * LEN);
    }
    assert_true(caller->connection->pinned_bytes <= TURNS_ARENA_BYTES / 8);
    assert_true(caller->connection->pinned_bytes > 0);
    turns_expect(caller, CALLS);
}

static void a_reader_that_leaves_gives_its_slots_back(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    narrow(caller);
    assert_true(turns_request(caller, "room", 32 * 1024, 1, 6, NULL));
    TURNS_UNTIL(pinned() == 6);
    turns_leave(caller);
    assert_int_equal(pinned(), 0);
    assert_true(turns_is_idle());
}

/* A reader that does not read is dropped when the arena gets full, one that reads is not. */
static void readers_that_fill_the_arena_make_room(void **state)
{
    enum { LEN = 128 * 1024, CALLS = 200 };
    struct turns_caller *deaf, *slow;

    (void)state;
    turns.settings.output_max_bytes = 64 << 20;
    deaf = turns_connect();
    slow = turns_connect();
    narrow(deaf);
    narrow(slow);
    assert_true(turns_request(slow, "room", 64 * 1024, 1, 1, NULL));
    TURNS_UNTIL(pinned() == 1);
    for (uint32_t i = 0; turns.loop.net.pinned_bytes <= TURNS_ARENA_BYTES / 2; i++) {
        size_t waiting = knit_output_waiting(deaf->connection);

        assert_true(i < CALLS);
        assert_true(turns_request(deaf, "room", LEN, i, 1, NULL));
        TURNS_UNTIL(knit_output_waiting(deaf->connection) > waiting);
    }
    deaf->connection->moved_ns = slow->connection->moved_ns = turns.loop.turn.now_ns;
    knit_output_make_room(&turns.loop.net);
    assert_false(deaf->connection->is_dead);
    /* Dropping the first one frees enough. */
    deaf->connection->moved_ns -= 1000000000;
    slow->connection->moved_ns -= 1000000000;
    knit_output_make_room(&turns.loop.net);
    assert_true(deaf->connection->is_dead);
    assert_false(slow->connection->is_dead);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.readers_dropped), 1);
    turns_leave(deaf);
    assert_int_equal(pinned(), 1);
    turns_expect(slow, 1);
}

static uint64_t answered(void)
{
    return knit_counter_read(&turns.loop.turn.counters.calls_answered);
}

static void call_one(struct turns_caller *caller, const char *task, size_t len, uint32_t msgid)
{
    uint64_t before = answered();

    assert_true(turns_request(caller, task, len, msgid, 1, NULL));
    TURNS_UNTIL(answered() > before);
}

/* The limit is for all readers together; beyond it also small results stay in the arena. */
static void readers_together_have_so_much_copied(void **state)
{
    enum { LEN = 15 * 1000, EACH = 4, CALLERS = 40, TOTAL = 1 << 20 };
    struct turns_caller *callers[CALLERS];
    int count = 0;

    (void)state;
    turns.settings.output_total_max_bytes = TOTAL;
    while (pinned() == 0) {
        assert_true(count < CALLERS);
        callers[count] = turns_connect();
        narrow(callers[count]);
        for (uint32_t i = 0; i < EACH; i++)
            call_one(callers[count], "room", LEN, i);
        count++;
        assert_true(turns.loop.net.copied_bytes <= TOTAL);
    }
    assert_true(turns.loop.net.copied_bytes + 2 * LEN > TOTAL);
    while (count-- > 0) {
        turns_expect(callers[count], EACH);
        turns_leave(callers[count]);
    }
    assert_int_equal(turns.loop.net.copied_bytes, 0);
    assert_int_equal(pinned(), 0);
}

/* Beyond half of that a reader that reads nothing is dropped; the requests of a slow one wait. */
static void readers_that_have_much_copied_make_room(void **state)
{
    enum { LEN = 128 * 1024 };
    struct turns_caller *deaf, *slow;
    uint32_t sent = 0, asked;

    (void)state;
    turns.settings.output_max_bytes = 64 << 20;
    turns.settings.output_total_max_bytes = 1 << 20;
    deaf = turns_connect();
    slow = turns_connect();
    narrow(deaf);
    narrow(slow);
    while (turns.loop.net.copied_bytes <= 1 << 19)
        call_one(deaf, "room", LEN, ++sent);
    for (asked = 1; !(slow->connection->caller.pauses & KNIT_PAUSE_OUTPUT); asked++)
        call_one(slow, "echo", 4000, asked);
    assert_in_range(knit_output_waiting(slow->connection), 64 * 1024, 80 * 1024);
    deaf->connection->moved_ns = slow->connection->moved_ns = turns.loop.turn.now_ns;
    knit_output_make_room(&turns.loop.net);
    assert_false(deaf->connection->is_dead);
    deaf->connection->moved_ns -= 1000000000;
    slow->connection->moved_ns -= 1000000000;
    knit_output_make_room(&turns.loop.net);
    assert_true(deaf->connection->is_dead);
    assert_false(slow->connection->is_dead);
    turns_leave(deaf);
    assert_true(turns_request(slow, "echo", 4000, asked, 1, NULL));
    turns_expect(slow, asked);
    assert_int_equal(slow->connection->caller.pauses, 0);
    assert_int_equal(turns.loop.net.copied_bytes, 0);
}

/* Beside what any of those holds that are left, a reader that was dropped held no less than half;
 * and without the one that held least there would not be room. */
static void expect_the_worst_dropped(
    struct turns_caller *const *callers, const size_t *held, uint32_t count, size_t before_bytes)
{
    size_t room = turns.settings.output_total_max_bytes / 2, most_left = 0, least = SIZE_MAX;
    size_t left_bytes = before_bytes;

    for (uint32_t i = 0; i < count; i++) {
        if (!callers[i]->connection->is_dead) {
            most_left = held[i] > most_left ? held[i] : most_left;
            continue;
        }
        least = held[i] < least ? held[i] : least;
        left_bytes -= held[i];
    }
    assert_int_equal(turns.loop.net.copied_bytes, left_bytes);
    assert_true(left_bytes <= room);
    assert_true(least * 2 >= most_left);
    assert_true(left_bytes + least > room);
}

static void of_many_readers_that_do_not_read_the_worst_make_room(void **state)
{
    enum { LEN = 15 * 1000, CALLERS = 20 };
    static const uint32_t replies[CALLERS] = {4, 1, 8, 2, 8, 1, 4, 2}; /* the others have one */
    struct turns_caller *callers[CALLERS];
    size_t held[CALLERS], before_bytes;

    (void)state;
    turns.settings.output_total_max_bytes = 4 << 20;
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = turns_connect();
        narrow(callers[i]);
        for (uint32_t id = 0; id < replies[i] || id == 0; id++)
            call_one(callers[i], "room", LEN, id);
        callers[i]->connection->moved_ns -= 1000000000;
        held[i] = callers[i]->connection->copied_bytes;
    }
    before_bytes = turns.loop.net.copied_bytes;
    for (size_t total = before_bytes * 2; total > 65536; total /= 2) {
        turns.settings.output_total_max_bytes = total - 2;
        knit_output_make_room(&turns.loop.net);
        expect_the_worst_dropped(callers, held, CALLERS, before_bytes);
    }
    for (uint32_t i = 0; i < CALLERS; i++)
        turns_leave(callers[i]);
}

/* What a task attached to its error costs the loop what it would cost as a result. */
static void the_data_of_a_long_error_is_not_read(void **state)
{
    enum { DATA_BYTES = 4 << 20, BOUND_US = 50000 }; /* ten times what copying it takes at worst */
    static const uint8_t array[] = {0xdd, 0, DATA_BYTES >> 16, 0, 0};
    uint8_t *data = calloc(1, sizeof(array) + DATA_BYTES);
    struct knit_session_outcome outcome = {.status = KNIT_STATUS_ERROR};
    struct timespec began, ended;
    struct turns_caller *caller;
    struct knit_buffer error;

    (void)state;
    memcpy(data, array, sizeof(array));
    knit_buffer_init(&error, 2 * DATA_BYTES);
    assert_int_equal(knit_failure_put_task(&error, 1, knit_span_text("long"),
                         knit_span(data, sizeof(array) + DATA_BYTES)),
        0);
    outcome.payload = error.bytes;
    outcome.len = error.len;
    caller = turns_connect();
    caller->connection->caller.form = KNIT_FAILURE_FULL;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began), 0);
    knit_output_outcome(caller->connection, 1, &outcome);
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended), 0);
    print_message("an error of 4 M integers: %ld us\n",
        (ended.tv_sec - began.tv_sec) * 1000000 + (ended.tv_nsec - began.tv_nsec) / 1000);
    assert_true((ended.tv_sec - began.tv_sec) * 1000000 + (ended.tv_nsec - began.tv_nsec) / 1000 <
                BOUND_US);
    assert_true(knit_output_waiting(caller->connection) > DATA_BYTES);
    TURNS_UNTIL(!(turns_read(caller) && caller->responses == 0));
    knit_buffer_fini(&error);
    free(data);
}

/* ---- stages ---- */

static struct {
    const struct knit_transport_ops *real;
    unsigned pieces, buffers; /* sent */
} sends;

static enum knit_transport_result count_piece(
    struct knit_transport *transport, struct knit_span bytes, size_t *ret_len)
{
    sends.pieces++;
    return sends.real->send_bytes(transport, bytes, ret_len);
}

static enum knit_transport_result count_buffer(
    struct knit_transport *transport, struct evbuffer *output, size_t *ret_len)
{
    sends.buffers++;
    return sends.real->send(transport, output, ret_len);
}

static struct turns_caller *connect_counted(void)
{
    static struct knit_transport_ops ops;
    struct turns_caller *caller = turns_connect();

    memset(&sends, 0, sizeof(sends));
    sends.real = caller->connection->transport.ops;
    ops = *sends.real;
    ops.send_bytes = count_piece;
    ops.send = count_buffer;
    caller->connection->transport.ops = &ops;
    return caller;
}

static void replies_of_a_turn_leave_in_one_send(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = connect_counted();
    for (unsigned i = 0; i < 3; i++) {
        assert_true(turns_request(caller, "$/ping", 1, 20 * i, 20, NULL));
        turns_expect(caller, 20 * (i + 1));
    }
    assert_int_equal(sends.pieces, 3);
    assert_int_equal(sends.buffers, 0);
    assert_null(caller->connection->output);
    assert_int_equal(turns.loop.net.stages.count, 1);
}

/* Those of a hundred bytes find the stage nearly full, and the last reply goes behind what had no
 * place there. A turn that loses its core ends before it has filled the stage: then once more. */
static void replies_that_fill_the_stage_keep_their_order(void **state)
{
    enum { CALLS = 30, ROOM_LEFT = 700, TRIES = 100 };
    const struct knit_span response = {(const uint8_t *)"\x94\x01\x7f\xc0\xc0", 5};
    struct turns_caller *caller;
    uint32_t last = 0;

    (void)state;
    caller = connect_counted();
    for (int i = 0; i < TRIES && sends.buffers == 0; i++) {
        for (; knit_output_waiting(caller->connection) + ROOM_LEFT < KNIT_STAGE_BYTES; last++)
            knit_output_message(caller->connection, response);
        assert_int_equal(sends.buffers, 0);
        assert_true(turns_request(
            caller, "a_task_of_a_name_that_nobody_has_given", 1, last + 1, CALLS, NULL));
        last += CALLS + 1;
        assert_true(turns_request(caller, "$/ping", 1, last, 1, NULL));
        turns_expect(caller, last);
        assert_int_equal(caller->msgid, last);
    }
    assert_true(sends.buffers > 0);
    assert_int_equal(knit_output_waiting(caller->connection), 0);
}

static bool are_answered(uint32_t count)
{
    uint32_t answered = 0;

    for (uint32_t slot = 0; slot < TURNS_SLOTS; slot++)
        answered += knit_session_is_pending(turns.session.session, slot) &&
                    knit_session_is_answered(turns.session.session, slot);
    return answered == count;
}

/* Results that find the stage nearly full: it is sent, and they go on in an empty one. */
static void results_that_fill_the_stage_go_on_in_the_next(void **state)
{
    enum { CALLS = 30, ROOM_LEFT = 700 };
    const struct knit_span response = {(const uint8_t *)"\x94\x01\x7f\xc0\xc0", 5};
    struct turns_caller *caller;

    (void)state;
    caller = connect_counted();
    assert_true(turns_request(caller, "echo", 90, 1, CALLS, NULL));
    (void)event_base_loop(turns.loop.base, EVLOOP_ONCE);
    knit_session_flush(turns.session.session);
    assert_true(KNIT_WAIT_UNTIL(are_answered(CALLS), 10000));
    while (knit_output_waiting(caller->connection) + ROOM_LEFT < KNIT_STAGE_BYTES)
        knit_output_message(caller->connection, response);
    assert_int_equal(sends.pieces, 0);
    (void)turns_turn();
    assert_int_equal(sends.pieces, 2);
    assert_int_equal(sends.buffers, 0);
    assert_true(turns_read(caller));
    assert_int_equal(caller->msgid, CALLS);
    assert_int_equal(caller->result_len, 1 + 2 + 90);
    assert_int_equal(knit_counter_read(&turns.loop.turn.counters.calls_answered), CALLS);
    assert_true(turns_is_idle());
}

/* What the socket does not take waits in the evbuffer, and others have the stage meanwhile. */
static void a_full_socket_keeps_no_stage(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    narrow(caller);
    for (uint32_t i = 0; knit_output_waiting(caller->connection) == 0; i++) {
        assert_true(i < 100);
        assert_true(turns_request(caller, "$/ping", 1, 100 * i, 100, NULL));
        for (int turn = 0; turn < 4; turn++)
            (void)turns_turn();
    }
    assert_null(caller->connection->caller.stage);
    assert_non_null(turns.loop.net.stages.spare);
    TURNS_UNTIL(turns_read(caller) && knit_output_waiting(caller->connection) == 0);
}

static void more_connections_than_stages_are_answered_in_one_turn(void **state)
{
    enum { CALLERS = KNIT_STAGES_MAX + 16 };
    struct turns_caller *callers[CALLERS];

    (void)state;
    for (unsigned i = 0; i < CALLERS; i++)
        callers[i] = turns_connect();
    for (unsigned i = 0; i < CALLERS; i++)
        assert_true(turns_request(callers[i], "$/ping", 1, i, 1, NULL));
    for (unsigned i = 0; i < CALLERS; i++)
        turns_expect(callers[i], 1);
    assert_true(turns.loop.net.stages.count > 1);
    assert_true(turns.loop.net.stages.count <= KNIT_STAGES_MAX);
}

static void who_leaves_gives_its_stage_back(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = turns_connect();
    assert_true(turns_request(caller, "$/ping", 1, 1, 1, NULL));
    (void)event_base_loop(turns.loop.base, EVLOOP_ONCE);
    assert_non_null(caller->connection->caller.stage);
    knit_connection_close(caller->connection);
    assert_null(caller->connection->caller.stage);
    assert_non_null(turns.loop.net.stages.spare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_slow_reader_is_not_read_until_it_reads),
        TURNS_TEST(large_results_stay_in_the_arena_until_they_are_written),
        TURNS_TEST(one_reader_pins_an_eighth_of_the_arena),
        TURNS_TEST(readers_that_fill_the_arena_make_room),
        TURNS_TEST(a_reader_that_leaves_gives_its_slots_back),
        TURNS_TEST(readers_together_have_so_much_copied),
        TURNS_TEST(readers_that_have_much_copied_make_room),
        TURNS_TEST(of_many_readers_that_do_not_read_the_worst_make_room),
        TURNS_TEST(the_data_of_a_long_error_is_not_read),
        TURNS_TEST(replies_of_a_turn_leave_in_one_send),
        TURNS_TEST(replies_that_fill_the_stage_keep_their_order),
        TURNS_TEST(results_that_fill_the_stage_go_on_in_the_next),
        TURNS_TEST(a_full_socket_keeps_no_stage),
        TURNS_TEST(more_connections_than_stages_are_answered_in_one_turn),
        TURNS_TEST(who_leaves_gives_its_stage_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
