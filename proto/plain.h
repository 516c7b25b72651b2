/* SPDX-License-Identifier: Apache-2.0 */
/* The usual message, found and parsed in one walk over its heads.
 *
 * Most messages arrive whole, are short of every limit, and hold few containers, which are short:
 * those are plain. Of them knit_plain_take() gives what the scanner (scan.h) and
 * knit_message_parse() would give together. All others it leaves to these two, and says nothing
 * about what is wrong with them: it never refuses anything. The scanner alone, which nothing here
 * stands in front of, is what the tests and the fuzz targets compare with.
 *
 * A message is recognised by its first two bytes, msgid and the common heads of a name by a compare
 * each; the values of params and options are stepped over by the table of head.h. Bodies are not
 * read. It is inline for the loops that take one message after the other.
 *
 * Security: the bytes are hostile. None behind `len` is read, and the time is bounded by the values
 * that heads of one byte can announce, not by what others say.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>

#include "proto/head.h"
#include "proto/limits.h"
#include "proto/message.h"

/* The first two bytes of the message, and of what it can begin with. */
enum knit_plain_start {
    KNIT_PLAIN_REQUEST = 0x9400,
    KNIT_PLAIN_REQUEST_WITH_OPTIONS = 0x9500,
    KNIT_PLAIN_RESPONSE = 0x9401,
    KNIT_PLAIN_NOTIFICATION = 0x9302,
};

enum {
    KNIT_PLAIN_LEAST = 8, /* shorter ones are rare; the end is behind the longest msgid so */
    KNIT_PLAIN_CONTAINERS_MAX = 8, /* in params, in options, in a result: so deep at most */
};

/* What is left of the bytes. The readers below step over what they read; false: it is not plain, or
 * not all there. */
struct knit_plain_rest {
    const uint8_t *at, *end;
};

/* A method by its number, a bin, a long name, at `at`: what follows it, or NULL.
 * knit_plain_method() is the one caller. */
KNIT_MUST_CHECK const uint8_t *knit_plain_long_method(
    const uint8_t *at, const uint8_t *end, struct knit_method *ret_method);

/* So many values that begin at `at`, some of which hold others: what follows them, or NULL.
 * knit_plain_values() is the one caller. */
KNIT_MUST_CHECK const uint8_t *knit_plain_nested_values(
    const uint8_t *at, const uint8_t *end, unsigned count);

static inline bool knit_plain_msgid(struct knit_plain_rest *rest, uint32_t *ret_msgid)
{
    const uint8_t *at = rest->at;
    uint32_t wide;

    switch (at[0]) {
    case 0xce:
        memcpy(&wide, at + 1, sizeof(wide));
        *ret_msgid = be32toh(wide);
        rest->at += 5;
        return true;
    case 0xcd:
        *ret_msgid = (uint32_t)at[1] << 8 | at[2];
        rest->at += 3;
        return true;
    case 0xcc:
        *ret_msgid = at[1];
        rest->at += 2;
        return true;
    default:
        *ret_msgid = at[0];
        rest->at++;
        return at[0] < 0x80;
    }
}

/* There is a byte behind it then. */
static inline bool knit_plain_method(struct knit_plain_rest *rest, struct knit_method *ret_method)
{
    const uint8_t *name = rest->at + 1;
    size_t len = (size_t)rest->at[0] - 0xa0;

    if (len >= 32) {
        rest->at = knit_plain_long_method(rest->at, rest->end, ret_method);
        return rest->at != NULL;
    }
    if (len >= (size_t)(rest->end - name) || name[0] == '$')
        return false;
    *ret_method = (struct knit_method){.name = knit_span(name, len)};
    rest->at = name + len;
    return true;
}

static inline bool knit_plain_values(struct knit_plain_rest *rest, unsigned count)
{
    const uint8_t *at = rest->at, *end = rest->end;
    size_t len;

    for (; count > 0; count--) {
        if (at == end)
            return false;
        len = knit_head_plain_len(at, (size_t)(end - at));
        if (len == 0) {
            rest->at = knit_plain_nested_values(at, end, count);
            return rest->at != NULL;
        }
        at += len;
    }
    rest->at = at;
    return true;
}

static inline bool knit_plain_options(struct knit_plain_rest *rest, struct knit_span *ret_options)
{
    const uint8_t *begin = rest->at;

    if (begin == rest->end || (begin[0] & 0xf0) != 0x80)
        return false;
    rest->at++;
    if (!knit_plain_values(rest, 2u * (begin[0] & 0x0f)) ||
        rest->at - begin > KNIT_OPTIONS_BYTES_MAX)
        return false;
    *ret_options = knit_span(begin, (size_t)(rest->at - begin));
    return true;
}

/* Method, params, options. */
static inline bool knit_plain_call(
    struct knit_plain_rest *rest, bool has_options, struct knit_message *message)
{
    const uint8_t *begin;

    if (!knit_plain_method(rest, &message->method))
        return false;
    begin = rest->at;
    if ((begin[0] & 0xf0) != 0x90)
        return false;
    rest->at++;
    if (!knit_plain_values(rest, begin[0] & 0x0f))
        return false;
    message->params = knit_span(begin, (size_t)(rest->at - begin));
    message->options = (struct knit_span){0};
    return !has_options || knit_plain_options(rest, &message->options);
}

/* The error, which must be nil, and the result. */
static inline bool knit_plain_outcome(struct knit_plain_rest *rest, struct knit_message *message)
{
    const uint8_t *begin = rest->at + 1;

    if (rest->end == rest->at || rest->at[0] != 0xc0)
        return false;
    rest->at = begin;
    if (!knit_plain_values(rest, 1))
        return false;
    message->error = (struct knit_span){0};
    message->result = knit_span(begin, (size_t)(rest->at - begin));
    return true;
}

/* The message at the front of the bytes, of at most `most` bytes: its length. 0: it is not plain,
 * or not all there, and *ret_message is undefined. Protocol methods ("$/...") are not plain. Holds
 * for scanners with any limits but for smaller message_bytes, and a depth of fewer containers. */
KNIT_MUST_CHECK static inline size_t knit_plain_take(
    const uint8_t *bytes, size_t len, size_t most, struct knit_message *ret_message)
{
    const size_t there = len < most ? len : most;
    struct knit_plain_rest rest;
    bool has_options, is_plain;
    uint16_t start;

    if (there < KNIT_PLAIN_LEAST)
        return 0;
    rest = (struct knit_plain_rest){bytes + 2, bytes + there};
    memcpy(&start, bytes, sizeof(start));
    ret_message->kind = (enum knit_message_kind)bytes[1];
    ret_message->msgid = 0;
    if (start != htobe16(KNIT_PLAIN_NOTIFICATION) && !knit_plain_msgid(&rest, &ret_message->msgid))
        return 0;
    has_options = start == htobe16(KNIT_PLAIN_REQUEST_WITH_OPTIONS);
    if (has_options || start == htobe16(KNIT_PLAIN_REQUEST) ||
        start == htobe16(KNIT_PLAIN_NOTIFICATION))
        is_plain = knit_plain_call(&rest, has_options, ret_message);
    else
        is_plain = start == htobe16(KNIT_PLAIN_RESPONSE) && knit_plain_outcome(&rest, ret_message);
    return is_plain ? (size_t)(rest.at - bytes) : 0;
}
