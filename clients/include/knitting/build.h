/* SPDX-License-Identifier: Apache-2.0 */
/* Building one value, piece by piece: see <knitting/values.h>.
 *
 * What is wrong sticks: later pieces do nothing, and knit_built() says what the first mistake was.
 * What is built without one passes every check of the protocol. A container announces how many
 * values follow, and ends by itself with the last of them.
 *
 * Threads: any, with one builder for one thread at a time. Nothing here blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/builder.h>

#ifdef __cplusplus
extern "C" {
#endif

/* nil. */
static inline void knit_put_nil(struct knit_builder *builder)
{
    knit_builder_put(builder, 0xc0, 0, 0);
}

/* A bool. */
static inline void knit_put_bool(struct knit_builder *builder, bool value)
{
    knit_builder_put(builder, value ? 0xc3 : 0xc2, 0, 0);
}

/* An integer that is not negative. */
static inline void knit_put_uint(struct knit_builder *builder, uint64_t value)
{
    if (value < 0x80)
        knit_builder_put(builder, (unsigned)value, 0, 0);
    else if (value <= UINT8_MAX)
        knit_builder_put(builder, 0xcc, 1, value);
    else if (value <= UINT16_MAX)
        knit_builder_put(builder, 0xcd, 2, value);
    else if (value <= UINT32_MAX)
        knit_builder_put(builder, 0xce, 4, value);
    else
        knit_builder_put(builder, 0xcf, 8, value);
}

/* An integer. */
static inline void knit_put_int(struct knit_builder *builder, int64_t value)
{
    if (value >= 0)
        knit_put_uint(builder, (uint64_t)value);
    else if (value >= -32)
        knit_builder_put(builder, (unsigned)(value & 0xff), 0, 0);
    else if (value >= INT8_MIN)
        knit_builder_put(builder, 0xd0, 1, (uint64_t)value);
    else if (value >= INT16_MIN)
        knit_builder_put(builder, 0xd1, 2, (uint64_t)value);
    else if (value >= INT32_MIN)
        knit_builder_put(builder, 0xd2, 4, (uint64_t)value);
    else
        knit_builder_put(builder, 0xd3, 8, (uint64_t)value);
}

/* A float, of 64 bits. */
static inline void knit_put_float(struct knit_builder *builder, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    knit_builder_put(builder, 0xcb, 8, bits);
}

/* UTF-8, which is checked. */
static inline void knit_put_str(struct knit_builder *builder, const char *text, size_t len)
{
    unsigned char head[5];

    if (!knit_builder_begin(builder, text != NULL ? text : "", len))
        return;
    if (!knit_encode_is_utf8(text, len))
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT, "a str is not UTF-8");
    else
        knit_builder_body(builder, head, knit_encode_count(head, 0xa0, 31, 0xd9, len), text, len);
    knit_builder_end(builder);
}

/* The same of a text that ends in NUL; NULL is nil. */
static inline void knit_put_text(struct knit_builder *builder, const char *text)
{
    if (text != NULL)
        knit_put_str(builder, text, strlen(text));
    else
        knit_put_nil(builder);
}

/* Bytes. */
static inline void knit_put_bin(struct knit_builder *builder, const void *bytes, size_t len)
{
    unsigned char head[5];

    if (!knit_builder_begin(builder, NULL, 0))
        return;
    knit_builder_body(builder, head, knit_encode_count(head, 0, 0, 0xc4, len), bytes, len);
    knit_builder_end(builder);
}

/* Then put that many values, */
static inline void knit_put_array(struct knit_builder *builder, uint32_t count)
{
    unsigned char head[5];

    if (knit_builder_begin(builder, NULL, 0))
        knit_builder_open(builder, KNIT_BUILDER_PLAIN, head,
            knit_encode_count(head, 0x90, 15, 0xdb, count), count);
}

/* or that many keys, each followed by its value. */
static inline void knit_put_map(struct knit_builder *builder, uint32_t count)
{
    unsigned char head[5];

    if (knit_builder_begin(builder, NULL, 0))
        knit_builder_open(builder, KNIT_BUILDER_PLAIN, head,
            knit_encode_count(head, 0x80, 15, 0xdd, count), (uint64_t)count * 2);
}

/* Nanoseconds below 1e9. */
static inline void knit_put_time(
    struct knit_builder *builder, int64_t seconds, uint32_t nanoseconds)
{
    unsigned char body[12];
    size_t len = 0;

    if (nanoseconds >= 1000000000u) {
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT,
            "a timestamp has 4, 8 or 12 bytes and less than 1e9 nanoseconds");
    } else if (seconds < 0 || seconds >> 34 != 0) {
        len = knit_encode_number(body, 4, nanoseconds);
        len += knit_encode_number(body + len, 8, (uint64_t)seconds);
    } else if (nanoseconds != 0 || seconds > (int64_t)UINT32_MAX) {
        len = knit_encode_number(body, 8, (uint64_t)nanoseconds << 34 | (uint64_t)seconds);
    } else {
        len = knit_encode_number(body, 4, (uint64_t)seconds);
    }
    knit_builder_ext(builder, -1, body, len, NULL, 0);
}

/* Not there, which is something else than nil. */
static inline void knit_put_undefined(struct knit_builder *builder)
{
    knit_builder_ext(builder, 32, NULL, 0, NULL, 0);
}

