/* SPDX-License-Identifier: Apache-2.0 */
/* C values <-> msgpack by a call's signature string, as the table in <knitting/knitting.h> has it.
 *
 * The string is parsed once, into a shape, which prepared.h keeps.
 *
 * What most calls have, a few numbers and short str and bin, and one of these as the result, is
 * coded by the functions whose names end in _short, inside of their caller. They step aside for
 * everything else, also for what is wrong: the others alone say what is. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/head.h"
#include "proto/pack.h"
#include "proto/precheck.h"
#include "proto/span.h"
#include "proto/text.h"
#include "proto/types.h"

enum {
    KNIT_SHAPE_E_SYNTAX = 1, /* of the signature string */
    KNIT_SHAPE_E_VALUE = 2,  /* an argument cannot be carried, or a result is of another type */
};

/* A va_list that can be handed on by address. */
struct knit_shape_values {
    va_list list;
    va_list first; /* a copy of its beginning, where arguments may have to be read twice */
};

/* Elements, or values in which there are some, that were copied, because they lay unaligned in the
 * message; a list. Who reads the same
 * message again gets the same copy. */
struct knit_aligned_copy {
    struct knit_aligned_copy *next;
    struct knit_span of; /* where they lie */
    size_t len;
    _Alignas(16) unsigned char bytes[];
};

void knit_aligned_copies_free(struct knit_aligned_copy **copies);

struct knit_shape_flaw {
    size_t offset;                 /* E_SYNTAX: in the signature */
    size_t index;                  /* E_VALUE: of the argument or result, from 0 */
    const char *reason;            /* static text */
    const char *expected, *actual; /* E_VALUE: types, or NULL and then `reason` */
    bool is_too_deep;              /* E_VALUE: of an argument: that is what is wrong */
    const char *name;              /* of the parameter or result, where it is known; else NULL */
    char number[24];               /* E_VALUE: in place of `actual`, a number that does not fit */
};

enum {
    KNIT_SHAPE_SHORT_BYTES = 104, /* what knit_shape_encode_short() writes at most */
    KNIT_SHAPE_SHORT_PARAMS = 15,
    /* What it may write before it sees that this is too long, and a word of zeros. */
    KNIT_SHAPE_SHORT_ROOM =
        KNIT_SHAPE_SHORT_BYTES + KNIT_SHAPE_SHORT_PARAMS * KNIT_HEAD_BYTES_MAX + 9,
    KNIT_SHAPE_NOTHING = 255, /* for result_kind: the result is dropped */
};

/* A parameter or a result. `typed` is an ext like any other here: one msgpack value. */
struct knit_shape_part {
    const char *name; /* of its type */
    uint8_t kind;     /* enum knit_kind */
    int8_t code;      /* of an ext; of a typed array's elements */
    uint8_t size;     /* of an element */
    bool is_optional;
    uint8_t width; /* bytes of a number in C, where the caller's places are in an array */
};

struct knit_shape {
    uint32_t param_count, result_count;
    bool is_short;         /* its parameters are what knit_shape_encode_short() knows */
    uint8_t result_kind;   /* of the one result; or KNIT_SHAPE_NOTHING */
    uint16_t result_heads; /* that knit_shape_decode_short() lets pass, as bits; 0 = none */
    uint8_t kind[KNIT_SHAPE_SHORT_PARAMS];
    bool is_short_args; /* its parameters are what knit_args_encode_short() knows */
    uint8_t number[KNIT_SHAPE_SHORT_PARAMS]; /* kind of an int or uint of 64 bits; or NOTHING */
    struct knit_shape_part part[];           /* parameters, then results */
};

/* The shape of a signature. Returns 0, KNIT_SHAPE_E_SYNTAX, -ENOMEM. */
KNIT_MUST_CHECK int knit_shape_new(
    const char *signature, struct knit_shape **ret_shape, struct knit_shape_flaw *ret_flaw);

/* NULL is allowed; returns NULL. */
struct knit_shape *knit_shape_free(struct knit_shape *shape);

/* Append the params array, taking the arguments from `values`.
 * Returns 0, KNIT_SHAPE_E_VALUE, or the buffer's error (KNIT_BUFFER_E_FULL becomes -E2BIG). */
KNIT_MUST_CHECK int knit_shape_encode(const struct knit_shape *shape,
    struct knit_shape_values *values, struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw);

/* Write a result through the pointers in `values`, which stand behind the arguments; unless it
 * returns 0, none is written. Runs of bytes point into `result`, or into copies in *copies, which
 * are of this result alone; missing ones are added. values and copies NULL: the result is only
 * checked. Returns 0, KNIT_SHAPE_E_VALUE, -ENOMEM. */
