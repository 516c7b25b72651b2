/* SPDX-License-Identifier: Apache-2.0 */
/* What a code implies stands in one table, made from <knitting/code.h>; encoder and decoder both
 * start from it, which is why the compact form can leave it out. Details are few and small, so
 * decoding is a walk over the map with one comparison per known name.
 */
#include "proto/failure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/head.h"
#include "proto/limits.h"
#include "proto/text.h"
#include "proto/walk.h"
#include "proto/writer.h"

static const char cut_mark[] = " [cut]";

static const struct code {
    uint32_t code;
    const char *name;
    bool is_retryable;
    enum knit_started started;
} codes[] = {
#define CODE_ROW(code, name, retryable, started) {code, #name, retryable, started},
    KNIT_CODES(CODE_ROW)
#undef CODE_ROW
};

static const struct code *find(uint32_t code)
{
    static const struct code unknown = {0, "UNKNOWN", false, KNIT_STARTED_UNKNOWN};
    size_t i;

    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code == code)
            return &codes[i];
    }
    return &unknown;
}

const char *knit_failure_name(uint32_t code)
{
    return find(code)->name;
}

bool knit_failure_is_retryable(uint32_t code)
{
    return find(code)->is_retryable;
}

enum knit_started knit_failure_started(uint32_t code)
{
    return find(code)->started;
}

/* The 400s are failures of a worker, the 600s of a task. */
enum knit_origin knit_failure_origin(uint32_t code)
{
    if (code >= 400 && code < 500)
        return KNIT_ORIGIN_WORKER;
    return code >= 600 && code < 700 ? KNIT_ORIGIN_TASK : KNIT_ORIGIN_SERVER;
}

static const char *const started_names[] = {"no", "yes", "unknown"};
static const char *const origin_names[] = {"server", "worker", "task", "client"};

const char *knit_failure_started_name(enum knit_started started)
{
    return started_names[started];
}

const char *knit_failure_origin_name(enum knit_origin origin)
{
    return origin_names[origin];
}

struct knit_failure knit_failure(uint32_t code, const char *message)
{
    const struct code *known = find(code);

    return (struct knit_failure){
        .code = code,
        .started = known->started,
        .is_retryable = known->is_retryable,
        .origin = knit_failure_origin(code),
        .message = knit_span_text(message),
        .lane = KNIT_FAILURE_NONE,
        .retry_after_ms = KNIT_FAILURE_NONE,
        .limit = KNIT_FAILURE_NONE,
        .actual = KNIT_FAILURE_NONE,
        .unknown = KNIT_FAILURE_NONE,
    };
}

/* ---- Encoding ---- */

/* Text as it may stand in a str: UTF-8, and no longer than max. `scratch` is used where it must be
 * changed. */
static struct knit_span mend(struct knit_span text, size_t max, char *scratch)
{
    size_t len = text.len, at = 0, keep;

    if (len > max) {
        keep = knit_text_cut(text.bytes, len, max - strlen(cut_mark));
        memcpy(scratch, text.bytes, keep);
        memcpy(scratch + keep, cut_mark, strlen(cut_mark));
        len = keep + strlen(cut_mark);
        text = knit_span(scratch, len);
    }
    while ((at += knit_text_valid(text.bytes + at, len - at)) < len) {
        if (text.bytes != (const uint8_t *)scratch)
            memcpy(scratch, text.bytes, len);
        text.bytes = (const uint8_t *)scratch;
        scratch[at++] = '?';
    }
    return text;
}

static void put_text(struct knit_writer *writer, struct knit_span text)
{
    char scratch[KNIT_ERROR_MESSAGE_BYTES_MAX];
    struct knit_span mended = mend(text, sizeof(scratch), scratch);

    knit_writer_str(writer, (const char *)mended.bytes, mended.len);
}

static void put_number(struct knit_writer *writer, const char *key, uint64_t value)
{
    if (value == KNIT_FAILURE_NONE)
        return;
    knit_writer_text(writer, key);
    knit_writer_uint(writer, value);
}

static void put_static(struct knit_writer *writer, const char *key, const char *text)
{
    knit_writer_text(writer, key);
    knit_writer_text(writer, text);
}

static void put_span(struct knit_writer *writer, const char *key, struct knit_span text)
{
    if (text.bytes == NULL)
        return;
    knit_writer_text(writer, key);
    put_text(writer, text);
}

static void put_raw(struct knit_writer *writer, const char *key, struct knit_span raw)
{
    if (raw.bytes == NULL)
        return;
    knit_writer_text(writer, key);
    knit_writer_raw(writer, raw.bytes, raw.len);
}

/* Which of the details that a code implies are written. */
struct written {
    bool name;
    bool started;
    bool is_retryable;
    bool origin;
};

