/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments and results that do not fit a cell and fit a slab. A slab belongs to its slot, so what
 * is tested is that it is nobody else's as long as one side may read it, and that nothing of it is
 * said in the cells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/session_private.h"
#include "proto/head.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

enum { SLOTS = 3, ARENA_BYTES = 65536 };

static struct lanes lanes;
static unsigned char bytes[2 * KNIT_SLAB_BYTES];

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish(
    struct knit_session *session, uint32_t task, uint32_t lane, unsigned char byte, size_t len)
{
    struct knit_session_call call = lanes_call(task, bytes, len);
    uint32_t slot;

    call.lane = lane;
    memset(bytes, byte, len);
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    knit_session_flush(session);
    return slot;
}

static void assert_filled(
    const struct knit_session_outcome *outcome, unsigned char byte, size_t len)
{
    assert_int_equal(outcome->status, KNIT_STATUS_RESULT);
    assert_int_equal(outcome->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(((const unsigned char *)outcome->payload)[i], byte);
}

static void slabs_overlap_nothing(void **state)
{
    const struct lanes_session *side;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    side = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    assert_true(
        knit_slab(side->request.slab, 0) >= (unsigned char *)&side->request.released[SLOTS]);
    /* A worker that reads in place reads some bytes behind an argument. */
    assert_true(knit_slab(side->request.slab, SLOTS) <= (unsigned char *)side->request.ring);
    assert_true(side->request.arena - knit_slab(side->request.slab, SLOTS) >= KNIT_HEAD_SPARE);
    assert_true(knit_slab(side->reply.slab, 0) >=
                (unsigned char *)&side->reply.completions[2 * (size_t)side->geometry.cells]);
    assert_true(knit_slab(side->reply.slab, SLOTS) <= side->reply.arena);
}

/* lanes.c trusts every other session, beginning with the first. */
static void what_fits_a_slab_takes_no_block(void **state)
{
    const size_t lens[] = {KNIT_INLINE_MAX, KNIT_INLINE_MAX + 1, 500, KNIT_SLAB_BYTES - 1,
        KNIT_SLAB_BYTES, KNIT_SLAB_BYTES + 1};
    const uint32_t tasks[] = {LANES_ECHO, LANES_ROOM};

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    for (int i = 0; i < 2; i++)
        (void)lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    lanes_add_worker(&lanes, 0, 5);
    for (size_t i = 0; i < 2 * 2 * sizeof(lens) / sizeof(lens[0]); i++) {
        const struct lanes_session *side = &lanes.session[i % 2];
        const size_t len = lens[i / 4];
        const bool in_slab = len > KNIT_INLINE_MAX && len <= KNIT_SLAB_BYTES;
        const uint32_t flags = len > KNIT_SLAB_BYTES ? KNIT_CELL_IN_ARENA : 0;
        const struct knit_request_cell *cell = side->session->lanes[0].normal.cell;
        const struct knit_reply_cell *answer;
        struct knit_session_outcome outcome;
        uint32_t slot = publish(side->session, tasks[i / 2 % 2], 0, (unsigned char)(i + 1), len);

        (void)knit_lane_turn(lanes.worker[0]);
        assert_true(knit_session_collect_slot(side->session, slot, &outcome));
        assert_filled(&outcome, (unsigned char)(i + 1), len);
        assert_int_equal(outcome.held, len > KNIT_INLINE_MAX);
        answer = &side->reply.reply[slot];
        assert_int_equal(
            knit_meta_flags(atomic_load_explicit(&cell->meta, memory_order_relaxed)), flags);
        assert_int_equal(
            knit_word_flags(atomic_load_explicit(&answer->word, memory_order_relaxed)), flags);
        if (in_slab) {
            assert_ptr_equal(outcome.payload, knit_slab(side->reply.slab, slot));
            /* Bytes that their caller may still change are copied before they are read. */
            assert_int_equal(atomic_load_explicit(&lanes.payload, memory_order_relaxed) ==
                                 knit_slab(side->request.slab, slot),
                i % 2 == 0);
        }
        if (outcome.held)
            knit_session_release(side->session, slot);
        assert_int_equal(knit_session_slots_free(side->session), SLOTS);
    }
}

/* Neither a full arena nor one of no size. */
static void no_arena_is_needed(void **state)
{
    struct knit_session_outcome outcome;
    struct knit_session *session;
    uint32_t full, slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, SLOTS, KNIT_PAGE, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    full = publish(session, LANES_ECHO, 0, 7, KNIT_SLAB_BYTES + 1);
    lanes_wait_for(session, full, &outcome);
    for (unsigned char i = 1; i < 200; i++) {
        slot = publish(session, LANES_ECHO, 0, i, KNIT_SLAB_BYTES);
        lanes_wait_for(session, slot, &outcome);
        assert_filled(&outcome, i, KNIT_SLAB_BYTES);
        knit_session_release(session, slot);
    }
    knit_session_release(session, full);
}

/* As long as it is not released its slot carries no call, whatever happens in the others and
 * whoever serves the lane. */
static void a_result_stays_until_it_is_released(void **state)
{
    struct knit_session_outcome held, outcome;
    struct knit_session *session;
    uint32_t slot, other;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    session = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    slot = publish(session, LANES_ECHO, 0, 0xaa, 1000);
    lanes_wait_for(session, slot, &held);
    for (unsigned char i = 0; i < 100; i++) {
        if (i == 50) {
            lanes_stop_worker(&lanes, 0);
            lanes_start_worker(&lanes, 0, 6);
        }
        other = publish(session, LANES_ECHO, 0, i, i % 3 == 0 ? 1500 : 1000);
        lanes_wait_for(session, other, &outcome);
        assert_int_not_equal(other, slot);
        assert_filled(&outcome, i, i % 3 == 0 ? 1500 : 1000);
        knit_session_release(session, other);
    }
    assert_filled(&held, 0xaa, 1000);
    knit_session_release(session, slot);
    assert_int_equal(publish(session, LANES_ECHO, 0, 1, 1000), slot);
}

/* The call is settled while a worker runs it, which answers when it looks at its abort next. Until
 * that is collected its slot, and so its slab, is no other call's. */
static void a_late_answer_touches_no_other_result(void **state)
{
    struct knit_session_outcome held, outcome;
    struct knit_session *session;
    uint32_t late, slot, other;
    int started;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    session = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    lanes_start_worker(&lanes, 0, 5);
    lanes_start_worker(&lanes, 1, 6);
    late = publish(session, LANES_GATE, 0, 0xbb, 1000);
    assert_true(
        KNIT_WAIT_UNTIL(atomic_load_explicit(&lanes.at_gate, memory_order_acquire) == 1, 20000));
    assert_true(knit_session_settle(session, late, &started));
    assert_int_equal(started, KNIT_STARTED_YES);
    slot = publish(session, LANES_ECHO, 1, 0xaa, 1000);
    lanes_wait_for(session, slot, &held);
    for (unsigned char i = 0; i < 20; i++) {
        other = publish(session, LANES_ECHO, 1, i, 1000);
        assert_int_not_equal(other, late);
        lanes_wait_for(session, other, &outcome);
        assert_filled(&outcome, i, 1000);
        knit_session_release(session, other);
    }
    assert_true(KNIT_WAIT_UNTIL(knit_session_collect(session, &outcome, 1) == 0 &&
                                    knit_session_slots_free(session) == SLOTS - 1,
        20000));
    assert_filled(&held, 0xaa, 1000);
    knit_session_release(session, slot);
    assert_int_equal(knit_session_slots_free(session), SLOTS);
}

#define WITH_LANES(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LANES(slabs_overlap_nothing),
        WITH_LANES(what_fits_a_slab_takes_no_block),
        WITH_LANES(no_arena_is_needed),
        WITH_LANES(a_result_stays_until_it_is_released),
        WITH_LANES(a_late_answer_touches_no_other_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
