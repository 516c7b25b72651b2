/* SPDX-License-Identifier: Apache-2.0 */
/* Heads are packed (pack.h) straight into the buffer, and by way of the stack only if the buffer
 * may lack room for the longest of them. `left` counts, for each open container, the values still
 * due; left[0] is the single value that the writer is for.
 */
#include "proto/writer.h"

#include <errno.h>
#include <string.h>

#include <knitting/values.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/text.h"

static void fail(struct knit_writer *writer, int error)
{
    if (writer->error == 0)
        writer->error = error;
}

void knit_writer_init(struct knit_writer *writer, struct knit_buffer *buffer)
{
    writer->buffer = buffer;
    writer->start = buffer->len;
    writer->inherited = writer->error = buffer->error;
    if (buffer->error > 0)
        writer->error = KNIT_WRITER_E_FULL;
    writer->depth = 0;
    writer->left[0] = 1;
}

/* Before a value is written: whether one is due. */
static inline bool begin(struct knit_writer *writer)
{
    if (writer->error)
        return false;
    if (writer->left[writer->depth] == 0) {
        fail(writer, KNIT_WRITER_E_SURPLUS);
        return false;
    }
    writer->left[writer->depth]--;
    return true;
}

/* After a value was written: close the containers that are full, and note the buffer's error. */
static inline void end(struct knit_writer *writer)
{
    int error = writer->buffer->error;

    while (writer->depth > 0 && writer->left[writer->depth] == 0)
        writer->depth--;
    if (error)
        fail(writer, error < 0 ? error : KNIT_WRITER_E_FULL);
}

/* Not inlined, so that a buffer with room does not set up the frame. */
static __attribute__((noinline)) void append_head(
    struct knit_buffer *buffer, knit_pack *pack, uint64_t value)
{
    uint8_t head[KNIT_HEAD_BYTES_MAX];

    (void)knit_buffer_append(buffer, head, pack(head, value));
}

static inline void put_head(struct knit_writer *writer, knit_pack *pack, uint64_t value)
{
    struct knit_buffer *buffer = writer->buffer;

    if (buffer->error == 0 && buffer->capacity - buffer->len >= KNIT_HEAD_BYTES_MAX)
        buffer->len += pack(buffer->bytes + buffer->len, value);
    else
        append_head(buffer, pack, value);
}

static inline void put_value(struct knit_writer *writer, knit_pack *pack, uint64_t value)
{
    if (!begin(writer))
        return;
    put_head(writer, pack, value);
    end(writer);
}

void knit_writer_head(struct knit_writer *writer, knit_pack *pack, uint64_t value)
{
    put_value(writer, pack, value);
}

void knit_writer_nil(struct knit_writer *writer)
{
    put_value(writer, knit_pack_nil, 0);
}

void knit_writer_bool(struct knit_writer *writer, bool value)
{
    put_value(writer, knit_pack_bool, value);
}

void knit_writer_int(struct knit_writer *writer, int64_t value)
{
    put_value(writer, knit_pack_int, (uint64_t)value);
}

void knit_writer_uint(struct knit_writer *writer, uint64_t value)
{
    put_value(writer, knit_pack_uint, value);
}

void knit_writer_float(struct knit_writer *writer, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_value(writer, knit_pack_float, bits);
}

void knit_writer_str(struct knit_writer *writer, const char *text, size_t len)
{
    uint8_t *place;

    if (!begin(writer))
        return;
    if (len > UINT32_MAX) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else {
        put_head(writer, knit_pack_str, len);
        place = knit_buffer_reserve(writer->buffer, len);
        if (place != NULL && !knit_text_copy(place, text, len))
            fail(writer, KNIT_WRITER_E_TEXT);
        else if (place != NULL)
            writer->buffer->len += len;
    }
    end(writer);
}

void knit_writer_text(struct knit_writer *writer, const char *text)
{
    knit_writer_str(writer, text, strlen(text));
}

void knit_writer_bin(struct knit_writer *writer, const void *bytes, size_t len)
{
    void *place = knit_writer_bin_place(writer, len);

    if (place != NULL && len > 0)
        memcpy(place, bytes, len);
}

