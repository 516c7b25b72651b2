/* SPDX-License-Identifier: Apache-2.0 */
/* The lane protocol from both ends. Goal: every outcome comes exactly once and belongs to its call,
 * whichever worker ran it. Method: echo of sequence-numbered, checksummed bodies and an execution
 * counter for each call, over tiny rings that wrap often, over generations and tags that wrap, with
 * workers that park at once, steal, start and stop. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static struct knit_session *with_one_lane(uint32_t slots, uint64_t arena_bytes)
{
    lanes_init(&lanes, 1, false, 0);
    return lanes_add_session(&lanes, slots, arena_bytes, 0)->session;
}

static void one_call_is_answered_by_a_turn(void **state)
{
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "hello", 5);
    uint32_t slot;
    struct knit_session_outcome outcome;

    (void)state;
    session = with_one_lane(4, 65536);
    lanes_add_worker(&lanes, 0, 5);
    call.user = &lanes;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_int_equal(knit_session_in_flight(session), 1);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
    assert_ptr_equal(outcome.user, &lanes);
    assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    assert_int_equal(outcome.len, 5);
    assert_memory_equal(outcome.payload, "hello", 5);
    assert_false(outcome.held);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
    assert_int_equal(knit_session_in_flight(session), 0);
}

static void a_call_has_started_once_a_worker_claims_it(void **state)
{
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "hello", 5);
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    session = with_one_lane(1, 65536);
    lanes_add_worker(&lanes, 0, 5);
    /* In the second round the slot's claim word still holds the first call's claim. */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        assert_false(knit_session_has_started(session, slot));
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        assert_true(knit_session_has_started(session, slot));
        assert_true(knit_session_collect_slot(session, slot, &outcome));
    }
}

static void a_session_is_full_until_slots_are_free(void **state)
{
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcomes[8];
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    session = lanes_add_session(&lanes, 5, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    lanes_add_worker(&lanes, 1, 6);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 5; i++)
            assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        assert_int_equal(knit_session_publish(session, &call, &slot), KNIT_SESSION_E_FULL);
        for (size_t count = 0; count < 5; count += knit_session_collect(session, outcomes, 8)) {
            (void)knit_lane_turn(lanes.worker[0]);
            (void)knit_lane_turn(lanes.worker[1]);
        }
        assert_int_equal(knit_session_in_flight(session), 0);
    }
}

static void large_arguments_and_results_use_blocks_and_release_them(void **state)
{
    struct knit_session *session;
    static unsigned char bytes[200000];
    struct knit_session_call call;
    uint32_t slot;

    (void)state;
    session = with_one_lane(8, 1 << 20);
    lanes_start_worker(&lanes, 0, 5);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7);
    for (int i = 0; i < 300; i++) {
        size_t len = i % 3 == 0   ? KNIT_INLINE_MAX
                     : i % 3 == 1 ? KNIT_INLINE_MAX + 1
                                  : sizeof(bytes);
        struct knit_session_outcome outcome;

        call = lanes_call(i % 2 == 0 ? LANES_ECHO : LANES_ROOM, bytes, len);
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        lanes_wait_for(session, slot, &outcome);
        assert_int_equal(outcome.len, len);
        assert_int_equal(outcome.held, len > KNIT_INLINE_MAX);
        assert_memory_equal(outcome.payload, bytes, len);
        if (outcome.held)
            knit_session_release(session, slot);
    }
    call = lanes_call(LANES_ECHO, bytes, (1 << 20) + 1);
    assert_int_equal(knit_session_publish(session, &call, &slot), KNIT_SESSION_E_TOO_LARGE);
}

