/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's turns when some callers publish many calls: the others do not wait for them, no honest
 * session is evicted, and memory stays within its budget. Method: workers driven by hand, a turn at
 * a time, where the order matters; threads where a wake-up matters. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/note.h"
#include "fastpath/lane/recovery.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

#define RESULT_MAX 65536u
#define RESULT     60000u
#define BUDGET     ((uint64_t)1 << 20)

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish(struct knit_session *session, const struct knit_session_call *call)
{
    uint32_t slot;
    assert_int_equal(knit_session_publish(session, call, &slot), 0);
    return slot;
}

/* ---- turns ---- */

static void a_call_that_is_not_short_ends_the_turn(void **state)
{
    struct knit_session *greedy, *modest;
    uint32_t us, slot;
    struct knit_session_call spin, echo;
    struct knit_session_outcome outcomes[16];

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    greedy = lanes_add_session(&lanes, 16, 65536, 0)->session;
    modest = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    us = 100;
    spin = lanes_call(LANES_SPIN, &us, sizeof(us));
    echo = lanes_call(LANES_ECHO, "x", 1);
    /* The worker learns how long they take. */
    (void)publish(greedy, &spin);
    (void)publish(greedy, &echo);
    while (knit_session_in_flight(greedy) > 0) {
        (void)knit_lane_turn(lanes.worker[0]);
        (void)knit_session_collect(greedy, outcomes, 16);
    }
    for (int i = 0; i < 8; i++)
        (void)publish(greedy, &spin);
    assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_int_equal(knit_session_collect(greedy, outcomes, 16), 1);
    /* A call that is published now is the next to run, or the next but one. */
    slot = publish(modest, &echo);
    for (int i = 0; i < 2; i++)
        (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(modest, slot, &outcomes[0]));
    assert_true(knit_session_in_flight(greedy) >= 6);
}

struct flood {
    struct knit_session *session;
    uint32_t lane;
    _Atomic bool is_over;
};

static void *keep_busy(void *arg)
{
    struct flood *flood = arg;
    const uint32_t us = 100;
    struct knit_session_call spin = lanes_call(LANES_SPIN, &us, sizeof(us));
    struct knit_session_outcome outcomes[64];
    uint32_t slot;
    spin.lane = flood->lane;
    while (!atomic_load_explicit(&flood->is_over, memory_order_relaxed)) {
        while (knit_session_publish(flood->session, &spin, &slot) == 0)
            ;
        knit_session_flush(flood->session);
        (void)knit_session_collect(flood->session, outcomes, 64);
    }
    return NULL;
}

static uint64_t calls_of(void)
{
    return atomic_load_explicit(&lanes.board.busy[0].calls, memory_order_relaxed);
}

/* While a lane is kept full, the only worker still takes every call of the vacant lane. */
static void take_beside_a_flood(uint32_t flooded_lane)
{
    enum { CALLS = 40, BETWEEN = 50 };
    struct flood flood;
    struct knit_session_call echo;
    uint64_t between;
    struct knit_session *other;
    struct knit_session_outcome outcome;
    pthread_t thread;
    lanes_init(&lanes, 2, true, 0);
    flood = (struct flood){
        .session = lanes_add_session(&lanes, 256, 65536, 0)->session, .lane = flooded_lane};
    other = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, &flood), 0);
    assert_true(KNIT_WAIT_UNTIL(calls_of() > 300, 20000));
    echo = lanes_call(LANES_ECHO, "x", 1);
    echo.lane = 1;
    between = 0;
    for (int i = 0; i < CALLS; i++) {
        uint64_t before = calls_of();
        uint32_t slot = publish(other, &echo);
        knit_session_flush(other);
        assert_true(KNIT_WAIT_UNTIL(knit_session_collect_slot(other, slot, &outcome), 5000));
        between += calls_of() - before;
    }
    /* On average: this thread may not be scheduled for a while. */
    assert_true(between <= (uint64_t)CALLS * BETWEEN);
    atomic_store_explicit(&flood.is_over, true, memory_order_relaxed);
    pthread_join(thread, NULL);
}

