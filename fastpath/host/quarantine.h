/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that take workers down by their own fault: by a signal that the worker's handler has noted
 * (note.h), by exit, or by ignoring their abort until the pool killed the worker.
 *
 * Each task has a leaky bucket: a death fills it by one, and deaths_per_minute a minute leak out. A
 * task whose bucket is full is quarantined, and no longer when one death has leaked out. So however
 * good and bad calls alternate, a task costs deaths_per_minute workers at once and that many a
 * minute afterwards, and one that was mended is served again by itself.
 *
 * Threads: under the pool's mutex, but for those of the pool.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/note.h"

struct knit_host;
struct knit_worker;

/* What a worker's death says about the task that it ran. */
struct knit_quarantine_cause {
    bool is_own; /* the task's fault: it counts */
    struct knit_note note;
    bool has_note;
};

/* Of a worker that was reaped while a call ran. */
struct knit_quarantine_cause knit_quarantine_cause(
    const struct knit_host *pool, const struct knit_worker *worker);

/* A worker has died in the task by the task's fault, by this signal; 0 = it exited. */
void knit_quarantine_count(struct knit_host *pool, uint32_t task, int signal, uint64_t now_ns);

/* Lifts what has leaked out. */
void knit_quarantine_tick(struct knit_host *pool, uint64_t now_ns);

/* ---- of the pool ---- */

struct knit_host_task_deaths {
    const char *task; /* lives as long as the pool */
    uint64_t deaths;  /* that it was at fault for */
    int signal;       /* of the last one; 0 = the worker exited */
    bool is_quarantined;
};

/* task: an id of the registry. */
void knit_host_task_deaths(
    struct knit_host *pool, uint32_t task, struct knit_host_task_deaths *ret_deaths);

/* Those of the tasks that have some, the quarantined ones first. Returns how many, at most max. */
uint32_t knit_host_deaths(
    struct knit_host *pool, struct knit_host_task_deaths *ret_deaths, uint32_t max);

/* Empties the task's bucket. False: it was not quarantined. */
bool knit_host_lift(struct knit_host *pool, uint32_t task);
