/* SPDX-License-Identifier: Apache-2.0 */
/* Most text is ASCII, so eight bytes at a time are tested for a high bit before any are decoded.
 * The rest follows Unicode's table of well-formed byte sequences: the first byte gives the length
 * of a character and the range of its second byte; that range excludes overlong forms, surrogates
 * and numbers above U+10FFFF.
 */
#include "proto/text.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed character at the front, 0 = there is none. */
static size_t character(const uint8_t *at, size_t len)
{
    uint8_t first = at[0], low = 0x80, high = 0xbf;
    size_t size, i;

    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > len)
        return 0;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (i = 2; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return size;
}

size_t knit_text_valid(const void *bytes, size_t len)
{
    const uint8_t *text = bytes;
    size_t at = 0, size;
    uint64_t word;

    while (at < len) {
        if (len - at >= sizeof(word)) {
            memcpy(&word, text + at, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                at += sizeof(word);
                continue;
            }
        }
        size = character(text + at, len - at);
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

size_t knit_text_cut(const void *bytes, size_t len, size_t max)
{
    const uint8_t *text = bytes;
    size_t back;

    if (len <= max)
        return len;
    /* A character has at most three bytes behind its first; more of them is not UTF-8, and any cut
     * is as good. */
    for (back = 0; back < 4 && back <= max; back++) {
        if ((text[max - back] & 0xc0) != 0x80)
            return max - back;
    }
    return max;
}

size_t knit_text_hidden(const void *bytes, size_t len, uint32_t *ret_code)
{
    const uint8_t *text = bytes;
    uint32_t code;

    if (len >= 2 && (text[0] == 0xc2 || text[0] == 0xd8) && (text[1] & 0xc0) == 0x80) {
        code = (uint32_t)(text[0] & 0x1f) << 6 | (text[1] & 0x3fu);
        if (code > 0x9f && code != 0x61c)
            return 0;
        *ret_code = code;
        return 2;
    }
    if (len < 3 || text[0] != 0xe2 || (text[1] != 0x80 && text[1] != 0x81) ||
        (text[2] & 0xc0) != 0x80)
        return 0;
    code = 0x2000 | (uint32_t)(text[1] & 0x3f) << 6 | (text[2] & 0x3fu);
    if (code != 0x200e && code != 0x200f && (code < 0x2028 || code > 0x202e) &&
        (code < 0x2066 || code > 0x2069))
        return 0;
    *ret_code = code;
    return 3;
}
