/* SPDX-License-Identifier: Apache-2.0 */
/* The one descriptor behind knit_fd(): an epoll instance over the stream's descriptor, the lanes'
 * bell and a timer. It exists once it was asked for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_poll_fd {
    int epoll_fd; /* -1: not asked for yet */
    int timer_fd;
    bool wants_write;  /* as the stream's descriptor is registered */
    uint64_t timer_ns; /* when it expires, or did; 0: at once, UINT64_MAX: never */
};

void knit_poll_fd_init(struct knit_poll_fd *poll_fd);
void knit_poll_fd_fini(struct knit_poll_fd *poll_fd);

/* stream_fd, bell_fd: -1 = there is none. Returns 0, also when it is open already, or -errno. */
KNIT_MUST_CHECK int knit_poll_fd_open(struct knit_poll_fd *poll_fd, int stream_fd, int bell_fd);

static inline bool knit_poll_fd_is_open(const struct knit_poll_fd *poll_fd)
{
    return poll_fd->epoll_fd >= 0;
}

/* It is open. Make it readable at at_ns (CLOCK_MONOTONIC; 0 = at once, UINT64_MAX = never), and
 * when stream_fd (-1 = closed) is readable or, with wants_write, writable. */
void knit_poll_fd_update(
    struct knit_poll_fd *poll_fd, int stream_fd, bool wants_write, uint64_t at_ns, uint64_t now_ns);
