/* SPDX-License-Identifier: Apache-2.0 */
/* Text is looked at in blocks of 64 bytes, sixteen at once in what compilers make of vectors: SSE2,
 * NEON, or plain registers. ASCII, which most is, has no high bit; long runs of it are passed in
 * strides of four blocks. In other blocks each byte is compared with the three before it, by
 * Unicode's table of well-formed byte sequences: a byte from 80 to BF stands where one of them
 * announces it and nowhere else, and behind E0, ED, F0 and F4 within a range that excludes overlong
 * forms, surrogates and numbers above U+10FFFF. (Tables in registers would be faster; x86-64's
 * baseline has no instruction for them.)
 *
 * Blocks begin where a character begins: one that a block's end cuts belongs to the next. So a flaw
 * is of the block alone in which it is found, and is looked for there a character at a time, by the
 * same table. What is left behind the last block is done so too.
 */
#include "proto/text.h"

#include <string.h>

/* The high bits of eight bytes: none is set in ASCII. */
#define HIGH_BITS 0x8080808080808080u

enum { LONGEST = 4 /* bytes of a character */ };

/* Long texts are read for the first time where they are checked, often out of another core's cache.
 * Processors fetch ahead by themselves, but begin anew at each page. */
enum { AHEAD = 2048 };

typedef uint8_t vector __attribute__((vector_size(16)));
typedef int8_t signed_vector __attribute__((vector_size(16)));
typedef uint64_t vector_words __attribute__((vector_size(16)));

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

static inline vector load(const uint8_t *at)
{
    vector bytes;

    memcpy(&bytes, at, sizeof(bytes));
    return bytes;
}

static inline bool has_high_bit(vector bytes)
{
    vector_words words = (vector_words)bytes;

    return ((words[0] | words[1]) & HIGH_BITS) != 0;
}

/* All bits of each byte that can stand behind the three before it. Reads those too. */
static inline vector find_fitting(const uint8_t *at)
{
    const vector here = load(at), one = load(at - 1), two = load(at - 2), three = load(at - 3);
    const vector continues = (vector)((signed_vector)here < (int8_t)-64); /* 80 to BF */
    const vector begins = (vector)(one < 0xc0) & (vector)(two < 0xe0) & (vector)(three < 0xf0);
    /* Of bytes from 80 to BF; others do not fit there anyway. */
    const vector below_a0 = (vector)((signed_vector)here < (int8_t)-96);
    const vector below_90 = (vector)((signed_vector)here < (int8_t)-112);
    const vector flaws = (vector)((here & 0xfe) == 0xc0) | ((vector)(one == 0xe0) & below_a0) |
                         ((vector)(one == 0xed) & ~below_a0) | ((vector)(one == 0xf0) & below_90) |
                         ((vector)(one == 0xf4) & ~below_90);

    return (continues ^ begins) & (vector)(here < 0xf5) & ~flaws;
}

/* Bytes of a character that begins before `end` and ends behind it; well-formed but for that. */
static inline size_t cut_off(const uint8_t *end)
{
    if (end[-1] >= 0xc0)
        return 1;
    if (end[-2] >= 0xe0)
        return 2;
    return end[-3] >= 0xf0 ? 3 : 0;
}

/* Fetches what is as far ahead as a stride from here on; memory behind the text is not touched. */
static inline void fetch_ahead(const uint8_t *stride)
{
    for (unsigned i = 0; i < KNIT_TEXT_STRIDE; i += KNIT_TEXT_BLOCK)
        __builtin_prefetch((const void *)((uintptr_t)stride + AHEAD + i));
}

/* Steps over whole strides of ASCII. */
static size_t pass_strides(const uint8_t *text, size_t at, size_t len)
{
    for (; len - at >= KNIT_TEXT_STRIDE; at += KNIT_TEXT_STRIDE) {
        vector any = {0};

        fetch_ahead(text + at);
#pragma GCC unroll 16
        for (size_t i = 0; i < KNIT_TEXT_STRIDE; i += sizeof(any))
            any |= load(text + at + i);
        if (has_high_bit(any))
            break;
    }
    return at;
}

