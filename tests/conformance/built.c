/* SPDX-License-Identifier: Apache-2.0 */
/* Values that a program builds are read by a task and by the program again: <knitting/values.h> on
 * both sides, with the tasks of tests/conformance/module_values.c. */
#include "tests/conformance/conformance.h"

#include <knitting/values.h>

#include "tests/clients/builder_program.h"

static void fails(struct conformance *c, int code, int expected, const char *why)
{
    conformance_fails(c, code, expected);
    if (strstr(c->error.message, why) == NULL)
        fail_msg("\"%s\" is not in: %s", why, c->error.message);
}

/* ---- typed arrays ---- */

enum { COUNT_MAX = 100000 };
static const size_t counts[] = {
    0, 1, 2, 5, 6, 7, 8, 11, 12, 13, 100, 128, 129, 500, 8191, COUNT_MAX};

static void typed_arrays_lie_aligned_in_task_and_caller(struct conformance *c)
{
    double *floats = calloc(COUNT_MAX, sizeof(*floats));
    int64_t *ints = calloc(COUNT_MAX, sizeof(*ints));

    for (int i = 0; i < COUNT_MAX; i++) {
        floats[i] = i / 4.0;
        ints[i] = -i;
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const double *got_floats;
        const int64_t *got_ints;
        size_t n = counts[i], float_count, int_count;
        double sum = n == 0 ? 0 : (double)n * (double)(n - 1) / 8;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "sums", "(f64[], i64[]) -> (f64[], i64[])", floats, n,
                   ints, COUNT_MAX - n, &got_floats, &float_count, &got_ints, &int_count));
        assert_int_equal((uintptr_t)got_floats % 8, 0);
        assert_int_equal((uintptr_t)got_ints % 8, 0);
        assert_int_equal(float_count, n + 1);
        assert_int_equal(int_count, COUNT_MAX - n + 1);
        assert_memory_equal(got_floats, floats, n * sizeof(*floats));
        assert_true(got_floats[n] == sum);
    }
    free(floats);
    free(ints);
}

static void an_array_of_the_library_is_not_copied_by_the_task(struct conformance *c)
{
    static const double floats[COUNT_MAX];
    bool is_so;

    conformance_succeeds(c, knit_call(c->k, &c->error, "place", "() -> bool", &is_so));
    assert_true(is_so);
    for (size_t i = 1; i < sizeof(counts) / sizeof(counts[0]); i++) {
        conformance_succeeds(c,
            knit_call(c->k, &c->error, "untouched", "(f64[]) -> bool", floats, counts[i], &is_so));
        assert_true(is_so);
    }
}

static void an_array_within_a_map_is_not_copied_by_the_task(struct conformance *c)
{
    static const double weights[COUNT_MAX];

    for (size_t i = 1; i < sizeof(counts) / sizeof(counts[0]); i++) {
        KNIT_BUILDER(parcel);
        const void *bytes = NULL;
        size_t len = 0;
        bool is_so;

        knit_put_map(parcel, 2);
        knit_put_text(parcel, "marks");
        knit_put_set(parcel, 1);
        knit_put_typed(parcel, KNIT_I16, weights, i % 4);
        knit_put_text(parcel, "weights");
        knit_put_typed(parcel, KNIT_F64, weights, counts[i]);
        assert_int_equal(knit_built(parcel, &bytes, &len), KNIT_OK);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "untouched", "(map) -> bool", bytes, len, &is_so));
        assert_true(is_so);
        conformance_succeeds(c, knit_call(c->k, &c->error, "untouched", "(map, str) -> bool", bytes,
                                    len, "more", &is_so));
        assert_true(is_so);
    }
}

static void an_array_without_pad_lies_aligned_too(struct conformance *c)
{
    /* [f64[] of 1.0, i64[] of -1]: the elements at 6 and at 18. */
    static const unsigned char params[] = {0x92, 0xc7, 10, 36, 9, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
        0xc7, 10, 36, 10, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const void *bytes;
    size_t len, count;
    const double *floats;

    conformance_succeeds(
        c, knit_call_raw(c->k, NULL, &c->error, "sums", params, sizeof(params), &bytes, &len));
    floats = knit_value_f64s(knit_value_at(knit_read(NULL, bytes, len), 0), &count);
    assert_int_equal(count, 2);
    assert_true(floats == NULL || floats[1] == 1.0);
}

static void results_are_written_in_place_or_copied(struct conformance *c)
{
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const double *halves;
        const int64_t *squares;
        size_t count, n = counts[i];

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "halves", "(int) -> f64[]", (int64_t)n, &halves, &count));
        assert_int_equal(count, n);
        assert_int_equal((uintptr_t)halves % 8, 0);
        for (size_t at = 0; at < n; at++)
            assert_true(halves[at] == (double)at / 2);
        if (n > 4096)
            continue;
        conformance_succeeds(c,
            knit_call(c->k, &c->error, "squares", "(int) -> i64[]", (int64_t)n, &squares, &count));
        assert_int_equal(count, n);
        assert_int_equal((uintptr_t)squares % 8, 0);
        for (size_t at = 0; at < n; at++)
            assert_int_equal(squares[at], at * at);
    }
    fails(c, knit_call(c->k, &c->error, "halves", "(int) -> f64[]", (int64_t)1 << 40, NULL, NULL),
        KNIT_RESULT_TOO_LARGE, "larger than the pool allows");
}

