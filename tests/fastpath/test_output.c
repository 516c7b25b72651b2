/* SPDX-License-Identifier: Apache-2.0 */
/* Output is cut into lines: each split of a text into pieces gives the same lines, and the rest of
 * a long line is dropped once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/host/output.h"

struct lines {
    char text[16384];
    size_t len;
    int count;
    size_t cut;
};

static void on_line(void *arg, const char *line, size_t len, size_t cut)
{
    struct lines *lines = arg;

    memcpy(lines->text + lines->len, line, len);
    lines->len += len;
    lines->text[lines->len++] = '|';
    lines->count++;
    lines->cut += cut;
}

static void lines_do_not_depend_on_how_bytes_arrive(void **state)
{
    static const char text[] = "one\n\ntwo words\nthree\0four\nlast";
    static const char expected[] = "one||two words|three\0four|last|";
    struct knit_output output;

    (void)state;
    for (size_t split = 0; split < sizeof(text); split++) {
        struct lines lines = {.len = 0};

        knit_output_init(&output);
        knit_output_feed(&output, text, split, on_line, &lines);
        knit_output_feed(&output, text + split, sizeof(text) - 1 - split, on_line, &lines);
        knit_output_end(&output, on_line, &lines);
        knit_output_end(&output, on_line, &lines);
        assert_int_equal(lines.len, sizeof(expected) - 1);
        assert_memory_equal(lines.text, expected, lines.len);
        assert_int_equal(lines.cut, 0);
    }
}

static void a_long_line_is_cut_and_the_next_one_whole(void **state)
{
    struct knit_output output;
    struct lines lines = {.len = 0};
    char piece[1000];

    (void)state;
    memset(piece, 'x', sizeof(piece));
    knit_output_init(&output);
    for (int i = 0; i < 9; i++)
        knit_output_feed(&output, piece, sizeof(piece), on_line, &lines);
    knit_output_feed(&output, "\nshort\n", 7, on_line, &lines);
    assert_int_equal(lines.count, 2);
    assert_int_equal(lines.cut, 9 * sizeof(piece) - KNIT_OUTPUT_LINE_BYTES);
    assert_int_equal(lines.len, KNIT_OUTPUT_LINE_BYTES + 1 + 6);
    assert_memory_equal(lines.text + KNIT_OUTPUT_LINE_BYTES, "|short|", 7);
    /* A line of exactly the longest length. */
    lines = (struct lines){.len = 0};
    for (size_t i = 0; i < KNIT_OUTPUT_LINE_BYTES; i++)
        knit_output_feed(&output, "y", 1, on_line, &lines);
    knit_output_feed(&output, "\n", 1, on_line, &lines);
    assert_int_equal(lines.cut, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_do_not_depend_on_how_bytes_arrive),
        cmocka_unit_test(a_long_line_is_cut_and_the_next_one_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
