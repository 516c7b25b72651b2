/* SPDX-License-Identifier: Apache-2.0 */
/* The short and the full way between C values and msgpack (clients/lib/shape.h), one beside the
 * other. For unit tests and fuzz targets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the bytes as the result of a call by the result's type ("int"; "" = it is dropped), both
 * ways. NULL: they agree; else what does not. The short way may step aside, which *ret_is_short
 * says, but not where the full one has nothing unusual to read. */
const char *knit_two_shapes_read(
    const char *type, const uint8_t *result, size_t len, bool *ret_is_short);

/* Arguments of each type: the numbers' bits, a str, a bin. */
struct knit_two_shapes_values {
    uint64_t bits[4];
    const char *text; /* NULL is sent as "" */
    const void *bytes;
    size_t len;
};

/* Writes them both ways, in an order that `order` decides. As above. */
const char *knit_two_shapes_write(
    const struct knit_two_shapes_values *values, unsigned order, bool *ret_is_short);
