/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that go away while their connection is not read.
 *
 * An event for input would report what is not read again and again, and libevent's EV_CLOSED knows
 * an orderly end alone: it turns an error, which is what a reset is, into "readable and writable",
 * which such an event does not match, so that epoll reports it for ever. Therefore a loop has a
 * second epoll instance, readable in the first one, which says what it saw.
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
int knit_hangup_open(struct knit_hangup_monitor *hangups, struct event_base *base);

/* Before the base is freed. Accepts one of { .fd = -1 }. */
void knit_hangup_close(struct knit_hangup_monitor *hangups);

/* Watches for the peer's end and for errors; without has_end, for errors alone, which include that
 * both directions have ended. knit_connection_on_hangup() is called until the connection is
 * taken off. Returns 0 or -errno. */
int knit_hangup_add(
    struct knit_hangup_monitor *hangups, struct knit_connection *connection, bool has_end);

/* The connection, which is watched, is watched no more. */
void knit_hangup_remove(
    struct knit_hangup_monitor *hangups, const struct knit_connection *connection);
