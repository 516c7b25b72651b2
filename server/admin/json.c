/* SPDX-License-Identifier: Apache-2.0 */
/* Depth is bounded by the values' own: the daemon's have four levels. */
#include "server/admin/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/walk.h"

enum { DEPTH_MAX = 16 };

static void put(struct knit_buffer *buffer, const char *text)
{
    (void)knit_buffer_append(buffer, text, strlen(text));
}

void knit_json_put_text(struct knit_buffer *buffer, struct knit_span text)
{
    size_t done = 0;
    char escape[8];

    put(buffer, "\"");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.bytes[i];

        if (byte >= ' ' && byte != '"' && byte != '\\')
            continue;
        (void)knit_buffer_append(buffer, text.bytes + done, i - done);
        (void)snprintf(escape, sizeof(escape), byte < ' ' ? "\\u%04x" : "\\%c", byte);
        put(buffer, escape);
        done = i + 1;
    }
    if (text.len > done)
        (void)knit_buffer_append(buffer, text.bytes + done, text.len - done);
    put(buffer, "\"");
}

static void put_item(struct knit_buffer *buffer, const struct knit_item *item, int depth);

static void put_children(struct knit_buffer *buffer, const struct knit_item *item, int depth)
{
    const bool is_map = item->head.type == KNIT_HEAD_MAP;
    struct knit_walk walk;
    struct knit_item child;
    int r = is_map ? knit_walk_map(&walk, item->raw) : knit_walk_array(&walk, item->raw);

    put(buffer, is_map ? "{" : "[");
    for (bool is_first = true; r == 0; is_first = false) {
        r = knit_walk_next(&walk, &child);
        if (r != 0)
            break;
        if (!is_first)
            put(buffer, ",");
        if (is_map) {
            knit_json_put_text(buffer, child.key);
            put(buffer, ":");
        }
        put_item(buffer, &child, depth + 1);
    }
    if (r != KNIT_WALK_E_END && buffer->error == 0)
        buffer->error = -EINVAL;
    put(buffer, is_map ? "}" : "]");
}

static void put_item(struct knit_buffer *buffer, const struct knit_item *item, int depth)
{
    char number[24];
    int64_t value = 0;

    switch (item->head.type) {
    case KNIT_HEAD_NIL:
        put(buffer, "null");
        return;
    case KNIT_HEAD_BOOL:
        put(buffer, item->head.value != 0 ? "true" : "false");
        return;
    case KNIT_HEAD_UINT:
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)item->head.value);
        put(buffer, number);
        return;
    case KNIT_HEAD_INT:
        (void)knit_head_as_int(&item->head, &value);
        (void)snprintf(number, sizeof(number), "%lld", (long long)value);
        put(buffer, number);
        return;
    case KNIT_HEAD_STR:
        knit_json_put_text(buffer, item->body);
        return;
    case KNIT_HEAD_ARRAY:
    case KNIT_HEAD_MAP:
        if (depth < DEPTH_MAX) {
            put_children(buffer, item, depth);
            return;
        }
        break;
    default:
        break;
    }
    if (buffer->error == 0)
        buffer->error = -EINVAL;
}

int knit_json_put(struct knit_buffer *buffer, struct knit_span value)
{
    struct knit_item item = {.raw = value, .body = {NULL, 0}};

    if (knit_head_read(value.bytes, value.len, &item.head) != 0)
        return buffer->error != 0 ? buffer->error : (buffer->error = -EINVAL);
    if (item.head.type == KNIT_HEAD_STR) {
        if (item.head.value > value.len - item.head.size)
            return buffer->error != 0 ? buffer->error : (buffer->error = -EINVAL);
        item.body = knit_span(value.bytes + item.head.size, (size_t)item.head.value);
    }
    put_item(buffer, &item, 0);
    return buffer->error;
}
