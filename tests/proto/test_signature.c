/* SPDX-License-Identifier: Apache-2.0 */
/* Grammar, types and messages stand in PROTOCOL.md and are tested by test_vectors. Here: limits,
 * the places of arguments, malformed params, and memory that is not there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buffer.h"
#include "proto/signature.h"
#include "tests/proto/failing.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 64 << 20 };

static struct knit_signature *parse(const char *text)
{
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature;

    if (knit_signature_parse(text, strlen(text), &signature, &flaw))
        fail_msg("%s: %s at %zu", text, flaw.reason, flaw.offset);
    return signature;
}

static const char *flaw_of(const char *text, size_t len)
{
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature = NULL;

    assert_int_equal(knit_signature_parse(text, len, &signature, NULL), KNIT_SIGNATURE_E_SYNTAX);
    assert_int_equal(knit_signature_parse(text, len, &signature, &flaw), KNIT_SIGNATURE_E_SYNTAX);
    assert_null(signature);
    return flaw.reason;
}

static void a_parsed_signature_tells_its_parts(void **state)
{
    struct knit_signature *signature = parse("a.b(x: int, y: f64[]?, z: any...) -> (int, str?)");

    (void)state;
    assert_string_equal(knit_signature_name(signature), "a.b");
    assert_int_equal(knit_signature_param_count(signature), 3);
    assert_string_equal(knit_signature_param_name(signature, 1), "y");
    assert_string_equal(knit_signature_param_type(signature, 1), "f64[]?");
    assert_string_equal(knit_signature_param_type(signature, 2), "any...");
    assert_null(knit_signature_param_name(signature, 3));
    assert_null(knit_signature_param_type(signature, 3));
    assert_null(knit_signature_free(signature));
    assert_null(knit_signature_free(NULL));
}

static void names_are_what_the_grammar_allows(void **state)
{
    char name[130];

    (void)state;
    memset(name, 'a', sizeof(name));
    assert_true(knit_signature_is_name(name, 128));
    assert_false(knit_signature_is_name(name, 129));
    assert_false(knit_signature_is_name(name, 0));
    assert_true(knit_signature_is_name("A_9.z-", 6));
    assert_false(knit_signature_is_name("$/ping", 6));
    assert_false(knit_signature_is_name("a\0b", 3));
    assert_false(knit_signature_is_name("a b", 3));
}

/* "f(p0: any, p1: any, ...) -> any" */
static size_t many_params(char *text, size_t size, unsigned count)
{
    size_t len = (size_t)snprintf(text, size, "f(");

    for (unsigned i = 0; i < count; i++)
        len += (size_t)snprintf(text + len, size - len, "%sp%u: any", i ? ", " : "", i);
    return len + (size_t)snprintf(text + len, size - len, ") -> any");
}

static void limits_of_a_signature_hold(void **state)
{
    char text[8192];
    struct knit_signature *signature;
    size_t len;

    (void)state;
    many_params(text, sizeof(text), 64);
    signature = parse(text);
    assert_int_equal(knit_signature_param_count(signature), 64);
    knit_signature_free(signature);
    len = many_params(text, sizeof(text), 65);
    assert_string_equal(flaw_of(text, len), "more parameters than a signature may have");
    len = (size_t)snprintf(text, sizeof(text), "f() -> (int");
    for (unsigned i = 1; i < 16; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, ", int");
    snprintf(text + len, sizeof(text) - len, ")");
    knit_signature_free(parse(text));
    snprintf(text + len, sizeof(text) - len, ", int)");
    assert_string_equal(flaw_of(text, strlen(text)), "more results than a signature may have");
    len = (size_t)snprintf(text, sizeof(text), "f(%065d: int) -> nil", 0);
    text[2] = 'a';
    assert_string_equal(flaw_of(text, len), "a parameter's name is too long");
    memset(text, ' ', sizeof(text));
    assert_string_equal(flaw_of(text, 4097), "the signature is too long");
    /* As long as may be, and all of it canonical text. */
    len = (size_t)snprintf(text, sizeof(text), "f() -> nil");
    memset(text + len, ' ', 4096 - len);
    assert_int_equal(knit_signature_parse(text, 4096, &signature, NULL), 0);
    knit_signature_free(signature);
}

