/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing uses the scanner's marks of where each element begins, so it reads one head per element.
 * The scanner has checked the outline; the types of method, params, options and error are checked
 * here.
 */
#include "proto/message.h"

#include <string.h>

#include "proto/pack.h"
#include "proto/text.h"
#include "proto/writer.h"

static int bad(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_MESSAGE_E_BAD;
}

/* Element `index`, from its mark to the next one's. */
static struct knit_span element(
    struct knit_span message, const struct knit_scan *scan, unsigned index)
{
    size_t start = scan->element[index];
    size_t end = index + 1u < scan->count ? scan->element[index + 1] : message.len;

    return knit_span(message.bytes + start, end - start);
}

static int parse_method(
    struct knit_span raw, struct knit_method *ret_method, const char **ret_reason)
{
    struct knit_head head;

    if (knit_head_read(raw.bytes, raw.len, &head))
        return bad(ret_reason, "a message's marks do not match its bytes");
    *ret_method = (struct knit_method){0};
    if (head.type == KNIT_HEAD_UINT) {
        ret_method->id = head.value;
        return 0;
    }
    /* Some clients send text as bin. */
    if (head.type != KNIT_HEAD_STR && head.type != KNIT_HEAD_BIN)
        return bad(ret_reason, "a method must be a name or a number");
    ret_method->name = knit_span(raw.bytes + head.size, raw.len - head.size);
    return 0;
}

static int parse_call(struct knit_span message, const struct knit_scan *scan, unsigned first,
    struct knit_message *view, const char **ret_reason)
{
    struct knit_head head;
    int r = parse_method(element(message, scan, first), &view->method, ret_reason);

    if (r)
        return r;
    view->params = element(message, scan, first + 1);
    if (knit_head_read(view->params.bytes, view->params.len, &head) || head.type != KNIT_HEAD_ARRAY)
        return bad(ret_reason, "params must be an array");
    if (first + 2 == scan->count)
        return 0;
    view->options = element(message, scan, first + 2);
    if (knit_head_read(view->options.bytes, view->options.len, &head) || head.type != KNIT_HEAD_MAP)
        return bad(ret_reason, "options must be a map");
    return 0;
}

static int parse_response(
    struct knit_span message, const struct knit_scan *scan, struct knit_message *view)
{
    struct knit_span error = element(message, scan, 2);
    struct knit_head head;

    if (knit_head_read(error.bytes, error.len, &head) || head.type != KNIT_HEAD_NIL)
        view->error = error;
    else
        view->result = element(message, scan, 3);
    return 0;
}

int knit_message_parse(const void *bytes, size_t len, const struct knit_scan *scan,
    struct knit_message *ret_message, const char **ret_reason)
{
    struct knit_span message = knit_span(bytes, len);
    struct knit_message view = {0};
    int r;

    if (scan->used != len || scan->count < 3)
        return bad(ret_reason, "a message's marks do not match its bytes");
    view.kind = (enum knit_message_kind)scan->kind;
    view.msgid = scan->msgid;
    if (view.kind == KNIT_MESSAGE_RESPONSE)
        r = parse_response(message, scan, &view);
    else
        r = parse_call(message, scan, view.kind == KNIT_MESSAGE_REQUEST ? 2 : 1, &view, ret_reason);
    if (r)
        return r;
    *ret_message = view;
    return 0;
}

/* The heads of messages are appended one by one: what follows them does not go through a writer, so
 * a writer could not count it. */
enum head_bytes { ARRAY_OF = 0x90, STR_OF = 0xa0, NIL = 0xc0 };

enum { NAME_SHORT_MAX = 31 };

static void put_byte(struct knit_buffer *buffer, unsigned byte)
{
    uint8_t narrow = (uint8_t)byte;

    (void)knit_buffer_append(buffer, &narrow, 1);
}

static void put_method(struct knit_buffer *buffer, const struct knit_method *method)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    if (method->name.bytes != NULL)
        knit_writer_str(&writer, (const char *)method->name.bytes, method->name.len);
    else
        knit_writer_uint(&writer, method->id);
    (void)knit_writer_commit(&writer);
}

/* A message that does not fit leaves nothing of itself behind. */
static int finish(struct knit_buffer *buffer, size_t start)
{
    if (buffer->error)
        buffer->len = start;
    return buffer->error;
}

