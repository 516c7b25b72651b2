/* SPDX-License-Identifier: Apache-2.0 */
/* Every first byte with random bytes behind it, against what msgpack-c makes of the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

#include "proto/head.h"
#include "tests/support/random.h"

static void assert_is(const struct knit_head *head, const msgpack_object *object)
{
    double number, expected;

    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        assert_int_equal(head->type, KNIT_HEAD_NIL);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        assert_int_equal(head->type, KNIT_HEAD_BOOL);
        assert_int_equal(head->value, object->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        assert_int_equal(head->type, KNIT_HEAD_UINT);
        assert_true(head->value == object->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        assert_int_equal(head->type, KNIT_HEAD_INT);
        assert_true((int64_t)head->value == object->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        assert_int_equal(head->type,
            object->type == MSGPACK_OBJECT_FLOAT32 ? KNIT_HEAD_FLOAT32 : KNIT_HEAD_FLOAT64);
        assert_true(knit_head_as_float(head, &number));
        expected = object->via.f64;
        assert_true(number == expected || (number != number && expected != expected));
        break;
    case MSGPACK_OBJECT_STR:
        assert_int_equal(head->type, KNIT_HEAD_STR);
        assert_int_equal(head->value, object->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN:
        assert_int_equal(head->type, KNIT_HEAD_BIN);
        assert_int_equal(head->value, object->via.bin.size);
        break;
    case MSGPACK_OBJECT_EXT:
        assert_int_equal(head->type, KNIT_HEAD_EXT);
        assert_int_equal(head->value, object->via.ext.size);
        assert_int_equal(head->ext, object->via.ext.type);
        break;
    case MSGPACK_OBJECT_ARRAY:
        assert_int_equal(head->type, KNIT_HEAD_ARRAY);
        assert_int_equal(head->value, object->via.array.size);
        break;
    case MSGPACK_OBJECT_MAP:
        assert_int_equal(head->type, KNIT_HEAD_MAP);
        assert_int_equal(head->value, object->via.map.size);
        break;
    }
}

static void heads_are_what_msgpack_c_reads(void **state)
{
    static uint8_t bytes[70000];
    struct knit_random random;
    msgpack_unpacked unpacked;

    (void)state;
    knit_random_init(&random);
    msgpack_unpacked_init(&unpacked);
    for (unsigned round = 0; round < 256 * 40; round++) {
        uint8_t first = (uint8_t)round;
        struct knit_head head;
        size_t used = 0;

        bytes[0] = first;
        knit_random_bytes(&random, bytes + 1, 8);
        /* Keep lengths and counts of four bytes small enough for what is there. */
        if (knit_head_size(first) >= 5 && first != 0xca && first != 0xcb && (first & 0xf0) != 0xd0)
            memset(bytes + 1, 0, 2);
        if (first == 0xdb || first == 0xdd || first == 0xdf || first == 0xc9)
            memset(bytes + 1, 0, 3);
        if (first == 0xc1) {
            assert_int_equal(knit_head_read(bytes, 9, &head), KNIT_HEAD_E_RESERVED);
            continue;
        }
        assert_int_equal(knit_head_read(bytes, 9, &head), 0);
        assert_int_equal(head.size, knit_head_size(first));
        for (unsigned len = 0; len < head.size; len++)
            assert_int_equal(knit_head_read(bytes, len, &head), KNIT_HEAD_E_SHORT);
        memset(bytes + head.size, 0, KNIT_HEAD_BYTES_MAX);
        if (msgpack_unpack_next(&unpacked, (char *)bytes, sizeof(bytes), &used) ==
            MSGPACK_UNPACK_SUCCESS)
            assert_is(&head, &unpacked.data);
    }
    msgpack_unpacked_destroy(&unpacked);
}

static struct knit_head read_head(const char *bytes, size_t len)
{
    struct knit_head head;

    assert_int_equal(knit_head_read((const uint8_t *)bytes, len, &head), 0);
    return head;
}

static void numbers_are_taken_where_they_fit(void **state)
{
    struct knit_head big = read_head("\xcf\x80\0\0\0\0\0\0\0", 9);
    struct knit_head minus = read_head("\xff", 1);
    struct knit_head plus = read_head("\xd3\0\0\0\0\0\0\0\7", 9);
    struct knit_head nil = read_head("\xc0", 1);
    int64_t number = 1;
    uint64_t word = 1;
    double real = 1;

    (void)state;
    assert_false(knit_head_as_int(&big, &number));
    assert_false(knit_head_as_int(&nil, &number));
    assert_false(knit_head_as_uint(&minus, &word));
    assert_false(knit_head_as_float(&nil, &real));
    assert_true(number == 1 && word == 1 && real == 1);
    assert_true(knit_head_as_int(&minus, &number) && number == -1);
    assert_true(knit_head_as_int(&plus, &number) && number == 7);
    assert_true(knit_head_as_uint(&big, &word) && word == UINT64_C(1) << 63);
    assert_true(knit_head_as_float(&big, &real) && real == 9223372036854775808.0);
    assert_true(knit_head_as_float(&minus, &real) && real == -1);
}

static void every_type_has_a_name(void **state)
{
    static const struct {
        const char *bytes;
        const char *name;
    } names[] = {{"\xc0", "nil"}, {"\xc2", "bool"}, {"\x07", "int"}, {"\xff", "int"},
        {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "uint"}, {"\xca....", "float"},
        {"\xcb........", "float"}, {"\xa1", "str"}, {"\xc4.", "bin"}, {"\x91", "array"},
        {"\x81", "map"}, {"\xd4\x20", "undefined"}, {"\xd4\x2a", "shared buffer"},
        {"\xd4\x24", "typed array"}, {"\xd4\xff", "time"}, {"\xd4\x1f", "ext"},
        {"\xd4\x2b", "ext"}};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct knit_head head = read_head(names[i].bytes, strlen(names[i].bytes));

        assert_string_equal(knit_head_name(&head), names[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_what_msgpack_c_reads),
        cmocka_unit_test(numbers_are_taken_where_they_fit),
        cmocka_unit_test(every_type_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