static void a_full_reply_arena_defers_the_result_until_a_block_is_released(void **state)
{
    struct knit_session *session;
    static unsigned char bytes[30000];
    uint32_t slots[2], third;
    struct knit_session_outcome outcome;
    struct knit_session_call call;

    (void)state;
    session = with_one_lane(8, 65536);
    lanes_start_worker(&lanes, 0, 5);
    call = lanes_call(LANES_ECHO, bytes, sizeof(bytes));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(knit_session_publish(session, &call, &slots[i]), 0);
        lanes_wait_for(session, slots[i], &outcome);
        assert_true(outcome.held);
    }
    assert_int_equal(knit_session_publish(session, &call, &third), 0);
    knit_session_flush(session);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.session[0].reply.lane[0].blocked_on_arena,
                            memory_order_acquire) == 1,
            10000));
    assert_false(knit_session_collect_slot(session, third, &outcome));
    knit_session_release(session, slots[0]);
    lanes_wait_for(session, third, &outcome);
    assert_int_equal(outcome.len, sizeof(bytes));
    knit_session_release(session, third);
    knit_session_release(session, slots[1]);
}

/* A released block is free also when its worker has not checked it since, and the slot's later
 * calls went to another lane, which releases other generations. */
static void blocks_are_found_again_after_their_slots_moved_to_another_lane(void **state)
{
    struct knit_session *session;
    static unsigned char bytes[30000];
    uint32_t slot;
    struct knit_session_outcome outcome;
    struct knit_session_call call;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    session = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    lanes_start_worker(&lanes, 1, 6);
    call = lanes_call(LANES_ECHO, bytes, 15000);
    for (uint32_t lane = 0; lane < 2; lane++) {
        uint32_t slots[4];
        call.lane = lane;
        for (int i = 0; i < 4; i++)
            assert_int_equal(knit_session_publish(session, &call, &slots[i]), 0);
        for (int i = 0; i < 4; i++)
            lanes_wait_for(session, slots[i], &outcome);
        for (int i = 0; i < 4; i++)
            knit_session_release(session, slots[i]);
    }
    call.lane = 0;
    call.len = sizeof(bytes);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    lanes_wait_for(session, slot, &outcome);
    assert_int_equal(outcome.len, sizeof(bytes));
    knit_session_release(session, slot);
}

/* Many calls with checked bodies: each is executed once and has its own outcome. */
static void hammer(
    uint32_t lane_count, uint32_t slots, uint64_t start, uint32_t spin_us, uint32_t calls)
{
    struct knit_session *session;
    struct knit_random random;
    uint32_t published, collected;
    unsigned char body[1500];
    struct knit_session_outcome outcomes[16];
    uint64_t until;
    lanes_init(&lanes, lane_count, true, spin_us);
    session = lanes_add_session(&lanes, slots, 1 << 20, start)->session;
    lanes.executions_count = calls;
    lanes.executions = calloc(calls, sizeof(*lanes.executions));
    for (uint32_t i = 0; i < lane_count; i++)
        lanes_start_worker(&lanes, i, 5 + i);
    knit_random_init(&random);
    published = 0;
    collected = 0;
    until = knit_deadline_in_ms(60000);
    while (collected < calls) {
        uint32_t burst;
        size_t got;

        assert_true(knit_clock_ns() < until);
        burst = (uint32_t)knit_random_below(&random, slots) + 1;
        for (; burst > 0 && published < calls; burst--) {
            size_t len = 8 + (size_t)knit_random_below(
                                 &random, knit_random_below(&random, 16) == 0 ? 1490 : 90);
            struct knit_session_call call;
            uint32_t slot;
            memcpy(body, &published, 4);
            memset(body + 4, (int)(published * 31 & 0xff), len - 4);
            call = lanes_call(LANES_COUNT, body, len);
            call.user = (void *)(uintptr_t)published;
            if (knit_session_publish(session, &call, &slot) != 0)
                break;
            published++;
        }
        got = knit_session_collect(session, outcomes, 16);
        if (got == 0)
            (void)knit_session_wait(session, KNIT_SLOT_ANY, until);
        for (size_t i = 0; i < got; i++) {
            uint32_t number = (uint32_t)(uintptr_t)outcomes[i].user;
            const unsigned char *bytes = outcomes[i].payload;
            uint32_t sent;
            memcpy(&sent, bytes, 4);
            assert_int_equal(sent, number);
            for (size_t j = 4; j < outcomes[i].len; j++)
                assert_int_equal(bytes[j], number * 31 & 0xff);
            if (outcomes[i].held)
                knit_session_release(session, outcomes[i].slot);
            collected++;
        }
    }
    for (uint32_t i = 0; i < calls; i++)
        assert_int_equal(atomic_load_explicit(&lanes.executions[i], memory_order_relaxed), 1);
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
    assert_int_equal(knit_session_in_flight(session), 0);
    assert_int_equal(knit_session_slots_free(session), slots);
    free((void *)lanes.executions);
    lanes_fini(&lanes);
}

