/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of a lane share its worker's time, whatever their calls cost. Method: a worker
 * driven by hand, a turn at a time, and the clock too. What the calls of a task take is put into
 * the worker's means, and it is kept from measuring; where calls must be long they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fastpath/lane/lane_private.h"
#include "tests/fastpath/hand_clock.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/random.h"

enum { SLOTS = 256, SESSIONS = 8, ROUND = KNIT_ROUND_NS };

static struct lanes lanes;

static int setup(void **state)
{
    (void)state;
    hand_clock_start();
    lanes_init(&lanes, 1, false, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hand_clock_stop();
    lanes_fini(&lanes);
    return 0;
}

static struct knit_session *add_session(void)
{
    return lanes_add_session(&lanes, SLOTS, 65536, 0)->session;
}

/* ---- the numbers ---- */

static void rounds_pay_debts_and_give_credit_within_bounds(void **state)
{
    struct knit_deficit deficit = {0};

    (void)state;
    assert_int_equal(knit_deficit_rounds_due(&deficit), 1);
    knit_deficit_renew(&deficit, 1);
    assert_int_equal(deficit.ns, ROUND);
    assert_false(knit_deficit_is_fresh(&deficit));
    knit_deficit_renew(&deficit, 1);
    assert_int_equal(deficit.ns, ROUND);
    knit_deficit_charge(&deficit, 3 * ROUND);
    assert_int_equal(deficit.ns, -2 * ROUND);
    assert_int_equal(knit_deficit_rounds_due(&deficit), 3);
    knit_deficit_renew(&deficit, 3);
    assert_false(knit_deficit_has_credit(&deficit));
    knit_deficit_renew(&deficit, 4);
    assert_true(knit_deficit_has_credit(&deficit));
    knit_deficit_renew(&deficit, 6);
    assert_true(knit_deficit_is_fresh(&deficit));
    knit_deficit_renew(&deficit, 100);
    assert_int_equal(deficit.ns, KNIT_CREDIT_MAX_NS);
    assert_true(knit_deficit_is_fresh(&deficit));
    for (uint32_t i = 0; i < 3; i++) {
        knit_deficit_charge(&deficit, UINT32_MAX);
        assert_int_equal(deficit.ns, i == 0 ? 0 : -KNIT_DEBT_MAX_NS);
    }
    knit_deficit_renew(&deficit, 100 + KNIT_ROUNDS_MAX);
    assert_int_equal(deficit.ns, KNIT_CREDIT_MAX_NS);
    /* While others make long calls one after the other no round begins, and it stays fresh. */
    knit_deficit_charge(&deficit, KNIT_CREDIT_MAX_NS - 2 * ROUND);
    assert_true(knit_deficit_is_fresh(&deficit));
    /* The number of rounds wraps, and any distance counts as long. */
    knit_deficit_charge(&deficit, UINT32_MAX);
    knit_deficit_renew(&deficit, 99 + KNIT_ROUNDS_MAX);
    assert_int_equal(deficit.ns, KNIT_CREDIT_MAX_NS);
}

/* ---- the order ---- */

static void sessions_share_time_and_not_calls(void **state)
{
    enum { CHEAP = 90, COSTLY = 900, TURNS = 2000 };
    struct knit_session *cheap, *costly;
    uint64_t cheap_ns = 0, costly_ns = 0;

    (void)state;
    cheap = add_session();
    costly = add_session();
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, CHEAP);
    lanes_pretend(&lanes, LANES_COUNT, COSTLY);
    lanes.executions = calloc(1, sizeof(*lanes.executions));
    assert_non_null(lanes.executions);
    lanes.executions_count = 1;
    for (uint32_t i = 0; i < TURNS; i++) {
        lanes_fill(cheap, LANES_ECHO, 0);
        lanes_fill(costly, LANES_COUNT, 0);
        lanes_turn(&lanes);
        cheap_ns += lanes_collect(cheap) * CHEAP;
        costly_ns += lanes_collect(costly) * COSTLY;
    }
    free(lanes.executions);
    assert_true(cheap_ns < costly_ns + 4 * ROUND);
    assert_true(costly_ns < cheap_ns + 4 * ROUND);
}