/* ---- containers ---- */

static void a_map_goes_there_and_a_map_comes_back(struct conformance *c)
{
    static const double weights[COUNT_MAX] = {0.25, 1.5};
    struct knit_reader reader = KNIT_READER_INIT;
    const void *bytes;
    size_t len, count;
    struct knit_value answer;
    const double *each;

    for (size_t i = 2; i < sizeof(counts) / sizeof(counts[0]); i++) {
        KNIT_BUILDER(parcel);

        knit_put_map(parcel, 2);
        knit_put_text(parcel, "pieces");
        knit_put_int(parcel, 4);
        knit_put_text(parcel, "weights");
        knit_put_typed(parcel, KNIT_F64, weights, counts[i]);
        assert_int_equal(knit_built(parcel, &bytes, &len), KNIT_OK);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "weigh", "(map) -> map", bytes, len, &bytes, &len));
        answer = knit_read(&reader, bytes, len);
        assert_true(knit_value_float(knit_value_get(answer, "kg")) == 7);
        each = knit_value_f64s(knit_value_get(answer, "each"), &count);
        assert_int_equal(knit_reader_code(&reader), KNIT_OK);
        assert_int_equal(count, counts[i]);
        assert_memory_equal(each, weights, count * sizeof(*each));
    }
}

static void a_task_says_what_it_did_not_find(struct conformance *c)
{
    KNIT_BUILDER(parcel);
    const void *bytes = NULL;
    size_t len = 0;

    knit_put_map(parcel, 1);
    knit_put_text(parcel, "pieces");
    knit_put_text(parcel, "four");
    assert_int_equal(knit_built(parcel, &bytes, &len), KNIT_OK);
    fails(c, knit_call(c->k, &c->error, "weigh", "(map) -> map", bytes, len, NULL, NULL),
        KNIT_TASK_FAILED, "pieces: expected int, got str");
}

static void a_failure_has_an_error_with_its_cause_as_data(struct conformance *c)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value why;
    size_t len;

    fails(c, knit_call(c->k, &c->error, "fail_why", "() -> nil"), KNIT_TASK_FAILED, "too far");
    assert_int_equal(c->error.task_code, 3);
    why = knit_read(&reader, c->error.data, c->error.data_len);
    assert_int_equal(knit_value_type(why), KNIT_TYPE_ERROR);
    assert_memory_equal(knit_value_text(knit_value_get(why, "name"), &len), "RangeError", 10);
    assert_int_equal(knit_value_int(knit_value_get(why, "data")), 7);
    why = knit_value_get(why, "cause");
    assert_memory_equal(knit_value_text(knit_value_get(why, "message"), &len), "it went on", 10);
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

static void results_that_cannot_be_built_are_bad_ones(struct conformance *c)
{
    fails(c, knit_call(c->k, &c->error, "mistake", "(str) -> any", "utf8", NULL, NULL),
        KNIT_BAD_RESULT, "a str is not UTF-8");
    fails(c, knit_call(c->k, &c->error, "mistake", "(str) -> any", "deep", NULL, NULL),
        KNIT_BAD_RESULT, "nested too deep");
    fails(c, knit_call(c->k, &c->error, "mistake", "(str) -> any", "less", NULL, NULL),
        KNIT_BAD_RESULT, "fewer elements were put than announced");
}

