/* SPDX-License-Identifier: Apache-2.0 */
/* One value from its bytes, with the rules of each ext type. Programs use <knitting/read.h>. */
#pragma once

#include <knitting/value.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline struct knit_value knit_value_none(struct knit_reader *reader, const unsigned char *at)
{
    struct knit_value value;

    memset(&value, 0, sizeof(value));
    value.reader = reader;
    value.at = value.body = value.end = at;
    return value;
}

/* What is wrong with an ext of one of these types that holds no values, or NULL; and its parts. */
static inline const char *knit_value_leaf(struct knit_value *value)
{
    const size_t len = (size_t)(value->end - value->body);
    unsigned pad;

    switch (value->type) {
    case KNIT_TYPE_TIME:
        if (len == 4 || len == 8)
            value->number = knit_value_number(value->body, len);
        if (len == 8) {
            value->nanoseconds = (uint32_t)(value->number >> 34);
            value->number &= (UINT64_C(1) << 34) - 1;
        } else if (len == 12) {
            value->nanoseconds = (uint32_t)knit_value_number(value->body, 4);
            value->number = knit_value_number(value->body + 4, 8);
        }
        return (len == 4 || len == 8 || len == 12) && value->nanoseconds < 1000000000u
                   ? NULL
                   : "a timestamp has 4, 8 or 12 bytes and less than 1e9 nanoseconds";
    case KNIT_TYPE_UNDEFINED:
        return len == 0 ? NULL : "undefined has no body";
    case KNIT_TYPE_BIGINT:
        return len > 0 && value->body[0] <= (len > 1) && (len == 1 || value->body[len - 1] != 0)
                   ? NULL
                   : "a bigint is a sign byte and a magnitude without leading zero bytes";
    case KNIT_TYPE_TYPED:
        value->element = len >= 2 ? value->body[0] : 0;
        pad = len >= 2 ? value->body[1] : 0;
        if (knit_element_size(value->element) == 0 || pad > 7 || pad > len - 2 ||
            (len - 2 - pad) % knit_element_size(value->element) != 0)
            return "a typed array is an element code, a pad count and whole elements";
        value->body += 2 + pad;
        value->number = (len - 2 - pad) / knit_element_size(value->element);
        return NULL;
    default:
        return NULL;
    }
}

/* The same of one that consists of values. */
static inline const char *knit_value_branch(struct knit_value *value)
{
    const bool is_error = value->type == KNIT_TYPE_ERROR;
    struct knit_value_head head;

    if (value->type == KNIT_TYPE_ENVELOPE)
        return value->body < value->end ? NULL : "an envelope begins with a header";
    head = knit_value_head(value->body, (size_t)(value->end - value->body));
    if (head.type != (is_error ? KNIT_TYPE_MAP : KNIT_TYPE_ARRAY) || head.size == 0)
        return is_error ? "the body of an error is one map"
                        : "the body of a set or of pairs is one array";
    value->body += head.size;
    value->number = head.number;
    if (head.number > (uint64_t)(value->end - value->body))
        return "a container announces more than there is";
    if (value->type == KNIT_TYPE_PAIRS && head.number % 2 != 0)
        return "pairs need as many values as they have keys";
    if (value->type == KNIT_TYPE_PAIRS)
        value->number /= 2;
    return NULL;
}

/* The value at the front of these bytes. */
static inline struct knit_value knit_value_read(
    struct knit_reader *reader, const unsigned char *at, const unsigned char *end)
{
    static const unsigned char exts[] = {KNIT_TYPE_UNDEFINED, KNIT_TYPE_BIGINT, KNIT_TYPE_SET,
        KNIT_TYPE_PAIRS, KNIT_TYPE_TYPED, KNIT_TYPE_VIEW, KNIT_TYPE_ERROR, KNIT_TYPE_SYMBOL,
        KNIT_TYPE_NONE, KNIT_TYPE_ENVELOPE};
    const struct knit_value_head head = knit_value_head(at, (size_t)(end - at));
    struct knit_value value = knit_value_none(reader, at);
    const char *flaw = NULL;

    value.body = value.end = at + head.size;
    value.number = head.number;
    value.type = head.type;
    if (head.size == 0) {
        flaw = at < end && at[0] == 0xc1 ? "the byte 0xc1 is not msgpack"
                                         : "the bytes end within a value";
    } else if (knit_value_has_body(&head)) {
        if (head.number > (uint64_t)(end - value.body))
            flaw = "the bytes end within a value";
        else
            value.end += head.number;
    } else if (head.type == KNIT_TYPE_ARRAY || head.type == KNIT_TYPE_MAP) {
        value.end = end;
        if (head.number > (uint64_t)(end - value.body))
            flaw = "a container announces more than there is";
    }
    if (flaw == NULL && head.type == KNIT_TYPE_UNDEFINED) {
        value.type = head.ext == -1                     ? (unsigned char)KNIT_TYPE_TIME
                     : head.ext >= 32 && head.ext <= 41 ? exts[head.ext - 32]
                                                        : (unsigned char)KNIT_TYPE_NONE;
        flaw = value.type == KNIT_TYPE_NONE ? head.ext == 40
                                                  ? "references to results are not supported"
                                              : head.ext == 42 ? "shared buffers are not supported"
                                                               : "this ext type is not carried"
               : value.type == KNIT_TYPE_SET || value.type == KNIT_TYPE_PAIRS ||
                       value.type == KNIT_TYPE_ERROR || value.type == KNIT_TYPE_ENVELOPE
                   ? knit_value_branch(&value)
                   : knit_value_leaf(&value);
    }
    if (flaw == NULL)
        return value;
    knit_reader_fail(reader, flaw);
    return knit_value_none(reader, at);
}

/* The first byte behind the value; NULL: it is not whole. */
static inline const unsigned char *knit_value_end(const struct knit_value *value)
{
    if (value->type == KNIT_TYPE_ARRAY || value->type == KNIT_TYPE_MAP)
        return knit_value_skip(value->at, value->end);
    return value->type != KNIT_TYPE_NONE ? value->end : NULL;
}

#ifdef __cplusplus
}
#endif