static void a_busy_worker_claims_calls_of_a_vacant_lane(void **state)
{
    (void)state;
    take_beside_a_flood(0);
}

static void a_full_ring_in_a_vacant_lane_does_not_delay_other_callers(void **state)
{
    (void)state;
    take_beside_a_flood(1);
}

/* Under valgrind, which does not know the call, a worker parks without a pause. */
static void skip_where_workers_cannot_sleep(void)
{
    if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) == -1 && errno == ENOSYS)
        skip();
}

static bool is_parked(uint32_t index)
{
    return knit_park_state(atomic_load_explicit(
               &lanes.board.park[index].value, memory_order_relaxed)) == KNIT_PARK_PARKED;
}

static uint32_t at_gate(void)
{
    return atomic_load_explicit(&lanes.at_gate, memory_order_seq_cst);
}

static void a_worker_that_claims_in_a_vacant_lane_wakes_another_for_the_next_call(void **state)
{
    struct knit_session *session;
    struct knit_session_call gate = lanes_call(LANES_GATE, "x", 1);
    struct knit_session_outcome outcomes[2];

    (void)state;
    skip_where_workers_cannot_sleep();
    lanes_init(&lanes, 3, false, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    lanes_start_worker(&lanes, 1, 6);
    gate.lane = 2;
    assert_true(KNIT_WAIT_UNTIL(is_parked(0) && is_parked(1), 20000));
    /* One flush wakes one worker, also without stealing; its call does not end. */
    (void)publish(session, &gate);
    (void)publish(session, &gate);
    knit_session_flush(session);
    assert_true(KNIT_WAIT_UNTIL(at_gate() == 2, 20000));
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    assert_true(KNIT_WAIT_UNTIL(
        knit_session_collect(session, outcomes, 2) == 0 && knit_session_in_flight(session) == 0,
        20000));
}

/* A task that was always short does not end: its worker woke no other before it began. The caller
 * does when it waits for the call behind it. */
static void a_caller_that_waits_wakes_a_worker_for_a_vacant_lane(void **state)
{
    enum { LEARN = 64 };
    struct knit_session *session;
    struct knit_session_call gate;
    struct knit_session_outcome outcome;
    (void)state;
    skip_where_workers_cannot_sleep();
    lanes_init(&lanes, 3, false, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    lanes_start_worker(&lanes, 1, 6);
    gate = lanes_call(LANES_GATE, "x", 1);
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    for (uint32_t i = 0; i < LEARN; i++) {
        uint32_t slot;

        gate.lane = i % 2;
        slot = publish(session, &gate);
        knit_session_flush(session);
        assert_true(KNIT_WAIT_UNTIL(knit_session_collect_slot(session, slot, &outcome), 20000));
    }
    atomic_store_explicit(&lanes.gate, 0, memory_order_release);
    assert_true(KNIT_WAIT_UNTIL(is_parked(0) && is_parked(1), 20000));
    gate.lane = 2;
    (void)publish(session, &gate);
    (void)publish(session, &gate);
    knit_session_flush(session);
    /* On a machine so slow that the task was never short, its worker has woken another already. */
    assert_true(KNIT_WAIT_UNTIL(at_gate() > LEARN, 20000));
    (void)knit_session_arm(session);
    assert_true(KNIT_WAIT_UNTIL(at_gate() == LEARN + 2, 20000));
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    assert_true(KNIT_WAIT_UNTIL(
        knit_session_collect(session, &outcome, 1) == 0 && knit_session_in_flight(session) == 0,
        20000));
}

/* ---- sessions that leave ---- */

enum { LEAVER = 1, CALLER, LAST }; /* sessions, by the ids that the harness gives them */

struct leaving {
    struct lanes lanes;
    pthread_t thread;
    _Atomic uint32_t gone;
    _Atomic bool is_detached; /* that the last session leaves */
};

static void leave_at_eviction(void *arg, uint64_t session, const char *reason)
{
    (void)reason;
    assert_int_equal(knit_lane_detach(((struct leaving *)arg)->lanes.worker[0], session), 0);
}

static void *send_last(void *arg)
{
    struct leaving *leaving = arg;
    assert_int_equal(knit_lane_detach(leaving->lanes.worker[0], LAST), 0);
    atomic_store_explicit(&leaving->is_detached, true, memory_order_release);
    return NULL;
}

/* The worker's thread is still walking its sessions, in a list that ends with the leaver. */
static void go(void *arg, uint64_t session)
{
    struct leaving *leaving = arg;
    atomic_fetch_add_explicit(&leaving->gone, 1, memory_order_seq_cst);
    if (session != LEAVER)
        return;
    assert_int_equal(pthread_create(&leaving->thread, NULL, send_last, leaving), 0);
    (void)KNIT_WAIT_UNTIL(atomic_load_explicit(&leaving->is_detached, memory_order_acquire), 50);
}

static void run_until_both_are_gone(void *arg, struct knit_job *job)
{
    struct leaving *leaving = arg;
    job->result = job->payload;
    job->result_len = knit_job_len(job);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&leaving->gone, memory_order_seq_cst) == 2, 20000));
}

