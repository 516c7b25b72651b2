/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's signals: SIGTERM and SIGINT ask it to end, SIGCHLD reports children, SIGHUP asks
 * for nothing yet.
 *
 * While the parts start and while they go these are blocked, since in the default way they would
 * end the daemon and leave its socket file behind. A start may take half a minute, so meanwhile a
 * descriptor is readable when the daemon is asked to end.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <event2/event.h>

#include <knitting/code.h>

#include "proto/sentence.h"

typedef void knit_signals_on_signal(void *arg, int number);

enum { KNIT_SIGNALS_COUNT = 4 };

struct knit_signals {
    struct event *events[KNIT_SIGNALS_COUNT];
    int stop_fd; /* between open and start; -1 = none */
    knit_signals_on_signal *on_signal;
    void *arg;
};

/* Blocks them and opens stop_fd. Returns 0; or -errno with the sentence. */
KNIT_MUST_CHECK int knit_signals_open(struct knit_signals *signals, struct knit_sentence *why);

/* From now on on_signal is called for each, also for what came since they were blocked.
 * Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_signals_start(struct knit_signals *signals, struct event_base *base,
    knit_signals_on_signal *on_signal, void *arg);

/* Blocks them again: the parts are about to go. */
void knit_signals_hold(void);

/* Before the base is freed. Accepts { .stop_fd = -1 }. */
void knit_signals_close(struct knit_signals *signals);