/* An integer of any size. magnitude: little-endian; zero bytes at its end are left out, and zero
 * has no sign. */
static inline void knit_put_bigint(
    struct knit_builder *builder, bool is_negative, const void *magnitude, size_t len)
{
    unsigned char sign;

    while (len > 0 && ((const unsigned char *)magnitude)[len - 1] == 0)
        len--;
    sign = is_negative && len > 0;
    knit_builder_ext(builder, 33, &sign, 1, magnitude, len);
}

/* Then put that many values, */
static inline void knit_put_set(struct knit_builder *builder, uint32_t count)
{
    unsigned char head[5];

    knit_builder_open_ext(
        builder, KNIT_BUILDER_SET, head, knit_encode_count(head, 0x90, 15, 0xdb, count), count);
}

/* or that many keys, each followed by its value: a map with an identity of its own. */
static inline void knit_put_pairs(struct knit_builder *builder, uint32_t count)
{
    unsigned char head[5];
    uint64_t values = (uint64_t)count * 2;

    knit_builder_open_ext(
        builder, KNIT_BUILDER_PAIRS, head, knit_encode_count(head, 0x90, 15, 0xdb, values), values);
}

/* Elements, `count` of them, copied to where they are aligned. */
static inline void knit_put_typed(
    struct knit_builder *builder, enum knit_element element, const void *elements, size_t count)
{
    knit_builder_typed(builder, element, elements, count);
}

/* The same for the caller to fill in; good until the next put, or NULL after a mistake. The
 * elements are zero before. */
static inline void *knit_put_typed_place(
    struct knit_builder *builder, enum knit_element element, size_t count)
{
    return knit_builder_typed(builder, element, NULL, count);
}

/* A data view: bytes of another type than a bin. */
static inline void knit_put_view(struct knit_builder *builder, const void *bytes, size_t len)
{
    knit_builder_ext(builder, 37, NULL, 0, bytes, len);
}

/* UTF-8: the key of a registered symbol. */
static inline void knit_put_symbol(struct knit_builder *builder, const char *key, size_t len)
{
    if (!knit_encode_is_utf8(key, len))
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT, "a symbol is UTF-8");
    knit_builder_ext(builder, 39, NULL, 0, key, len);
}

/* An error as a value, which is no failure. Then put `more` keys (str) and values, such as "code",
 * "stack", "cause" (an error again) and "data". NULL is "". */
static inline void knit_put_error(
    struct knit_builder *builder, const char *name, const char *message, uint32_t more)
{
    unsigned char head[5];
    uint64_t pairs = (uint64_t)more + 2;

    if (pairs > UINT32_MAX)
        knit_builder_fail(builder, KNIT_TOO_LARGE, "a value is larger than MessagePack can say");
    knit_builder_open_ext(builder, KNIT_BUILDER_ERROR, head,
        knit_encode_count(head, 0x80, 15, 0xdd, pairs), pairs * 2);
    knit_put_text(builder, "name");
    knit_put_text(builder, name != NULL ? name : "");
    knit_put_text(builder, "message");
    knit_put_text(builder, message != NULL ? message : "");
}

/* Then put one value, the header, and with knit_put_body() the body. */
static inline void knit_put_envelope(struct knit_builder *builder)
{
    knit_builder_open_ext(builder, KNIT_BUILDER_ENVELOPE, NULL, 0, 2);
}

/* The bytes behind the header of an envelope, which they complete. */
static inline void knit_put_body(struct knit_builder *builder, const void *bytes, size_t len)
{
    struct knit_builder_frame *frame = &builder->frame[builder->depth];

    if (builder->code != KNIT_OK)
        return;
    if (frame->kind != KNIT_BUILDER_ENVELOPE || frame->left != 1) {
        knit_builder_fail(
            builder, KNIT_BAD_ARGUMENT, "a body belongs behind the header of an envelope");
        return;
    }
    frame->left = 0;
    knit_builder_body(builder, NULL, 0, bytes, len);
    knit_builder_end(builder);
}

/* KNIT_OK and the value, which stays until the next put, reset or free. Else what was wrong:
 * KNIT_BAD_ARGUMENT, KNIT_TOO_DEEP, KNIT_TOO_LARGE, KNIT_INTERNAL (out of memory); and
 * knit_builder_reason() has a sentence for it. */
KNIT_MUST_CHECK static inline int knit_built(
    struct knit_builder *builder, const void **ret_bytes, size_t *ret_len)
{
    if (builder->depth > 0 || builder->len == 0)
        knit_builder_fail(builder, KNIT_BAD_ARGUMENT,
            "the value is not complete: fewer elements were put than announced");
    if (builder->code == KNIT_OK) {
        *ret_bytes = builder->bytes;
        *ret_len = builder->len;
    }
    return builder->code;
}

/* Static text; "no error". */
static inline const char *knit_builder_reason(const struct knit_builder *builder)
{
    return builder->code != KNIT_OK ? builder->reason : "no error";
}

/* Empty again, for another value, in the same memory. */
static inline void knit_builder_reset(struct knit_builder *builder)
{
    builder->len = builder->aligned_end = 0;
    builder->depth = 0;
    builder->code = KNIT_OK;
}

#ifdef __cplusplus
}
#endif
