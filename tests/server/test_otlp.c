/* SPDX-License-Identifier: Apache-2.0 */
/* Spans as a collector reads them: the oracle is a parser of JSON that takes nothing beyond the
 * standard, and the values that are there then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "proto/failure.h"
#include "server/report/otlp.h"

enum { TEXT_MAX = 256, ENDED_NS = 2000000000 };

static const struct knit_trace trace = {.id = {0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84,
                                            0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c},
    .span = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31},
    .flags = KNIT_TRACE_SAMPLED};
static const uint8_t parent[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static struct knit_ended_call usual(void)
{
    return (struct knit_ended_call){.principal = "token:shop",
        .peer = "192.0.2.7:50212",
        .task = knit_span_text("resize"),
        .ran_by = KNIT_RAN_BY_WORKER,
        .took_ns = 1520999,
        .knows_run = true,
        .run_ns = 1500000,
        .argument_bytes = 64,
        .result_bytes = 9,
        .trace = &trace,
        .parent = parent};
}

/* ---- reading ------------------------------------------------------------------------------- */

/* NULL: it is not JSON, or not all of it. */
static struct json_object *parse(struct knit_span text)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *object;

    assert_non_null(tokener);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, (const char *)text.bytes, (int)text.len);
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        json_object_put(object);
        object = NULL;
    }
    json_tokener_free(tokener);
    return object;
}

/* Keys, and numbers as places in an array, one behind the other; ended by NULL. */
static struct json_object *at(struct json_object *object, ...)
{
    const char *key;
    va_list keys;

    va_start(keys, object);
    while ((key = va_arg(keys, const char *)) != NULL) {
        if (json_object_is_type(object, json_type_array))
            object = json_object_array_get_idx(object, strtoul(key, NULL, 10));
        else if (!json_object_object_get_ex(object, key, &object))
            object = NULL;
        if (object == NULL)
            break;
    }
    va_end(keys);
    return object;
}

static void expect_text(struct json_object *object, const char *key, const char *text)
{
    struct json_object *member = at(object, key, NULL);

    assert_true(json_object_is_type(member, json_type_string));
    assert_string_equal(json_object_get_string(member), text);
}

/* NULL: there is no such attribute. */
static const char *attribute(struct json_object *holder, const char *key)
{
    struct json_object *all = at(holder, "attributes", NULL), *value;

    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *one = json_object_array_get_idx(all, i);

        if (strcmp(json_object_get_string(at(one, "key", NULL)), key) != 0)
            continue;
        value = at(one, "value", "stringValue", NULL);
        if (value == NULL)
            value = at(one, "value", "intValue", NULL);
        assert_true(json_object_is_type(value, json_type_string));
        return json_object_get_string(value);
    }
    return NULL;
}

/* A request of so many spans, as the exporter puts it together. */
static struct json_object *request_of(const struct knit_ended_call *calls, size_t count)
{
    const struct knit_otlp_origin origin = {"shop \"7\"\n", "0123456789abcdef", "1.2.3"};
    struct json_object *request;
    struct knit_buffer text;

    knit_buffer_init(&text, 1 << 20);
    knit_otlp_put_head(&text, &origin);
    for (size_t i = 0; i < count; i++)
        knit_otlp_put_call(&text, &calls[i], ENDED_NS);
    assert_int_equal(text.error, 0);
    assert_int_equal(text.bytes[text.len - 1], ',');
    text.len--;
    assert_int_equal(knit_buffer_append(&text, knit_otlp_tail, strlen(knit_otlp_tail)), 0);
    request = parse(knit_buffer_span(&text));
    if (request == NULL)
        fail_msg("this is no JSON: %.*s", (int)text.len, (const char *)text.bytes);
    knit_buffer_fini(&text);
    return request;
}

static struct json_object *spans_of(struct json_object *request)
{
    struct json_object *spans = at(request, "resourceSpans", "0", "scopeSpans", "0", "spans", NULL);

    assert_true(json_object_is_type(spans, json_type_array));
    return spans;
}

/* ---- what is there ------------------------------------------------------------------------- */

