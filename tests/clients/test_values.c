/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what <knitting/build.h> puts is right, and what <knitting/read.h> gets is what was put.
 * Method: the vectors of PROTOCOL.md, each mistake by hand, and random values against the full
 * check and msgpack-c's decoder.
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

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/text.h"
#include "tests/clients/builder_program.h"
#include "tests/proto/agree.h"
#include "tests/proto/block.h"
#include "tests/proto/notation.h"
#include "tests/proto/sample.h"
#include "tests/support/random.h"

enum { BUFFER_MAX = 1 << 20 };

static char *specification;

static struct knit_span built(struct knit_builder *builder)
{
    const void *bytes = NULL;
    size_t len = 0;

    if (knit_built(builder, &bytes, &len) != KNIT_OK)
        fail_msg("%d: %s", builder->code, knit_builder_reason(builder));
    assert_int_equal(knit_check_value(bytes, len, KNIT_DEPTH_MAX, NULL), 0);
    return knit_span(bytes, len);
}

static void assert_fails(struct knit_builder *builder, int code, const char *reason)
{
    const void *bytes = NULL;
    size_t len = 0;

    assert_int_equal(knit_built(builder, &bytes, &len), code);
    assert_null(bytes);
    if (strstr(knit_builder_reason(builder), reason) == NULL)
        fail_msg("\"%s\" is not in: %s", reason, knit_builder_reason(builder));
    knit_builder_reset(builder);
    assert_string_equal(knit_builder_reason(builder), "no error");
}

static void assert_agrees(const uint8_t *bytes, size_t len, struct knit_value value)
{
    struct knit_decoder *decoder = knit_decoder_new();
    const struct knit_decoded *decoded = knit_decoder_read(decoder, bytes, len);

    assert_non_null(decoded);
    assert_true(knit_agree(decoder, decoded, value));
    knit_decoder_free(decoder);
}

/* ---- the vectors ---- */