static void a_session_leaves_while_another_is_detached_before_the_call_ends(void **state)
{
    struct leaving leaving;
    struct knit_session *leaver, *caller;
    struct knit_lane_options *options;
    struct knit_session_call wrong, right;
    uint32_t slot;
    struct knit_session_outcome outcome;

    (void)state;
    leaving = (struct leaving){0};
    lanes_init(&leaving.lanes, 1, false, 0);
    leaver = lanes_add_session(&leaving.lanes, 16, 65536, 0)->session;
    caller = lanes_add_session(&leaving.lanes, 16, 65536, 0)->session;
    (void)lanes_add_session(&leaving.lanes, 16, 65536, 0);
    lanes_add_worker(&leaving.lanes, 0, 5);
    options = &leaving.lanes.worker[0]->options;
    options->argument_max_bytes = leaving.lanes.worker[0]->inline_max = 1;
    options->run = run_until_both_are_gone;
    options->on_evict = leave_at_eviction;
    options->on_detached = go;
    options->run_arg = options->event_arg = &leaving;
    wrong = lanes_call(0, "xx", 2);
    right = lanes_call(0, "x", 1);
    /* It is evicted, and leaves, after the turn and before the call have begun. */
    (void)publish(leaver, &wrong);
    slot = publish(caller, &right);
    assert_int_equal(knit_lane_turn(leaving.lanes.worker[0]), KNIT_LANE_RUNNING);
    assert_true(knit_session_collect_slot(caller, slot, &outcome));
    pthread_join(leaving.thread, NULL);
    lanes_fini(&leaving.lanes);
}