static struct written what_to_write(const struct knit_failure *failure, enum knit_failure_form form)
{
    bool all = form == KNIT_FAILURE_FULL;

    return (struct written){
        .name = all,
        .started = all || failure->started != knit_failure_started(failure->code),
        .is_retryable = all || failure->is_retryable != knit_failure_is_retryable(failure->code),
        .origin = all || failure->origin != knit_failure_origin(failure->code),
    };
}

static uint32_t count_details(const struct knit_failure *failure, const struct written *written)
{
    return (uint32_t)written->name + written->started + written->is_retryable + written->origin +
           (failure->task.bytes != NULL) + (failure->lane != KNIT_FAILURE_NONE) +
           (failure->signal != 0) + (failure->retry_after_ms != KNIT_FAILURE_NONE) +
           (failure->limit != KNIT_FAILURE_NONE) + (failure->actual != KNIT_FAILURE_NONE) +
           (failure->unknown != KNIT_FAILURE_NONE) + (failure->cause.bytes != NULL) +
           (failure->stack.bytes != NULL) + (failure->data.bytes != NULL) +
           (failure->output.bytes != NULL);
}

static void put_name(struct knit_writer *writer, const struct knit_failure *failure)
{
    knit_writer_text(writer, "name");
    if (failure->name.bytes != NULL && find(failure->code)->code == 0)
        put_text(writer, failure->name);
    else
        knit_writer_text(writer, knit_failure_name(failure->code));
}

static int put_array(
    struct knit_buffer *buffer, const struct knit_failure *failure, enum knit_failure_form form)
{
    struct written written = what_to_write(failure, form);
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 3);
    knit_writer_uint(&writer, failure->code);
    put_text(&writer, failure->message);
    knit_writer_map(&writer, count_details(failure, &written));
    if (written.name)
        put_name(&writer, failure);
    if (written.started)
        put_static(&writer, "started", knit_failure_started_name(failure->started));
    if (written.is_retryable) {
        knit_writer_text(&writer, "retryable");
        knit_writer_bool(&writer, failure->is_retryable);
    }
    if (written.origin)
        put_static(&writer, "origin", knit_failure_origin_name(failure->origin));
    put_span(&writer, "task", failure->task);
    put_number(&writer, "lane", failure->lane);
    put_number(&writer, "signal", failure->signal ? failure->signal : KNIT_FAILURE_NONE);
    put_number(&writer, "retry_after_ms", failure->retry_after_ms);
    put_number(&writer, "limit", failure->limit);
    put_number(&writer, "actual", failure->actual);
    put_number(&writer, "unknown", failure->unknown);
    put_raw(&writer, "cause", failure->cause);
    put_span(&writer, "stack", failure->stack);
    put_raw(&writer, "output", failure->output);
    /* The last one, since it has no bound (knit_failure_convert_front()). */
    put_raw(&writer, "data", failure->data);
    return knit_writer_commit(&writer);
}

static int put_plain(struct knit_buffer *buffer, const struct knit_failure *failure)
{
    char scratch[KNIT_ERROR_MESSAGE_BYTES_MAX];
    char text[KNIT_ERROR_MESSAGE_BYTES_MAX + 64];
    struct knit_span message = mend(failure->message, sizeof(scratch), scratch);
    struct knit_writer writer;
    size_t len;

    len = (size_t)snprintf(
        text, sizeof(text), "%u %s: ", failure->code, knit_failure_name(failure->code));
    memcpy(text + len, message.bytes, message.len);
    knit_writer_init(&writer, buffer);
    knit_writer_str(&writer, text, len + message.len);
    return knit_writer_commit(&writer);
}

/* What cannot be written is taken out of the failure. */
static int put(
    struct knit_buffer *buffer, struct knit_failure *failure, enum knit_failure_form form)
{
    int before = buffer->error, r;

    if (failure->message.bytes == NULL)
        failure->message = knit_span_text("");
    if (form == KNIT_FAILURE_PLAIN)
        return put_plain(buffer, failure);
    r = put_array(buffer, failure, form);
    if (r == -EINVAL && before == 0) {
        buffer->error = 0;
        failure->cause = failure->data = failure->output = (struct knit_span){0};
        r = put_array(buffer, failure, form);
    }
    return r;
}

int knit_failure_put(
    struct knit_buffer *buffer, const struct knit_failure *failure, enum knit_failure_form form)
{
    struct knit_failure whole = *failure;

    return put(buffer, &whole, form);
}

/* ---- Decoding ---- */

/* The index of the item among the names; `otherwise` if it is none of them. */
static unsigned read_name(
    const struct knit_item *item, const char *const *names, unsigned count, unsigned otherwise)
{
    unsigned i;

    for (i = 0; i < count && item->head.type == KNIT_HEAD_STR; i++) {
        if (knit_span_is(item->body, names[i]))
            return i;
    }
    return otherwise;
}