static void vectors_are_read_as_the_decoder_reads_them_and_put_anew(void **state)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_buffer bytes;
    struct knit_block block;
    char *notation, op;

    (void)state;
    knit_block_open(&block, specification, "values");
    while (knit_block_next(&block)) {
        struct knit_value value;
        struct knit_span again;
        KNIT_BUILDER(builder);

        op = knit_block_split(block.line, "=>", &notation);
        knit_notation_hex_new(block.line, &bytes);
        /* Some typed arrays have no pad, and do not lie aligned. */
        value = knit_read(NULL, bytes.bytes, bytes.len);
        assert_agrees(bytes.bytes, bytes.len, value);
        knit_put_value(builder, value);
        again = built(builder);
        assert_agrees(bytes.bytes, bytes.len, knit_read(&reader, again.bytes, again.len));
        if (op == '=' && knit_value_type(value) != KNIT_TYPE_TYPED &&
            (again.len != bytes.len || memcmp(again.bytes, bytes.bytes, again.len) != 0))
            fail_msg("other bytes than expected: %s", notation);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

static void what_the_specification_refuses_is_not_put_anew(void **state)
{
    struct knit_buffer bytes;
    struct knit_block block;
    char *reason;

    (void)state;
    knit_block_open(&block, specification, "refused");
    while (knit_block_next(&block)) {
        struct knit_reader reader = KNIT_READER_INIT;
        const unsigned char *end;
        struct knit_value value;
        char text[200];
        KNIT_BUILDER(builder);

        knit_block_split(block.line, "!", &reason);
        knit_notation_hex_new(block.line, &bytes);
        value = knit_read(&reader, bytes.len > 0 ? (const void *)bytes.bytes : "", bytes.len);
        end = knit_value_end(&value);
        knit_put_value(builder, value);
        knit_reader_explain(&reader, text, sizeof(text));
        /* Of bytes behind a value the reader knows nothing: it reads the one at the front. */
        if (strstr(reason, "bytes behind the value") != NULL && end != NULL)
            assert_true(end < bytes.bytes + bytes.len);
        else if (builder->code == KNIT_OK)
            fail_msg("put anew: %s", reason);
        /* Nor does it say whose end it is. */
        else if (strcmp(reason, "ends within") == 0)
            assert_non_null(strstr(text, "end within a value"));
        else if (strstr(text, reason) == NULL &&
                 strstr(knit_builder_reason(builder), reason) == NULL)
            fail_msg("\"%s\" is neither in \"%s\" nor in \"%s\"", reason, text,
                knit_builder_reason(builder));
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

/* ---- what is put is read ---- */

static void numbers_come_back_to_the_bit(void **state)
{
    static const int64_t ints[] = {0, -1, 127, 128, -32, -33, -128, -129, 255, 256, 65535, 65536,
        -32768, -32769, INT32_MAX, INT32_MIN, (int64_t)1 << 32, ((int64_t)1 << 53) - 1,
        -((int64_t)1 << 53), INT64_MAX, INT64_MIN};
    static const uint64_t floats[] = {0, UINT64_C(1) << 63, 1, UINT64_C(0x7ff0000000000000),
        UINT64_C(0x7ff8000000000001), UINT64_C(0xfff4dead00000001), UINT64_C(0xc046c00000000000)};
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(builder);
    struct knit_span bytes;
    double value, got;

    (void)state;
    for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
        knit_put_int(builder, ints[i]);
        bytes = built(builder);
        assert_int_equal(knit_value_int(knit_read(&reader, bytes.bytes, bytes.len)), ints[i]);
        knit_builder_reset(builder);
    }
    knit_put_uint(builder, UINT64_MAX);
    bytes = built(builder);
    assert_int_equal(knit_value_uint(knit_read(&reader, bytes.bytes, bytes.len)), UINT64_MAX);
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        knit_builder_reset(builder);
        memcpy(&value, &floats[i], sizeof(value));
        knit_put_float(builder, value);
        bytes = built(builder);
        got = knit_value_float(knit_read(&reader, bytes.bytes, bytes.len));
        assert_memory_equal(&got, &value, sizeof(got));
    }
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

static void an_error_has_name_message_cause_and_data(void **state)
{
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(builder);
    struct knit_value value, cause;
    struct knit_span bytes;
    char message[2001];
    size_t len;

    (void)state;
    memset(message, 'm', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    knit_put_error(builder, "RangeError", message, 2);
    knit_put_text(builder, "cause");
    knit_put_error(builder, "Error", "the cause", 1);
    knit_put_text(builder, "cause");
    knit_put_error(builder, "Error", NULL, 0);
    knit_put_text(builder, "data");
    knit_put_int(builder, 7);
    bytes = built(builder);
    value = knit_read(&reader, bytes.bytes, bytes.len);
    assert_int_equal(knit_value_type(value), KNIT_TYPE_ERROR);
    assert_memory_equal(knit_value_text(knit_value_get(value, "name"), &len), "RangeError", 10);
    assert_memory_equal(knit_value_text(knit_value_get(value, "message"), &len), message, 2000);
    assert_int_equal(len, 2000);
    cause = knit_value_get(value, "cause");
    assert_memory_equal(knit_value_text(knit_value_get(cause, "message"), &len), "the cause", 9);
    assert_int_equal(
        knit_value_type(knit_value_get(knit_value_get(cause, "cause"), "name")), KNIT_TYPE_STR);
    assert_int_equal(knit_value_int(knit_value_get(value, "data")), 7);
    assert_int_equal(knit_value_type(knit_value_get(value, "stack")), KNIT_TYPE_NONE);
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

static void an_envelope_has_a_header_and_a_body(void **state)
{
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(builder);
    struct knit_span bytes;
    struct knit_value value;
    char body[3000];
    size_t len;

    (void)state;
    memset(body, 'b', sizeof(body));
    for (size_t size = 0; size <= sizeof(body); size += 1000) {
        knit_builder_reset(builder);
        knit_put_array(builder, 2);
        knit_put_envelope(builder);
        knit_put_map(builder, 1);
        knit_put_text(builder, "type");
        knit_put_text(builder, "x");
        knit_put_body(builder, body, size);
        knit_put_nil(builder);
        bytes = built(builder);
        value = knit_value_at(knit_read(&reader, bytes.bytes, bytes.len), 0);
        assert_memory_equal(
            knit_value_text(knit_value_get(knit_value_header(value), "type"), &len), "x", 1);
        assert_memory_equal(knit_value_body(value, &len), body, size);
        assert_int_equal(len, size);
    }
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

/* At every offset, below and beyond each form of a head. */
static void typed_arrays_lie_aligned_wherever_they_are_put(void **state)
{
    static const size_t counts[] = {0, 1, 2, 3, 30, 31, 32, 8190, 8191, 8192};
    static const double zeros[8192];
    KNIT_BUILDER(builder);

    (void)state;
    for (unsigned element = KNIT_I8; element <= KNIT_U64; element++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            for (size_t offset = 0; offset < 16; offset++) {
                struct knit_span bytes;
                struct knit_value value;
                size_t count;

                knit_builder_reset(builder);
                knit_put_array(builder, 2);
                knit_put_bin(builder, zeros, offset);
                knit_put_set(builder, 1);
                knit_put_typed(builder, (enum knit_element)element, zeros, counts[i]);
                bytes = built(builder);
                value = knit_value_at(knit_read(NULL, bytes.bytes, bytes.len), 1);
                assert_non_null(
                    knit_value_typed(knit_value_at(value, 0), (enum knit_element)element, &count));
                assert_int_equal(count, counts[i]);
            }
        }
    }
}

static void a_typed_array_is_filled_in_place(void **state)
{
    KNIT_BUILDER(builder);
    struct knit_span bytes;
    const int64_t *got;
    int64_t *place;
    size_t count;

    (void)state;
    knit_put_array(builder, 1);
    place = knit_put_typed_place(builder, KNIT_I64, 3);
    assert_non_null(place);
    for (int i = 0; i < 3; i++)
        place[i] = -i;
    bytes = built(builder);
    got = knit_value_i64s(knit_value_at(knit_read(NULL, bytes.bytes, bytes.len), 0), &count);
    assert_int_equal(count, 3);
    assert_true(got[0] == 0 && got[1] == -1 && got[2] == -2);
    assert_null(knit_value_f64s(knit_value_at(knit_read(NULL, bytes.bytes, bytes.len), 0), &count));
    assert_int_equal(count, 0);
}

/* ---- mistakes of builders ---- */

static void mistakes_of_counting_are_said_at_the_end(void **state)
{
    KNIT_BUILDER(builder);

    (void)state;
    assert_fails(builder, KNIT_BAD_ARGUMENT, "not complete");
    knit_put_array(builder, 2);
    knit_put_nil(builder);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "not complete");
    knit_put_array(builder, 0);
    knit_put_nil(builder);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "more values were put");
    knit_put_envelope(builder);
    knit_put_nil(builder);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "not complete");
    knit_put_envelope(builder);
    knit_put_nil(builder);
    knit_put_nil(builder);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "its body is due");
    knit_put_body(builder, "", 0);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "header of an envelope");
}

