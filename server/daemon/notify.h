/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the service manager (sd_notify(3), sd_watchdog_enabled(3)). Without $NOTIFY_SOCKET
 * nothing is sent, and a manager that does not take a message is not waited for.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct knit_notify {
    struct sockaddr_un address;
    socklen_t address_len; /* 0 = nobody wants to know */
    uint64_t watchdog_us;  /* a message has to come so often; 0 = need not */
};

/* Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, and takes them from the environment:
 * workers are not to speak for the daemon. */
void knit_notify_init(struct knit_notify *notify);

/* One or several lines NAME=value, as READY=1. */
void knit_notify_send(const struct knit_notify *notify, const char *lines);
