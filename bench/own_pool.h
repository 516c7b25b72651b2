/* SPDX-License-Identifier: Apache-2.0 */
/* Pools of this program, by URLs of knit-bench's own:
 *
 *     pool:threads=MODULE[:MODULE...]
 *     pool:processes=WORKER:MODULE[:MODULE...]     WORKER: the program knitting-worker
 *
 * Each is opened for its first session, with one worker as the daemons that are measured, and ends
 * with the program.
 *
 * Threads: any. Opening blocks until the worker serves.
 */
#pragma once

#include <knitting/knitting.h>

/* A session with such a pool; by any other URL, knit_open(). */
KNIT_MUST_CHECK int knit_own_pool_session(const char *url, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error);