static void mistakes_of_values_name_the_type(void **state)
{
    KNIT_BUILDER(builder);

    (void)state;
    knit_put_str(builder, "\xc0\x80", 2);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "a str is not UTF-8");
    knit_put_symbol(builder, "\xff", 1);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "a symbol is UTF-8");
    knit_put_time(builder, 0, 1000000000);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "a timestamp has");
    knit_put_typed(builder, (enum knit_element)12, "", 0);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "a typed array is");
    knit_put_error(builder, "E", "m", 1);
    knit_put_int(builder, 1);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "the keys of an error are texts");
    knit_put_error(builder, "E", "m", 1);
    knit_put_text(builder, "name");
    knit_put_int(builder, 1);
    assert_fails(builder, KNIT_BAD_ARGUMENT, "name and message of an error are texts");
    knit_put_typed(builder, KNIT_F64, "", SIZE_MAX / 4);
    assert_fails(builder, KNIT_TOO_LARGE, "larger than MessagePack can say");
    knit_put_error(builder, "E", "m", UINT32_MAX);
    assert_fails(builder, KNIT_TOO_LARGE, "larger than MessagePack can say");
}

static void the_first_mistake_stays(void **state)
{
    KNIT_BUILDER(builder);

    (void)state;
    knit_put_array(builder, 3);
    knit_put_str(builder, "\xff", 1);
    knit_put_time(builder, 0, UINT32_MAX);
    for (int i = 0; i < 100; i++)
        knit_put_array(builder, 1);
    assert_null(knit_put_typed_place(builder, KNIT_F64, 1));
    assert_fails(builder, KNIT_BAD_ARGUMENT, "a str is not UTF-8");
}

