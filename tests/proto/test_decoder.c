/* SPDX-License-Identifier: Apache-2.0 */
/* Random values are taken apart with the getters and put together again with a writer: what comes
 * out must be what msgpack-c made of the shortest forms. Then: getters on the wrong types, broken
 * bytes, and memory that is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/decoder.h"
#include "proto/writer.h"
#include "tests/proto/failing.h"
#include "tests/proto/notation.h"
#include "tests/proto/recode.h"
#include "tests/proto/sample.h"

enum { BUFFER_MAX = 64 << 20 };

static void random_values_survive_decoding_and_encoding(void **state)
{
    struct knit_buffer bytes, once, twice;
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    knit_buffer_init(&once, BUFFER_MAX);
    knit_buffer_init(&twice, BUFFER_MAX);
    for (unsigned round = 0; round < 3000; round++) {
        knit_buffer_reset(&bytes);
        knit_buffer_reset(&once);
        knit_buffer_reset(&twice);
        knit_sample_value(&random, 12, 60, &bytes);
        assert_int_equal(knit_recode(knit_buffer_span(&bytes), &once), 0);
        /* The first time may shorten a 32-bit float's or a long number's form, the second nothing.
         */
        assert_int_equal(knit_recode(knit_buffer_span(&once), &twice), 0);
        assert_int_equal(once.len, twice.len);
        assert_memory_equal(once.bytes, twice.bytes, once.len);
        if (memchr(bytes.bytes, 0xca, bytes.len) == NULL) {
            assert_int_equal(once.len, bytes.len);
            assert_memory_equal(once.bytes, bytes.bytes, once.len);
        }
    }
    knit_buffer_fini(&bytes);
    knit_buffer_fini(&once);
    knit_buffer_fini(&twice);
}

static void assert_yields_nothing(const struct knit_decoded *value, enum knit_decoded_type type)
{
    int64_t seconds = 5;
    uint32_t nanoseconds = 5;
    size_t len = 5;
    int ext = 5;
    bool has_bytes = type == KNIT_DECODED_STR || type == KNIT_DECODED_BIN ||
                     type == KNIT_DECODED_EXT || type == KNIT_DECODED_TIME;

    if (type != KNIT_DECODED_BOOL)
        assert_false(knit_decoder_bool(value));
    if (type != KNIT_DECODED_INT)
        assert_true(knit_decoder_int(value) == 0);
    if (type != KNIT_DECODED_INT && type != KNIT_DECODED_UINT) {
        assert_true(knit_decoder_uint(value) == 0);
        if (type != KNIT_DECODED_FLOAT)
            assert_true(knit_decoder_float(value) == 0);
    }
    if (!has_bytes) {
        assert_null(knit_decoder_bytes(value, &len, &ext));
        assert_int_equal(len, 0);
        assert_int_equal(ext, 0);
    }
    if (type != KNIT_DECODED_ARRAY && type != KNIT_DECODED_MAP) {
        assert_int_equal(knit_decoder_count(value), 0);
        assert_null(knit_decoder_at(value, 0));
    }
    if (type != KNIT_DECODED_MAP)
        assert_null(knit_decoder_key(value, 0));
    if (type != KNIT_DECODED_TIME)
        assert_false(knit_decoder_time(value, &seconds, &nanoseconds));
    assert_null(knit_decoder_rest(value).bytes);
}

