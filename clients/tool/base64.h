/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 as RFC 4648 has it in section 4: with padding, nothing else between. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A NUL-terminated text for free(), or NULL when out of memory. */
char *knit_base64_encode(const void *bytes, size_t len);

/* Decodes text of len bytes into `ret_bytes`, which has room for len / 4 * 3. False: not Base64. */
bool knit_base64_decode(const char *text, size_t len, uint8_t *ret_bytes, size_t *ret_len);
