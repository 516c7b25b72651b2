/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a caller's time becomes the host's, in whatever namespaces of time both are, and a clock of
 * the day that is set meanwhile is never taken for another namespace. Method: the arithmetic, with
 * differences as any pair of clocks may have them; tests/system/test_time_namespaces.py has real
 * ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fastpath/lane/clock.h"

#define MS   UINT64_C(1000000)
#define HOUR (3600 * UINT64_C(1000000000))
#define DAY  UINT64_C(1700000000000000000)

static int64_t shift_of(uint64_t before, uint64_t after, uint64_t host)
{
    int64_t shift = 7;

    assert_true(knit_clock_shift(before, after, host, &shift));
    return shift;
}

static void one_clock_is_no_shift(void **state)
{
    (void)state;
    assert_int_equal(shift_of(DAY, DAY, DAY), 0);
    assert_int_equal(shift_of(DAY, DAY + MS / 2, DAY - MS / 3), 0);
    assert_int_equal(shift_of(DAY, DAY, DAY + MS - 1), 0);
    assert_int_equal(shift_of(DAY, DAY, DAY - MS + 1), 0);
    assert_int_equal(shift_of(DAY, DAY, DAY - MS), MS);
    for (int i = 0; i < 100; i++) {
        uint64_t before = knit_clock_difference(), host = knit_clock_difference();

        assert_int_equal(shift_of(before, knit_clock_difference(), host), 0);
    }
}

/* The host's monotonic clock is an hour ahead of ours, so its difference is less by an hour. */
static void another_namespace_is_a_shift(void **state)
{
    (void)state;
    assert_int_equal(shift_of(DAY, DAY, DAY - HOUR), HOUR);
    assert_int_equal(shift_of(DAY, DAY, DAY + HOUR), -(int64_t)HOUR);
    /* Its monotonic clock is ahead of the clock of the day. */
    assert_int_equal(shift_of(HOUR, HOUR, -HOUR), 2 * HOUR);
    assert_int_equal(shift_of(-HOUR, -HOUR, HOUR), -2 * (int64_t)HOUR);
}

static void a_clock_that_was_set_tells_nothing(void **state)
{
    int64_t shift = 7;

    (void)state;
    assert_false(knit_clock_shift(DAY, DAY + HOUR, DAY, &shift));
    assert_false(knit_clock_shift(DAY, DAY - MS, DAY, &shift));
    assert_false(knit_clock_shift(MS, -MS, 0, &shift));
    assert_int_equal(shift, 7);
    assert_true(knit_clock_is_near(HOUR, HOUR + MS - 1));
    assert_false(knit_clock_is_near(HOUR, -(int64_t)HOUR));
    assert_false(knit_clock_is_near(INT64_MIN, INT64_MAX - (int64_t)MS));
}

static void times_are_shifted_within_what_a_time_may_be(void **state)
{
    (void)state;
    assert_int_equal(knit_clock_shifted(5, 0), 5);
    assert_int_equal(knit_clock_shifted(HOUR, HOUR), 2 * HOUR);
    assert_int_equal(knit_clock_shifted(HOUR, 1 - (int64_t)HOUR), 1);
    assert_int_equal(knit_clock_shifted(HOUR, -(int64_t)HOUR), 1);
    assert_int_equal(knit_clock_shifted(HOUR, INT64_MIN), 1);
    assert_true(knit_clock_shifted(UINT64_MAX - 1, HOUR) == UINT64_MAX);
    assert_true(knit_clock_shifted(UINT64_MAX, INT64_MAX) == UINT64_MAX);
    assert_true(knit_clock_shifted(UINT64_MAX, INT64_MIN) == (uint64_t)INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_clock_is_no_shift),
        cmocka_unit_test(another_namespace_is_a_shift),
        cmocka_unit_test(a_clock_that_was_set_tells_nothing),
        cmocka_unit_test(times_are_shifted_within_what_a_time_may_be),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
