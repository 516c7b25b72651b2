/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets that another process has opened and this one goes on with: those of a daemon
 * that it takes over from, or of systemd. Whoever connects meanwhile waits in the queue of the one
 * socket that both hold. Of two sockets for one port (SO_REUSEPORT) each has a queue, and what
 * waits in that of the first is reset when it goes.
 *
 * Threads: the main thread's, before others start.
 * Security: what is handed over is looked at before it is used: a listening stream socket, the lock
 * of the unix socket, or memory that is sealed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/net/endpoint.h"

#define KNIT_INHERITED_MAX 40

enum {
    KNIT_INHERITED_E_REFUSED = 1, /* the sentence says why */
};

struct knit_inherited {
    int fds[KNIT_INHERITED_MAX]; /* -1 = taken */
    bool is_tls[KNIT_INHERITED_MAX];
    size_t count;
    int lock_fd;    /* of the unix socket; -1 = none */
    int tickets_fd; /* memory with the keys of TLS tickets, tls_tickets.h; -1 = none */
    bool is_all;    /* they stand in the place of the addresses that the settings name */
};

#define KNIT_INHERITED_INIT                                                                        \
    {                                                                                              \
        .lock_fd = -1, .tickets_fd = -1                                                            \
    }

/* Takes the descriptor over in any case. Returns 0, KNIT_INHERITED_E_REFUSED. */
KNIT_MUST_CHECK int knit_inherited_add(
    struct knit_inherited *inherited, int fd, struct knit_sentence *why);

/* Whether a service manager passes some, before they are taken. */
bool knit_inherited_are_passed(void);

/* What a service manager passes by $LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES (sd_listen_fds(3));
 * a socket named tls is one for TLS. Children inherit neither sockets nor variables. Returns 0,
 * KNIT_INHERITED_E_REFUSED. */
KNIT_MUST_CHECK int knit_inherited_from_environment(
    struct knit_inherited *inherited, struct knit_sentence *why);

/* The socket that listens there, which is the caller's now; or -1. Port 0 is any port. */
int knit_inherited_take_tcp(struct knit_inherited *inherited, const struct knit_endpoint *endpoint);

/* The unix socket of that path; or -1. */
int knit_inherited_take_unix(struct knit_inherited *inherited, const char *path);

/* Closes what nobody has taken. */
void knit_inherited_close(struct knit_inherited *inherited);
