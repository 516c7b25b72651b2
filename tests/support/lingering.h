/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets whose last close sleeps, and sending them to somebody who may become their last
 * holder. */
#pragma once

#include <sys/types.h>

#define KNIT_LINGERING_S 5

/* A socket whose last close takes KNIT_LINGERING_S: its peer, which the caller closes, does not
 * read what it has sent. */
int knit_lingering_open(int *ret_peer_fd);

/* count copies of fd with one byte, over a unix socket; flags as sendmsg() takes them, and returns
 * what it does. */
ssize_t knit_lingering_send(int socket_fd, int fd, int count, int flags);
