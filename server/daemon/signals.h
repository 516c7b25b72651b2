/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's signals: SIGTERM and SIGINT ask it to end, SIGCHLD reports children, SIGHUP asks
 * to reload.
 *
 * All others whose default is to end a process, but which the kernel or a stranger may send without
 * anything being wrong, have a handler that does nothing: a write beyond a limit of file sizes then
 * fails like any other. A job in the background writes its log to its terminal (SIGTTOU). The
 * others are not ignored, because that would last in programs that are started.
 *
 * While the parts start and while they go SIGTERM, SIGINT and SIGHUP are blocked, since in the
 * default way they would end the daemon and leave its socket file behind. A start may take half a
 * minute, so meanwhile a descriptor is readable when the daemon is asked to end.
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

/* Before anything else: signals that the daemon has no use for do nothing from now on. */
void knit_signals_disarm(void);

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
