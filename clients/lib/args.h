/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments in an array -> msgpack, by the shape of a call (shape.h), which also has the way back.
 *
 * As there, what most calls have is coded inside of the caller, by a function that steps aside for
 * all else, also for what is wrong.
 */
#pragma once

#include <assert.h>

#include <knitting/args.h>

#include "clients/lib/shape.h"

static_assert(KNIT_ARG_NONE == (int)KNIT_KIND_NIL && KNIT_ARG_BOOL == (int)KNIT_KIND_BOOL &&
                  KNIT_ARG_INT == (int)KNIT_KIND_INT && KNIT_ARG_UINT == (int)KNIT_KIND_UINT &&
                  KNIT_ARG_FLOAT == (int)KNIT_KIND_FLOAT && KNIT_ARG_STR == (int)KNIT_KIND_STR &&
                  KNIT_ARG_BIN == (int)KNIT_KIND_BIN && KNIT_ARG_TIME == (int)KNIT_KIND_TIME,
    "an argument's type is the kind that it fits");

/* Append the params array; `count` arguments, those that are missing being left out, and nil for
 * those that are handles. Returns what knit_shape_encode() returns. */
KNIT_MUST_CHECK int knit_args_encode(const struct knit_shape *shape, const struct knit_arg *args,
    size_t count, struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw);

/* An argument that is no plain number, of a kind up to bin. Returns the byte behind it; NULL: there
 * is no room for it, or it does not fit. */
uint8_t *knit_args_put_short(uint8_t *at, const uint8_t *end, const struct knit_shape_part *part,
    const struct knit_arg *arg);

/* As knit_shape_encode_short(), of a shape that is_short_args, all of whose arguments are there.
 * Optional ones that are none are left out at the end. */
KNIT_ALWAYS_INLINE size_t knit_args_encode_short(
    const struct knit_shape *shape, const struct knit_arg *arg, uint8_t *to)
{
    const uint8_t *number = shape->number, *numbers_end = number + shape->param_count;
    const uint8_t *last = to + KNIT_SHAPE_SHORT_BYTES - KNIT_HEAD_BYTES_MAX;
    const struct knit_shape_part *part = shape->part;
    const struct knit_arg *first = arg, *given = arg;
    uint8_t *at = to + 1, *end = at;

    for (; number < numbers_end; number++, part++, arg++) {
        if (arg->type == *number) {
            at += knit_pack_number(at, *number, arg->value.u);
        } else {
            if (at > last)
                return 0;
            at = knit_args_put_short(at, to + KNIT_SHAPE_SHORT_BYTES, part, arg);
            if (at == NULL)
                return 0;
            if (arg->type == KNIT_ARG_NONE && part->is_optional)
                continue;
        }
        given = arg + 1;
        end = at;
    }
    (void)knit_pack_few(to, (uint32_t)(given - first));
    memset(end, 0, sizeof(uint64_t));
    return end - to <= KNIT_SHAPE_SHORT_BYTES ? (size_t)(end - to) : 0;
}

/* As knit_shape_decode_short(), into places. */
KNIT_ALWAYS_INLINE bool knit_args_decode_short(const struct knit_shape *shape,
    const uint8_t *result, size_t len, size_t spare, void *const *places)
{
    const struct knit_shape_part *part = &shape->part[shape->param_count];
    struct knit_head head;
    void *to;

    if (len == 0 || knit_precheck_value(result, len, spare, shape->result_heads, &head) != len)
        return false;
    if (shape->result_kind == KNIT_SHAPE_NOTHING || shape->result_kind == KNIT_KIND_NIL)
        return true;
    to = places[0];
    if (to == NULL)
        return part->width == sizeof(head.value);
    if (shape->result_kind >= KNIT_KIND_STR) {
        const struct knit_bytes bytes = {result + head.size, len - head.size};

        memcpy(to, &bytes, sizeof(bytes));
    } else if (shape->result_kind == KNIT_KIND_BOOL) {
        *(bool *)to = head.value != 0;
    } else if (part->width != sizeof(head.value)) {
        return knit_shape_narrow(part, head.value, to);
    } else {
        memcpy(to, &head.value, sizeof(head.value));
    }
    return true;
}
