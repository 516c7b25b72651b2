/* SPDX-License-Identifier: Apache-2.0 */
/* The registry as `$/tasks` shows it, page by page: params and results, both ways.
 *
 * Decoded ones are views of the bytes they came from. Unknown keys are ignored, so either side may
 * be newer. Encoders return the buffer's error; decoders 0 or KNIT_TASKS_E_BAD, with a static
 * text then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_TASKS_E_BAD = 1, /* wrong types: ret_reason names the member */
};

#define KNIT_TASKS_FIRST UINT64_MAX

/* `$/tasks` -> [{after?, limit?}] or [] */
struct knit_tasks_query {
    uint64_t after; /* id of the task behind which the page begins; KNIT_TASKS_FIRST = none */
    uint64_t limit; /* 0 = KNIT_TASKS_PAGE_DEFAULT; decoding puts that in, and
                       KNIT_TASKS_PAGE_MAX for more than that */
};

/* -> `$/tasks` */
struct knit_tasks_page {
    uint64_t epoch;
    bool more;              /* ask again, after the last one's id */
    struct knit_span tasks; /* the raw array, for knit_walk_array() */
};

struct knit_task_entry {
    uint64_t id;
    struct knit_span name;
    struct knit_span signature;
    struct knit_span doc;        /* may be absent */
    uint64_t timeout_ms;         /* 0 = none */
    uint64_t flags;              /* KNIT_TASK_* of <knitting/task.h> */
    struct knit_span module;     /* its file; may be absent */
    struct knit_span on_timeout; /* a map of substitute.h; may be absent */
    uint64_t deaths;             /* workers that it took down by its own fault */
    uint64_t signal;             /* of the last of them; 0 = it exited */
    bool is_quarantined;
};

int knit_tasks_query_put(struct knit_buffer *buffer, const struct knit_tasks_query *query);
KNIT_MUST_CHECK int knit_tasks_query_decode(
    struct knit_span params, struct knit_tasks_query *ret_query, const char **ret_reason);

/* A page is its head and then exactly `count` entries. */
int knit_tasks_page_put_head(struct knit_buffer *buffer, uint64_t epoch, bool more, uint32_t count);
int knit_tasks_page_put_entry(struct knit_buffer *buffer, const struct knit_task_entry *entry);

KNIT_MUST_CHECK int knit_tasks_page_decode(
    struct knit_span result, struct knit_tasks_page *ret_page, const char **ret_reason);

KNIT_MUST_CHECK int knit_task_entry_decode(
    struct knit_span map, struct knit_task_entry *ret_entry, const char **ret_reason);
