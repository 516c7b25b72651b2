/* SPDX-License-Identifier: Apache-2.0 */
/* Each form of each head, whole and cut, against each type; random values, damaged or not. The full
 * check is the oracle (checks.h); a table says what must fit, so that nothing usual goes the long
 * way unseen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buffer.h"
#include "tests/proto/checks.h"
#include "tests/proto/parsed.h"
#include "tests/proto/sample.h"

static bool params_fit(const struct knit_signature *signature, const void *bytes, size_t len)
{
    struct knit_checks checks = knit_checks_params(signature, bytes, len);

    if (checks.flaw != NULL)
        fail_msg("%s, %zu bytes: %s", knit_signature_text(signature), len, checks.flaw);
    return checks.fits;
}

static bool result_fits(const struct knit_signature *signature, const void *bytes, size_t len)
{
    struct knit_checks checks = knit_checks_result(signature, bytes, len);

    if (checks.flaw != NULL)
        fail_msg("%s, %zu bytes: %s", knit_signature_text(signature), len, checks.flaw);
    return checks.fits;
}

/* A value, and the types that it is of; one in parentheses goes the long way. */
static const struct {
    const char *bytes;
    uint8_t len;
    const char *types;
} values[] = {
    {"\xc0", 1, " nil any int? str? "},
    {"\xc2", 1, " bool any "},
    {"\xc3", 1, " bool any "},
    {"\x00", 1, " int uint float any int? "},
    {"\x7f", 1, " int uint float any int? "},
    {"\xff", 1, " int float any int? "},
    {"\xe0", 1, " int float any int? "},
    {"\xcc\x80", 2, " int uint float any int? "},
    {"\xcd\x01\x00", 3, " int uint float any int? "},
    {"\xce\x80\x00\x00\x00", 5, " int uint float any int? "},
    {"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", 9, " int uint float any int? "},
    {"\xcf\x80\x00\x00\x00\x00\x00\x00\x00", 9, " (uint) (float) (any) "},
    {"\xd0\x80", 2, " int float any int? "},
    {"\xd0\x7f", 2, " int uint float any int? "},
    {"\xd1\xff\x00", 3, " int float any int? "},
    {"\xd1\x00\xff", 3, " int uint float any int? "},
    {"\xd2\x80\x00\x00\x00", 5, " int float any int? "},
    {"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, " int float any int? "},
    {"\xd3\x7f\x00\x00\x00\x00\x00\x00\x00", 9, " int uint float any int? "},
    {"\xca\x3f\x80\x00\x00", 5, " float any "},
    {"\xcb\xbf\xf0\x00\x00\x00\x00\x00\x00", 9, " float any "},
    {"\xa0", 1, " str any str? "},
    {"\xa3two", 4, " str any str? "},
    {"\xa2\xc3\xa4", 3, " str any str? "},
    {"\xd9\x05three", 7, " str any str? "},
    {"\xda\x00\x04more", 7, " str any str? "},
    {"\xdb\x00\x00\x00\x01x", 6, " str any str? "},
    {"\xa2\xc3(", 3, " "},
    {"\xd9\x01\xff", 3, " "},
    {"\xc4\x00", 2, " bin any "},
    {"\xc4\x02\xff\x00", 4, " bin any "},
    {"\xc5\x00\x01\xff", 4, " bin any "},
    {"\xc6\x00\x00\x00\x01\xff", 6, " bin any "},
    {"\x90", 1, " (any) (array) "},
    {"\x92\x01\x02", 3, " (any) (array) "},
    {"\x81\x01\x02", 3, " (any) (map) "},
    {"\xdc\x00\x00", 3, " (any) (array) "},
    {"\xdf\x00\x00\x00\x00", 5, " (any) (map) "},
    {"\xd6\xff\x00\x00\x00\x01", 6, " (any) (time) "},
    {"\xc7\x00\x20", 3, " (any) (undefined) "},
    {"\xc7\x03\x24\x02\x00\x07", 6, " (any) (u8[]) "},
    {"\xc1", 1, " "},
    {"\xd4\x20", 2, " "},
    {"\xc7\x01\x20\x00", 4, " "},
};

static const char *const types[] = {"nil", "bool", "int", "uint", "float", "str", "bin", "any",
    "array", "map", "time", "undefined", "u8[]", "int?", "str?"};

enum {
    VALUES = sizeof(values) / sizeof(values[0]),
    TYPES = sizeof(types) / sizeof(types[0]),
};

static bool is_listed(const char *list, char before, const char *type, char behind)
{
    char word[32];

    snprintf(word, sizeof(word), "%c%s%c", before, type, behind);
    return strstr(list, word) != NULL;
}

static void each_head_fits_the_types_that_it_should(void **state)
{
    char text[64];

    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        struct knit_signature *signature;

        snprintf(text, sizeof(text), "f(a: %s) -> %s", types[t], types[t]);
        signature = knit_parsed(text);
        for (size_t v = 0; v < VALUES; v++) {
            const bool expected = is_listed(values[v].types, ' ', types[t], ' ');
            const bool is_right = expected || is_listed(values[v].types, '(', types[t], ')');
            uint8_t params[32] = {0x91};

            memcpy(params + 1, values[v].bytes, values[v].len);
            if (params_fit(signature, params, 1u + values[v].len) != expected ||
                result_fits(signature, values[v].bytes, values[v].len) != expected)
                fail_msg("value %zu as %s: expected %d", v, types[t], expected);
            assert_int_equal(
                knit_signature_check(signature, params, 1u + values[v].len, NULL, NULL) == 0,
                is_right);
            for (size_t cut = 0; cut <= values[v].len; cut++)
                assert_false(params_fit(signature, params, cut));
            for (size_t cut = 0; cut < values[v].len; cut++)
                assert_false(result_fits(signature, values[v].bytes, cut));
            /* A byte behind it, or an argument too many. */
            assert_false(params_fit(signature, params, 2u + values[v].len));
            params[0] = 0x92;
            params[1 + values[v].len] = 0xc0;
            assert_false(params_fit(signature, params, 2u + values[v].len));
        }
        knit_signature_free(signature);
    }
}

