/* SPDX-License-Identifier: Apache-2.0 */
/* How long a turn takes while connections send what is costly, and who goes first in it. Time is
 * the processor time of the thread, so that a busy machine changes nothing.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "proto/writer.h"
#include "server/net/lookahead.h"
#include "tests/server/turns.h"

enum {
    FLOODS = 60,
    PAIRS = 2000,                     /* of a `$/hello` that takes some ten microseconds */
    HELLOS = 8,                       /* in one write */
    WAITING = 900,                    /* calls that wait, of each connection */
    TURN_BOUND_NS = 10 * 1000 * 1000, /* ten times the time a turn has for input */
};

static uint64_t processor_ns(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void put_hello(struct knit_buffer *buffer, uint32_t msgid)
{
    const struct knit_method method = {.name = knit_span_text("$/hello")};
    struct knit_buffer params;
    struct knit_writer writer;

    knit_buffer_init(&params, 1 << 20);
    knit_writer_init(&writer, &params);
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, PAIRS + 1);
    for (uint32_t i = 0; i < PAIRS; i++) {
        knit_writer_text(&writer, "x");
        knit_writer_uint(&writer, i);
    }
    knit_writer_text(&writer, "name");
    knit_writer_text(&writer, "flood");
    assert_int_equal(knit_writer_end(&writer), 0);
    assert_int_equal(
        knit_message_put_request(buffer, msgid, &method, knit_buffer_span(&params), NULL), 0);
    knit_buffer_fini(&params);
}

/* As much as its socket takes. */
static void flood(struct turns_caller *caller)
{
    struct knit_buffer buffer;

    knit_buffer_init(&buffer, 1 << 20);
    for (uint32_t i = 0; i < HELLOS; i++)
        put_hello(&buffer, i);
    assert_int_equal(send(caller->fd, buffer.bytes, buffer.len, MSG_NOSIGNAL), buffer.len);
    knit_buffer_fini(&buffer);
}

static uint64_t turn_ns(void)
{
    uint64_t began_ns = processor_ns();

    (void)turns_turn();
    return processor_ns() - began_ns;
}

static void a_turn_is_as_short_for_many_floods_as_for_one(void **state)
{
    struct turns_caller *callers[FLOODS];
    uint64_t longest_ns = 0;
    uint32_t turns_made = 0;

    (void)state;
    for (size_t i = 0; i < FLOODS; i++) {
        callers[i] = turns_connect();
        flood(callers[i]);
    }
    for (size_t i = 0; i < FLOODS;) {
        uint64_t took_ns = turn_ns();

        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        turns_made++;
        while (i < FLOODS && turns_read(callers[i]) && callers[i]->responses == HELLOS)
            i++;
        assert_true(turns_made < 100000);
    }
    print_message(
        "%u turns, the longest %llu us\n", turns_made, (unsigned long long)longest_ns / 1000);
    assert_true(turns_made > 1);
    assert_true(longest_ns < knit_deadline_stretched_ns(TURN_BOUND_NS));
}

/* Sends all of it, with turns in between. Returns how long the longest took. */
static uint64_t longest_turn_ns(struct turns_caller *caller, const struct knit_buffer *message)
{
    uint64_t longest_ns = 0;
    size_t sent = 0;

    for (uint32_t i = 0; sent < message->len || caller->responses == 0; i++) {
        ssize_t n = send(caller->fd, message->bytes + sent, message->len - sent, MSG_NOSIGNAL);
        uint64_t took_ns = turn_ns();

        sent += n > 0 ? (size_t)n : 0;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        assert_true(turns_read(caller));
        assert_true(i < 1000000);
    }
    return longest_ns;
}

