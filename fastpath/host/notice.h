/* SPDX-License-Identifier: Apache-2.0 */
/* Events and lines of output for the host, kept until the mutex is released: callbacks may call the
 * pool.
 *
 * Threads: added under the pool's mutex by any thread; taken and delivered by the dispatching one.
 * Limits: at most KNIT_NOTICES_MAX lines of output wait, later ones are counted and dropped; of a
 * worker that lives so few are read at a time that 64 of them do not reach it. Events are few,
 * since each belongs to the life of a worker or session, and have no limit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/host/event.h"

#define KNIT_NOTICES_MAX 65536u

struct knit_notice;

struct knit_notices {
    struct knit_notice *first, **end;
    uint32_t lines;
    uint64_t dropped;       /* lines that memory or room was lacking for */
    uint64_t dropped_bytes; /* theirs, and what was cut from lines */
};

void knit_notices_init(struct knit_notices *notices);
void knit_notices_fini(struct knit_notices *notices);

/* event->text is copied. An event that there is no memory for is lost. */
void knit_notices_add_event(struct knit_notices *notices, const struct knit_host_event *event);

/* from: what is known of the line's origin. cut: bytes that are missing at its end. */
void knit_notices_add_line(struct knit_notices *notices, const struct knit_host_event *from,
    const char *line, size_t len, size_t cut);

/* Moves all notices to *ret_pending, which must be empty. */
void knit_notices_take(struct knit_notices *notices, struct knit_notices *ret_pending);
/* Calls back for each and frees it. */
void knit_notices_deliver(
    struct knit_notices *notices, const struct knit_host_callbacks *callbacks);
