/* SPDX-License-Identifier: Apache-2.0 */
/* The one descriptor behind knit_fd(): an epoll instance over the stream, the lanes' bell and a
 * timer. It exists only once somebody asked for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct knit;

struct knit_poll_fd {
    int epoll_fd; /* -1: nobody asked yet */
    int timer_fd;
    int stream_fd;     /* as registered; -1: gone */
    bool wants_send;   /* to send */
    uint64_t timer_ns; /* when it expires, or did; 0: at once, UINT64_MAX: never */
};

void knit_poll_fd_init(struct knit_poll_fd *poll_fd);
void knit_poll_fd_fini(struct knit_poll_fd *poll_fd);

/* Returns the descriptor, or -errno. */
int knit_poll_fd_open(struct knit *k);

/* Before dispatching: the bell and the timer have been heard. */
void knit_poll_fd_awake(struct knit *k);

/* After anything happened: make the descriptor tell the truth. */
void knit_poll_fd_update(struct knit *k);
