/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager is told: whether calls are served, how it goes, and that the daemon
 * lives.
 *
 * It lives when the main thread, which supervises the workers, and every event loop have turned
 * since that was last said. The main thread looks twice in the time that the manager waits
 * ($WATCHDOG_USEC), and has the loops turn when it has said so; so a daemon with nothing to do
 * wakes as seldom as that. A timer alone would say that the timer lives. The sentence about how it
 * goes is renewed at the same time, so it costs no more wake-ups; without a watchdog it is what was
 * said at the last change.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/admin/stats.h"
#include "server/daemon/notify.h"

struct knit_host;
struct knit_log;
struct knit_loops;

/* Of a sentence, with its NUL. systemd takes 4096 bytes of a message. */
#define KNIT_STATUS_TEXT_MAX 512

struct knit_status {
    struct knit_notify notify;
    struct knit_log *log;
    struct knit_loops *loops;
    struct knit_host *pool;
    struct event *event;                  /* NULL: there is no watchdog */
    uint64_t turns[KNIT_STATS_LOOPS_MAX]; /* of each loop, when it was last said that they live */
    uint64_t calls, at_ns;                /* begun, and when they were counted */
    uint64_t calls_a_second;
    bool has_rate;
    uint32_t late;  /* 1 + the loop that has not turned since; 0 = they have */
    bool is_ending; /* the loops go one by one */
    char until[32]; /* when the drain ends at the latest; "" = it serves */
    char refusal[KNIT_STATUS_TEXT_MAX / 2]; /* of the last reload; "" = it was none */
    char said[KNIT_STATUS_TEXT_MAX];        /* the last sentence */
};

/* Before children are started. */
void knit_status_init(struct knit_status *status);

/* Calls are served: from now on the watchdog is fed. log, loops and pool are set, and outlast it.
 * Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_status_ready(struct knit_status *status, struct event_base *base);

/* Files are read again; and they were, or were refused with this sentence (NULL: they were not). */
void knit_status_reload(struct knit_status *status);
void knit_status_reloaded(struct knit_status *status, const char *refusal);

/* The daemon drains, and ends by itself within this time. */
void knit_status_drain(struct knit_status *status, uint64_t drain_ms);

/* Every call has its outcome: loops end now, one before the other. */
void knit_status_end(struct knit_status *status);

/* Before the base is freed. Accepts one that was only initialised. */
void knit_status_close(struct knit_status *status);
