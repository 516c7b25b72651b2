/* SPDX-License-Identifier: Apache-2.0 */
/* One declaration for module and caller: what it publishes, what it calls, what it refuses. What
 * the compiler refuses, and the same in C++, is in tests/clients and tests/system. */
#include "tests/conformance/conformance.h"

#include <float.h>

#include "tests/conformance/declared_tasks.h"

static void fails(struct conformance *c, int code, int expected, const char *why)
{
    conformance_fails(c, code, expected);
    if (strstr(c->error.message, why) == NULL)
        fail_msg("\"%s\" is not in: %s", why, c->error.message);
}

/* ---- publishing ---- */

static void compare_signature(const struct knit_task_info *info, void *user)
{
    if (strcmp(info->name, "presence") != 0)
        return;
    assert_string_equal(info->signature, presence_signature);
    ++*(int *)user;
}

static void what_is_published(struct conformance *c)
{
    int found = 0;

    conformance_succeeds(c, knit_tasks(c->k, &c->error, compare_signature, &found));
    assert_int_equal(found, 1);
    assert_string_equal(
        presence_signature, "presence(first: uint?, second: str?) -> (uint?, str?, int)");
}

/* ---- stubs ---- */

struct sum {
    struct conformance *c;
    int64_t quotients;
    int left;
};

static void add_quotient(struct knit_handle *handle, void *user)
{
    struct sum *sum = user;
    int64_t quotient = 0;

    conformance_succeeds(
        sum->c, KNIT_RESULTS(divided, handle, &sum->c->error, (&quotient, KNIT_IGNORE)));
    sum->quotients += quotient;
    sum->left--;
    (void)knit_free(handle);
}

static bool is_all_there(struct sum *sum)
{
    return knit_dispatch(sum->c->k, &sum->c->error) != KNIT_OK || sum->left == 0;
}

static void stubs_of_every_kind(struct conformance *c)
{
    struct knit_call_options expired = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    struct sum sum = {c, 0, 20};
    int64_t quotient = 0, remainder = 0;

    expired.timeout_ms = 0;
    conformance_succeeds(c, KNIT_CALL(divided, c->k, &c->error, (-7, 2), (&quotient, &remainder)));
    assert_true(quotient == -3 && remainder == -1);
    conformance_succeeds(c, KNIT_START(divided, c->k, &handle, &c->error, (9, 4)));
    conformance_succeeds(c, KNIT_AWAIT(divided, handle, &c->error, (&quotient, &remainder)));
    assert_true(quotient == 2 && remainder == 1);
    (void)knit_free(handle);
    for (int64_t i = 0; i < 20; i++)
        conformance_succeeds(c, KNIT_THEN(divided, c->k, &c->error, (i, 1), add_quotient, &sum));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    assert_true(KNIT_WAIT_UNTIL(is_all_there(&sum), PLACE_MS));
    assert_true(sum.quotients == 190);
    fails(c, KNIT_CALL(divided, c->k, &c->error, (1, 0), (&quotient, &remainder)), KNIT_TASK_FAILED,
        "division by zero");
    conformance_fails(c,
        KNIT_CALL_WITH(divided, c->k, &expired, &c->error, (1, 1), (&quotient, &remainder)),
        KNIT_TIMEOUT);
}

/* ---- kinds of values ---- */

#define ECHO(a, b, c_, d, e, f, g, h, i, j, k_, l, m, n, o, p)                                     \
    conformance_succeeds(                                                                          \
        c, KNIT_CALL(kinds, c->k, &c->error, (a, b, c_, d, e, f, g, h, i, j, k_, l, m, n, o, p),   \
               (&i8, &i16, &i32, &i64, &u8, &u16, &u32, &u64, &f32, &f64, &flag, &text, &bytes,    \
                   &time, &numbers, &any)));                                                       \
    assert_true(i8 == (a) && i16 == (b) && i32 == (c_) && i64 == (d));                             \
    assert_true(u8 == (e) && u16 == (f) && u32 == (g) && u64 == (h));                              \
    assert_true(f32 == (i) && f64 == (j) && flag == (k_))

