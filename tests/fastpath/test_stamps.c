/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that bear when they were published, and what the worker makes of that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/runs.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/lanes.h"

#define SECOND UINT64_C(1000000000)

static struct lanes lanes;
static struct knit_session *session;
static uint8_t bytes[2 * KNIT_SLAB_BYTES];

static void begin(uint32_t denied)
{
    lanes_init(&lanes, 1, false, 0);
    lanes.denied = denied;
    session = lanes_add_session(&lanes, 16, 1 << 16, 0)->session;
    lanes_add_worker(&lanes, 0, 7);
    memset(bytes, 0xff, sizeof(bytes));
}

static uint64_t waits(void)
{
    const struct knit_run_times *times = &lanes.pool.run[knit_runs_row(LANES_ECHO)].wait;
    uint64_t count = 0;

    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
        count += times->bucket[i];
    return count;
}

static uint64_t waited_ns(void)
{
    return lanes.pool.run[knit_runs_row(LANES_ECHO)].wait.sum_ns;
}

/* An echo of so many bytes. Returns the flags of its cell. */
static uint32_t call(size_t len, uint64_t deadline_ns)
{
    struct knit_session_call echo = lanes_call(LANES_ECHO, bytes, len);
    const struct knit_request_cell *cell = session->lanes[0].normal.cell;
    struct knit_session_outcome outcome;
    uint32_t slot, flags;

    echo.deadline_ns = deadline_ns;
    assert_int_equal(knit_session_publish(session, &echo, &slot), 0);
    flags = knit_meta_flags(cell->meta);
    while (!knit_session_is_answered(session, slot))
        assert_int_equal(knit_lane_turn(lanes.worker[0]), KNIT_LANE_RUNNING);
    lanes_wait_for(session, slot, &outcome);
    assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    assert_int_equal(outcome.len, len);
    assert_memory_equal(outcome.payload, bytes, len);
    if (outcome.held)
        knit_session_release(session, slot);
    return flags & KNIT_CELL_STAMPED;
}

static void a_call_whose_turn_it_is_bears_its_time_wherever_its_argument_lies(void **state)
{
    static const size_t lens[] = {0, 8, 40, 96, 105, 1024, 1025, 2000};
    uint64_t counted = 0;

    (void)state;
    begin(0);
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (int k = 0; k < 2; k++) {
            session->until_stamp = 2;
            assert_int_equal(call(lens[i], 0), 0);
            assert_int_equal(waits(), counted);
            assert_int_not_equal(call(lens[i], k * (knit_clock_ns() + 1000 * SECOND)), 0);
            counted += KNIT_STAMPED_EVERY;
            assert_int_equal(waits(), counted);
        }
    }
    assert_true(waited_ns() < counted * 100 * SECOND);
    lanes_fini(&lanes);
}

static void an_argument_that_takes_the_word_is_left_alone(void **state)
{
    (void)state;
    begin(0);
    for (size_t len = 97; len <= KNIT_INLINE_MAX; len++) {
        session->until_stamp = 1;
        assert_int_equal(call(len, 0), 0);
    }
    assert_int_equal(waits(), 0);
    lanes_fini(&lanes);
}

static void who_was_not_granted_stamps_makes_none(void **state)
{
    (void)state;
    begin(KNIT_CELL_STAMPED);
    session->until_stamp = 1;
    assert_int_equal(call(8, 0), 0);
    assert_int_equal(waits(), 0);
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
    lanes_fini(&lanes);
}

static void times_are_the_host_s(void **state)
{
    (void)state;
    begin(0);
    knit_session_set_clock_shift(session, -(int64_t)(10 * SECOND));
    session->until_stamp = 1;
    assert_int_not_equal(call(8, 0), 0);
    assert_true(waited_ns() >= KNIT_STAMPED_EVERY * 10 * SECOND);
    /* It seems to come from the future: it has not waited. */
    knit_session_set_clock_shift(session, (int64_t)(1000 * SECOND));
    session->until_stamp = 1;
    assert_int_not_equal(call(8, 0), 0);
    assert_true(waited_ns() < KNIT_STAMPED_EVERY * 500 * SECOND);
    assert_int_equal(waits(), 2 * KNIT_STAMPED_EVERY);
    lanes_fini(&lanes);
}

static void one_in_sixty_four_is_drawn(void **state)
{
    uint32_t stamped = 0;

    (void)state;
    begin(0);
    knit_session_begin_stamps(session);
    for (uint32_t i = 0; i < 64 * 500; i++) {
        const uint32_t before = session->until_stamp;

        assert_in_range(before, 1, 2 * KNIT_STAMPED_EVERY);
        stamped += call(8, 0) != 0;
        if (before > 1)
            assert_int_equal(session->until_stamp, before - 1);
    }
    /* 500 are the mean, and the deviation is 13. */
    assert_in_range(stamped, 400, 600);
    lanes_fini(&lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_whose_turn_it_is_bears_its_time_wherever_its_argument_lies),
        cmocka_unit_test(an_argument_that_takes_the_word_is_left_alone),
        cmocka_unit_test(who_was_not_granted_stamps_makes_none),
        cmocka_unit_test(times_are_the_host_s),
        cmocka_unit_test(one_in_sixty_four_is_drawn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