/* Steps over whole blocks of characters. Those that are not ASCII need three bytes in front. */
static size_t pass_blocks(const uint8_t *text, size_t at, size_t len)
{
    while (len - at >= KNIT_TEXT_BLOCK) {
        const uint8_t *block = text + at;
        vector fitting;

        if (!has_high_bit(load(block) | load(block + 16) | load(block + 32) | load(block + 48))) {
            at = pass_strides(text, at + KNIT_TEXT_BLOCK, len);
            continue;
        }
        if (at < LONGEST - 1)
            break;
        fitting = find_fitting(block) & find_fitting(block + 16) & find_fitting(block + 32) &
                  find_fitting(block + 48);
        if (has_high_bit(~fitting))
            break;
        at += KNIT_TEXT_BLOCK - cut_off(block + KNIT_TEXT_BLOCK);
    }
    return at;
}

/* A character at a time, until one ends at or behind `end`, or a flaw. */
static size_t pass_characters(const uint8_t *text, size_t at, size_t end, size_t len)
{
    size_t size;

    while (at < end) {
        size = character(text + at, len - at);
        if (size == 0)
            break;
        at += size;
    }
    return at;
}

/* For short texts. The loads overlap, which makes fewer of them than one for each size that is
 * left. */
static inline bool is_ascii(const uint8_t *text, size_t len)
{
    uint64_t word, any = 0;
    uint32_t first, last;

    if (len >= sizeof(word)) {
        for (size_t at = 0; at < len - sizeof(word); at += sizeof(word)) {
            memcpy(&word, text + at, sizeof(word));
            any |= word;
        }
        memcpy(&word, text + len - sizeof(word), sizeof(word));
        any |= word;
    } else if (len >= sizeof(first)) {
        memcpy(&first, text, sizeof(first));
        memcpy(&last, text + len - sizeof(last), sizeof(last));
        any = first | last;
    } else if (len > 0) {
        any = (uint8_t)(text[0] | text[len / 2] | text[len - 1]);
    }
    return (any & HIGH_BITS) == 0;
}

size_t knit_text_valid(const void *bytes, size_t len)
{
    const uint8_t *text = bytes;
    size_t at = pass_blocks(text, 0, len);

    if (at == 0 && len >= KNIT_TEXT_BLOCK) {
        at = pass_characters(text, 0, LONGEST - 1, len);
        if (at >= LONGEST - 1)
            at = pass_blocks(text, at, len);
    }
    if (len - at < KNIT_TEXT_BLOCK && is_ascii(text + at, len - at))
        return len;
    return pass_characters(text, at, len, len);
}

bool knit_text_is_utf8(const void *bytes, size_t len)
{
    return (len < KNIT_TEXT_BLOCK && is_ascii(bytes, len)) || knit_text_valid(bytes, len) == len;
}

/* Copies strides of ASCII, from the first block on that begins at a border of one in `to`, since
 * stores across a border take twice as long; how many bytes. The block in front is of any length,
 * so it is stored whole and partly stored again. */
static size_t copy_strides(uint8_t *to, const uint8_t *from, size_t len)
{
    size_t at = KNIT_TEXT_BLOCK - ((uintptr_t)to & (KNIT_TEXT_BLOCK - 1));

    if (len < KNIT_TEXT_BLOCK + KNIT_TEXT_STRIDE)
        return 0;
    memcpy(to, from, KNIT_TEXT_BLOCK);
    if (pass_blocks(to, 0, KNIT_TEXT_BLOCK) != KNIT_TEXT_BLOCK)
        return 0;
    for (; len - at >= KNIT_TEXT_STRIDE; at += KNIT_TEXT_STRIDE) {
        vector bytes, any = {0};

        fetch_ahead(from + at);
#pragma GCC unroll 16
        for (size_t i = 0; i < KNIT_TEXT_STRIDE; i += sizeof(bytes)) {
            bytes = load(from + at + i);
            memcpy(to + at + i, &bytes, sizeof(bytes));
            any |= bytes;
        }
        if (has_high_bit(any))
            break;
    }
    return at;
}

bool knit_text_copy(void *to, const void *from, size_t len)
{
    const size_t at = copy_strides(to, from, len);
    uint8_t *rest = (uint8_t *)to + at;

    if (len > at)
        memcpy(rest, (const uint8_t *)from + at, len - at);
    return knit_text_is_utf8(rest, len - at);
}

size_t knit_text_cut(const void *bytes, size_t len, size_t max)
{
    const uint8_t *text = bytes;
    size_t back;

    if (len <= max)
        return len;
    /* A character has at most three bytes behind its first; more of them is not UTF-8, and any cut
     * is as good. */
    for (back = 0; back < LONGEST && back <= max; back++) {
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
