/* SPDX-License-Identifier: Apache-2.0 */
/* How long a turn takes while connections send what is costly, and who goes first in it. Time is
 * the processor time of the thread, so that a busy machine changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "proto/writer.h"
#include "server/net/lookahead.h"
#include "tests/server/turns.h"

enum {
    FLOODS = 60,
    PAIRS = 2000,                     /* of a `$/hello` that takes some ten microseconds */
    HELLOS = 8,                       /* in one write */
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
    assert_true(longest_ns < TURN_BOUND_NS);
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
        assert_false(callers[i]->connection->is_backlogged);
    assert_false(knit_net_is_crowded(&turns.loop.net));
}

/* Calls that wait and time out one after the other cause one pass after the other over all that
 * wait; what passes take of the loop's time is bounded by the rest behind each. */
static void passes_over_what_waits_leave_time_for_the_rest(void **state)
{
    struct knit_lookaheads *lookaheads = &turns.loop.net.lookaheads;
    struct knit_options options = knit_options();
    struct turns_caller *caller;

    (void)state;
    turns.settings.in_flight_max = 1;
    caller = turns_connect();
    assert_true(turns_request(caller, "gate", 1, 1, 1, NULL));
    TURNS_UNTIL(turns_is_at_gate());
    options.timeout_ns = 1000000;
    assert_true(turns_request(caller, "gate", 1, 2, 1, &options));
    turns_expect(caller, 1);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
    assert_true(lookaheads->rest_until_ns > 0);
    /* Nothing is looked at before, and nothing wakes the loop for it. */
    lookaheads->rest_until_ns = UINT64_MAX - 1;
    assert_true(turns_request(caller, "gate", 1, 3, 1, &options));
    TURNS_UNTIL(lookaheads->next_ns < turns.loop.turn.now_ns);
    for (unsigned i = 0; i < 100; i++)
        (void)turns_turn();
    assert_true(turns_read(caller));
    assert_int_equal(caller->responses, 1);
    assert_true(knit_lookaheads_next_ns(lookaheads) == UINT64_MAX - 1);
    lookaheads->rest_until_ns = 0;
    turns_expect(caller, 2);
    assert_int_equal(caller->code, KNIT_TIMEOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TURNS_TEST(a_turn_is_as_short_for_many_floods_as_for_one),
        TURNS_TEST(a_quiet_connection_goes_before_those_that_flood),
        TURNS_TEST(passes_over_what_waits_leave_time_for_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