static void kinds_of_values(struct conformance *c)
{
    static const double three[] = {0.5, -0.0, DBL_MAX};
    const struct knit_bytes sent = {"\0\xff", 2};
    const struct knit_time when = {-1, 999999999};
    const struct knit_f64s some = {three, 3}, none = {NULL, 0};
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
    bool flag;
    struct knit_text text;
    struct knit_bytes bytes;
    struct knit_time time;
    struct knit_f64s numbers;
    struct knit_any any;

    ECHO(INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0, 0, 0, -FLT_MAX, -DBL_MAX, false, "", sent,
        when, some, 5);
    assert_int_equal(text.size, 0);
    assert_int_equal(bytes.size, 2);
    assert_memory_equal(bytes.at, sent.at, 2);
    assert_true(time.seconds == -1 && time.nanoseconds == 999999999);
    assert_int_equal(numbers.count, 3);
    assert_memory_equal(numbers.at, three, sizeof(three));
    assert_int_equal((uintptr_t)numbers.at % sizeof(double), 0);
    assert_int_equal(any.size, 1);
    assert_memory_equal(any.at, "\x05", 1);

    ECHO(INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX, UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX,
        FLT_MIN, DBL_MIN, true, "text", sent, when, none, KNIT_NONE);
    assert_int_equal(text.size, 4);
    assert_memory_equal(text.at, "text", 4);
    assert_int_equal(numbers.count, 0);
    assert_memory_equal(any.at, "\xc0", 1);
}

static void numbers_that_do_not_fit(struct conformance *c)
{
    const struct knit_optional_u8 absent = {false, 0};
    struct knit_optional_u8 first;
    int16_t narrow = 5;
    int64_t plain = 0;

    fails(c, KNIT_CALL(presence, c->k, &c->error, (256), (&first, KNIT_IGNORE, KNIT_IGNORE)),
        KNIT_BAD_ARGUMENT, "argument 1 (first): expected uint (0 to 255), got 256");
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    assert_int_equal(c->error.origin, KNIT_ORIGIN_CLIENT);
    conformance_succeeds(
        c, KNIT_CALL(presence, c->k, &c->error, (absent), (&first, KNIT_IGNORE, KNIT_IGNORE)));
    assert_false(first.has);
    conformance_succeeds(c, KNIT_CALL(wide, c->k, &c->error, (INT16_MIN), (&narrow)));
    assert_int_equal(narrow, INT16_MIN);
    fails(c, KNIT_CALL(wide, c->k, &c->error, (INT16_MAX + 1), (&narrow)), KNIT_BAD_RESULT,
        "result 1 (b): expected int (-32768 to 32767), got 32768");
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    assert_int_equal(narrow, INT16_MIN);
    /* A caller without the declaration is told by the worker. */
    fails(c, knit_call(c->k, &c->error, "presence", "(int) -> any", (int64_t)300, NULL, NULL),
        KNIT_BAD_ARGUMENT, "argument 1 (first): expected 0 to 255, got 300");
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    conformance_succeeds(
        c, knit_call(c->k, &c->error, "wide", "(int) -> int", (int64_t)70000, &plain));
    assert_true(plain == 70000);
}

static void optional_ones(struct conformance *c)
{
    struct knit_optional_u8 first;
    struct knit_optional_str second;
    int32_t arguments = -1;

    conformance_succeeds(
        c, KNIT_CALL(presence, c->k, &c->error, (), (&first, &second, &arguments)));
    assert_true(!first.has && !second.has && arguments == 0);
    conformance_succeeds(
        c, KNIT_CALL(presence, c->k, &c->error, (0), (&first, &second, &arguments)));
    assert_true(first.has && first.value == 0 && !second.has && arguments == 1);
    conformance_succeeds(
        c, KNIT_CALL(presence, c->k, &c->error, (KNIT_NONE, ""), (&first, &second, &arguments)));
    assert_true(!first.has && second.has && second.value.size == 0 && arguments == 2);
    conformance_succeeds(c,
        KNIT_CALL(presence, c->k, &c->error, (knit_some(255), "x"), (&first, &second, &arguments)));
    assert_true(first.value == 255 && second.value.at[0] == 'x');
}

/* ---- declarations that do not fit ---- */