/* At the first look the lane's own worker may be about to take the call. */
static void a_living_workers_call_is_stolen_at_the_second_look(void **state)
{
    struct knit_session *session;
    struct knit_session_call echo = lanes_call(LANES_ECHO, "x", 1);
    uint32_t slot;
    struct knit_session_outcome outcome;

    (void)state;
    lanes_init(&lanes, 2, true, 0);
    session = lanes_add_session(&lanes, 16, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    lanes_add_worker(&lanes, 1, 6);
    echo.lane = 0;
    slot = publish(session, &echo);
    (void)knit_lane_turn(lanes.worker[1]);
    assert_false(knit_session_collect_slot(session, slot, &outcome));
    (void)knit_lane_turn(lanes.worker[1]);
    assert_true(knit_session_collect_slot(session, slot, &outcome));
}

static void a_job_is_aborted_by_its_caller_and_with_its_session(void **state)
{
    struct lanes_session *side;
    struct knit_session_call echo = lanes_call(LANES_ECHO, "x", 1);
    struct knit_lane *lane;
    uint32_t slot;
    _Atomic uint32_t *state_of;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_add_worker(&lanes, 0, 5);
    slot = publish(side->session, &echo);
    (void)knit_lane_turn(lanes.worker[0]);
    lane = lanes.worker[0];
    state_of = &side->reply.state->state;
    /* The job counts as running. */
    lane->current = lane->sessions[0];
    assert_false(knit_lane_aborted(lane, &lane->job));
    /* The end of its time in the queue is none to a job that runs, and undoes no abort. */
    assert_false(knit_session_withdraw(side->session, slot));
    assert_false(knit_lane_aborted(lane, &lane->job));
    knit_session_abort(side->session, slot);
    assert_true(knit_lane_aborted(lane, &lane->job));
    assert_false(knit_session_withdraw(side->session, slot));
    assert_true(knit_lane_aborted(lane, &lane->job));
    lane->job.ctrl += 1ull << KNIT_GEN_SHIFT;
    assert_false(knit_lane_aborted(lane, &lane->job));
    atomic_store_explicit(state_of, KNIT_STATE_CLOSED, memory_order_relaxed);
    assert_true(knit_lane_aborted(lane, &lane->job));
    lane->current = NULL;
}

/* ---- completions ---- */

/* Enough for the lap numbers of unread completions to wrap. */
static void completions_are_read_after_any_number_of_calls_collected_by_slot(void **state)
{
    struct knit_session *session;
    struct knit_session_call echo = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session_outcome outcome;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 1, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    for (uint32_t i = 0; i < 32 * 32769; i++) {
        uint32_t slot = publish(session, &echo);
        (void)knit_lane_turn(lanes.worker[0]);
        assert_true(knit_session_collect_slot(session, slot, &outcome));
    }
    (void)publish(session, &echo);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(knit_session_collect(session, &outcome, 1), 1);
}

/* ---- blocks ---- */

/* Workers with a budget and results of one length, which lanes.c does not know. */
struct budget {
    struct lanes lanes;
    struct knit_session *session;
    struct knit_lane *worker[4];
    _Atomic uint32_t evictions;
    bool refuses;
};

static void give_result(void *arg, struct knit_job *job)
{
    struct budget *budget = arg;
    static unsigned char bytes[RESULT];
    job->result = bytes;
    job->result_len = budget->refuses ? 1 : RESULT;
    job->was_refused = budget->refuses;
}

static void on_evict(void *arg, uint64_t session, const char *reason)
{
    (void)session, (void)reason;
    atomic_fetch_add_explicit(&((struct budget *)arg)->evictions, 1, memory_order_relaxed);
}

static void start(struct budget *budget, uint32_t index, uint32_t owner)
{
    const struct lanes_session *side = &budget->lanes.session[0];
    struct knit_lane_options options = {.index = index,
        .lanes = budget->lanes.lanes,
        .owner = owner,
        .board = budget->lanes.board,
        .pool = budget->lanes.pool,
        .result_max_bytes = RESULT_MAX,
        .argument_max_bytes = RESULT_MAX,
        .run = give_result,
        .run_arg = budget,
        .on_evict = on_evict,
        .event_arg = budget};
    struct knit_lane_session in = {.id = 1,
        .geometry = side->geometry,
        .request = side->request,
        .reply = side->reply,
        .bell_fd = -1,
        .reply_budget_bytes = BUDGET};
    budget->worker[index] = knit_lane_free(budget->worker[index]);
    assert_int_equal(knit_lane_new(&options, &budget->worker[index]), 0);
    assert_int_equal(knit_lane_attach(budget->worker[index], &in), 0);
}

static void init_budget(struct budget *budget, uint32_t count)
{
    memset(budget, 0, sizeof(*budget));
    lanes_init(&budget->lanes, count, false, 0);
    budget->session = lanes_add_session(&budget->lanes, 64, BUDGET, 0)->session;
    for (uint32_t i = 0; i < count; i++)
        start(budget, i, 5 + i);
}

static void fini_budget(struct budget *budget)
{
    for (uint32_t i = 0; i < budget->lanes.lanes; i++)
        budget->worker[i] = knit_lane_free(budget->worker[i]);
    lanes_fini(&budget->lanes);
}

/* One more result in that lane, which is held; false: there was no room. */
static bool hold_one(struct budget *budget, uint32_t lane, uint32_t *ret_slot)
{
    struct knit_session_call call = lanes_call(0, "x", 1);
    struct knit_session_outcome outcome;
    call.lane = lane;
    *ret_slot = publish(budget->session, &call);
    (void)knit_lane_turn(budget->worker[lane]);
    return knit_session_collect_slot(budget->session, *ret_slot, &outcome);
}

static uint64_t touched(const struct budget *budget)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < budget->lanes.lanes; i++)
        sum += atomic_load_explicit(
            &budget->lanes.session[0].reply.lane[i].touched, memory_order_relaxed);
    return sum;
}

