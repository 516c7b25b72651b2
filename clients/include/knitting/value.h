/* SPDX-License-Identifier: Apache-2.0 */
/* One value where it lies: how its first bytes are read. Programs use <knitting/read.h>. Threads:
 * any. Nothing here blocks.
 *
 * Each byte of a head is read once, into the structure that all getters use, so that not even bytes
 * that change meanwhile, as those of shared memory may, lead out of the value's bounds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>
#include <knitting/encode.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, what it is called in messages) */
#define KNIT_VALUE_TYPES(X)                                                                        \
    X(NONE, "nothing") /* no such key or element, or bytes that are no value */                    \
    X(NIL, "nil")                                                                                  \
    X(BOOL, "bool")                                                                                \
    X(INT, "int")   /* fits int64_t */                                                             \
    X(UINT, "uint") /* above INT64_MAX */                                                          \
    X(FLOAT, "float")                                                                              \
    X(STR, "str")                                                                                  \
    X(BIN, "bin")                                                                                  \
    X(ARRAY, "array")                                                                              \
    X(MAP, "map")                                                                                  \
    X(TIME, "time")                                                                                \
    X(UNDEFINED, "undefined")                                                                      \
    X(BIGINT, "bigint")                                                                            \
    X(SET, "set")                                                                                  \
    X(PAIRS, "pairs")                                                                              \
    X(TYPED, "typed array")                                                                        \
    X(VIEW, "view")                                                                                \
    X(ERROR, "error")                                                                              \
    X(SYMBOL, "symbol")                                                                            \
    X(ENVELOPE, "envelope")

enum knit_type {
#define KNIT_VALUE_TYPE(NAME, text) KNIT_TYPE_##NAME,
    KNIT_VALUE_TYPES(KNIT_VALUE_TYPE)
#undef KNIT_VALUE_TYPE
};

/* For programs: as signatures have it; static text. */
static inline const char *knit_type_name(enum knit_type type)
{
#define KNIT_VALUE_TYPE(NAME, text) text,
    static const char *const names[] = {KNIT_VALUE_TYPES(KNIT_VALUE_TYPE)};
#undef KNIT_VALUE_TYPE

    return names[(unsigned)type < sizeof(names) / sizeof(names[0]) ? type : KNIT_TYPE_NONE];
}

/* Notes the first value that was not what it was taken for, in one value or in several that are
 * read with it. struct knit_reader reader = KNIT_READER_INIT; */
struct knit_reader {
    int code;           /* KNIT_OK, or KNIT_BAD_ARGUMENT: the rest says what was wrong */
    const char *reason; /* of bytes that are no value; else NULL */
    const char *name;   /* under which the value was looked up; or NULL */
    const char *expected, *actual;
};
/* clang-format off */
#define KNIT_READER_INIT {KNIT_OK, NULL, NULL, NULL, NULL}
/* clang-format on */

/* A value, borrowed from the bytes in which it lies. It is handed on as it is: by value. */
struct knit_value {
    struct knit_reader *reader; /* NULL: nobody asks */
    const char *name;           /* under which it was looked up; or NULL */
    const unsigned char *at;    /* its first byte, */
    const unsigned char *body;  /* the first behind its head or, of an ext that consists of values,
                                   behind theirs; of a typed array the elements, */
    const unsigned char
        *end; /* and the first behind it; of an array or a map, behind all there is */
    uint64_t
        number; /* an integer, the bits of a float, bytes, elements, pairs; seconds of a time */
    uint32_t nanoseconds;
    unsigned char type; /* enum knit_type */
    unsigned char element;
};

static inline void knit_reader_fail(struct knit_reader *reader, const char *reason)
{
    if (reader == NULL || reader->code != KNIT_OK)
        return;
    reader->code = KNIT_BAD_ARGUMENT;
    reader->reason = reason;
}