static void read_detail(const struct knit_item *item, struct knit_failure *failure)
{
    uint64_t number = 0;

    if (knit_span_is(item->key, "name"))
        (void)knit_item_text(item, &failure->name);
    else if (knit_span_is(item->key, "started"))
        failure->started = (enum knit_started)read_name(item, started_names, 3, failure->started);
    else if (knit_span_is(item->key, "retryable"))
        (void)knit_item_bool(item, &failure->is_retryable);
    else if (knit_span_is(item->key, "origin"))
        failure->origin = (enum knit_origin)read_name(item, origin_names, 4, failure->origin);
    else if (knit_span_is(item->key, "task"))
        (void)knit_item_text(item, &failure->task);
    else if (knit_span_is(item->key, "lane"))
        (void)knit_item_uint(item, &failure->lane);
    else if (knit_span_is(item->key, "signal") && knit_item_uint(item, &number))
        failure->signal = number <= UINT32_MAX ? (uint32_t)number : 0;
    else if (knit_span_is(item->key, "retry_after_ms"))
        (void)knit_item_uint(item, &failure->retry_after_ms);
    else if (knit_span_is(item->key, "limit"))
        (void)knit_item_uint(item, &failure->limit);
    else if (knit_span_is(item->key, "actual"))
        (void)knit_item_uint(item, &failure->actual);
    else if (knit_span_is(item->key, "unknown"))
        (void)knit_item_uint(item, &failure->unknown);
    else if (knit_span_is(item->key, "cause"))
        failure->cause = item->raw;
    else if (knit_span_is(item->key, "stack"))
        (void)knit_item_text(item, &failure->stack);
    else if (knit_span_is(item->key, "data"))
        failure->data = item->raw;
    else if (knit_span_is(item->key, "output"))
        failure->output = item->raw;
}

/* What stands in front of the details. */
static int read_head(
    const struct knit_item *code, const struct knit_item *message, struct knit_failure *ret_failure)
{
    if (code->head.type != KNIT_HEAD_UINT || code->head.value > UINT32_MAX ||
        message->head.type != KNIT_HEAD_STR)
        return KNIT_FAILURE_E_BAD;
    *ret_failure = knit_failure((uint32_t)code->head.value, NULL);
    ret_failure->message = message->body;
    return 0;
}

static int decode_array(struct knit_span error, struct knit_failure *ret_failure)
{
    struct knit_item code, message, details, detail;
    struct knit_failure failure;
    struct knit_walk walk;
    int r;

    if (knit_walk_array(&walk, error) || walk.left != 3 || knit_walk_next(&walk, &code) ||
        knit_walk_next(&walk, &message) || knit_walk_next(&walk, &details) || walk.rest.len != 0)
        return KNIT_FAILURE_E_BAD;
    if (read_head(&code, &message, &failure) || knit_walk_map(&walk, details.raw))
        return KNIT_FAILURE_E_BAD;
    while ((r = knit_walk_next(&walk, &detail)) == 0)
        read_detail(&detail, &failure);
    if (r != KNIT_WALK_E_END)
        return KNIT_FAILURE_E_BAD;
    *ret_failure = failure;
    return 0;
}

/* The last detail must be `data`, or `output` where there is no `data`. Of its value nothing is
 * read: it becomes nil. */
static int decode_front(
    struct knit_span front, struct knit_failure *ret_failure, size_t *ret_value_at)
{
    static const uint8_t nil = 0xc0;
    struct knit_item code, message, detail;
    struct knit_failure failure;
    struct knit_walk walk;
    struct knit_span name;
    struct knit_head key;

    if (knit_walk_array(&walk, front) || walk.left != 3 || knit_walk_next(&walk, &code) ||
        knit_walk_next(&walk, &message) || read_head(&code, &message, &failure) ||
        knit_walk_map(&walk, walk.rest))
        return KNIT_FAILURE_E_BAD;
    while (walk.left > 1) {
        if (knit_walk_next(&walk, &detail))
            return KNIT_FAILURE_E_BAD;
        read_detail(&detail, &failure);
    }
    if (walk.left == 0 || knit_head_read(walk.rest.bytes, walk.rest.len, &key) ||
        key.type != KNIT_HEAD_STR || key.value > walk.rest.len - key.size)
        return KNIT_FAILURE_E_BAD;
    name = knit_span(walk.rest.bytes + key.size, (size_t)key.value);
    if (knit_span_is(name, "data"))
        failure.data = knit_span(&nil, sizeof(nil));
    else if (knit_span_is(name, "output") && failure.data.bytes == NULL)
        failure.output = knit_span(&nil, sizeof(nil));
    else
        return KNIT_FAILURE_E_BAD;
    *ret_value_at = (size_t)(name.bytes - front.bytes) + name.len;
    *ret_failure = failure;
    return 0;
}

