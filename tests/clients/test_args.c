/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an argument in an array becomes the bytes that the same argument of knit_call() becomes, or
 * is refused with its number; the short way and the full one agree. Method: a table of arguments
 * and types, with what each becomes; random numbers of every width both ways. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients/lib/args.h"
#include "tests/support/random.h"

static struct knit_shape *shape_of(const char *signature, uint32_t width)
{
    struct knit_shape *shape = NULL;
    struct knit_shape_flaw flaw;

    assert_int_equal(knit_shape_new(signature, &shape, &flaw), 0);
    for (uint32_t i = 0; i < shape->param_count + shape->result_count && width != 0; i++)
        knit_shape_set_width(shape, i, width);
    return shape;
}

/* Both ways. Returns 0 and the bytes in *ret_bytes, or what the full one returned. */
static int encode(const struct knit_shape *shape, const struct knit_arg *args, size_t count,
    struct knit_buffer *bytes, struct knit_shape_flaw *ret_flaw)
{
    uint8_t room[KNIT_SHAPE_SHORT_ROOM] = {0};
    size_t len = 0;
    int r;

    knit_buffer_reset(bytes);
    r = knit_args_encode(shape, args, count, bytes, ret_flaw);
    if (shape->is_short_args && count == shape->param_count)
        len = knit_args_encode_short(shape, args, room);
    if (r != 0) {
        assert_int_equal(len, 0);
    } else if (len != 0) {
        assert_int_equal(len, bytes->len);
        assert_memory_equal(room, bytes->bytes, len);
    } else {
        assert_true(!shape->is_short_args || count < shape->param_count ||
                    bytes->len > KNIT_SHAPE_SHORT_BYTES - KNIT_HEAD_BYTES_MAX);
    }
    return r;
}

#define I(number)                                                                                  \
    {                                                                                              \
        KNIT_ARG_INT, 0, {.i = (number)}, 0                                                        \
    }
#define U(number)                                                                                  \
    {                                                                                              \
        KNIT_ARG_UINT, 0, {.u = (number)}, 0                                                       \
    }
#define F(number)                                                                                  \
    {                                                                                              \
        KNIT_ARG_FLOAT, 0, {.f = (number)}, 0                                                      \
    }
#define B(flag)                                                                                    \
    {                                                                                              \
        KNIT_ARG_BOOL, 0, {.b = (flag)}, 0                                                         \
    }
#define AT(type, bytes, size)                                                                      \
    {                                                                                              \
        KNIT_ARG_##type, 0, {.at = (bytes)}, size                                                  \
    }
#define NONE                                                                                       \
    {                                                                                              \
        KNIT_ARG_NONE, 0, {0}, 0                                                                   \
    }

