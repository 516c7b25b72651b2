/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that an operator ends: whose caller still waits, and does not ask for it.
 *
 * A call is asked to stop by the host's own word for its slot (LAYOUT.md, stop): what has not begun
 * does not begin, and what runs sees knit_aborted(). With a grace, the worker of one that goes on
 * is killed when that is over, as for a hard timeout.
 *
 * Threads: any, for those of the pool; they take its mutex for some moments. The others under it,
 * on the dispatching thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_host;

/* A call, and no other one ever. */
struct knit_host_address {
    uint64_t session;
    uint32_t slot;
    uint64_t gen;
};

enum knit_host_stop_outcome {
    KNIT_HOST_STOP_ASKED,
    KNIT_HOST_STOP_GONE,  /* it has ended */
    KNIT_HOST_STOP_NEVER, /* there has been no such call */
    KNIT_HOST_STOP_FULL,  /* so many are waited for that no more can be remembered */
};

/* grace_ms: after which its worker is killed; asked again, the shorter time counts. NULL: never. A
 * worker that is a thread is not killed. */
KNIT_MUST_CHECK enum knit_host_stop_outcome knit_host_stop(
    struct knit_host *pool, const struct knit_host_address *call, const uint32_t *grace_ms);

/* ---- of the host ---- */

/* Forgets those that have ended, kills what is overdue. */
void knit_stop_tick(struct knit_host *pool, uint64_t now_ns);

/* The machine stood still for so long, which is nobody's fault. */
void knit_stop_put_off(struct knit_host *pool, uint64_t late_ns);
