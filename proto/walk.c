/* SPDX-License-Identifier: Apache-2.0 */
/* Each child is measured by knit_check_skip(), so walking a container costs one pass over its heads
 * and never more than its bytes.
 */
#include "proto/walk.h"

#include "proto/check.h"

static int open_walk(struct knit_walk *walk, struct knit_span value, enum knit_head_type type)
{
    struct knit_head head;

    if (knit_head_read(value.bytes, value.len, &head))
        return KNIT_WALK_E_BAD;
    if (head.type != type)
        return KNIT_WALK_E_TYPE;
    *walk = (struct knit_walk){
        .rest = {value.bytes + head.size, value.len - head.size},
        .left = head.value,
        .is_map = type == KNIT_HEAD_MAP,
    };
    return 0;
}

int knit_walk_array(struct knit_walk *walk, struct knit_span value)
{
    return open_walk(walk, value, KNIT_HEAD_ARRAY);
}

int knit_walk_map(struct knit_walk *walk, struct knit_span value)
{
    return open_walk(walk, value, KNIT_HEAD_MAP);
}

/* Cut one value off the rest. */
static int take(struct knit_walk *walk, struct knit_item *item)
{
    size_t len;

    if (knit_check_skip(walk->rest.bytes, walk->rest.len, &len) ||
        knit_head_read(walk->rest.bytes, len, &item->head))
        return KNIT_WALK_E_BAD;
    item->raw = knit_span(walk->rest.bytes, len);
    item->body = (struct knit_span){0};
    if (knit_head_has_body(&item->head))
        item->body = knit_span(item->raw.bytes + item->head.size, len - item->head.size);
    walk->rest.bytes += len;
    walk->rest.len -= len;
    return 0;
}

int knit_walk_next(struct knit_walk *walk, struct knit_item *ret_item)
{
    struct knit_item key = {0}, item = {0};

    if (walk->left == 0)
        return KNIT_WALK_E_END;
    if (walk->is_map && take(walk, &key))
        return KNIT_WALK_E_BAD;
    if (take(walk, &item))
        return KNIT_WALK_E_BAD;
    if (walk->is_map && key.head.type == KNIT_HEAD_STR)
        item.key = key.body;
    walk->left--;
    *ret_item = item;
    return 0;
}

int knit_walk_find(struct knit_span map, const char *key, struct knit_item *ret_item)
{
    struct knit_walk walk;
    struct knit_item item;
    int r = knit_walk_map(&walk, map);

    if (r)
        return r;
    while ((r = knit_walk_next(&walk, &item)) == 0) {
        if (knit_span_is(item.key, key)) {
            *ret_item = item;
            return 0;
        }
    }
    return r;
}
