/* SPDX-License-Identifier: Apache-2.0 */
/* Each part has its place, so nothing is searched for. */
#include "proto/trace.h"

#include <string.h>

static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const uint8_t *text, uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

bool knit_trace_is_valid(const struct knit_trace *trace)
{
    return !is_zero(trace->id, sizeof(trace->id)) && !is_zero(trace->span, sizeof(trace->span));
}

bool knit_trace_parse(struct knit_span text, struct knit_trace *ret_trace)
{
    struct knit_trace trace;
    uint8_t version;

    if (text.bytes == NULL || text.len < KNIT_TRACE_BYTES || !read_hex(text.bytes, &version, 1) ||
        version == 0xff || text.bytes[2] != '-' || text.bytes[35] != '-' || text.bytes[52] != '-')
        return false;
    /* A later version may have more behind that. */
    if (text.len > KNIT_TRACE_BYTES && (version == 0 || text.bytes[KNIT_TRACE_BYTES] != '-'))
        return false;
    if (!read_hex(text.bytes + 3, trace.id, sizeof(trace.id)) ||
        !read_hex(text.bytes + 36, trace.span, sizeof(trace.span)) ||
        !read_hex(text.bytes + 53, &trace.flags, 1) || !knit_trace_is_valid(&trace))
        return false;
    trace.flags &= KNIT_TRACE_SAMPLED;
    *ret_trace = trace;
    return true;
}

void knit_trace_put_hex(char *to, const uint8_t *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
}

void knit_trace_format(const struct knit_trace *trace, char ret_text[KNIT_TRACE_BYTES + 1])
{
    memcpy(ret_text, "00-", 3);
    knit_trace_put_hex(ret_text + 3, trace->id, sizeof(trace->id));
    ret_text[35] = '-';
    knit_trace_put_hex(ret_text + 36, trace->span, sizeof(trace->span));
    ret_text[52] = '-';
    knit_trace_put_hex(ret_text + 53, &trace->flags, 1);
    ret_text[KNIT_TRACE_BYTES] = '\0';
}

void knit_trace_write(const struct knit_trace *trace, struct knit_trace_texts *ret_texts)
{
    *ret_texts = (struct knit_trace_texts){.id = ""};
    if (!knit_trace_is_valid(trace))
        return;
    knit_trace_put_hex(ret_texts->id, trace->id, sizeof(trace->id));
    knit_trace_put_hex(ret_texts->span, trace->span, sizeof(trace->span));
}