static void calls_are_executed_once_with_workers_that_spin(void **state)
{
    (void)state;
    hammer(1, 100, 0, 50, 60000);
    hammer(2, 100, 0, 50, 60000);
}

static void calls_are_executed_once_with_workers_that_park_at_once(void **state)
{
    (void)state;
    hammer(1, 8, 0, 0, 5000);
    hammer(3, 8, 0, 0, 5000);
    hammer(4, 1, 0, 0, 2000);
}

static void rings_and_generations_wrap(void **state)
{
    (void)state;
    /* Ring positions about to pass 1023 laps (the tag wraps), 2^32, and generations about to pass
     * 2^40. */
    hammer(2, 10, 1023 * 32 - 40, 20, 20000);
    hammer(2, 10, (1ull << 32) - 50, 20, 20000);
    hammer(2, 10, (1ull << 40) - 60, 20, 20000);
    hammer(2, 10, UINT64_MAX - 100, 20, 20000);
}

static void a_call_behind_a_long_one_is_stolen(void **state)
{
    struct knit_session *session;
    struct knit_session_call gate, echo;
    uint32_t gated, slots[8];
    struct knit_session_outcome outcome;

    (void)state;
    lanes_init(&lanes, 2, true, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    lanes_start_worker(&lanes, 1, 6);
    gate = lanes_call(LANES_GATE, "g", 1);
    echo = lanes_call(LANES_ECHO, "e", 1);
    gate.lane = echo.lane = 0;
    assert_int_equal(knit_session_publish(session, &gate, &gated), 0);
    knit_session_flush(session);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.at_gate, memory_order_acquire) == 1, 10000));
    for (int i = 0; i < 8; i++)
        assert_int_equal(knit_session_publish(session, &echo, &slots[i]), 0);
    for (int i = 0; i < 8; i++)
        lanes_wait_for(session, slots[i], &outcome);
    assert_false(knit_session_collect_slot(session, gated, &outcome));
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    knit_bell_wake(&lanes.gate, 10);
    lanes_wait_for(session, gated, &outcome);
}

static void a_queued_call_that_is_settled_never_runs(void **state)
{
    struct knit_session *session;
    static _Atomic uint32_t executions[4];
    uint32_t index, slot;
    struct knit_session_outcome outcome;
    int code, started;
    struct knit_session_call call;

    (void)state;
    session = with_one_lane(4, 65536);
    lanes_add_worker(&lanes, 0, 5);
    lanes.executions_count = 4;
    lanes.executions = executions;
    index = 1;
    started = -1;
    call = lanes_call(LANES_COUNT, &index, 4);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_true(knit_session_settle(session, slot, &started));
    assert_int_equal(started, KNIT_STARTED_NO);
    assert_false(knit_session_settle(session, slot, &started));
    (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(atomic_load_explicit(&executions[1], memory_order_relaxed), 0);
    assert_int_equal(knit_session_slots_free(session), 3);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
    assert_int_equal(knit_session_slots_free(session), 4);

    call.deadline_ns = 1;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    memcpy(&code, outcome.payload, sizeof(code));
    assert_int_equal(code, KNIT_TIMEOUT);
    assert_int_equal(atomic_load_explicit(&executions[1], memory_order_relaxed), 0);
}

static void an_event_loop_is_woken_through_its_descriptor(void **state)
{
    struct lanes_session *side;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session *session;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 4, 65536, 0);
    session = side->session;
    lanes_start_worker(&lanes, 0, 5);
    for (int i = 0; i < 300; i++) {
        uint32_t slot;
        struct knit_session_outcome outcome;
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        while (knit_session_collect(session, &outcome, 1) == 0) {
            struct pollfd poll_fd;

            if (!knit_session_arm(session))
                continue;
            poll_fd = (struct pollfd){.fd = side->bell_fd, .events = POLLIN};
            assert_int_equal(poll(&poll_fd, 1, 20000), 1);
            knit_session_disarm(session);
        }
    }
}

