/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool has to tell its host, kept until the mutex is released: callbacks may call the
 * pool.
 *
 * Threads: whoever holds the pool's mutex adds; the dispatching thread takes and delivers.
 * Limits: KNIT_NOTICES_MAX lines of output wait at once, later ones are counted and dropped; events
 * are few (each needs a worker's or session's life) and always kept while there is memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/host/event.h"

#define KNIT_NOTICES_MAX 4096u

struct knit_notice;

struct knit_notices {
    struct knit_notice *first, **end;
    uint32_t lines;
    uint64_t dropped; /* lines, for want of memory or room */
};

void knit_notices_init(struct knit_notices *notices);
void knit_notices_fini(struct knit_notices *notices);

/* event->text is copied. */
void knit_notices_add_event(struct knit_notices *notices, const struct knit_pool_event *event);
void knit_notices_add_line(struct knit_notices *notices, const struct knit_pool_event *whose,
    const char *line, size_t len, bool truncated);

/* Moves all that is there to *ret_taken, which must be empty. */
void knit_notices_take(struct knit_notices *notices, struct knit_notices *ret_taken);
/* Calls back for each and forgets it. */
void knit_notices_deliver(
    struct knit_notices *notices, const struct knit_pool_callbacks *callbacks);