/* "600 TASK_FAILED: text"; anything else is a text. */
static void decode_text(struct knit_span text, struct knit_failure *ret_failure)
{
    size_t i, len, at;
    char prefix[64];

    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        len = (size_t)snprintf(prefix, sizeof(prefix), "%u %s:", codes[i].code, codes[i].name);
        if (text.len < len || memcmp(text.bytes, prefix, len) != 0)
            continue;
        at = text.len > len && text.bytes[len] == ' ' ? len + 1 : len;
        *ret_failure = knit_failure(codes[i].code, NULL);
        ret_failure->message = knit_span(text.bytes + at, text.len - at);
        return;
    }
    *ret_failure = knit_failure(KNIT_TASK_FAILED, NULL);
    ret_failure->message = text;
}

int knit_failure_decode(struct knit_span error, struct knit_failure *ret_failure)
{
    struct knit_head head;

    if (knit_head_read(error.bytes, error.len, &head))
        return KNIT_FAILURE_E_BAD;
    if (head.type == KNIT_HEAD_ARRAY)
        return decode_array(error, ret_failure);
    if (head.type != KNIT_HEAD_STR && head.type != KNIT_HEAD_BIN)
        return KNIT_FAILURE_E_BAD;
    if (head.value != error.len - head.size)
        return KNIT_FAILURE_E_BAD;
    decode_text(knit_span(error.bytes + head.size, (size_t)head.value), ret_failure);
    return 0;
}

uint32_t knit_failure_code(struct knit_span error)
{
    uint8_t front[4];

    if (error.len <= sizeof(front))
        return 0;
    memcpy(front, error.bytes, sizeof(front));
    if (front[0] != 0x93)
        return 0;
    if (front[1] == 0xcd)
        return (uint32_t)front[2] << 8 | front[3];
    if (front[1] == 0xcc)
        return front[2];
    return front[1] < 0x80 ? front[1] : 0;
}

int knit_failure_convert(
    struct knit_buffer *buffer, struct knit_span error, enum knit_failure_form form)
{
    struct knit_failure failure;

    if (knit_failure_decode(error, &failure))
        failure = knit_failure(KNIT_INTERNAL, "an error came in a form nobody can read");
    return knit_failure_put(buffer, &failure, form);
}

size_t knit_failure_convert_front(
    struct knit_buffer *buffer, struct knit_span front, enum knit_failure_form form)
{
    struct knit_failure failure;
    size_t value_at = 0;

    if (decode_front(front, &failure, &value_at))
        failure = knit_failure(KNIT_INTERNAL, "an error came in a form nobody can read");
    (void)put(buffer, &failure, form);
    if (form == KNIT_FAILURE_PLAIN || buffer->error != 0 ||
        (failure.data.bytes == NULL && failure.output.bytes == NULL))
        return 0;
    /* The nil kept the place of the last detail's value. */
    buffer->len--;
    return value_at;
}

/* ---- Failures of tasks ---- */

static int put_task(
    struct knit_buffer *buffer, int64_t task_code, struct knit_span message, struct knit_span value)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 3);
    knit_writer_uint(&writer, KNIT_TASK_FAILED);
    put_text(&writer, message);
    knit_writer_map(&writer, 1);
    knit_writer_text(&writer, "data");
    knit_writer_map(&writer, value.bytes != NULL ? 2 : 1);
    knit_writer_text(&writer, "code");
    knit_writer_int(&writer, task_code);
    put_raw(&writer, "value", value);
    return knit_writer_commit(&writer);
}

int knit_failure_put_task(
    struct knit_buffer *buffer, int64_t task_code, struct knit_span message, struct knit_span value)
{
    int before = buffer->error, r;

    if (message.bytes == NULL)
        message = knit_span_text("");
    r = put_task(buffer, task_code, message, value);
    if (r == -EINVAL && before == 0) {
        buffer->error = 0;
        r = put_task(buffer, task_code, message, (struct knit_span){0});
    }
    return r;
}

bool knit_failure_task_data(
    const struct knit_failure *failure, int64_t *ret_code, struct knit_span *ret_value)
{
    struct knit_item code, value;
    int64_t number;

    if (failure->data.bytes == NULL || knit_walk_find(failure->data, "code", &code) ||
        !knit_head_as_int(&code.head, &number))
        return false;
    *ret_code = number;
    *ret_value = (struct knit_span){0};
    if (knit_walk_find(failure->data, "value", &value) == 0)
        *ret_value = value.raw;
    return true;
}
