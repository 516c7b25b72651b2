/* SPDX-License-Identifier: Apache-2.0 */
/* A message is recognised by its first two bytes, msgid and the common heads of a name by a compare
 * each; the values of params and options are stepped over by the table of head.h. Bodies are not
 * read.
 */
#include "proto/plain.h"

#include <endian.h>
#include <string.h>

#include "proto/head.h"
#include "proto/limits.h"

enum {
    LEAST = 8, /* shorter ones are rare; so the longest msgid need not be looked for */
    FIXARRAY = 0x90,
    FIXMAP = 0x80,
    FIXSTR = 0xa0,
    NIL = 0xc0,
};

/* What a message begins with. */
enum start {
    REQUEST = 0x9400,
    REQUEST_WITH_OPTIONS = 0x9500,
    RESPONSE = 0x9401,
    NOTIFICATION = 0x9302,
};

/* Bytes of the msgid; 0: written in a way that nobody writes, or none. */
static inline size_t read_msgid(const uint8_t *at, uint32_t *ret_msgid)
{
    uint32_t wide;

    switch (at[0]) {
    case 0xce:
        memcpy(&wide, at + 1, sizeof(wide));
        *ret_msgid = be32toh(wide);
        return 5;
    case 0xcd:
        *ret_msgid = (uint32_t)at[1] << 8 | at[2];
        return 3;
    case 0xcc:
        *ret_msgid = at[1];
        return 2;
    default:
        *ret_msgid = at[0];
        return at[0] < 0x80;
    }
}

/* Not inlined, because names are short and few methods are called by number. */
static __attribute__((noinline)) const uint8_t *read_long_method(
    const uint8_t *at, const uint8_t *end, struct knit_method *ret_method)
{
    struct knit_head head;

    if (knit_head_read(at, (size_t)(end - at), &head) != 0)
        return NULL;
    at += head.size;
    *ret_method = (struct knit_method){.id = head.value};
    if (head.type == KNIT_HEAD_UINT)
        return at;
    if ((head.type != KNIT_HEAD_STR && head.type != KNIT_HEAD_BIN) ||
        head.value >= (uint64_t)(end - at) || at[0] == '$')
        return NULL;
    *ret_method = (struct knit_method){.name = knit_span(at, (size_t)head.value)};
    return at + head.value;
}

/* What follows the method, of which there is a byte at least; NULL: it is not plain. */
static inline const uint8_t *read_method(
    const uint8_t *at, const uint8_t *end, struct knit_method *ret_method)
{
    size_t len = (size_t)at[0] - FIXSTR;

    if (len >= 32)
        return read_long_method(at, end, ret_method);
    at++;
    if (len >= (size_t)(end - at) || at[0] == '$')
        return NULL;
    *ret_method = (struct knit_method){.name = knit_span(at, len)};
    return at + len;
}

/* What follows so many values; NULL: one of them is not plain, or not all there. */
static inline const uint8_t *pass_values(const uint8_t *at, const uint8_t *end, unsigned count)
{
    size_t len;

    for (; count > 0; count--) {
        if (at == end)
            return NULL;
        len = knit_head_plain_len(at, (size_t)(end - at));
        if (len == 0)
            return NULL;
        at += len;
    }
    return at;
}

static const uint8_t *read_options(
    const uint8_t *at, const uint8_t *end, struct knit_span *ret_options)
{
    const uint8_t *begin = at;

    if (at == end || (at[0] & 0xf0) != FIXMAP)
        return NULL;
    at = pass_values(at + 1, end, 2u * (at[0] & 0x0f));
    if (at == NULL || at - begin > KNIT_OPTIONS_BYTES_MAX)
        return NULL;
    *ret_options = knit_span(begin, (size_t)(at - begin));
    return at;
}

/* Method, params, options. */
static inline const uint8_t *read_call(
    const uint8_t *at, const uint8_t *end, bool has_options, struct knit_message *message)
{
    const uint8_t *begin = read_method(at, end, &message->method);

    if (begin == NULL || begin == end || (begin[0] & 0xf0) != FIXARRAY)
        return NULL;
    at = pass_values(begin + 1, end, begin[0] & 0x0f);
    if (at == NULL)
        return NULL;
    message->params = knit_span(begin, (size_t)(at - begin));
    message->options = (struct knit_span){0};
    return has_options ? read_options(at, end, &message->options) : at;
}

/* The error, which must be nil, and the result. */
static inline const uint8_t *read_outcome(
    const uint8_t *at, const uint8_t *end, struct knit_message *message)
{
    const uint8_t *begin = at + 1;
    unsigned count = 1;

    if (end - at < 2 || at[0] != NIL)
        return NULL;
    at = begin;
    if ((at[0] & 0xf0) == FIXARRAY)
        count = *at++ & 0x0f;
    at = pass_values(at, end, count);
    if (at == NULL)
        return NULL;
    message->error = (struct knit_span){0};
    message->result = knit_span(begin, (size_t)(at - begin));
    return at;
}

size_t knit_plain_take(
    const uint8_t *bytes, size_t len, size_t most, struct knit_message *ret_message)
{
    const uint8_t *end = bytes + (len < most ? len : most), *at = bytes + 2;
    struct knit_message *message = ret_message;
    unsigned start;
    size_t used = 0;

    if (end - bytes < LEAST)
        return 0;
    start = (unsigned)bytes[0] << 8 | bytes[1];
    message->kind = (enum knit_message_kind)bytes[1];
    if (start != NOTIFICATION) {
        used = read_msgid(at, &message->msgid);
        if (used == 0)
            return 0;
        at += used;
    }
    if (start == REQUEST || start == REQUEST_WITH_OPTIONS || start == NOTIFICATION)
        at = read_call(at, end, start == REQUEST_WITH_OPTIONS, message);
    else if (start == RESPONSE)
        at = read_outcome(at, end, message);
    else
        return 0;
    return at != NULL ? (size_t)(at - bytes) : 0;
}
