/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: whether bytes are, and where they may be cut. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* How many bytes at the front are well-formed UTF-8 as Unicode has it: no overlong forms, no
 * surrogates, nothing above U+10FFFF. NUL is allowed. */
size_t knit_text_valid(const void *bytes, size_t len);

static inline bool knit_text_is_utf8(const void *bytes, size_t len)
{
    return knit_text_valid(bytes, len) == len;
}

/* The longest length of at most max bytes that does not cut a character in two. For text that is
 * not UTF-8, some length of at most max. */
size_t knit_text_cut(const void *bytes, size_t len, size_t max);
