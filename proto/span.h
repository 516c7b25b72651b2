/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed run of bytes. It owns nothing and ends with what it points into; `bytes` NULL means
 * absent, which is not the same as empty.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A function that has to be part of its caller, whatever the compiler thinks of its size. */
#define KNIT_ALWAYS_INLINE static inline __attribute__((always_inline))

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

/* memcmp() == 0, without a call for what is as short as most names: loads that overlap. */
static inline bool knit_span_is_same(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint64_t of_a, of_b, end_of_a, end_of_b;
    uint32_t half_of_a, half_of_b, end_half_of_a, end_half_of_b;

    if (len >= 8 && len <= 16) {
        memcpy(&of_a, a, 8);
        memcpy(&of_b, b, 8);
        memcpy(&end_of_a, a + len - 8, 8);
        memcpy(&end_of_b, b + len - 8, 8);
        return of_a == of_b && end_of_a == end_of_b;
    }
    if (len >= 4 && len < 8) {
        memcpy(&half_of_a, a, 4);
        memcpy(&half_of_b, b, 4);
        memcpy(&end_half_of_a, a + len - 4, 4);
        memcpy(&end_half_of_b, b + len - 4, 4);
        return half_of_a == half_of_b && end_half_of_a == end_half_of_b;
    }
    return memcmp(a, b, len) == 0;
}
