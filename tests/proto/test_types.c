/* SPDX-License-Identifier: Apache-2.0 */
/* That every row of the table is found by its name alone, and that the three lists agree where they
 * name the same thing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/types.h"

static void every_row_is_found_by_its_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < KNIT_TYPE_ROWS; i++) {
        const char *name = knit_types[i].name;
        bool is_typed_array = strchr(name, '[') != NULL;
        size_t len = strcspn(name, "[");

        assert_ptr_equal(knit_types_find(name, len, is_typed_array), &knit_types[i]);
        assert_null(knit_types_find(name, len, !is_typed_array));
    }
    assert_null(knit_types_find("", 0, false));
    assert_null(knit_types_find("", 0, true));
    assert_null(knit_types_find("i8[]", 4, true));
    assert_null(knit_types_find("int\0t", 5, false));
}

static void an_element_has_its_code_its_size_and_its_name(void **state)
{
    uint8_t body[2 + 8] = {0}, code, size;
    struct knit_span elements;
    unsigned found = 0;

    (void)state;
    for (size_t i = 0; i < KNIT_TYPE_ROWS; i++) {
        const struct knit_type_row *row = &knit_types[i];

        if (row->element_bytes == 0)
            continue;
        assert_int_equal(row->kind, KNIT_KIND_TYPED);
        assert_int_equal(row->code, ++found);
        assert_string_equal(knit_types_element_name((unsigned)row->code), row->name);
        body[0] = (uint8_t)row->code;
        assert_true(knit_check_typed(body, 2u + row->element_bytes, &code, &size, &elements));
        assert_int_equal(size, row->element_bytes);
        assert_int_equal(size * 8, strtol(row->name + 1, NULL, 10));
    }
    assert_int_equal(found + 1, KNIT_ELEMENT_CODES);
    assert_string_equal(knit_types_element_name(0), "typed array");
    assert_string_equal(knit_types_element_name(KNIT_ELEMENT_CODES), "typed array");
    assert_string_equal(knit_types_element_name(255), "typed array");
}

static void an_ext_is_called_in_signatures_as_in_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < KNIT_TYPE_ROWS; i++) {
        const struct knit_type_row *row = &knit_types[i];
        struct knit_head head = {.type = KNIT_HEAD_EXT, .ext = row->code};

        if (row->kind == KNIT_KIND_EXT || row->kind == KNIT_KIND_TIME)
            assert_string_equal(knit_head_name(&head), row->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found_by_its_name),
        cmocka_unit_test(an_element_has_its_code_its_size_and_its_name),
        cmocka_unit_test(an_ext_is_called_in_signatures_as_in_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
