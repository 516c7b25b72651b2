/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of the benches are only as good as their arithmetic: histogram, typical span and
 * samples against values that were sorted and counted. */
#include "bench/histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/samples.h"
#include "bench/ticks.h"
#include "bench/typical.h"

static struct knit_histogram histogram, other;

static void small_values_are_exact(void **state)
{
    (void)state;
    knit_histogram_init(&histogram);
    assert_int_equal(knit_histogram_percentile(&histogram, 50), 0);
    for (uint64_t value = 1; value <= 100; value++)
        knit_histogram_record(&histogram, value);
    assert_int_equal(knit_histogram_percentile(&histogram, 0), 1);
    assert_int_equal(knit_histogram_percentile(&histogram, 50), 50);
    assert_int_equal(knit_histogram_percentile(&histogram, 99), 99);
    assert_int_equal(knit_histogram_percentile(&histogram, 99.99), 100);
    assert_int_equal(knit_histogram_percentile(&histogram, 100), 100);
    assert_true(knit_histogram_mean(&histogram) == 50.5);
}

/* Every width of value, its neighbours, and both ends of the type. */
static void no_value_is_off_by_more_than_a_hundredth(void **state)
{
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        for (int step = -2; step <= 2; step++) {
            uint64_t value = (1ull << bit) + (uint64_t)(int64_t)step;
            uint64_t got;
            knit_histogram_init(&histogram);
            knit_histogram_record(&histogram, value);
            /* Something larger, so that the maximum does not hide the bucket's end. */
            knit_histogram_record(&histogram, UINT64_MAX);
            got = knit_histogram_percentile(&histogram, 50);
            assert_true(got >= value);
            assert_true(got - value <= value / 100);
        }
    }
    assert_int_equal(knit_histogram_percentile(&histogram, 100), UINT64_MAX);
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void percentiles_agree_with_sorted_values(void **state)
{
    enum { COUNT = 10007 };
    static uint64_t values[COUNT];
    const double percents[] = {1, 25, 50, 75, 90, 99, 99.9, 99.99};
    uint64_t random = 88172645463325252u;
    (void)state;
    knit_histogram_init(&histogram);
    knit_histogram_init(&other);
    for (int i = 0; i < COUNT; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        values[i] = random >> (random % 60);
        knit_histogram_record(i % 2 == 0 ? &histogram : &other, values[i]);
    }
    knit_histogram_merge(&histogram, &other);
    qsort(values, COUNT, sizeof(values[0]), by_value);
    assert_int_equal(histogram.count, COUNT);
    assert_int_equal(histogram.min, values[0]);
    assert_int_equal(histogram.max, values[COUNT - 1]);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        double rank = COUNT * percents[i] / 100;
        uint64_t at = (uint64_t)ceil(rank) - 1;
        uint64_t got = knit_histogram_percentile(&histogram, percents[i]);
        assert_true(got >= values[at]);
        assert_true(got - values[at] <= values[at] / 100 + 1);
    }
}

static void a_typical_span_is_finer_than_the_clock(void **state)
{
    static struct knit_typical typical;
    double per_tick;
    (void)state;
    /* A clock in steps of 20 shows a span of 105 as 100 three times and as 120 once. */
    knit_typical_init(&typical);
    for (int i = 0; i < 1600; i++)
        knit_typical_record(&typical, i % 4 == 3 ? 120 : 100);
    per_tick = knit_ticks_to_ns(1);
    assert_true(knit_typical_ns(&typical) / per_tick > 104);
    assert_true(knit_typical_ns(&typical) / per_tick < 107);
    assert_true(knit_typical_percentile_ns(&typical, 50) / per_tick == 100);
    knit_typical_init(&typical);
    knit_typical_record(&typical, 7);
    assert_true(knit_typical_ns(&typical) / per_tick == 7);
}

static void one_disturbed_round_moves_neither_median_nor_spread(void **state)
{
    struct knit_samples samples = {0};
    (void)state;
    assert_true(knit_samples_median(&samples) == 0);
    assert_true(knit_samples_spread(&samples) == 0);
    for (int i = 0; i < 8; i++)
        knit_samples_add(&samples, 100);
    knit_samples_add(&samples, 1e9);
    assert_true(knit_samples_median(&samples) == 100);
    assert_true(knit_samples_spread(&samples) == 0);
    samples.count = 0;
    for (int i = 0; i < 5; i++)
        knit_samples_add(&samples, 90 + 5 * i);
    assert_true(knit_samples_median(&samples) == 100);
    assert_true(knit_samples_spread(&samples) == 5);
    for (int i = 0; i < 2 * KNIT_SAMPLES_MAX; i++)
        knit_samples_add(&samples, 1);
    assert_int_equal(samples.count, KNIT_SAMPLES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(no_value_is_off_by_more_than_a_hundredth),
        cmocka_unit_test(percentiles_agree_with_sorted_values),
        cmocka_unit_test(a_typical_span_is_finer_than_the_clock),
        cmocka_unit_test(one_disturbed_round_moves_neither_median_nor_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
