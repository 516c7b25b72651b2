/* SPDX-License-Identifier: Apache-2.0 */
/* Whether bytes that are whole in memory are one well-formed value of the protocol.
 *
 * Everything is checked: structure, nesting (the msgpack inside ext 34, 35, 38 and 41 included),
 * UTF-8 of every str, the rules of each ext type, trailing bytes. What passes may be decoded by
 * msgpack-c and trusted by a task. Never allocates, no recursion, linear time.
 *
 * Security: the bytes are hostile, but must not change during the check: a reader of memory that a
 * peer can write copies first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/head.h"
#include "proto/span.h"
#include "proto/types.h"

enum {
    KNIT_CHECK_E_BAD = 1, /* not msgpack, cut short, or more than one value */
    KNIT_CHECK_E_TOO_DEEP = 2,
    KNIT_CHECK_E_TEXT = 3, /* a str that is not UTF-8 */
    KNIT_CHECK_E_EXT = 4,  /* an ext type that is not carried, or a body against its rules */
};

struct knit_check_flaw {
    size_t offset;      /* of the value or byte that is wrong, from the first byte */
    const char *reason; /* static text: "str is not UTF-8" */
    int ext;            /* code of the ext that is wrong; 0 = the flaw is in none */
};

/* Exactly one value, nothing behind it.
 *
 *     depth       How many containers may lie within each other; KNIT_DEPTH_MAX - n for a value
 *                 that itself lies in n containers.
 *     ret_flaw    May be NULL; written only when the result is not 0.
 *
 * Returns 0 or KNIT_CHECK_E_*; never < 0. */
KNIT_MUST_CHECK int knit_check_value(
    const void *bytes, size_t len, uint32_t depth, struct knit_check_flaw *ret_flaw);

/* One value at the front; ret_len = its bytes. */
KNIT_MUST_CHECK int knit_check_front(const void *bytes, size_t len, uint32_t depth, size_t *ret_len,
    struct knit_check_flaw *ret_flaw);

/* The same; ret_has_typed: whether a typed array is in it, whose elements may lie unaligned. */
KNIT_MUST_CHECK int knit_check_front_typed(const void *bytes, size_t len, uint32_t depth,
    size_t *ret_len, bool *ret_has_typed, struct knit_check_flaw *ret_flaw);

/* The body of an ext of this code, without its head. */
KNIT_MUST_CHECK int knit_check_ext(
    int code, const void *body, size_t len, uint32_t depth, struct knit_check_flaw *ret_flaw);

/* Length of the value at the front by its heads alone, at any depth. For bytes that were checked
 * before, or whose content is not read. Returns 0, KNIT_CHECK_E_BAD. */
KNIT_MUST_CHECK int knit_check_skip(const void *bytes, size_t len, size_t *ret_len);

/* A typed array's body taken apart: its element code (1..11), element size and elements. false: not
 * such a body. */
KNIT_MUST_CHECK bool knit_check_typed(const void *body, size_t len, uint8_t *ret_code,
    uint8_t *ret_size, struct knit_span *ret_elements);

/* Seconds since the epoch and nanoseconds (below 1e9) of a timestamp's body. false: not such a
 * body. */
KNIT_MUST_CHECK bool knit_check_time(
    const void *body, size_t len, int64_t *ret_seconds, uint32_t *ret_nanoseconds);
