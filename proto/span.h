/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes. It owns nothing and ends with what it points into; `bytes` NULL means
 * absent, which is not the same as empty.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct knit_span {
    const uint8_t *bytes;
    size_t len;
};

static inline struct knit_span knit_span(const void *bytes, size_t len)
{
    return (struct knit_span){(const uint8_t *)bytes, len};
}

/* Of a NUL-terminated text; NULL gives an absent span. */
static inline struct knit_span knit_span_text(const char *text)
{
    return (struct knit_span){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

static inline bool knit_span_is(struct knit_span span, const char *text)
{
    size_t len = strlen(text);

    return span.bytes != NULL && span.len == len && memcmp(span.bytes, text, len) == 0;
}
