/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the protocol's own methods. They all travel by the stream, also when tasks are called
 * through lanes, and block until they are answered; but for those of a pool of this process, which
 * has no stream.
 *
 * The registry is read page by page. A page begins behind the last id of the one before, so tasks
 * that come or go meanwhile neither repeat nor hide others; every page says its epoch, and a reader
 * who needs all pages of one epoch compares them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/lanes.h"
#include "proto/span.h"
#include "proto/tasks.h"

struct knit;
struct knit_error;
struct knit_handle;
struct knit_registry;

/* One request, answered. The result is borrowed from the handle, which is the caller's to drop.
 * Returns KNIT_OK, or the code of the error. */
KNIT_MUST_CHECK int knit_admin_call(struct knit *k, const char *method, struct knit_span params,
    uint64_t until_ns, struct knit_handle **ret_handle, struct knit_span *ret_result,
    struct knit_error *ret_error);

struct knit_admin_page {
    uint64_t after; /* last id seen; KNIT_TASKS_FIRST = none */
    uint64_t epoch;
    bool more;
};

enum { KNIT_ADMIN_QUERY_BYTES = 64 };

/* For who asks page by page: the params of `$/tasks`, in bytes[KNIT_ADMIN_QUERY_BYTES]; and what
 * was answered, which comes into *registry (NULL: nothing did yet, or there are no tasks). The
 * latter returns KNIT_OK, or a code. */
struct knit_admin_page knit_admin_first_page(void);
struct knit_span knit_admin_put_query(const struct knit_admin_page *page, uint8_t *bytes);
KNIT_MUST_CHECK int knit_admin_read_tasks(struct knit_span result, struct knit_admin_page *page,
    struct knit_registry **registry, struct knit_error *ret_error);

/* Every task, in the order of ids. Blocks until until_ns. Returns KNIT_OK, or a code. */
KNIT_MUST_CHECK int knit_admin_each_task(struct knit *k, uint64_t until_ns,
    knit_lanes_on_task *on_entry, void *user, struct knit_error *ret_error);

/* All of them, as the registry that they are; NULL: there are none. Blocks and returns as above. */
KNIT_MUST_CHECK int knit_admin_fetch_registry(
    struct knit *k, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error);