void *knit_writer_bin_place(struct knit_writer *writer, size_t len)
{
    struct knit_buffer *buffer = writer->buffer;
    uint8_t *place = NULL;

    if (!begin(writer))
        return NULL;
    if (len > UINT32_MAX) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else {
        put_head(writer, knit_pack_bin, len);
        place = knit_buffer_reserve(buffer, len);
        if (place != NULL)
            buffer->len += len;
    }
    end(writer);
    return place;
}

size_t knit_writer_bin_head(uint8_t ret_head[KNIT_WRITER_BIN_HEAD_MAX], uint32_t len)
{
    return knit_pack_bin(ret_head, len);
}

static void open_container(struct knit_writer *writer, uint64_t values)
{
    if (writer->depth == KNIT_DEPTH_MAX)
        fail(writer, KNIT_WRITER_E_TOO_DEEP);
    else
        writer->left[++writer->depth] = values;
    end(writer);
}

void knit_writer_array(struct knit_writer *writer, uint32_t count)
{
    if (!begin(writer))
        return;
    put_head(writer, knit_pack_array, count);
    open_container(writer, count);
}

void knit_writer_map(struct knit_writer *writer, uint32_t count)
{
    if (!begin(writer))
        return;
    put_head(writer, knit_pack_map, count);
    open_container(writer, (uint64_t)count * 2);
}

static int writer_error(int check_error)
{
    switch (check_error) {
    case 0:
        return 0;
    case KNIT_CHECK_E_TOO_DEEP:
        return KNIT_WRITER_E_TOO_DEEP;
    case KNIT_CHECK_E_TEXT:
        return KNIT_WRITER_E_TEXT;
    case KNIT_CHECK_E_EXT:
        return KNIT_WRITER_E_EXT;
    default:
        return KNIT_WRITER_E_RAW;
    }
}

void knit_writer_ext(struct knit_writer *writer, int code, const void *body, size_t len)
{
    uint8_t head[KNIT_HEAD_BYTES_MAX];
    int r;

    if (!begin(writer))
        return;
    r = knit_check_ext(code, body, len, KNIT_DEPTH_MAX - writer->depth, NULL);
    if (len > UINT32_MAX) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else if (r) {
        fail(writer, writer_error(r));
    } else {
        (void)knit_buffer_append(
            writer->buffer, head, knit_pack_ext(head, (uint32_t)len, (int8_t)code));
        (void)knit_buffer_append(writer->buffer, body, len);
    }
    end(writer);
}

void knit_writer_reference(struct knit_writer *writer, uint32_t msgid)
{
    uint8_t body[KNIT_HEAD_BYTES_MAX], head[KNIT_HEAD_BYTES_MAX];
    const size_t len = knit_pack_uint(body, msgid);

    if (!begin(writer))
        return;
    (void)knit_buffer_append(
        writer->buffer, head, knit_pack_ext(head, (uint32_t)len, KNIT_EXT_RESULT));
    (void)knit_buffer_append(writer->buffer, body, len);
    end(writer);
}

void knit_writer_typed(
    struct knit_writer *writer, unsigned element, const void *elements, size_t count)
{
    const size_t len = knit_encode_elements(element, count);
    uint8_t head[KNIT_ENCODE_TYPED_MAX];
    size_t size;

    if (!begin(writer))
        return;
    size = knit_encode_typed(head, writer->buffer->len - writer->start, element, len);
    if (size == 0) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else {
        (void)knit_buffer_append(writer->buffer, head, size);
        (void)knit_buffer_append(writer->buffer, elements, len);
    }
    end(writer);
}

void knit_writer_time(struct knit_writer *writer, int64_t seconds, uint32_t nanoseconds)
{
    uint8_t bytes[KNIT_PACK_TIME_MAX];

    if (!begin(writer))
        return;
    if (nanoseconds >= 1000000000u)
        fail(writer, KNIT_WRITER_E_EXT);
    else
        (void)knit_buffer_append(
            writer->buffer, bytes, knit_pack_time(bytes, seconds, nanoseconds));
    end(writer);
}

void knit_writer_raw(struct knit_writer *writer, const void *msgpack, size_t len)
{
    int r;

    if (!begin(writer))
        return;
    r = knit_check_value(msgpack, len, KNIT_DEPTH_MAX - writer->depth, NULL);
    if (r)
        fail(writer, writer_error(r));
    else
        knit_buffer_append(writer->buffer, msgpack, len);
    end(writer);
}

