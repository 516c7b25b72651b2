/* SPDX-License-Identifier: Apache-2.0 */
/* Both structures are a row of numbers under names, so each is a table: of names, and of where the
 * numbers lie.
 */
#include "proto/attach.h"

#include <stddef.h>

#include "proto/walk.h"
#include "proto/writer.h"

struct field {
    const char *key;
    size_t offset; /* of a uint64_t in the structure */
};

#define FIELD(structure, key, member)                                                              \
    {                                                                                              \
        key, offsetof(struct structure, member)                                                    \
    }
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct field request_fields[] = {
    FIELD(knit_attach_request, "version", version),
    FIELD(knit_attach_request, "slots", slots),
    FIELD(knit_attach_request, "arena", arena_bytes),
    FIELD(knit_attach_request, "features", features),
    FIELD(knit_attach_request, "classes", classes),
};

static const struct field reply_fields[] = {
    FIELD(knit_attach_reply, "layout", layout),
    FIELD(knit_attach_reply, "id", id),
    FIELD(knit_attach_reply, "lanes", lanes),
    FIELD(knit_attach_reply, "slots", slots),
    FIELD(knit_attach_reply, "cells", cells),
    FIELD(knit_attach_reply, "request_arena", request_arena_bytes),
    FIELD(knit_attach_reply, "reply_arena", reply_arena_bytes),
    FIELD(knit_attach_reply, "payload_max", call_max_bytes),
    FIELD(knit_attach_reply, "features", features),
    FIELD(knit_attach_reply, "classes", classes),
};

static uint64_t *number(void *structure, const struct field *field)
{
    return (uint64_t *)(void *)((char *)structure + field->offset);
}

static void put_fields(
    struct knit_writer *writer, const void *structure, const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        knit_writer_member_uint(writer, fields[i].key,
            *(const uint64_t *)(const void *)((const char *)structure + fields[i].offset));
}

/* ---- The request ---- */

int knit_attach_request_put(struct knit_buffer *buffer, const struct knit_attach_request *request)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, COUNT(request_fields));
    put_fields(&writer, request, request_fields, COUNT(request_fields));
    return knit_writer_commit(&writer);
}

int knit_attach_request_decode(
    struct knit_span params, struct knit_attach_request *ret_request, const char **ret_reason)
{
    struct knit_attach_request request = {0};
    struct knit_walk walk;
    struct knit_item map, item;

    if (knit_walk_array(&walk, params) || knit_walk_next(&walk, &map) ||
        map.head.type != KNIT_HEAD_MAP) {
        *ret_reason = "$/attach: expected [{version, slots, arena, features, classes}]";
        return KNIT_ATTACH_E_BAD;
    }
    for (size_t i = 0; i < COUNT(request_fields); i++) {
        if (knit_walk_find(map.raw, request_fields[i].key, &item) == 0 &&
            !knit_item_uint(&item, number(&request, &request_fields[i]))) {
            *ret_reason = "$/attach: version, slots, arena, features and classes are numbers";
            return KNIT_ATTACH_E_BAD;
        }
    }
    *ret_request = request;
    return 0;
}

/* ---- The reply ---- */

int knit_attach_reply_put(struct knit_buffer *buffer, const struct knit_attach_reply *reply)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, (uint32_t)(COUNT(reply_fields) + 2 + (reply->balancer.len != 0) +
                                        (reply->clock != KNIT_ATTACH_UNUSABLE)));
    put_fields(&writer, reply, reply_fields, COUNT(reply_fields));
    knit_writer_member_bool(&writer, "steal", reply->steal);
    knit_writer_member_bool(&writer, "asks_host", reply->asks_host);
    if (reply->balancer.len != 0)
        knit_writer_member_str(&writer, "balancer", reply->balancer);
    if (reply->clock != KNIT_ATTACH_UNUSABLE)
        knit_writer_member_uint(&writer, "clock", reply->clock);
    return knit_writer_commit(&writer);
}

void knit_attach_reply_decode(struct knit_span result, struct knit_attach_reply *ret_reply)
{
    struct knit_attach_reply reply = {.steal = false};
    struct knit_item item;

    for (size_t i = 0; i < COUNT(reply_fields); i++) {
        uint64_t *value = number(&reply, &reply_fields[i]);

        if (knit_walk_find(result, reply_fields[i].key, &item) || !knit_item_uint(&item, value))
            *value = KNIT_ATTACH_UNUSABLE;
    }
    if (knit_walk_find(result, "steal", &item) == 0)
        (void)knit_item_bool(&item, &reply.steal);
    if (knit_walk_find(result, "asks_host", &item) == 0)
        (void)knit_item_bool(&item, &reply.asks_host);
    if (knit_walk_find(result, "balancer", &item) == 0)
        (void)knit_item_text(&item, &reply.balancer);
    reply.clock = knit_attach_clock(result);
    *ret_reply = reply;
}

int knit_attached_reply_put(struct knit_buffer *buffer, uint64_t clock)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 1);
    knit_writer_member_uint(&writer, "clock", clock);
    return knit_writer_commit(&writer);
}

uint64_t knit_attach_clock(struct knit_span result)
{
    struct knit_item item;
    uint64_t clock;

    if (knit_walk_find(result, "clock", &item) != 0 || !knit_item_uint(&item, &clock))
        return KNIT_ATTACH_UNUSABLE;
    return clock;
}
