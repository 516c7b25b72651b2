/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a pool to those who ask: callers by the protocol, and sessions of the host's own
 * process.
 *
 * Threads: any. Those that take a pool take its mutex for some moments.
 */
#pragma once

#include <stdint.h>

#include "fastpath/host/quarantine.h"
#include "fastpath/host/stats.h"
#include "fastpath/lane/layout.h"
#include "proto/tasks.h"

struct knit_host;
struct knit_image;
struct knit_registry_task;
struct knit_writer;

#define KNIT_HOST_SNAPSHOT_DEATHS_MAX 64u

/* Collected once, then written. Other threads count on meanwhile, so two numbers may disagree by
 * what happened in between. */
struct knit_host_snapshot {
    struct knit_host_stats pool;
    struct knit_host_task_deaths
        deaths[KNIT_HOST_SNAPSHOT_DEATHS_MAX]; /* of tasks that have some */
    uint32_t deaths_count;
    const struct knit_image *images; /* [images_count]: the worker program, then the modules */
    uint32_t images_count;
    struct knit_host_lane_stats lanes[KNIT_LANES_MAX]; /* [pool.lanes] */
};

void knit_host_snapshot(struct knit_host *pool, struct knit_host_snapshot *ret_snapshot);

/* Members of the map of `$/stats`: pool, tasks, lanes, worker, modules. */
enum { KNIT_HOST_SNAPSHOT_MEMBERS = 5 };
void knit_host_snapshot_put(struct knit_writer *writer, const struct knit_host_snapshot *snapshot);

/* A task as `$/tasks` shows it; valid as long as the pool. pool: NULL = nothing is known of it. */
void knit_host_describe_task(struct knit_host *pool, const struct knit_registry_task *task,
    struct knit_task_entry *ret_entry);
