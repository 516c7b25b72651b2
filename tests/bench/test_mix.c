/* SPDX-License-Identifier: Apache-2.0 */
/* What a load calls, down to the bytes, and that it notices a wrong answer. */
#include "bench/mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void params_are_one_array_with_what_was_asked_for(void **state)
{
    static const unsigned char ints[] = {0x92, 0x07, 0xff};
    struct knit_mix mix;
    struct knit_mix_argument argument;
    size_t len;
    const unsigned char *params;
    uint64_t number;
    (void)state;
    assert_true(knit_mix_init(&mix, "empty,add(7,-1)*3,echo:0,echo:300*2"));
    assert_int_equal(mix.count, 4);
    assert_true(knit_mix_argument_init(&argument, &mix, 1));

    assert_string_equal(mix.tasks[0].name, "empty");
    params = knit_mix_params(&argument, 0, 5, &len);
    assert_int_equal(len, 1);
    assert_int_equal(params[0], 0x90);

    assert_string_equal(mix.tasks[1].name, "add");
    params = knit_mix_params(&argument, 1, 5, &len);
    assert_int_equal(len, sizeof(ints));
    assert_memory_equal(params, ints, sizeof(ints));

    params = knit_mix_params(&argument, 2, 5, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(params, "\x91\xc4\x00", 3);

    number = 0x1122334455667788;
    params = knit_mix_params(&argument, 3, number, &len);
    assert_int_equal(len, 1 + 3 + 300);
    assert_memory_equal(params, "\x91\xc5\x01\x2c", 4);
    assert_memory_equal(params + 4, &number, sizeof(number));
    knit_mix_argument_fini(&argument);
    knit_mix_fini(&mix);
}

static void a_text_is_text_and_has_its_calls_number(void **state)
{
    struct knit_mix mix;
    struct knit_mix_argument argument;
    unsigned char result[400];
    size_t len;
    const unsigned char *params;
    (void)state;
    assert_true(knit_mix_init(&mix, "echo:300t*2,echo:8"));
    assert_true(knit_mix_argument_init(&argument, &mix, 1));
    params = knit_mix_params(&argument, 0, 0x21, &len);
    assert_int_equal(len, 1 + 3 + 300);
    assert_memory_equal(params, "\x91\xda\x01\x2c", 4);
    for (size_t i = 4; i < len; i++)
        assert_in_range(params[i], 'a', 'z');
    memcpy(result, params + 1, --len);
    assert_true(knit_mix_check(&argument, 0, 0x21, result, len, true));
    assert_false(knit_mix_check(&argument, 0, 0x12, result, len, true));
    knit_mix_argument_fini(&argument);
    knit_mix_fini(&mix);
}

static void a_wrong_answer_is_noticed(void **state)
{
    struct knit_mix mix;
    struct knit_mix_argument argument;
    unsigned char result[400];
    size_t len;
    const unsigned char *params;
    (void)state;
    assert_true(knit_mix_init(&mix, "echo:300,sleep(1)"));
    assert_true(knit_mix_argument_init(&argument, &mix, 1));
    params = knit_mix_params(&argument, 0, 5, &len);
    memcpy(result, params + 1, --len);
    assert_true(knit_mix_check(&argument, 0, 5, result, len, true));
    assert_false(knit_mix_check(&argument, 0, 6, result, len, true));
    assert_false(knit_mix_check(&argument, 0, 5, result, len - 1, true));
    result[len - 1] ^= 1;
    assert_false(knit_mix_check(&argument, 0, 5, result, len, true));
    assert_true(knit_mix_check(&argument, 0, 5, result, len, false)); /* looks at the front only */
    result[20] ^= 1;
    assert_false(knit_mix_check(&argument, 0, 5, result, len, false));
    assert_true(knit_mix_check(&argument, 1, 5, "\xc0", 1, true));
    assert_false(knit_mix_check(&argument, 1, 5, "", 0, true));
    knit_mix_argument_fini(&argument);
    knit_mix_fini(&mix);
}

static void weights_are_kept(void **state)
{
    struct knit_mix mix;
    struct knit_mix_argument argument;
    uint32_t counts[2] = {0};
    (void)state;
    assert_true(knit_mix_init(&mix, "a*9,b"));
    assert_true(knit_mix_argument_init(&argument, &mix, 1));
    for (int i = 0; i < 10000; i++)
        counts[knit_mix_choose(&argument)]++;
    assert_in_range(counts[1], 900, 1100);
    knit_mix_argument_fini(&argument);
    knit_mix_fini(&mix);
}

static void bad_texts_are_refused_with_a_reason(void **state)
{
    static const char *const texts[] = {"", ",", "a,", "a:", "a:x", "a:-1", "a:99999999999", "a*",
        "a*0", "a(1", "a(1;2)", "a(1,2,3,4,5,6,7,8,9)", "a(1)x", ":64", "a b:"};
    struct knit_mix mix;
    static const char many[] = "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a";
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_false(knit_mix_init(&mix, texts[i]));
        assert_non_null(mix.flaw);
        knit_mix_fini(&mix);
    }
    assert_false(knit_mix_init(&mix, many));
    knit_mix_fini(&mix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(params_are_one_array_with_what_was_asked_for),
        cmocka_unit_test(a_text_is_text_and_has_its_calls_number),
        cmocka_unit_test(a_wrong_answer_is_noticed),
        cmocka_unit_test(weights_are_kept),
        cmocka_unit_test(bad_texts_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