/* Values that no honest caller writes: only their session is evicted, and the other goes on. */
static void a_session_that_breaks_the_protocol_is_evicted_alone(void **state)
{
    (void)state;
    for (int lie = 0; lie < 5; lie++) {
        struct lanes_session *liar;
        struct knit_request_cell *cell;
        uint64_t gen;
        struct knit_session_call call;
        struct knit_session *honest;
        uint32_t slot;
        struct knit_session_outcome outcome;
        lanes_init(&lanes, 1, false, 0);
        liar = lanes_add_session(&lanes, 4, 65536, 0);
        honest = lanes_add_session(&lanes, 4, 65536, 0)->session;
        lanes_add_worker(&lanes, 0, 5);
        cell = &liar->request.ring[0];
        atomic_store_explicit(&cell->meta,
            lie == 3   ? knit_meta(0, 0, KNIT_CELL_IN_ARENA, 4096)
            : lie == 4 ? knit_meta(0, 0, 0, KNIT_SLAB_BYTES + 1)
                       : knit_meta(0, 0, 0, 1),
            memory_order_relaxed);
        atomic_store_explicit(&cell->body[0], 65536 - 4095, memory_order_relaxed);
        gen = lie == 1 ? 2 : lie == 2 ? KNIT_GEN_MASK / 2 : 1;
        atomic_store_explicit(
            &cell->ctrl, knit_ctrl(gen, lie == 0 ? 4 : 0, 1), memory_order_release);
        call = lanes_call(LANES_ECHO, "x", 1);
        assert_int_equal(knit_session_publish(honest, &call, &slot), 0);
        (void)knit_lane_turn(lanes.worker[0]);
        assert_true(knit_session_collect_slot(honest, slot, &outcome));
        assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 1);
        assert_int_equal(
            knit_word_gen(atomic_load_explicit(&liar->reply.reply[0].word, memory_order_relaxed)),
            0);
        lanes_fini(&lanes);
    }
}

enum notifying { NOTIFY_CHANGE, NOTIFY_WAKE, NOTIFY_CALL, NOTIFIES };

static void notify(struct lanes_session *side, enum notifying how)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcome;
    uint32_t slot;
    if (how == NOTIFY_CALL) {
        assert_int_equal(knit_session_publish(side->session, &call, &slot), 0);
        lanes_wait_for(side->session, slot, &outcome);
        return;
    }
    if (how == NOTIFY_CHANGE)
        atomic_fetch_add_explicit(&side->request.bell[0], 1, memory_order_release);
    knit_bell_wake(&side->request.bell[0], 1);
}

/* Notifying all the time without a call evicts, whether or not the bell changes; notifying as often
 * with calls does not. */
static void a_session_that_notifies_for_nothing_is_evicted(void **state)
{
    (void)state;
    /* The limit is a rate in real time, which valgrind and ThreadSanitizer do not reach. */
    if (getenv("KNIT_TEST_SLOWDOWN") != NULL)
        skip();
    for (enum notifying how = 0; how < NOTIFIES; how++) {
        struct lanes_session *side;
        uint64_t until;
        lanes_init(&lanes, 1, false, 0);
        side = lanes_add_session(&lanes, 4, 65536, 0);
        lanes_start_worker(&lanes, 0, 5);
        until = knit_deadline_in_ms(20000);
        for (uint32_t i = 0; how != NOTIFY_CALL || i < 20000; i++) {
            if (atomic_load_explicit(&lanes.evictions, memory_order_acquire) != 0)
                break;
            assert_true(knit_clock_ns() < until);
            notify(side, how);
        }
        assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_acquire),
            how == NOTIFY_CALL ? 0 : 1);
        lanes_fini(&lanes);
    }
}

