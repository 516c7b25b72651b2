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

struct knit_connection;

struct knit_hangup_monitor {
    int fd;
    struct event *event;
};

/* Returns 0 or -errno; then nothing is left. */
__attribute__((warn_unused_result)) int knit_hangup_open(
    struct knit_hangup_monitor *hangups, struct event_base *base);

/* Before the base is freed. Accepts one of { .fd = -1 }. */
void knit_hangup_close(struct knit_hangup_monitor *hangups);

/* Reports the peer's end and errors; without has_end, errors alone, which include that both
 * directions have ended. knit_connection_on_hangup() is called again in each turn until the
 * connection is removed. Returns 0 or -errno. */
__attribute__((warn_unused_result)) int knit_hangup_add(
    struct knit_hangup_monitor *hangups, struct knit_connection *connection, bool has_end);

/* The connection must have been added. */
void knit_hangup_remove(
    struct knit_hangup_monitor *hangups, const struct knit_connection *connection);
