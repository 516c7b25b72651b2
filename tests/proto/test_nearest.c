/* SPDX-License-Identifier: Apache-2.0 */
/* The distance of two names, abbreviations, the threshold, and that the bound at which a comparison
 * ends early never changes the answer: a plain recursive distance is the oracle.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/nearest.h"
#include "tests/support/random.h"

enum { FAR = 1000 };

/* The distance, by asking with one bound after the other; FAR when it is FAR or more. */
static size_t distance(const char *left, const char *right)
{
    for (size_t below = 1; below <= FAR; below++) {
        struct knit_nearest nearest = {left, strlen(left), below};

        if (knit_nearest_try(&nearest, right, strlen(right)))
            return nearest.below;
    }
    return FAR;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t oracle(const char *left, size_t left_len, const char *right, size_t right_len)
{
    size_t best;

    if (left_len == 0 || right_len == 0)
        return left_len + right_len;
    best = oracle(left, left_len - 1, right, right_len - 1) +
           (left[left_len - 1] != right[right_len - 1]);
    best = least(best, oracle(left, left_len - 1, right, right_len) + 1);
    best = least(best, oracle(left, left_len, right, right_len - 1) + 1);
    if (left_len > 1 && right_len > 1 && left[left_len - 1] == right[right_len - 2] &&
        left[left_len - 2] == right[right_len - 1])
        best = least(best, oracle(left, left_len - 2, right, right_len - 2) + 1);
    return best;
}

static void distances_count_letters(void **state)
{
    char longest[KNIT_NEAREST_NAME_MAX + 2];

    (void)state;
    assert_int_equal(distance("", ""), 0);
    assert_int_equal(distance("", "abc"), 3);
    assert_int_equal(distance("abc", ""), 3);
    assert_int_equal(distance("workers", "worker"), 1);
    assert_int_equal(distance("wrokers", "workers"), 1);
    assert_int_equal(distance("kitten", "sitting"), 3);
    memset(longest, 'a', sizeof(longest));
    longest[KNIT_NEAREST_NAME_MAX + 1] = '\0';
    assert_int_equal(distance("a", longest), FAR);
    longest[KNIT_NEAREST_NAME_MAX] = '\0';
    assert_int_equal(distance(longest, longest), 0);
}

static bool is_abbreviated(const char *given, const char *known)
{
    return strlen(given) >= 3 && strncmp(given, known, strlen(given)) == 0;
}

static void an_abbreviation_is_as_near_as_one_letter(void **state)
{
    (void)state;
    assert_int_equal(distance("tls-cert", "tls-certificate"), 1);
    assert_int_equal(distance("tls", "tls-certificate"), 1);
    assert_int_equal(distance("tls", "tls"), 0);
    assert_int_equal(distance("tl", "tls-certificate"), 13);
    assert_int_equal(distance("tls-certificate", "tls-cert"), 7);
}

static void an_early_end_does_not_change_the_answer(void **state)
{
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    for (int round = 0; round < 2000; round++) {
        char name[2][7];

        for (int i = 0; i < 2; i++) {
            size_t len = (size_t)knit_random_below(&random, sizeof(name[i]));

            for (size_t j = 0; j < len; j++)
                name[i][j] = (char)('a' + knit_random_below(&random, 3));
            name[i][len] = '\0';
        }
        if (!is_abbreviated(name[0], name[1]))
            assert_int_equal(distance(name[0], name[1]),
                oracle(name[0], strlen(name[0]), name[1], strlen(name[1])));
    }
}

static bool is_near(const char *given, const char *known)
{
    struct knit_nearest nearest;

    knit_nearest_init(&nearest, given, strlen(given));
    return knit_nearest_try(&nearest, known, strlen(known));
}

static void a_third_of_the_letters_and_one_may_differ(void **state)
{
    char longest[KNIT_NEAREST_NAME_MAX + 2];

    (void)state;
    assert_true(is_near("ab", "a"));
    assert_false(is_near("ab", "cd"));
    assert_true(is_near("abc", "xyc"));
    assert_false(is_near("abc", "xyz"));
    assert_true(is_near("abcdefghi", "wxyzefghi"));
    assert_false(is_near("abcdefghi", "vwxyzfghi"));
    assert_false(is_near("", "a"));
    assert_false(is_near("", ""));
    memset(longest, 'a', sizeof(longest));
    longest[KNIT_NEAREST_NAME_MAX + 1] = '\0';
    assert_false(is_near(longest, longest));
}

static void a_later_name_must_be_nearer_than_an_earlier_one(void **state)
{
    struct knit_nearest nearest;

    (void)state;
    knit_nearest_init(&nearest, "worker", 6);
    assert_true(knit_nearest_try(&nearest, "walkers", 7));
    assert_true(knit_nearest_try(&nearest, "workers", 7));
    assert_false(knit_nearest_try(&nearest, "workes", 6));
    assert_true(knit_nearest_try(&nearest, "worker", 6));
    assert_false(knit_nearest_try(&nearest, "worker", 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_count_letters),
        cmocka_unit_test(an_abbreviation_is_as_near_as_one_letter),
        cmocka_unit_test(an_early_end_does_not_change_the_answer),
        cmocka_unit_test(a_third_of_the_letters_and_one_may_differ),
        cmocka_unit_test(a_later_name_must_be_nearer_than_an_earlier_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
