/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of one lane and nothing else: one session, one worker, and tasks of plain bytes. It
 * measures the lane alone, without encoding, registry or supervisor.
 *
 * The worker is a thread of this process, or a forked child that maps the same memory for itself,
 * the caller's segment read-only as real workers do.
 *
 * Threads: the session belongs to the thread that opened the pool.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/session.h"

enum knit_lane_pool_task {
    KNIT_LANE_POOL_EMPTY, /* the argument is not read, the result is one byte */
    KNIT_LANE_POOL_ECHO,  /* the argument, copied once */
    KNIT_LANE_POOL_LOOK,  /* the argument's first 8 bytes */
    KNIT_LANE_POOL_LEAVE, /* as EMPTY, and the worker ends */
};

struct knit_lane_pool_options {
    bool process; /* a forked child instead of a thread */
    int cpu;      /* of the worker; -1 = anywhere */
    uint32_t slots;
    uint64_t arena_bytes; /* request and reply each */
    uint32_t spin_us;     /* caller and worker */
    uint32_t pause_ns;
    uint32_t park_ms;
    bool trusted; /* arguments are read in place */
};

struct knit_lane_pool;

/* With `process`: before threads are started. Returns 0 or -errno. */
int knit_lane_pool_new(const struct knit_lane_pool_options *options, struct knit_lane_pool **ret);

/* Ends the worker and waits for it. NULL ok; returns NULL. */
struct knit_lane_pool *knit_lane_pool_free(struct knit_lane_pool *pool);

struct knit_session *knit_lane_pool_session(struct knit_lane_pool *pool);

/* NULL, or why the worker evicted the session (only of a thread). */
const char *knit_lane_pool_eviction(const struct knit_lane_pool *pool);
