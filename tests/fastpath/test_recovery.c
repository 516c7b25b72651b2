/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery on shared memory alone: calls that a dead worker had claimed are answered once, and no
 * others; queued calls are refused; a recovery that is done twice, or interrupted and done again,
 * has the same result.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/board.h"
#include "fastpath/lane/recovery.h"
#include "proto/failure.h"
#include "tests/fastpath/lanes.h"

#define DEAD  77u
#define ALIVE 78u

struct fixture {
    struct lanes lanes;
    struct lanes_session *session;
    struct knit_host_session_view view;
    struct knit_recovery_error died, special, refusal;
    struct knit_recovery_death death; /* of the worker DEAD in lane 0 */
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    lanes_init(&fixture->lanes, 2, true, 0);
    fixture->session = lanes_add_session(&fixture->lanes, 32, 1 << 16, 0);
    fixture->view = (struct knit_host_session_view){.geometry = fixture->session->geometry,
        .request = fixture->session->request,
        .reply = fixture->session->reply,
        .bell_fd = fixture->session->bell_end_fd,
        .bell_is_pipe = true};
    knit_recovery_make_error(&fixture->died, KNIT_WORKER_DIED, KNIT_STARTED_YES,
        "the worker was killed by signal 9 (SIGKILL)", 9, 0);
    knit_recovery_make_error(&fixture->special, KNIT_HARD_TIMEOUT, KNIT_STARTED_YES,
        "the task ran longer than its hard timeout", 0, 500);
    knit_recovery_make_error(&fixture->refusal, KNIT_NO_WORKER, KNIT_STARTED_NO, "nobody", 0, 0);
    fixture->death = (struct knit_recovery_death){.lane = 0,
        .owner = DEAD,
        .special_slot = UINT32_MAX,
        .error = &fixture->died,
        .special = &fixture->special};
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    lanes_fini(&fixture->lanes);
    free(fixture);
    return 0;
}

static uint32_t publish(struct fixture *fixture, uint32_t lane)
{
    struct knit_session_call call = {.task = LANES_ECHO, .lane = lane, .payload = "x", .len = 1};
    uint32_t slot;

    assert_int_equal(knit_session_publish(fixture->session->session, &call, &slot), 0);
    return slot;
}

static void claim(struct fixture *fixture, uint32_t slot, uint32_t owner)
{
    _Atomic uint64_t *word = &fixture->view.reply.claim[slot];
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);

    atomic_store_explicit(
        word, knit_claim(knit_gen_next(knit_claim_gen(now)), owner), memory_order_seq_cst);
}

/* Collects one; the code of its error. */
static uint32_t collect(struct fixture *fixture, uint32_t slot)
{
    struct knit_session_outcome outcome;
    struct knit_failure failure;

    assert_true(knit_session_collect_slot(fixture->session->session, slot, &outcome));
    if (outcome.status == KNIT_STATUS_RESULT)
        return 0;
    assert_int_equal(knit_failure_decode(knit_span(outcome.body, outcome.len), &failure), 0);
    return failure.code;
}

static void an_error_of_any_length_fits_a_cell(void **state)
{
    struct knit_recovery_error error;
    struct knit_failure failure;
    char text[500];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    knit_recovery_make_error(&error, KNIT_WORKER_DIED, KNIT_STARTED_YES, text, 31, UINT64_MAX - 1);
    assert_true(error.len <= KNIT_INLINE_MAX);
    assert_int_equal(knit_failure_decode(knit_span(error.bytes, error.len), &failure), 0);
    assert_int_equal(failure.code, KNIT_WORKER_DIED);
    assert_int_equal(failure.signal, 31);
    assert_true(failure.message.len > 20);
}

static uint32_t count_held(const struct knit_host_session_view *view, uint32_t owner)
{
    uint32_t count = 0;
    uint64_t gen;

    for (uint32_t slot = 0; slot < view->geometry.slots; slot++)
        count += knit_recovery_holds(view, slot, owner, &gen);
    return count;
}

static void only_a_dead_workers_calls_are_answered(void **state)
{
    struct fixture *fixture = *state;
    uint32_t dead = publish(fixture, 0), alive = publish(fixture, 1), queued = publish(fixture, 0);
    struct knit_session_outcome outcome;

    claim(fixture, dead, DEAD);
    claim(fixture, alive, ALIVE);
    assert_int_equal(count_held(&fixture->view, DEAD), 1);
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 1);
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 0);
    assert_int_equal(collect(fixture, dead), KNIT_WORKER_DIED);
    assert_false(knit_session_collect_slot(fixture->session->session, alive, &outcome));
    assert_false(knit_session_collect_slot(fixture->session->session, queued, &outcome));
    /* The slot is used again, so the old claim no longer counts. */
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 0);
}

static void every_slot_is_looked_at(void **state)
{
    struct fixture *fixture = *state;
    const uint32_t slots = fixture->view.geometry.slots;

    for (uint32_t i = 0; i < slots; i++)
        claim(fixture, publish(fixture, i % 2), DEAD);
    assert_int_equal(count_held(&fixture->view, DEAD), slots);
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), slots);
}

/* The worker had answered before it died, and the slot was used again before recovery read it. */
static void an_answer_is_never_replaced(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot = publish(fixture, 0);
    _Atomic uint64_t *word = &fixture->view.reply.reply[slot].word;

    claim(fixture, slot, DEAD);
    for (uint64_t gen = 1; gen <= 3; gen++) {
        atomic_store_explicit(word, knit_word(gen, 0, 0), memory_order_relaxed);
        assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 0);
        assert_int_equal(atomic_load_explicit(word, memory_order_relaxed), knit_word(gen, 0, 0));
    }
}