static void put_one_of_each(struct knit_builder *value)
{
    static const int32_t elements[] = {-1, 0, INT32_MAX};

    knit_put_pairs(value, 15);
    knit_put_text(value, "nil");
    knit_put_nil(value);
    knit_put_text(value, "bool");
    knit_put_bool(value, true);
    knit_put_text(value, "int");
    knit_put_int(value, INT64_MIN);
    knit_put_text(value, "uint");
    knit_put_uint(value, UINT64_MAX);
    knit_put_text(value, "float");
    knit_put_float(value, -0.5);
    knit_put_text(value, "bin");
    knit_put_bin(value, "\0\xff", 2);
    knit_put_text(value, "time");
    knit_put_time(value, -1, 999999999);
    knit_put_text(value, "undefined");
    knit_put_undefined(value);
    knit_put_text(value, "bigint");
    knit_put_bigint(value, true, "\1\2\3\4\5\6\7\10\11\0", 10);
    knit_put_text(value, "set");
    knit_put_set(value, 2);
    knit_put_text(value, "b");
    knit_put_text(value, "a");
    knit_put_text(value, "typed");
    knit_put_typed(value, KNIT_I32, elements, 3);
    knit_put_text(value, "view");
    knit_put_view(value, "view", 4);
    knit_put_text(value, "error");
    knit_put_error(value, "RangeError", "too far", 0);
    knit_put_text(value, "symbol");
    knit_put_symbol(value, "a.b", 3);
    knit_put_text(value, "envelope");
    knit_put_envelope(value);
    knit_put_int(value, 7);
    knit_put_body(value, "body", 4);
}

static void is_text(struct knit_value value, const char *expected)
{
    size_t len = 0;
    const char *text = knit_value_text(value, &len);

    assert_int_equal(len, strlen(expected));
    assert_memory_equal(text, expected, len);
}

static void read_one_of_each(struct knit_value map)
{
    int64_t seconds = 0;
    uint32_t nanoseconds = 0;
    size_t len = 0;
    bool is_negative = false;

    assert_true(knit_value_is_nil(knit_value_get(map, "nil")));
    assert_true(knit_value_bool(knit_value_get(map, "bool")));
    assert_true(knit_value_int(knit_value_get(map, "int")) == INT64_MIN);
    assert_true(knit_value_uint(knit_value_get(map, "uint")) == UINT64_MAX);
    assert_true(knit_value_float(knit_value_get(map, "float")) == -0.5);
    assert_memory_equal(knit_value_bytes(knit_value_get(map, "bin"), &len), "\0\xff", 2);
    assert_true(knit_value_time(knit_value_get(map, "time"), &seconds, &nanoseconds));
    assert_true(seconds == -1 && nanoseconds == 999999999);
    assert_int_equal(knit_value_type(knit_value_get(map, "undefined")), KNIT_TYPE_UNDEFINED);
    assert_memory_equal(knit_value_bigint(knit_value_get(map, "bigint"), &is_negative, &len),
        "\1\2\3\4\5\6\7\10\11", 9);
    assert_true(is_negative && len == 9);
    assert_int_equal(knit_value_count(knit_value_get(map, "set")), 2);
    is_text(knit_value_at(knit_value_get(map, "set"), 1), "a");
    assert_true(knit_value_i32s(knit_value_get(map, "typed"), &len)[2] == INT32_MAX && len == 3);
    assert_int_equal(knit_value_type(knit_value_get(map, "view")), KNIT_TYPE_VIEW);
    is_text(knit_value_get(knit_value_get(map, "error"), "message"), "too far");
    assert_int_equal(knit_value_type(knit_value_get(map, "symbol")), KNIT_TYPE_SYMBOL);
    assert_true(knit_value_int(knit_value_header(knit_value_get(map, "envelope"))) == 7);
    assert_memory_equal(knit_value_body(knit_value_get(map, "envelope"), &len), "body", 4);
}

static void every_kind_of_value(struct conformance *c)
{
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(value);
    const void *bytes = NULL, *got = NULL;
    size_t len = 0, got_len = 0;

    put_one_of_each(value);
    assert_int_equal(knit_built(value, &bytes, &len), KNIT_OK);
    conformance_succeeds(
        c, knit_call(c->k, &c->error, "rebuild", "(pairs) -> pairs", bytes, len, &got, &got_len));
    assert_int_equal(got_len, len);
    assert_memory_equal(got, bytes, len);
    read_one_of_each(knit_read(&reader, got, got_len));
    assert_int_equal(knit_reader_code(&reader), KNIT_OK);
}

/* The first mistake is the one that is told, whatever is put or read behind it. */
static void mistakes_stick(struct conformance *c)
{
    struct knit_reader reader = KNIT_READER_INIT;
    KNIT_BUILDER(value);
    const void *bytes = "unset", *got = NULL;
    size_t len = 77, got_len = 0;
    struct knit_value map;
    char said[200];

    knit_put_array(value, 2);
    knit_put_str(value, "\xff", 1);
    for (int i = 0; i < 1000; i++)
        knit_put_int(value, i);
    assert_int_equal(knit_built(value, &bytes, &len), KNIT_BAD_ARGUMENT);
    assert_string_equal(bytes, "unset");
    assert_non_null(strstr(knit_builder_reason(value), "UTF-8"));
    knit_builder_reset(value);
    knit_put_map(value, 1);
    knit_put_text(value, "kg");
    knit_put_int(value, 5);
    assert_int_equal(knit_built(value, &bytes, &len), KNIT_OK);
    conformance_succeeds(
        c, knit_call(c->k, &c->error, "rebuild", "(map) -> map", bytes, len, &got, &got_len));
    map = knit_read(&reader, got, got_len);
    assert_true(knit_value_count(knit_value_get(map, "kg")) == 0);
    assert_true(knit_value_int(knit_value_get(map, "no such key")) == 0);
    assert_true(knit_value_int(knit_value_get(map, "kg")) == 5);
    assert_int_not_equal(knit_reader_code(&reader), KNIT_OK);
    knit_reader_explain(&reader, said, sizeof(said));
    assert_non_null(strstr(said, "kg: expected array, got int"));
}

