/* SPDX-License-Identifier: Apache-2.0 */
/* Against a second definition of UTF-8, plain_text.h: every number, every pair of bytes, and what
 * is wrong at each place of a block of those that are looked at together, in texts of each kind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/text.h"
#include "tests/proto/plain_text.h"
#include "tests/support/random.h"

enum { ALIGNMENTS = 16, LEN_MAX = 3 * KNIT_TEXT_BLOCK + 9 };

static void every_character_is_well_formed_and_no_other_number(void **state)
{
    uint8_t bytes[4];

    (void)state;
    for (uint32_t c = 0; c < 0x200000; c++) {
        size_t len = knit_plain_encode(c, bytes);

        if (knit_text_is_utf8(bytes, len) != knit_plain_is_character(c))
            fail_msg("U+%04X", c);
        /* Cut short, it is none. */
        if (len > 1)
            assert_false(knit_text_is_utf8(bytes, len - 1));
    }
}

/* One of each kind of mistake, and what is nearly one. */
static const char *const wrong[] = {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
    "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf8\x88\x80\x80\x80", "\x80", "\xbf", "\xfe", "\xff",
    "\xc3\x28", "\xe2\x28\xa1", "\xe2\x82\x28", "\xf0\x28\x8c\xbc", "\xf0\x90\x28\xbc",
    "\xf0\x90\x8c\x28", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
    "\xe0\xc0\x80", "\xf0\x90\xc0\x80", "\xf0\xc1\x80\x80", "\xe1\x80\xe1\x80", "\xc2\xc2\x80",
    "\xf1\x80\xe1\x80\x80"};
static const char *const right[] = {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xe0\xbf\xbf",
    "\xed\x80\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
    "\xf0\xbf\xbf\xbf", "\xf4\x80\x80\x80", "\xf4\x8f\xbf\xbf"};

/* What the rest of a text is: ASCII, characters of two, three and four bytes, and a mixture. */
static const char *const fills[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9d\x84\x9e",
    "a\xd0\x96 \xea\xb0\x80 \xf0\x9f\x98\x80."};

enum {
    WRONG = sizeof(wrong) / sizeof(wrong[0]),
    RIGHT = sizeof(right) / sizeof(right[0]),
    FILLS = sizeof(fills) / sizeof(fills[0]),
};

static void overlong_forms_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < WRONG; i++) {
        size_t valid = knit_plain_valid((const uint8_t *)wrong[i], strlen(wrong[i]));

        assert_true(valid < strlen(wrong[i]));
        assert_int_equal(knit_text_valid(wrong[i], strlen(wrong[i])), valid);
        assert_false(knit_text_is_utf8(wrong[i], strlen(wrong[i])));
    }
    for (size_t i = 0; i < RIGHT; i++)
        assert_true(knit_text_is_utf8(right[i], strlen(right[i])));
}

/* Fills all of `text` but its end, where no whole piece fits, which becomes ASCII. */
static void fill(uint8_t *text, size_t len, const char *piece)
{
    const size_t size = strlen(piece);
    size_t at = 0;

    for (; len - at >= size; at += size)
        memcpy(text + at, piece, size);
    memset(text + at, '.', len - at);
}

/* The copy begins at another place of a block each time. */
static void compare(const uint8_t *text, size_t len)
{
    static size_t shift;
    size_t expected = knit_plain_valid(text, len), got = knit_text_valid(text, len);
    uint8_t *room, *copy;

    if (got != expected)
        fail_msg("%zu bytes: valid to %zu, found %zu", len, expected, got);
    assert_int_equal(knit_text_is_utf8(text, len), expected == len);
    shift = (shift + 1) % KNIT_TEXT_BLOCK;
    room = malloc(shift + len + 1);
    assert_non_null(room);
    copy = room + shift;
    memset(room, 0x5a, shift + len + 1);
    assert_int_equal(knit_text_copy(copy, text, len), expected == len);
    assert_memory_equal(copy, text, len);
    assert_int_equal(copy[len], 0x5a);
    assert_true(shift == 0 || copy[-1] == 0x5a);
    free(room);
}

/* In memory of its own that ends where the text does, so that a sanitizer sees a byte too many. */
static uint8_t *new_text(size_t len)
{
    uint8_t *text = malloc(len + (len == 0));

    assert_non_null(text);
    return text;
}

