/* SPDX-License-Identifier: Apache-2.0 */
/* The hang-up monitor: reports peers that go away while their connection is not read.
 *
 * An event for input would report unread bytes again and again. libevent's EV_CLOSED reports an
 * orderly end alone: it turns an error, as a reset is one, into "readable and writable", which an
 * EV_CLOSED event does not match, so that epoll reports it for ever and nothing handles it.
 * Therefore a loop has a second epoll instance, which is readable in the first one.
 *
 * Threads: its loop's.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>

#include <knitting/code.h>

/* `arg` of knit_hangup_add(). With is_broken, nothing can be written any more either. */
typedef void knit_hangup_on_hangup(void *arg, bool is_broken);

struct knit_hangup_monitor {
    int fd;
    struct event *event;
    knit_hangup_on_hangup *on_hangup;
};

/* Returns 0 or -errno; then nothing is left. */
KNIT_MUST_CHECK int knit_hangup_open(
    struct knit_hangup_monitor *hangups, struct event_base *base, knit_hangup_on_hangup *on_hangup);

/* Before the base is freed. Accepts one of { .fd = -1 }. */
void knit_hangup_close(struct knit_hangup_monitor *hangups);

/* Reports the peer's end and errors; without has_end, errors alone, which include that both
 * directions have ended. on_hangup(arg) is called again in each turn until fd is removed. Returns 0
 * or -errno. */
KNIT_MUST_CHECK int knit_hangup_add(
    struct knit_hangup_monitor *hangups, int fd, void *arg, bool has_end);

/* fd must have been added. */
void knit_hangup_remove(struct knit_hangup_monitor *hangups, int fd);
