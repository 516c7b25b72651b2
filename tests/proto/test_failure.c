/* SPDX-License-Identifier: Apache-2.0 */
/* The three forms are tested by the vectors. Here: every code, texts that do not fit, details that
 * are not what they should be, forms of other servers, and room that is too small.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/failure.h"
#include "proto/limits.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 1 << 20 };

static struct knit_failure decode(const struct knit_buffer *bytes)
{
    struct knit_failure failure;

    assert_int_equal(knit_check_value(bytes->bytes, bytes->len, KNIT_DEPTH_MAX, NULL), 0);
    assert_int_equal(knit_failure_decode(knit_buffer_span(bytes), &failure), 0);
    return failure;
}

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

static void every_code_travels_in_every_form(void **state)
{
    static const uint32_t codes[] = {
#define CODE(code, name, retryable, started) code,
        KNIT_CODES(CODE)
#undef CODE
    };

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        for (int form = KNIT_FAILURE_COMPACT; form <= KNIT_FAILURE_PLAIN; form++) {
            struct knit_failure failure = knit_failure(codes[i], "words");
            struct knit_buffer bytes;

            knit_buffer_init(&bytes, BUFFER_MAX);
            assert_int_equal(knit_failure_put(&bytes, &failure, (enum knit_failure_form)form), 0);
            failure = decode(&bytes);
            assert_int_equal(failure.code, codes[i]);
            assert_true(knit_span_is(failure.message, "words"));
            assert_int_equal(failure.started, knit_failure_started(codes[i]));
            assert_int_equal(failure.is_retryable, knit_failure_is_retryable(codes[i]));
            assert_int_equal(failure.origin, knit_failure_origin(codes[i]));
            knit_buffer_fini(&bytes);
        }
    }
    assert_string_equal(knit_failure_name(KNIT_TOO_DEEP), "TOO_DEEP");
    assert_string_equal(knit_failure_name(7), "UNKNOWN");
    assert_int_equal(knit_failure_origin(KNIT_BAD_ARGUMENT), KNIT_ORIGIN_SERVER);
    assert_int_equal(knit_failure_origin(KNIT_WORKER_DIED), KNIT_ORIGIN_WORKER);
    assert_int_equal(knit_failure_origin(KNIT_TASK_FAILED), KNIT_ORIGIN_TASK);
    assert_string_equal(knit_failure_origin_name(KNIT_ORIGIN_CLIENT), "client");
}

static void a_message_too_long_is_cut_between_characters_with_a_mark(void **state)
{
    /* Euro signs, three bytes each. */
    static char text[3 * 1400 + 1];
    struct knit_failure failure;
    struct knit_buffer bytes;

    (void)state;
    for (size_t i = 0; i < 1400; i++)
        memcpy(text + 3 * i, "\xe2\x82\xac", 3);
    failure = knit_failure(KNIT_INTERNAL, text);
    knit_buffer_init(&bytes, BUFFER_MAX);
    assert_int_equal(knit_failure_put(&bytes, &failure, KNIT_FAILURE_FULL), 0);
    failure = decode(&bytes);
    assert_int_equal(failure.message.len, 4096 - 6 - (4096 - 6) % 3 + 6);
    assert_memory_equal(failure.message.bytes + failure.message.len - 6, " [cut]", 6);
    knit_buffer_reset(&bytes);
    failure = knit_failure(KNIT_INTERNAL, NULL);
    failure.message = knit_span(text, 4095);
    assert_int_equal(knit_failure_put(&bytes, &failure, KNIT_FAILURE_PLAIN), 0);
    failure = decode(&bytes);
    assert_int_equal(failure.message.len, 4095);
    knit_buffer_fini(&bytes);
}

static void what_is_not_utf8_is_replaced(void **state)
{
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "\xff"
                                                              "a\xe2\x82"
                                                              "b\x80");
    struct knit_buffer bytes;

    (void)state;
    failure.task = knit_span("t\xff", 2);
    failure.stack = knit_span_text("s");
    knit_buffer_init(&bytes, BUFFER_MAX);
    assert_int_equal(knit_failure_put(&bytes, &failure, KNIT_FAILURE_COMPACT), 0);
    failure = decode(&bytes);
    assert_true(knit_span_is(failure.message, "?a??b?"));
    assert_true(knit_span_is(failure.task, "t?"));
    assert_true(knit_span_is(failure.stack, "s"));
    knit_buffer_fini(&bytes);
}