static void lanes_together_stay_within_the_budget(void **state)
{
    struct budget budget;
    bool is_full[4] = {false};
    uint32_t slot;

    (void)state;
    init_budget(&budget, 4);
    for (int i = 0; i < 14; i++)
        for (uint32_t lane = 0; lane < 4; lane++)
            is_full[lane] = is_full[lane] || !hold_one(&budget, lane, &slot);
    assert_true(is_full[0] && is_full[1] && is_full[2] && is_full[3]);
    assert_true(touched(&budget) > BUDGET / 2);
    assert_true(touched(&budget) <= BUDGET);
    fini_budget(&budget);
}

static void what_a_dead_worker_touched_is_still_counted(void **state)
{
    struct budget budget;
    uint32_t slots[10], slot;
    uint64_t before;

    (void)state;
    init_budget(&budget, 2);
    for (int i = 0; i < 10; i++)
        assert_true(hold_one(&budget, 0, &slots[i]));
    before = touched(&budget);
    for (int i = 0; i < 10; i++)
        knit_session_release(budget.session, slots[i]);
    start(&budget, 0, 9);
    assert_true(hold_one(&budget, 0, &slot));
    assert_int_equal(touched(&budget), before);
    fini_budget(&budget);
}

static void an_argument_over_the_limit_evicts(void **state)
{
    static unsigned char bytes[RESULT_MAX + 1];
    struct budget budget;
    struct knit_session_call call;

    (void)state;
    call = lanes_call(0, bytes, sizeof(bytes));
    init_budget(&budget, 1);
    (void)publish(budget.session, &call);
    /* After the eviction it has nothing to do, and sleeps. */
    budget.worker[0]->options.park_ms = 1;
    (void)knit_lane_turn(budget.worker[0]);
    assert_int_equal(atomic_load_explicit(&budget.evictions, memory_order_relaxed), 1);
    fini_budget(&budget);
}

static void refusals_do_not_count_in_the_time_of_a_task(void **state)
{
    struct budget budget;
    struct knit_session_call call = lanes_call(0, "x", 1);
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    init_budget(&budget, 1);
    assert_true(hold_one(&budget, 0, &slot));
    budget.worker[0]->mean_ns[0] = 1000000;
    budget.refuses = true;
    for (int i = 0; i < 200; i++) {
        slot = publish(budget.session, &call);
        (void)knit_lane_turn(budget.worker[0]);
        assert_true(knit_session_collect_slot(budget.session, slot, &outcome));
    }
    assert_int_equal(budget.worker[0]->mean_ns[0], 1000000);
    fini_budget(&budget);
}