static void no_message_makes_a_turn_long(void **state)
{
    enum { INTEGERS = 8000000 };
    static const struct {
        const char *what, *head; /* of the message, before an array or map */
        uint8_t container;
    } cases[] = {{"options of 4 M pairs",
                     "\x95\x00\x01\xa4"
                     "echo\x90",
                     0xdf},
        {"$/hello with 4 M pairs", "\x94\x00\x01\xa7$/hello\x91", 0xdf},
        {"$/tasks with 8 M integers", "\x94\x00\x01\xa7$/tasks", 0xdd},
        {"$/ping with 8 M integers", "\x94\x00\x01\xa6$/ping", 0xdd},
        {"echo of 8 M integers",
            "\x94\x00\x01\xa4"
            "echo\x91",
            0xdd}};
    uint8_t *zeros = calloc(1, INTEGERS);

    (void)state;
    assert_non_null(zeros);
    turns.settings.message_max_bytes = 16 << 20;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t count = cases[i].container == 0xdf ? INTEGERS / 2 : INTEGERS;
        const uint8_t container[] = {cases[i].container, (uint8_t)(count >> 24),
            (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count};
        struct knit_buffer message;
        uint64_t took_ns;

        knit_buffer_init(&message, 16 << 20);
        knit_buffer_append(&message, cases[i].head, 4);
        knit_buffer_append(&message, cases[i].head + 4, strlen(cases[i].head + 4));
        knit_buffer_append(&message, container, sizeof(container));
        assert_int_equal(knit_buffer_append(&message, zeros, INTEGERS), 0);
        took_ns = longest_turn_ns(turns_connect(), &message);
        print_message(
            "%s: the longest turn %llu us\n", cases[i].what, (unsigned long long)took_ns / 1000);
        assert_true(took_ns < knit_deadline_stretched_ns(TURN_BOUND_NS));
        knit_buffer_fini(&message);
    }
    free(zeros);
}

/* Connections that wait, and have much behind what waits. */
static void looking_ahead_makes_no_turn_long(void **state)
{
    enum { AHEAD = 100, INTEGERS = 60000, MESSAGES = 3 };
    struct turns_caller *callers[AHEAD];
    uint8_t *zeros = calloc(1, INTEGERS);
    uint64_t longest_ns = 0;
    struct knit_buffer message;

    (void)state;
    assert_non_null(zeros);
    turns.settings.in_flight_max = 1;
    knit_buffer_init(&message, 1 << 20);
    for (unsigned i = 0; i < MESSAGES; i++) {
        knit_buffer_append(&message, "\x94\x00", 2);
        knit_buffer_append(&message, &(uint8_t){(uint8_t)(10 + i)}, 1);
        knit_buffer_append(&message,
            "\xa4"
            "echo\x91\xdc\xea\x60",
            9);
        assert_int_equal(knit_buffer_append(&message, zeros, INTEGERS), 0);
    }
    for (size_t i = 0; i < AHEAD; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "gate", 1, 1, 2, NULL));
    }
    TURNS_UNTIL(turns_is_at_gate());
    for (size_t i = 0; i < AHEAD; i++)
        assert_int_equal(
            send(callers[i]->fd, message.bytes, message.len, MSG_NOSIGNAL), (ssize_t)message.len);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t took_ns = turn_ns();

        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
    }
    print_message(
        "looking ahead: the longest turn %llu us\n", (unsigned long long)longest_ns / 1000);
    assert_true(longest_ns < knit_deadline_stretched_ns(TURN_BOUND_NS));
    turns_open_gate();
    for (size_t i = 0; i < AHEAD; i++)
        turns_expect(callers[i], 2 + MESSAGES);
    knit_buffer_fini(&message);
    free(zeros);
}

/* A TCP connection takes megabytes in one go. */
static int connect_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;
    socklen_t size = sizeof(address);

    assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listen_fd, 1), 0);
    assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    accepted = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(accepted >= 0);
    close(listen_fd);
    assert_int_equal(
        knit_connection_open(&turns.loop.net, knit_transport_plain(accepted, false, NULL)), 0);
    return fd;
}