KNIT_MUST_CHECK int knit_shape_decode(const struct knit_shape *shape, struct knit_span result,
    struct knit_shape_values *values, struct knit_aligned_copy **copies,
    struct knit_shape_flaw *ret_flaw);

/* Make the type in C of a parameter or, behind them, of a result so many bytes wide, if it is a
 * number. */
void knit_shape_set_width(struct knit_shape *shape, uint32_t index, uint32_t bytes);

/* Of a number that does not have 8 bytes in C: whether the value, as knit_head_as_...() gives it,
 * fits, and then its bytes. */
KNIT_MUST_CHECK bool knit_shape_narrow(
    const struct knit_shape_part *part, uint64_t bits, void *ret_bytes);

/* What a number of this type may be, in words; static text. */
const char *knit_shape_range(const struct knit_shape_part *part);

/* The same as knit_shape_decode() with places in an array, one for each result: <knitting/args.h>
 * has what they are. */
KNIT_MUST_CHECK int knit_shape_decode_into(const struct knit_shape *shape, struct knit_span result,
    void *const *places, struct knit_aligned_copy **copies, struct knit_shape_flaw *ret_flaw);

/* ---- short calls ---- */

/* The next argument, as the packer of its kind takes it. */
static inline uint64_t knit_shape_next_scalar(struct knit_shape_values *values, unsigned kind)
{
    uint64_t bits;
    double number;

    if ((kind | 1) == KNIT_KIND_UINT) /* or KNIT_KIND_INT */
        return va_arg(values->list, uint64_t);
    if (kind == KNIT_KIND_NIL)
        return 0;
    if (kind == KNIT_KIND_BOOL)
        return va_arg(values->list, int) != 0;
    number = va_arg(values->list, double);
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

/* An argument that is no small number. Returns the byte behind it; NULL: there is no room for it.
 */
uint8_t *knit_shape_put_short(
    uint8_t *at, const uint8_t *end, unsigned kind, struct knit_shape_values *values);

/* The params array of a shape that is_short, and a word of zeros behind it, into
 * KNIT_SHAPE_SHORT_ROOM bytes at `to`. Returns its bytes, at most KNIT_SHAPE_SHORT_BYTES; 0: it is
 * too long or cannot be carried, and `values` are used up. */
KNIT_ALWAYS_INLINE size_t knit_shape_encode_short(
    const struct knit_shape *shape, struct knit_shape_values *values, uint8_t *to)
{
    const uint8_t *kind = shape->kind, *kinds_end = kind + shape->param_count;
    const uint8_t *last = to + KNIT_SHAPE_SHORT_BYTES - KNIT_HEAD_BYTES_MAX;
    uint8_t *at = to + knit_pack_few(to, shape->param_count);

    for (; kind < kinds_end; kind++) {
        if ((*kind | 1) == KNIT_KIND_UINT) {
            at += knit_pack_number(at, *kind, va_arg(values->list, uint64_t));
            continue;
        }
        if (at > last)
            return 0;
        at = knit_shape_put_short(at, to + KNIT_SHAPE_SHORT_BYTES, *kind, values);
        if (at == NULL)
            return 0;
    }
    memset(at, 0, sizeof(uint64_t));
    return at - to <= KNIT_SHAPE_SHORT_BYTES ? (size_t)(at - to) : 0;
}

/* As knit_shape_decode(). spare: as with knit_precheck_value(). False: nothing has been written,
 * and `values` are as before. */
KNIT_ALWAYS_INLINE bool knit_shape_decode_short(const struct knit_shape *shape,
    const uint8_t *result, size_t len, size_t spare, struct knit_shape_values *values)
{
    struct knit_head head;
    void *to;

    if (len == 0 || knit_precheck_value(result, len, spare, shape->result_heads, &head) != len)
        return false;
    if (shape->result_kind == KNIT_SHAPE_NOTHING || shape->result_kind == KNIT_KIND_NIL)
        return true;
    to = va_arg(values->list, void *);
    if (shape->result_kind >= KNIT_KIND_STR) {
        size_t *to_len = va_arg(values->list, size_t *);

        if (to != NULL)
            *(const void **)to = result + head.size;
        if (to_len != NULL)
            *to_len = len - head.size;
    } else if (to != NULL && shape->result_kind == KNIT_KIND_BOOL) {
        *(bool *)to = head.value != 0;
    } else if (to != NULL) {
        memcpy(to, &head.value, sizeof(head.value));
    }
    return true;
}
