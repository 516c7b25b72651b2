/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders work as those of hello.c: they read the keys they know, and refuse such a key if its
 * type is wrong.
 */
#include "proto/tasks.h"

#include <msgpack.h>

#include "proto/limits.h"
#include "proto/substitute.h"
#include "proto/walk.h"
#include "proto/writer.h"

static int bad(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_TASKS_E_BAD;
}

/* ---- The query ---- */

int knit_tasks_query_put(struct knit_buffer *buffer, const struct knit_tasks_query *query)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, (query->after != KNIT_TASKS_FIRST) + (query->limit != 0));
    if (query->after != KNIT_TASKS_FIRST)
        knit_writer_member_uint(&writer, "after", query->after);
    if (query->limit != 0)
        knit_writer_member_uint(&writer, "limit", query->limit);
    return knit_writer_commit(&writer);
}

int knit_tasks_query_decode(
    struct knit_span params, struct knit_tasks_query *ret_query, const char **ret_reason)
{
    struct knit_tasks_query query = {.after = KNIT_TASKS_FIRST};
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_array(&walk, params))
        return bad(ret_reason, "params must be an array");
    r = knit_walk_next(&walk, &item);
    if (r == 0 && (walk.left > 0 || knit_walk_map(&walk, item.raw)))
        return bad(ret_reason, "params must hold one map, or nothing");
    while (r == 0 && (r = knit_walk_next(&walk, &item)) == 0) {
        if (item.head.type == KNIT_HEAD_NIL)
            continue;
        if (knit_span_is(item.key, "after") && !knit_item_uint(&item, &query.after))
            return bad(ret_reason, "after must be a task's number");
        if (knit_span_is(item.key, "limit") && !knit_item_uint(&item, &query.limit))
            return bad(ret_reason, "limit must be a number");
    }
    if (r != KNIT_WALK_E_END)
        return bad(ret_reason, "params must hold one map, or nothing");
    if (query.limit == 0)
        query.limit = KNIT_TASKS_PAGE_DEFAULT;
    if (query.limit > KNIT_TASKS_PAGE_MAX)
        query.limit = KNIT_TASKS_PAGE_MAX;
    *ret_query = query;
    return 0;
}

/* ---- Pages ---- */

static int write_bytes(void *buffer, const char *bytes, size_t len)
{
    return knit_buffer_append(buffer, bytes, len) ? -1 : 0;
}

/* Straight through the packer: a writer would miss the entries, which come one by one. */
int knit_tasks_page_put_head(struct knit_buffer *buffer, uint64_t epoch, bool more, uint32_t count)
{
    msgpack_packer packer;

    msgpack_packer_init(&packer, buffer, write_bytes);
    msgpack_pack_map(&packer, 3);
    msgpack_pack_str_with_body(&packer, "epoch", 5);
    msgpack_pack_uint64(&packer, epoch);
    msgpack_pack_str_with_body(&packer, "more", 4);
    if (more)
        msgpack_pack_true(&packer);
    else
        msgpack_pack_false(&packer);
    msgpack_pack_str_with_body(&packer, "tasks", 5);
    msgpack_pack_array(&packer, count);
    return buffer->error;
}

int knit_tasks_page_put_entry(struct knit_buffer *buffer, const struct knit_task_entry *entry)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 3u + (entry->doc.bytes != NULL) + (entry->timeout_ms != 0) +
                                 (entry->flags != 0) + (entry->module.bytes != NULL) +
                                 (entry->on_timeout.bytes != NULL) + (entry->deaths != 0 ? 3u : 0));
    knit_writer_member_uint(&writer, "id", entry->id);
    knit_writer_member_str(&writer, "name", entry->name);
    knit_writer_member_str(&writer, "signature", entry->signature);
    knit_writer_member_str(&writer, "doc", entry->doc);
    if (entry->timeout_ms)
        knit_writer_member_uint(&writer, "timeout", entry->timeout_ms);
    if (entry->on_timeout.bytes != NULL) {
        knit_writer_text(&writer, "on_timeout");
        knit_writer_raw(&writer, entry->on_timeout.bytes, entry->on_timeout.len);
    }
    if (entry->flags)
        knit_writer_member_uint(&writer, "flags", entry->flags);
    knit_writer_member_str(&writer, "module", entry->module);
    if (entry->deaths != 0) {
        knit_writer_member_uint(&writer, "deaths", entry->deaths);
        knit_writer_member_uint(&writer, "signal", entry->signal);
        knit_writer_member_bool(&writer, "quarantined", entry->is_quarantined);
    }
    return knit_writer_commit(&writer);
}