static void details_that_cannot_be_put_do_not_lose_the_error(void **state)
{
    uint8_t deep[40];
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "words");
    struct knit_buffer bytes;

    (void)state;
    memset(deep, 0x91, sizeof(deep));
    deep[31] = 0xc0;
    failure.data = knit_span(deep, 32);
    failure.cause = knit_span("\xc1", 1);
    failure.limit = 5;
    knit_buffer_init(&bytes, BUFFER_MAX);
    assert_int_equal(knit_failure_put(&bytes, &failure, KNIT_FAILURE_FULL), 0);
    failure = decode(&bytes);
    assert_null(failure.data.bytes);
    assert_null(failure.cause.bytes);
    assert_int_equal(failure.limit, 5);
    knit_buffer_reset(&bytes);
    assert_int_equal(
        knit_failure_put_task(&bytes, 3, knit_span_text("no"), knit_span(deep, 32)), 0);
    failure = decode(&bytes);
    assert_true(knit_span_is(failure.message, "no"));
    knit_buffer_fini(&bytes);
}

static void a_tasks_own_code_and_value_come_back(void **state)
{
    struct knit_failure failure;
    struct knit_buffer bytes;
    struct knit_span value;
    int64_t code;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    assert_int_equal(
        knit_failure_put_task(&bytes, -7, knit_span_text("no"), knit_span("\x92\x01\x02", 3)), 0);
    failure = decode(&bytes);
    assert_int_equal(failure.code, KNIT_TASK_FAILED);
    assert_true(knit_failure_task_data(&failure, &code, &value));
    assert_true(code == -7);
    assert_int_equal(value.len, 3);
    knit_buffer_reset(&bytes);
    assert_int_equal(
        knit_failure_put_task(&bytes, 8, (struct knit_span){0}, (struct knit_span){0}), 0);
    failure = decode(&bytes);
    assert_int_equal(failure.message.len, 0);
    assert_true(knit_failure_task_data(&failure, &code, &value));
    assert_true(code == 8);
    assert_null(value.bytes);
    failure.data = knit_span("\x81\xa1x\x01", 4);
    assert_false(knit_failure_task_data(&failure, &code, &value));
    failure.data = knit_span("\x81\xa4"
                             "code\xc0",
        7);
    assert_false(knit_failure_task_data(&failure, &code, &value));
    failure.data = (struct knit_span){0};
    assert_false(knit_failure_task_data(&failure, &code, &value));
    knit_buffer_fini(&bytes);
}

static void texts_of_other_servers_are_a_tasks_failure(void **state)
{
    static const struct {
        const char *notation;
        uint32_t code;
        const char *message;
    } texts[] = {
        {"\"it broke\"", KNIT_TASK_FAILED, "it broke"},
        {"h'6f6f7073'", KNIT_TASK_FAILED, "oops"},
        {"\"\"", KNIT_TASK_FAILED, ""},
        {"\"303 TIMEOUT: late\"", KNIT_TIMEOUT, "late"},
        {"\"303 TIMEOUT:late\"", KNIT_TIMEOUT, "late"},
        {"\"303 TIMEOUT:\"", KNIT_TIMEOUT, ""},
        {"\"303 LATE: late\"", KNIT_TASK_FAILED, "303 LATE: late"},
        {"\"999 NEW: x\"", KNIT_TASK_FAILED, "999 NEW: x"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct knit_failure failure;
        struct knit_buffer bytes;

        encode(texts[i].notation, &bytes);
        failure = decode(&bytes);
        assert_int_equal(failure.code, texts[i].code);
        assert_true(knit_span_is(failure.message, texts[i].message));
        knit_buffer_fini(&bytes);
    }
}

static void details_of_wrong_types_are_passed_over(void **state)
{
    struct knit_failure failure;
    struct knit_buffer bytes;

    (void)state;
    encode(
        "[200, \"m\", {\"name\": 1, \"started\": \"perhaps\", \"retryable\": 1, \"origin\": nil, "
        "\"task\": 2, \"lane\": -1, \"signal\": 4294967296, \"retry_after_ms\": \"x\", "
        "\"limit\": nil, \"actual\": 1.5, \"stack\": [], \"new\": {}, 7: 8}]",
        &bytes);
    failure = decode(&bytes);
    assert_null(failure.name.bytes);
    assert_int_equal(failure.started, KNIT_STARTED_NO);
    assert_true(failure.is_retryable);
    assert_int_equal(failure.origin, KNIT_ORIGIN_SERVER);
    assert_null(failure.task.bytes);
    assert_null(failure.stack.bytes);
    assert_int_equal(failure.signal, 0);
    assert_true(failure.lane == KNIT_FAILURE_NONE && failure.limit == KNIT_FAILURE_NONE);
    assert_true(failure.actual == KNIT_FAILURE_NONE);
    assert_true(failure.retry_after_ms == KNIT_FAILURE_NONE);
    knit_buffer_fini(&bytes);
}

static void the_name_of_a_code_not_known_is_kept(void **state)
{
    struct knit_failure failure;
    struct knit_buffer bytes, again;

    (void)state;
    encode("[777, \"m\", {\"name\": \"NEWER\", \"started\": \"yes\"}]", &bytes);
    knit_buffer_init(&again, BUFFER_MAX);
    assert_int_equal(knit_failure_convert(&again, knit_buffer_span(&bytes), KNIT_FAILURE_FULL), 0);
    failure = decode(&again);
    assert_true(knit_span_is(failure.name, "NEWER"));
    assert_int_equal(failure.started, KNIT_STARTED_YES);
    knit_buffer_fini(&bytes);
    knit_buffer_fini(&again);
}

static void what_is_no_error_becomes_internal(void **state)
{
    static const char *const values[] = {"[]", "[1, \"m\"]", "[1, \"m\", {}, 1]", "[\"m\", 1, {}]",
        "[1, 2, {}]", "[1, \"m\", []]", "7", "{}", "[4294967296, \"m\", {}]", "nil"};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct knit_failure failure;
        struct knit_buffer bytes, made;

        encode(values[i], &bytes);
        assert_int_equal(
            knit_failure_decode(knit_buffer_span(&bytes), &failure), KNIT_FAILURE_E_BAD);
        knit_buffer_init(&made, BUFFER_MAX);
        assert_int_equal(
            knit_failure_convert(&made, knit_buffer_span(&bytes), KNIT_FAILURE_FULL), 0);
        failure = decode(&made);
        assert_int_equal(failure.code, KNIT_INTERNAL);
        knit_buffer_fini(&bytes);
        knit_buffer_fini(&made);
    }
}

