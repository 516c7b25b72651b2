/* SPDX-License-Identifier: Apache-2.0 */
/* One thread of a load: its connections and the calls on them. Three ways to drive them:
 *
 *   block   one connection, one call at a time: knit_call_raw(), or another of that kind, and
 *           nothing around it
 *   batch   start many, flush once, await them all
 *   poll    many connections or calls in flight, or calls that are due at times: epoll on the
 *           sessions' descriptors, outcomes by callback
 *
 * Threads: everything here is its own thread's, except `finished` and `failed`.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "bench/load.h"

struct knit_load_thread;

struct knit_load_link {
    struct knit_load_thread *thread;
    struct knit *session;
    struct knit_prepared *prepared[KNIT_MIX_TASKS_MAX]; /* of each task, if that is asked for */
    struct knit_load_call *idle;                        /* linked by `next` */
};

struct knit_load_call {
    struct knit_load_link *link;
    struct knit_handle *handle;
    struct knit_load_call *next;
    uint64_t begin; /* ticks */
    uint64_t number;
    uint32_t task;
};

struct knit_load_thread {
    const struct knit_load *load;
    uint32_t index, links_count;
    uint32_t per_link; /* calls in flight on each */
    struct knit_load_link *links;
    struct knit_load_call *calls;
    struct knit_mix_argument argument;
    uint64_t next_number;      /* of the next call; also how many were started */
    uint64_t from, to;         /* ticks between which outcomes count */
    uint64_t count_max;        /* calls to start, UINT64_MAX = until `to` */
    bool closing;              /* further outcomes are dropped */
    _Atomic uint64_t finished; /* for the progress line */
    struct knit_error error;   /* the last one */
    struct knit_load_figures figures;
};

/* Opens the thread's connections. False: see figures.first_error. */
bool knit_load_thread_open(struct knit_load_thread *thread);
void knit_load_thread_close(struct knit_load_thread *thread);

/* Runs the load. */
void knit_load_thread_run(struct knit_load_thread *thread);

/* ---- for the drivers ------------------------------------------------------------------------- */

/* Starts the next call; begin = when its span begins. KNIT_OK, KNIT_WOULD_BLOCK, or the code of
 * an error, which was counted. */
int knit_load_start(struct knit_load_thread *thread, struct knit_load_call *call, uint64_t begin);

/* Checks an outcome and counts it; error = what knit_await() returned. Frees the handle. */
void knit_load_finish(struct knit_load_thread *thread, struct knit_load_call *call, int error);

void knit_load_record(
    struct knit_load_thread *thread, uint64_t begin, uint64_t end, uint64_t calls);
void knit_load_count_error(struct knit_load_thread *thread, const char *what);

/* Whether another call may be started now. */
bool knit_load_goes_on(const struct knit_load_thread *thread, uint64_t now);

void knit_load_run_poll(struct knit_load_thread *thread);
