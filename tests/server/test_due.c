/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of deadlines against an array that is searched: random adds, removes and moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/base/due.h"
#include "tests/support/random.h"

enum { ITEMS = 200, STEPS = 40000 };

static void an_empty_one_is_never_due_and_has_no_memory(void **state)
{
    struct knit_dues dues = {0};
    struct knit_due due = {0};

    (void)state;
    assert_null(knit_dues_first(&dues));
    assert_true(knit_dues_next_ns(&dues) == UINT64_MAX);
    knit_dues_remove(&dues, &due);
    knit_dues_moved(&dues, &due);
    assert_null(dues.items);
    knit_dues_fini(&dues);
}

static void compare(
    const struct knit_dues *dues, struct knit_due *const *items, const struct knit_due *first)
{
    uint64_t next_ns = UINT64_MAX;
    uint32_t count = 0;

    for (size_t i = 0; i < ITEMS; i++) {
        if (items[i]->place == 0)
            continue;
        count++;
        next_ns = items[i]->ns < next_ns ? items[i]->ns : next_ns;
    }
    assert_int_equal(dues->count, count);
    assert_true(knit_dues_next_ns(dues) == next_ns);
    assert_true(count == 0 ? first == NULL : first->ns == next_ns);
}

/* Each item lies in one of two places. */
static void the_first_is_the_earliest_whatever_comes_and_goes(void **state)
{
    static struct knit_due memory[ITEMS][2];
    struct knit_due *items[ITEMS];
    struct knit_random random;
    struct knit_dues dues = {0};

    (void)state;
    knit_random_init(&random);
    for (size_t i = 0; i < ITEMS; i++)
        items[i] = &memory[i][0];
    for (int step = 0; step < STEPS; step++) {
        size_t i = (size_t)knit_random_below(&random, ITEMS);

        if (knit_random_chance(&random, 4)) {
            struct knit_due *other = items[i] == &memory[i][0] ? &memory[i][1] : &memory[i][0];

            *other = *items[i];
            *items[i] = (struct knit_due){.ns = 0};
            items[i] = other;
            knit_dues_moved(&dues, other);
        } else if (items[i]->place != 0) {
            knit_dues_remove(&dues, items[i]);
            assert_int_equal(items[i]->place, 0);
        } else {
            items[i]->ns = knit_random_below(&random, 50);
            assert_int_equal(knit_dues_add(&dues, items[i]), 0);
        }
        compare(&dues, items, knit_dues_first(&dues));
    }
    knit_dues_fini(&dues);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_is_never_due_and_has_no_memory),
        cmocka_unit_test(the_first_is_the_earliest_whatever_comes_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
