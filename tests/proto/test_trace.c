/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of `traceparent`: a table, and each byte of a good one changed to each other byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/trace.h"

#define ID   "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static void what_is_one_is_read_and_written(void **state)
{
    static const struct {
        const char *text, *written;
    } good[] = {
        {"00-" ID "-" SPAN "-01", "00-" ID "-" SPAN "-01"},
        {"00-" ID "-" SPAN "-00", "00-" ID "-" SPAN "-00"},
        /* Flags that mean nothing are not handed on, nor is what a later version has more. */
        {"00-" ID "-" SPAN "-ff", "00-" ID "-" SPAN "-01"},
        {"00-" ID "-" SPAN "-02", "00-" ID "-" SPAN "-00"},
        {"01-" ID "-" SPAN "-01", "00-" ID "-" SPAN "-01"},
        {"cc-" ID "-" SPAN "-01-what-the-future-will-be-like", "00-" ID "-" SPAN "-01"},
        {"cc-" ID "-" SPAN "-01-", "00-" ID "-" SPAN "-01"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[KNIT_TRACE_BYTES + 1];
        struct knit_trace trace;

        assert_true(knit_trace_parse(knit_span_text(good[i].text), &trace));
        assert_true(knit_trace_is_valid(&trace));
        knit_trace_format(&trace, text);
        assert_string_equal(text, good[i].written);
    }
}

static void what_is_none_is_not(void **state)
{
    static const char *const wrong[] = {"", "0", "00-", "00-" ID, "00-" ID "-" SPAN,
        "00-" ID "-" SPAN "-", "00-" ID "-" SPAN "-0", "00-" ID "-" SPAN "-01-",
        "00-" ID "-" SPAN "-011", "00-" ID "-" SPAN "-01 ", " 00-" ID "-" SPAN "-01",
        "ff-" ID "-" SPAN "-01", "cc-" ID "-" SPAN "-01.more", "0-" ID "-" SPAN "-010",
        "00-00000000000000000000000000000000-" SPAN "-01", "00-" ID "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", "00-" ID "-B7AD6B7169203331-01"};
    struct knit_trace trace;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(knit_trace_parse(knit_span_text(wrong[i]), &trace));
    assert_false(knit_trace_parse(knit_span(NULL, 0), &trace));
}

/* What is read after a change is what stands there. */
static void each_byte_counts(void **state)
{
    static const char good[] = "00-" ID "-" SPAN "-01";

    (void)state;
    for (size_t i = 0; i < KNIT_TRACE_BYTES; i++) {
        for (int byte = 0; byte < 256; byte++) {
            char text[sizeof(good)], written[KNIT_TRACE_BYTES + 1];
            const bool is_digit =
                byte != 0 && strchr("0123456789abcdef", byte) != NULL && good[i] != '-';
            struct knit_trace trace;

            memcpy(text, good, sizeof(good));
            text[i] = (char)byte;
            assert_int_equal(knit_trace_parse(knit_span(text, KNIT_TRACE_BYTES), &trace),
                is_digit || text[i] == good[i]);
            if (!is_digit || i < 2 || i > 52)
                continue;
            knit_trace_format(&trace, written);
            assert_string_equal(written, text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_one_is_read_and_written),
        cmocka_unit_test(what_is_none_is_not),
        cmocka_unit_test(each_byte_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
