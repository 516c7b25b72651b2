/* SPDX-License-Identifier: Apache-2.0 */
/* Each decoder walks one map and reads the keys it knows. A known key of the wrong type is refused
 * with a reason, an unknown key is ignored; texts are checked for UTF-8, since they are shown in
 * logs and on screens.
 */
#include "proto/hello.h"

#include "proto/walk.h"
#include "proto/writer.h"

static int bad(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_HELLO_E_BAD;
}

/* nil stands for absent. */
static bool read_bytes(const struct knit_item *item, struct knit_span *ret_bytes)
{
    if (item->head.type == KNIT_HEAD_NIL)
        return true;
    *ret_bytes = item->body;
    return item->head.type == KNIT_HEAD_STR || item->head.type == KNIT_HEAD_BIN;
}

static bool read_optional_text(const struct knit_item *item, struct knit_span *ret_text)
{
    return item->head.type == KNIT_HEAD_NIL || knit_item_utf8(item, ret_text);
}

/* The one map in a params array; an absent span where the array is empty. */
static int open_params(struct knit_span params, struct knit_span *ret_map, const char **ret_reason)
{
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_array(&walk, params))
        return bad(ret_reason, "params must be an array");
    r = knit_walk_next(&walk, &item);
    if (r == KNIT_WALK_E_END) {
        *ret_map = (struct knit_span){0};
        return 0;
    }
    if (r || item.head.type != KNIT_HEAD_MAP || walk.left > 0)
        return bad(ret_reason, "params must hold one map");
    *ret_map = item.raw;
    return 0;
}

int knit_hello_put(struct knit_buffer *buffer, const struct knit_hello *hello)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, 1u + (hello->version.bytes != NULL) + (hello->token.bytes != NULL));
    knit_writer_member_str(&writer, "name", hello->name);
    knit_writer_member_str(&writer, "version", hello->version);
    if (hello->token.bytes != NULL) {
        knit_writer_text(&writer, "token");
        knit_writer_bin(&writer, hello->token.bytes, hello->token.len);
    }
    return knit_writer_commit(&writer);
}

int knit_hello_decode(
    struct knit_span params, struct knit_hello *ret_hello, const char **ret_reason)
{
    struct knit_hello hello = {0};
    struct knit_span map;
    struct knit_walk walk;
    struct knit_item item;
    int r = open_params(params, &map, ret_reason);

    if (r)
        return r;
    if (map.bytes == NULL || knit_walk_map(&walk, map))
        return bad(ret_reason, "params must hold one map");
    while (knit_walk_next(&walk, &item) == 0) {
        if (knit_span_is(item.key, "name") && !knit_item_utf8(&item, &hello.name))
            return bad(ret_reason, "name must be a str");
        if (knit_span_is(item.key, "version") && !read_optional_text(&item, &hello.version))
            return bad(ret_reason, "version must be a str");
        if (knit_span_is(item.key, "token") && !read_bytes(&item, &hello.token))
            return bad(ret_reason, "token must be a str or bin");
    }
    if (hello.name.bytes == NULL)
        return bad(ret_reason, "name is missing");
    *ret_hello = hello;
    return 0;
}

static void put_limits(struct knit_writer *writer, const struct knit_hello_reply *reply)
{
    knit_writer_text(writer, "limits");
    knit_writer_map(writer, 5);
    knit_writer_member_uint(writer, "message_bytes", reply->message_bytes);
    knit_writer_member_uint(writer, "call_bytes", reply->call_bytes);
    knit_writer_member_uint(writer, "depth", reply->depth);
    knit_writer_member_uint(writer, "in_flight", reply->in_flight);
    knit_writer_member_uint(writer, "output_bytes", reply->output_bytes);
}

int knit_hello_reply_put(struct knit_buffer *buffer, const struct knit_hello_reply *reply)
{
    struct knit_writer writer;
    uint32_t i;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 6u + (reply->principal.bytes != NULL) +
                                 (reply->instance.bytes != NULL) + (reply->workers != 0));
    knit_writer_member_str(&writer, "server", reply->server);
    knit_writer_member_str(&writer, "version", reply->version);
    knit_writer_member_uint(&writer, "protocol", reply->protocol);
    knit_writer_member_uint(&writer, "epoch", reply->epoch);
    put_limits(&writer, reply);
    knit_writer_text(&writer, "features");
    knit_writer_array(&writer, reply->feature_count);
    for (i = 0; i < reply->feature_count; i++)
        knit_writer_str(&writer, (const char *)reply->feature[i].bytes, reply->feature[i].len);
    knit_writer_member_str(&writer, "principal", reply->principal);
    knit_writer_member_str(&writer, "instance", reply->instance);
    if (reply->workers != 0) {
        knit_writer_text(&writer, "capacity");
        knit_writer_map(&writer, 1);
        knit_writer_member_uint(&writer, "workers", reply->workers);
    }
    return knit_writer_commit(&writer);
}

