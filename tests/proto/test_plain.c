/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken in one walk must be what scanner and parser find, and the usual messages must be
 * taken so. The vectors of the specification go through the same comparison in test_vectors.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "proto/plain.h"
#include "tests/proto/notation.h"
#include "tests/proto/sample.h"
#include "tests/proto/two_ways.h"

enum { BUFFER_MAX = 1 << 20, MOST = KNIT_MESSAGE_BYTES_DEFAULT };

/* By the limits of a server. */
static size_t take_both_ways(const uint8_t *bytes, size_t len, uint32_t most)
{
    const struct knit_scan_limits limits = {.message_bytes = most, .bounds_parts = true};
    struct knit_scan scan;
    size_t taken, used;
    int r;

    knit_scan_init(&scan, &limits);
    assert_true(two_ways_agree(&scan, bytes, len, &taken, &r, &used));
    return taken;
}

/* Taken at its whole length, whatever follows it, and not a byte short of that. */
static void usual_messages_are_taken_whole(void **state)
{
    static const char *const usual[] = {
        "94 00 05 a4 6563686f 91 c4 02 7879",
        "94 00 cc 80 a3 616464 92 01 d3 ff ff ff ff ff ff ff ff",
        "94 00 cd 01 00 a3 616464 92 ca 00 00 00 00 cb 00 00 00 00 00 00 00 00",
        "94 00 ce 00 01 00 00 a5 656d707479 90",
        "94 00 05 d9 04 6563686f 91 c5 00 01 78",
        "94 00 05 c4 04 6563686f 91 c6 00 00 00 01 78",
        "94 00 05 cd 01 02 93 c0 c2 c3",
        "94 00 05 a3 73756d 91 c7 04 21 00 00 00 00",
        "95 00 05 a4 6563686f 90 81 a7 74696d656f7574 cd 03 e8",
        "95 00 05 a4 6563686f 90 82 a5 7175657565 cb 3f f0 00 00 00 00 00 00 a6 6f7574707574 c3",
        "93 02 a4 6563686f 91 a3 616263",
        "94 01 05 c0 91 a3 616263",
        "94 01 05 c0 da 00 02 7879",
        "94 00 05 a4 6563686f 91 91 01",
        "94 00 05 a4 6563686f 92 82 01 02 a1 6b 93 01 02 90 05",
        "94 00 05 a4 6563686f 91 91 91 91 91 91 91 91 90",
        "95 00 05 a4 6563686f 90 81 a1 6b 91 01",
        "94 01 05 c0 82 01 91 02 03 80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        struct knit_message message;
        struct knit_buffer bytes;
        size_t whole;

        knit_notation_hex_new(usual[i], &bytes);
        whole = bytes.len;
        assert_int_equal(take_both_ways(bytes.bytes, whole, MOST), whole);
        for (size_t len = 0; len < whole; len++) {
            assert_int_equal(knit_plain_take(bytes.bytes, len, MOST, &message), 0);
            assert_int_equal(knit_plain_take(bytes.bytes, whole, len, &message), 0);
        }
        assert_int_equal(knit_buffer_append(&bytes, "\x94\xc1\xff", 3), 0);
        assert_int_equal(take_both_ways(bytes.bytes, bytes.len, MOST), whole);
        knit_buffer_fini(&bytes);
    }
}

/* A stream whose buffer was taken over has none. UndefinedBehaviorSanitizer is what can see it. */
static void no_bytes_are_no_message(void **state)
{
    struct knit_message message;

    (void)state;
    assert_int_equal(knit_plain_take(NULL, 0, MOST, &message), 0);
}

static void unusual_messages_are_left_to_the_scanner(void **state)
{
    static const char *const unusual[] = {
        "94 00 05 a7 242f68656c6c6f 90",
        "94 00 05 c4 06 242f70696e67 90",
        "94 00 05 a4 6563686f 91 91 91 91 91 91 91 91 91 90",
        "94 00 05 a4 6563686f 91 99 90 90 90 90 90 90 90 90 90",
        "94 00 05 a4 6563686f 91 d4 22 90",
        "94 00 05 a4 6563686f 91 c1 00",
        "94 00 05 a4 6563686f dc 00 01 01",
        "94 00 cf 00 00 00 00 00 00 00 05 a4 6563686f 90",
        "94 00 d0 05 a4 6563686f 90",
        "94 00 ff a4 6563686f 90",
        "94 00 05 c0 a4 6563686f 90",
        "94 00 05 a4 6563686f c0 c0 c0",
        "95 00 05 a4 6563686f 90 90 90",
        "94 01 05 a2 6e6f c0 c0 c0",
        "95 01 05 c0 c0 c0 c0 c0",
        "93 00 05 a4 6563686f 90 90",
        "94 02 a4 6563686f 90 80 80",
        "94 03 05 a4 6563686f 90 80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(unusual) / sizeof(unusual[0]); i++) {
        struct knit_buffer bytes;

        knit_notation_hex_new(unusual[i], &bytes);
        assert_int_equal(take_both_ways(bytes.bytes, bytes.len, MOST), 0);
        knit_buffer_fini(&bytes);
    }
}

/* The scanner bounds options. */
static void options_that_are_too_large_are_left_to_the_scanner(void **state)
{
    struct knit_buffer bytes;

    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        /* Map, key and the value's head take 6 bytes. */
        unsigned body = KNIT_OPTIONS_BYTES_MAX - 6 + more;

        knit_notation_hex_new("95 00 05 a4 6563686f 90 81 a1 6b c5", &bytes);
        assert_int_equal(
            knit_buffer_append(&bytes, (uint8_t[]){(uint8_t)(body >> 8), (uint8_t)body}, 2), 0);
        while (body-- > 0)
            assert_int_equal(knit_buffer_append(&bytes, "x", 1), 0);
        assert_int_equal(take_both_ways(bytes.bytes, bytes.len, MOST), more == 0 ? bytes.len : 0);
        knit_buffer_fini(&bytes);
    }
}

static void random_messages_are_the_same_both_ways(void **state)
{
    struct knit_random random;
    struct knit_buffer bytes;
    unsigned taken = 0;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned i = 0; i < 20000; i++) {
        knit_buffer_reset(&bytes);
        knit_sample_message(&random, &bytes);
        if (i % 2 != 0)
            knit_sample_mutate(&random, &bytes);
        taken += take_both_ways(bytes.bytes, bytes.len, i % 4 < 2 ? MOST : 40) > 0;
    }
    assert_true(taken > 100);
    knit_buffer_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_messages_are_taken_whole),
        cmocka_unit_test(no_bytes_are_no_message),
        cmocka_unit_test(unusual_messages_are_left_to_the_scanner),
        cmocka_unit_test(options_that_are_too_large_are_left_to_the_scanner),
        cmocka_unit_test(random_messages_are_the_same_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
