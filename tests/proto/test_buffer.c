/* SPDX-License-Identifier: Apache-2.0 */
/* Growth, the cap, and every way in which memory can be refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buffer.h"
#include "tests/proto/failing.h"

static void appends_grow_it_and_keep_what_was_there(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 100000);
    assert_null(knit_buffer_span(&buffer).bytes);
    for (unsigned i = 0; i < 100000; i++) {
        uint8_t byte = (uint8_t)(i * 7);

        assert_int_equal(knit_buffer_append(&buffer, &byte, 1), 0);
    }
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(buffer.bytes[i], (uint8_t)(i * 7));
    assert_int_equal(buffer.capacity, 100000);
    knit_buffer_fini(&buffer);
    knit_buffer_fini(&buffer);
}

static void the_cap_refuses_and_the_error_stays(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 10);
    assert_int_equal(knit_buffer_append(&buffer, "0123456789", 10), 0);
    assert_int_equal(knit_buffer_append(&buffer, "", 0), 0);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), KNIT_BUFFER_E_FULL);
    assert_int_equal(buffer.len, 10);
    assert_null(knit_buffer_reserve(&buffer, 0));
    assert_int_equal(knit_buffer_append(&buffer, "", 0), KNIT_BUFFER_E_FULL);
    knit_buffer_reset(&buffer);
    assert_int_equal(buffer.error, 0);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), 0);
    knit_buffer_fini(&buffer);
}

static void a_length_that_would_wrap_is_refused(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 1000);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), 0);
    assert_null(knit_buffer_reserve(&buffer, SIZE_MAX));
    assert_int_equal(buffer.error, KNIT_BUFFER_E_FULL);
    knit_buffer_fini(&buffer);
}

static void memory_that_is_not_there_is_said(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 10000);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), 0);
    knit_failing_after(1);
    assert_null(knit_buffer_reserve(&buffer, 5000));
    knit_failing_after(0);
    assert_int_equal(buffer.error, -ENOMEM);
    assert_int_equal(buffer.len, 1);
    assert_int_equal(buffer.bytes[0], 'x');
    knit_buffer_fini(&buffer);
}

static void a_reservation_moves_nothing_until_it_is_taken(void **state)
{
    struct knit_buffer buffer;
    uint8_t *place;

    (void)state;
    knit_buffer_init(&buffer, 1000);
    place = knit_buffer_reserve(&buffer, 500);
    assert_non_null(place);
    assert_int_equal(buffer.len, 0);
    memset(place, 'p', 500);
    buffer.len += 500;
    assert_ptr_equal(knit_buffer_reserve(&buffer, 0), buffer.bytes + 500);
    knit_buffer_fini(&buffer);
}

static void on_foreign_memory_it_never_allocates(void **state)
{
    struct knit_buffer buffer;
    char memory[8] = "-------";

    (void)state;
    knit_buffer_init_fixed(&buffer, memory, 4);
    assert_int_equal(knit_buffer_append(&buffer, "abcd", 4), 0);
    assert_int_equal(knit_buffer_append(&buffer, "e", 1), KNIT_BUFFER_E_FULL);
    assert_string_equal(memory, "abcd---");
    knit_buffer_reset(&buffer);
    knit_buffer_trim(&buffer, 0);
    assert_ptr_equal(buffer.bytes, memory);
    knit_buffer_fini(&buffer);
    knit_buffer_init_fixed(&buffer, NULL, 0);
    assert_null(knit_buffer_reserve(&buffer, 0));
    assert_int_equal(buffer.error, KNIT_BUFFER_E_FULL);
}

static void trimming_gives_back_only_what_an_empty_one_holds_beyond(void **state)
{
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, 10000);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), 0);
    knit_buffer_trim(&buffer, 0);
    assert_non_null(buffer.bytes);
    knit_buffer_reset(&buffer);
    knit_buffer_trim(&buffer, 10000);
    assert_non_null(buffer.bytes);
    knit_buffer_trim(&buffer, 10);
    assert_null(buffer.bytes);
    assert_int_equal(knit_buffer_append(&buffer, "x", 1), 0);
    knit_buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_grow_it_and_keep_what_was_there),
        cmocka_unit_test(the_cap_refuses_and_the_error_stays),
        cmocka_unit_test(a_length_that_would_wrap_is_refused),
        cmocka_unit_test(memory_that_is_not_there_is_said),
        cmocka_unit_test(a_reservation_moves_nothing_until_it_is_taken),
        cmocka_unit_test(on_foreign_memory_it_never_allocates),
        cmocka_unit_test(trimming_gives_back_only_what_an_empty_one_holds_beyond),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
