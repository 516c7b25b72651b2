/* SPDX-License-Identifier: Apache-2.0 */
/* Messages themselves are tested by the vectors. Here: the parts of them that are sent alone, room
 * that is too small at every size, and marks that do not belong to the bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"

enum { BUFFER_MAX = 1 << 20 };

static const struct knit_span params = {(const uint8_t *)"\x91\x07", 2};

static struct knit_method by_name(const char *name)
{
    return (struct knit_method){.name = knit_span_text(name)};
}

static void assert_holds(struct knit_buffer *buffer, const char *bytes, size_t len)
{
    assert_int_equal(buffer->error, 0);
    assert_int_equal(buffer->len, len);
    assert_memory_equal(buffer->bytes, bytes, len);
    knit_buffer_reset(buffer);
}

static void heads_leave_room_for_what_follows(void **state)
{
    const struct knit_method method = by_name("t");
    const struct knit_method number = {.id = 300};
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_int_equal(knit_message_put_request_head(&buffer, 5, &method, false), 0);
    assert_holds(&buffer, "\x94\x00\x05\xa1t", 5);
    assert_int_equal(knit_message_put_request_head(&buffer, 5, &number, true), 0);
    assert_holds(&buffer, "\x95\x00\x05\xcd\x01\x2c", 6);
    assert_int_equal(knit_message_put_response_head(&buffer, UINT32_MAX), 0);
    assert_int_equal(buffer.len, KNIT_MESSAGE_RESPONSE_HEAD_MAX);
    assert_holds(&buffer, "\x94\x01\xce\xff\xff\xff\xff\xc0", 8);
    knit_buffer_fini(&buffer);
}

static void options_are_sent_only_when_there_are_any(void **state)
{
    const struct knit_method method = by_name("t");
    struct knit_options options = knit_options();
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    knit_message_put_request(&buffer, 1, &method, params, NULL);
    assert_holds(&buffer, "\x94\x00\x01\xa1t\x91\x07", 7);
    knit_message_put_request(&buffer, 1, &method, params, &options);
    assert_holds(&buffer, "\x94\x00\x01\xa1t\x91\x07", 7);
    options.priority = 2;
    knit_message_put_request(&buffer, 1, &method, params, &options);
    assert_holds(&buffer, "\x95\x00\x01\xa1t\x91\x07\x81\xa8priority\x02", 18);
    knit_buffer_fini(&buffer);
}

static void an_error_goes_out_in_the_form_its_caller_reads(void **state)
{
    const struct knit_span compact = {(const uint8_t *)"\x93\xcd\x02\x58\xa2no\x80", 8};
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    knit_message_put_error_raw(&buffer, 1, compact, KNIT_FAILURE_PLAIN);
    assert_holds(&buffer,
        "\x94\x01\x01\xb3"
        "600 TASK_FAILED: no\xc0",
        24);
    knit_message_put_error_raw(&buffer, 1, compact, KNIT_FAILURE_COMPACT);
    assert_holds(&buffer, "\x94\x01\x01\x93\xcd\x02\x58\xa2no\x80\xc0", 12);
    knit_buffer_fini(&buffer);
}

/* One of each kind of message. */
static int put_any(struct knit_buffer *buffer, unsigned which)
{
    const struct knit_method method = by_name("method"), number = {.id = 70000};
    const struct knit_failure failure = knit_failure(KNIT_INTERNAL, "words");
    const struct knit_span raw = {(const uint8_t *)"\x93\xcd\x02\x58\xa2no\x80", 8};
    struct knit_options options = knit_options();

    options.timeout_ns = 5;
    options.key = knit_span_text("key");
    switch (which) {
    case 0:
        return knit_message_put_request(buffer, 70000, &method, params, &options);
    case 1:
        return knit_message_put_request(buffer, 70000, &number, params, NULL);
    case 2:
        return knit_message_put_request_head(buffer, 70000, &method, true);
    case 3:
        return knit_message_put_notification(buffer, &method, params);
    case 4:
        return knit_message_put_response_head(buffer, 70000);
    case 5:
        return knit_message_put_response(buffer, 70000, params);
    case 6:
        return knit_message_put_error(buffer, 70000, &failure, KNIT_FAILURE_FULL);
    case 7:
        return knit_message_put_error_raw(buffer, 70000, raw, KNIT_FAILURE_FULL);
    default:
        return knit_message_put_request(buffer, 70000, &method, params, NULL);
    }
}

