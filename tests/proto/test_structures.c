/* SPDX-License-Identifier: Apache-2.0 */
/* `$/attach`, `$/cancel` and `$/goaway`: the vectors of PROTOCOL.md, and bytes that are cut short.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/attach.h"
#include "proto/cancel.h"
#include "proto/goaway.h"
#include "proto/progress.h"
#include "tests/proto/block.h"
#include "tests/proto/notation.h"
#include "tests/support/scratch.h"

enum { BUFFER_MAX = 1 << 20 };

static char *specification;

static void encode(const char *text, struct knit_buffer *buffer)
{
    knit_buffer_init(buffer, BUFFER_MAX);
    knit_notation_encode_all(text, buffer);
}

/* The params array of a method that takes one value. */
static void wrap(struct knit_span value, struct knit_buffer *params)
{
    knit_buffer_init(params, BUFFER_MAX);
    knit_buffer_append(params, "\x91", 1);
    knit_buffer_append(params, value.bytes, value.len);
}

static void check_attach_request(struct knit_span value, const char *expected, bool is_good)
{
    struct knit_attach_request request;
    struct knit_buffer params;
    const char *reason = "";
    char text[128];

    wrap(value, &params);
    assert_int_equal(knit_attach_request_decode(knit_buffer_span(&params), &request, &reason),
        is_good ? 0 : KNIT_ATTACH_E_BAD);
    if (is_good) {
        knit_buffer_reset(&params);
        assert_int_equal(knit_attach_request_put(&params, &request), 0);
        assert_int_equal(
            knit_attach_request_decode(knit_buffer_span(&params), &request, &reason), 0);
        snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
            request.version, request.slots, request.arena_bytes, request.features, request.classes);
        reason = text;
    }
    assert_string_equal(reason, expected);
    knit_buffer_fini(&params);
}

static void print_attach_reply(FILE *to, const struct knit_attach_reply *reply)
{
    const uint64_t numbers[] = {reply->layout, reply->id, reply->lanes, reply->slots, reply->cells,
        reply->request_arena_bytes, reply->reply_arena_bytes, reply->call_max_bytes,
        reply->features, reply->classes};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i] == KNIT_ATTACH_UNUSABLE)
            fputs(i > 0 ? " -" : "-", to);
        else
            fprintf(to, i > 0 ? " %" PRIu64 : "%" PRIu64, numbers[i]);
    }
    fputs(reply->steal ? " steal" : "", to);
    fputs(reply->asks_host ? " asks_host" : "", to);
    if (reply->balancer.len != 0)
        fprintf(
            to, " balancer %.*s", (int)reply->balancer.len, (const char *)reply->balancer.bytes);
    if (reply->clock != KNIT_ATTACH_UNUSABLE)
        fprintf(to, " clock %" PRIu64, reply->clock);
}

static void check_attach_reply(struct knit_span result, const char *expected)
{
    struct knit_attach_reply reply, again;
    struct knit_buffer buffer;
    char *text;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    knit_attach_reply_decode(result, &reply);
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_int_equal(knit_attach_reply_put(&buffer, &reply), 0);
    knit_attach_reply_decode(knit_buffer_span(&buffer), &again);
    print_attach_reply(to, &again);
    fclose(to);
    assert_string_equal(text, expected);
    free(text);
    knit_buffer_fini(&buffer);
}

static void attach_is_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes;
    struct knit_block block;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "attach");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';
        bool is_request = strncmp(block.line, "request ", 8) == 0;

        encode(block.line + (is_request ? 8 : 6), &bytes);
        if (is_request)
            check_attach_request(knit_buffer_span(&bytes), text, is_good);
        else
            check_attach_reply(knit_buffer_span(&bytes), text);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void cancel_is_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes, written;
    struct knit_span reason, again;
    struct knit_block block;
    uint32_t msgid;
    char *text, *said, *shown;

    (void)state;
    knit_block_open(&block, specification, "cancel");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';

        encode(block.line, &bytes);
        assert_int_equal(knit_cancel_decode(knit_buffer_span(&bytes), &msgid, &reason), is_good);
        if (is_good) {
            assert_int_equal(msgid, strtoull(text, &said, 10));
            assert_int_equal(reason.bytes != NULL, *said == ' ');
            knit_buffer_init(&written, BUFFER_MAX);
            assert_int_equal(knit_cancel_put(&written, msgid, reason), 0);
            assert_true(knit_cancel_decode(knit_buffer_span(&written), &msgid, &again));
            assert_int_equal(msgid, strtoull(text, NULL, 10));
            assert_int_equal(again.len, reason.len);
            if (reason.bytes != NULL) {
                assert_memory_equal(again.bytes, reason.bytes, reason.len);
                shown = knit_notation_print(reason);
                assert_string_equal(said + 1, shown);
                free(shown);
            }
            knit_buffer_fini(&written);
        }
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void check_progress(struct knit_span params, const char *expected, bool is_good)
{
    struct knit_progress progress;
    struct knit_buffer written;
    char text[256];
    int at;

    assert_int_equal(knit_progress_decode(params, &progress), is_good);
    if (!is_good)
        return;
    at = snprintf(text, sizeof(text), "%" PRIu32 " %" PRIu64 " ", progress.msgid, progress.count);
    for (size_t i = 0; i < progress.value.len; i++)
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%02x", progress.value.bytes[i]);
    assert_string_equal(text, expected);
    knit_buffer_init(&written, 1024);
    assert_int_equal(knit_progress_put(&written, &progress), 0);
    assert_true(written.len <= KNIT_PROGRESS_MESSAGE_MAX);
    /* [2, "$/progress", params], and nothing behind the count. */
    assert_memory_equal(written.bytes, "\x93\x02\xaa$/progress", 13);
    assert_true(knit_progress_decode(knit_span(written.bytes + 13, written.len - 13), &progress));
    knit_buffer_fini(&written);
}

