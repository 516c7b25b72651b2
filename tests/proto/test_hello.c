/* SPDX-License-Identifier: Apache-2.0 */
/* What is good and bad is tested by the vectors. Here: params that are not one map, bytes that are
 * cut short, and more features than are kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/hello.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 1 << 20 };

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

static void params_must_be_one_map(void **state)
{
    static const char *const values[] = {"[]", "[1]", "[{\"name\": \"a\"}, 1]", "{}", "nil"};
    struct knit_hello hello;
    struct knit_buffer bytes;
    const char *reason;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        encode(values[i], &bytes);
        assert_int_equal(
            knit_hello_decode(knit_buffer_span(&bytes), &hello, &reason), KNIT_HELLO_E_BAD);
        assert_memory_equal(reason, "params must", 11);
        knit_buffer_fini(&bytes);
    }
}

static void nil_stands_for_what_may_be_absent(void **state)
{
    struct knit_hello_reply reply;
    struct knit_hello hello;
    struct knit_buffer bytes;
    const char *reason;

    (void)state;
    encode("[{\"name\": \"a\", \"version\": nil, \"token\": nil}]", &bytes);
    assert_int_equal(knit_hello_decode(knit_buffer_span(&bytes), &hello, &reason), 0);
    assert_null(hello.version.bytes);
    assert_null(hello.token.bytes);
    knit_buffer_fini(&bytes);
    encode("{\"server\": \"s\", \"protocol\": 1, \"principal\": nil}", &bytes);
    assert_int_equal(knit_hello_reply_decode(knit_buffer_span(&bytes), &reply, &reason), 0);
    assert_null(reply.principal.bytes);
    knit_buffer_fini(&bytes);
}

static void what_is_cut_short_is_refused_at_every_length(void **state)
{
    struct knit_hello_reply reply;
    struct knit_hello hello;
    struct knit_buffer bytes;
    const char *reason;

    (void)state;
    encode("[{\"version\": \"1\", \"name\": \"a\"}]", &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(
            knit_hello_decode(knit_span(bytes.bytes, len), &hello, &reason), KNIT_HELLO_E_BAD);
    knit_buffer_fini(&bytes);
    encode(
        "{\"server\": \"s\", \"protocol\": 1, \"limits\": {\"depth\": 5}, \"features\": [\"a\"]}",
        &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(knit_hello_reply_decode(knit_span(bytes.bytes, len), &reply, &reason),
            KNIT_HELLO_E_BAD);
    knit_buffer_fini(&bytes);
}

static void texts_are_checked(void **state)
{
    struct knit_hello hello;
    const char *reason;

    (void)state;
    assert_int_equal(knit_hello_decode(knit_span("\x91\x81\xa4name\xa1\xff", 9), &hello, &reason),
        KNIT_HELLO_E_BAD);
}

static void more_features_than_are_kept_are_dropped(void **state)
{
    struct knit_hello_reply reply = {
        .server = knit_span_text("s"), .version = knit_span_text("1"), .protocol = 1};
    struct knit_buffer bytes;
    const char *reason;
    uint8_t *more;

    (void)state;
    for (uint32_t i = 0; i < KNIT_HELLO_FEATURES_MAX; i++)
        reply.feature[i] = knit_span_text("p");
    reply.feature_count = KNIT_HELLO_FEATURES_MAX;
    knit_buffer_init(&bytes, BUFFER_MAX);
    assert_int_equal(knit_hello_reply_put(&bytes, &reply), 0);
    more = memmem(bytes.bytes, bytes.len, "\xdc\x00\x20", 3);
    assert_non_null(more);
    more[2]++;
    assert_int_equal(knit_buffer_append(&bytes, "\xa1q", 2), 0);
    assert_int_equal(knit_hello_reply_decode(knit_buffer_span(&bytes), &reply, &reason), 0);
    assert_int_equal(reply.feature_count, KNIT_HELLO_FEATURES_MAX);
    assert_true(knit_hello_reply_has(&reply, "p"));
    assert_false(knit_hello_reply_has(&reply, "q"));
    knit_buffer_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(params_must_be_one_map),
        cmocka_unit_test(nil_stands_for_what_may_be_absent),
        cmocka_unit_test(what_is_cut_short_is_refused_at_every_length),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(more_features_than_are_kept_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
