/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool reports, as lines of the log. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct knit_log;
struct knit_log_field;
struct knit_host;
struct knit_host_event;

/* One line that a task printed: msg="task output" tells it from lines of the daemon. pool may be
 * NULL while it opens. */
void knit_pool_log_output(struct knit_log *log, struct knit_host *pool,
    const struct knit_host_event *from, const struct knit_log_field *line, bool truncated);

/* debug_bits: enum knit_debug. pool may be NULL while it opens. What callers and tasks bring about
 * at will has a few lines a second, by its kind. */
void knit_pool_log_event(struct knit_log *log, struct knit_host *pool, unsigned debug_bits,
    const struct knit_host_event *event);

/* What a lane has done so far. */
void knit_pool_log_lane(struct knit_log *log, struct knit_host *pool, uint32_t lane);