/* A worker checks a few blocks a turn, and reaches all of them in turn. */
static void one_release_among_many_blocks_is_found(void **state)
{
    struct knit_session *session, *other;
    static unsigned char bytes[1100];
    struct knit_session_call call, short_call;
    struct knit_session_outcome outcome;
    uint32_t slots[128], count, slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 128, 131072, 0)->session;
    other = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, 5);
    call = lanes_call(LANES_ECHO, bytes, sizeof(bytes));
    short_call = lanes_call(LANES_ECHO, "x", 1);
    count = 0;
    do {
        slots[count] = publish(session, &call);
        (void)knit_lane_turn(lanes.worker[0]);
    } while (knit_session_collect_slot(session, slots[count], &outcome) && ++count < 127);
    assert_true(count > 90 && count < 127);
    knit_session_release(session, slots[count / 2]);
    for (uint32_t turn = 0; !knit_session_collect_slot(session, slots[count], &outcome); turn++) {
        assert_true(turn < 16);
        slot = publish(other, &short_call);
        /* On a slow machine a turn ends before it reaches this session. */
        for (int i = 0; !knit_session_collect_slot(other, slot, &outcome); i++) {
            assert_true(i < 3);
            (void)knit_lane_turn(lanes.worker[0]);
        }
    }
}

/* It notifies with each release, and the worker, which claims no call of it meanwhile, parks in
 * between. */
static void a_caller_that_releases_while_blocked_is_not_evicted(void **state)
{
    struct lanes_session *side;
    static unsigned char bytes[900000];
    static uint32_t slots[1500];
    struct knit_session_call call;
    struct knit_session_outcome outcome;
    uint32_t large;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, 1600, 2 << 20, 0);
    call = lanes_call(LANES_ECHO, bytes, 1100);
    lanes_start_worker(&lanes, 0, 5);
    for (int i = 0; i < 1500; i++) {
        slots[i] = publish(side->session, &call);
        knit_session_flush(side->session);
        assert_true(
            KNIT_WAIT_UNTIL(knit_session_collect_slot(side->session, slots[i], &outcome), 20000));
    }
    call.len = sizeof(bytes);
    large = publish(side->session, &call);
    knit_session_flush(side->session);
    assert_true(KNIT_WAIT_UNTIL(
        atomic_load_explicit(&side->reply.lane[0].blocked_on_arena, memory_order_relaxed) != 0,
        20000));
    for (int i = 0; i < 1500; i++) {
        assert_true(KNIT_WAIT_UNTIL(knit_park_state(atomic_load_explicit(&lanes.board.park[0].value,
                                        memory_order_relaxed)) == KNIT_PARK_PARKED ||
                                        atomic_load_explicit(&side->reply.lane[0].blocked_on_arena,
                                            memory_order_relaxed) == 0,
            20000));
        knit_session_release(side->session, slots[i]);
    }
    assert_true(KNIT_WAIT_UNTIL(knit_session_collect_slot(side->session, large, &outcome), 20000));
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
}

/* ---- what a result leaves behind ---- */

struct filled {
    uint8_t len, byte;
};

static void fill_body(void *arg, struct knit_job *job)
{
    struct filled filled;

    (void)arg;
    memcpy(&filled, job->payload, sizeof(filled));
    memset(job->body, filled.byte, filled.len);
    job->status = KNIT_STATUS_RESULT;
    job->result = job->body;
    job->result_len = filled.len;
}

static const struct knit_reply_cell *answer_with(
    uint32_t side, uint8_t byte, uint8_t len, struct knit_session_outcome *ret_outcome)
{
    const struct filled filled = {len, byte};
    struct knit_session_call call = lanes_call(0, &filled, sizeof(filled));
    uint32_t slot = publish(lanes.session[side].session, &call);

    (void)knit_lane_turn(lanes.worker[0]);
    assert_true(knit_session_collect_slot(lanes.session[side].session, slot, ret_outcome));
    assert_int_equal(ret_outcome->len, len);
    return &lanes.session[side].reply.reply[slot];
}

/* The worker's own copy of a result is the same memory for all sessions, and whole words of it go
 * into cells. The task is measured at first and short later: both ways are gone. */
