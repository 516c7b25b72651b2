/* SPDX-License-Identifier: Apache-2.0 */
/* Results are written through a caller's pointers all or none: results of which the last does not
 * fit, over pointers whose targets must stay as they were; and so many that fit that the library
 * needs memory to note them. Signatures of calls: the vectors of PROTOCOL.md, and what the types
 * that have no C form of their own are carried as.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/values.h>

#include <knitting/knitting.h>

#include "clients/lib/shape.h"
#include "tests/clients/two_shapes.h"
#include "tests/proto/block.h"
#include "tests/proto/notation.h"
#include "tests/support/random.h"
#include "tests/support/scratch.h"

static char *specification;

static int decode_all(struct knit_aligned_copy **copies, const char *signature, const void *bytes,
    size_t len, struct knit_shape_values *values)
{
    struct knit_shape_flaw flaw;
    struct knit_shape *shape;
    int r;

    assert_int_equal(knit_shape_new(signature, &shape, &flaw), 0);
    r = knit_shape_decode(shape, knit_span(bytes, len), values, copies, &flaw);
    (void)knit_shape_free(shape);
    return r;
}

/* The copies are the caller's. */
static int decode_with(
    struct knit_aligned_copy **copies, const char *signature, const void *bytes, size_t len, ...)
{
    struct knit_shape_values values;
    int r;

    va_start(values.list, len);
    r = decode_all(copies, signature, bytes, len, &values);
    va_end(values.list);
    return r;
}

static int decode(const char *signature, const void *result, size_t len, ...)
{
    struct knit_aligned_copy *copies = NULL;
    struct knit_shape_values values;
    int r;

    va_start(values.list, len);
    r = decode_all(&copies, signature, result, len, &values);
    va_end(values.list);
    knit_aligned_copies_free(&copies);
    return r;
}

static int encode(struct knit_buffer *buffer, const char *signature, ...)
{
    struct knit_shape *shape;
    struct knit_shape_flaw flaw;
    struct knit_shape_values values;
    int r;

    assert_int_equal(knit_shape_new(signature, &shape, &flaw), 0);
    va_start(values.list, signature);
    r = knit_shape_encode(shape, &values, buffer, &flaw);
    va_end(values.list);
    (void)knit_shape_free(shape);
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

static void without_the_mark_null_is_an_empty_str_and_no_time(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 1024);
    assert_int_equal(
        encode(&buffer, "(str, str?, time)", (char *)NULL, (char *)NULL, (void *)NULL), 0);
    assert_int_equal(buffer.len, 4);
    assert_memory_equal(buffer.bytes, "\x93\xa0\xc0\xc0", 4);
    knit_buffer_fini(&buffer);
}

static void signatures_of_calls_are_judged_as_specified(void **state)
{
    struct knit_shape *shape;
    struct knit_shape_flaw flaw;
    struct knit_block block;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "calls");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';
        int r;

        knit_block_unescape(block.line);
        r = knit_shape_new(block.line, &shape, &flaw);
        if (r != (is_good ? 0 : KNIT_SHAPE_E_SYNTAX))
            fail_msg("%s: %d", block.line, r);
        if (!is_good) {
            assert_int_equal(flaw.offset, strtoull(text, NULL, 10));
            assert_non_null(strstr(flaw.reason, strchr(text, ' ') + 1));
        } else {
            (void)knit_shape_free(shape);
        }
    }
    knit_block_close(&block);
}

static void a_typed_array_of_any_element_is_one_value(void **state)
{
    static const _Alignas(8) uint8_t f32[] = {0xc7, 9, 36, 8, 3, 0, 0, 0, 0, 0, 0xc0, 0x3f};
    static const uint8_t moved[] = {0x91, 0xc7, 8, 36, 8, 2, 0, 0, 0, 0, 0xc0, 0x3f};
    static const uint8_t view[] = {0xd4, 37, 7};
    struct knit_buffer buffer;
    const void *at = NULL;
    size_t len = 0;

    (void)state;
    knit_buffer_init(&buffer, 1024);
    assert_int_equal(encode(&buffer, "(typed)", f32, sizeof(f32)), 0);
    /* It lies one byte further, and has another pad. */
    assert_int_equal(buffer.len, sizeof(moved));
    assert_memory_equal(buffer.bytes, moved, sizeof(moved));
    knit_buffer_fini(&buffer);
    assert_int_equal(decode("() -> typed", f32, sizeof(f32), &at, &len), 0);
    assert_ptr_equal(at, f32);
    assert_int_equal(len, sizeof(f32));
    assert_int_equal(decode("() -> typed", view, sizeof(view), &at, &len), KNIT_SHAPE_E_VALUE);
}

/* Asked for twice, it lies in the same place. */
static void a_value_whose_elements_are_not_aligned_is_copied_once(void **state)
{
    /* [f32[] of 1.5], without pad. */
    static const _Alignas(8) uint8_t array[] = {0x91, 0xc7, 6, 36, 8, 0, 0, 0, 0xc0, 0x3f};
    struct knit_aligned_copy *copies = NULL;
    const void *at = NULL, *again = NULL;
    size_t len = 0, count = 0;
    const float *elements;

    (void)state;
    assert_int_equal(decode_with(&copies, "() -> any", array, sizeof(array), &at, &len), 0);
    assert_int_equal(decode_with(&copies, "() -> array", array, sizeof(array), &again, &len), 0);
    assert_ptr_not_equal(at, array);
    assert_ptr_equal(at, again);
    elements = knit_value_f32s(knit_value_at(knit_read(NULL, at, len), 0), &count);
    assert_int_equal(count, 1);
    assert_true(elements[0] == 1.5F);
    knit_aligned_copies_free(&copies);
}