static void large_replies_make_no_turn_long(void **state)
{
    enum { READERS = 32, REPLY_BYTES = 4 << 20 };
    uint8_t *zeros = calloc(1, REPLY_BYTES), *room = malloc(REPLY_BYTES);
    struct knit_connection *connection;
    uint64_t longest_ns = 0;
    size_t left = READERS;
    int fds[READERS];

    (void)state;
    assert_true(zeros != NULL && room != NULL);
    turns.settings.output_total_max_bytes = UINT64_C(1) << 30;
    for (size_t i = 0; i < READERS; i++) {
        fds[i] = connect_tcp();
        connection = TAILQ_LAST(&turns.loop.net.connections, knit_connection_list);
        /* Of different sizes, so that their memory is not freed in one turn. */
        knit_output_result(connection, 1, knit_span(zeros, REPLY_BYTES - i * REPLY_BYTES / 64));
    }
    while (left > 0) {
        uint64_t took_ns = turn_ns();

        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        left = 0;
        TAILQ_FOREACH(connection, &turns.loop.net.connections, in_all)
        left += knit_output_waiting(connection) > 0;
        for (size_t i = 0; i < READERS; i++)
            while (recv(fds[i], room, REPLY_BYTES, MSG_DONTWAIT) > 0)
                ;
    }
    print_message(
        "large replies: the longest turn %llu us\n", (unsigned long long)longest_ns / 1000);
    assert_true(longest_ns < knit_deadline_stretched_ns(TURN_BOUND_NS));
    for (size_t i = 0; i < READERS; i++)
        close(fds[i]);
    TURNS_UNTIL(TAILQ_EMPTY(&turns.loop.net.connections));
    free(zeros);
    free(room);
}

/* However many have been accepted meanwhile. */
static void a_flood_of_connections_is_opened_in_many_turns(void **state)
{
    enum { FLOOD = 2 * KNIT_LOOP_MESSAGES_A_TURN };
    struct knit_loop *loop = &turns.loop;
    int fds[FLOOD][2];

    (void)state;
    assert_int_equal(knit_mailbox_open(&loop->inbox), 0);
    for (size_t i = 0; i < FLOOD; i++) {
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds[i]), 0);
        assert_true(knit_loop_send(
            loop, (struct knit_mailbox_message){KNIT_MAILBOX_CONNECTION, fds[i][0], 1}));
    }
    for (size_t opened = 0; opened < FLOOD;) {
        knit_loop_read_inbox(loop);
        opened += KNIT_LOOP_MESSAGES_A_TURN;
        assert_int_equal(knit_counter_read(&loop->turn.counters.connections_accepted), opened);
    }
    for (size_t i = 0; i < FLOOD; i++)
        close(fds[i][1]);
    TURNS_UNTIL(TAILQ_EMPTY(&loop->net.connections));
    knit_mailbox_close(&loop->inbox);
}

static void put_zeros(struct knit_buffer *buffer, size_t count)
{
    while (count-- > 0)
        knit_buffer_append(buffer, "", 1);
}

/* A call whose arguments need room, with as many options as there may be, all of small values.
 * number: of its key; 0: it has none. */
static void put_costly_call(struct knit_buffer *buffer, uint8_t number)
{
    enum { INTEGERS = 0x60000, VALUES = 0x74 };
    const uint8_t key[] = {0xa3, 'k', 'e', 'y', 0xa2, 'n', number};

    knit_buffer_append(buffer, "\x95\x00\x01\xa4", 4);
    knit_buffer_append(buffer, "echo\x91\xdd\x00\x06\x00\x00", 10);
    put_zeros(buffer, INTEGERS);
    knit_buffer_append(buffer, "\xde\x00\x20", 3);
    if (number != 0)
        knit_buffer_append(buffer, key, sizeof(key));
    for (uint32_t i = number != 0; i < KNIT_OPTIONS_PAIRS_MAX; i++) {
        knit_buffer_append(buffer, "\xa1k\xdc\x00\x74", 5);
        put_zeros(buffer, VALUES);
    }
    assert_int_equal(buffer->error, 0);
}

/* Connects, sends such a call, and waits until it has been read. */
static struct turns_caller *send_costly_call(uint8_t number)
{
    struct turns_caller *caller = turns_connect();
    struct knit_buffer message;