/* Its predecessor died after it had written a completion and before it had raised the tail: the
 * position that the caller has read is not written again. */
static void a_replacement_continues_behind_the_last_completion(void **state)
{
    struct lanes_session *side;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 8, 65536, 0);
    /* The last three have not raised the tail at all. */
    for (uint32_t owner = 5; owner < 11; owner++) {
        _Atomic uint64_t *tail;
        uint64_t posted;

        lanes_add_worker(&lanes, 0, owner);
        assert_int_equal(knit_session_publish(side->session, &call, &slot), 0);
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
        assert_int_equal(knit_session_collect(side->session, &outcome, 1), 1);
        lanes_stop_worker(&lanes, 0);
        tail = &side->reply.lane[0].completion_tail;
        posted = atomic_load_explicit(tail, memory_order_relaxed);
        atomic_store_explicit(tail, owner < 8 ? posted - 1 : 2, memory_order_relaxed);
    }
}

/* The process at the socket's other end decides whether it blocks and how much is in it. */
static void a_full_bell_of_another_process_blocks_no_worker(void **state)
{
    static const char bytes[100000];
    struct lanes_session *side;
    struct knit_session_options options;
    struct knit_session *session;
    int pair[2];

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 8, 65536, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    options = (struct knit_session_options){.bell_fd = pair[0], .bell_is_socket = true};
    assert_int_equal(knit_session_new(&side->geometry, &side->request, &side->reply, &lanes.board,
                         &options, &session),
        0);
    assert_true(knit_session_arm(session));
    knit_session_disarm(session);
    assert_true(send(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT) > 10000);
    knit_session_disarm(session);
    assert_true(recv(pair[0], (char[1]){0}, 1, MSG_DONTWAIT) == 1);
    (void)knit_session_free(session);
    close(pair[0]);
    close(pair[1]);
}

/* Calls that are collected by slot leave completions unread; with no call in flight these do not
 * keep the loop awake. */
static void an_event_loop_with_nothing_in_flight_sleeps(void **state)
{
    struct knit_session *session;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    session = with_one_lane(8, 65536);
    lanes_add_worker(&lanes, 0, 5);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
    assert_true(knit_session_arm(session));
    knit_session_disarm(session);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_false(knit_session_arm(session));
    assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
}

/* Two of three, and one that was attached meanwhile, while the worker runs a call of the third. */
static void sessions_leave_while_a_long_call_runs(void **state)
{
    struct lanes_session *side[4];
    struct knit_lane_session in;
    struct knit_session_call call = lanes_call(LANES_GATE, "x", 1);
    struct knit_session_outcome outcome;
    uint32_t slots[2], late;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    for (int i = 0; i < 3; i++)
        side[i] = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_start_worker(&lanes, 0, 5);
    side[3] = lanes_add_session(&lanes, 4, 65536, 0);
    in = (struct knit_lane_session){.id = 4,
        .geometry = side[3]->geometry,
        .request = side[3]->request,
        .reply = side[3]->reply,
        .bell_fd = -1};
    for (int i = 0; i < 2; i++)
        assert_int_equal(knit_session_publish(side[2]->session, &call, &slots[i]), 0);
    knit_session_flush(side[2]->session);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.at_gate, memory_order_seq_cst) == 1, 20000));
    assert_int_equal(knit_lane_attach(lanes.worker[0], &in), 0);
    for (uint64_t id = 4; id > 1; id--)
        assert_int_equal(knit_lane_detach(lanes.worker[0], id == 3 ? 1 : id), 0);
    assert_int_equal(atomic_load_explicit(&lanes.detached, memory_order_seq_cst), 3);
    /* The third stays until its call has ended, and is served further. */
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    knit_bell_wake(&lanes.gate, 1);
    for (int i = 0; i < 2; i++)
        lanes_wait_for(side[2]->session, slots[i], &outcome);
    atomic_store_explicit(&lanes.gate, 0, memory_order_release);
    assert_int_equal(knit_session_publish(side[2]->session, &call, &late), 0);
    knit_session_flush(side[2]->session);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.at_gate, memory_order_seq_cst) == 3, 20000));
    assert_int_equal(knit_lane_detach(lanes.worker[0], 3), 0);
    assert_int_equal(atomic_load_explicit(&lanes.detached, memory_order_seq_cst), 3);
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    knit_bell_wake(&lanes.gate, 1);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.detached, memory_order_seq_cst) == 4, 20000));
}

