/* SPDX-License-Identifier: Apache-2.0 */
/* Both trees are walked side by side; the walk of the reader goes by knit_items_next(), as most
 * programs read.
 */
#include "tests/proto/agree.h"

#include <string.h>

#include <knitting/elements.h>

#include "proto/check.h"
#include "proto/types.h"

static bool is_same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/* Elements, pairs, or elements that are keys and values in turn. */
static bool agree_on_items(
    struct knit_decoder *decoder, const struct knit_decoded *decoded, struct knit_value value)
{
    const bool is_map = knit_decoder_type(decoded) == KNIT_DECODED_MAP;
    const bool is_pairs = knit_value_type(value) == KNIT_TYPE_PAIRS;
    const uint32_t count = knit_decoder_count(decoded) / (is_pairs ? 2 : 1);
    struct knit_items items = knit_value_items(value);
    struct knit_value key, item;

    if (knit_value_count(value) != count || items.has_keys != (is_map || is_pairs))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct knit_decoded *decoded_key = is_map     ? knit_decoder_key(decoded, i)
                                                 : is_pairs ? knit_decoder_at(decoded, 2 * i)
                                                            : NULL;

        if (!knit_items_next(&items, &key, &item))
            return false;
        if (decoded_key == NULL ? knit_value_type(key) != KNIT_TYPE_NONE
                                : !knit_agree(decoder, decoded_key, key))
            return false;
        if (!knit_agree(decoder, knit_decoder_at(decoded, is_pairs ? 2 * i + 1 : i), item))
            return false;
    }
    return !knit_items_next(&items, NULL, &item);
}

static bool agree_on_typed(struct knit_span body, struct knit_value value)
{
    struct knit_span elements;
    uint8_t code, size;
    size_t count;
    const void *aligned;

    if (!knit_check_typed(body.bytes, body.len, &code, &size, &elements) || value.element != code ||
        value.number != elements.len / size ||
        !is_same(value.body, (size_t)value.number * size, elements.bytes, elements.len))
        return false;
    aligned = knit_value_typed(value, (enum knit_element)code, &count);
    return count == value.number &&
           (aligned != NULL) == (count == 0 || (uintptr_t)value.body % size == 0);
}

static bool agree_on_ext(
    struct knit_decoder *decoder, const struct knit_decoded *decoded, struct knit_value value)
{
    int code;
    size_t len, body_len;
    const uint8_t *bytes = knit_decoder_bytes(decoded, &len, &code);
    struct knit_span rest = knit_decoder_rest(decoded);
    bool is_negative;
    const void *body;

    switch (code) {
    case KNIT_EXT_UNDEFINED:
        return knit_value_type(value) == KNIT_TYPE_UNDEFINED;
    case KNIT_EXT_BIGINT:
        body = knit_value_bigint(value, &is_negative, &body_len);
        return knit_value_type(value) == KNIT_TYPE_BIGINT && is_negative == (bytes[0] == 1) &&
               is_same(body, body_len, bytes + 1, len - 1);
    case KNIT_EXT_SET:
    case KNIT_EXT_PAIRS:
    case KNIT_EXT_ERROR:
        return (int)knit_value_type(value) == (code == KNIT_EXT_SET        ? KNIT_TYPE_SET
                                                  : code == KNIT_EXT_PAIRS ? KNIT_TYPE_PAIRS
                                                                           : KNIT_TYPE_ERROR) &&
               agree_on_items(decoder, knit_decoder_open(decoder, decoded), value);
    case KNIT_EXT_TYPED:
        return knit_value_type(value) == KNIT_TYPE_TYPED &&
               agree_on_typed(knit_span(bytes, len), value);
    case KNIT_EXT_VIEW:
        body = knit_value_bytes(value, &body_len);
        return knit_value_type(value) == KNIT_TYPE_VIEW && is_same(body, body_len, bytes, len);
    case KNIT_EXT_SYMBOL:
        body = knit_value_text(value, &body_len);
        return knit_value_type(value) == KNIT_TYPE_SYMBOL && is_same(body, body_len, bytes, len);
    case KNIT_EXT_ENVELOPE:
        body = knit_value_body(value, &body_len);
        return knit_value_type(value) == KNIT_TYPE_ENVELOPE &&
               is_same(body, body_len, rest.bytes, rest.len) &&
               knit_agree(decoder, knit_decoder_open(decoder, decoded), knit_value_header(value));
    default:
        return false;
    }
}

static bool agree_on_time(const struct knit_decoded *decoded, struct knit_value value)
{
    int64_t seconds, read_seconds;
    uint32_t nanoseconds, read_nanoseconds;

    return knit_decoder_time(decoded, &seconds, &nanoseconds) &&
           knit_value_time(value, &read_seconds, &read_nanoseconds) && seconds == read_seconds &&
           nanoseconds == read_nanoseconds;
}

static bool agree_on_float(const struct knit_decoded *decoded, struct knit_value value)
{
    double a = knit_decoder_float(decoded), b = knit_value_float(value);

    return knit_value_type(value) == KNIT_TYPE_FLOAT && memcmp(&a, &b, sizeof(a)) == 0;
}

bool knit_agree(
    struct knit_decoder *decoder, const struct knit_decoded *decoded, struct knit_value value)
{
    enum knit_type type = knit_value_type(value);
    size_t len, read_len;
    const void *bytes = knit_decoder_bytes(decoded, &len, NULL), *read;

    switch (knit_decoder_type(decoded)) {
    case KNIT_DECODED_NIL:
        return type == KNIT_TYPE_NIL && knit_value_is_nil(value);
    case KNIT_DECODED_BOOL:
        return type == KNIT_TYPE_BOOL && knit_value_bool(value) == knit_decoder_bool(decoded);
    case KNIT_DECODED_INT:
        return type == KNIT_TYPE_INT && knit_value_int(value) == knit_decoder_int(decoded);
    case KNIT_DECODED_UINT:
        return type == KNIT_TYPE_UINT && knit_value_uint(value) == knit_decoder_uint(decoded);
    case KNIT_DECODED_FLOAT:
        return agree_on_float(decoded, value);
    case KNIT_DECODED_STR:
        read = knit_value_text(value, &read_len);
        return type == KNIT_TYPE_STR && is_same(read, read_len, bytes, len);
    case KNIT_DECODED_BIN:
        read = knit_value_bytes(value, &read_len);
        return type == KNIT_TYPE_BIN && is_same(read, read_len, bytes, len);
    case KNIT_DECODED_ARRAY:
        return type == KNIT_TYPE_ARRAY && agree_on_items(decoder, decoded, value);
    case KNIT_DECODED_MAP:
        return type == KNIT_TYPE_MAP && agree_on_items(decoder, decoded, value);
    case KNIT_DECODED_TIME:
        return agree_on_time(decoded, value);
    case KNIT_DECODED_EXT:
        return agree_on_ext(decoder, decoded, value);
    }
    return false;
}