static void nil_has_no_c_value_with_or_without_the_mark(void **state)
{
    struct knit_buffer buffer;
    int64_t number = 0;

    (void)state;
    knit_buffer_init(&buffer, 1024);
    assert_int_equal(encode(&buffer, "(nil?, int, nil)", (int64_t)5), 0);
    assert_int_equal(buffer.len, 4);
    assert_memory_equal(buffer.bytes, "\x93\xc0\x05\xc0", 4);
    knit_buffer_fini(&buffer);
    assert_int_equal(decode("() -> (nil?, int)", "\x92\xc0\x05", 3, &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(decode("() -> nil?", "\x05", 1), KNIT_SHAPE_E_VALUE);
}

/* ---- the short way beside the full one ---- */

static const char *const short_types[] = {"", "nil", "bool", "int", "uint", "float", "str", "bin"};
static const char *const full_types[] = {"int?", "any", "time", "array", "i8[]"};

/* How many of the types whose results the short way may read it has read. */
static int read_by_every_type(const uint8_t *bytes, size_t len)
{
    const char *wrong;
    bool is_short;
    int count = 0;

    for (size_t i = 0; i < sizeof(short_types) / sizeof(short_types[0]); i++) {
        wrong = knit_two_shapes_read(short_types[i], bytes, len, &is_short);
        if (wrong != NULL)
            fail_msg("%s of %zu bytes from %02x: %s", short_types[i], len, bytes[0], wrong);
        count += is_short;
    }
    for (size_t i = 0; i < sizeof(full_types) / sizeof(full_types[0]); i++) {
        assert_null(knit_two_shapes_read(full_types[i], bytes, len, &is_short));
        assert_false(is_short);
    }
    return count;
}

static void both_ways_read_the_same_of_every_vector(void **state)
{
    static const char *const blocks[] = {"values", "refused"};
    int count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        struct knit_block block;

        knit_block_open(&block, specification, blocks[i]);
        while (knit_block_next(&block)) {
            const char *at = block.line;
            struct knit_buffer bytes;

            knit_buffer_init(&bytes, 1 << 20);
            knit_notation_hex(&at, &bytes);
            for (size_t len = 0; len <= bytes.len; len++)
                count += read_by_every_type(bytes.bytes, len);
            knit_buffer_fini(&bytes);
        }
        knit_block_close(&block);
    }
    assert_true(count > 50);
}

static void both_ways_write_the_same_of_random_values(void **state)
{
    enum { COUNT = 20000, TEXT_MAX = 130 };
    struct knit_random random;
    char text[TEXT_MAX + 1];
    uint8_t bytes[TEXT_MAX];
    int short_count = 0;

    (void)state;
    knit_random_init(&random);
    for (int i = 0; i < COUNT; i++) {
        struct knit_two_shapes_values values = {.bytes = bytes, .text = text};
        size_t len = knit_random_below(&random, knit_random_chance(&random, 3) ? TEXT_MAX : 30);
        const char *wrong;
        bool is_short;

        for (int n = 0; n < 4; n++) {
            values.bits[n] = knit_random_u64(&random) >> knit_random_below(&random, 64);
            if (knit_random_chance(&random, 2))
                values.bits[n] = -values.bits[n];
        }
        memset(text, 'a' + (int)(len % 26), len);
        text[len] = '\0';
        if (len > 0 && knit_random_chance(&random, 8))
            text[knit_random_below(&random, len)] = (char)knit_random_u64(&random);
        if (knit_random_chance(&random, 16))
            values.text = NULL;
        values.len = knit_random_below(&random, 1 + len);
        knit_random_bytes(&random, bytes, sizeof(bytes));
        wrong = knit_two_shapes_write(&values, (unsigned)knit_random_below(&random, 3), &is_short);
        if (wrong != NULL)
            fail_msg("%s", wrong);
        short_count += is_short;
    }
    assert_in_range(short_count, COUNT / 4, COUNT - COUNT / 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_result_that_does_not_fit_leaves_all_unwritten),
        cmocka_unit_test(an_optional_result_of_another_type_is_not_called_present),
        cmocka_unit_test(many_results_are_written_too),
        cmocka_unit_test(without_the_mark_null_is_an_empty_str_and_no_time),
        cmocka_unit_test(signatures_of_calls_are_judged_as_specified),
        cmocka_unit_test(a_typed_array_of_any_element_is_one_value),
        cmocka_unit_test(a_value_whose_elements_are_not_aligned_is_copied_once),
        cmocka_unit_test(nil_has_no_c_value_with_or_without_the_mark),
        cmocka_unit_test(both_ways_read_the_same_of_every_vector),
        cmocka_unit_test(both_ways_write_the_same_of_random_values),
    };
    int failed;

    specification = argc == 2 ? knit_scratch_read(argv[1], NULL) : NULL;
    if (specification == NULL) {
        fprintf(stderr, "usage: test_shape PROTOCOL.md\n");
        return 2;
    }
    failed = cmocka_run_group_tests_name("shape", tests, NULL, NULL);
    free(specification);
    return failed;
}