static void every_pair_of_values_is_judged_as_by_the_full_check(void **state)
{
    struct knit_signature *signature = knit_parsed("f(a: any, b: any?) -> any");
    struct knit_signature *narrow = knit_parsed("f(a: int, b: str?) -> int");
    uint8_t params[48];

    (void)state;
    for (size_t v = 0; v < VALUES; v++) {
        for (size_t w = 0; w < VALUES; w++) {
            const size_t len = 1u + values[v].len + values[w].len;

            params[0] = 0x92;
            memcpy(params + 1, values[v].bytes, values[v].len);
            memcpy(params + 1 + values[v].len, values[w].bytes, values[w].len);
            for (size_t cut = 0; cut <= len; cut++) {
                bool fits = params_fit(signature, params, cut);

                (void)params_fit(narrow, params, cut);
                if (cut == len && strstr(values[v].types, " any ") != NULL &&
                    strstr(values[w].types, " any ") != NULL)
                    assert_true(fits);
            }
        }
    }
    knit_signature_free(signature);
    knit_signature_free(narrow);
}

static void optional_arguments_may_be_left_out(void **state)
{
    struct knit_signature *signature = knit_parsed("f(a: int, b: int?, c: str?) -> nil");

    (void)state;
    assert_false(params_fit(signature, "\x90", 1));
    assert_true(params_fit(signature, "\x91\x01", 2));
    assert_true(params_fit(signature, "\x92\x01\xc0", 3));
    assert_true(params_fit(signature, "\x93\x01\x02\xa0", 4));
    assert_false(params_fit(signature, "\x93\x01\x02\x03", 4));
    assert_false(params_fit(signature, "\x94\x01\x02\xa0\xc0", 5));
    /* Not the shortest form of an array. */
    assert_false(params_fit(signature, "\xdc\x00\x01\x01", 4));
    knit_signature_free(signature);
    signature = knit_parsed("f() -> nil");
    assert_true(params_fit(signature, "\x90", 1));
    assert_false(params_fit(signature, "\x80", 1));
    assert_false(params_fit(signature, "\x91\xc0", 2));
    knit_signature_free(signature);
}

static void what_has_no_room_or_no_end_is_left_to_the_full_check(void **state)
{
    static const char twelve[] = "f(a:int,b:int,c:int,d:int,e:int,f:int,g:int,h:int,i:int,j:int,"
                                 "k:int,l:int) -> (int, int)";
    static const char thirteen[] = "f(a:int,b:int,c:int,d:int,e:int,f:int,g:int,h:int,i:int,j:int,"
                                   "k:int,l:int,m:int?) -> int";
    uint8_t params[14] = {0x9c};
    struct knit_signature *signature = knit_parsed(twelve);

    (void)state;
    assert_true(params_fit(signature, params, 13));
    assert_false(result_fits(signature, "\x92\x01\x02", 3));
    assert_false(result_fits(signature, "\x01", 1));
    knit_signature_free(signature);
    signature = knit_parsed(thirteen);
    assert_false(params_fit(signature, params, 13));
    assert_true(result_fits(signature, "\x01", 1));
    knit_signature_free(signature);
    signature = knit_parsed("f(a: int...) -> int");
    assert_false(params_fit(signature, "\x91\x01", 2));
    /* A byte that begins no array, where no array fits. */
    assert_false(params_fit(signature, "\x00", 1));
    knit_signature_free(signature);
}

static void random_params_are_judged_as_by_the_full_check(void **state)
{
    struct knit_random random;
    struct knit_buffer params;
    unsigned fitted = 0;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&params, 1 << 20);
    for (unsigned round = 0; round < 20000; round++) {
        struct knit_signature *signature;
        const uint64_t count = knit_random_below(&random, 4);
        uint8_t head = (uint8_t)(0x90 | count);
        char text[256];
        size_t len = (size_t)snprintf(text, sizeof(text), "f(");

        knit_buffer_reset(&params);
        (void)knit_buffer_append(&params, &head, 1);
        for (uint64_t i = 0; i < count; i++) {
            const char *type =
                knit_random_chance(&random, 2) ? "any" : types[knit_random_below(&random, TYPES)];

            len += (size_t)snprintf(
                text + len, sizeof(text) - len, "%sp%u: %s", i > 0 ? ", " : "", (unsigned)i, type);
            knit_sample_value(&random, 2, 4, &params);
        }
        snprintf(text + len, sizeof(text) - len, ") -> any");
        signature = knit_parsed(text);
        fitted += params_fit(signature, params.bytes, params.len);
        (void)result_fits(signature, params.bytes + 1, params.len - 1);
        knit_sample_mutate(&random, &params);
        (void)params_fit(signature, params.bytes, params.len);
        (void)result_fits(signature, params.bytes, params.len);
        knit_signature_free(signature);
    }
    assert_in_range(fitted, 1000, 20000);
    knit_buffer_fini(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_head_fits_the_types_that_it_should),
        cmocka_unit_test(every_pair_of_values_is_judged_as_by_the_full_check),
        cmocka_unit_test(optional_arguments_may_be_left_out),
        cmocka_unit_test(what_has_no_room_or_no_end_is_left_to_the_full_check),
        cmocka_unit_test(random_params_are_judged_as_by_the_full_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
