/* SPDX-License-Identifier: Apache-2.0 */
/* The page at `/`: tables of what the daemon does, filled once here and then, where scripts run, by
 * the page itself out of /stats, /tasks and /calls. page.html is the page; the build makes C of it.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"
#include "server/admin/stats.h"

/* The Content-Security-Policy that goes with it. */
extern const char knit_page_policy[];

/* What stands before, between and behind the rows of the tables. */
extern const char *const knit_page_parts[8];

/* calls: what `$/calls` answers; absent: it is not known. Returns the buffer's error. */
KNIT_MUST_CHECK int knit_page_put(struct knit_buffer *buffer, const struct knit_stats *stats,
    struct knit_host *pool, struct knit_span calls);
