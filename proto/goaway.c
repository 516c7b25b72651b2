/* SPDX-License-Identifier: Apache-2.0 */
/* Read as hello.c reads its maps: known keys by name, nil as absent, unknown keys ignored. */
#include "proto/goaway.h"

#include "proto/walk.h"
#include "proto/writer.h"

static int bad(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_GOAWAY_E_BAD;
}

int knit_goaway_put(struct knit_buffer *buffer, const struct knit_goaway *goaway)
{
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, 1);
    knit_writer_map(&writer, 1u + (goaway->reason.bytes != NULL));
    knit_writer_member_str(&writer, "reason", goaway->reason);
    knit_writer_member_uint(&writer, "drain_ms", goaway->drain_ms);
    return knit_writer_commit(&writer);
}

int knit_goaway_decode(
    struct knit_span params, struct knit_goaway *ret_goaway, const char **ret_reason)
{
    struct knit_goaway goaway = {0};
    struct knit_walk walk;
    struct knit_item item;
    int r;

    if (knit_walk_array(&walk, params) || knit_walk_next(&walk, &item) ||
        knit_walk_map(&walk, item.raw))
        return bad(ret_reason, "params must hold one map");
    while ((r = knit_walk_next(&walk, &item)) == 0) {
        if (item.head.type == KNIT_HEAD_NIL)
            continue;
        if (knit_span_is(item.key, "reason") && !knit_item_utf8(&item, &goaway.reason))
            return bad(ret_reason, "reason must be a str");
        if (knit_span_is(item.key, "drain_ms") && !knit_item_uint(&item, &goaway.drain_ms))
            return bad(ret_reason, "drain_ms must be a number");
    }
    if (r != KNIT_WALK_E_END)
        return bad(ret_reason, "params must hold one map");
    *ret_goaway = goaway;
    return 0;
}
