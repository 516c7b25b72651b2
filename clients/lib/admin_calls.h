/* SPDX-License-Identifier: Apache-2.0 */
/* The registry, page by page.
 *
 * A page is asked for behind the last id of the one before, so tasks that come or go meanwhile
 * neither repeat nor hide others; every page says its epoch, and whoever must have one epoch only
 * compares them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/tasks.h"

struct knit;
struct knit_error;

struct knit_admin_page {
    uint64_t after; /* last id seen; KNIT_TASKS_FIRST = none */
    uint64_t epoch;
    bool more;
};

/* Returns KNIT_OK to go on, or the code of an error. */
typedef int knit_admin_on_entry(
    const struct knit_task_entry *entry, uint64_t epoch, void *user, struct knit_error *ret_error);

/* Every task, in the order of ids. Blocks until until_ns. Returns KNIT_OK, or a code. */
int knit_admin_each_task(struct knit *k, uint64_t until_ns, knit_admin_on_entry *on_entry,
    void *user, struct knit_error *ret_error);
