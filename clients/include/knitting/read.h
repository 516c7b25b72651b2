/* SPDX-License-Identifier: Apache-2.0 */
/* Reading values: see <knitting/values.h>.
 *
 * A getter of another type than the value's returns 0, NULL or nothing, and its reader notes that,
 * the first time: so a row of getters needs one question at its end.
 *
 * Threads: any, with one reader for one thread at a time. Nothing here blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/decode.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Begins to read one msgpack value. reader: gets what is wrong; NULL = nobody asks. bytes: NULL =
 * there is no value. Those of arguments and of results that a signature names have been checked; of
 * others, what is read is, but not whether a str is UTF-8. */
static inline struct knit_value knit_read(struct knit_reader *reader, const void *bytes, size_t len)
{
    const unsigned char *at = (const unsigned char *)bytes;

    if (at == NULL)
        return knit_value_none(reader, at);
    return knit_value_read(reader, at, at + len);
}

/* KNIT_OK; or KNIT_BAD_ARGUMENT: a value was missing or of another type. */
KNIT_MUST_CHECK static inline int knit_reader_code(const struct knit_reader *reader)
{
    return reader->code;
}

/* What it is: KNIT_TYPE_INT and so on. */
static inline enum knit_type knit_value_type(struct knit_value value)
{
    return (enum knit_type)value.type;
}

/* nil, or not there at all. */
static inline bool knit_value_is_nil(struct knit_value value)
{
    return value.type <= KNIT_TYPE_NIL;
}

/* Not for programs: notes that it is of another type. */
static inline void knit_value_differs(struct knit_value value, const char *expected)
{
    struct knit_reader *reader = value.reader;

    if (reader == NULL || reader->code != KNIT_OK)
        return;
    knit_reader_fail(reader, NULL);
    reader->name = value.name;
    reader->expected = expected;
    reader->actual = knit_type_name((enum knit_type)value.type);
}

/* Not for programs: whether it is of that type, which is noted if not. */
static inline bool knit_value_expect(struct knit_value value, enum knit_type type)
{
    if (value.type == type)
        return true;
    knit_value_differs(value, knit_type_name(type));
    return false;
}

/* True or false. */
static inline bool knit_value_bool(struct knit_value value)
{
    return knit_value_expect(value, KNIT_TYPE_BOOL) && value.number != 0;
}

/* An integer that fits int64_t. */
static inline int64_t knit_value_int(struct knit_value value)
{
    return knit_value_expect(value, KNIT_TYPE_INT) ? (int64_t)value.number : 0;
}

/* An integer that is not negative. */
static inline uint64_t knit_value_uint(struct knit_value value)
{
    if (value.type == KNIT_TYPE_UINT ||
        (value.type == KNIT_TYPE_INT && value.number <= (uint64_t)INT64_MAX))
        return value.number;
    knit_value_differs(value, "uint");
    return 0;
}

/* Any number; integers beyond 2^53 are rounded. */
static inline double knit_value_float(struct knit_value value)
{
    double wide = 0;
    float narrow;
    uint32_t bits;

    if (value.type == KNIT_TYPE_INT)
        return (double)(int64_t)value.number;
    if (value.type == KNIT_TYPE_UINT)
        return (double)value.number;
    if (!knit_value_expect(value, KNIT_TYPE_FLOAT))
        return 0;
    if (value.body - value.at == 9) {
        memcpy(&wide, &value.number, sizeof(wide));
        return wide;
    }
    bits = (uint32_t)value.number;
    memcpy(&narrow, &bits, sizeof(narrow));
    return (double)narrow;
}

/* Seconds since 1970-01-01 00:00 UTC, and nanoseconds. False, and nothing written: it is none. */
static inline bool knit_value_time(
    struct knit_value value, int64_t *ret_seconds, uint32_t *ret_nanoseconds)
{
    if (!knit_value_expect(value, KNIT_TYPE_TIME))
        return false;
    *ret_seconds = (int64_t)value.number;
    *ret_nanoseconds = value.nanoseconds;
    return true;
}

/* Of a str or a symbol; not NUL-terminated. ret_len is written in any case. */
static inline const char *knit_value_text(struct knit_value value, size_t *ret_len)
{
    bool is_text = value.type == KNIT_TYPE_STR || value.type == KNIT_TYPE_SYMBOL;

    if (!is_text)
        knit_value_differs(value, "str");
    *ret_len = is_text ? (size_t)(value.end - value.body) : 0;
    return is_text ? (const char *)value.body : NULL;
}

/* Of a bin or a view. */
static inline const void *knit_value_bytes(struct knit_value value, size_t *ret_len)
{
    bool is_bytes = value.type == KNIT_TYPE_BIN || value.type == KNIT_TYPE_VIEW;

    if (!is_bytes)
        knit_value_differs(value, "bin");
    *ret_len = is_bytes ? (size_t)(value.end - value.body) : 0;
    return is_bytes ? value.body : NULL;
}