int knit_message_put_request_head(
    struct knit_buffer *buffer, uint32_t msgid, const struct knit_method *method, bool with_options)
{
    uint8_t head[KNIT_MESSAGE_START_MAX];
    size_t len = knit_message_pack_start(head, with_options ? 5 : 4, KNIT_MESSAGE_REQUEST, msgid);
    size_t start = buffer->len;

    (void)knit_buffer_append(buffer, head, len);
    put_method(buffer, method);
    return finish(buffer, start);
}

/* A request without options, of a method with a short name, where there is room for the longest
 * head. False: it is something else, and nothing was put. */
static inline bool put_plain_request(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_method *method, struct knit_span params)
{
    const struct knit_span name = method->name;
    uint8_t *to = buffer->bytes + buffer->len;
    size_t len;

    if (buffer->error != 0 || name.bytes == NULL || params.bytes == NULL ||
        name.len > NAME_SHORT_MAX || params.len > buffer->capacity - buffer->len ||
        buffer->capacity - buffer->len - params.len < KNIT_MESSAGE_START_MAX + 1 + name.len ||
        !knit_text_is_utf8((const char *)name.bytes, name.len))
        return false;
    len = knit_message_pack_start(to, 4, KNIT_MESSAGE_REQUEST, msgid);
    to[len++] = (uint8_t)(STR_OF | name.len);
    memcpy(to + len, name.bytes, name.len);
    len += name.len;
    memcpy(to + len, params.bytes, params.len);
    buffer->len += len + params.len;
    return true;
}

int knit_message_put_request(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_method *method, struct knit_span params, const struct knit_options *options)
{
    bool with_options = options != NULL && !knit_options_is_empty(options);
    size_t start = buffer->len;

    if (!with_options && put_plain_request(buffer, msgid, method, params))
        return 0;
    knit_message_put_request_head(buffer, msgid, method, with_options);
    knit_buffer_append(buffer, params.bytes, params.len);
    if (with_options)
        knit_options_put(buffer, options);
    return finish(buffer, start);
}

int knit_message_put_notification(
    struct knit_buffer *buffer, const struct knit_method *method, struct knit_span params)
{
    size_t start = buffer->len;

    put_byte(buffer, ARRAY_OF | 3);
    put_byte(buffer, KNIT_MESSAGE_NOTIFICATION);
    put_method(buffer, method);
    knit_buffer_append(buffer, params.bytes, params.len);
    return finish(buffer, start);
}

static void put_response_start(struct knit_buffer *buffer, uint32_t msgid)
{
    uint8_t head[KNIT_MESSAGE_START_MAX];
    size_t len = knit_message_pack_start(head, 4, KNIT_MESSAGE_RESPONSE, msgid);

    (void)knit_buffer_append(buffer, head, len);
}

int knit_message_put_response_head(struct knit_buffer *buffer, uint32_t msgid)
{
    uint8_t head[KNIT_MESSAGE_RESPONSE_HEAD_MAX];

    return knit_buffer_append(buffer, head, knit_message_pack_response_head(head, msgid));
}

int knit_message_put_response(struct knit_buffer *buffer, uint32_t msgid, struct knit_span result)
{
    size_t start = buffer->len;

    knit_message_put_response_head(buffer, msgid);
    knit_buffer_append(buffer, result.bytes, result.len);
    return finish(buffer, start);
}

int knit_message_put_error(struct knit_buffer *buffer, uint32_t msgid,
    const struct knit_failure *failure, enum knit_failure_form form)
{
    size_t start = buffer->len;

    put_response_start(buffer, msgid);
    knit_failure_put(buffer, failure, form);
    put_byte(buffer, NIL);
    return finish(buffer, start);
}

size_t knit_message_put_error_front(
    struct knit_buffer *buffer, uint32_t msgid, struct knit_span front, enum knit_failure_form form)
{
    size_t start = buffer->len, data_at;

    put_response_start(buffer, msgid);
    data_at = knit_failure_convert_front(buffer, front, form);
    (void)finish(buffer, start);
    return data_at;
}

int knit_message_put_error_raw(
    struct knit_buffer *buffer, uint32_t msgid, struct knit_span error, enum knit_failure_form form)
{
    size_t start = buffer->len;

    put_response_start(buffer, msgid);
    knit_failure_convert(buffer, error, form);
    put_byte(buffer, NIL);
    return finish(buffer, start);
}
