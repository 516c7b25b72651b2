/* SPDX-License-Identifier: Apache-2.0 */
/* Grammar, types and messages stand in PROTOCOL.md and are tested by test_vectors. Here: limits,
 * the places of arguments, malformed params, memory that is not there, and that signatures of tasks
 * and of calls differ in nothing but what a call may leave out: random ones, damaged or not, are
 * judged by both.
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
#include "tests/proto/parsed.h"
#include "tests/support/random.h"

enum { BUFFER_MAX = 64 << 20 };

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
    struct knit_signature *signature =
        knit_parsed("a.b(x: int, y: f64[]?, z: any...) -> (int, str?)");
    bool is_optional = false;

    (void)state;
    assert_string_equal(knit_signature_name(signature), "a.b");
    assert_int_equal(knit_signature_param_count(signature), 3);
    assert_string_equal(knit_signature_param_name(signature, 1), "y");
    assert_string_equal(knit_signature_param_type(signature, 1), "f64[]?");
    assert_string_equal(knit_signature_param_type(signature, 2), "any...");
    assert_null(knit_signature_param_name(signature, 3));
    assert_null(knit_signature_param_type(signature, 3));
    assert_int_equal(knit_signature_result_count(signature), 2);
    assert_string_equal(knit_signature_type(signature, 1, &is_optional)->name, "f64[]");
    assert_true(is_optional);
    assert_string_equal(knit_signature_type(signature, 3, &is_optional)->name, "int");
    assert_false(is_optional);
    assert_null(knit_signature_type(signature, 5, &is_optional));
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
    signature = knit_parsed(text);
    assert_int_equal(knit_signature_param_count(signature), 64);
    knit_signature_free(signature);
    len = many_params(text, sizeof(text), 65);
    assert_string_equal(flaw_of(text, len), "more parameters than a signature may have");
    len = (size_t)snprintf(text, sizeof(text), "f() -> (int");
    for (unsigned i = 1; i < 16; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, ", int");
    snprintf(text + len, sizeof(text) - len, ")");
    knit_signature_free(knit_parsed(text));
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
    knit_signature_free(knit_parsed("f(a: int) -> nil"));
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
    struct knit_signature *signature = knit_parsed("f(a: int, b: str, c: any...) -> nil");
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
    struct knit_signature *signature = knit_parsed("f(c: uint...) -> nil");
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
    struct knit_signature *signature = knit_parsed("f(a: any, b: any) -> nil");
    char deep[40];

    (void)state;
    explains(2, signature, "", 0, "the arguments: they are not an array, at byte 0");
    explains(2, signature, "\x80", 1, "the arguments: they are not an array, at byte 0");
    explains(2, signature, "\x92\x01", 2,
        "the arguments: a container announces more than there is, at byte 0");
    explains(2, signature, "\x92\x92\x01\x02", 4,
        "argument 2 (b): the bytes end within a value, at byte 4");
    explains(2, signature, "\x92\x01\xa1\xff", 4, "argument 2 (b): a str is not UTF-8, at byte 2");
    explains(2, signature, "\x92\x01\x92\x01\xd4\x4d\x00", 7,
        "argument 2 (b): this ext type is not carried (ext 77), at byte 4");
    explains(2, signature, "\x92\x01\xa5x", 4,
        "argument 2 (b): the bytes end within a value, at byte 2");
    explains(2, signature, "\x92\x01\x02\x03", 4,
        "the arguments: there are bytes behind the last value, at byte 3");
    explains(
        2, NULL, "\x90\x03", 2, "the arguments: there are bytes behind the last value, at byte 1");
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
    struct knit_signature *one = knit_parsed("f() -> any");
    struct knit_signature *two = knit_parsed("f() -> (int, any)");
    struct knit_signature_mismatch why;
    char text[128];

    (void)state;
    assert_int_equal(knit_signature_check_result(one, "\x01", 1, NULL), 0);
    assert_int_equal(knit_signature_check_result(one, "\x01\x02", 2, &why), 2);
    knit_signature_explain(&why, true, text, sizeof(text));
    assert_string_equal(text, "the result: there are bytes behind the last value, at byte 1");
    assert_int_equal(knit_signature_check_result(one, "", 0, NULL), 2);
    assert_int_equal(knit_signature_check_result(two, "\x93\x01\x02\x03", 4, &why), 2);
    knit_signature_explain(&why, true, text, sizeof(text));
    assert_string_equal(
        text, "the result: several results are an array of as many values, at byte 0");
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

/* A text that is made piece by piece. */
struct draft {
    struct knit_random random;
    char text[2048];
    size_t len;
};

static void add(struct draft *draft, const char *text)
{
    size_t len = strlen(text);

    assert_true(draft->len + len < sizeof(draft->text));
    memcpy(draft->text + draft->len, text, len + 1);
    draft->len += len;
}

