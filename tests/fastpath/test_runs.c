/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of runs: which task has which, and which bucket a time falls into. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fastpath/lane/runs.h"

static void the_first_tasks_have_rows_and_the_others_one(void **state)
{
    (void)state;
    assert_int_equal(knit_runs_row(0), 0);
    assert_int_equal(knit_runs_row(KNIT_RUN_TASKS - 1), KNIT_RUN_TASKS - 1);
    assert_int_equal(knit_runs_row(KNIT_RUN_TASKS), KNIT_RUN_TASKS);
    assert_int_equal(knit_runs_row(KNIT_TASKS - 1), KNIT_RUN_TASKS);
    assert_int_equal(KNIT_RUN_ROWS, KNIT_RUN_TASKS + 1);
}

static void a_run_counts_up_to_the_end_of_its_bucket(void **state)
{
    static const struct {
        uint64_t took_ns;
        uint32_t bucket;
    } cases[] = {{0, 0}, {1000, 0}, {1001, 1}, {4000, 1}, {4001, 2}, {16000, 2}, {1024000, 5},
        {1024001, 6}, {UINT64_C(67108864000), 13}, {UINT64_C(67108864001), 14},
        {UINT64_C(1) << 50, 14}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_run_row row = {.run = {.sum_ns = 7}};

        knit_runs_note(&row, KNIT_RUN_ERROR, cases[i].took_ns, 3);
        assert_int_equal(row.run.bucket[cases[i].bucket], 3);
        assert_int_equal(row.outcome[KNIT_RUN_ERROR], 3);
        assert_int_equal(row.outcome[KNIT_RUN_RESULT], 0);
        assert_int_equal(row.run.sum_ns, 7 + 3 * cases[i].took_ns);
    }
}

static void what_was_not_run_has_taken_no_time(void **state)
{
    struct knit_run_row row = {.outcome = {0}};

    (void)state;
    knit_runs_note(&row, KNIT_RUN_REFUSED, 5000, 2);
    assert_int_equal(row.outcome[KNIT_RUN_REFUSED], 2);
    assert_int_equal(row.run.sum_ns, 0);
    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
        assert_int_equal(row.run.bucket[i], 0);
}

static void a_wait_is_what_its_caller_says_within_reason(void **state)
{
    static const struct {
        uint64_t since_ns, now_ns, waited_ns;
        uint32_t bucket;
    } cases[] = {{1000, 6000, 5000, 2}, {6000, 1000, 0, 0}, {UINT64_MAX, 1000, 0, 0},
        {0, UINT64_MAX, KNIT_RUN_WAIT_MAX_NS, 14}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_run_row row = {.outcome = {0}};

        knit_runs_note_wait(&row, cases[i].since_ns, cases[i].now_ns, 64);
        assert_int_equal(row.wait.bucket[cases[i].bucket], 64);
        assert_int_equal(row.wait.sum_ns, 64 * cases[i].waited_ns);
        assert_int_equal(row.run.sum_ns, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_tasks_have_rows_and_the_others_one),
        cmocka_unit_test(a_run_counts_up_to_the_end_of_its_bucket),
        cmocka_unit_test(what_was_not_run_has_taken_no_time),
        cmocka_unit_test(a_wait_is_what_its_caller_says_within_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
