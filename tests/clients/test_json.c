/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no value changes on its way from JSON to msgpack and back, and what cannot be said
 * exactly is refused with a sentence. Method: tables of texts that must come back as they are,
 * of texts that come back in another form, of msgpack given in bytes, and of mistakes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/tool/json.h"
#include "tests/proto/failing.h"

static int read_text(const char *text, struct knit_buffer *buffer, char *reason)
{
    struct knit_writer writer;
    int r;

    knit_buffer_init(buffer, 1 << 20);
    knit_writer_init(&writer, buffer);
    r = knit_json_read(text, strlen(text), &writer, reason);
    if (r == 0 && knit_writer_end(&writer) != 0) {
        snprintf(reason, KNIT_JSON_REASON_BYTES, "%s", knit_writer_reason(writer.error));
        r = KNIT_JSON_E_BAD;
    }
    return r;
}

static void comes_back_as(const char *text, const char *expected)
{
    char reason[KNIT_JSON_REASON_BYTES] = "", *written;
    struct knit_buffer buffer;

    if (read_text(text, &buffer, reason) != 0)
        fail_msg("%s: %s", text, reason);
    assert_int_equal(knit_json_write(knit_buffer_span(&buffer), false, &written), 0);
    assert_string_equal(written, expected);
    free(written);
    knit_buffer_fini(&buffer);
}

static void texts_come_back_as_they_are(void **state)
{
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "2.0",
        "-0.0",
        "0.1",
        "1.7976931348623157e+308",
        "5e-324",
        "2.2250738585072014e-308",
        "\"\"",
        "\"a\\\"b\\\\c/d\\n\"",
        "\"\\u0000\"",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "[]",
        "[1,[2,[3]]]",
        "{}",
        "{\"b\":1,\"a\":{\"$x\":1,\"y\":2}}",
        "{\"a\":[{\"a\":\":\"},{\"a\":{\"a\":\"\\\":\"}}],\":\":0}",
        "{\"$float\":\"NaN\"}",
        "{\"$float\":\"Infinity\"}",
        "{\"$float\":\"-Infinity\"}",
        "{\"$bin\":\"\"}",
        "{\"$bin\":\"AAEC/w==\"}",
        "{\"$map\":[[1,2],[null,[3]]]}",
        "{\"$map\":[[\"$bin\",1]]}",
        "{\"$map\":[[\"a\",1],[\"a\",2]]}",
        "{\"$map\":[[\"a\\u0000b\",1]]}",
        "{\"$time\":\"1970-01-01T00:00:00.000000000Z\"}",
        "{\"$time\":\"1969-12-31T23:59:59.999999999Z\"}",
        "{\"$time\":\"9999-12-31T23:59:59.000000001Z\"}",
        "{\"$time\":[253402300800,5]}",
        "{\"$undefined\":true}",
        "{\"$bigint\":\"0x0\"}",
        "{\"$bigint\":\"0xff\"}",
        "{\"$bigint\":\"-0x10000000000000000000f\"}",
        "{\"$set\":[1,\"a\"]}",
        "{\"$pairs\":[[\"a\",1],[2,3]]}",
        "{\"$i8\":[-128,127]}",
        "{\"$u8\":[0,255]}",
        "{\"$u8c\":[1]}",
        "{\"$i16\":[-32768]}",
        "{\"$u16\":[65535]}",
        "{\"$i32\":[-2147483648]}",
        "{\"$u32\":[4294967295]}",
        "{\"$f32\":[1.5,{\"$float\":\"NaN\"}]}",
        "{\"$f64\":[0.1,-0.0,{\"$float\":\"-Infinity\"}]}",
        "{\"$i64\":[-9223372036854775808]}",
        "{\"$u64\":[18446744073709551615]}",
        "{\"$u64\":[]}",
        "{\"$view\":\"AAA=\"}",
        "{\"$error\":{\"name\":\"E\",\"message\":\"m\"}}",
        "{\"$symbol\":\"s\"}",
        "{\"$envelope\":[{\"a\":1},\"AQI=\"]}",
        "{\"$envelope\":[null,\"\"]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        comes_back_as(texts[i], texts[i]);
}