int knit_tasks_page_decode(
    struct knit_span result, struct knit_tasks_page *ret_page, const char **ret_reason)
{
    struct knit_tasks_page page = {0};
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_map(&walk, result))
        return bad(ret_reason, "a page must be a map");
    while ((r = knit_walk_next(&walk, &item)) == 0) {
        if (knit_span_is(item.key, "epoch") && !knit_item_uint(&item, &page.epoch))
            return bad(ret_reason, "epoch must be a number");
        if (knit_span_is(item.key, "more") && !knit_item_bool(&item, &page.more))
            return bad(ret_reason, "more must be a bool");
        if (knit_span_is(item.key, "tasks"))
            page.tasks = item.raw;
    }
    if (r != KNIT_WALK_E_END || page.tasks.bytes == NULL || knit_walk_array(&walk, page.tasks))
        return bad(ret_reason, "a page must hold an array of tasks");
    *ret_page = page;
    return 0;
}

static bool read_on_timeout(const struct knit_item *item, struct knit_task_entry *entry)
{
    struct knit_substitute substitute;
    const char *reason;

    entry->on_timeout = item->raw;
    return knit_substitute_decode(item->raw, &substitute, NULL, &reason) == 0;
}

/* What is wrong with this member, or NULL. */
static const char *read_member(const struct knit_item *item, struct knit_task_entry *entry)
{
    if (knit_span_is(item->key, "id"))
        return knit_item_uint(item, &entry->id) ? NULL : "id must be a number";
    if (knit_span_is(item->key, "name"))
        return knit_item_utf8(item, &entry->name) ? NULL : "name must be a str";
    if (knit_span_is(item->key, "signature"))
        return knit_item_utf8(item, &entry->signature) ? NULL : "signature must be a str";
    if (item->head.type == KNIT_HEAD_NIL)
        return NULL;
    if (knit_span_is(item->key, "doc"))
        return knit_item_utf8(item, &entry->doc) ? NULL : "doc must be a str";
    if (knit_span_is(item->key, "timeout"))
        return knit_item_uint(item, &entry->timeout_ms) ? NULL : "timeout must be a number";
    if (knit_span_is(item->key, "flags"))
        return knit_item_uint(item, &entry->flags) ? NULL : "flags must be a number";
    if (knit_span_is(item->key, "module"))
        return knit_item_utf8(item, &entry->module) ? NULL : "module must be a str";
    if (knit_span_is(item->key, "on_timeout"))
        return read_on_timeout(item, entry) ? NULL : "on_timeout must be as option timeout has it";
    if (knit_span_is(item->key, "deaths"))
        return knit_item_uint(item, &entry->deaths) ? NULL : "deaths must be a number";
    if (knit_span_is(item->key, "signal"))
        return knit_item_uint(item, &entry->signal) ? NULL : "signal must be a number";
    if (knit_span_is(item->key, "quarantined"))
        return knit_item_bool(item, &entry->is_quarantined) ? NULL : "quarantined must be a bool";
    return NULL;
}

int knit_task_entry_decode(
    struct knit_span map, struct knit_task_entry *ret_entry, const char **ret_reason)
{
    struct knit_task_entry entry = {.id = UINT64_MAX};
    const char *flaw = NULL;
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_map(&walk, map))
        return bad(ret_reason, "a task must be a map");
    while (flaw == NULL && (r = knit_walk_next(&walk, &item)) == 0)
        flaw = read_member(&item, &entry);
    if (flaw != NULL)
        return bad(ret_reason, flaw);
    if (r != KNIT_WALK_E_END || entry.id == UINT64_MAX || entry.name.bytes == NULL ||
        entry.signature.bytes == NULL)
        return bad(ret_reason, "a task lacks id, name or signature");
    *ret_entry = entry;
    return 0;
}