static void a_request_says_whose_spans_they_are(void **state)
{
    const struct knit_ended_call calls[3] = {usual(), usual(), usual()};
    struct json_object *request = request_of(calls, 3);
    struct json_object *resource = at(request, "resourceSpans", "0", "resource", NULL);

    (void)state;
    assert_string_equal(attribute(resource, "service.name"), "shop \"7\"\n");
    assert_string_equal(attribute(resource, "service.instance.id"), "0123456789abcdef");
    assert_string_equal(attribute(resource, "service.version"), "1.2.3");
    expect_text(
        at(request, "resourceSpans", "0", "scopeSpans", "0", "scope", NULL), "name", "knittingd");
    assert_int_equal(json_object_array_length(spans_of(request)), 3);
    json_object_put(request);
}

static void a_span_has_what_is_known_of_its_call(void **state)
{
    const struct knit_ended_call call = usual();
    struct json_object *request = request_of(&call, 1), *span = at(spans_of(request), "0", NULL);

    (void)state;
    expect_text(span, "traceId", "0af7651916cd43dd8448eb211c80319c");
    expect_text(span, "spanId", "b7ad6b7169203331");
    expect_text(span, "parentSpanId", "0001020304050607");
    expect_text(span, "name", "resize");
    assert_int_equal(json_object_get_int(at(span, "kind", NULL)), 2);
    expect_text(span, "startTimeUnixNano", "1998479001");
    expect_text(span, "endTimeUnixNano", "2000000000");
    assert_string_equal(attribute(span, "knitting.task"), "resize");
    assert_string_equal(attribute(span, "knitting.principal"), "token:shop");
    assert_string_equal(attribute(span, "knitting.peer"), "192.0.2.7:50212");
    assert_string_equal(attribute(span, "knitting.kind"), "request");
    assert_string_equal(attribute(span, "knitting.outcome"), "ok");
    assert_string_equal(attribute(span, "knitting.wait_us"), "20");
    assert_string_equal(attribute(span, "knitting.run_us"), "1500");
    assert_string_equal(attribute(span, "knitting.in_bytes"), "64");
    assert_string_equal(attribute(span, "knitting.out_bytes"), "9");
    assert_string_equal(attribute(span, "knitting.by"), "worker");
    assert_int_equal(json_object_object_length(at(span, "status", NULL)), 0);
    json_object_put(request);
}

static void an_error_has_its_message_and_no_run_that_nobody_knows(void **state)
{
    struct knit_ended_call calls[2] = {usual(), usual()};
    struct json_object *request, *failed, *gone;

    (void)state;
    calls[0].code = KNIT_TIMEOUT;
    calls[0].reason = knit_span_text("the call's timeout has passed");
    calls[0].knows_run = false;
    calls[0].is_notification = true;
    calls[1].is_gone = true;
    calls[1].knows_run = false;
    calls[1].ran_by = KNIT_RAN_NOWHERE;
    request = request_of(calls, 2);
    failed = at(spans_of(request), "0", NULL);
    gone = at(spans_of(request), "1", NULL);
    assert_int_equal(json_object_get_int(at(failed, "status", "code", NULL)), 2);
    expect_text(at(failed, "status", NULL), "message", "the call's timeout has passed");
    assert_string_equal(attribute(failed, "knitting.outcome"), "TIMEOUT");
    assert_string_equal(attribute(failed, "knitting.kind"), "notification");
    assert_null(attribute(failed, "knitting.run_us"));
    assert_null(attribute(failed, "knitting.wait_us"));
    assert_int_equal(json_object_get_int(at(gone, "status", "code", NULL)), 2);
    expect_text(at(gone, "status", NULL), "message", "the caller has gone");
    assert_string_equal(attribute(gone, "knitting.outcome"), "caller_gone");
    assert_string_equal(attribute(gone, "knitting.by"), "none");
    json_object_put(request);
}

/* ---- what others chose --------------------------------------------------------------------- */

/* Bytes of a name, and the text that a collector reads. */
static const struct {
    const char *bytes;
    size_t len;
    const char *text;
    size_t text_len;
} names[] = {
    {"", 0, "", 0},
    {"\"", 1, "\"", 1},
    {"\\", 1, "\\", 1},
    {"\\u0041", 6, "\\u0041", 6},
    {"\"},{\"x\":[", 9, "\"},{\"x\":[", 9},
    {"a\nb\r\t\x1b[2J\x7f", 10, "a\nb\r\t\x1b[2J\x7f", 10},
    {"a\0b", 3, "a\0b", 3},
    {"\xc3\xa4\xe2\x80\xae\xf0\x9f\x98\x80", 9, "\xc3\xa4\xe2\x80\xae\xf0\x9f\x98\x80", 9},
    {"\xff", 1, "?", 1},
    {"\x80\xc3\xa4\xc3", 4, "?\xc3\xa4?", 4},
    {"a\xc0\xaf", 3, "a??", 3},
    {"\xed\xa0\x80", 3, "???", 3},
    {"\xf4\x90\x80\x80", 4, "????", 4},
    {"\xe2\x82", 2, "??", 2},
};