    knit_buffer_init(&message, 1 << 20);
    put_costly_call(&message, number);
    for (size_t sent = 0; sent < message.len;) {
        ssize_t n = send(caller->fd, message.bytes + sent, message.len - sent, MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        (void)turns_turn();
    }
    knit_buffer_fini(&message);
    TURNS_UNTIL(caller->connection->has_message || caller->connection->input.len == 0);
    return caller;
}

/* Until one waits, whose key has that number, and for many turns more. */
static void wait_for_room(uint8_t number)
{
    enum { TURNS = 2000, BOUND_NS = 100 * 1000 };
    struct turns_caller *caller = turns_connect();
    uint64_t began_ns, took_ns;

    assert_true(turns_request(caller, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    while (TAILQ_EMPTY(&turns.loop.router.share.queues[KNIT_SHARE_WAITING_ARENA])) {
        caller = send_costly_call(number);
        if (number != 0)
            number++;
    }
    began_ns = processor_ns();
    for (uint32_t i = 0; i < TURNS; i++)
        (void)turns_turn();
    took_ns = (processor_ns() - began_ns) / TURNS;
    print_message("a turn while a call waits for room: %llu ns\n", (unsigned long long)took_ns);
    assert_int_equal(caller->connection->caller.waiting_in, KNIT_SHARE_WAITING_ARENA);
    assert_true(took_ns < knit_deadline_stretched_ns(BOUND_NS));
    turns_open_gate();
    turns_expect(caller, 1);
    assert_int_equal(caller->code, 0);
}

/* It is tried again in every turn, and decoded again for that: the limits of options make that
 * cheap. */
static void what_waits_for_room_takes_little_of_each_turn(void **state)
{
    (void)state;
    wait_for_room(0);
}

static void wake(void *arg)
{
    (void)arg;
}

/* What its arguments are, which its key is compared by, is not found out in each of them. */
static void what_waits_with_a_key_takes_as_little(void **state)
{
    struct knit_router *router = &turns.loop.router;
    struct knit_keys *keys = knit_keys_new();

    (void)state;
    assert_non_null(keys);
    assert_int_equal(knit_keyed_add(router, keys, wake, NULL), 0);
    wait_for_room(1);
    TURNS_UNTIL(turns_is_idle());
    knit_keyed_fini(router);
    (void)knit_keys_free(keys);
}

/* Floods that have had their first share wait in the backlog; one that had nothing queued goes
 * before all of them, in the turn in which its message comes. */
static void a_quiet_connection_goes_before_those_that_flood(void **state)
{
    struct turns_caller *callers[FLOODS], *quiet;
    uint32_t backlogged = 0;

    (void)state;
    quiet = turns_connect();
    for (size_t i = 0; i < FLOODS; i++) {
        callers[i] = turns_connect();
        flood(callers[i]);
    }
    do
        (void)turns_turn();
    while (!TAILQ_EMPTY(&turns.loop.net.fresh));
    for (size_t i = 0; i < FLOODS; i++)
        backlogged += callers[i]->connection->is_backlogged;
    assert_in_range(backlogged, FLOODS / 2, FLOODS);
    assert_true(turns_request(quiet, "$/ping", 1, 1, 1, NULL));
    (void)turns_turn();
    assert_true(turns_read(quiet));
    assert_int_equal(quiet->responses, 1);
    for (size_t i = 0; i < FLOODS; i++)
        turns_expect(callers[i], HELLOS);
    for (size_t i = 0; i < FLOODS; i++)
        TURNS_UNTIL(!callers[i]->connection->is_backlogged);
    assert_false(knit_net_is_crowded(&turns.loop.net));
}

/* One call of each is in flight, and as many wait as its lookahead holds. */
static void queue_calls(struct turns_caller **callers, uint64_t timeout_ns)
{
    struct knit_options options = knit_options();

    options.timeout_ns = timeout_ns;
    turns.settings.in_flight_max = 1;
    /* So little that none is refused for what is before it. */
    atomic_store_explicit(&turns.lanes.board.mean_ns[LANES_GATE], 1, memory_order_relaxed);
    for (size_t i = 0; i < FLOODS; i++) {
        callers[i] = turns_connect();
        assert_true(turns_request(callers[i], "gate", 1, 1, 1, NULL));
        assert_true(turns_request(callers[i], "gate", 1, 2, WAITING, &options));
    }
    TURNS_UNTIL(TAILQ_EMPTY(&turns.loop.net.fresh) && TAILQ_EMPTY(&turns.loop.net.ready) &&
                TAILQ_EMPTY(&turns.loop.net.lookaheads.to_scan));
}

/* Answering what is overdue at the same time has its time in a turn, as input has. */
static void calls_that_are_overdue_together_are_answered_in_short_turns(void **state)
{
    struct turns_caller *callers[FLOODS];
    struct knit_counters *counters = &turns.loop.turn.counters;
    uint64_t longest_ns = 0;

    (void)state;
    queue_calls(callers, 300000000);
    for (uint32_t i = 0; knit_counter_read(&counters->calls_timed_out) < FLOODS * WAITING; i++) {
        uint64_t took_ns = turn_ns();

        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        (void)turns_read(callers[i % FLOODS]);
    }
    print_message("%u calls, the longest turn %llu us\n", FLOODS * WAITING,
        (unsigned long long)longest_ns / 1000);
    assert_true(longest_ns < knit_deadline_stretched_ns(TURN_BOUND_NS));
}

/* What is due is found without a look at what is not. */
static void calls_that_wait_cost_nothing_until_they_are_due(void **state)
{
    struct turns_caller *callers[FLOODS], *other;
    struct knit_options options = knit_options();
    struct knit_lookaheads *lookaheads = &turns.loop.net.lookaheads;

    (void)state;
    queue_calls(callers, UINT64_C(600000000000));
    assert_int_equal(lookaheads->dues.count, FLOODS);
    other = turns_connect();
    assert_true(turns_request(other, "gate", 1, 1, 1, NULL));
    options.timeout_ns = 1000000;
    assert_true(turns_request(other, "gate", 1, 2, 1, &options));
    TURNS_UNTIL(lookaheads->dues.count == FLOODS + 1);
    assert_true(knit_dues_next_ns(&lookaheads->dues) < turns.loop.turn.now_ns + 10000000);
    turns_expect(other, 1);
    assert_int_equal(other->code, KNIT_TIMEOUT);
    assert_int_equal(lookaheads->dues.count, FLOODS);
    assert_true(
        knit_dues_next_ns(&lookaheads->dues) > turns.loop.turn.now_ns + UINT64_C(500000000000));
}

/* As what it reads does, what it keeps of that counts in the budget. */
static void entries_of_calls_that_wait_are_charged(void **state)
{
    struct turns_caller *callers[FLOODS];
    size_t charged_bytes = 0;

    (void)state;
    queue_calls(callers, UINT64_C(600000000000));
    for (size_t i = 0; i < FLOODS; i++) {
        struct knit_input *input = &callers[i]->connection->input;

        assert_true(input->ahead_bytes > WAITING * 40);
        assert_true(input->charged_bytes >= input->len + input->ahead_bytes);
        charged_bytes += input->charged_bytes;
    }
    assert_int_equal(turns.loop.net.inputs.charged_bytes, charged_bytes);
    for (size_t i = 1; i < FLOODS; i++)
        turns_leave(callers[i]);
    turns_open_gate();
    turns_expect(callers[0], 1 + WAITING);
    assert_null(callers[0]->connection->lookahead);
    assert_int_equal(callers[0]->connection->input.ahead_bytes, 0);
    assert_int_equal(turns.loop.net.inputs.charged_bytes, 0);
}

/* With half of a small budget in use there are fewer of them, and all calls are answered. */
static void entries_are_few_where_budget_is_short(void **state)
{
    struct turns_caller *callers[FLOODS];

    (void)state;
    turns.settings.input_max_bytes = 8 << 20;
    queue_calls(callers, UINT64_C(600000000000));
    assert_in_range(turns.loop.net.inputs.charged_bytes, 900 << 10, 1 << 20);
    assert_true(callers[FLOODS - 1]->connection->input.ahead_bytes < WAITING * 40);
    for (size_t i = 0; i < FLOODS; i++)
        turns_leave(callers[i]);
    assert_int_equal(turns.loop.net.inputs.charged_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_turn_is_as_short_for_many_floods_as_for_one),
        TURNS_TEST(no_message_makes_a_turn_long),
        TURNS_TEST(looking_ahead_makes_no_turn_long),
        TURNS_TEST(a_flood_of_connections_is_opened_in_many_turns),
        TURNS_TEST(what_waits_for_room_takes_little_of_each_turn),
        TURNS_TEST(what_waits_with_a_key_takes_as_little),
        TURNS_TEST(large_replies_make_no_turn_long),
        TURNS_TEST(a_quiet_connection_goes_before_those_that_flood),
        TURNS_TEST(calls_that_are_overdue_together_are_answered_in_short_turns),
        TURNS_TEST(calls_that_wait_cost_nothing_until_they_are_due),
        TURNS_TEST(entries_of_calls_that_wait_are_charged),
        TURNS_TEST(entries_are_few_where_budget_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
