/* SPDX-License-Identifier: Apache-2.0 */
/* An outcome with what its task printed: it comes apart as it was put together, and what is none is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/failure.h"
#include "proto/limits.h"
#include "proto/printed.h"

enum { BUFFER_MAX = 1 << 16 };

static void expect_text(struct knit_span output, const char *text, bool is_cut)
{
    struct knit_span got;
    bool got_cut;

    assert_int_equal(knit_printed_read(output, &got, &got_cut), 0);
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.bytes, text, got.len);
    assert_int_equal(got_cut, is_cut);
}

static void a_result_comes_apart_as_it_was_put_together(void **state)
{
    static const char *const results[] = {"\x07", "\xa1x", "\x92\x01\x91\xc3"};
    struct knit_buffer buffer;
    struct knit_span result, output;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        struct knit_span put = knit_span_text(results[i]);

        knit_buffer_reset(&buffer);
        assert_int_equal(
            knit_printed_put_result(&buffer, put, knit_span_text("two\nlines"), i == 1), 0);
        assert_true(buffer.len <= put.len + strlen("two\nlines") + KNIT_PRINTED_HEADS_MAX);
        assert_int_equal(knit_printed_split(knit_buffer_span(&buffer), &result, &output), 0);
        assert_int_equal(result.len, put.len);
        assert_memory_equal(result.bytes, put.bytes, put.len);
        expect_text(output, "two\nlines", i == 1);
        for (size_t len = 0; len < buffer.len; len++)
            assert_int_equal(
                knit_printed_split(knit_span(buffer.bytes, len), &result, &output) == 0 &&
                    knit_printed_read(output, &result, &(bool){false}) == 0,
                false);
    }
    knit_buffer_fini(&buffer);
}

static void an_error_keeps_its_details(void **state)
{
    struct knit_failure put = knit_failure(KNIT_TASK_FAILED, "no"), got;
    struct knit_buffer error, whole;

    (void)state;
    put.data = knit_span_text("\x81\xa4"
                              "code\x05");
    knit_buffer_init(&error, BUFFER_MAX);
    knit_buffer_init(&whole, BUFFER_MAX);
    assert_int_equal(knit_failure_put(&error, &put, KNIT_FAILURE_COMPACT), 0);
    assert_int_equal(
        knit_printed_put_error(&whole, knit_buffer_span(&error), knit_span_text("printed"), true),
        0);
    assert_true(whole.len <= error.len + strlen("printed") + KNIT_PRINTED_HEADS_MAX);
    /* As a server sends it. */
    knit_buffer_reset(&error);
    assert_int_equal(knit_failure_convert(&error, knit_buffer_span(&whole), KNIT_FAILURE_FULL), 0);
    assert_int_equal(knit_failure_decode(knit_buffer_span(&error), &got), 0);
    assert_int_equal(got.code, KNIT_TASK_FAILED);
    assert_true(knit_span_is(got.message, "no"));
    assert_int_equal(got.data.len, put.data.len);
    expect_text(got.output, "printed", true);
    knit_buffer_fini(&error);
    knit_buffer_fini(&whole);
}

static void what_is_no_output_is_refused(void **state)
{
    static const struct knit_span bad[] = {{NULL, 0}, {(const uint8_t *)"\xc0", 1},
        {(const uint8_t *)"\x90", 1}, {(const uint8_t *)"\x92\xa1x\xc3", 4},
        {(const uint8_t *)"\x92\xc4\x01x\x01", 5}, {(const uint8_t *)"\x91\xc4\x01x", 4},
        {(const uint8_t *)"\x93\xc4\x01x\xc3\xc0", 6}};
    struct knit_span text;
    bool is_cut;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(knit_printed_read(bad[i], &text, &is_cut), KNIT_PRINTED_E_BAD);
}

static void a_result_at_the_limit_of_nesting_is_refused(void **state)
{
    uint8_t deep[KNIT_DEPTH_MAX];
    struct knit_buffer buffer;

    (void)state;
    memset(deep, 0x91, sizeof(deep));
    deep[sizeof(deep) - 1] = 0x90;
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_int_equal(knit_printed_put_result(
                         &buffer, knit_span(deep + 1, sizeof(deep) - 1), knit_span_text(""), false),
        0);
    knit_buffer_reset(&buffer);
    assert_int_not_equal(
        knit_printed_put_result(&buffer, knit_span(deep, sizeof(deep)), knit_span_text(""), false),
        0);
    knit_buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_comes_apart_as_it_was_put_together),
        cmocka_unit_test(an_error_keeps_its_details),
        cmocka_unit_test(what_is_no_output_is_refused),
        cmocka_unit_test(a_result_at_the_limit_of_nesting_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
