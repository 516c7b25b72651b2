/* SPDX-License-Identifier: Apache-2.0 */
/* Formatted text at the end of a buffer, for what the admin face writes. */
#pragma once

#include "proto/buffer.h"
#include "proto/span.h"

/* As printf(). What is longer than 511 bytes is cut: texts of any length are appended as they are.
 * Its error stays in the buffer. */
__attribute__((format(printf, 2, 3))) void knit_text_put(
    struct knit_buffer *buffer, const char *format, ...);

/* A text, in which nothing is HTML's. Its error stays in the buffer. */
void knit_text_put_html(struct knit_buffer *buffer, struct knit_span text);
