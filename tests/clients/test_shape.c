/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: results are written through a caller's pointers all or none. Method: results of which the
 * last does not fit, over pointers whose targets must stay as they were; and so many that fit that
 * the library needs memory to note them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/shape.h"

static int decode(const char *signature, const void *result, size_t len, ...)
{
    struct knit_shapes shapes = {0};
    struct knit_lent *lent = NULL;
    const struct knit_shape *shape;
    struct knit_shape_flaw flaw;
    struct knit_shape_values values;
    int r;

    assert_int_equal(knit_shapes_find(&shapes, signature, &shape, &flaw), 0);
    va_start(values.list, len);
    r = knit_shape_decode(shape, knit_span(result, len), &values, &lent, &flaw);
    va_end(values.list);
    knit_lent_free(&lent);
    knit_shapes_fini(&shapes);
    return r;
}

static void one_result_that_does_not_fit_leaves_all_unwritten(void **state)
{
    static const uint8_t several[] = {0x95, 1, 0xa1, 'x', 0xc3, 0xd6, 0xff, 0, 0, 0, 1, 0xc0};
    int64_t number = -7;
    bool flag = false;
    struct knit_time time = {-7, 7};
    const char *text = NULL;
    size_t len = 77;

    (void)state;
    assert_int_equal(decode("() -> (int, str, bool, time, int)", several, sizeof(several), &number,
                         &text, &len, &flag, &time, NULL),
        KNIT_SHAPE_E_VALUE);
    assert_int_equal(decode("() -> (int, str, bool, time)", several, sizeof(several), &number,
                         &text, &len, &flag, &time),
        KNIT_SHAPE_E_VALUE);
    assert_true(number == -7 && text == NULL && len == 77 && !flag && time.seconds == -7);
    assert_int_equal(decode("() -> (int, str, bool, time, nil)", several, sizeof(several), &number,
                         &text, &len, &flag, &time),
        0);
    assert_true(number == 1 && text[0] == 'x' && len == 1 && flag && time.seconds == 1);
}

static void an_optional_result_of_another_type_is_not_called_present(void **state)
{
    bool is_present = false;
    int64_t number = -7;

    (void)state;
    assert_int_equal(decode("() -> int?", "\xa1x", 2, &is_present, &number), KNIT_SHAPE_E_VALUE);
    assert_false(is_present);
    assert_int_equal(number, -7);
    assert_int_equal(decode("() -> int?", "\x05", 1, &is_present, &number), 0);
    assert_true(is_present && number == 5);
}

static void many_results_are_written_too(void **state)
{
    const void *at[6] = {NULL};
    size_t len[6] = {0};
    bool is_present[6] = {false};

    (void)state;
    assert_int_equal(decode("() -> (bin?, bin?, bin?, bin?, bin?, bin?)",
                         "\x96\xc4\x01"
                         "0\xc4\x01"
                         "1\xc4\x01"
                         "2\xc4\x01"
                         "3\xc4\x01"
                         "4\xc4\x01"
                         "5",
                         19, &is_present[0], &at[0], &len[0], &is_present[1], &at[1], &len[1],
                         &is_present[2], &at[2], &len[2], &is_present[3], &at[3], &len[3],
                         &is_present[4], &at[4], &len[4], &is_present[5], &at[5], &len[5]),
        0);
    for (int i = 0; i < 6; i++)
        assert_true(is_present[i] && len[i] == 1 && *(const char *)at[i] == '0' + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_result_that_does_not_fit_leaves_all_unwritten),
        cmocka_unit_test(an_optional_result_of_another_type_is_not_called_present),
        cmocka_unit_test(many_results_are_written_too),
    };

    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