static void every_prefix_and_every_damage_is_survived(void **state)
{
    static const char text[] = "a.b(x: int, y: f64[]?, z: any...) -> (int, str?)";
    char copy[sizeof(text)];
    struct knit_signature *signature;

    (void)state;
    for (size_t len = 0; len < sizeof(text) - 1; len++)
        assert_non_null(flaw_of(text, len));
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(copy, text, sizeof(text));
            copy[at] = (char)byte;
            if (knit_signature_parse(copy, sizeof(text) - 1, &signature, NULL) == 0)
                knit_signature_free(signature);
        }
    }
}

static void memory_that_is_not_there_is_said(void **state)
{
    struct knit_signature *signature = NULL;
    unsigned needed;

    (void)state;
    knit_failing_after(0);
    knit_signature_free(parse("f(a: int) -> nil"));
    needed = knit_failing_after(0);
    assert_true(needed >= 2);
    for (unsigned n = 1; n <= needed; n++) {
        knit_failing_after(n);
        assert_int_equal(knit_signature_parse("f(a: int) -> nil", 16, &signature, NULL), -ENOMEM);
        assert_null(signature);
    }
    knit_failing_after(0);
}

static void arguments_are_found_where_they_lie(void **state)
{
    struct knit_signature *signature = parse("f(a: int, b: str, c: any...) -> nil");
    struct knit_signature_args args;
    struct knit_buffer bytes;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    knit_notation_encode_all("[300, \"text\", [1, 2], nil]", &bytes);
    assert_int_equal(knit_signature_check(signature, bytes.bytes, bytes.len, &args, NULL), 0);
    assert_int_equal(args.count, 4);
    assert_int_equal(args.arg[0].off, 1);
    assert_int_equal(args.arg[0].len, 3);
    assert_int_equal(args.arg[1].off, 4);
    assert_int_equal(args.arg[1].len, 5);
    assert_int_equal(args.arg[2].off, 9);
    assert_int_equal(args.arg[2].len, 3);
    assert_int_equal(args.arg[3].off, 12);
    assert_int_equal(args.arg[3].len, 1);
    knit_buffer_fini(&bytes);
    knit_signature_free(signature);
}

static void more_arguments_than_are_recorded_are_counted(void **state)
{
    struct knit_signature *signature = parse("f(c: uint...) -> nil");
    uint8_t params[3 + 1000] = {0xdc, 1000 >> 8, 1000 & 255};
    struct knit_signature_mismatch why;
    struct knit_signature_args args;

    (void)state;
    assert_int_equal(knit_signature_check(signature, params, sizeof(params), &args, NULL), 0);
    assert_int_equal(args.count, 1000);
    assert_int_equal(args.arg[63].off, 66);
    params[3 + 999] = 0xff;
    assert_int_equal(knit_signature_check(signature, params, sizeof(params), &args, &why),
        KNIT_SIGNATURE_E_MISMATCH);
    assert_int_equal(why.index, 999);
    assert_string_equal(why.param, "c");
    assert_int_equal(why.offset, 3 + 999);
    knit_signature_free(signature);
}

static void explains(int expected, const struct knit_signature *signature, const char *bytes,
    size_t len, const char *sentence)
{
    struct knit_signature_mismatch why;
    char text[256];

    assert_int_equal(knit_signature_check(signature, bytes, len, NULL, NULL), expected);
    assert_int_equal(knit_signature_check(signature, bytes, len, NULL, &why), expected);
    assert_int_equal(knit_signature_explain(&why, false, text, sizeof(text)), strlen(sentence));
    assert_string_equal(text, sentence);
}

