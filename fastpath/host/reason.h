/* SPDX-License-Identifier: Apache-2.0 */
/* What functions of a pool return above 0, and the sentence for each.
 *
 * Threads: pure functions.
 */
#pragma once

enum {
    KNIT_HOST_E_STARTUP = 1,      /* knit_host_open(): the sentence says why */
    KNIT_HOST_E_SESSIONS = 2,     /* the pool has as many sessions as it may have */
    KNIT_HOST_E_UID_SESSIONS = 3, /* this uid has as many sessions as it may have */
    KNIT_HOST_E_MEMORY = 4,       /* the segments would pass memory_max_bytes */
    KNIT_HOST_E_CLOSED = 5,       /* the pool is shut down, or shutting down */
    KNIT_HOST_E_SIZE = 6,         /* slots or arena outside what the pool offers */
    KNIT_HOST_E_UNSEALED = 7, /* its caller could still punch pages out of its request segment */
    KNIT_HOST_E_SESSIONS_KEPT = 8, /* what is left is kept for uids that have none */
    KNIT_HOST_E_DEPARTED = 9,      /* the uid keeps too much memory of sessions that have ended */
};

/* A sentence without a full stop; for an error below 0 it names no cause. */
const char *knit_host_reason(int error);
