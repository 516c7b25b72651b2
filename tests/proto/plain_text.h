/* SPDX-License-Identifier: Apache-2.0 */
/* A second definition of UTF-8, against which the first is tested: a sequence is well-formed if
 * decoding its bits gives a number that is a character and whose encoding is that very sequence.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Writes the shortest form of a number below 0x200000, a character or not; returns its bytes. */
static inline size_t knit_plain_encode(uint32_t c, uint8_t to[4])
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xc0 | c >> 6);
        to[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xe0 | c >> 12);
        to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | c >> 18);
    to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

static inline bool knit_plain_is_character(uint32_t c)
{
    return c < 0x110000 && (c < 0xd800 || c > 0xdfff);
}

/* How many bytes at the front are well-formed, a bit at a time. */
static inline size_t knit_plain_valid(const uint8_t *text, size_t len)
{
    size_t at = 0, size, i;

    while (at < len) {
        uint8_t again[4], first = text[at];
        uint32_t c = first;

        for (size = 0; size < 8 && (first & 0x80 >> size) != 0; size++)
            ;
        if (size == 1 || size > 4 || size > len - at)
            break;
        if (size > 1)
            c = first & (0x7fu >> size);
        for (i = 1; i < size; i++)
            c = c << 6 | (text[at + i] & 0x3fu);
        size += size == 0;
        if (!knit_plain_is_character(c) || knit_plain_encode(c, again) != size ||
            memcmp(again, text + at, size) != 0)
            break;
        at += size;
    }
    return at;
}