/* Bytes that are no msgpack behind the front do no harm: they are not looked at. */
static void a_long_error_is_converted_by_its_front(void **state)
{
    static const char *const values[] = {"[600, \"m\", {\"data\": {\"code\": 7}}]",
        "[600, \"m\", {\"task\": \"t\", \"lane\": 3, \"data\": [1, 2]}]",
        "[600, \"m\", {\"output\": [h'6869', true], \"data\": {\"code\": 7}}]",
        "[402, \"m\", {\"task\": \"t\", \"output\": [h'6869', true]}]",
        "[777, \"m\", {\"name\": \"NEWER\", \"data\": nil}]"};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (int form = KNIT_FAILURE_COMPACT; form <= KNIT_FAILURE_PLAIN; form++) {
            struct knit_buffer bytes, whole, made;
            size_t data_at;

            encode(values[i], &bytes);
            knit_buffer_init(&whole, BUFFER_MAX);
            knit_buffer_init(&made, BUFFER_MAX);
            assert_int_equal(knit_failure_convert(&whole, knit_buffer_span(&bytes), form), 0);
            data_at = knit_failure_convert_front(&made, knit_buffer_span(&bytes), form);
            assert_int_equal(data_at == 0, form == KNIT_FAILURE_PLAIN);
            if (data_at != 0)
                knit_buffer_append(&made, bytes.bytes + data_at, bytes.len - data_at);
            assert_int_equal(made.len, whole.len);
            assert_memory_equal(made.bytes, whole.bytes, whole.len);
            knit_buffer_fini(&bytes);
            knit_buffer_fini(&whole);
            knit_buffer_fini(&made);
        }
    }
}

/* Of any length, and with details in another order than ours. */
static void a_front_without_the_place_of_its_data_becomes_internal(void **state)
{
    static const char *const others[] = {"[600, \"m\", {\"data\": 1, \"lane\": 3}]",
        "[600, \"m\", {\"data\": 1, \"output\": [h'6869', true]}]"};
    struct knit_buffer bytes, made;
    size_t data_at, found_at;

    (void)state;
    encode("[600, \"m\", {\"lane\": 3, \"data\": 1}]", &bytes);
    knit_buffer_init(&made, BUFFER_MAX);
    found_at = knit_failure_convert_front(&made, knit_buffer_span(&bytes), KNIT_FAILURE_FULL);
    assert_int_equal(found_at, bytes.len - 1);
    for (size_t len = 0; len < found_at; len++) {
        knit_buffer_reset(&made);
        data_at = knit_failure_convert_front(&made, knit_span(bytes.bytes, len), KNIT_FAILURE_FULL);
        assert_int_equal(data_at, 0);
        assert_int_equal(decode(&made).code, KNIT_INTERNAL);
    }
    knit_buffer_fini(&bytes);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        encode(others[i], &bytes);
        knit_buffer_reset(&made);
        data_at = knit_failure_convert_front(&made, knit_buffer_span(&bytes), KNIT_FAILURE_FULL);
        assert_int_equal(data_at, 0);
        assert_int_equal(decode(&made).code, KNIT_INTERNAL);
        knit_buffer_fini(&bytes);
    }
    knit_buffer_fini(&made);
}

