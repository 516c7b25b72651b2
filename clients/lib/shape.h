/* SPDX-License-Identifier: Apache-2.0 */
/* C values <-> msgpack by a call's signature string, as the table in <knitting/knitting.h> has it.
 *
 * The string is parsed once, into a shape, which prepared.h keeps. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_SHAPE_E_SYNTAX = 1, /* of the signature string */
    KNIT_SHAPE_E_VALUE = 2,  /* an argument cannot be carried, or a result is of another type */
};

/* A va_list that can be handed on by address. */
struct knit_shape_values {
    va_list list;
};

/* Elements that were copied, because they lay unaligned in the message; a list. */
struct knit_aligned_copy {
    struct knit_aligned_copy *next;
    _Alignas(16) unsigned char bytes[];
};

void knit_aligned_copies_free(struct knit_aligned_copy **copies);

struct knit_shape_flaw {
    size_t offset;                 /* E_SYNTAX: in the signature */
    size_t index;                  /* E_VALUE: of the argument or result, from 0 */
    const char *reason;            /* static text */
    const char *expected, *actual; /* E_VALUE: types, or NULL and then `reason` */
};

struct knit_shape;

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
 * returns 0, none is written. Runs of bytes point into `result`, or into copies that are added to
 * *copies.
 * Returns 0, KNIT_SHAPE_E_VALUE, -ENOMEM. */
KNIT_MUST_CHECK int knit_shape_decode(const struct knit_shape *shape, struct knit_span result,
    struct knit_shape_values *values, struct knit_aligned_copy **copies,
    struct knit_shape_flaw *ret_flaw);
