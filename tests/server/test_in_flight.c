/* SPDX-License-Identifier: Apache-2.0 */
/* The table of calls in flight against an array that remembers everything: random adds and removes
 * of colliding, consecutive and random numbers; memory only while there is something to hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/rpc/in_flight.h"
#include "tests/support/random.h"

enum { NUMBERS = 1024 };

static void an_empty_table_holds_nothing_and_no_memory(void **state)
{
    struct knit_in_flight table = {0};
    uint32_t slot;

    (void)state;
    assert_false(knit_in_flight_find(&table, 0, &slot));
    assert_false(knit_in_flight_remove(&table, 0));
    assert_null(table.entries);
    knit_in_flight_fini(&table);
    knit_in_flight_fini(&table);
}

/* At the place that the probe finds, up to where the table grows and beyond. */
static void one_probe_finds_a_number_or_its_place(void **state)
{
    struct knit_in_flight table = {0};
    uint32_t slot;

    (void)state;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        uint32_t msgid = i * 16;
        struct knit_in_flight_entry *place;

        if (knit_in_flight_has_room(&table)) {
            place = knit_in_flight_probe(&table, msgid);
            assert_int_equal(place->slot_plus_one, 0);
            knit_in_flight_fill(&table, place, msgid, i);
        } else {
            assert_int_equal(knit_in_flight_add(&table, msgid, i), 0);
        }
        place = knit_in_flight_probe(&table, msgid);
        assert_int_equal(place->msgid, msgid);
        assert_int_equal(place->slot_plus_one, i + 1);
        assert_int_equal(table.count, i + 1);
        assert_true(table.count <= table.capacity / 2);
    }
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_true(knit_in_flight_find(&table, i * 16, &slot));
        assert_int_equal(slot, i);
    }
    knit_in_flight_fini(&table);
}

static void a_large_table_gives_its_memory_back(void **state)
{
    struct knit_in_flight table = {0};

    (void)state;
    for (uint32_t i = 0; i < NUMBERS; i++)
        assert_int_equal(knit_in_flight_add(&table, i, i), 0);
    assert_true(table.capacity >= 2 * NUMBERS);
    for (uint32_t i = 0; i < NUMBERS; i++)
        assert_true(knit_in_flight_remove(&table, i));
    assert_null(table.entries);
    knit_in_flight_fini(&table);
}

/* numbers[i] is added with slot i; `in` says what should be there. */
static void compare(const uint32_t numbers[NUMBERS], struct knit_random *random)
{
    struct knit_in_flight table = {0};
    uint8_t in[NUMBERS] = {0};
    uint32_t count = 0, slot;

    for (int step = 0; step < 40000; step++) {
        uint32_t i = (uint32_t)knit_random_below(random, NUMBERS);

        assert_int_equal(knit_in_flight_find(&table, numbers[i], &slot), in[i]);
        if (in[i])
            assert_int_equal(slot, i);
        if (in[i]) {
            assert_true(knit_in_flight_remove(&table, numbers[i]));
            count--;
        } else {
            assert_int_equal(knit_in_flight_add(&table, numbers[i], i), 0);
            count++;
        }
        in[i] = !in[i];
        assert_int_equal(table.count, count);
    }
    for (uint32_t i = 0; i < NUMBERS; i++) {
        assert_int_equal(knit_in_flight_find(&table, numbers[i], &slot), in[i]);
        if (in[i])
            assert_int_equal(slot, i);
    }
    knit_in_flight_fini(&table);
}

static void it_agrees_with_an_array(void **state)
{
    struct knit_random random;
    uint32_t numbers[NUMBERS];

    (void)state;
    knit_random_init(&random);
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[i] = i;
    compare(numbers, &random);
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[i] = UINT32_MAX - i;
    compare(numbers, &random);
    /* The same high bits after the multiplication, as far as that goes: long runs. */
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[i] = i * UINT32_C(0x144cbc89); /* the inverse of the multiplier */
    compare(numbers, &random);
    for (uint32_t i = 0; i < NUMBERS; i++)
        numbers[i] = (uint32_t)(knit_random_u64(&random) & 0xfffffc00) | i;
    compare(numbers, &random);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_holds_nothing_and_no_memory),
        cmocka_unit_test(one_probe_finds_a_number_or_its_place),
        cmocka_unit_test(a_large_table_gives_its_memory_back),
        cmocka_unit_test(it_agrees_with_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