static void beside_long_calls_short_ones_get_their_time(void **state)
{
    struct knit_session *greedy, *modest;
    size_t greedy_count = 0, modest_count = 0;

    (void)state;
    greedy = add_session();
    modest = add_session();
    lanes_add_worker(&lanes, 0, 5);
    while (greedy_count < 10) {
        lanes_fill(greedy, LANES_SPIN, 1000);
        lanes_fill(modest, LANES_ECHO, 0);
        lanes_turn(&lanes);
        greedy_count += lanes_collect(greedy);
        modest_count += lanes_collect(modest);
    }
    /* A hundred times as many, even if each took a whole microsecond ten times. */
    assert_true(modest_count >= 100 * greedy_count);
}

/* What others have queued matters to nobody who asks for little. */
static void a_quiet_session_waits_for_no_queue(void **state)
{
    enum { GREEDY = SESSIONS - 1, TIMES = 30, LONG_US = 2000 };
    struct knit_session *greedy[GREEDY], *quiet;
    struct knit_session_outcome outcome;

    (void)state;
    for (uint32_t i = 0; i < GREEDY; i++)
        greedy[i] = add_session();
    quiet = add_session();
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < GREEDY + TIMES; i++) {
        uint32_t slot;

        for (uint32_t j = 0; j < GREEDY; j++) {
            (void)lanes_collect(greedy[j]);
            lanes_fill(greedy[j], LANES_SPIN, LONG_US);
        }
        lanes_turn(&lanes);
        /* Each of them is new at first. */
        if (i < GREEDY)
            continue;
        slot = lanes_publish(quiet, 0, LANES_ECHO, 0);
        lanes_turn(&lanes);
        assert_true(knit_session_collect_slot(quiet, slot, &outcome));
    }
}

/* Each of these is fresh when its call comes, and its calls take no more than it has credit for. */
static void quiet_sessions_starve_no_busy_one(void **state)
{
    enum { QUIET = SESSIONS - 1, COST = 900, TURNS = 3000 };
    struct knit_session *quiet[QUIET], *busy;
    uint64_t busy_ns = 0, quiet_ns = 0;
    uint32_t unserved = 0;

    (void)state;
    for (uint32_t i = 0; i < QUIET; i++)
        quiet[i] = add_session();
    busy = add_session();
    lanes_add_worker(&lanes, 0, 5);
    lanes_pretend(&lanes, LANES_ECHO, COST);
    for (uint32_t i = 0; i < TURNS; i++) {
        size_t count;

        /* Together more than a turn serves, whenever they have nothing. */
        for (uint32_t j = 0; j < QUIET; j++) {
            for (uint32_t k = 0; k < 3 && knit_session_in_flight(quiet[j]) < 3; k++)
                (void)lanes_publish(quiet[j], 0, LANES_ECHO, 0);
        }
        lanes_fill(busy, LANES_ECHO, 0);
        lanes_turn(&lanes);
        for (uint32_t j = 0; j < QUIET; j++)
            quiet_ns += lanes_collect(quiet[j]) * COST;
        count = lanes_collect(busy);
        busy_ns += count * COST;
        /* Until the others have used up their credit, in turns of 16 calls. */
        unserved = count > 0 ? 0 : unserved + 1;
        assert_true(unserved <= QUIET * (2 * ROUND / COST + 1) / 16 + QUIET);
    }
    assert_true(busy_ns >= quiet_ns / SESSIONS);
}

/* No session is passed over for longer than it takes the others to use up what a round gives, and
 * its own debt. */
