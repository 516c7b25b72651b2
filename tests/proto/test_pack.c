/* SPDX-License-Identifier: Apache-2.0 */
/* Heads are what msgpack-c's own packer makes of the same values, on both sides of each step in
 * size, and are read back as what was packed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

#include "proto/head.h"
#include "proto/pack.h"

static msgpack_sbuffer expected;
static msgpack_packer packer;

static int setup(void **state)
{
    (void)state;
    msgpack_sbuffer_init(&expected);
    msgpack_packer_init(&packer, &expected, msgpack_sbuffer_write);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    msgpack_sbuffer_destroy(&expected);
    return 0;
}

/* What the packer wrote last is what stands in `bytes`. */
static void assert_same(const uint8_t *bytes, size_t len)
{
    assert_int_equal(len, expected.size);
    assert_memory_equal(bytes, expected.data, len);
    msgpack_sbuffer_clear(&expected);
}

/* Around the powers of two, where widths change. */
static uint64_t edge(unsigned n)
{
    uint64_t power = (uint64_t)1 << (n / 3 % 64);

    return power + n % 3 - 1;
}

static void integers_take_their_shortest_form(void **state)
{
    uint8_t bytes[KNIT_HEAD_BYTES_MAX];
    struct knit_head head;
    int64_t number;

    (void)state;
    for (unsigned n = 0; n < 64 * 3; n++) {
        for (int sign = 0; sign < 2; sign++) {
            uint64_t value = sign ? -edge(n) : edge(n);
            size_t len = knit_pack_int(bytes, value);

            (void)msgpack_pack_int64(&packer, (int64_t)value);
            assert_int_equal(knit_head_read(bytes, len, &head), 0);
            assert_true(knit_head_as_int(&head, &number) && number == (int64_t)value);
            assert_same(bytes, len);
            len = knit_pack_uint(bytes, value);
            (void)msgpack_pack_uint64(&packer, value);
            assert_same(bytes, len);
        }
    }
}

static void scalars_are_one_head(void **state)
{
    static const double floats[] = {0.0, -1.5, 1e300};
    uint8_t bytes[KNIT_HEAD_BYTES_MAX];
    uint64_t bits;

    (void)state;
    (void)msgpack_pack_nil(&packer);
    assert_same(bytes, knit_pack_nil(bytes, 7));
    assert_int_equal(bytes[0], KNIT_PACK_NIL);
    (void)msgpack_pack_true(&packer);
    assert_same(bytes, knit_pack_bool(bytes, 2));
    assert_int_equal(bytes[0], KNIT_PACK_TRUE);
    (void)msgpack_pack_false(&packer);
    assert_same(bytes, knit_pack_bool(bytes, 0));
    assert_int_equal(bytes[0], KNIT_PACK_FALSE);
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        memcpy(&bits, &floats[i], sizeof(bits));
        (void)msgpack_pack_double(&packer, floats[i]);
        assert_same(bytes, knit_pack_float(bytes, bits));
    }
}

static void lengths_and_counts(void **state)
{
    static const uint32_t lens[] = {
        0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 255, 256, 65535, 65536, UINT32_MAX};
    uint8_t bytes[KNIT_HEAD_BYTES_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        (void)msgpack_pack_str(&packer, lens[i]);
        assert_same(bytes, knit_pack_str(bytes, lens[i]));
        (void)msgpack_pack_bin(&packer, lens[i]);
        assert_same(bytes, knit_pack_bin(bytes, lens[i]));
        (void)msgpack_pack_array(&packer, lens[i]);
        assert_same(bytes, knit_pack_array(bytes, lens[i]));
        (void)msgpack_pack_map(&packer, lens[i]);
        assert_same(bytes, knit_pack_map(bytes, lens[i]));
        (void)msgpack_pack_ext(&packer, lens[i], -3);
        assert_same(bytes, knit_pack_ext(bytes, lens[i], -3));
    }
}

static void times_have_three_widths(void **state)
{
    static const msgpack_timestamp times[] = {{0, 0}, {UINT32_MAX, 0}, {1, 1},
        {(int64_t)1 << 34, 0}, {((int64_t)1 << 34) - 1, 999999999}, {-1, 5}};
    uint8_t bytes[KNIT_PACK_TIME_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        (void)msgpack_pack_timestamp(&packer, &times[i]);
        assert_same(bytes, knit_pack_time(bytes, times[i].tv_sec, times[i].tv_nsec));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(integers_take_their_shortest_form, setup, teardown),
        cmocka_unit_test_setup_teardown(scalars_are_one_head, setup, teardown),
        cmocka_unit_test_setup_teardown(lengths_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(times_have_three_widths, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
