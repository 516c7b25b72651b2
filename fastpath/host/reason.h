/* SPDX-License-Identifier: Apache-2.0 */
/* What functions of a pool return above 0, and the sentence for each. */
#pragma once

enum {
    KNIT_POOL_E_STARTUP = 1,      /* open: the sentence says why */
    KNIT_POOL_E_SESSIONS = 2,     /* all sessions there may be are taken */
    KNIT_POOL_E_UID_SESSIONS = 3, /* this uid has all the sessions it may have */
    KNIT_POOL_E_MEMORY = 4,       /* the segments would pass memory_max_bytes */
    KNIT_POOL_E_CLOSED = 5,       /* the pool is shut down, or about to be */
    KNIT_POOL_E_SIZE = 6,         /* slots or arena outside what the pool offers */
    KNIT_POOL_E_UNSEALED = 7,     /* its caller could still punch pages out of what it writes */
};

/* One sentence without a stop for a positive return of a knit_pool_ function. */
const char *knit_pool_reason(int error);