KNIT_TYPED_AS(as_text, "divided", ((str, a), (int, b)), ((int, quotient), (int, remainder)));
KNIT_TYPED_AS(as_fewer, "divided", ((int, a)), ((int, quotient), (int, remainder)));
KNIT_TYPED_AS(as_more, "divided", ((int, a), (int, b), (int, c)), ((int, q), (int, r)));
KNIT_TYPED_AS(as_one, "divided", ((int, a), (int, b)), ((int, quotient)));
KNIT_TYPED_AS(as_before, "presence", ((u8, other, optional)),
    ((u8, first, optional), (str, second, optional), (i32, arguments)));
KNIT_TYPED_AS(as_none, "no_such_task", (), ());

static void declarations_that_do_not_fit(struct conformance *c)
{
    static const char published[] = "divided(a: int, b: int) -> (int, int)";
    int64_t q = 0, r = 0;
    int32_t arguments = -1;

    for (int i = 0; i < 2; i++) {
        fails(c, KNIT_CALL(as_text, c->k, &c->error, ("1", 2), (&q, &r)), KNIT_BAD_ARGUMENT,
            published);
        assert_non_null(strstr(c->error.message, "divided(a: str, b: int) -> (int, int)"));
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
    }
    fails(c, KNIT_CALL(as_fewer, c->k, &c->error, (1), (&q, &r)), KNIT_BAD_ARGUMENT, published);
    fails(
        c, KNIT_CALL(as_more, c->k, &c->error, (1, 2, 3), (&q, &r)), KNIT_BAD_ARGUMENT, published);
    fails(c, KNIT_CALL(as_one, c->k, &c->error, (1, 2), (&q)), KNIT_BAD_ARGUMENT, published);
    conformance_fails(c, KNIT_CALL(as_none, c->k, &c->error, (), ()), KNIT_UNKNOWN_TASK);
    /* One optional parameter fewer than the task has by now, of another name. */
    conformance_succeeds(
        c, KNIT_CALL(as_before, c->k, &c->error, (7), (KNIT_IGNORE, KNIT_IGNORE, &arguments)));
    assert_int_equal(arguments, 1);
}

/* ---- tasks that learn which they are ---- */

static void twins(struct conformance *c)
{
    struct knit_text name;

    conformance_succeeds(c, KNIT_CALL(first_twin, c->k, &c->error, (), (&name)));
    assert_int_equal(name.size, 9);
    conformance_succeeds(c, KNIT_CALL(second_twin, c->k, &c->error, (), (&name)));
    assert_int_equal(name.size, 10);
    assert_memory_equal(name.at, "the second", 10);
}

static void a_table_from_a_function(struct conformance *c)
{
    char option[512];
    const struct place_wish wish = {.options = {option}};
    int64_t sum = 0;

    assert_non_null(getenv("KNIT_LIST_MODULE"));
    (void)snprintf(option, sizeof(option), "module=%s", getenv("KNIT_LIST_MODULE"));
    conformance_open_place(c, &wish);
    for (int64_t i = 0; i < 50; i += 7) {
        char name[32];

        (void)snprintf(name, sizeof(name), "number_%d", (int)i);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, name, "(int) -> int", INT64_C(1000), &sum));
        assert_true(sum == 1000 + i);
    }
}

static const struct conformance_case cases[] = {
    {"P1", "a declaration publishes its signature", what_is_published, 0, 0, 0},
    {"P2", "a declared call is waited for, awaited later, or given to a callback",
        stubs_of_every_kind, 0, 0, 0},
    {"P3", "sixteen arguments and results of every kind come back, at their limits",
        kinds_of_values, 0, 0, 0},
    {"P4", "a number that its type cannot hold is refused by name and value, either way",
        numbers_that_do_not_fit, 0, 0, 0},
    {"P5", "optional arguments are given, absent or left out, and optional results absent",
        optional_ones, 0, 0, 0},
    {"P6",
        "a declaration that does not fit is refused with both signatures; new optional "
        "parameters fit",
        declarations_that_do_not_fit, 0, 0, 0},
    {"P7", "tasks of one function learn which of them was called", twins, 0, 0, 0},
    {"P8", "a module's table of tasks may come from a function", a_table_from_a_function, 0, 0, 0},
};

const struct conformance_section conformance_declared = CONFORMANCE_SECTION("declarations", cases);
