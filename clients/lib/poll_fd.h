/* SPDX-License-Identifier: Apache-2.0 */
/* The one descriptor behind knit_fd(): an epoll instance over the stream's descriptor, the lanes'
 * bell, what of a connection is being opened, those of further streams, and a timer. It exists once
 * it was asked for, and keeps its number while these come and go. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_poll_fd {
    int epoll_fd; /* -1: not asked for yet */
    int timer_fd;
    int opening_fd;     /* registered for what is being opened; -1 = none is */
    bool opening_wants; /* to write, as it is registered */
    uint64_t timer_ns;  /* when it expires, or did; 0: at once, UINT64_MAX: never */
};

void knit_poll_fd_init(struct knit_poll_fd *poll_fd);
void knit_poll_fd_fini(struct knit_poll_fd *poll_fd);

/* stream_fd, bell_fd: -1 = there is none. Returns 0, also when it is open already, or -errno. */
KNIT_MUST_CHECK int knit_poll_fd_open(struct knit_poll_fd *poll_fd, int stream_fd, int bell_fd);

static inline bool knit_poll_fd_is_open(const struct knit_poll_fd *poll_fd)
{
    return poll_fd->epoll_fd >= 0;
}

/* One more descriptor, or one less, before that is closed: a child that has a copy of it would keep
 * it in the instance. Nothing happens unless it is open. */
void knit_poll_fd_add(struct knit_poll_fd *poll_fd, int fd);
void knit_poll_fd_remove(struct knit_poll_fd *poll_fd, int fd);

/* It is open. What is being opened waits for this descriptor, in place of the last one; -1 = for
 * none. */
void knit_poll_fd_set_opening(struct knit_poll_fd *poll_fd, int fd, bool wants_write);

/* It is open. Make it readable when fd, which was added, is writable too. registered: what was said
 * of that descriptor last, false at first. */
void knit_poll_fd_set_writing(
    const struct knit_poll_fd *poll_fd, int fd, bool wants_write, bool *registered);

/* It is open. Make it readable at at_ns (CLOCK_MONOTONIC; 0 = at once, UINT64_MAX = never). */
void knit_poll_fd_update(struct knit_poll_fd *poll_fd, uint64_t at_ns, uint64_t now_ns);

/* Sleeps until one of two descriptors has something, for at most so long; for who was asked for no
 * descriptor of its own. */
void knit_poll_fd_wait(int stream_fd, bool wants_write, int bell_fd, int wait_ms);
