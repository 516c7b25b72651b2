/* SPDX-License-Identifier: Apache-2.0 */
/* The admin face: what the daemon says of itself by HTTP, to people, probes and Prometheus.
 *
 *     /          a page for people, which updates itself where scripts run
 *     /livez     200 while the main thread runs
 *     /readyz    200 while a worker serves and the daemon does not drain; else 503 and why
 *     /stats     the value of `$/stats`, as JSON
 *     /tasks     what `$/tasks` says of all tasks, as JSON
 *     /calls     what runs and waits at this moment, as JSON: who called which task, not with what
 *     /metrics   for Prometheus
 *
 * It only reads: no request changes anything, and nothing of what calls carry is shown. It has no
 * part in a call's way: it runs on the main thread, of which it takes a hundredth (budget.h), and
 * what many ask for is put together four times a second at most. A connection has one request, 8
 * KiB for its head, 5 seconds to send it and 5 for the answer. 64 of them have a place; one more
 * takes that of one that is silent.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "server/admin/budget.h"
#include "server/admin/metrics.h"
#include "server/admin/stats.h"

#define KNIT_FACE_CONNECTIONS_MAX 64u
#define KNIT_FACE_PAGES_MAX       8u

struct knit_face_body;
struct knit_face_connection;

/* Where it has everything from. Constant while it serves. */
struct knit_face_sources {
    const struct knit_stats_sources *stats;
    const char *const *hosts; /* names by which it may be called, ended by NULL; or NULL */
    void (*collect)(void *arg, struct knit_metrics_main *ret_main);
    /* Begins to find out what calls there are; knit_face_answer_calls() follows. False: at once. */
    bool (*ask_calls)(void *arg);
    int (*put_calls)(void *arg, struct knit_buffer *buffer); /* as `$/calls` answers */
    void (*set_accepting)(void *arg, bool accepts);          /* no more, or again */
    void (*close)(void *arg, int fd);                        /* of a connection */
    struct knit_face_counters *counters;
    void *arg;
};

struct knit_face {
    struct event_base *base;
    struct knit_face_sources sources;
    bool is_draining;
    uint32_t count;
    bool asks;      /* for calls */
    bool is_listed; /* they are known, and those who wait are answered after the pause */
    struct knit_budget budget;
    bool is_paused;
    struct event resume_event;
    TAILQ_HEAD(, knit_face_connection) connections;
    struct knit_face_body *bodies[KNIT_FACE_PAGES_MAX]; /* made last, of each page; or NULL */
};

void knit_face_init(
    struct knit_face *face, struct event_base *base, const struct knit_face_sources *sources);

/* Takes over a connection that was accepted; not blocking. */
void knit_face_take(struct knit_face *face, int fd);

/* It is found out what calls there are: answers those who wait for that. */
void knit_face_answer_calls(struct knit_face *face);

/* Ends all connections. Accepts a zeroed one. */
void knit_face_fini(struct knit_face *face);