static void no_reply_shows_what_an_earlier_result_left(void **state)
{
    struct knit_session_outcome outcome;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    for (int i = 0; i < 2; i++)
        (void)lanes_add_session(&lanes, 4, 65536, 0);
    lanes_add_worker(&lanes, 0, 5);
    lanes.worker[0]->options.run = fill_body;
    for (uint32_t len = 0; len <= KNIT_INLINE_MAX; len++) {
        const struct knit_reply_cell *cell;
        unsigned char bytes[KNIT_INLINE_MAX];

        (void)answer_with(0, 0xaa, KNIT_INLINE_MAX, &outcome);
        cell = answer_with(1, 0x55, (uint8_t)len, &outcome);
        for (uint32_t i = 0; i < KNIT_CELL_WORDS; i++) {
            uint64_t word = atomic_load_explicit(&cell->body[i], memory_order_relaxed);

            memcpy(bytes + 8 * i, &word, sizeof(word));
        }
        /* A slot's earlier results were shorter. */
        for (uint32_t i = 0; i < KNIT_INLINE_MAX; i++)
            assert_int_equal(bytes[i], i < len ? 0x55 : 0);
    }
}

enum { NEW_OWNER = 7 };

static uint32_t looks;
static uint64_t shown_calls[3];
static bool had_answered[3];

static void look_from_outside(void *arg, struct knit_job *job)
{
    (void)arg;
    shown_calls[looks] = calls_of();
    had_answered[looks++] = knit_note_has_answered(&lanes.pool, 0, NEW_OWNER);
    job->status = KNIT_STATUS_RESULT;
    job->result = job->body;
    job->result_len = 1;
}

/* A worker may die in any of them; as one that had answered none in the first alone. */
static void a_worker_has_answered_a_call_when_its_next_one_begins(void **state)
{
    struct knit_session_call call = lanes_call(0, "x", 1);
    struct knit_session *session;
    struct knit_session_outcome outcomes[3];

    (void)state;
    looks = 0;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, 4, 65536, 0)->session;
    lanes_add_worker(&lanes, 0, NEW_OWNER);
    lanes.worker[0]->options.run = look_from_outside;
    (void)publish(session, &call);
    (void)knit_lane_turn(lanes.worker[0]);
    lanes.worker[0]->mean_ns[0] = 10;
    for (int i = 0; i < 2; i++)
        (void)publish(session, &call);
    (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(looks, 3);
    /* Of short calls in one turn the board shows none. */
    assert_int_equal(shown_calls[2], 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(had_answered[i], i > 0);
    assert_int_equal(knit_session_collect(session, outcomes, 3), 3);
    assert_false(knit_note_has_answered(&lanes.pool, 0, NEW_OWNER + 1));
}

#define WITH_LANES(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LANES(a_call_that_is_not_short_ends_the_turn),
        WITH_LANES(a_busy_worker_claims_calls_of_a_vacant_lane),
        WITH_LANES(a_full_ring_in_a_vacant_lane_does_not_delay_other_callers),
        WITH_LANES(a_worker_that_claims_in_a_vacant_lane_wakes_another_for_the_next_call),
        WITH_LANES(a_caller_that_waits_wakes_a_worker_for_a_vacant_lane),
        cmocka_unit_test(a_session_leaves_while_another_is_detached_before_the_call_ends),
        WITH_LANES(a_living_workers_call_is_stolen_at_the_second_look),
        WITH_LANES(a_job_is_aborted_by_its_caller_and_with_its_session),
        WITH_LANES(completions_are_read_after_any_number_of_calls_collected_by_slot),
        cmocka_unit_test(lanes_together_stay_within_the_budget),
        cmocka_unit_test(what_a_dead_worker_touched_is_still_counted),
        cmocka_unit_test(an_argument_over_the_limit_evicts),
        cmocka_unit_test(refusals_do_not_count_in_the_time_of_a_task),
        WITH_LANES(one_release_among_many_blocks_is_found),
        WITH_LANES(a_caller_that_releases_while_blocked_is_not_evicted),
        WITH_LANES(no_reply_shows_what_an_earlier_result_left),
        WITH_LANES(a_worker_has_answered_a_call_when_its_next_one_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