/* However much room there is behind it. */
static void a_plain_request_is_the_same_in_a_tight_place(void **state)
{
    static const char *const names[] = {"", "t", "a_name_of_thirty-one_characters",
        "a_name_that_is_one_longer_than_a", "na\xc3\xafve"};
    const uint32_t msgids[] = {0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < 5 * sizeof(msgids) / sizeof(msgids[0]); i++) {
        const struct knit_method method = by_name(names[i % 5]);
        uint8_t tight_memory[64], wide_memory[128];
        struct knit_buffer tight, wide;

        knit_buffer_init_fixed(&wide, wide_memory, sizeof(wide_memory));
        assert_int_equal(knit_message_put_request(&wide, msgids[i / 5], &method, params, NULL), 0);
        assert_true(wide.len <= sizeof(tight_memory));
        knit_buffer_init_fixed(&tight, tight_memory, wide.len);
        assert_int_equal(knit_message_put_request(&tight, msgids[i / 5], &method, params, NULL), 0);
        assert_int_equal(tight.len, wide.len);
        assert_memory_equal(tight_memory, wide_memory, wide.len);
    }
}

static void a_name_that_is_no_text_is_not_sent(void **state)
{
    const struct knit_method method = by_name("\xff");
    uint8_t memory[64];
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init_fixed(&buffer, memory, sizeof(memory));
    assert_int_not_equal(knit_message_put_request(&buffer, 1, &method, params, NULL), 0);
    assert_int_equal(buffer.len, 0);
}

static void a_message_that_does_not_fit_leaves_nothing_behind(void **state)
{
    uint8_t memory[300];

    (void)state;
    for (unsigned which = 0; which < 9; which++) {
        struct knit_buffer buffer;
        size_t size = 3;
        int r;

        do {
            knit_buffer_init_fixed(&buffer, memory, size++);
            knit_buffer_append(&buffer, "abc", 3);
            r = put_any(&buffer, which);
            if (r) {
                assert_int_equal(r, KNIT_BUFFER_E_FULL);
                assert_int_equal(buffer.len, 3);
            }
        } while (r);
        assert_int_equal(buffer.len, size - 1);
        assert_true(size > 7);
    }
}

static void a_name_that_is_not_utf8_is_not_sent(void **state)
{
    const struct knit_method method = by_name("\xff");
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_true(knit_message_put_notification(&buffer, &method, params) < 0);
    assert_int_equal(buffer.len, 0);
    knit_buffer_fini(&buffer);
}

static void marks_must_belong_to_the_bytes(void **state)
{
    static const char bytes[] = "\x94\x00\x01\xa1t\x91\x07";
    struct knit_message message;
    struct knit_scan scan;
    const char *reason = NULL;
    size_t used;

    (void)state;
    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_message_parse(bytes, 0, &scan, &message, &reason), KNIT_MESSAGE_E_BAD);
    assert_int_equal(knit_scan_feed(&scan, bytes, 7, &used), KNIT_SCAN_E_DONE);
    assert_int_equal(knit_message_parse(bytes, 6, &scan, &message, &reason), KNIT_MESSAGE_E_BAD);
    assert_string_equal(reason, "a message's marks do not match its bytes");
    assert_int_equal(knit_message_parse(bytes, 7, &scan, &message, &reason), 0);
    assert_true(knit_span_is(message.method.name, "t"));
    assert_null(message.options.bytes);
    scan.element[3] = scan.element[2];
    assert_int_equal(knit_message_parse(bytes, 7, &scan, &message, &reason), KNIT_MESSAGE_E_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_leave_room_for_what_follows),
        cmocka_unit_test(options_are_sent_only_when_there_are_any),
        cmocka_unit_test(an_error_goes_out_in_the_form_its_caller_reads),
        cmocka_unit_test(a_plain_request_is_the_same_in_a_tight_place),
        cmocka_unit_test(a_name_that_is_no_text_is_not_sent),
        cmocka_unit_test(a_message_that_does_not_fit_leaves_nothing_behind),
        cmocka_unit_test(a_name_that_is_not_utf8_is_not_sent),
        cmocka_unit_test(marks_must_belong_to_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
