/* SPDX-License-Identifier: Apache-2.0 */
/* The head of one msgpack value: the first byte and the length, count or number that follows it.
 *
 * This is the one place that knows msgpack's first bytes; scanner, checks, signatures and messages
 * are all written on top of it. Numbers, nil and booleans are nothing but head. A str, bin or ext
 * has `value` bytes of body behind its head, an array `value` values, a map `value` pairs.
 *
 * Security: works on hostile bytes; reads no byte beyond `len` and trusts no number it reads.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>

enum {
    KNIT_HEAD_E_SHORT = 1,    /* the bytes end within the head */
    KNIT_HEAD_E_RESERVED = 2, /* 0xc1, which begins nothing */
};

enum {
    KNIT_HEAD_BYTES_MAX = 9,
    KNIT_HEAD_SPARE = 9, /* bytes behind a value that a look for one more may read: its first byte
                            and eight in one load */
};

enum knit_head_type {
    KNIT_HEAD_NIL,
    KNIT_HEAD_BOOL,    /* value 0 or 1 */
    KNIT_HEAD_UINT,    /* any integer that is not negative, in whatever width it came */
    KNIT_HEAD_INT,     /* a negative integer; value holds its two's complement */
    KNIT_HEAD_FLOAT32, /* value holds the bits */
    KNIT_HEAD_FLOAT64,
    KNIT_HEAD_STR,
    KNIT_HEAD_BIN,
    KNIT_HEAD_ARRAY,
    KNIT_HEAD_MAP,
    KNIT_HEAD_EXT,
    KNIT_HEAD_RESERVED, /* never in a head that was read */
};

struct knit_head {
    uint8_t type; /* enum knit_head_type */
    uint8_t size; /* bytes of the head itself, 1..9 */
    int8_t ext;   /* of an ext, its code; else 0 */
    uint64_t value;
};

/* What a first byte stands for. */
struct knit_head_first {
    uint8_t type; /* enum knit_head_type; of a number that may not be negative in spite of its first
                      byte, INT */
    uint8_t size; /* of the whole head; 0: it begins nothing */
    int8_t value; /* of a head that is one byte */
    uint8_t shift; /* of the eight bytes behind this one, as a number, to have the head's number */
};

extern const struct knit_head_first knit_head_table[256];

/* Bytes of the head that begins with `first`: 1..9; 0: it begins nothing. */
static inline unsigned knit_head_size(uint8_t first)
{
    return knit_head_table[first].size;
}

/* A head of more than one byte. knit_head_read() is the one caller. */
KNIT_MUST_CHECK int knit_head_read_wide(
    const uint8_t *bytes, size_t len, struct knit_head *ret_head);

/* Read the head at `bytes`. Returns 0, KNIT_HEAD_E_SHORT, KNIT_HEAD_E_RESERVED; never < 0. */
KNIT_MUST_CHECK static inline int knit_head_read(
    const uint8_t *bytes, size_t len, struct knit_head *ret_head)
{
    const struct knit_head_first *first;

    if (len == 0)
        return KNIT_HEAD_E_SHORT;
    first = &knit_head_table[bytes[0]];
    if (first->size != 1)
        return knit_head_read_wide(bytes, len, ret_head);
    *ret_head = (struct knit_head){
        .type = first->type, .size = 1, .value = (uint64_t)(int64_t)first->value};
    return 0;
}

/* Whether an ext of this code consists of msgpack, which counts for nesting. */
bool knit_head_ext_holds_msgpack(int8_t code);

/* The same for heads of three and more bytes of a str or bin, for exts, and for what has no such
 * length. knit_head_plain_len() is the one caller. */
size_t knit_head_long_len(const uint8_t *bytes, size_t len);

/* Bytes of the value that begins here, head and body, out of len > 0 bytes. 0: it holds values (a
 * container, some exts), or stands for one (a reference to a result), or is not all there, or is
 * none. */
static inline size_t knit_head_plain_len(const uint8_t *bytes, size_t len)
{
    const struct knit_head_first first = knit_head_table[bytes[0]];
    const unsigned type = first.type;
    size_t size = first.size;

    if (type >= KNIT_HEAD_STR) {
        if (type > KNIT_HEAD_BIN || size > 2)
            return knit_head_long_len(bytes, len);
        if (size > len)
            return 0;
        size += size == 1 ? (size_t)first.value : bytes[1];
    }
    return size <= len ? size : 0;
}

static inline bool knit_head_has_body(const struct knit_head *head)
{
    return head->type == KNIT_HEAD_STR || head->type == KNIT_HEAD_BIN ||
           head->type == KNIT_HEAD_EXT;
}

static inline bool knit_head_is_container(const struct knit_head *head)
{
    return head->type == KNIT_HEAD_ARRAY || head->type == KNIT_HEAD_MAP;
}

/* The number, if it is an integer that fits; false leaves *ret alone. */
static inline bool knit_head_as_int(const struct knit_head *head, int64_t *ret)
{
    if (head->type != KNIT_HEAD_INT && (head->type != KNIT_HEAD_UINT || head->value > INT64_MAX))
        return false;
    *ret = (int64_t)head->value;
    return true;
}

static inline bool knit_head_as_uint(const struct knit_head *head, uint64_t *ret)
{
    if (head->type != KNIT_HEAD_UINT)
        return false;
    *ret = head->value;
    return true;
}

/* Any number as a double; integers beyond 2^53 are rounded. */
bool knit_head_as_float(const struct knit_head *head, double *ret);

/* Writes a number in its shortest form, 1 to 5 bytes, and returns how many. */
static inline size_t knit_head_pack_uint32(uint8_t *to, uint32_t value)
{
    uint32_t wide = htobe32(value);

    if (value < 0x80) {
        to[0] = (uint8_t)value;
        return 1;
    }
    if (value < 0x100) {
        to[0] = 0xcc;
        to[1] = (uint8_t)value;
        return 2;
    }
    if (value < 0x10000) {
        to[0] = 0xcd;
        memcpy(to + 1, (uint8_t *)&wide + 2, 2);
        return 3;
    }
    to[0] = 0xce;
    memcpy(to + 1, &wide, 4);
    return 5;
}

/* How a head is called in messages to people: "int", "str", "typed array"; "ext" for ext codes
 * without a name. Static text. */
const char *knit_head_name(const struct knit_head *head);
