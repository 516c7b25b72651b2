/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: whether bytes are, and where they may be cut. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longer texts are looked at in blocks of so many bytes. */
#define KNIT_TEXT_BLOCK 64u

/* And where they are ASCII, so many at once. */
#define KNIT_TEXT_STRIDE 256u

/* How many bytes at the front are well-formed UTF-8 as Unicode has it: no overlong forms, no
 * surrogates, nothing above U+10FFFF. NUL is allowed. */
size_t knit_text_valid(const void *bytes, size_t len);

bool knit_text_is_utf8(const void *bytes, size_t len);

/* Copies the bytes, and says whether the copy is UTF-8; of long ASCII by one pass for both. */
bool knit_text_copy(void *to, const void *from, size_t len);

/* The longest length of at most max bytes that does not cut a character in two. For text that is
 * not UTF-8, some length of at most max. */
size_t knit_text_cut(const void *bytes, size_t len, size_t max);

/* The length of a character at the front that would change how a terminal shows the rest, or where
 * a reader sees a line end: U+0080 to U+009F, U+2028 and U+2029, marks of writing direction. 0 =
 * there is none. Those of ASCII are for the caller to see. */
size_t knit_text_hidden(const void *bytes, size_t len, uint32_t *ret_code);