static void one_call_gets_the_special_error(void **state)
{
    struct fixture *fixture = *state;
    uint32_t first = publish(fixture, 0), second = publish(fixture, 0);

    claim(fixture, first, DEAD);
    claim(fixture, second, DEAD);
    fixture->death.special_slot = second;
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 2);
    assert_int_equal(collect(fixture, first), KNIT_WORKER_DIED);
    assert_int_equal(collect(fixture, second), KNIT_HARD_TIMEOUT);
}

static void recovery_clears_blocked_on_arena(void **state)
{
    struct fixture *fixture = *state;
    _Atomic uint32_t *blocked = &fixture->view.reply.lane[0].blocked_on_arena;

    atomic_store_explicit(blocked, 1, memory_order_relaxed);
    assert_int_equal(knit_recovery_answer(&fixture->view, &fixture->death), 0);
    assert_int_equal(atomic_load_explicit(blocked, memory_order_relaxed), 0);
}

static void queued_calls_are_refused_and_claimed_ones_are_not(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slots[8];
    struct knit_session_outcome outcome;

    for (int i = 0; i < 8; i++)
        slots[i] = publish(fixture, (uint32_t)i % 2);
    claim(fixture, slots[2], ALIVE);
    assert_false(knit_recovery_is_idle(&fixture->view));
    assert_int_equal(knit_recovery_refuse(&fixture->view, &fixture->refusal), 7);
    assert_int_equal(knit_recovery_refuse(&fixture->view, &fixture->refusal), 0);
    assert_false(knit_recovery_is_idle(&fixture->view));
    for (int i = 0; i < 8; i++) {
        if (i != 2)
            assert_int_equal(collect(fixture, slots[i]), KNIT_NO_WORKER);
    }
    assert_false(knit_session_collect_slot(fixture->session->session, slots[2], &outcome));
    /* A worker that starts later finds the rings in order. */
    for (int i = 0; i < 200; i++) {
        uint32_t slot = publish(fixture, (uint32_t)i % 2);

        assert_int_equal(knit_recovery_refuse(&fixture->view, &fixture->refusal), 1);
        assert_int_equal(collect(fixture, slot), KNIT_NO_WORKER);
    }
    slots[0] = publish(fixture, 0);
    lanes_add_worker(&fixture->lanes, 0, ALIVE + 1);
    (void)knit_lane_turn(fixture->lanes.worker[0]);
    assert_int_equal(collect(fixture, slots[0]), 0);
    assert_int_equal(fixture->lanes.evictions, 0);
}

static void invalid_cells_in_a_ring_end_the_walk(void **state)
{
    struct fixture *fixture = *state;
    const uint32_t cells = fixture->view.geometry.cells;

    for (uint32_t i = 0; i < cells; i++) {
        /* A slot that does not exist, a generation that is not its next. */
        atomic_store_explicit(&fixture->session->request.ring[i].ctrl,
            knit_ctrl(1, 5000, knit_tag(i, cells)), memory_order_relaxed);
        atomic_store_explicit(&fixture->session->request.ring[cells + i].ctrl,
            knit_ctrl(1000, 3, knit_tag(i, cells)), memory_order_relaxed);
    }
    assert_int_equal(knit_recovery_refuse(&fixture->view, &fixture->refusal), 0);
    assert_true(knit_recovery_is_idle(&fixture->view));
    /* One call, published at every position: it is answered once. */
    for (uint32_t i = 0; i < cells; i++)
        atomic_store_explicit(&fixture->session->request.ring[i].ctrl,
            knit_ctrl(1, 3, knit_tag(i, cells)), memory_order_relaxed);
    assert_int_equal(knit_recovery_refuse(&fixture->view, &fixture->refusal), 1);
}

static void a_vacant_lane_is_announced_once(void **state)
{
    struct fixture *fixture = *state;
    _Atomic uint32_t *park = &fixture->lanes.board.park[1].value;
    uint32_t bell = atomic_load_explicit(
                 &fixture->lanes.pool.lane_bell[0].value, memory_order_relaxed),
             vacant;

    atomic_store_explicit(park, knit_park_next(0, KNIT_PARK_PARKED), memory_order_relaxed);
    knit_board_say_parked(&fixture->lanes.board, 1, true);
    knit_recovery_vacate(&fixture->lanes.board, &fixture->lanes.pool, 2, 1);
    assert_false(knit_board_is_said_parked(&fixture->lanes.board, 1));
    vacant = atomic_load_explicit(park, memory_order_relaxed);
    assert_int_equal(knit_park_state(vacant), KNIT_PARK_VACANT);
    knit_recovery_vacate(&fixture->lanes.board, &fixture->lanes.pool, 2, 1);
    assert_int_equal(atomic_load_explicit(park, memory_order_relaxed), vacant);
    assert_int_not_equal(
        atomic_load_explicit(&fixture->lanes.pool.lane_bell[0].value, memory_order_relaxed), bell);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_of_any_length_fits_a_cell),
        WITH_FIXTURE(only_a_dead_workers_calls_are_answered),
        WITH_FIXTURE(every_slot_is_looked_at),
        WITH_FIXTURE(an_answer_is_never_replaced),
        WITH_FIXTURE(one_call_gets_the_special_error),
        WITH_FIXTURE(recovery_clears_blocked_on_arena),
        WITH_FIXTURE(queued_calls_are_refused_and_claimed_ones_are_not),
        WITH_FIXTURE(invalid_cells_in_a_ring_end_the_walk),
        WITH_FIXTURE(a_vacant_lane_is_announced_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
