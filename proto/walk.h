/* SPDX-License-Identifier: Apache-2.0 */
/* A cursor over the direct children of one array or map, without decoding: for the protocol's own
 * small structures (options, hello, details of an error, pages of tasks, attach), whose readers
 * read the keys they know and ignore the others.
 *
 * Security: the bytes may be hostile; the structure is checked during the walk, UTF-8 and the rules
 * of ext types are not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/head.h"
#include "proto/span.h"
#include "proto/text.h"

enum {
    KNIT_WALK_E_END = 1,
    KNIT_WALK_E_BAD = 2,  /* not well-formed */
    KNIT_WALK_E_TYPE = 3, /* well-formed, but no array or map */
};

struct knit_walk {
    struct knit_span rest;
    uint64_t left; /* elements or pairs still to come */
    bool is_map;
};

/* One child. Everything borrowed from the bytes walked over. */
struct knit_item {
    struct knit_span key; /* of a map: the key's text if it is a str, else absent */
    struct knit_head head;
    struct knit_span raw;  /* the value, head included */
    struct knit_span body; /* of str, bin and ext; else absent */
};

/* Returns 0, KNIT_WALK_E_BAD, KNIT_WALK_E_TYPE. */
KNIT_MUST_CHECK int knit_walk_array(struct knit_walk *walk, struct knit_span value);
KNIT_MUST_CHECK int knit_walk_map(struct knit_walk *walk, struct knit_span value);

/* Returns 0, KNIT_WALK_E_END, KNIT_WALK_E_BAD. */
KNIT_MUST_CHECK int knit_walk_next(struct knit_walk *walk, struct knit_item *ret_item);

/* The value of a str key in a map; the first of that name. Returns 0, KNIT_WALK_E_END (not there),
 * _BAD, _TYPE. */
KNIT_MUST_CHECK int knit_walk_find(
    struct knit_span map, const char *key, struct knit_item *ret_item);

/* Whether the item is a str, and its text. Not checked for UTF-8. */
static inline bool knit_item_text(const struct knit_item *item, struct knit_span *ret_text)
{
    if (item->head.type != KNIT_HEAD_STR)
        return false;
    *ret_text = item->body;
    return true;
}

/* As above, for texts that are shown to people: false for a str that is not UTF-8, too. */
static inline bool knit_item_utf8(const struct knit_item *item, struct knit_span *ret_text)
{
    return knit_item_text(item, ret_text) && knit_text_is_utf8(item->body.bytes, item->body.len);
}

static inline bool knit_item_uint(const struct knit_item *item, uint64_t *ret_value)
{
    return knit_head_as_uint(&item->head, ret_value);
}

static inline bool knit_item_bool(const struct knit_item *item, bool *ret_value)
{
    if (item->head.type != KNIT_HEAD_BOOL)
        return false;
    *ret_value = item->head.value != 0;
    return true;
}
