/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused and why stands in PROTOCOL.md and is tested by test_vectors. Here: nesting, where
 * flaws are, the checks of parts, and agreement with msgpack-c on random and damaged values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

#include "proto/buffer.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "tests/proto/notation.h"
#include "tests/proto/sample.h"

enum { BUFFER_MAX = 64 << 20 };

static int check_hex(const char *hex, uint32_t depth, struct knit_check_flaw *ret_flaw)
{
    struct knit_buffer bytes;
    int r;

    knit_notation_hex_new(hex, &bytes);
    r = knit_check_value(bytes.bytes, bytes.len, depth, ret_flaw);
    knit_buffer_fini(&bytes);
    return r;
}

static void nesting_is_counted_to_the_limit(void **state)
{
    struct knit_check_flaw flaw;
    struct knit_buffer bytes;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned i = 0; i < 1000000; i++)
        knit_buffer_append(&bytes, "\x91", 1);
    assert_int_equal(knit_check_value(bytes.bytes, bytes.len, 32, &flaw), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(flaw.offset, 32);
    /* More than the maximum cannot be asked for. */
    assert_int_equal(knit_check_value(bytes.bytes, bytes.len, 99, &flaw), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(flaw.offset, 32);
    memset(bytes.bytes + 32, 0xc0, 1);
    assert_int_equal(knit_check_value(bytes.bytes, 33, 32, &flaw), 0);
    assert_int_equal(knit_check_value(bytes.bytes, 33, 31, &flaw), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(check_hex("90", 0, NULL), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(check_hex("c0", 0, NULL), 0);
    knit_buffer_fini(&bytes);
}

static void nesting_cannot_hide_in_ext_types(void **state)
{
    (void)state;
    assert_int_equal(check_hex("c7 04 22 91 d4 22 90", 2, NULL), 0);
    assert_int_equal(check_hex("c7 04 22 91 d4 22 90", 1, NULL), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(check_hex("c7 03 29 d4 29 c0", 2, NULL), 0);
    assert_int_equal(check_hex("c7 03 29 d4 29 c0", 1, NULL), KNIT_CHECK_E_TOO_DEEP);
}

static void flaws_say_where_they_are(void **state)
{
    struct knit_check_flaw flaw;

    (void)state;
    assert_int_equal(check_hex("93 01 a2 61 61 a1 ff", 32, &flaw), KNIT_CHECK_E_TEXT);
    assert_int_equal(flaw.offset, 5);
    assert_int_equal(flaw.ext, 0);
    assert_int_equal(check_hex("92 01 d4 4d 00", 32, &flaw), KNIT_CHECK_E_EXT);
    assert_int_equal(flaw.offset, 2);
    assert_int_equal(flaw.ext, 0x4d);
    assert_int_equal(check_hex("91 c7 03 22 91 a1 ff", 32, &flaw), KNIT_CHECK_E_TEXT);
    assert_int_equal(check_hex("91 c7 03 22 91 a1 ff", 32, NULL), KNIT_CHECK_E_TEXT);
    assert_int_equal(check_hex("01 02", 32, NULL), KNIT_CHECK_E_BAD);
}

static void the_front_value_is_measured(void **state)
{
    struct knit_buffer bytes;
    size_t len;

    (void)state;
    knit_notation_hex_new("92 01 a1 61  c4 01 ff  c7 04 22 91 d4 22 90", &bytes);
    assert_int_equal(knit_check_front(bytes.bytes, bytes.len, 32, &len, NULL), 0);
    assert_int_equal(len, 4);
    assert_int_equal(knit_check_front(bytes.bytes + 4, bytes.len - 4, 32, &len, NULL), 0);
    assert_int_equal(len, 3);
    assert_int_equal(knit_check_front(bytes.bytes + 7, bytes.len - 7, 32, &len, NULL), 0);
    assert_int_equal(len, 7);
    assert_int_equal(knit_check_front(bytes.bytes + 14, 0, 32, &len, NULL), KNIT_CHECK_E_BAD);
    knit_buffer_fini(&bytes);
}

static void the_body_of_an_ext_can_be_checked_alone(void **state)
{
    struct knit_check_flaw flaw;

    (void)state;
    assert_int_equal(knit_check_ext(34, "\x91\x90", 2, 2, NULL), 0);
    assert_int_equal(knit_check_ext(34, "\x91\x90", 2, 1, NULL), KNIT_CHECK_E_TOO_DEEP);
    assert_int_equal(knit_check_ext(34, "\x91", 1, 2, NULL), KNIT_CHECK_E_BAD);
    assert_int_equal(knit_check_ext(39, "\xff", 1, 2, &flaw), KNIT_CHECK_E_EXT);
    assert_int_equal(flaw.ext, 39);
    assert_int_equal(knit_check_ext(200, "", 0, 2, &flaw), KNIT_CHECK_E_EXT);
    assert_int_equal(flaw.ext, 200);
}

static void typed_arrays_are_taken_apart(void **state)
{
    struct knit_span elements;
    uint8_t code, size;

    (void)state;
    assert_true(knit_check_typed("\x05\2..\1\2\3\4", 8, &code, &size, &elements));
    assert_int_equal(code, 5);
    assert_int_equal(size, 2);
    assert_int_equal(elements.len, 4);
    assert_int_equal(elements.bytes[0], 1);
    assert_false(knit_check_typed("\x05", 1, &code, &size, &elements));
}

static void a_value_is_skipped_by_its_heads(void **state)
{
    struct knit_buffer bytes;
    size_t len = 0;

    (void)state;
    knit_notation_hex_new("82 a1 61 92 c0 c1", &bytes);
    assert_int_equal(knit_check_skip(bytes.bytes, bytes.len, &len), KNIT_CHECK_E_BAD);
    bytes.bytes[5] = 0xc0;
    assert_int_equal(knit_check_skip(bytes.bytes, bytes.len, &len), KNIT_CHECK_E_BAD);
    knit_buffer_append(&bytes, "\x01\x02\x03", 3);
    assert_int_equal(knit_check_skip(bytes.bytes, bytes.len, &len), 0);
    assert_int_equal(len, 8);
    knit_buffer_fini(&bytes);
    assert_int_equal(knit_check_skip("\xa2x", 2, &len), KNIT_CHECK_E_BAD);
    assert_int_equal(knit_check_skip("\xdf\xff\xff\xff\xff", 5, &len), KNIT_CHECK_E_BAD);
    assert_int_equal(knit_check_skip("", 0, &len), KNIT_CHECK_E_BAD);
}

/* How msgpack-c sees the bytes: the length of the value at the front, 0 = none. */
static size_t length_by_msgpack_c(const struct knit_buffer *bytes)
{
    msgpack_unpacked unpacked;
    size_t used = 0;
    msgpack_unpack_return r;

    msgpack_unpacked_init(&unpacked);
    r = msgpack_unpack_next(&unpacked, (const char *)bytes->bytes, bytes->len, &used);
    msgpack_unpacked_destroy(&unpacked);
    return r == MSGPACK_UNPACK_SUCCESS ? used : 0;
}

static void random_values_pass_and_have_the_length_msgpack_c_finds(void **state)
{
    struct knit_random random;
    struct knit_check_flaw flaw;
    struct knit_buffer bytes;
    size_t len;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned round = 0; round < 5000; round++) {
        size_t whole;

        knit_buffer_reset(&bytes);
        knit_sample_value(&random, 10, 60, &bytes);
        whole = bytes.len;
        knit_buffer_append(&bytes, "\xc0", knit_random_below(&random, 2));
        if (knit_check_front(bytes.bytes, bytes.len, 32, &len, &flaw))
            fail_msg("%s at %zu", flaw.reason, flaw.offset);
        assert_int_equal(len, whole);
        assert_int_equal(length_by_msgpack_c(&bytes), whole);
        assert_int_equal(knit_check_skip(bytes.bytes, bytes.len, &len), 0);
        assert_int_equal(len, whole);
        /* Nothing that is cut short passes. */
        whole = knit_random_below(&random, whole);
        assert_int_not_equal(knit_check_front(bytes.bytes, whole, 32, &len, NULL), 0);
        assert_int_equal(knit_check_skip(bytes.bytes, whole, &len), KNIT_CHECK_E_BAD);
    }
    knit_buffer_fini(&bytes);
}

static void damaged_values_that_pass_are_read_by_msgpack_c(void **state)
{
    unsigned passed = 0, refused[KNIT_CHECK_E_EXT + 1] = {0};
    struct knit_random random;
    struct knit_buffer bytes;
    size_t len;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned round = 0; round < 20000; round++) {
        size_t theirs;
        int r;

        knit_buffer_reset(&bytes);
        knit_sample_value(&random, 6, 30, &bytes);
        knit_sample_mutate(&random, &bytes);
        r = knit_check_front(bytes.bytes, bytes.len, 8, &len, NULL);
        refused[r]++;
        /* msgpack-c reserves what a count announces, so it is not asked about what is not msgpack.
         */
        if (knit_check_skip(bytes.bytes, bytes.len, &theirs))
            continue;
        theirs = length_by_msgpack_c(&bytes);
        if (r == 0) {
            assert_int_equal(theirs, len);
            passed++;
        } else if (r == KNIT_CHECK_E_TEXT) {
            assert_int_not_equal(theirs, 0);
        }
    }
    knit_buffer_fini(&bytes);
    assert_true(passed > 100);
    assert_true(refused[KNIT_CHECK_E_BAD] > 10 && refused[KNIT_CHECK_E_TEXT] > 10);
    assert_true(refused[KNIT_CHECK_E_EXT] > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nesting_is_counted_to_the_limit),
        cmocka_unit_test(nesting_cannot_hide_in_ext_types),
        cmocka_unit_test(flaws_say_where_they_are),
        cmocka_unit_test(the_front_value_is_measured),
        cmocka_unit_test(the_body_of_an_ext_can_be_checked_alone),
        cmocka_unit_test(typed_arrays_are_taken_apart),
        cmocka_unit_test(a_value_is_skipped_by_its_heads),
        cmocka_unit_test(random_values_pass_and_have_the_length_msgpack_c_finds),
        cmocka_unit_test(damaged_values_that_pass_are_read_by_msgpack_c),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