static void any_name_and_message_is_a_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct knit_ended_call call = usual();
        struct json_object *request, *name, *message;

        call.task = knit_span(names[i].bytes, names[i].len);
        call.code = KNIT_BAD_RESULT;
        call.reason = call.task;
        request = request_of(&call, 1);
        name = at(spans_of(request), "0", "name", NULL);
        message = at(spans_of(request), "0", "status", "message", NULL);
        assert_int_equal(json_object_get_string_len(name), names[i].text_len);
        assert_memory_equal(json_object_get_string(name), names[i].text, names[i].text_len);
        assert_int_equal(json_object_get_string_len(message), names[i].text_len);
        assert_memory_equal(json_object_get_string(message), names[i].text, names[i].text_len);
        json_object_put(request);
    }
}

static void a_long_text_is_cut_between_two_characters(void **state)
{
    char text[2 * TEXT_MAX];
    struct knit_ended_call call = usual();

    (void)state;
    for (size_t before = 0; before < 3; before++) {
        struct json_object *request, *name;
        size_t len = before;

        memset(text, 'x', sizeof(text));
        for (; len + 3 <= sizeof(text); len += 3)
            memcpy(text + len, "\xe2\x82\xac", 3);
        call.task = knit_span(text, len);
        request = request_of(&call, 1);
        name = at(spans_of(request), "0", "name", NULL);
        assert_int_equal(json_object_get_string_len(name), before + (TEXT_MAX - before) / 3 * 3);
        json_object_put(request);
    }
}

/* Each text as long as it can be, of bytes that take most. */
static void the_largest_span_fits(void **state)
{
    char text[2 * TEXT_MAX];
    uint8_t memory[KNIT_OTLP_SPAN_MAX];
    struct knit_ended_call call = usual();
    struct knit_buffer span;

    (void)state;
    memset(text, '\x01', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    call.principal = call.peer = text;
    call.task = call.reason = knit_span(text, sizeof(text));
    call.code = KNIT_INTERNAL;
    call.took_ns = call.argument_bytes = call.result_bytes = UINT64_MAX;
    call.run_ns = 1;
    knit_buffer_init_fixed(&span, memory, sizeof(memory));
    knit_otlp_put_call(&span, &call, UINT64_MAX);
    assert_int_equal(span.error, 0);
    json_object_put(request_of(&call, 1));
}

/* What does not fit is said, and nothing is written beyond the room. */
static void a_span_without_room_leaves_an_error(void **state)
{
    const struct knit_ended_call call = usual();
    struct knit_buffer whole, part;
    uint8_t memory[1024];

    (void)state;
    knit_buffer_init(&whole, KNIT_OTLP_SPAN_MAX);
    knit_otlp_put_call(&whole, &call, ENDED_NS);
    assert_true(whole.len < sizeof(memory));
    for (size_t room = 0; room <= whole.len; room++) {
        memset(memory, 0xa5, sizeof(memory));
        knit_buffer_init_fixed(&part, memory, room);
        knit_otlp_put_call(&part, &call, ENDED_NS);
        assert_int_equal(part.error == 0, room == whole.len);
        for (size_t i = room; i < sizeof(memory); i++)
            assert_int_equal(memory[i], 0xa5);
    }
    knit_buffer_fini(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_says_whose_spans_they_are),
        cmocka_unit_test(a_span_has_what_is_known_of_its_call),
        cmocka_unit_test(an_error_has_its_message_and_no_run_that_nobody_knows),
        cmocka_unit_test(any_name_and_message_is_a_text),
        cmocka_unit_test(a_long_text_is_cut_between_two_characters),
        cmocka_unit_test(the_largest_span_fits),
        cmocka_unit_test(a_span_without_room_leaves_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