static void a_replacement_rebuilds_the_arena(void **state)
{
    struct knit_session *session;
    static unsigned char bytes[312 * KNIT_ARENA_ALIGN];
    uint32_t slots[3];
    uint32_t slot;
    struct knit_session_outcome held[3], outcome;
    struct knit_session_call call;

    (void)state;
    session = with_one_lane(8, 65536);
    lanes_start_worker(&lanes, 0, 5);
    /* Whole units, so that what a task skips of its room is one more unit. */
    memset(bytes, 7, sizeof(bytes));
    call = lanes_call(LANES_ROOM, bytes, sizeof(bytes));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(knit_session_publish(session, &call, &slots[i]), 0);
        lanes_wait_for(session, slots[i], &held[i]);
    }
    knit_session_release(session, slots[1]);
    lanes_stop_worker(&lanes, 0);
    lanes_start_worker(&lanes, 0, 6);
    memset(bytes, 9, sizeof(bytes));
    call.task = LANES_ECHO;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    lanes_wait_for(session, slot, &outcome);
    assert_int_equal(((const unsigned char *)held[0].payload)[sizeof(bytes) - 1], 7);
    assert_int_equal(((const unsigned char *)held[2].payload)[0], 7);
    assert_int_equal(((const unsigned char *)outcome.payload)[0], 9);
    assert_ptr_equal(outcome.payload, (const unsigned char *)held[1].payload - LANES_ROOM_SKIPS);
}

/* Values that no honest pool writes: the call is broken, and no byte of other memory is read. */
static void an_answer_outside_of_its_arena_is_broken(void **state)
{
    const struct {
        uint32_t lane, flags;
        uint64_t block;
        uint32_t len;
        bool is_well;
    } answers[] = {
        {0, 0, 0, KNIT_INLINE_MAX, true},
        {1, 0, 0, 0, true},
        {0, 0, 0, KNIT_INLINE_MAX + 1, true},
        {1, 0, UINT64_MAX, KNIT_SLAB_BYTES, true},
        {0, 0, 0, KNIT_SLAB_BYTES + 1, false},
        {0, 0, 0, UINT32_MAX, false},
        {2, 0, 0, 1, false},
        {UINT16_MAX, 0, 0, 1, false},
        {2, KNIT_CELL_IN_ARENA, 0, 1, false},
        {1, KNIT_CELL_IN_ARENA, 0, 65536, true},
        {1, KNIT_CELL_IN_ARENA, 65535, 1, true},
        {1, KNIT_CELL_IN_ARENA, 0, 65537, false},
        {1, KNIT_CELL_IN_ARENA, 65535, 2, false},
        {1, KNIT_CELL_IN_ARENA, 65536, 1, false},
        {1, KNIT_CELL_IN_ARENA, 65537, 0, false},
        {1, KNIT_CELL_IN_ARENA, UINT64_MAX, 1, false},
    };
    struct lanes_session *side;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_reply_cell *cell;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    side = lanes_add_session(&lanes, 1, 65536, 0);
    cell = &side->reply.reply[0];
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        uint32_t slot;
        struct knit_session_outcome outcome;
        assert_int_equal(knit_session_publish(side->session, &call, &slot), 0);
        atomic_store_explicit(
            &cell->meta, knit_meta(answers[i].lane, 0, 0, answers[i].len), memory_order_relaxed);
        atomic_store_explicit(&cell->block, answers[i].block, memory_order_relaxed);
        atomic_store_explicit(&cell->word, knit_word(i + 1, KNIT_STATUS_RESULT, answers[i].flags),
            memory_order_release);
        assert_true(knit_session_collect_slot(side->session, slot, &outcome));
        assert_int_equal(
            outcome.status, answers[i].is_well ? KNIT_STATUS_RESULT : KNIT_STATUS_BROKEN);
        assert_int_equal(outcome.held,
            answers[i].is_well && (answers[i].flags != 0 || answers[i].len > KNIT_INLINE_MAX));
        if (outcome.held)
            knit_session_release(side->session, slot);
    }
}

