/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of a session that are published and not claimed, as whoever maps its segments finds
 * them: for those who look at a pool, or who mean one call of it.
 *
 * Threads: any; workers and the caller go on meanwhile, so a call may be claimed at once.
 * Security: request memory is hostile. A look reads a bounded number of cells, whatever they say;
 * what a caller hides so are its own calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/recovery.h"
#include "fastpath/lane/runs.h"

struct knit_queued {
    uint32_t lane, slot, task;
    uint64_t gen;
};

/* More than the rings of an honest session hold that has few lanes. What an empty ring costs is not
 * counted: there are four a lane at most. */
enum { KNIT_QUEUED_CELLS = 65536 };

/* Returns how many there are; the first `max` of them are filled in. steps: cells that may be read,
 * of several sessions in all; it is counted down. */
uint32_t knit_queued_list(const struct knit_host_session_view *session, uint32_t *steps,
    struct knit_queued *ret_calls, uint32_t max);

/* Whether this one is among them. */
bool knit_queued_has(const struct knit_host_session_view *session, uint32_t slot, uint64_t gen);

/* Adds them up by the rows of their tasks. */
void knit_queued_count(
    const struct knit_host_session_view *session, uint32_t *steps, uint64_t calls[KNIT_RUN_ROWS]);