static void getters_of_another_type_yield_nothing(void **state)
{
    static const struct {
        const char *text;
        enum knit_decoded_type type;
    } values[] = {{"nil", KNIT_DECODED_NIL}, {"true", KNIT_DECODED_BOOL}, {"-5", KNIT_DECODED_INT},
        {"5", KNIT_DECODED_INT}, {"9223372036854775808", KNIT_DECODED_UINT},
        {"1.5", KNIT_DECODED_FLOAT}, {"\"s\"", KNIT_DECODED_STR}, {"h'00'", KNIT_DECODED_BIN},
        {"[1]", KNIT_DECODED_ARRAY}, {"{1: 2}", KNIT_DECODED_MAP},
        {"time(1, 2)", KNIT_DECODED_TIME}, {"ext(37, h'00')", KNIT_DECODED_EXT},
        {"set([1])", KNIT_DECODED_EXT}};
    struct knit_decoder *decoder = knit_decoder_new();
    struct knit_buffer bytes;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        const struct knit_decoded *value;

        knit_buffer_init(&bytes, BUFFER_MAX);
        knit_notation_encode_all(values[i].text, &bytes);
        value = knit_decoder_read(decoder, bytes.bytes, bytes.len);
        assert_non_null(value);
        assert_int_equal(knit_decoder_type(value), values[i].type);
        assert_yields_nothing(value, values[i].type);
        if (strncmp(values[i].text, "set", 3) != 0)
            assert_null(knit_decoder_open(decoder, value));
        knit_buffer_fini(&bytes);
        knit_decoder_reset(decoder);
    }
    assert_yields_nothing(NULL, KNIT_DECODED_NIL);
    assert_int_equal(knit_decoder_type(NULL), KNIT_DECODED_NIL);
    assert_null(knit_decoder_open(decoder, NULL));
    assert_null(knit_decoder_free(decoder));
    assert_null(knit_decoder_free(NULL));
}

static void numbers_convert_where_that_is_exact_or_said(void **state)
{
    struct knit_decoder *decoder = knit_decoder_new();
    const struct knit_decoded *value;

    (void)state;
    value = knit_decoder_read(decoder, "\xff", 1);
    assert_true(knit_decoder_int(value) == -1 && knit_decoder_uint(value) == 0);
    assert_true(knit_decoder_float(value) == -1);
    value = knit_decoder_read(decoder, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    assert_true(knit_decoder_int(value) == 0 && knit_decoder_uint(value) == UINT64_MAX);
    assert_true(knit_decoder_float(value) == 18446744073709551616.0);
    value = knit_decoder_read(decoder, "\x07", 1);
    assert_true(knit_decoder_int(value) == 7 && knit_decoder_uint(value) == 7);
    knit_decoder_free(decoder);
}

static void an_envelope_opens_into_header_and_rest(void **state)
{
    struct knit_decoder *decoder = knit_decoder_new();
    const struct knit_decoded *value = knit_decoder_read(decoder, "\xd6\x29\x91\x05xy", 6);
    const struct knit_decoded *header = knit_decoder_open(decoder, value);

    (void)state;
    assert_int_equal(knit_decoder_count(header), 1);
    assert_true(knit_decoder_int(knit_decoder_at(header, 0)) == 5);
    assert_null(knit_decoder_at(header, 1));
    assert_int_equal(knit_decoder_rest(value).len, 2);
    assert_memory_equal(knit_decoder_rest(value).bytes, "xy", 2);
    value = knit_decoder_read(decoder, "\xd4\x29\x91", 3);
    assert_null(knit_decoder_open(decoder, value));
    assert_null(knit_decoder_rest(value).bytes);
    knit_decoder_free(decoder);
}

static void bytes_that_are_not_one_value_are_not_decoded(void **state)
{
    struct knit_decoder *decoder = knit_decoder_new();

    (void)state;
    assert_null(knit_decoder_read(decoder, "\xc1", 1));
    assert_null(knit_decoder_read(decoder, "\x91", 1));
    assert_null(knit_decoder_read(decoder, "\x01\x02", 2));
    assert_null(knit_decoder_read(decoder, "", 0));
    knit_decoder_free(decoder);
}

static void memory_that_is_not_there_gives_null(void **state)
{
    struct knit_decoder *decoder;
    unsigned needed;

    (void)state;
    knit_failing_after(0);
    decoder = knit_decoder_new();
    needed = knit_failing_after(0);
    assert_non_null(decoder);
    assert_true(needed >= 1);
    for (unsigned n = 1; n <= needed; n++) {
        knit_failing_after(n);
        assert_null(knit_decoder_new());
    }
    knit_failing_after(0);
    knit_decoder_free(decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_values_survive_decoding_and_encoding),
        cmocka_unit_test(getters_of_another_type_yield_nothing),
        cmocka_unit_test(numbers_convert_where_that_is_exact_or_said),
        cmocka_unit_test(an_envelope_opens_into_header_and_rest),
        cmocka_unit_test(bytes_that_are_not_one_value_are_not_decoded),
        cmocka_unit_test(memory_that_is_not_there_gives_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