static bool read_limits(const struct knit_item *limits, struct knit_hello_reply *reply)
{
    struct knit_walk walk;
    struct knit_item item;
    int r = knit_walk_map(&walk, limits->raw);

    while (r == 0 && (r = knit_walk_next(&walk, &item)) == 0) {
        if (knit_span_is(item.key, "message_bytes") &&
            !knit_item_uint(&item, &reply->message_bytes))
            return false;
        if (knit_span_is(item.key, "call_bytes") && !knit_item_uint(&item, &reply->call_bytes))
            return false;
        if (knit_span_is(item.key, "depth") && !knit_item_uint(&item, &reply->depth))
            return false;
        if (knit_span_is(item.key, "in_flight") && !knit_item_uint(&item, &reply->in_flight))
            return false;
        if (knit_span_is(item.key, "output_bytes") && !knit_item_uint(&item, &reply->output_bytes))
            return false;
    }
    return r == KNIT_WALK_E_END;
}

static bool read_capacity(const struct knit_item *capacity, struct knit_hello_reply *reply)
{
    struct knit_walk walk;
    struct knit_item item;
    int r = knit_walk_map(&walk, capacity->raw);

    while (r == 0 && (r = knit_walk_next(&walk, &item)) == 0)
        if (knit_span_is(item.key, "workers") && !knit_item_uint(&item, &reply->workers))
            return false;
    return r == KNIT_WALK_E_END;
}

static bool read_features(const struct knit_item *features, struct knit_hello_reply *reply)
{
    struct knit_walk walk;
    struct knit_item item;
    int r = knit_walk_array(&walk, features->raw);

    while (r == 0 && (r = knit_walk_next(&walk, &item)) == 0) {
        struct knit_span text;

        if (!knit_item_utf8(&item, &text))
            return false;
        if (reply->feature_count < KNIT_HELLO_FEATURES_MAX)
            reply->feature[reply->feature_count++] = text;
    }
    return r == KNIT_WALK_E_END;
}

/* What is wrong with this member, or NULL. */
static const char *read_reply_member(const struct knit_item *item, struct knit_hello_reply *reply)
{
    if (knit_span_is(item->key, "server"))
        return knit_item_utf8(item, &reply->server) ? NULL : "server must be a str";
    if (knit_span_is(item->key, "version"))
        return knit_item_utf8(item, &reply->version) ? NULL : "version must be a str";
    if (knit_span_is(item->key, "protocol"))
        return knit_item_uint(item, &reply->protocol) ? NULL : "protocol must be a number";
    if (knit_span_is(item->key, "epoch"))
        return knit_item_uint(item, &reply->epoch) ? NULL : "epoch must be a number";
    if (knit_span_is(item->key, "limits"))
        return read_limits(item, reply) ? NULL : "limits must be a map of numbers";
    if (knit_span_is(item->key, "features"))
        return read_features(item, reply) ? NULL : "features must be an array of str";
    if (knit_span_is(item->key, "principal"))
        return read_optional_text(item, &reply->principal) ? NULL : "principal must be a str";
    if (knit_span_is(item->key, "instance"))
        return read_optional_text(item, &reply->instance) ? NULL : "instance must be a str";
    if (knit_span_is(item->key, "capacity"))
        return read_capacity(item, reply) ? NULL : "capacity must be a map of numbers";
    return NULL;
}

int knit_hello_reply_decode(
    struct knit_span result, struct knit_hello_reply *ret_reply, const char **ret_reason)
{
    struct knit_hello_reply reply = {0};
    const char *flaw = NULL;
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_map(&walk, result))
        return bad(ret_reason, "the answer must be a map");
    while (flaw == NULL && (r = knit_walk_next(&walk, &item)) == 0)
        flaw = read_reply_member(&item, &reply);
    if (flaw != NULL)
        return bad(ret_reason, flaw);
    if (r != KNIT_WALK_E_END || reply.server.bytes == NULL || reply.protocol == 0)
        return bad(ret_reason, "the answer lacks server or protocol");
    *ret_reply = reply;
    return 0;
}

bool knit_hello_reply_has(const struct knit_hello_reply *reply, const char *feature)
{
    uint32_t i;

    for (i = 0; i < reply->feature_count; i++) {
        if (knit_span_is(reply->feature[i], feature))
            return true;
    }
    return false;
}