static void whatever_calls_cost_each_session_gets_its_part(void **state)
{
    enum { TURNS = 20000 };
    struct knit_session *sessions[SESSIONS];
    uint64_t got_ns[SESSIONS] = {0};
    uint64_t least = UINT64_MAX, most = 0;
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    for (uint32_t i = 0; i < SESSIONS; i++)
        sessions[i] = add_session();
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < SESSIONS; i++)
        lanes_fill(sessions[i], LANES_ECHO, 0);
    for (uint32_t i = 0; i < TURNS; i++) {
        uint32_t cost = 1 + (uint32_t)knit_random_below(&random, 999);

        lanes_pretend(&lanes, LANES_ECHO, cost);
        lanes_turn(&lanes);
        for (uint32_t j = 0; j < SESSIONS; j++) {
            got_ns[j] += lanes_collect(sessions[j]) * cost;
            lanes_fill(sessions[j], LANES_ECHO, 0);
        }
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        least = got_ns[i] < least ? got_ns[i] : least;
        most = got_ns[i] > most ? got_ns[i] : most;
    }
    assert_true(most - least <= 4 * ROUND);
}

/* It pays for what is refused as well, or nobody else would have another round. */
static void refused_calls_are_charged(void **state)
{
    struct knit_session *aborter, *busy;
    size_t count = 0;

    (void)state;
    aborter = add_session();
    busy = add_session();
    lanes_add_worker(&lanes, 0, 5);
    lanes_fill(busy, LANES_SPIN, 300);
    for (uint32_t i = 0; i < 2000 && count < 5; i++) {
        while (knit_session_slots_free(aborter) > 0)
            knit_session_abort(aborter, lanes_publish(aborter, 0, LANES_ECHO, 0));
        lanes_turn(&lanes);
        (void)lanes_collect(aborter);
        count += lanes_collect(busy);
    }
    assert_int_equal(count, 5);
}

/* What an argument from a caller's arena costs beside the run of its task: its copy. The second
 * session is one that is not trusted (lanes.c). */
static void a_copied_argument_is_charged(void **state)
{
    enum { BYTES = 1 << 20 };
    struct knit_session *session;
    const struct knit_deficit *deficit;
    void *bytes = calloc(1, BYTES);

    (void)state;
    assert_non_null(bytes);
    (void)add_session();
    session = lanes_add_session(&lanes, SLOTS, 4 * BYTES, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    (void)lanes_publish(session, 0, LANES_ECHO, 0);
    lanes_turn(&lanes);
    deficit = &lanes.worker[0]->sessions[1]->deficit;
    for (int has_deadline = 0; has_deadline <= 1; has_deadline++) {
        struct knit_session_call call = lanes_call(LANES_ECHO, bytes, BYTES);
        const struct knit_deficit before = *deficit;
        uint32_t slot, given_ns;

        /* With a deadline it goes the general way. */
        call.deadline_ns = has_deadline != 0 ? UINT64_MAX / 2 : 0;
        lanes_pretend(&lanes, LANES_ECHO, 100);
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        lanes_turn(&lanes);
        given_ns = (deficit->round - before.round) * ROUND;
        assert_in_range(before.ns + given_ns - deficit->ns, BYTES / 16, BYTES);
    }
    free(bytes);
}

/* Nobody waited while the lane was empty. */
static void debts_are_forgotten_when_the_lane_is_empty(void **state)
{
    struct knit_session *debtor, *other;
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    debtor = add_session();
    other = add_session();
    lanes_add_worker(&lanes, 0, 5);
    (void)lanes_publish(debtor, 0, LANES_SPIN, 5000);
    lanes_turn(&lanes);
    assert_int_equal(lanes_collect(debtor), 1);
    assert_true(lanes.worker[0]->sessions[0]->deficit.ns < 0);
    lanes_turn(&lanes);
    slot = lanes_publish(debtor, 0, LANES_ECHO, 0);
    lanes_fill(other, LANES_SPIN, 300);
    lanes_turn(&lanes);
    lanes_turn(&lanes);
    assert_true(knit_session_collect_slot(debtor, slot, &outcome));
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_pay_debts_and_give_credit_within_bounds),
        TEST(sessions_share_time_and_not_calls),
        TEST(beside_long_calls_short_ones_get_their_time),
        TEST(a_quiet_session_waits_for_no_queue),
        TEST(quiet_sessions_starve_no_busy_one),
        TEST(whatever_calls_cost_each_session_gets_its_part),
        TEST(refused_calls_are_charged),
        TEST(a_copied_argument_is_charged),
        TEST(debts_are_forgotten_when_the_lane_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
