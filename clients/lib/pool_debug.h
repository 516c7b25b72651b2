/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool says to its callback only where the option `debug` names it.
 *
 * Threads: the pool's.
 */
#pragma once

#include <stdint.h>

#include <knitting/pool.h>

#include "fastpath/host/debug.h"
#include "fastpath/host/pool.h"

struct knit_pool_debug {
    unsigned bits;     /* enum knit_debug */
    uint32_t sessions; /* that are open, as was told last */
    void (*on_event)(void *user, const struct knit_pool_event *event); /* or NULL */
    void *user;
};

static inline bool knit_pool_debug_has(const struct knit_pool_debug *debug, enum knit_debug which)
{
    return debug->on_event != NULL && (debug->bits & (unsigned)which) != 0;
}

/* The host is open, with what the options name. */
void knit_pool_debug_opened(const struct knit_pool_debug *debug, const struct knit_host *host,
    const struct knit_host_options *options);

/* What the lane has done until now. host: NULL = it is being opened. */
void knit_pool_debug_lane(
    const struct knit_pool_debug *debug, struct knit_host *host, uint32_t lane);

/* The host has stopped. */
void knit_pool_debug_stopped(const struct knit_pool_debug *debug, struct knit_host *host);

/* So many sessions are open. */
void knit_pool_debug_sessions(struct knit_pool_debug *debug, uint32_t sessions);