static void progress_is_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes;
    struct knit_block block;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "progress");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';

        encode(block.line, &bytes);
        check_progress(knit_buffer_span(&bytes), text, is_good);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void a_value_of_progress_is_one_and_not_too_long(void **state)
{
    uint8_t bytes[KNIT_PROGRESS_BYTES_MAX + 1] = {0xd9};

    (void)state;
    bytes[1] = sizeof(bytes) - 3;
    memset(bytes + 2, 'x', sizeof(bytes) - 2);
    assert_true(knit_progress_check(knit_span(bytes, sizeof(bytes) - 1)));
    bytes[1]++;
    assert_false(knit_progress_check(knit_span(bytes, sizeof(bytes))));
    assert_false(knit_progress_check(knit_span(bytes, sizeof(bytes) - 1)));
    assert_false(knit_progress_check(knit_span(bytes, 0)));
    assert_false(knit_progress_check(knit_span("\xc0\xc0", 2)));
}

static void check_goaway(struct knit_span value, const char *expected, bool is_good)
{
    struct knit_goaway goaway;
    struct knit_buffer params;
    const char *reason = "";
    char text[128];

    wrap(value, &params);
    assert_int_equal(knit_goaway_decode(knit_buffer_span(&params), &goaway, &reason),
        is_good ? 0 : KNIT_GOAWAY_E_BAD);
    if (is_good) {
        knit_buffer_reset(&params);
        assert_int_equal(knit_goaway_put(&params, &goaway), 0);
        assert_int_equal(knit_goaway_decode(knit_buffer_span(&params), &goaway, &reason), 0);
        snprintf(text, sizeof(text), "%" PRIu64 "%s%.*s", goaway.drain_ms,
            goaway.reason.bytes != NULL ? " " : "", (int)goaway.reason.len,
            goaway.reason.bytes != NULL ? (const char *)goaway.reason.bytes : "");
        reason = text;
    }
    assert_string_equal(reason, expected);
    knit_buffer_fini(&params);
}

static void goaway_is_read_and_written_as_specified(void **state)
{
    struct knit_buffer bytes;
    struct knit_block block;
    char *text;

    (void)state;
    knit_block_open(&block, specification, "goaway");
    while (knit_block_next(&block)) {
        bool is_good = knit_block_split(block.line, "=!", &text) == '=';

        encode(block.line, &bytes);
        check_goaway(knit_buffer_span(&bytes), text, is_good);
        knit_buffer_fini(&bytes);
    }
    knit_block_close(&block);
}

static void what_is_cut_short_is_refused_at_every_length(void **state)
{
    struct knit_attach_request request;
    struct knit_attach_reply reply;
    struct knit_goaway goaway;
    struct knit_buffer bytes;
    const char *reason;
    struct knit_span why;
    uint32_t msgid;

    (void)state;
    encode("[{\"version\": 7}]", &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(knit_attach_request_decode(knit_span(bytes.bytes, len), &request, &reason),
            KNIT_ATTACH_E_BAD);
    knit_buffer_fini(&bytes);
    encode("{\"layout\": 1000}", &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        knit_attach_reply_decode(knit_span(bytes.bytes, len), &reply);
        assert_true(reply.layout == KNIT_ATTACH_UNUSABLE);
    }
    knit_buffer_fini(&bytes);
    encode("[{\"drain_ms\": 1000, \"reason\": \"r\"}]", &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_int_equal(
            knit_goaway_decode(knit_span(bytes.bytes, len), &goaway, &reason), KNIT_GOAWAY_E_BAD);
    knit_buffer_fini(&bytes);
    encode("[70000]", &bytes);
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(knit_cancel_decode(knit_span(bytes.bytes, len), &msgid, &why));
    knit_buffer_fini(&bytes);
}

static void a_reason_that_is_not_utf8_is_refused(void **state)
{
    struct knit_goaway goaway;
    const char *reason;

    (void)state;
    assert_int_equal(
        knit_goaway_decode(knit_span("\x91\x81\xa6reason\xa1\xff", 11), &goaway, &reason),
        KNIT_GOAWAY_E_BAD);
}

static void one_byte_less_than_a_cancel_needs_is_too_little(void **state)
{
    uint8_t room[KNIT_CANCEL_BYTES_MAX];
    struct knit_buffer buffer;

    (void)state;
    knit_buffer_init_fixed(&buffer, room, sizeof(room) - 1);
    assert_int_equal(knit_cancel_put(&buffer, UINT32_MAX, knit_span(NULL, 0)), KNIT_BUFFER_E_FULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attach_is_read_and_written_as_specified),
        cmocka_unit_test(cancel_is_read_and_written_as_specified),
        cmocka_unit_test(progress_is_read_and_written_as_specified),
        cmocka_unit_test(a_value_of_progress_is_one_and_not_too_long),
        cmocka_unit_test(goaway_is_read_and_written_as_specified),
        cmocka_unit_test(what_is_cut_short_is_refused_at_every_length),
        cmocka_unit_test(a_reason_that_is_not_utf8_is_refused),
        cmocka_unit_test(one_byte_less_than_a_cancel_needs_is_too_little),
    };
    int failed;

    specification = argc == 2 ? knit_scratch_read(argv[1], NULL) : NULL;
    if (specification == NULL) {
        fprintf(stderr, "usage: test_structures PROTOCOL.md\n");
        return 2;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(specification);
    return failed;
}