/* The params are a container too. */
static void arguments_nest_to_the_limit_and_no_further(struct conformance *c)
{
    for (int depth = 31; depth <= 32; depth++) {
        KNIT_BUILDER(value);
        const void *bytes = NULL, *got = NULL;
        size_t len = 0, got_len = 0;
        int code;

        for (int i = 0; i < depth; i++)
            knit_put_array(value, i < depth - 1 ? 1 : 0);
        assert_int_equal(knit_built(value, &bytes, &len), KNIT_OK);
        code = knit_call(c->k, &c->error, "rebuild", "(any) -> any", bytes, len, &got, &got_len);
        if (depth == 32) {
            fails(c, code, KNIT_TOO_DEEP, "nested too deep");
            assert_int_equal(c->error.started, KNIT_STARTED_NO);
        } else {
            conformance_succeeds(c, code);
            assert_int_equal(got_len, len);
            assert_memory_equal(got, bytes, len);
        }
    }
}

static void random_values_come_back(struct conformance *c)
{
    enum { ROUNDS = 3000, LEN = 400 };
    uint8_t program[LEN];
    int sent = 0;

    for (int i = 0; i < ROUNDS; i++) {
        KNIT_BUILDER(value);
        KNIT_BUILDER(again);
        const void *bytes, *got, *again_bytes = NULL;
        size_t len, got_len, again_len = 0;
        int code;

        knit_random_bytes(&c->random, program, LEN);
        builder_program_run(value, program, knit_random_below(&c->random, LEN));
        if (knit_built(value, &bytes, &len) != KNIT_OK)
            continue;
        code = knit_call(c->k, &c->error, "rebuild", "(any) -> any", bytes, len, &got, &got_len);
        if (code == KNIT_TOO_DEEP)
            continue;
        conformance_succeeds(c, code);
        sent++;
        knit_put_value(again, knit_read(NULL, got, got_len));
        assert_int_equal(knit_built(again, &again_bytes, &again_len), KNIT_OK);
        assert_int_equal(again_len, len);
        assert_memory_equal(again_bytes, bytes, len);
    }
    assert_true(sent > ROUNDS / 10);
}

static const struct conformance_case cases[] = {
    {"K89a", "f64[] and i64[] lie at multiples of 8 in task and caller, at every size",
        typed_arrays_lie_aligned_in_task_and_caller, 0, 0},
    {"K89b", "an array that the library sends is read where it lies, without a copy",
        an_array_of_the_library_is_not_copied_by_the_task, 0, 0},
    {"K89e", "so is one within a map, though the map does not begin at a multiple of 8",
        an_array_within_a_map_is_not_copied_by_the_task, 0, 0},
    {"K89c", "an array that came without pad lies aligned as well",
        an_array_without_pad_lies_aligned_too, 0, 0},
    {"K89d", "typed arrays are results, copied or written in place",
        results_are_written_in_place_or_copied, 0, 0},
    {"A6c", "a map that was built goes to a task, and one comes back",
        a_map_goes_there_and_a_map_comes_back, 0, 0},
    {"A6d", "a task says which value of a map was of another type",
        a_task_says_what_it_did_not_find, 0, 0},
    {"A6e", "what a caller builds may nest to the limit, and no further",
        arguments_nest_to_the_limit_and_no_further, 0, 0},
    {"A13b", "a failure may have an error with its cause as data",
        a_failure_has_an_error_with_its_cause_as_data, 0, 0},
    {"A15b", "a result that cannot be built fails its call with the reason",
        results_that_cannot_be_built_are_bad_ones, 0, 0},
    {"A18", "each kind of value is built, comes back, and is read by its own getter",
        every_kind_of_value, 0, 0},
    {"A19", "a mistake in building or reading sticks, and the first one is told", mistakes_stick, 0,
        0},
    {"A17b", "random values that were built come back, taken apart and built anew",
        random_values_come_back, 0, 0},
};

const struct conformance_section conformance_built = CONFORMANCE_SECTION("built values", cases);