static void containers_nest_to_the_limit_and_no_further(void **state)
{
    static void (*const open[])(struct knit_builder *, uint32_t) = {
        knit_put_array, knit_put_set, knit_put_map, knit_put_pairs};
    KNIT_BUILDER(builder);

    (void)state;
    for (size_t which = 0; which < sizeof(open) / sizeof(open[0]); which++) {
        for (int depth = 32; depth <= 33; depth++) {
            for (int i = 0; i < depth; i++) {
                if (which >= 2 && i > 0)
                    knit_put_nil(builder);
                open[which](builder, i < depth - 1 ? 1 : 0);
            }
            if (depth == 33)
                assert_fails(builder, KNIT_TOO_DEEP, "nested too deep");
            else
                (void)built(builder);
            knit_builder_reset(builder);
        }
    }
    for (int i = 0; i < 1000000; i++)
        knit_put_array(builder, 1);
    assert_fails(builder, KNIT_TOO_DEEP, "nested too deep");
    assert_true(builder->capacity < 4096);
}

/* ---- mistakes of readers ---- */

static void assert_explained(const struct knit_reader *reader, const char *expected)
{
    char text[200];

    knit_reader_explain(reader, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void a_reader_notes_the_first_value_that_is_another(void **state)
{
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(builder);
    struct knit_span bytes;
    struct knit_value value;
    size_t len;

    (void)state;
    knit_put_map(builder, 2);
    knit_put_text(builder, "count");
    knit_put_text(builder, "many");
    knit_put_text(builder, "big");
    knit_put_uint(builder, UINT64_MAX);
    bytes = built(builder);
    value = knit_read(&reader, bytes.bytes, bytes.len);
    assert_int_equal(knit_value_type(knit_value_get(value, "none")), KNIT_TYPE_NONE);
    assert_true(knit_value_is_nil(knit_value_get(value, "none")));
    assert_explained(&reader, "no error");
    assert_int_equal(knit_value_int(knit_value_get(value, "count")), 0);
    assert_null(knit_value_text(knit_value_get(value, "none"), &len));
    assert_int_equal(knit_reader_code(&reader), KNIT_BAD_ARGUMENT);
    assert_explained(&reader, "count: expected int, got str");

    reader = (struct knit_reader)KNIT_READER_INIT;
    value = knit_read(&reader, bytes.bytes, bytes.len);
    assert_int_equal(knit_value_int(knit_value_get(value, "big")), 0);
    assert_explained(&reader, "big: expected int, got uint");

    reader = (struct knit_reader)KNIT_READER_INIT;
    value = knit_read(&reader, bytes.bytes, bytes.len);
    assert_false(knit_value_bool(knit_value_get(value, "none")));
    assert_explained(&reader, "none: expected bool, got nothing");

    reader = (struct knit_reader)KNIT_READER_INIT;
    (void)knit_value_items(knit_read(&reader, "\x05", 1));
    assert_explained(&reader, "a value: expected array, got int");
    (void)knit_read(NULL, NULL, 0);
}

static void a_text_cut_short_is_no_value_at_any_length(void **state)
{
    static const char whole[] = "\x82\xa1"
                                "a\x92\x01\xc7\x03\x22\x92\x01\xc0\xa1"
                                "b\xd9\x02hi";
    const size_t len = sizeof(whole) - 1;

    (void)state;
    for (size_t cut = 0; cut <= len; cut++) {
        struct knit_reader reader = KNIT_READER_INIT;
        unsigned char *exact = malloc(cut + 1);
        KNIT_BUILDER(builder);

        memcpy(exact, whole, cut);
        knit_put_value(builder, knit_read(&reader, exact, cut));
        assert_int_equal(builder->code, cut == len ? KNIT_OK : KNIT_BAD_ARGUMENT);
        free(exact);
    }
}

/* ---- random ---- */

static void random_values_agree_with_check_and_decoder(void **state)
{
    enum { ROUNDS = 20000 };
    struct knit_random random;
    struct knit_buffer bytes;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (int i = 0; i < ROUNDS; i++) {
        struct knit_span again;
        KNIT_BUILDER(builder);

        knit_buffer_reset(&bytes);
        knit_sample_value(&random, 6, 20, &bytes);
        assert_int_equal(knit_check_value(bytes.bytes, bytes.len, KNIT_DEPTH_MAX, NULL), 0);
        assert_agrees(bytes.bytes, bytes.len, knit_read(NULL, bytes.bytes, bytes.len));
        knit_put_value(builder, knit_read(NULL, bytes.bytes, bytes.len));
        again = built(builder);
        assert_true(knit_value_is_aligned(knit_read(NULL, again.bytes, again.len)));
        assert_agrees(bytes.bytes, bytes.len, knit_read(NULL, again.bytes, again.len));
    }
    knit_buffer_fini(&bytes);
}

static void random_puts_make_values_or_mistakes(void **state)
{
    enum { ROUNDS = 20000, LEN = 200 };
    struct knit_random random;
    uint8_t program[LEN];
    unsigned values = 0;

    (void)state;
    knit_random_init(&random);
    for (int i = 0; i < ROUNDS; i++) {
        const void *bytes;
        size_t len;
        KNIT_BUILDER(builder);

        knit_random_bytes(&random, program, LEN);
        builder_program_run(builder, program, knit_random_below(&random, LEN));
        if (knit_built(builder, &bytes, &len) != KNIT_OK)
            continue;
        values++;
        assert_int_equal(knit_check_value(bytes, len, KNIT_DEPTH_MAX, NULL), 0);
        assert_true(knit_value_is_aligned(knit_read(NULL, bytes, len)));
    }
    assert_true(values > ROUNDS / 10);
}

static void utf8_is_what_the_check_says_it_is(void **state)
{
    enum { ROUNDS = 200000, LEN = 24 };
    struct knit_random random;
    uint8_t text[LEN];

    (void)state;
    knit_random_init(&random);
    for (int i = 0; i < ROUNDS; i++) {
        static const uint8_t edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
            0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
        size_t len = knit_random_below(&random, LEN);

        for (size_t at = 0; at < len; at++)
            text[at] = edges[knit_random_below(&random, sizeof(edges))];
        assert_int_equal(knit_encode_is_utf8(text, len), knit_text_is_utf8(text, len));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_read_as_the_decoder_reads_them_and_put_anew),
        cmocka_unit_test(what_the_specification_refuses_is_not_put_anew),
        cmocka_unit_test(numbers_come_back_to_the_bit),
        cmocka_unit_test(an_error_has_name_message_cause_and_data),
        cmocka_unit_test(an_envelope_has_a_header_and_a_body),
        cmocka_unit_test(typed_arrays_lie_aligned_wherever_they_are_put),
        cmocka_unit_test(a_typed_array_is_filled_in_place),
        cmocka_unit_test(mistakes_of_counting_are_said_at_the_end),
        cmocka_unit_test(mistakes_of_values_name_the_type),
        cmocka_unit_test(the_first_mistake_stays),
        cmocka_unit_test(containers_nest_to_the_limit_and_no_further),
        cmocka_unit_test(a_reader_notes_the_first_value_that_is_another),
        cmocka_unit_test(a_text_cut_short_is_no_value_at_any_length),
        cmocka_unit_test(random_values_agree_with_check_and_decoder),
        cmocka_unit_test(random_puts_make_values_or_mistakes),
        cmocka_unit_test(utf8_is_what_the_check_says_it_is),
    };

    int failed;

    specification = knit_block_specification(argc, argv);
    if (specification == NULL)
        return 2;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(specification);
    return failed;
}
