/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an error that changes while it is read, as one in shared memory may, is read once. Method:
 * the session copies it into memory that it must ask for first; this program answers, and changes
 * the error then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"

/* [code, "text", {}], the code in two bytes. */
static uint8_t bytes[] = {0x93, 0xcd, 0, 0, 0xa4, 't', 'e', 'x', 't', 0x80};
static uint16_t code_then;
static bool is_refused;

static void set_code(uint16_t code)
{
    bytes[2] = (uint8_t)(code >> 8);
    bytes[3] = (uint8_t)code;
}

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    set_code(code_then);
    return is_refused ? NULL : __real_realloc(memory, size);
}

static int read_error(uint16_t first, uint16_t then, struct knit_error *ret_error)
{
    struct knit_buffer copy;
    int code;

    knit_buffer_init(&copy, 1024);
    set_code(first);
    code_then = then;
    code = knit_error_read(&copy, knit_span(bytes, sizeof(bytes)), ret_error);
    knit_buffer_fini(&copy);
    return code;
}

static void the_code_that_is_given_is_the_one_that_was_checked(void **state)
{
    static const uint16_t codes[] = {KNIT_TASK_FAILED, KNIT_OK, KNIT_PENDING, 99};
    struct knit_error error;

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        for (size_t j = 0; j < sizeof(codes) / sizeof(codes[0]); j++) {
            int code = read_error(codes[i], codes[j], &error);

            assert_true(code == KNIT_TASK_FAILED || code == KNIT_INTERNAL);
            assert_int_equal(error.code, code);
        }
    }
    assert_int_equal(read_error(KNIT_TASK_FAILED, KNIT_TASK_FAILED, &error), KNIT_TASK_FAILED);
    assert_string_equal(error.message, "text");
    assert_int_equal(read_error(KNIT_TASK_FAILED, KNIT_OK, NULL), KNIT_TASK_FAILED);
}

static void without_memory_there_is_a_code_and_no_more(void **state)
{
    struct knit_error error;

    (void)state;
    is_refused = true;
    assert_int_equal(read_error(KNIT_TASK_FAILED, KNIT_TASK_FAILED, &error), KNIT_TASK_FAILED);
    assert_null(error.details);
    assert_string_equal(error.message, "");
    assert_int_equal(read_error(KNIT_TASK_FAILED, KNIT_OK, &error), KNIT_INTERNAL);
    is_refused = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_code_that_is_given_is_the_one_that_was_checked),
        cmocka_unit_test(without_memory_there_is_a_code_and_no_more),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
