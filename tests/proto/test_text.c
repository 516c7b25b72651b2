/* SPDX-License-Identifier: Apache-2.0 */
/* Against a second definition of UTF-8: a sequence is well-formed if decoding its bits gives a
 * number that is a character and whose encoding is that very sequence. Every number is tried, and
 * every pair of bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"

static size_t encode(uint32_t c, uint8_t *to)
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xc0 | c >> 6);
        to[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xe0 | c >> 12);
        to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | c >> 18);
    to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

static void every_character_is_well_formed_and_no_other_number(void **state)
{
    uint8_t bytes[4];

    (void)state;
    for (uint32_t c = 0; c < 0x200000; c++) {
        size_t len = encode(c, bytes);
        int is_character = c < 0x110000 && (c < 0xd800 || c > 0xdfff);

        if (knit_text_is_utf8(bytes, len) != is_character)
            fail_msg("U+%04X", c);
        /* Cut short, it is none. */
        if (len > 1)
            assert_false(knit_text_is_utf8(bytes, len - 1));
    }
}

static void overlong_forms_are_refused(void **state)
{
    static const char *const texts[] = {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
        "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf8\x88\x80\x80\x80", "\x80", "\xbf", "\xfe",
        "\xff", "\xc3\x28", "\xe2\x28\xa1", "\xe2\x82\x28", "\xf0\x28\x8c\xbc", "\xf0\x90\x28\xbc",
        "\xf0\x90\x8c\x28"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(knit_text_valid(texts[i], strlen(texts[i])), 0);
}

static void two_bytes_are_well_formed_only_as_they_should(void **state)
{
    (void)state;
    for (unsigned word = 0; word < 0x10000; word++) {
        uint8_t bytes[2] = {(uint8_t)(word >> 8), (uint8_t)word};
        int expected =
            (bytes[0] < 0x80 && bytes[1] < 0x80) ||
            (bytes[0] >= 0xc2 && bytes[0] <= 0xdf && bytes[1] >= 0x80 && bytes[1] <= 0xbf);

        assert_int_equal(knit_text_is_utf8(bytes, 2), expected);
    }
}

static void the_length_says_where_it_ceases_to_be_text(void **state)
{
    char text[40];

    (void)state;
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = (char)0xff;
        assert_int_equal(knit_text_valid(text, sizeof(text)), at);
    }
    assert_int_equal(knit_text_valid("\0\0", 2), 2);
    assert_int_equal(knit_text_valid("", 0), 0);
    /* A character across the border of the eight bytes looked at together. */
    assert_int_equal(knit_text_valid("1234567\xe2\x82\xac"
                                     "12345678\xe2\x82",
                         20),
        18);
}

static void a_cut_falls_between_characters(void **state)
{
    static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9d\x84\x9e";
    static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};

    (void)state;
    for (size_t max = 0; max < sizeof(expected) / sizeof(expected[0]); max++)
        assert_int_equal(knit_text_cut(text, 10, max), expected[max]);
    for (size_t max = 0; max < 4; max++)
        assert_int_equal(knit_text_cut("\xf0\x9d\x84\x9e", 4, max), 0);
    assert_int_equal(knit_text_cut("\x80\x80\x80\x80\x80\x80", 6, 5), 5);
    assert_int_equal(knit_text_cut("\x80\x80\x80", 3, 2), 2);
}

static void what_a_terminal_obeys_is_found_and_nothing_else(void **state)
{
    static const uint32_t hidden[] = {0x80, 0x85, 0x9b, 0x9f, 0x61c, 0x200e, 0x200f, 0x2028, 0x2029,
        0x202a, 0x202e, 0x2066, 0x2069};
    size_t found = 0;

    (void)state;
    for (uint32_t code = 0x80; code < 0x10000; code++) {
        uint8_t text[3] = {(uint8_t)(0xe0 | code >> 12), (uint8_t)(0x80 | (code >> 6 & 0x3f)),
            (uint8_t)(0x80 | (code & 0x3f))};
        size_t len = code < 0x800 ? 2 : 3, got;
        uint32_t is = 0;

        if (len == 2) {
            text[0] = (uint8_t)(0xc0 | code >> 6);
            text[1] = (uint8_t)(0x80 | (code & 0x3f));
        }
        got = knit_text_hidden(text, len, &is);
        assert_true(got == 0 || (got == len && is == code));
        assert_int_equal(knit_text_hidden(text, len - 1, &is), 0);
        found += got != 0;
    }
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        uint32_t code = hidden[i], is;
        uint8_t text[3] = {(uint8_t)(0xe0 | code >> 12), (uint8_t)(0x80 | (code >> 6 & 0x3f)),
            (uint8_t)(0x80 | (code & 0x3f))};

        if (code < 0x800) {
            text[0] = (uint8_t)(0xc0 | code >> 6);
            text[1] = text[2];
        }
        assert_true(knit_text_hidden(text, 3, &is) != 0);
    }
    assert_int_equal(found, 32 + 1 + 2 + 7 + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_well_formed_and_no_other_number),
        cmocka_unit_test(overlong_forms_are_refused),
        cmocka_unit_test(two_bytes_are_well_formed_only_as_they_should),
        cmocka_unit_test(the_length_says_where_it_ceases_to_be_text),
        cmocka_unit_test(a_cut_falls_between_characters),
        cmocka_unit_test(what_a_terminal_obeys_is_found_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
