/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of msgpack values, encoded into plain memory by msgpack-c's packer. Packing cannot fail.
 * Numbers, nil and booleans are nothing but head.
 *
 * All packers have one type, so that a caller can pass one as a function.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

/* What nil and the booleans are; they need no packer. */
enum { KNIT_PACK_NIL = 0xc0, KNIT_PACK_FALSE = 0xc2, KNIT_PACK_TRUE = 0xc3 };

/* Writes the shortest form and returns its bytes, 1 to KNIT_HEAD_BYTES_MAX, for which there must be
 * room. */
typedef size_t knit_pack(uint8_t *to, uint64_t value);

knit_pack knit_pack_nil; /* value does not matter */
knit_pack knit_pack_bool;
knit_pack knit_pack_int; /* two's complement */
knit_pack knit_pack_uint;
knit_pack knit_pack_float; /* the bits of a double */
knit_pack knit_pack_str;   /* length, below 2^32; the same for those below */
knit_pack knit_pack_bin;
knit_pack knit_pack_array;
knit_pack knit_pack_map;

enum { KNIT_PACK_SHORT_MAX = 2 }; /* bytes of the head of a str or bin below 256 bytes */

/* By enum knit_kind, up to KNIT_KIND_FLOAT. */
extern knit_pack *const knit_pack_scalars[];

/* As they do for KNIT_KIND_INT and KNIT_KIND_UINT. What is below 128 is its own head, and is
 * written inside of the caller. */
static inline size_t knit_pack_number(uint8_t *to, unsigned kind, uint64_t value)
{
    if (value >= 128)
        return knit_pack_scalars[kind](to, value);
    to[0] = (uint8_t)value;
    return 1;
}

/* As knit_pack_array() does for less than 16. */
static inline size_t knit_pack_few(uint8_t *to, uint32_t count)
{
    to[0] = (uint8_t)(0x90 | count);
    return 1;
}

/* An ext's code lies behind its length. */
size_t knit_pack_ext(uint8_t *to, uint32_t len, int8_t code);

enum { KNIT_PACK_TIME_MAX = 15 };

/* A whole timestamp; nanoseconds below 1e9. Returns its bytes, 6 to KNIT_PACK_TIME_MAX. */
size_t knit_pack_time(uint8_t *to, int64_t seconds, uint32_t nanoseconds);