static void every_length_is_judged_at_every_alignment(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < FILLS; kind++) {
        for (size_t len = 0; len <= LEN_MAX; len++) {
            for (size_t shift = 0; shift < ALIGNMENTS; shift++) {
                uint8_t *room = new_text(shift + len);

                /* Cut wherever the length falls. */
                for (size_t i = 0; i < len; i++)
                    room[shift + i] = (uint8_t)fills[kind][i % strlen(fills[kind])];
                compare(room + shift, len);
                free(room);
            }
        }
    }
}

static void each_mistake_is_found_at_each_place_of_a_block(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < FILLS; kind++) {
        for (size_t which = 0; which < WRONG + RIGHT; which++) {
            const char *piece = which < WRONG ? wrong[which] : right[which - WRONG];
            const size_t size = strlen(piece);

            for (size_t at = 0; at + size <= LEN_MAX; at++) {
                uint8_t *text = new_text(LEN_MAX);

                fill(text, at, fills[kind]);
                memcpy(text + at, piece, size);
                fill(text + at + size, LEN_MAX - at - size, fills[kind]);
                compare(text, LEN_MAX);
                compare(text, at + size);
                if (which >= WRONG)
                    assert_true(knit_text_is_utf8(text, LEN_MAX));
                else
                    assert_in_range(knit_text_valid(text, LEN_MAX), at, at + size - 1);
                free(text);
            }
        }
    }
}

static void any_byte_is_judged_at_each_place_of_a_block(void **state)
{
    uint8_t text[2 * KNIT_TEXT_BLOCK + 3], kept;

    (void)state;
    for (size_t kind = 0; kind < FILLS; kind++) {
        fill(text, sizeof(text), fills[kind]);
        for (size_t at = 0; at < sizeof(text); at++) {
            kept = text[at];
            for (unsigned byte = 0; byte < 256; byte++) {
                text[at] = (uint8_t)byte;
                compare(text, sizeof(text));
            }
            text[at] = kept;
        }
    }
}

static void each_mistake_is_found_at_each_place_of_a_stride(void **state)
{
    enum { LEN = 2 * KNIT_TEXT_STRIDE + 2 * KNIT_TEXT_BLOCK + 5 };

    (void)state;
    for (size_t which = 0; which < WRONG + RIGHT; which++) {
        const char *piece = which < WRONG ? wrong[which] : right[which - WRONG];
        const size_t size = strlen(piece);

        for (size_t at = 0; at + size <= LEN; at++) {
            uint8_t *text = new_text(LEN);

            fill(text, LEN, fills[0]);
            memcpy(text + at, piece, size);
            compare(text, LEN);
            compare(text, at + size);
            free(text);
        }
    }
}

static void random_texts_are_judged_as_by_the_plain_definition(void **state)
{
    struct knit_random random;

    (void)state;
    knit_random_init(&random);
    for (unsigned round = 0; round < 50000; round++) {
        uint8_t text[3 * KNIT_TEXT_STRIDE];
        size_t len = 0, wanted = knit_random_below(&random, sizeof(text) - 8);
        uint64_t kind = knit_random_below(&random, FILLS);

        while (len < wanted) {
            uint64_t draw = knit_random_below(&random, 4 * LEN_MAX);
            const char *piece = draw < 2             ? wrong[knit_random_below(&random, WRONG)]
                                : draw < LEN_MAX     ? right[draw % RIGHT]
                                : draw < 2 * LEN_MAX ? "b"
                                                     : fills[kind];

            if (strlen(piece) > sizeof(text) - len)
                break;
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        compare(text, len);
    }
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
        cmocka_unit_test(every_length_is_judged_at_every_alignment),
        cmocka_unit_test(each_mistake_is_found_at_each_place_of_a_block),
        cmocka_unit_test(any_byte_is_judged_at_each_place_of_a_block),
        cmocka_unit_test(each_mistake_is_found_at_each_place_of_a_stride),
        cmocka_unit_test(random_texts_are_judged_as_by_the_plain_definition),
        cmocka_unit_test(a_cut_falls_between_characters),
        cmocka_unit_test(what_a_terminal_obeys_is_found_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