static void add_one_of(struct draft *draft, const char *const *texts, size_t count)
{
    static const char *const blanks[] = {" ", "\t", "  ", "\n", "\r"};

    add(draft, texts[knit_random_below(&draft->random, count)]);
    if (knit_random_chance(&draft->random, 8))
        add(draft, blanks[knit_random_below(&draft->random, 5)]);
}
#define ADD(draft, ...)                                                                            \
    add_one_of(draft, (const char *const[]){__VA_ARGS__},                                          \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void add_type(struct draft *draft)
{
    if (knit_random_chance(&draft->random, 30))
        ADD(draft, "Int", "i8", "int[]", "u8[ ]", "u8[][]", "typed[]", "");
    else if (knit_random_chance(&draft->random, 3))
        ADD(draft, "u8 []", "f64[]", "u8c[]", "i64[]", "typed", "nil");
    else
        add_one_of(draft, &knit_types[knit_random_below(&draft->random, KNIT_TYPE_ROWS)].name, 1);
    ADD(draft, "", "", "", "?");
}

static void add_list(struct draft *draft, bool has_names)
{
    uint64_t count = knit_random_below(&draft->random, 5);

    ADD(draft, "(");
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            ADD(draft, ",");
        if (has_names && !knit_random_chance(&draft->random, 5)) {
            ADD(draft, "a", "b", "c", "d", "_", "x1", "typed", "nil", "1a", "");
            ADD(draft, ":");
        }
        add_type(draft);
        if (i + 1 == count && knit_random_chance(&draft->random, 6))
            ADD(draft, "...", ". ..", ",");
    }
    ADD(draft, ")");
}

/* One byte is left out, changed or put in. */
static void damage(struct draft *draft)
{
    static const char bytes[] = " \t\n()[]:,?.->_a1u8\x80";
    char byte = bytes[knit_random_below(&draft->random, sizeof(bytes) - 1)];
    size_t at = (size_t)knit_random_below(&draft->random, draft->len + 1);

    if (at < draft->len && knit_random_chance(&draft->random, 2)) {
        draft->text[at] = byte;
        return;
    }
    if (at < draft->len && knit_random_chance(&draft->random, 2)) {
        memmove(draft->text + at, draft->text + at + 1, draft->len-- - at);
        return;
    }
    memmove(draft->text + at + 1, draft->text + at, ++draft->len - at);
    draft->text[at] = byte;
}

static void make_draft(struct draft *draft)
{
    draft->len = 0;
    ADD(draft, "f", "f", "f", "a.b-c", "", "f f", "$f");
    add_list(draft, true);
    if (!knit_random_chance(&draft->random, 8)) {
        ADD(draft, "->", "->", "->", "->", "->", "- >", "-");
        if (knit_random_chance(&draft->random, 3))
            add_list(draft, false);
        else
            add_type(draft);
    }
    if (knit_random_chance(&draft->random, 3))
        damage(draft);
}

/* What a call may leave out, put in. */
static void complete(const struct knit_signature *call, struct draft *draft)
{
    uint32_t params = knit_signature_param_count(call);
    bool is_optional;

    draft->len = 0;
    add(draft, knit_signature_name(call)[0] ? knit_signature_name(call) : "f");
    add(draft, "(");
    for (uint32_t i = 0; i < params; i++) {
        char name[24];

        snprintf(name, sizeof(name), "%snew_%u: ", i ? ", " : "", i);
        add(draft, name);
        add(draft, knit_signature_param_type(call, i));
    }
    add(draft, ") -> ");
    if (knit_signature_result_count(call) != 1)
        add(draft, knit_signature_result_count(call) ? "(" : "nil");
    for (uint32_t i = 0; i < knit_signature_result_count(call); i++) {
        add(draft, i ? ", " : "");
        add(draft, knit_signature_type(call, params + i, &is_optional)->name);
        add(draft, is_optional ? "?" : "");
    }
    if (knit_signature_result_count(call) > 1)
        add(draft, ")");
}

static void calls_and_tasks_are_judged_alike(void **state)
{
    static struct draft draft;
    unsigned tasks = 0, calls = 0;

    (void)state;
    knit_random_init(&draft.random);
    for (int i = 0; i < 100000; i++) {
        struct knit_signature *task = NULL, *call = NULL;

        make_draft(&draft);
        if (knit_signature_parse(draft.text, draft.len, &task, NULL))
            assert_null(task);
        if (knit_signature_parse_call(draft.text, draft.len, &call, NULL))
            assert_null(call);
        if (task != NULL && call == NULL && strstr(draft.text, "...") == NULL)
            fail_msg("a task's signature, but no call's: %s", draft.text);
        if (task != NULL && call != NULL)
            assert_string_equal(knit_signature_text(task), knit_signature_text(call));
        tasks += task != NULL;
        calls += call != NULL;
        task = knit_signature_free(task);
        if (call != NULL) {
            complete(call, &draft);
            if (knit_signature_parse(draft.text, draft.len, &task, NULL))
                fail_msg("a call's signature, but no task's: %s", draft.text);
            knit_signature_free(task);
        }
        knit_signature_free(call);
    }
    assert_true(tasks > 1000 && calls > tasks);
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
        cmocka_unit_test(calls_and_tasks_are_judged_alike),
        cmocka_unit_test(explanations_are_cut_to_the_room_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
