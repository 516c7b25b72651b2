/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a declaration's calls carry every type exactly, and say what is wrong with what they cannot
 * carry, at every distance. Method: one list of cases; test_typed.py runs this program for each
 * URL, with workers that have module_typed.c.
 *
 *     typed_calls URL */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/deadline.h"
#include "tests/system/session.h"
#include "tests/system/typed_tasks.h"

static void refused(int code, int expected, const char *message)
{
    assert_int_equal(code, expected);
    assert_string_equal(error.message, message);
}

/* ---- values ---- */

/* Each value there and back, as it is and as one that is optional. */
#define COMES_BACK(task, type, ...)                                                                \
    do {                                                                                           \
        static const KNIT_C_OF((type, a)) values[] = {__VA_ARGS__};                                \
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {                          \
            KNIT_C_OF((type, a)) same;                                                             \
            KNIT_C_OF((type, a, optional)) perhaps = {0};                                          \
            succeeds(KNIT_CALL(task, k, &error, (values[i]), (&same)));                            \
            assert_memory_equal(&same, &values[i], sizeof(same));                                  \
            succeeds(KNIT_CALL(optional_##task, k, &error, (values[i]), (&perhaps)));              \
            assert_true(perhaps.has);                                                              \
            assert_memory_equal(&perhaps.value, &values[i], sizeof(same));                         \
            succeeds(KNIT_CALL(optional_##task, k, &error, (perhaps), (&perhaps)));                \
            assert_true(perhaps.has);                                                              \
            assert_memory_equal(&perhaps.value, &values[i], sizeof(same));                         \
            succeeds(KNIT_CALL(optional_##task, k, &error, (KNIT_NONE), (&perhaps)));              \
            assert_false(perhaps.has);                                                             \
            succeeds(KNIT_CALL(optional_##task, k, &error, (perhaps), (&perhaps)));                \
            assert_false(perhaps.has);                                                             \
            succeeds(KNIT_CALL(optional_##task, k, &error, (), (KNIT_IGNORE)));                    \
        }                                                                                          \
    } while (0)

static void integers_of_every_width_come_back(void **state)
{
    (void)state;
    COMES_BACK(echo_int, int, 0, -1, 127, 128, -32769, INT64_MIN, INT64_MAX);
    COMES_BACK(echo_uint, uint, 0, 1, UINT64_MAX, (uint64_t)INT64_MAX + 1);
    COMES_BACK(echo_i8, i8, 0, -1, INT8_MIN, INT8_MAX);
    COMES_BACK(echo_i16, i16, 0, -1, INT16_MIN, INT16_MAX);
    COMES_BACK(echo_i32, i32, 0, -1, INT32_MIN, INT32_MAX);
    COMES_BACK(echo_i64, i64, 0, -1, INT64_MIN, INT64_MAX);
    COMES_BACK(echo_u8, u8, 0, 127, 128, UINT8_MAX);
    COMES_BACK(echo_u16, u16, 0, UINT16_MAX);
    COMES_BACK(echo_u32, u32, 0, UINT32_MAX);
    COMES_BACK(echo_u64, u64, 0, UINT64_MAX);
    COMES_BACK(echo_bool, bool, false, true);
}

static void reals_come_back_bit_by_bit(void **state)
{
    double not_a_number;

    (void)state;
    COMES_BACK(echo_float, float, 0.0, -0.0, 5e-324, DBL_MAX, -DBL_MAX, INFINITY, -INFINITY, 0.1);
    COMES_BACK(echo_double, double, 0.0, 1.0 / 3);
    COMES_BACK(echo_f64, f64, 0.0, 2.2250738585072014e-308);
    COMES_BACK(echo_f32, f32, 0.0f, -0.0f, FLT_MAX, FLT_MIN, 1e-45f, INFINITY, 0.1f);
    succeeds(KNIT_CALL(echo_float, k, &error, (NAN), (&not_a_number)));
    assert_true(isnan(not_a_number));
}

static void an_integer_is_taken_for_a_real_that_holds_it(void **state)
{
    float narrow;
    double real;

    (void)state;
    succeeds(KNIT_CALL(echo_float, k, &error, (7), (&real)));
    assert_true(real == 7);
    succeeds(KNIT_CALL(echo_float, k, &error, ((short)-7), (&real)));
    assert_true(real == -7);
    succeeds(KNIT_CALL(echo_float, k, &error, (4000000000u), (&real)));
    assert_true(real == 4000000000.0);
    /* A float of the caller's is one on the wire too; a double is rounded as C rounds it. */
    succeeds(KNIT_CALL(echo_f32, k, &error, (0.1), (&narrow)));
    assert_true(narrow == 0.1f);
}

#define TEXT_EQUAL(got, expected)                                                                  \
    do {                                                                                           \
        assert_int_equal((got).size, strlen(expected));                                            \
        assert_memory_equal((got).at, expected, strlen(expected));                                 \
    } while (0)

static void texts_and_bytes_come_back(void **state)
{
    const struct knit_text part = {"abcdef", 3};
    const struct knit_bytes bytes = {"\0\1\377", 3}, none = {NULL, 0};
    struct knit_optional_str text_or_nil = {.has = true};
    struct knit_optional_bin bytes_or_nil = {.has = false};
    char buffer[] = "in a buffer";
    static char large[70000];
    struct knit_bytes got_bytes;
    struct knit_text got;

    (void)state;
    succeeds(KNIT_CALL(echo_str, k, &error, ("a text"), (&got)));
    TEXT_EQUAL(got, "a text");
    succeeds(KNIT_CALL(echo_str, k, &error, (buffer), (&got)));
    TEXT_EQUAL(got, "in a buffer");
    succeeds(KNIT_CALL(echo_str, k, &error, (part), (&got)));
    TEXT_EQUAL(got, "abc");
    succeeds(KNIT_CALL(echo_str, k, &error, (""), (&got)));
    assert_int_equal(got.size, 0);
    memset(large, 'x', sizeof(large) - 1);
    succeeds(KNIT_CALL(echo_str, k, &error, (large), (&got)));
    TEXT_EQUAL(got, large);
    succeeds(KNIT_CALL(echo_bin, k, &error, (bytes), (&got_bytes)));
    assert_int_equal(got_bytes.size, 3);
    assert_memory_equal(got_bytes.at, bytes.at, 3);
    succeeds(KNIT_CALL(echo_bin, k, &error, (none), (&got_bytes)));
    assert_int_equal(got_bytes.size, 0);
    succeeds(KNIT_CALL(optional_echo_str, k, &error, ((const char *)NULL), (&text_or_nil)));
    assert_false(text_or_nil.has);
    succeeds(KNIT_CALL(optional_echo_bin, k, &error, (none), (&bytes_or_nil)));
    assert_true(bytes_or_nil.has);
    assert_int_equal(bytes_or_nil.value.size, 0);
    refused(KNIT_CALL(echo_str, k, &error, ((char *)NULL), (&got)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected str, got nil");
    refused(KNIT_CALL(echo_str, k, &error, ("\xff"), (&got)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): a str is not UTF-8");
}

static void times_and_values_come_back(void **state)
{
    const struct knit_time before_1970 = {-1, 999999999};
    const struct knit_any list = {"\x93\x01\xa1x\xc0", 5}, half = {"\x93\x01", 2};
    struct knit_time time;
    struct knit_any value;

    (void)state;
    succeeds(KNIT_CALL(echo_time, k, &error, (before_1970), (&time)));
    assert_true(time.seconds == -1 && time.nanoseconds == 999999999);
    succeeds(KNIT_CALL(echo_any, k, &error, (list), (&value)));
    assert_int_equal(value.size, 5);
    assert_memory_equal(value.at, list.at, 5);
    succeeds(KNIT_CALL(echo_any, k, &error, (7), (&value)));
    assert_memory_equal(value.at, "\x07", 1);
    succeeds(KNIT_CALL(echo_any, k, &error, (true), (&value)));
    succeeds(KNIT_CALL(echo_any, k, &error, ("xy"), (&value)));
    assert_memory_equal(value.at, "\xa2xy", 3);
    succeeds(KNIT_CALL(echo_any, k, &error, (KNIT_NONE), (&value)));
    assert_memory_equal(value.at, "\xc0", 1);
    succeeds(KNIT_CALL(echo_any, k, &error, (before_1970), (&value)));
    assert_int_equal(value.size, 15);
    assert_int_equal(KNIT_CALL(echo_any, k, &error, (half), (&value)), KNIT_BAD_ARGUMENT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
}

/* Elements of each type, at places that are aligned for them. */
#define ARRAY_COMES_BACK(task, name, type, ...)                                                    \
    do {                                                                                           \
        static const type elements[] = {__VA_ARGS__};                                              \
        const size_t count = sizeof(elements) / sizeof(elements[0]);                               \
        for (size_t n = 0; n <= count; n++) {                                                      \
            const struct knit_##name sent = {elements, n};                                         \
            struct knit_##name got;                                                                \
            struct knit_optional_##name perhaps = {.has = false};                                  \
            succeeds(KNIT_CALL(task, k, &error, (sent), (&got)));                                  \
            assert_int_equal(got.count, n);                                                        \
            assert_int_equal((uintptr_t)got.at % sizeof(type), 0);                                 \
            assert_memory_equal(got.at, elements, n * sizeof(type));                               \
            succeeds(KNIT_CALL(optional_##task, k, &error, (sent), (&perhaps)));                   \
            assert_true(perhaps.has);                                                              \
            assert_int_equal(perhaps.value.count, n);                                              \
            succeeds(KNIT_CALL(optional_##task, k, &error, (KNIT_NONE), (&perhaps)));              \
            assert_false(perhaps.has);                                                             \
        }                                                                                          \
    } while (0)

static void arrays_of_every_element_come_back(void **state)
{
    (void)state;
    ARRAY_COMES_BACK(echo_i8s, i8s, int8_t, -128, 0, 127);
    ARRAY_COMES_BACK(echo_u8s, u8s, uint8_t, 0, 255);
    ARRAY_COMES_BACK(echo_u8cs, u8cs, uint8_t, 0, 255);
    ARRAY_COMES_BACK(echo_i16s, i16s, int16_t, INT16_MIN, INT16_MAX);
    ARRAY_COMES_BACK(echo_u16s, u16s, uint16_t, 0, UINT16_MAX);
    ARRAY_COMES_BACK(echo_i32s, i32s, int32_t, INT32_MIN, INT32_MAX, 1);
    ARRAY_COMES_BACK(echo_u32s, u32s, uint32_t, 0, UINT32_MAX);
    ARRAY_COMES_BACK(echo_i64s, i64s, int64_t, INT64_MIN, INT64_MAX);
    ARRAY_COMES_BACK(echo_u64s, u64s, uint64_t, 0, UINT64_MAX);
    ARRAY_COMES_BACK(echo_f32s, f32s, float, FLT_MAX, -0.0f, 1);
    ARRAY_COMES_BACK(echo_f64s, f64s, double, DBL_MAX, -0.0, 5e-324);
}

static void several_of_several_types_go_at_once(void **state)
{
    static const double numbers[] = {1.5, -2, 4, -0.25};
    const struct knit_f64s array = {numbers, 4};
    struct knit_optional_str text = {.has = false};
    struct knit_i32s indexes;
    bool was_given = true;
    double sum = 0;

    (void)state;
    succeeds(KNIT_CALL(mixed, k, &error, ("text", array), (&text, &sum, &indexes, &was_given)));
    assert_true(text.has && sum == 3.25 && indexes.count == 2 && !was_given);
    TEXT_EQUAL(text.value, "text");
    assert_true(indexes.at[0] == 1 && indexes.at[1] == 3);
    succeeds(KNIT_CALL(
        mixed, k, &error, ("", array, knit_some(-2)), (&text, &sum, KNIT_IGNORE, &was_given)));
    assert_true(!text.has && sum == -6.5 && was_given);
}

static void sixteen_parameters_and_results_are_passed(void **state)
{
    const struct knit_bytes m = {"mm", 2};
    const struct knit_time n = {14, 14};
    const struct knit_u8s o = {(const uint8_t *)"ooo", 3};
    int8_t ra;
    int16_t rb;
    int32_t rc;
    int64_t rd;
    uint8_t re;
    uint16_t rf;
    uint32_t rg;
    uint64_t rh;
    float ri;
    double rj;
    bool rk;
    struct knit_text rl;
    struct knit_bytes rm;
    struct knit_time rn;
    struct knit_u8s ro;
    struct knit_any rp;

    (void)state;
    succeeds(KNIT_CALL(sixteen, k, &error,
        (-1, -2, -3, -4, 5, 6, 7, 8, 0.5f, 0.25, true, "l", m, n, o, 16),
        (&ra, &rb, &rc, &rd, &re, &rf, &rg, &rh, &ri, &rj, &rk, &rl, &rm, &rn, &ro, &rp)));
    assert_true(ra == -1 && rb == -2 && rc == -3 && rd == -4);
    assert_true(re == 5 && rf == 6 && rg == 7 && rh == 8);
    assert_true(ri == 0.5f && rj == 0.25 && rk);
    assert_true(rl.size == 1 && rm.size == 2 && rn.seconds == 14 && ro.count == 3 && rp.size == 1);
    assert_memory_equal(rp.at, "\x10", 1);
}

/* ---- optional ones ---- */

static void those_at_the_end_are_left_out(void **state)
{
    uint8_t bits;

    (void)state;
    succeeds(KNIT_CALL(given, k, &error, (1), (&bits)));
    assert_int_equal(bits, 1 + 16);
    succeeds(KNIT_CALL(given, k, &error, (1, KNIT_NONE, KNIT_NONE), (&bits)));
    assert_int_equal(bits, 1 + 16);
    succeeds(KNIT_CALL(given, k, &error, (0, 1), (&bits)));
    assert_int_equal(bits, 2 + 32 + 64);
    succeeds(KNIT_CALL(given, k, &error, (0, KNIT_NONE, "c"), (&bits)));
    assert_int_equal(bits, 4 + 48);
    refused(KNIT_CALL(given, k, &error, (1, 300), (&bits)), KNIT_BAD_ARGUMENT,
        "argument 2 (b): expected uint (0 to 255), got 300");
}

/* ---- what does not fit ---- */

static void a_number_that_does_not_fit_is_named(void **state)
{
    int8_t i8;
    uint8_t u8;
    int64_t i64;
    uint64_t u64;
    double real;
    float narrow;
    bool flag;

    (void)state;
    refused(KNIT_CALL(echo_i8, k, &error, (128), (&i8)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected int (-128 to 127), got 128");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
    refused(KNIT_CALL(echo_i8, k, &error, (-129L), (&i8)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected int (-128 to 127), got -129");
    refused(KNIT_CALL(echo_u8, k, &error, (-1), (&u8)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected uint (0 to 255), got -1");
    refused(KNIT_CALL(echo_int, k, &error, (UINT64_MAX), (&i64)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected int (below 2^63), got 18446744073709551615");
    refused(KNIT_CALL(echo_uint, k, &error, (-7), (&u64)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected uint (not negative), got -7");
    refused(KNIT_CALL(echo_bool, k, &error, (2), (&flag)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected bool (0 or 1), got 2");
    refused(KNIT_CALL(echo_f32, k, &error, (1e300), (&narrow)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected float of 32 bits, got 1e+300");
    succeeds(KNIT_CALL(echo_float, k, &error, (1e300), (&real)));
}

static void a_result_that_does_not_fit_is_named_and_not_written(void **state)
{
    int16_t number = 5;
    float real = 5;

    (void)state;
    succeeds(KNIT_CALL(large, k, &error, (-32768), (&number)));
    assert_int_equal(number, -32768);
    refused(KNIT_CALL(large, k, &error, (32768), (&number)), KNIT_BAD_RESULT,
        "result 1 (b): expected int (-32768 to 32767), got 32768");
    assert_int_equal(error.started, KNIT_STARTED_YES);
    assert_int_equal(number, -32768);
    assert_int_equal(KNIT_CALL(large, k, &error, (32768), (KNIT_IGNORE)), KNIT_BAD_RESULT);
    refused(KNIT_CALL(large_float, k, &error, (), (&real)), KNIT_BAD_RESULT,
        "result 1 (b): expected float of 32 bits, got 1e+300");
    assert_true(real == 5);
}

/* A caller that does not have the declaration is told the same, by the worker. */
static void a_wrapper_refuses_what_its_types_cannot_hold(void **state)
{
    int64_t number = 0;
    double real = 0;

    (void)state;
    succeeds(knit_call(k, &error, "echo_i8", "(int) -> int", (int64_t)-128, &number));
    refused(knit_call(k, &error, "echo_i8", "(int) -> int", (int64_t)300, &number),
        KNIT_BAD_ARGUMENT, "argument 1 (value): expected -128 to 127, got 300");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    refused(knit_call(k, &error, "echo_u16", "(uint) -> uint", (uint64_t)65536, &number),
        KNIT_BAD_ARGUMENT, "argument 1 (value): expected 0 to 65535, got 65536");
    refused(knit_call(k, &error, "optional_echo_i32", "(int) -> int", INT64_MIN, &number),
        KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected -2147483648 to 2147483647, got -9223372036854775808");
    refused(knit_call(k, &error, "echo_f32", "(float) -> float", -1e300, &real), KNIT_BAD_ARGUMENT,
        "argument 1 (value): -1e+300 does not fit a float");
}

static void a_task_fails_as_it_says(void **state)
{
    int64_t quotient = 1, remainder = 1;

    (void)state;
    refused(KNIT_CALL(divide, k, &error, (7, 0), (&quotient, &remainder)), KNIT_TASK_FAILED,
        "division by zero");
    assert_int_equal(error.task_code, 7);
    assert_true(quotient == 1 && remainder == 1);
    succeeds(KNIT_CALL(nothing, k, &error, (), ()));
    succeeds(KNIT_CALL(log_text, k, &error, ("said"), ()));
    succeeds(KNIT_CALL(dotted, k, &error, (1), (&quotient)));
    assert_int_equal(quotient, 2);
}

static void one_function_tells_its_tasks_apart(void **state)
{
    struct knit_text name;

    (void)state;
    succeeds(KNIT_CALL(first_of_two, k, &error, (), (&name)));
    TEXT_EQUAL(name, "the first");
    succeeds(KNIT_CALL(second_of_two, k, &error, (), (&name)));
    TEXT_EQUAL(name, "the second");
}

/* ---- the other stubs ---- */

static void what_is_started_is_awaited(void **state)
{
    enum { COUNT = 100 };
    struct knit_handle *handles[COUNT], *other;
    int64_t quotient = 0, remainder = 0;
    struct knit_text text;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        succeeds(KNIT_START(divide, k, &handles[i], &error, (100 + i, 7)));
    for (int i = 0; i < COUNT; i++) {
        succeeds(KNIT_AWAIT(divide, handles[i], &error, (&quotient, &remainder)));
        assert_true(quotient == (100 + i) / 7 && remainder == (100 + i) % 7);
        succeeds(KNIT_RESULTS(divide, handles[i], &error, (KNIT_IGNORE, &remainder)));
        knit_free(handles[i]);
    }
    succeeds(KNIT_START(divide, k, &other, &error, (1, 0)));
    refused(KNIT_AWAIT(echo_str, other, &error, (&text)), KNIT_BAD_ARGUMENT,
        "the handle is of a call of divide(a: int, b: int) -> (int, int), not of "
        "echo_str(value: str) -> str");
    refused(KNIT_AWAIT(divide, other, &error, (&quotient, &remainder)), KNIT_TASK_FAILED,
        "division by zero");
    knit_free(other);
    refused(KNIT_START(echo_i8, k, &other, &error, (1000)), KNIT_BAD_ARGUMENT,
        "argument 1 (value): expected int (-128 to 127), got 1000");
}

static void expired(struct knit_handle *handle)
{
    assert_int_equal(KNIT_AWAIT(nothing, handle, &error, ()), KNIT_TIMEOUT);
    knit_free(handle);
}

static void options_go_with_a_call(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    int64_t quotient = 0, remainder = 0;

    (void)state;
    options.timeout_ms = 60000;
    succeeds(KNIT_CALL_WITH(divide, k, &options, &error, (9, 4), (&quotient, &remainder)));
    assert_true(quotient == 2 && remainder == 1);
    options.timeout_ms = 0;
    assert_int_equal(
        KNIT_CALL_WITH(divide, k, &options, &error, (9, 4), (&quotient, &remainder)), KNIT_TIMEOUT);
    succeeds(KNIT_START_WITH(nothing, k, &options, &handle, &error, ()));
    expired(handle);
}

struct sums {
    int64_t quotients;
    int left;
};

static void add_quotient(struct knit_handle *handle, void *user)
{
    struct sums *sums = user;
    int64_t quotient = 0;

    succeeds(KNIT_RESULTS(divide, handle, &error, (&quotient, KNIT_IGNORE)));
    knit_free(handle);
    sums->quotients += quotient;
    /* A callback may start more, of a declaration that the session has not used. */
    if (sums->left-- == 100)
        succeeds(KNIT_THEN(divide, k, &error, (1000, 1), add_quotient, sums));
}

static void a_callback_reads_what_came(void **state)
{
    struct sums sums = {0, 101};

    (void)state;
    for (int i = 0; i < 100; i++)
        succeeds(KNIT_THEN(divide, k, &error, (i, 1), add_quotient, &sums));
    assert_true(KNIT_WAIT_UNTIL(knit_dispatch(k, &error) != KNIT_OK || sums.left == 0, 10000));
    assert_int_equal(sums.quotients, 99 * 100 / 2 + 1000);
}

static void sessions_have_bindings_of_their_own(void **state)
{
    struct knit *other;
    uint32_t first, second;

    (void)state;
    assert_int_equal(knit_open(url, NULL, &other, &error), KNIT_OK);
    for (int i = 0; i < 3; i++) {
        succeeds(KNIT_CALL(count, k, &error, (), (&first)));
        succeeds(KNIT_CALL(count, other, &error, (), (&second)));
        assert_true(first > 0 && second > 0);
    }
    other = knit_close(other);
    succeeds(KNIT_CALL(count, k, &error, (), (&first)));
}

/* ---- arrays of arguments ---- */

static void arguments_in_an_array_do_the_same(void **state)
{
    const struct knit_arg args[] = {knit_pass_int(17), knit_pass_uint(5), knit_pass_int(0)};
    struct knit_prepared *prepared;
    struct knit_handle *handle;
    int64_t quotient = 0, remainder = 0;
    void *places[] = {&quotient, &remainder, NULL};

    (void)state;
    succeeds(knit_prepare(k, &error, "divide", "(int, int) -> (int, int)", &prepared));
    succeeds(knit_call_args(prepared, NULL, &error, args, 2, places, 2));
    assert_true(quotient == 3 && remainder == 2);
    succeeds(knit_call_args(prepared, NULL, &error, args, 2, NULL, 0));
    succeeds(knit_start_args(prepared, NULL, &handle, &error, args, 2));
    succeeds(knit_await(handle, -1, &error));
    quotient = 0;
    succeeds(knit_results_args(handle, &error, places, 1));
    assert_int_equal(quotient, 3);
    refused(knit_results_args(handle, &error, places, 3), KNIT_BAD_ARGUMENT,
        "there are places for 3 results, and 2 results");
    knit_free(handle);
    refused(knit_call_args(prepared, NULL, &error, args, 1, places, 2), KNIT_BAD_ARGUMENT,
        "argument 2: it is missing");
    refused(knit_call_args(prepared, NULL, &error, args, 3, places, 2), KNIT_BAD_ARGUMENT,
        "argument 3: there are more arguments than parameters");
    refused(knit_call_args(prepared, NULL, &error, args, 2, places, 3), KNIT_BAD_ARGUMENT,
        "there are places for 3 results, and 2 results");
    knit_prepared_free(prepared);
    refused(knit_call_args(prepared, NULL, &error, args, 2, places, 2), KNIT_BAD_ARGUMENT,
        "the prepared call was freed before");
    succeeds(knit_prepare(k, &error, "divide", NULL, &prepared));
    assert_int_equal(knit_call_args(prepared, NULL, &error, args, 2, places, 2), KNIT_BAD_ARGUMENT);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(integers_of_every_width_come_back),
        WITH_SESSION(reals_come_back_bit_by_bit),
        WITH_SESSION(an_integer_is_taken_for_a_real_that_holds_it),
        WITH_SESSION(texts_and_bytes_come_back),
        WITH_SESSION(times_and_values_come_back),
        WITH_SESSION(arrays_of_every_element_come_back),
        WITH_SESSION(several_of_several_types_go_at_once),
        WITH_SESSION(sixteen_parameters_and_results_are_passed),
        WITH_SESSION(those_at_the_end_are_left_out),
        WITH_SESSION(a_number_that_does_not_fit_is_named),
        WITH_SESSION(a_result_that_does_not_fit_is_named_and_not_written),
        WITH_SESSION(a_wrapper_refuses_what_its_types_cannot_hold),
        WITH_SESSION(a_task_fails_as_it_says),
        WITH_SESSION(one_function_tells_its_tasks_apart),
        WITH_SESSION(what_is_started_is_awaited),
        WITH_SESSION(options_go_with_a_call),
        WITH_SESSION(a_callback_reads_what_came),
        WITH_SESSION(sessions_have_bindings_of_their_own),
        WITH_SESSION(arguments_in_an_array_do_the_same),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: typed_calls URL\n");
        return 2;
    }
    url = argv[1];
    return cmocka_run_group_tests_name("typed", tests, NULL, NULL);
}
