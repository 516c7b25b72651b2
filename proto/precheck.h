/* SPDX-License-Identifier: Apache-2.0 */
/* What most arguments and results are, numbers, str and bin of the right types, is seen by their
 * heads alone: a signature is compiled once into what first byte its params may have and which
 * heads each value. What fits is right, and the places of the arguments are known. What does not
 * fit may be right too (containers, ext types, many parameters): knit_signature_check() looks at
 * it, and alone says what is wrong.
 *
 * Threads: a compiled signature never changes; any number of threads may use it.
 * Security: the bytes are hostile; each head is read once. Bodies are not looked at but for the
 * UTF-8 of a str.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/head.h"
#include "proto/signature.h"
#include "proto/text.h"

enum { KNIT_PRECHECK_PARAMS_MAX = 12 };

struct knit_precheck {
    uint8_t first;   /* of the params array with the fewest arguments there may be */
    uint8_t choices; /* how many lengths of it there may be from there; 0 = nothing fits */
    uint16_t result; /* heads that the one result may have, as bits; 0 = nothing fits */
    uint16_t param[KNIT_PRECHECK_PARAMS_MAX]; /* the same of each argument */
};

void knit_precheck_init(struct knit_precheck *precheck, const struct knit_signature *signature);

/* Bytes of the value at the front if its head is one of `heads`, which go no further than bin, and
 * it is whole; 0: it does not fit.
 *
 *     spare    Bytes behind `len` that may be read, whatever they hold: a head is loaded by eight
 *              bytes. With KNIT_HEAD_SPARE of them every value can fit; with 0, not a long head
 *              close to the end. A constant, so that it costs nothing. */
KNIT_ALWAYS_INLINE size_t knit_precheck_value(
    const uint8_t *at, size_t len, size_t spare, unsigned heads, struct knit_head *ret_head)
{
    const struct knit_head_first *first;
    unsigned type;
    uint64_t word, value;
    size_t size;

    if (spare == 0 && len == 0)
        return 0;
    first = &knit_head_table[at[0]];
    type = first->type;
    size = first->size;
    if (size == 1) {
        value = (uint64_t)(int64_t)first->value;
    } else {
        if (spare < sizeof(word) && len + spare < 1 + sizeof(word))
            return 0;
        memcpy(&word, at + 1, sizeof(word));
        word = be64toh(word);
        value = word >> first->shift;
        if (type == KNIT_HEAD_INT) {
            value = (uint64_t)((int64_t)word >> first->shift);
            type = (int64_t)value < 0 ? KNIT_HEAD_INT : KNIT_HEAD_UINT;
        } else if (type == KNIT_HEAD_UINT && value > INT64_MAX) {
            return 0; /* an int has no room for it, a uint has */
        }
    }
    if ((heads >> type & 1) == 0 || size > len)
        return 0;
    ret_head->type = (uint8_t)type;
    ret_head->size = (uint8_t)size;
    ret_head->ext = 0;
    ret_head->value = value;
    if (type < KNIT_HEAD_STR)
        return size;
    if (value > len - size ||
        (type == KNIT_HEAD_STR && !knit_text_is_utf8(at + size, (size_t)value)))
        return 0;
    return size + (size_t)value;
}

/* Whether there are no params, and need be none. */
static inline bool knit_precheck_is_empty(
    const struct knit_precheck *precheck, const void *params, size_t len)
{
    return len == 1 && *(const uint8_t *)params == 0x90 && precheck->first == 0x90 &&
           precheck->choices != 0;
}

/* Whether the params fit; if so, ret_args is what knit_signature_check() would fill in. Behind them
 * KNIT_HEAD_SPARE bytes may be read. */
KNIT_ALWAYS_INLINE bool knit_precheck_params(const struct knit_precheck *precheck,
    const void *params, size_t len, struct knit_signature_args *ret_args)
{
    const uint8_t *bytes = params, *at = bytes + 1, *end = bytes + len;
    unsigned i, count;
    size_t size;

    if (len - 1 >= UINT32_MAX || (unsigned)bytes[0] - precheck->first >= precheck->choices)
        return false;
    count = bytes[0] & 0x0f;
    for (i = 0; i < count; i++, at += size) {
        size = knit_precheck_value(
            at, (size_t)(end - at), KNIT_HEAD_SPARE, precheck->param[i], &ret_args->arg[i].head);
        if (size == 0)
            return false;
        ret_args->arg[i].off = (uint32_t)(at - bytes);
        ret_args->arg[i].len = (uint32_t)size;
    }
    ret_args->count = count;
    return at == end;
}

/* Whether the one result fits. spare: as above. */
KNIT_ALWAYS_INLINE bool knit_precheck_result(
    const struct knit_precheck *precheck, const void *result, size_t len, size_t spare)
{
    struct knit_head head;

    return len > 0 && knit_precheck_value(result, len, spare, precheck->result, &head) == len;
}