static const struct {
    const char *signature;
    uint32_t width; /* 0 = as it is */
    struct knit_arg arg;
    const char *bytes; /* behind the head of the array; NULL: refused */
    size_t len;
    const char *expected, *actual; /* of what is refused */
} arguments[] = {
    {"(int)", 0, I(5), "\x05", 1, NULL, NULL},
    {"(int)", 0, I(-1), "\xff", 1, NULL, NULL},
    {"(int)", 0, U(200), "\xcc\xc8", 2, NULL, NULL},
    {"(int)", 0, U(UINT64_MAX), NULL, 0, "int (below 2^63)", "18446744073709551615"},
    {"(int)", 0, F(5), NULL, 0, "int", "float"},
    {"(int)", 0, NONE, NULL, 0, "int", "nil"},
    {"(int)", 1, I(-129), NULL, 0, "int (-128 to 127)", "-129"},
    {"(int)", 2, I(40000), NULL, 0, "int (-32768 to 32767)", "40000"},
    {"(int)", 4, I(INT64_MIN), NULL, 0, "int (-2147483648 to 2147483647)", "-9223372036854775808"},
    {"(int)", 4, U(2147483647), "\xce\x7f\xff\xff\xff", 5, NULL, NULL},
    {"(int?)", 0, I(5), "\x05", 1, NULL, NULL},
    {"(int?)", 1, I(128), NULL, 0, "int (-128 to 127)", "128"},
    {"(uint)", 0, I(0), "\x00", 1, NULL, NULL},
    {"(uint)", 0, I(-1), NULL, 0, "uint (not negative)", "-1"},
    {"(uint)", 1, U(255), "\xcc\xff", 2, NULL, NULL},
    {"(uint)", 1, U(256), NULL, 0, "uint (0 to 255)", "256"},
    {"(uint)", 2, I(65536), NULL, 0, "uint (0 to 65535)", "65536"},
    {"(uint)", 4, U(UINT64_MAX), NULL, 0, "uint (0 to 4294967295)", "18446744073709551615"},
    {"(float)", 0, F(1.5), "\xcb\x3f\xf8\0\0\0\0\0\0", 9, NULL, NULL},
    {"(float)", 0, I(1), "\xcb\x3f\xf0\0\0\0\0\0\0", 9, NULL, NULL},
    {"(float)", 0, U(UINT64_MAX), NULL, 0, "float", "18446744073709551615"},
    {"(float)", 0, I(INT64_MAX), NULL, 0, "float", "9223372036854775807"},
    {"(float)", 0, I(INT64_MIN), "\xcb\xc3\xe0\0\0\0\0\0\0", 9, NULL, NULL},
    {"(float)", 4, F(0.1), "\xcb\x3f\xb9\x99\x99\xa0\0\0\0", 9, NULL, NULL},
    {"(float)", 4, F(-1e39), NULL, 0, "float of 32 bits", "-1e+39"},
    {"(float)", 0, B(true), NULL, 0, "float", "bool"},
    {"(bool)", 0, B(true), "\xc3", 1, NULL, NULL},
    {"(bool)", 0, I(0), "\xc2", 1, NULL, NULL},
    {"(bool)", 0, I(-1), NULL, 0, "bool (0 or 1)", "-1"},
    {"(bool)", 0, F(1), NULL, 0, "bool", "float"},
    {"(str)", 0, AT(STR, "ab", 2),
        "\xa2"
        "ab",
        3, NULL, NULL},
    {"(str)", 0, AT(STR, NULL, 0), "\xa0", 1, NULL, NULL},
    {"(str)", 0, AT(BIN, "ab", 2), NULL, 0, "str", "bin"},
    {"(bin)", 0, AT(BIN, "\0", 1), "\xc4\x01\0", 3, NULL, NULL},
    {"(bin)", 0, AT(STR, "ab", 2), NULL, 0, "bin", "str"},
    {"(time)", 0, AT(BIN, "ab", 2), NULL, 0, "time", "bin"},
    {"(f64[])", 0, AT(f32s, "abcd", 1), NULL, 0, "f64[]", "f32[]"},
    {"(f64[])", 0, I(1), NULL, 0, "f64[]", "int"},
    {"(map)", 0, AT(VALUE, "\x80", 1), "\x80", 1, NULL, NULL},
    {"(map)", 0, I(1), NULL, 0, "map", "int"},
    {"(any)", 0, I(-1), "\xff", 1, NULL, NULL},
    {"(any)", 0, B(true), "\xc3", 1, NULL, NULL},
    {"(any)", 0, NONE, "\xc0", 1, NULL, NULL},
    {"(any)", 0, AT(VALUE, "\x91\x01", 2), "\x91\x01", 2, NULL, NULL},
    {"(any)", 0, {99, 0, {0}, 0}, NULL, 0, "any", "no type of an argument"},
    {"(nil)", 0, NONE, "\xc0", 1, NULL, NULL},
    {"(nil)", 0, I(0), NULL, 0, "nil", "int"},
};

static void an_argument_becomes_what_the_table_says(void **state)
{
    struct knit_buffer bytes;

    (void)state;
    knit_buffer_init(&bytes, 1 << 20);
    for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++) {
        struct knit_shape *shape = shape_of(arguments[i].signature, arguments[i].width);
        struct knit_shape_flaw flaw = {0};
        int r = encode(shape, &arguments[i].arg, 1, &bytes, &flaw);

        if (r != (arguments[i].bytes != NULL ? 0 : KNIT_SHAPE_E_VALUE))
            fail_msg("case %zu, %s: %d", i, arguments[i].signature, r);
        if (r == 0) {
            assert_int_equal(bytes.len, 1 + arguments[i].len);
            assert_int_equal(bytes.bytes[0], 0x91);
            assert_memory_equal(bytes.bytes + 1, arguments[i].bytes, arguments[i].len);
        } else {
            assert_int_equal(flaw.index, 0);
            assert_string_equal(flaw.expected, arguments[i].expected);
            assert_string_equal(
                flaw.actual != NULL ? flaw.actual : flaw.number, arguments[i].actual);
        }
        knit_shape_free(shape);
    }
    knit_buffer_fini(&bytes);
}

