/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that end a line are set aside from the beginning, so it always ends. */
#include "server/base/log_line.h"

#include <stdio.h>
#include <string.h>

#include "proto/text.h"

enum {
    VALUE_MAX = 2048, /* bytes of a value: it is cut rather than the fields behind it */
    ESCAPE_MAX = 6,
    CUT_BYTES = 4, /* ..." */
    END_BYTES = 2, /* the brace and the line feed */
};

static size_t room(const struct knit_log_line *line)
{
    return sizeof(line->bytes) - END_BYTES - line->len;
}

static void put(struct knit_log_line *line, const char *text, size_t len)
{
    if (len > room(line))
        len = room(line);
    memcpy(line->bytes + line->len, text, len);
    line->len += len;
}

static void put_text(struct knit_log_line *line, const char *text)
{
    put(line, text, strlen(text));
}

void knit_log_line_begin(struct knit_log_line *line, bool is_json, const char *prefix)
{
    line->len = 0;
    line->is_json = is_json;
    line->has_fields = false;
    put_text(line, prefix);
    if (is_json)
        put_text(line, "{");
}

/* False: there is no room for the key and some bytes of a value. */
static bool begin_field(struct knit_log_line *line, const char *key)
{
    enum { VALUE_MIN = 32 };

    if (room(line) < strlen(key) + VALUE_MIN)
        return false;
    if (line->has_fields)
        put_text(line, line->is_json ? "," : " ");
    line->has_fields = true;
    if (line->is_json)
        put_text(line, "\"");
    put_text(line, key);
    put_text(line, line->is_json ? "\":" : "=");
    return true;
}

/* Which logfmt takes without quotes. */
static bool is_bare(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return len > 0;
}

/* What stands for the byte c; is_foreign: it is no part of a character. */
static size_t escape_of(
    bool is_json, unsigned char c, bool is_foreign, char ret_escape[ESCAPE_MAX + 1])
{
    if (c == '"' || c == '\\')
        return (size_t)snprintf(ret_escape, ESCAPE_MAX + 1, "\\%c", c);
    if (c == '\n')
        return (size_t)snprintf(ret_escape, ESCAPE_MAX + 1, "\\n");
    if (is_foreign)
        return (size_t)snprintf(ret_escape, ESCAPE_MAX + 1, is_json ? "\\\\x%02x" : "\\x%02x", c);
    if (c < ' ' || c == 0x7f)
        return (size_t)snprintf(ret_escape, ESCAPE_MAX + 1, is_json ? "\\u%04x" : "\\x%02x", c);
    return 0;
}

/* Bytes beyond ASCII stay as they are if all of the value is UTF-8, except what a terminal obeys.
 */
static void put_quoted(struct knit_log_line *line, const char *text, size_t len, bool is_cut)
{
    const bool is_utf8 = knit_text_is_utf8(text, len);

    put(line, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool is_beyond = c > 0x7f;
        uint32_t code = 0;
        size_t hidden = is_beyond && is_utf8 ? knit_text_hidden(text + i, len - i, &code) : 0;
        char escape[ESCAPE_MAX + 1];
        size_t size;

        /* What follows in a character finds room where its first byte did. */
        if (room(line) < ESCAPE_MAX + CUT_BYTES && !(is_utf8 && (c & 0xc0) == 0x80)) {
            is_cut = true;
            break;
        }
        if (hidden != 0) {
            (void)snprintf(escape, sizeof(escape), "\\u%04x", code & 0xffff);
            put(line, escape, ESCAPE_MAX);
            i += hidden - 1;
            continue;
        }
        size = escape_of(line->is_json, c, is_beyond && !is_utf8, escape);
        put(line, size != 0 ? escape : (const char *)&text[i], size != 0 ? size : 1);
    }
    put(line, is_cut ? "...\"" : "\"", is_cut ? CUT_BYTES : 1);
}

void knit_log_line_text(struct knit_log_line *line, const char *key, const char *text, size_t len)
{
    const bool is_cut = len > VALUE_MAX;

    if (!begin_field(line, key))
        return;
    if (is_cut)
        len = knit_text_cut(text, len, VALUE_MAX);
    if (!line->is_json && !is_cut && is_bare(text, len) && len <= room(line))
        put(line, text, len);
    else
        put_quoted(line, text, len, is_cut);
}

void knit_log_line_number(struct knit_log_line *line, const char *key, uint64_t number)
{
    char digits[24];

    if (begin_field(line, key))
        put(line, digits,
            (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number));
}

void knit_log_line_time(struct knit_log_line *line, const char *key, const struct timespec *time)
{
    struct tm parts;
    char text[64];
    size_t len;

    (void)gmtime_r(&time->tv_sec, &parts);
    len = strftime(text, sizeof(text) - 8, "%Y-%m-%dT%H:%M:%S", &parts);
    len +=
        (size_t)snprintf(text + len, sizeof(text) - len, ".%03dZ", (int)(time->tv_nsec / 1000000));
    knit_log_line_text(line, key, text, len);
}

void knit_log_line_end(struct knit_log_line *line)
{
    if (line->is_json)
        line->bytes[line->len++] = '}';
    line->bytes[line->len++] = '\n';
}
