/* SPDX-License-Identifier: Apache-2.0 */
/* One message, its outline and its options. Oracle: what was read, written again and read again is
 * the same.
 */
#include <string.h>

#include "proto/message.h"
#include "tests/fuzz/target.h"

enum { BUFFER_MAX = 1 << 24 };

static int parse(const uint8_t *bytes, size_t len, struct knit_message *ret_message)
{
    struct knit_scan scan;
    const char *reason = NULL;
    size_t used;
    int r;

    knit_scan_init(&scan, NULL);
    if (knit_scan_feed(&scan, bytes, len, &used) != KNIT_SCAN_E_DONE)
        return 1;
    r = knit_message_parse(bytes, used, &scan, ret_message, &reason);
    KNIT_FUZZ_CHECK((r != 0) == (reason != NULL));
    return r;
}

static void assert_span(struct knit_span a, struct knit_span b)
{
    KNIT_FUZZ_CHECK(a.len == b.len && (a.bytes == NULL) == (b.bytes == NULL));
    KNIT_FUZZ_CHECK(a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

/* Of the timeout alone the short way says what the table of options says. */
static void check_timeout(struct knit_span map)
{
    uint64_t timeout_ns = knit_options_timeout_alone(map);
    struct knit_options options;
    const char *reason;

    if (timeout_ns == KNIT_OPTION_NONE)
        return;
    KNIT_FUZZ_CHECK(knit_options_decode(map, &options, &reason) == 0);
    KNIT_FUZZ_CHECK(options.timeout_ns == timeout_ns);
    options.timeout_ns = KNIT_OPTION_NONE;
    KNIT_FUZZ_CHECK(knit_options_is_empty(&options));
}

static int write_again(const struct knit_message *message, struct knit_buffer *buffer)
{
    struct knit_options options;
    const char *reason = NULL;

    if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        return knit_message_put_notification(buffer, &message->method, message->params);
    if (message->kind == KNIT_MESSAGE_RESPONSE && message->error.bytes != NULL)
        return knit_message_put_error_raw(
            buffer, message->msgid, message->error, KNIT_FAILURE_FULL);
    if (message->kind == KNIT_MESSAGE_RESPONSE)
        return knit_message_put_response(buffer, message->msgid, message->result);
    if (message->options.bytes != NULL)
        check_timeout(message->options);
    if (knit_options_decode(message->options, &options, &reason)) {
        KNIT_FUZZ_CHECK(reason != NULL);
        options = knit_options();
    }
    return knit_message_put_request(
        buffer, message->msgid, &message->method, message->params, &options);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_message message, again;
    struct knit_buffer buffer;

    if (parse(bytes, len, &message))
        return 0;
    knit_buffer_init(&buffer, BUFFER_MAX);
    if (write_again(&message, &buffer) == 0) {
        KNIT_FUZZ_CHECK(parse(buffer.bytes, buffer.len, &again) == 0);
        KNIT_FUZZ_CHECK(message.kind == again.kind && message.msgid == again.msgid);
        assert_span(message.method.name, again.method.name);
        KNIT_FUZZ_CHECK(message.method.id == again.method.id);
        assert_span(message.params, again.params);
        assert_span(message.result, again.result);
        KNIT_FUZZ_CHECK((message.error.bytes == NULL) == (again.error.bytes == NULL));
    }
    knit_buffer_fini(&buffer);
    return 0;
}