/* Whether each typed array in the value that was put last lies aligned, if the writer's value
 * begins at a multiple of 8. */
static bool is_aligned(const struct knit_writer *writer, size_t at, size_t len)
{
    const uint8_t *start = writer->buffer->bytes + writer->start;

    return (uintptr_t)start % sizeof(uint64_t) != 0 ||
           knit_value_is_aligned(knit_read(NULL, writer->buffer->bytes + at, len));
}

/* In place of the value that begins there. */
static void put_aligned(struct knit_writer *writer, size_t at, const void *msgpack, size_t len)
{
    const void *bytes;
    size_t built_len;
    KNIT_BUILDER(builder);

    builder->phase = at - writer->start;
    knit_put_value(builder, knit_read(NULL, msgpack, len));
    writer->buffer->len = at;
    if (knit_built(builder, &bytes, &built_len) == KNIT_OK)
        (void)knit_buffer_append(writer->buffer, bytes, built_len);
    else
        fail(writer, builder->code == KNIT_INTERNAL ? -ENOMEM : KNIT_WRITER_E_RAW);
}

void knit_writer_value(struct knit_writer *writer, const void *msgpack, size_t len)
{
    size_t at = writer->buffer->len, used;
    bool has_typed;
    int r;

    if (!begin(writer))
        return;
    r = knit_check_front_typed(
        msgpack, len, KNIT_DEPTH_MAX - writer->depth, &used, &has_typed, NULL);
    if (r != 0 || used != len)
        fail(writer, r != 0 ? writer_error(r) : KNIT_WRITER_E_RAW);
    else if (knit_buffer_append(writer->buffer, msgpack, len) == 0 && has_typed &&
             !is_aligned(writer, at, len))
        put_aligned(writer, at, msgpack, len);
    end(writer);
}

void knit_writer_member_bool(struct knit_writer *writer, const char *key, bool value)
{
    knit_writer_text(writer, key);
    knit_writer_bool(writer, value);
}

void knit_writer_member_uint(struct knit_writer *writer, const char *key, uint64_t value)
{
    knit_writer_text(writer, key);
    knit_writer_uint(writer, value);
}

void knit_writer_member_str(struct knit_writer *writer, const char *key, struct knit_span text)
{
    if (text.bytes == NULL)
        return;
    knit_writer_text(writer, key);
    knit_writer_str(writer, (const char *)text.bytes, text.len);
}

int knit_writer_end(struct knit_writer *writer)
{
    if (writer->inherited)
        return writer->inherited < 0 ? writer->inherited : KNIT_WRITER_E_FULL;
    if (writer->depth > 0 || writer->left[0] > 0)
        fail(writer, KNIT_WRITER_E_INCOMPLETE);
    if (writer->error) {
        writer->buffer->len = writer->start;
        writer->buffer->error = 0;
    }
    return writer->error;
}

int knit_writer_commit(struct knit_writer *writer)
{
    int error = knit_writer_end(writer);

    if (writer->inherited)
        return writer->inherited;
    if (error == KNIT_WRITER_E_FULL)
        error = KNIT_BUFFER_E_FULL;
    else if (error > 0)
        error = -EINVAL;
    writer->buffer->error = error;
    return error;
}

const char *knit_writer_reason(int error)
{
    switch (error) {
    case 0:
        return "no error";
    case KNIT_WRITER_E_FULL:
        return "the value is larger than the limit";
    case KNIT_WRITER_E_INCOMPLETE:
        return "the value is not complete: fewer elements were put than announced";
    case KNIT_WRITER_E_SURPLUS:
        return "more values were put than announced";
    case KNIT_WRITER_E_TOO_DEEP:
        return "the value is nested too deep";
    case KNIT_WRITER_E_TEXT:
        return "a str is not UTF-8";
    case KNIT_WRITER_E_EXT:
        return "an ext type that is not carried, or a body against its rules";
    case KNIT_WRITER_E_RAW:
        return "raw bytes that are not one msgpack value";
    default:
        return "out of memory";
    }
}
