/* SPDX-License-Identifier: Apache-2.0 */
/* msgpack-c's packer is a template over what it appends to; here that is a buffer, so that the few
 * bytes of a head go straight into it (msgpack.h's own instance of the template appends through a
 * function pointer). What the packer cannot know is counted here: `left` is a stack of values still
 * due, its bottom being the single value that a writer is for.
 */
#include "proto/writer.h"

#include <errno.h>
#include <string.h>

#include <msgpack/pack_define.h>
#include <msgpack/timestamp.h>

#define msgpack_pack_inline_func(name)               static inline int msgpack_pack##name
#define msgpack_pack_user                            struct knit_buffer *
#define msgpack_pack_append_buffer(user, bytes, len) return knit_buffer_append(user, bytes, len)
#include <msgpack/pack_template.h>

#include "proto/check.h"
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

/* A value is about to be put: is one due? */
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

/* A value has been put: close what is full, and note what the buffer says. */
static inline void end(struct knit_writer *writer)
{
    int error = writer->buffer->error;

    while (writer->depth > 0 && writer->left[writer->depth] == 0)
        writer->depth--;
    if (error)
        fail(writer, error < 0 ? error : KNIT_WRITER_E_FULL);
}

void knit_writer_nil(struct knit_writer *writer)
{
    if (!begin(writer))
        return;
    msgpack_pack_nil(writer->buffer);
    end(writer);
}

void knit_writer_bool(struct knit_writer *writer, bool value)
{
    if (!begin(writer))
        return;
    if (value)
        msgpack_pack_true(writer->buffer);
    else
        msgpack_pack_false(writer->buffer);
    end(writer);
}

void knit_writer_int(struct knit_writer *writer, int64_t value)
{
    if (!begin(writer))
        return;
    msgpack_pack_int64(writer->buffer, value);
    end(writer);
}

void knit_writer_uint(struct knit_writer *writer, uint64_t value)
{
    if (!begin(writer))
        return;
    msgpack_pack_uint64(writer->buffer, value);
    end(writer);
}

void knit_writer_float(struct knit_writer *writer, double value)
{
    if (!begin(writer))
        return;
    msgpack_pack_double(writer->buffer, value);
    end(writer);
}

void knit_writer_str(struct knit_writer *writer, const char *text, size_t len)
{
    if (!begin(writer))
        return;
    if (len > UINT32_MAX) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else if (!knit_text_is_utf8(text, len)) {
        fail(writer, KNIT_WRITER_E_TEXT);
    } else {
        msgpack_pack_str(writer->buffer, len);
        msgpack_pack_str_body(writer->buffer, text, len);
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

    if (place && len > 0)
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
        msgpack_pack_bin(writer->buffer, len);
        place = knit_buffer_reserve(buffer, len);
        if (place)
            buffer->len += len;
    }
    end(writer);
    return place;
}

size_t knit_writer_bin_head(uint8_t ret_head[KNIT_WRITER_BIN_HEAD_MAX], uint32_t len)
{
    struct knit_buffer buffer;

    knit_buffer_init_fixed(&buffer, ret_head, KNIT_WRITER_BIN_HEAD_MAX);
    msgpack_pack_bin(&buffer, len);
    return buffer.len;
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
    msgpack_pack_array(writer->buffer, count);
    open_container(writer, count);
}

void knit_writer_map(struct knit_writer *writer, uint32_t count)
{
    if (!begin(writer))
        return;
    msgpack_pack_map(writer->buffer, count);
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
    int r;

    if (!begin(writer))
        return;
    r = knit_check_ext(code, body, len, KNIT_DEPTH_MAX - writer->depth, NULL);
    if (len > UINT32_MAX) {
        fail(writer, KNIT_WRITER_E_FULL);
    } else if (r) {
        fail(writer, writer_error(r));
    } else {
        msgpack_pack_ext(writer->buffer, len, (int8_t)code);
        msgpack_pack_ext_body(writer->buffer, body, len);
    }
    end(writer);
}

void knit_writer_time(struct knit_writer *writer, int64_t seconds, uint32_t nanoseconds)
{
    msgpack_timestamp time = {.tv_sec = seconds, .tv_nsec = nanoseconds};
    if (!begin(writer))
        return;
    if (nanoseconds >= 1000000000u)
        fail(writer, KNIT_WRITER_E_EXT);
    else
        msgpack_pack_timestamp(writer->buffer, &time);
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