static void other_spellings_are_understood(void **state)
{
    (void)state;
    comes_back_as(" [ 1 , 2 ] ", "[1,2]");
    comes_back_as("2e3", "2000.0");
    comes_back_as("\"\\ud83d\\ude00\\\\ud800\"", "\"\xf0\x9f\x98\x80\\\\ud800\"");
    comes_back_as("\"\\u00e4\"", "\"\xc3\xa4\"");
    comes_back_as("{\"$bigint\":\"-0\"}", "{\"$bigint\":\"0x0\"}");
    comes_back_as("{\"$bigint\":\"340282366920938463463374607431768211456\"}",
        "{\"$bigint\":\"0x100000000000000000000000000000000\"}");
    comes_back_as("{\"$bigint\":\"-255\"}", "{\"$bigint\":\"-0xff\"}");
    comes_back_as("{\"$time\":[0,0]}", "{\"$time\":\"1970-01-01T00:00:00.000000000Z\"}");
    comes_back_as(
        "{\"$time\":\"2020-02-29T12:00:00.5Z\"}", "{\"$time\":\"2020-02-29T12:00:00.500000000Z\"}");
    comes_back_as("{\"$f64\":[1]}", "{\"$f64\":[1.0]}");
    comes_back_as("{\"$ext\":[32,\"\"]}", "{\"$undefined\":true}");
}

static void ints_and_floats_stay_what_they_are(void **state)
{
    struct knit_buffer buffer;
    char reason[KNIT_JSON_REASON_BYTES];

    (void)state;
    assert_int_equal(read_text("2", &buffer, reason), 0);
    assert_int_equal(buffer.len, 1);
    knit_buffer_fini(&buffer);
    assert_int_equal(read_text("2.0", &buffer, reason), 0);
    assert_int_equal(buffer.bytes[0], 0xcb);
    knit_buffer_fini(&buffer);
}

static void is_refused(const char *text, const char *part)
{
    char reason[KNIT_JSON_REASON_BYTES] = "";
    struct knit_buffer buffer;

    if (read_text(text, &buffer, reason) != KNIT_JSON_E_BAD)
        fail_msg("%s was accepted", text);
    if (reason[0] == '\0' || strstr(reason, part) == NULL)
        fail_msg("%s: %s", text, reason);
    knit_buffer_fini(&buffer);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"18446744073709551616", "64 bits"},
        {"-9223372036854775809", "64 bits"},
        {"[1, 99999999999999999999]", "byte 4"},
        {"{\"$i64\":[18446744073709551616]}", "64 bits"},
        {"1e400", "too large"},
        {"NaN", "$float"},
        {"Infinity", "$float"},
        {"-Infinity", "$float"},
        {"TRUE", "no JSON"},
        {"nil", "no JSON"},
        {"hello", "quotation"},
        {"", ""},
        {"[1,", "byte 3"},
        {"\"abc", ""},
        {"1 2", ""},
        {"[1,]", ""},
        {"{'a':1}", ""},
        {"\"\xff\"", ""},
        {"0x10", "this is no number of JSON"},
        {"01", ""},
        {"{\"$bon\":\"\"}", "unknown form"},
        {"{\"$bin\":\"A\"}", "Base64"},
        {"{\"$bin\":\"AB==\"}", "Base64"},
        {"{\"$bin\":3}", "Base64"},
        {"{\"$float\":1}", "NaN"},
        {"{\"$map\":{\"a\":1}}", "array"},
        {"{\"$map\":[[1]]}", "[key, value]"},
        {"{\"$time\":\"yesterday\"}", "$time"},
        {"{\"$time\":[0,1000000000]}", "999999999"},
        {"{\"$bigint\":\"12x\"}", "$bigint"},
        {"{\"$bigint\":7}", "$bigint"},
        {"{\"$i8\":[128]}", "element 1"},
        {"{\"$i8\":[0,-129]}", "element 2"},
        {"{\"$u8\":[-1]}", "element 1"},
        {"{\"$u32\":[4294967296]}", "element 1"},
        {"{\"$u8\":[1.5]}", "element 1"},
        {"{\"$i64\":[9223372036854775808]}", "element 1"},
        {"{\"$f64\":[\"a\"]}", "element 1"},
        {"{\"$f32\":[1,1e300]}", "element 2"},
        {"{\"$f32\":[-3.5e38]}", "element 1"},
        {"{\"a\":1,\"a\":2}", "key twice"},
        {"[{\"b\":{\"a\":1,\"\\u0061\":2}}]", "key twice"},
        {"{\"$map\":[],\"$map\":[]}", "key twice"},
        {"{\"$envelope\":[1]}", "$envelope"},
        {"{\"$ext\":[99,\"\"]}", ""},
        {"{\"$error\":1}", "$error"},
        {"{\"$symbol\":1}", "$symbol"},
        {"{\"$map\":[[{\"$bin\":1},2]]}", "Base64"},
        {"{\"$f64\":[{\"$float\":\"x\"}]}", "element 1"},
        {"{\"$f64\":[{\"$float\":\"NaN\",\"a\":1}]}", "element 1"},
        {"{\"$float\":\"NaN\\u0000\"}", "$float"},
        {"{\"$time\":\"2021-02-29T00:00:00Z\"}", "$time"},
        {"{\"$time\":\"2021-02-28T00:00:60Z\"}", "$time"},
        {"{\"$time\":\"1970-01-01T00:00:00Z\\u0000\"}", "$time"},
        {"\"\\ud800\"", "surrogate"},
        {"[\"a\\udc00\"]", "byte 1: half a surrogate"},
        {"\"\\ud83d\\u0041\"", "surrogate"},
        {"{\"a\\u0000b\" : 1}", "$map"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        is_refused(cases[i].text, cases[i].reason);
}

