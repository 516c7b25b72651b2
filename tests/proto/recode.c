/* SPDX-License-Identifier: Apache-2.0 */
/* A walk over the decoded value, child by child; an ext that contains msgpack is opened, put
 * together in a buffer of its own, and put as an ext again.
 */
#include "tests/proto/recode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/decoder.h"
#include "proto/limits.h"
#include "proto/writer.h"

enum { BUFFER_MAX = 64 << 20 };

static void put(
    struct knit_decoder *decoder, const struct knit_decoded *value, struct knit_writer *writer);

static void put_children(
    struct knit_decoder *decoder, const struct knit_decoded *value, struct knit_writer *writer)
{
    bool is_map = knit_decoder_type(value) == KNIT_DECODED_MAP;

    for (uint32_t i = 0; i < knit_decoder_count(value); i++) {
        if (is_map)
            put(decoder, knit_decoder_key(value, i), writer);
        put(decoder, knit_decoder_at(value, i), writer);
    }
}

static void put_ext(
    struct knit_decoder *decoder, const struct knit_decoded *value, struct knit_writer *writer)
{
    const struct knit_decoded *inner = knit_decoder_open(decoder, value);
    struct knit_span rest = knit_decoder_rest(value);
    struct knit_writer inner_writer;
    struct knit_buffer body;
    const void *bytes;
    size_t len;
    int code;

    bytes = knit_decoder_bytes(value, &len, &code);
    if (inner == NULL) {
        knit_writer_ext(writer, code, bytes, len);
        return;
    }
    knit_buffer_init(&body, BUFFER_MAX);
    knit_writer_init(&inner_writer, &body);
    put(decoder, inner, &inner_writer);
    assert_int_equal(knit_writer_end(&inner_writer), 0);
    knit_buffer_append(&body, rest.bytes, rest.len);
    knit_writer_ext(writer, code, body.bytes, body.len);
    knit_buffer_fini(&body);
}

static void put_time(const struct knit_decoded *value, struct knit_writer *writer)
{
    int64_t seconds;
    uint32_t nanoseconds;

    assert_true(knit_decoder_time(value, &seconds, &nanoseconds));
    knit_writer_time(writer, seconds, nanoseconds);
}

static void put(
    struct knit_decoder *decoder, const struct knit_decoded *value, struct knit_writer *writer)
{
    const void *bytes;
    size_t len;

    bytes = knit_decoder_bytes(value, &len, NULL);
    switch (knit_decoder_type(value)) {
    case KNIT_DECODED_NIL:
        knit_writer_nil(writer);
        break;
    case KNIT_DECODED_BOOL:
        knit_writer_bool(writer, knit_decoder_bool(value));
        break;
    case KNIT_DECODED_INT:
        knit_writer_int(writer, knit_decoder_int(value));
        break;
    case KNIT_DECODED_UINT:
        knit_writer_uint(writer, knit_decoder_uint(value));
        break;
    case KNIT_DECODED_FLOAT:
        knit_writer_float(writer, knit_decoder_float(value));
        break;
    case KNIT_DECODED_STR:
        knit_writer_str(writer, bytes, len);
        break;
    case KNIT_DECODED_BIN:
        knit_writer_bin(writer, bytes, len);
        break;
    case KNIT_DECODED_ARRAY:
        knit_writer_array(writer, knit_decoder_count(value));
        put_children(decoder, value, writer);
        break;
    case KNIT_DECODED_MAP:
        knit_writer_map(writer, knit_decoder_count(value));
        put_children(decoder, value, writer);
        break;
    case KNIT_DECODED_TIME:
        put_time(value, writer);
        break;
    case KNIT_DECODED_EXT:
        put_ext(decoder, value, writer);
        break;
    }
}

int knit_recode(struct knit_span value, struct knit_buffer *buffer)
{
    struct knit_decoder *decoder;
    const struct knit_decoded *decoded;
    struct knit_writer writer;
    int r = knit_check_value(value.bytes, value.len, KNIT_DEPTH_MAX, NULL);

    if (r)
        return r;
    decoder = knit_decoder_new();
    assert_non_null(decoder);
    decoded = knit_decoder_read(decoder, value.bytes, value.len);
    assert_non_null(decoded);
    knit_writer_init(&writer, buffer);
    put(decoder, decoded, &writer);
    assert_int_equal(knit_writer_end(&writer), 0);
    knit_decoder_free(decoder);
    return 0;
}