/* Of those that are none, the ones at the end go; `count` of the args are given. */
static void what_may_be_left_out_is(void **state)
{
    static const struct {
        const char *signature;
        size_t count;
        const char *kinds;   /* i = a number, n = none */
        const char *bytes;   /* NULL: refused */
        const char *missing; /* its reason */
    } cases[] = {
        {"()", 0, "", "\x90", NULL},
        {"(int, int?)", 1, "i", "\x91\x07", NULL},
        {"(int, int?)", 2, "in", "\x91\x07", NULL},
        {"(int, int?)", 2, "ii", "\x92\x07\x07", NULL},
        {"(int?, int?, int?)", 0, "", "\x90", NULL},
        {"(int?, int?, int?)", 3, "nnn", "\x90", NULL},
        {"(int?, int?, int?)", 3, "nin", "\x92\xc0\x07", NULL},
        {"(int?, int?, int?)", 3, "nni", "\x93\xc0\xc0\x07", NULL},
        {"(int?, int)", 2, "ni", "\x92\xc0\x07", NULL},
        {"(int, any)", 2, "in", "\x92\x07\xc0", NULL},
        {"(int, any?)", 2, "in", "\x91\x07", NULL},
        {"(int, int)", 1, "i", NULL, "it is missing"},
        {"(int?, int)", 0, "", NULL, "it is missing"},
        {"(int)", 2, "ii", NULL, "there are more arguments than parameters"},
    };
    struct knit_buffer bytes;

    (void)state;
    knit_buffer_init(&bytes, 1 << 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_shape *shape = shape_of(cases[i].signature, 0);
        struct knit_shape_flaw flaw = {0};
        struct knit_arg args[4];
        int r;

        for (size_t j = 0; j < cases[i].count; j++)
            args[j] = cases[i].kinds[j] == 'i' ? knit_pass_int(7) : knit_pass_nil();
        r = encode(shape, args, cases[i].count, &bytes, &flaw);
        if (r != (cases[i].bytes != NULL ? 0 : KNIT_SHAPE_E_VALUE))
            fail_msg("case %zu, %s: %d", i, cases[i].signature, r);
        if (r == 0) {
            assert_int_equal(bytes.len, strlen(cases[i].bytes));
            assert_memory_equal(bytes.bytes, cases[i].bytes, bytes.len);
        } else {
            assert_string_equal(flaw.reason, cases[i].missing);
        }
        knit_shape_free(shape);
    }
    knit_buffer_fini(&bytes);
}

/* The last bytes that the short way has room for. */
static void texts_of_every_length_go_one_way_or_the_other(void **state)
{
    struct knit_shape *shape = shape_of("(int, str, bin, int)", 0);
    struct knit_shape_flaw flaw;
    struct knit_buffer bytes;
    char text[300];

    (void)state;
    memset(text, 'x', sizeof(text));
    knit_buffer_init(&bytes, 1 << 20);
    for (size_t i = 0; i < 150; i++) {
        for (size_t j = 0; j < 150; j += 7) {
            const struct knit_arg args[] = {knit_pass_int(INT64_MIN),
                knit_pass_text((struct knit_text){text, i}),
                knit_pass_bytes((struct knit_bytes){text, j}), knit_pass_uint(INT64_MAX)};

            assert_int_equal(encode(shape, args, 4, &bytes, &flaw), 0);
        }
    }
    knit_shape_free(shape);
    knit_buffer_fini(&bytes);
}

/* What is sent as a number of some width comes back as that, or is refused on both sides alike. */
static void random_numbers_fit_on_both_sides_or_on_neither(void **state)
{
    static const char *const types[] = {"(int) -> int", "(uint) -> uint", "(float) -> float"};
    struct knit_random random;
    struct knit_buffer bytes;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, 1 << 20);
    for (int i = 0; i < 60000; i++) {
        const unsigned type = (unsigned)i % 3;
        const uint32_t width = type == 2 ? 4u << (i / 3 % 2) : 1u << (i / 3 % 4);
        struct knit_shape *wide = shape_of(types[type], 8), *narrow = shape_of(types[type], width);
        uint64_t bits = knit_random_u64(&random) >> knit_random_u64(&random) % 64, got = 0;
        struct knit_aligned_copy *copies = NULL;
        struct knit_shape_flaw flaw;
        struct knit_arg arg = type == 1 ? knit_pass_uint(bits) : knit_pass_int((int64_t)bits);
        void *places[] = {&got};
        struct knit_span result;
        int sent, read;
        double real;

        if (type == 2) {
            memcpy(&real, &bits, sizeof(real));
            arg = knit_pass_float(isnan(real) ? 1 : real);
        } else if (type == 0 && i % 2 == 0) {
            arg = knit_pass_int(-(int64_t)(bits >> 1));
        }
        assert_int_equal(encode(wide, &arg, 1, &bytes, &flaw), 0);
        result = knit_span(bytes.bytes + 1, bytes.len - 1);
        read = knit_shape_decode_into(narrow, result, places, &copies, &flaw);
        /* It may step aside. */
        if (knit_args_decode_short(narrow, result.bytes, result.len, 0, places))
            assert_int_equal(read, 0);
        sent = encode(narrow, &arg, 1, &bytes, &flaw);
        assert_int_equal(sent, read);
        knit_shape_free(wide);
        knit_shape_free(narrow);
    }
    knit_buffer_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_argument_becomes_what_the_table_says),
        cmocka_unit_test(what_may_be_left_out_is),
        cmocka_unit_test(texts_of_every_length_go_one_way_or_the_other),
        cmocka_unit_test(random_numbers_fit_on_both_sides_or_on_neither),
    };

    return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
