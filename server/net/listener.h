/* SPDX-License-Identifier: Apache-2.0 */
/* Accepts connections on one listening socket and hands them on.
 *
 * When descriptors run out the kernel keeps a connection in the backlog, and epoll reports it again
 * and again. For that case a spare descriptor is kept open: it is closed, the connection is
 * accepted in its place and closed, the spare is opened again, and accepting pauses for 50 ms.
 *
 * Threads: the event base's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_closer;

enum knit_listener_kind {
    KNIT_LISTENER_TCP,
    KNIT_LISTENER_UNIX,
    KNIT_LISTENER_TLS,
    KNIT_LISTENER_KINDS,
};

/* The callee owns fd, which is non-blocking and close-on-exec. False: it has enough for the moment,
 * and accepting pauses for a millisecond; what comes meanwhile waits in the backlog. */
typedef bool knit_listener_on_accept(void *arg, int fd, enum knit_listener_kind kind);
/* Descriptors or memory ran out: connections are being turned away. */
typedef void knit_listener_on_exhausted(void *arg, int error);

struct knit_listener {
    int fd; /* borrowed; -1 = closed */
    int spare_fd;
    enum knit_listener_kind kind;
    struct knit_closer *closer; /* of accepted sockets; NULL: none is needed */
    struct event *accept_event;
    struct event *pause_event;
    bool is_held; /* its owner has enough for now */
    knit_listener_on_accept *on_accept;
    knit_listener_on_exhausted *on_exhausted;
    void *arg;
};

/* Fill in fd, kind, closer and the callbacks, then start. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_listener_start(struct knit_listener *listener, struct event_base *base);

/* Accepts no more until it is let go again; what comes meanwhile waits in the backlog. Also from
 * on_accept. Accepts one that was stopped. */
void knit_listener_hold(struct knit_listener *listener, bool is_held);

/* Accepts no more; fd stays open. Accepts one that never started. */
void knit_listener_stop(struct knit_listener *listener);