static void nesting_has_the_protocols_limit(void **state)
{
    char text[2 * 100 + 1] = "", reason[KNIT_JSON_REASON_BYTES];
    struct knit_buffer buffer;

    (void)state;
    for (int depth = 31; depth <= 100; depth += 1) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        assert_int_equal(read_text(text, &buffer, reason), depth <= 32 ? 0 : KNIT_JSON_E_BAD);
        knit_buffer_fini(&buffer);
    }
}

static void bytes_that_are_no_value_are_refused(void **state)
{
    char *text;

    (void)state;
    assert_int_equal(knit_json_write(knit_span("\xc1", 1), false, &text), KNIT_JSON_E_BAD);
    assert_int_equal(knit_json_write(knit_span("\xa1\xff", 2), false, &text), KNIT_JSON_E_BAD);
    assert_int_equal(knit_json_write(knit_span("\x01\x02", 2), false, &text), KNIT_JSON_E_BAD);
    assert_int_equal(knit_json_write(knit_span("", 0), false, &text), KNIT_JSON_E_BAD);
}

/* Reads and writes the text with its nth allocation failing. Our own are meant: json-c's are not
 * sent through failing.c. */
static int with_failure(const char *text, unsigned n, unsigned *ret_count)
{
    char reason[KNIT_JSON_REASON_BYTES], *written = NULL;
    struct knit_buffer buffer;
    struct knit_writer writer;
    int r;

    knit_buffer_init(&buffer, 1 << 20);
    knit_writer_init(&writer, &buffer);
    (void)knit_failing_after(n);
    r = knit_json_read(text, strlen(text), &writer, reason);
    if (r == 0)
        r = knit_writer_end(&writer);
    if (r == 0)
        r = knit_json_write(knit_buffer_span(&buffer), false, &written);
    *ret_count = knit_failing_after(0);
    free(written);
    knit_buffer_fini(&buffer);
    return r;
}

static void want_of_memory_is_said(void **state)
{
    static const char *const texts[] = {
        "{\"$bin\":\"AAEC\"}",
        "{\"a\":{\"$bin\":\"AAEC\"}}",
        "[{\"$bigint\":\"0x123456\"}]",
        "{\"$u16\":[1,2,3]}",
        "{\"$set\":[1,{\"$view\":\"AAEC\"}]}",
        "{\"$envelope\":[{\"a\":[1]},\"AQI=\"]}",
        "{\"$map\":[[1,{\"$bin\":\"AAEC\"}],[{\"$bin\":\"AAEC\"},2]]}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        unsigned count, unused;

        assert_int_equal(with_failure(texts[i], 0, &count), 0);
        assert_true(count > 0);
        for (unsigned n = 1; n <= count; n++) {
            int r = with_failure(texts[i], n, &unused);

            if (r != -ENOMEM)
                fail_msg("%s: %d when allocation %u of %u fails", texts[i], r, n, count);
        }
    }
}

static void a_nul_ends_no_text_early(void **state)
{
    static const char text[] = "5\0 6";
    char reason[KNIT_JSON_REASON_BYTES] = "";
    struct knit_buffer buffer;
    struct knit_writer writer;

    (void)state;
    knit_buffer_init(&buffer, 1 << 20);
    knit_writer_init(&writer, &buffer);
    assert_int_equal(knit_json_read(text, sizeof(text) - 1, &writer, reason), KNIT_JSON_E_BAD);
    assert_string_equal(reason, "at byte 1: a NUL");
    knit_buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_come_back_as_they_are),
        cmocka_unit_test(other_spellings_are_understood),
        cmocka_unit_test(ints_and_floats_stay_what_they_are),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(nesting_has_the_protocols_limit),
        cmocka_unit_test(bytes_that_are_no_value_are_refused),
        cmocka_unit_test(a_nul_ends_no_text_early),
        cmocka_unit_test(want_of_memory_is_said),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
