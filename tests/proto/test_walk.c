/* SPDX-License-Identifier: Apache-2.0 */
/* Children of all kinds, keys that are not text, and bytes cut short at every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buffer.h"
#include "proto/walk.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 1 << 20 };

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

static void children_of_an_array_come_in_turn(void **state)
{
    struct knit_buffer bytes;
    struct knit_walk walk;
    struct knit_item item;
    struct knit_span text;
    uint64_t number;
    bool is_set;

    (void)state;
    encode("[7, \"text\", [1, 2], true, h'ff']", &bytes);
    assert_int_equal(knit_walk_array(&walk, knit_buffer_span(&bytes)), 0);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_true(knit_item_uint(&item, &number) && number == 7);
    assert_false(knit_item_text(&item, &text) || knit_item_bool(&item, &is_set));
    assert_null(item.key.bytes);
    assert_null(item.body.bytes);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_true(knit_item_text(&item, &text) && knit_span_is(text, "text"));
    assert_false(knit_item_uint(&item, &number));
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_int_equal(item.head.type, KNIT_HEAD_ARRAY);
    assert_int_equal(item.raw.len, 3);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_true(knit_item_bool(&item, &is_set) && is_set);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_int_equal(item.body.len, 1);
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
    knit_buffer_fini(&bytes);
}

static void keys_that_are_not_text_are_absent(void **state)
{
    struct knit_buffer bytes;
    struct knit_walk walk;
    struct knit_item item;

    (void)state;
    encode("{[1]: 1, \"a\": 2, 7: 3, h'61': 4}", &bytes);
    assert_int_equal(knit_walk_map(&walk, knit_buffer_span(&bytes)), 0);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(knit_walk_next(&walk, &item), 0);
        assert_int_equal(item.head.value, i);
        assert_int_equal(item.key.bytes != NULL, i == 2);
    }
    assert_int_equal(knit_walk_next(&walk, &item), KNIT_WALK_E_END);
    knit_buffer_fini(&bytes);
}

static void a_key_is_found_by_its_text(void **state)
{
    struct knit_buffer bytes;
    struct knit_item item;

    (void)state;
    encode("{\"a\": 1, \"b\": 2, \"a\": 3}", &bytes);
    assert_int_equal(knit_walk_find(knit_buffer_span(&bytes), "a", &item), 0);
    assert_int_equal(item.head.value, 1);
    assert_int_equal(knit_walk_find(knit_buffer_span(&bytes), "b", &item), 0);
    assert_int_equal(item.head.value, 2);
    assert_int_equal(knit_walk_find(knit_buffer_span(&bytes), "c", &item), KNIT_WALK_E_END);
    bytes.len--;
    assert_int_equal(knit_walk_find(knit_buffer_span(&bytes), "c", &item), KNIT_WALK_E_BAD);
    assert_int_equal(knit_walk_find(knit_span("\x90", 1), "c", &item), KNIT_WALK_E_TYPE);
    knit_buffer_fini(&bytes);
}

static void what_is_cut_short_is_bad_at_every_length(void **state)
{
    struct knit_buffer bytes;
    struct knit_walk walk;
    struct knit_item item;

    (void)state;
    encode("{\"ab\": [1, {2: 3}], 1: h'0102', \"c\": ext(37, h'01')}", &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        int r = knit_walk_map(&walk, knit_span(bytes.bytes, len));

        while (r == 0)
            r = knit_walk_next(&walk, &item);
        assert_int_equal(r, KNIT_WALK_E_BAD);
    }
    assert_int_equal(knit_walk_array(&walk, knit_buffer_span(&bytes)), KNIT_WALK_E_TYPE);
    assert_int_equal(knit_walk_array(&walk, (struct knit_span){0}), KNIT_WALK_E_BAD);
    knit_buffer_fini(&bytes);
}

static void texts_for_people_must_be_utf8(void **state)
{
    struct knit_walk walk;
    struct knit_item item;
    struct knit_span text = {0};

    (void)state;
    assert_int_equal(knit_walk_array(&walk, knit_span("\x93\xa1z\xa1\xff\xc4\x01z", 8)), 0);
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_true(knit_item_utf8(&item, &text) && knit_span_is(text, "z"));
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_true(knit_item_text(&item, &text));
    assert_false(knit_item_utf8(&item, &text));
    assert_int_equal(knit_walk_next(&walk, &item), 0);
    assert_false(knit_item_utf8(&item, &text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_of_an_array_come_in_turn),
        cmocka_unit_test(keys_that_are_not_text_are_absent),
        cmocka_unit_test(a_key_is_found_by_its_text),
        cmocka_unit_test(what_is_cut_short_is_bad_at_every_length),
        cmocka_unit_test(texts_for_people_must_be_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
