/* SPDX-License-Identifier: Apache-2.0 */
/* Big integers as text: "0x1f" or "-0x1f" both ways, decimal digits on the way in as well. The body
 * of ext 33 is a sign byte and the magnitude, little-endian, without leading zero bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits cost the square of their number; longer ones must come in hexadecimal. */
enum { KNIT_BIGINT_DECIMAL_MAX = 10000 };

/* `ret_body` has room for len + 1 bytes. False: not a number, or too many decimal digits. */
bool knit_bigint_read(const char *text, size_t len, uint8_t *ret_body, size_t *ret_len);

/* A NUL-terminated text for free(), or NULL when out of memory. */
char *knit_bigint_write(const uint8_t *body, size_t len);