static void malformed_params_are_told_by_place_and_reason(void **state)
{
    struct knit_signature *signature = parse("f(a: any, b: any) -> nil");
    char deep[40];

    (void)state;
    explains(2, signature, "", 0, "argument 1: the arguments are not an array, at byte 0");
    explains(2, signature, "\x80", 1, "argument 1: the arguments are not an array, at byte 0");
    explains(
        2, signature, "\x92\x01", 2, "argument 2 (b): the bytes end within a value, at byte 2");
    explains(2, signature, "\x92\x01\xa1\xff", 4, "argument 2 (b): a str is not UTF-8, at byte 2");
    explains(2, signature, "\x92\x01\x92\x01\xd4\x4d\x00", 7,
        "argument 2 (b): this ext type is not carried (ext 77), at byte 4");
    explains(2, signature, "\x92\x01\xa5x", 4,
        "argument 2 (b): the bytes end within a value, at byte 2");
    explains(2, signature, "\x92\x01\x02\x03", 4,
        "argument 3: there are bytes behind the last value, at byte 3");
    explains(2, NULL, "\x92\x01\xa1\xff", 4, "argument 2: a str is not UTF-8, at byte 2");
    memset(deep, 0x91, sizeof(deep));
    deep[0] = (char)0x92;
    explains(3, signature, deep, sizeof(deep),
        "argument 1 (a): containers are nested too deep, at byte 32");
    knit_signature_free(signature);
}

static void params_nest_as_deep_as_the_limit_and_no_deeper(void **state)
{
    uint8_t params[40];

    (void)state;
    memset(params, 0x91, sizeof(params));
    params[32] = 0xc0;
    assert_int_equal(knit_signature_check(NULL, params, 33, NULL, NULL), 0);
    params[32] = 0x90;
    assert_int_equal(knit_signature_check(NULL, params, 33, NULL, NULL), KNIT_SIGNATURE_E_TOO_DEEP);
}

static void results_are_checked_to_their_last_byte(void **state)
{
    struct knit_signature *one = parse("f() -> any");
    struct knit_signature *two = parse("f() -> (int, any)");
    struct knit_signature_mismatch why;
    char text[128];

    (void)state;
    assert_int_equal(knit_signature_check_result(one, "\x01", 1, NULL), 0);
    assert_int_equal(knit_signature_check_result(one, "\x01\x02", 2, &why), 2);
    knit_signature_explain(&why, true, text, sizeof(text));
    assert_string_equal(text, "result 1: there are bytes behind the result, at byte 1");
    assert_int_equal(knit_signature_check_result(one, "", 0, NULL), 2);
    assert_int_equal(knit_signature_check_result(two, "", 0, NULL), 2);
    assert_int_equal(knit_signature_check_result(two, "\x92\x01", 2, &why), 2);
    assert_int_equal(why.index, 1);
    assert_int_equal(knit_signature_check_result(two, "\x92\x01\x02\x03", 4, NULL), 2);
    assert_int_equal(knit_signature_check_result(two, "\x92\x01\xa1\xff", 4, NULL), 2);
    knit_signature_free(one);
    knit_signature_free(two);
}

static void explanations_are_cut_to_the_room_there_is(void **state)
{
    struct knit_signature_mismatch why = {.expected = "int", .actual = "str"};
    char text[20];

    (void)state;
    assert_int_equal(knit_signature_explain(&why, false, text, sizeof(text)), 19);
    assert_string_equal(text, "argument 1: expecte");
    assert_int_equal(knit_signature_explain(&why, false, text, 1), 0);
    assert_int_equal(text[0], 0);
    assert_int_equal(knit_signature_explain(&why, false, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parsed_signature_tells_its_parts),
        cmocka_unit_test(names_are_what_the_grammar_allows),
        cmocka_unit_test(limits_of_a_signature_hold),
        cmocka_unit_test(every_prefix_and_every_damage_is_survived),
        cmocka_unit_test(memory_that_is_not_there_is_said),
        cmocka_unit_test(arguments_are_found_where_they_lie),
        cmocka_unit_test(more_arguments_than_are_recorded_are_counted),
        cmocka_unit_test(malformed_params_are_told_by_place_and_reason),
        cmocka_unit_test(params_nest_as_deep_as_the_limit_and_no_deeper),
        cmocka_unit_test(results_are_checked_to_their_last_byte),
        cmocka_unit_test(explanations_are_cut_to_the_room_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
