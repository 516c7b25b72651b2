/* SPDX-License-Identifier: Apache-2.0 */
/* `struct knit_decoded` is msgpack_object, by a cast in this file alone. A reset keeps the zone's
 * first chunk, so decoding small values call after call allocates nothing.
 *
 * The zone grows until its reset. That is bounded for a decoder that serves one call, because the
 * call's bytes are bounded: a decoded value takes at most some 24 times its bytes (an array of
 * nils).
 */
#include "proto/decoder.h"

#include <stdlib.h>

#include <msgpack.h>

#include "proto/check.h"
#include "proto/head.h"

enum { ZONE_BYTES = 8 * 1024 };

struct knit_decoder {
    msgpack_zone zone;
    bool is_used; /* since its reset: most calls decode nothing */
};

static const msgpack_object *object_of(const struct knit_decoded *value)
{
    return (const msgpack_object *)(const void *)value;
}

static const struct knit_decoded *value_of(const msgpack_object *object)
{
    return (const struct knit_decoded *)(const void *)object;
}

struct knit_decoder *knit_decoder_new(void)
{
    struct knit_decoder *decoder = calloc(1, sizeof(*decoder));

    if (decoder != NULL && !msgpack_zone_init(&decoder->zone, ZONE_BYTES)) {
        free(decoder);
        return NULL;
    }
    return decoder;
}

struct knit_decoder *knit_decoder_free(struct knit_decoder *decoder)
{
    if (decoder != NULL) {
        msgpack_zone_destroy(&decoder->zone);
        free(decoder);
    }
    return NULL;
}

void knit_decoder_reset(struct knit_decoder *decoder)
{
    if (decoder->is_used)
        msgpack_zone_clear(&decoder->zone);
    decoder->is_used = false;
}

const struct knit_decoded *knit_decoder_read(
    struct knit_decoder *decoder, const void *bytes, size_t len)
{
    msgpack_object *object = msgpack_zone_malloc(&decoder->zone, sizeof(*object));
    size_t used = 0;

    decoder->is_used = true;
    if (object == NULL)
        return NULL;
    if (msgpack_unpack(bytes, len, &used, &decoder->zone, object) != MSGPACK_UNPACK_SUCCESS)
        return NULL;
    return value_of(object);
}

const struct knit_decoded *knit_decoder_open(
    struct knit_decoder *decoder, const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);
    size_t len;

    if (object == NULL || object->type != MSGPACK_OBJECT_EXT)
        return NULL;
    len = object->via.ext.size;
    switch (object->via.ext.type) {
    case KNIT_EXT_ENVELOPE:
        if (knit_check_skip(object->via.ext.ptr, len, &len))
            return NULL;
        break;
    case KNIT_EXT_SET:
    case KNIT_EXT_PAIRS:
    case KNIT_EXT_ERROR:
        break;
    default:
        return NULL;
    }
    return knit_decoder_read(decoder, object->via.ext.ptr, len);
}

struct knit_span knit_decoder_rest(const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);
    size_t len;

    if (object == NULL || object->type != MSGPACK_OBJECT_EXT ||
        object->via.ext.type != KNIT_EXT_ENVELOPE ||
        knit_check_skip(object->via.ext.ptr, object->via.ext.size, &len))
        return (struct knit_span){0};
    return knit_span(object->via.ext.ptr + len, object->via.ext.size - len);
}

enum knit_decoded_type knit_decoder_type(const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);

    if (object == NULL)
        return KNIT_DECODED_NIL;
    switch (object->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return KNIT_DECODED_BOOL;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return object->via.u64 > INT64_MAX ? KNIT_DECODED_UINT : KNIT_DECODED_INT;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return KNIT_DECODED_INT;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return KNIT_DECODED_FLOAT;
    case MSGPACK_OBJECT_STR:
        return KNIT_DECODED_STR;
    case MSGPACK_OBJECT_BIN:
        return KNIT_DECODED_BIN;
    case MSGPACK_OBJECT_ARRAY:
        return KNIT_DECODED_ARRAY;
    case MSGPACK_OBJECT_MAP:
        return KNIT_DECODED_MAP;
    case MSGPACK_OBJECT_EXT:
        return object->via.ext.type == KNIT_EXT_TIME ? KNIT_DECODED_TIME : KNIT_DECODED_EXT;
    case MSGPACK_OBJECT_NIL:
    default:
        return KNIT_DECODED_NIL;
    }
}

bool knit_decoder_bool(const struct knit_decoded *value)
{
    return knit_decoder_type(value) == KNIT_DECODED_BOOL && object_of(value)->via.boolean;
}

int64_t knit_decoder_int(const struct knit_decoded *value)
{
    return knit_decoder_type(value) == KNIT_DECODED_INT ? object_of(value)->via.i64 : 0;
}

uint64_t knit_decoder_uint(const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);

    return object != NULL && object->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? object->via.u64 : 0;
}

double knit_decoder_float(const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);
    enum knit_decoded_type type = knit_decoder_type(value);

    if (type == KNIT_DECODED_FLOAT)
        return object->via.f64;
    if (type == KNIT_DECODED_INT)
        return (double)object->via.i64;
    return type == KNIT_DECODED_UINT ? (double)object->via.u64 : 0;
}

const void *knit_decoder_bytes(const struct knit_decoded *value, size_t *ret_len, int *ret_ext)
{
    const msgpack_object *object = object_of(value);
    const void *bytes = NULL;
    size_t len = 0;
    int ext = 0;

    if (object != NULL && object->type == MSGPACK_OBJECT_STR) {
        bytes = object->via.str.ptr;
        len = object->via.str.size;
    } else if (object != NULL && object->type == MSGPACK_OBJECT_BIN) {
        bytes = object->via.bin.ptr;
        len = object->via.bin.size;
    } else if (object != NULL && object->type == MSGPACK_OBJECT_EXT) {
        bytes = object->via.ext.ptr;
        len = object->via.ext.size;
        ext = (int)object->via.ext.type;
    }
    *ret_len = len;
    if (ret_ext != NULL)
        *ret_ext = ext;
    return bytes;
}

uint32_t knit_decoder_count(const struct knit_decoded *value)
{
    const msgpack_object *object = object_of(value);

    if (object != NULL && object->type == MSGPACK_OBJECT_ARRAY)
        return object->via.array.size;
    return object != NULL && object->type == MSGPACK_OBJECT_MAP ? object->via.map.size : 0;
}

const struct knit_decoded *knit_decoder_at(const struct knit_decoded *value, uint32_t index)
{
    const msgpack_object *object = object_of(value);

    if (index >= knit_decoder_count(value))
        return NULL;
    if (object->type == MSGPACK_OBJECT_ARRAY)
        return value_of(&object->via.array.ptr[index]);
    return value_of(&object->via.map.ptr[index].val);
}

const struct knit_decoded *knit_decoder_key(const struct knit_decoded *value, uint32_t index)
{
    const msgpack_object *object = object_of(value);

    if (index >= knit_decoder_count(value) || object->type != MSGPACK_OBJECT_MAP)
        return NULL;
    return value_of(&object->via.map.ptr[index].key);
}

bool knit_decoder_time(
    const struct knit_decoded *value, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    const msgpack_object *object = object_of(value);

    if (knit_decoder_type(value) != KNIT_DECODED_TIME)
        return false;
    return knit_check_time(object->via.ext.ptr, object->via.ext.size, ret_seconds, ret_nanoseconds);
}