static void nothing_is_published_to_a_session_that_is_closed(void **state)
{
    struct lanes_session *side;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot;
    void *room, *late;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 4, 65536, 0);
    assert_int_equal(knit_session_reserve(side->session, 200, &room), 0);
    atomic_store_explicit(&side->reply.state->state, KNIT_STATE_CLOSED, memory_order_release);
    assert_int_equal(knit_session_publish(side->session, &call, &slot), KNIT_SESSION_E_CLOSED);
    assert_int_equal(knit_session_reserve(side->session, 200, &late), KNIT_SESSION_E_CLOSED);
    call.payload = room;
    call.len = 200;
    assert_int_equal(
        knit_session_publish_reserved(side->session, &call, &slot), KNIT_SESSION_E_CLOSED);
    knit_session_unreserve(side->session, room);
    assert_int_equal(knit_session_slots_free(side->session), 4);
}

static void the_end_of_a_settled_call_is_reported_on_request(void **state)
{
    struct knit_session *session;
    uint32_t slot;
    int started;
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcome;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    lanes.report_settled = true;
    session = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    call.user = &lanes;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_true(knit_session_settle(session, slot, &started));
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
    assert_int_equal(outcome.slot, slot);
    assert_null(outcome.user);
    assert_false(outcome.held);
    assert_int_equal(knit_session_slots_free(session), 4);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 0);
}

#define WITH_LANES(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LANES(one_call_is_answered_by_a_turn),
        WITH_LANES(a_call_has_started_once_a_worker_claims_it),
        WITH_LANES(a_session_is_full_until_slots_are_free),
        WITH_LANES(large_arguments_and_results_use_blocks_and_release_them),
        WITH_LANES(a_full_reply_arena_defers_the_result_until_a_block_is_released),
        WITH_LANES(blocks_are_found_again_after_their_slots_moved_to_another_lane),
        cmocka_unit_test(calls_are_executed_once_with_workers_that_spin),
        cmocka_unit_test(calls_are_executed_once_with_workers_that_park_at_once),
        cmocka_unit_test(rings_and_generations_wrap),
        WITH_LANES(a_call_behind_a_long_one_is_stolen),
        WITH_LANES(a_queued_call_that_is_settled_never_runs),
        WITH_LANES(the_end_of_a_settled_call_is_reported_on_request),
        WITH_LANES(an_event_loop_is_woken_through_its_descriptor),
        WITH_LANES(an_answer_outside_of_its_arena_is_broken),
        WITH_LANES(nothing_is_published_to_a_session_that_is_closed),
        cmocka_unit_test(a_session_that_breaks_the_protocol_is_evicted_alone),
        cmocka_unit_test(a_session_that_notifies_for_nothing_is_evicted),
        WITH_LANES(a_replacement_continues_behind_the_last_completion),
        WITH_LANES(an_event_loop_with_nothing_in_flight_sleeps),
        WITH_LANES(a_full_bell_of_another_process_blocks_no_worker),
        WITH_LANES(sessions_leave_while_a_long_call_runs),
        WITH_LANES(a_replacement_rebuilds_the_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
