/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a result that cannot be kept for lack of memory fails its call alone, and leaves its place
 * to others. Method: malloc refuses what is as long as the results, on the thread that calls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/pool.h>

/* HELD handles have results that stay where the worker put them: so many that others are copied. */
enum { RESULT_BYTES = 900, SLOTS = 16, HELD = SLOTS / 2, ROUNDS = 10 * SLOTS };

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

static _Thread_local bool is_refusing;
static _Thread_local int refused;

void *__wrap_malloc(size_t size)
{
    if (is_refusing && size >= RESULT_BYTES && size < RESULT_BYTES + 64) {
        refused++;
        return NULL;
    }
    return __real_malloc(size);
}

KNIT_TASK(fill, "fill(byte: int) -> bin")
{
    uint8_t bytes[RESULT_BYTES];

    memset(bytes, (int)knit_arg_int(call, 0), sizeof(bytes));
    return knit_return_bin(call, bytes, sizeof(bytes));
}

static void a_result_that_cannot_be_kept_fails_its_call_alone(void **state)
{
    const struct knit_open_options options = {.slots = SLOTS, .would_block = true};
    struct knit_pool *pool;
    struct knit *k;
    struct knit_handle *held[HELD];
    struct knit_error error;

    (void)state;
    assert_int_equal(knit_pool_open(NULL, &pool, &error), KNIT_OK);
    assert_int_equal(knit_pool_session(pool, &options, &k, &error), KNIT_OK);
    for (int i = 0; i < HELD; i++) {
        assert_int_equal(
            knit_start(k, NULL, &held[i], &error, "fill", "(int) -> bin", (int64_t)7), KNIT_OK);
        assert_int_equal(knit_await(held[i], 20000, &error), KNIT_OK);
    }
    for (int i = 0; i < ROUNDS; i++) {
        const bool is_lost = i % 10 != 9;
        struct knit_handle *handle;
        int code;

        assert_int_equal(
            knit_start(k, NULL, &handle, &error, "fill", "(int) -> bin", (int64_t)7), KNIT_OK);
        is_refusing = is_lost;
        code = knit_await(handle, 20000, &error);
        is_refusing = false;
        assert_int_equal(code, is_lost ? KNIT_INTERNAL : KNIT_OK);
        if (is_lost) {
            assert_int_equal(error.started, KNIT_STARTED_YES);
            assert_string_equal(error.message, "not enough memory to keep the outcome");
        }
        (void)knit_free(handle);
    }
    assert_true(refused >= ROUNDS - ROUNDS / 10);
    for (int i = 0; i < HELD; i++)
        (void)knit_free(held[i]);
    (void)knit_close(k);
    (void)knit_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_that_cannot_be_kept_fails_its_call_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