/* What is handed on would stand where a detail was dropped. */
static void a_front_with_a_detail_that_is_nested_too_deep_is_whole_without_its_data(void **state)
{
    enum { DEEPER = KNIT_DEPTH_MAX - 1 };
    struct knit_buffer bytes, made;
    size_t at = 0;

    (void)state;
    encode("[600, \"m\", {\"cause\": nil, \"data\": 1}]", &bytes);
    while (memcmp(bytes.bytes + at, "cause", 5) != 0)
        at++;
    at += 5;
    knit_buffer_append(&bytes, (uint8_t[DEEPER]){0}, DEEPER);
    memmove(bytes.bytes + at + DEEPER, bytes.bytes + at, bytes.len - DEEPER - at);
    memset(bytes.bytes + at, 0x91, DEEPER);
    knit_buffer_init(&made, BUFFER_MAX);
    assert_int_equal(
        knit_failure_convert_front(&made, knit_buffer_span(&bytes), KNIT_FAILURE_FULL), 0);
    assert_int_equal(decode(&made).code, 600);
    knit_buffer_fini(&bytes);
    knit_buffer_fini(&made);
}

static void what_is_cut_short_is_no_error_at_any_length(void **state)
{
    struct knit_failure failure;
    struct knit_buffer bytes;

    (void)state;
    encode("[200, \"m\", {\"limit\": 5, \"data\": [1, 2]}]", &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(
            knit_failure_decode(knit_span(bytes.bytes, len), &failure), KNIT_FAILURE_E_BAD);
    knit_buffer_append(&bytes, "x", 1);
    assert_int_equal(knit_failure_decode(knit_buffer_span(&bytes), &failure), KNIT_FAILURE_E_BAD);
    knit_buffer_fini(&bytes);
    assert_int_equal(knit_failure_decode(knit_span("\xa3x", 2), &failure), KNIT_FAILURE_E_BAD);
}

static void room_that_is_too_small_is_said(void **state)
{
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "words");
    uint8_t memory[200];
    struct knit_buffer buffer;

    (void)state;
    failure.data = knit_span("\x92\x01\x02", 3);
    for (int form = KNIT_FAILURE_COMPACT; form <= KNIT_FAILURE_PLAIN; form++) {
        size_t size = 0;
        int r;

        do {
            knit_buffer_init_fixed(&buffer, memory, size++);
            r = knit_failure_put(&buffer, &failure, (enum knit_failure_form)form);
            if (r) {
                assert_int_equal(r, KNIT_BUFFER_E_FULL);
                assert_int_equal(buffer.len, 0);
                assert_int_equal(
                    knit_failure_put_task(&buffer, 1, failure.message, failure.data), r);
            }
        } while (r);
    }
    /* An error from before is handed on, whatever kind it is. */
    buffer.error = -EINVAL;
    assert_int_equal(knit_failure_put(&buffer, &failure, KNIT_FAILURE_FULL), -EINVAL);
    assert_int_equal(knit_failure_put_task(&buffer, 1, failure.message, failure.data), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_travels_in_every_form),
        cmocka_unit_test(a_message_too_long_is_cut_between_characters_with_a_mark),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(details_that_cannot_be_put_do_not_lose_the_error),
        cmocka_unit_test(a_tasks_own_code_and_value_come_back),
        cmocka_unit_test(texts_of_other_servers_are_a_tasks_failure),
        cmocka_unit_test(details_of_wrong_types_are_passed_over),
        cmocka_unit_test(the_name_of_a_code_not_known_is_kept),
        cmocka_unit_test(what_is_no_error_becomes_internal),
        cmocka_unit_test(a_long_error_is_converted_by_its_front),
        cmocka_unit_test(a_front_without_the_place_of_its_data_becomes_internal),
        cmocka_unit_test(a_front_with_a_detail_that_is_nested_too_deep_is_whole_without_its_data),
        cmocka_unit_test(what_is_cut_short_is_no_error_at_any_length),
        cmocka_unit_test(room_that_is_too_small_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
