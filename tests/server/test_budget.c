/* SPDX-License-Identifier: Apache-2.0 */
/* The budget of the admin face: what may be done at once, the pauses behind it, and that the share
 * holds in the long run, whatever the pieces of work are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/admin/budget.h"
#include "tests/support/random.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)

static const uint64_t start = 1000 * SECOND;

/* At one moment, in pieces: what is worked before the pause, and how long that is. */
static uint64_t worked_at_once(
    struct knit_budget *budget, uint64_t now_ns, uint64_t piece_ns, uint64_t *ret_pause_ns)
{
    uint64_t worked = 0;

    do {
        *ret_pause_ns = knit_budget_spend(budget, now_ns, piece_ns);
        worked += piece_ns;
    } while (*ret_pause_ns == 0);
    return worked;
}

static void rested_it_works_20_ms_at_once(void **state)
{
    struct knit_budget budget = {0};
    uint64_t pause;

    (void)state;
    assert_int_equal(worked_at_once(&budget, start, MS / 10, &pause), 20 * MS);
    assert_int_equal(pause, 100 * MS);
}

static void then_it_works_a_millisecond_in_a_hundred(void **state)
{
    struct knit_budget budget = {0};
    uint64_t now = start, pause;

    (void)state;
    (void)worked_at_once(&budget, now, MS, &pause);
    for (int i = 0; i < 10; i++) {
        now += pause;
        assert_int_equal(knit_budget_spend(&budget, now, 0), 0);
        assert_int_equal(worked_at_once(&budget, now, MS / 10, &pause), MS);
        assert_int_equal(pause, 100 * MS);
    }
}

static void what_is_done_in_a_pause_makes_it_longer(void **state)
{
    struct knit_budget budget = {0};
    uint64_t pause;

    (void)state;
    (void)worked_at_once(&budget, start, MS, &pause);
    assert_int_equal(knit_budget_spend(&budget, start + MS, 2 * MS), pause - MS + 200 * MS);
}

static void what_one_piece_took_too_much_is_paid(void **state)
{
    struct knit_budget budget = {0};
    uint64_t pause = knit_budget_spend(&budget, start, 50 * MS);

    (void)state;
    assert_int_equal(pause, 100 * (50 - 20) * MS + 100 * MS);
    assert_int_equal(knit_budget_spend(&budget, start + pause, 0), 0);
}

static void a_rest_gives_no_more_than_that(void **state)
{
    struct knit_budget budget = {0};
    uint64_t pause;

    (void)state;
    (void)worked_at_once(&budget, start, MS, &pause);
    assert_int_equal(worked_at_once(&budget, start + 2 * SECOND, MS, &pause), 20 * MS);
    assert_int_equal(worked_at_once(&budget, start + 1000 * SECOND, MS, &pause), 20 * MS);
    assert_int_equal(worked_at_once(&budget, start + 1001 * SECOND, MS, &pause), 10 * MS);
}

static void a_usual_day_has_no_pause(void **state)
{
    struct knit_budget budget = {0};
    uint64_t now = start;

    (void)state;
    /* A page, which asks for three things a second, a probe, and each 15 s a scrape. */
    for (int second = 0; second < 3600; second++, now += SECOND) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(knit_budget_spend(&budget, now, 2 * MS), 0);
        assert_int_equal(knit_budget_spend(&budget, now, MS / 20), 0);
        if (second % 15 == 0)
            assert_int_equal(knit_budget_spend(&budget, now, 10 * MS), 0);
    }
}

static void the_share_holds_whatever_is_asked(void **state)
{
    struct knit_budget budget = {0};
    uint64_t now = start, worked = 0, longest = 0;
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    while (now < start + 600 * SECOND) {
        uint64_t piece =
            knit_random_chance(&random, 4) ? knit_random_below(&random, 30 * MS) : 50000;
        uint64_t pause = knit_budget_spend(&budget, now, piece);
        worked += piece;
        longest = piece > longest ? piece : longest;
        now += piece + pause + knit_random_below(&random, 1000);
    }
    assert_in_range(worked, 0, (now - start) / 100 + 20 * MS + longest);
    /* It was all taken. */
    assert_true(worked > (now - start) / 100 - 2 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rested_it_works_20_ms_at_once),
        cmocka_unit_test(then_it_works_a_millisecond_in_a_hundred),
        cmocka_unit_test(what_is_done_in_a_pause_makes_it_longer),
        cmocka_unit_test(what_one_piece_took_too_much_is_paid),
        cmocka_unit_test(a_rest_gives_no_more_than_that),
        cmocka_unit_test(a_usual_day_has_no_pause),
        cmocka_unit_test(the_share_holds_whatever_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
