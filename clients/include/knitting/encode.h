/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of values: heads of MessagePack in their shortest form, typed arrays whose elements are
 * aligned, and what UTF-8 is. Programs use <knitting/build.h>.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KNIT_ENCODE_EXT_MAX = 6, KNIT_ENCODE_TYPED_MAX = 15 }; /* bytes of the longest heads */

/* What typed arrays consist of; the codes of the protocol. */
enum knit_element {
    KNIT_I8 = 1,
    KNIT_U8 = 2,
    KNIT_U8C = 3, /* clamped where JavaScript writes them */
    KNIT_I16 = 4,
    KNIT_U16 = 5,
    KNIT_I32 = 6,
    KNIT_U32 = 7,
    KNIT_F32 = 8,
    KNIT_F64 = 9,
    KNIT_I64 = 10,
    KNIT_U64 = 11,
};

/* Bytes of one element; 0: there is no such code. */
static inline size_t knit_element_size(unsigned element)
{
    return element == 0 || element > KNIT_U64 ? 0
           : element <= KNIT_U8C              ? 1
           : element <= KNIT_U16              ? 2
           : element <= KNIT_F32              ? 4
                                              : 8;
}

/* Bytes of so many elements, none if there is no such code; what no body can hold becomes
 * UINT32_MAX, which the heads below refuse. */
static inline size_t knit_encode_elements(unsigned element, size_t count)
{
    const size_t size = knit_element_size(element);

    if (size == 0)
        return 0;
    return count <= (UINT32_MAX - 16) / size ? count * size : UINT32_MAX;
}

/* Unicode's: no overlong forms, no surrogates, nothing above U+10FFFF. */
static inline bool knit_encode_is_utf8(const void *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text, *end = len > 0 ? at + len : at;
    uint64_t word;

    while (at < end) {
        unsigned first = at[0], more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;

        if (end - at >= 8) {
            memcpy(&word, at, 8);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                continue;
            }
        }
        at++;
        if (first < 0x80)
            continue;
        if (first < 0xc2 || first > 0xf4 || (size_t)(end - at) < more)
            return false;
        if ((first == 0xe0 && at[0] < 0xa0) || (first == 0xed && at[0] > 0x9f) ||
            (first == 0xf0 && at[0] < 0x90) || (first == 0xf4 && at[0] > 0x8f))
            return false;
        for (; more > 0; more--, at++) {
            if ((at[0] & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

/* Big-endian; returns its bytes. */
static inline size_t knit_encode_number(unsigned char *to, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
    return bytes;
}

/* The head of what has so many bytes or values: within its first byte up to `few`, else behind
 * `wide` (one byte; two: wide + 1; four: wide + 2). An array and a map have no form of one byte, so
 * their `wide` is the number before that of two. Returns its bytes, at most 5; 0: too many. */
static inline size_t knit_encode_count(
    unsigned char *to, unsigned fix, unsigned few, unsigned wide, uint64_t count)
{
    bool has_byte = wide != 0xdb && wide != 0xdd;
    unsigned bytes = has_byte && count <= UINT8_MAX ? 1 : count <= UINT16_MAX ? 2 : 4;

    if (count > UINT32_MAX)
        return 0;
    if (few != 0 && count <= few) {
        to[0] = (unsigned char)(fix | (unsigned)count);
        return 1;
    }
    to[0] = (unsigned char)(wide + bytes / 2);
    return 1 + knit_encode_number(to + 1, bytes, count);
}

/* The head of an ext whose length fits 32 bits. Returns its bytes. */
static inline size_t knit_encode_ext(unsigned char *to, uint64_t len, int code)
{
    unsigned bytes = len <= UINT8_MAX ? 1 : len <= UINT16_MAX ? 2 : 4;
    size_t size = 1;

    if (len == 1 || len == 2 || len == 4 || len == 8 || len == 16) {
        to[0] = (unsigned char)(len == 1   ? 0xd4
                                : len == 2 ? 0xd5
                                : len == 4 ? 0xd6
                                : len == 8 ? 0xd7
                                           : 0xd8);
    } else {
        to[0] = (unsigned char)(0xc7 + bytes / 2);
        size += knit_encode_number(to + 1, bytes, len);
    }
    to[size] = (unsigned char)code;
    return size + 1;
}

/* The head, code and pad of a typed array of `len` bytes that begins at `offset` of a value: as
 * short as they can be with the elements aligned to their size. Returns its bytes; 0: too long. */
static inline size_t knit_encode_typed(
    unsigned char *to, size_t offset, unsigned element, size_t len)
{
    static const unsigned char sizes[] = {2, 3, 4, 6};
    const size_t align = len > 0 ? knit_element_size(element) : 1;

    for (unsigned form = 0; form < sizeof(sizes); form++) {
        size_t size = sizes[form], pad = (align - (offset + size + 2) % align) % align;
        size_t body = 2 + pad + len;

        if (len > UINT32_MAX - 16)
            return 0;
        if (form == 0 ? body != 2 && body != 4 && body != 8 && body != 16
                      : form < 3 && body > (form == 1 ? UINT8_MAX : UINT16_MAX))
            continue;
        if (form == 0) {
            (void)knit_encode_ext(to, body, 36);
        } else {
            to[0] = (unsigned char)(0xc6 + form);
            (void)knit_encode_number(to + 1, form == 3 ? 4 : form, body);
            to[size - 1] = 36;
        }
        to[size] = (unsigned char)element;
        to[size + 1] = (unsigned char)pad;
        memset(to + size + 2, 0, pad);
        return size + 2 + pad;
    }
    return 0;
}

#ifdef __cplusplus
}
#endif