/* The magnitude, little-endian, without zero bytes at its end: of zero, no bytes. */
static inline const void *knit_value_bigint(
    struct knit_value value, bool *ret_is_negative, size_t *ret_len)
{
    bool is_bigint = knit_value_expect(value, KNIT_TYPE_BIGINT);

    *ret_is_negative = is_bigint && value.body[0] != 0;
    *ret_len = is_bigint ? (size_t)(value.end - value.body) - 1 : 0;
    return is_bigint ? value.body + 1 : NULL;
}

/* The value's own msgpack bytes, to be handed on. */
static inline const void *knit_value_raw(struct knit_value value, size_t *ret_len)
{
    const unsigned char *end = knit_value_end(&value);

    *ret_len = end != NULL ? (size_t)(end - value.at) : 0;
    return end != NULL ? value.at : NULL;
}

/* Elements of an array or a set, pairs of a map, pairs or an error; of others 0. */
static inline uint64_t knit_value_count(struct knit_value value)
{
    switch (value.type) {
    case KNIT_TYPE_ARRAY:
    case KNIT_TYPE_MAP:
    case KNIT_TYPE_SET:
    case KNIT_TYPE_PAIRS:
    case KNIT_TYPE_ERROR:
        return value.number;
    default:
        knit_value_differs(value, "array");
        return 0;
    }
}

/* A walk over the elements or pairs of one of these. */
struct knit_items {
    struct knit_reader *reader;
    const unsigned char *at, *end;
    uint64_t left;
    bool has_keys;
};

/* Begins the walk. */
static inline struct knit_items knit_value_items(struct knit_value value)
{
    struct knit_items items = {value.reader, value.body, value.end, 0, false};

    items.left = knit_value_count(value);
    items.has_keys = value.type == KNIT_TYPE_MAP || value.type == KNIT_TYPE_PAIRS ||
                     value.type == KNIT_TYPE_ERROR;
    return items;
}

/* Not for programs: the next value, a key or not. */
static inline bool knit_items_read(struct knit_items *items, struct knit_value *ret_value)
{
    const unsigned char *end;

    *ret_value = knit_value_read(items->reader, items->at, items->end);
    end = knit_value_end(ret_value);
    if (end != NULL)
        items->at = end;
    else
        items->left = 0;
    return end != NULL;
}

/* The next element or, of a pair, key and value; the key of an element is NONE, and ret_key may be
 * NULL. False: there is none. */
static inline bool knit_items_next(
    struct knit_items *items, struct knit_value *ret_key, struct knit_value *ret_value)
{
    struct knit_value key = knit_value_none(items->reader, items->at);

    if (items->left == 0 || (items->has_keys && !knit_items_read(items, &key)))
        return false;
    if (ret_key != NULL)
        *ret_key = key;
    items->left--;
    return knit_items_read(items, ret_value);
}

/* An element, or the value of a pair; NONE past the end. A walk over all of them is for
 * knit_items_next(): this one begins at the front each time. */
static inline struct knit_value knit_value_at(struct knit_value value, uint64_t index)
{
    struct knit_items items = knit_value_items(value);
    struct knit_value item;

    while (knit_items_next(&items, NULL, &item)) {
        if (index-- == 0)
            return item;
    }
    return knit_value_none(value.reader, value.at);
}

/* The value under a str key of a map, pairs or an error; NONE if there is none, which is no mistake
 * before somebody takes it for a value. */
static inline struct knit_value knit_value_get(struct knit_value value, const char *key)
{
    struct knit_items items = knit_value_items(value);
    struct knit_value name, item, found = knit_value_none(value.reader, value.at);
    const size_t len = strlen(key);

    while (
        found.type == KNIT_TYPE_NONE && items.has_keys && knit_items_next(&items, &name, &item)) {
        if (name.type == KNIT_TYPE_STR && (size_t)(name.end - name.body) == len &&
            memcmp(name.body, key, len) == 0)
            found = item;
    }
    found.name = key;
    return found;
}

/* Of an envelope: its header, */
static inline struct knit_value knit_value_header(struct knit_value value)
{
    if (!knit_value_expect(value, KNIT_TYPE_ENVELOPE))
        return knit_value_none(value.reader, value.at);
    return knit_value_read(value.reader, value.body, value.end);
}

/* and the bytes behind it. */
static inline const void *knit_value_body(struct knit_value value, size_t *ret_len)
{
    const unsigned char *body = NULL;

    if (knit_value_expect(value, KNIT_TYPE_ENVELOPE))
        body = knit_value_skip(value.body, value.end);
    *ret_len = body != NULL ? (size_t)(value.end - body) : 0;
    return body;
}

#ifdef __cplusplus
}
#endif
