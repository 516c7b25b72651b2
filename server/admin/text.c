/* SPDX-License-Identifier: Apache-2.0 */
/* By way of the stack: a buffer may be one that cannot grow, and what is formatted is short. */
#include "server/admin/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void knit_text_put(struct knit_buffer *buffer, const char *format, ...)
{
    char text[512];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (len > 0)
        (void)knit_buffer_append(
            buffer, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

void knit_text_put_html(struct knit_buffer *buffer, struct knit_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (memchr("<>&\"'", text.bytes[i], 5) != NULL)
            knit_text_put(buffer, "&#%d;", text.bytes[i]);
        else
            (void)knit_buffer_append(buffer, &text.bytes[i], 1);
    }
}