/* The head alone: first byte, and what follows it. */
struct knit_value_head {
    unsigned char type; /* enum knit_type; UNDEFINED stands for any ext */
    unsigned char size; /* 0: these bytes are none */
    signed char ext;
    uint64_t number;
};

static inline uint64_t knit_value_number(const unsigned char *at, size_t bytes)
{
    uint64_t number = 0;

    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | at[i];
    return number;
}

/* A head that goes on behind its first byte: the types by the first byte less 0xc0. */
static inline struct knit_value_head knit_value_wide(
    const unsigned char *at, size_t len, unsigned first)
{
    /* nil, reserved, false, true; bin; ext; float; uint; int; fixed exts; str; array; map */
    static const unsigned char types[] = {1, 0, 2, 2, 7, 7, 7, 11, 11, 11, 5, 5, 3, 3, 3, 3, 3, 3,
        3, 3, 11, 11, 11, 11, 11, 6, 6, 6, 8, 8, 9, 9};
    static const unsigned char widths[] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4,
        8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    const size_t width = widths[first - 0xc0];
    struct knit_value_head head = {types[first - 0xc0], 0, 0, 0};
    const bool is_ext = head.type == KNIT_TYPE_UNDEFINED;

    if (head.type == KNIT_TYPE_NONE || len < 1 + width + is_ext)
        return head;
    head.size = (unsigned char)(1 + width + is_ext);
    head.number = width != 0 ? knit_value_number(at + 1, width) : first & 1;
    if (is_ext)
        head.ext = (signed char)at[1 + width];
    if (is_ext && width == 0)
        head.number = UINT64_C(1) << (first - 0xd4);
    if (first >= 0xd0 && first <= 0xd3 && width < 8 && (head.number >> (8 * width - 1)) != 0)
        head.number |= ~UINT64_C(0) << (8 * width);
    if (first == 0xcf && head.number > INT64_MAX)
        head.type = KNIT_TYPE_UINT;
    return head;
}

static inline struct knit_value_head knit_value_head(const unsigned char *at, size_t len)
{
    struct knit_value_head head = {KNIT_TYPE_NONE, 0, 0, 0};
    const unsigned first = len > 0 ? at[0] : 0xc1;

    if (first >= 0xc0 && first < 0xe0)
        return knit_value_wide(at, len, first);
    head.size = 1;
    head.number = first;
    head.type = KNIT_TYPE_INT;
    if (first >= 0xe0) {
        head.number = (uint64_t)((int64_t)first - 0x100);
    } else if (first >= 0xa0) {
        head.type = KNIT_TYPE_STR;
        head.number = first & 0x1f;
    } else if (first >= 0x80) {
        head.type = first >= 0x90 ? KNIT_TYPE_ARRAY : KNIT_TYPE_MAP;
        head.number = first & 0x0f;
    }
    return head;
}

/* Whether bytes of that number follow the head. */
static inline bool knit_value_has_body(const struct knit_value_head *head)
{
    return head->type == KNIT_TYPE_STR || head->type == KNIT_TYPE_BIN ||
           head->type == KNIT_TYPE_UNDEFINED;
}

/* The first byte behind a value, by heads alone; NULL: there is none. */
static inline const unsigned char *knit_value_skip(
    const unsigned char *at, const unsigned char *end)
{
    uint64_t pending = 1;

    while (pending > 0) {
        struct knit_value_head head = knit_value_head(at, (size_t)(end - at));

        if (head.size == 0)
            return NULL;
        at += head.size;
        pending--;
        if (knit_value_has_body(&head)) {
            if (head.number > (uint64_t)(end - at))
                return NULL;
            at += head.number;
        } else if (head.type == KNIT_TYPE_ARRAY || head.type == KNIT_TYPE_MAP) {
            pending += head.type == KNIT_TYPE_MAP ? head.number * 2 : head.number;
        }
        /* Each takes a byte at least. */
        if (pending > (uint64_t)(end - at))
            return NULL;
    }
    return at;
}

#ifdef __cplusplus
}
#endif
