/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a pool and of its lanes.
 *
 * Threads: any. Nothing blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/confine/confine.h"

struct knit_image;
struct knit_host;

enum knit_host_lane_state {
    KNIT_HOST_LANE_VACANT,   /* its worker has ended, and the next is not started yet */
    KNIT_HOST_LANE_STARTING, /* its worker loads modules */
    KNIT_HOST_LANE_SERVING,
    KNIT_HOST_LANE_STOPPING,
};

/* Why a worker that served has ended. */
enum knit_host_death {
    KNIT_HOST_DEATH_SIGNAL,
    KNIT_HOST_DEATH_EXIT,
    KNIT_HOST_DEATH_HARD_TIMEOUT, /* the pool killed it */
    KNIT_HOST_DEATH_NOT_STOPPED,  /* so, since its task went on when nobody waited */
    KNIT_HOST_DEATH_REFUSED,      /* so, since it did what no worker does */
    KNIT_HOST_DEATHS,
};

struct knit_host_lane_stats {
    enum knit_host_lane_state state;
    pid_t pid; /* 0 = none */
    bool is_parked;
    bool is_running;
    uint64_t calls;  /* begun, by all workers of this lane */
    uint64_t stolen; /* of them from other lanes */
    uint64_t late;   /* outcomes of deferred calls that came in vain */
    uint64_t denied; /* calls that their callers may not run */
    uint64_t parks;
    uint64_t busy_ns;
    uint64_t deaths;
    uint64_t up_since_ns; /* CLOCK_MONOTONIC; 0 = not up */
};

struct knit_host_stats {
    uint32_t lanes;
    uint32_t lanes_serving;
    bool is_degraded; /* workers of a lane die before they finish a call */
    uint32_t sessions;
    uint32_t foreign_sessions;
    uint32_t closing_sessions; /* closed, and still held by a worker or by their callers */
    uint64_t memory_bytes;     /* counted against memory_max_bytes */
    uint64_t memory_max_bytes;
    uint64_t deaths;
    uint64_t deaths_by[KNIT_HOST_DEATHS];
    uint32_t left_behind; /* threads that did not end */
    uint64_t hard_timeouts;
    uint64_t evicted;
    uint64_t recovered;                     /* calls that the host answered in place of workers */
    uint32_t quarantined;                   /* tasks */
    uint64_t output_dropped;                /* lines of output */
    uint64_t output_dropped_bytes;          /* theirs, and what was cut from others */
    struct knit_confine_status confinement; /* as a worker reported it last */
    int wait_error;   /* errno of futex_waitv in workers, so that wake-ups are relayed; 0 = none */
    uint64_t relayed; /* wake-ups of workers by the host in place of callers */
};

/* What processes are made of: the program, then the modules. Valid as long as the pool is. None of
 * a pool with threads. */
const struct knit_image *knit_host_images(const struct knit_host *pool, uint32_t *ret_count);

void knit_host_stats(struct knit_host *pool, struct knit_host_stats *ret_stats);

/* lane < knit_host_lanes(). */
void knit_host_lane_stats(
    struct knit_host *pool, uint32_t lane, struct knit_host_lane_stats *ret_stats);
