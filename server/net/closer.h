/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that closes the sockets of local callers where the kernel lets them send descriptors.
 *
 * Before Linux 6.16 a peer can send descriptors over a unix socket whether they are wanted or not.
 * Those that nobody has received are closed with the socket, by the thread that closes it, and the
 * last close of a socket with unsent data and SO_LINGER sleeps for as long as its sender said. So
 * neither an event loop nor the main thread closes such a socket. This thread interrupts a close
 * that sleeps, at once.
 *
 * A socket that waits for its close counts as an open connection, and no more are accepted while
 * many of them wait; so there is always a place in the queue, and those who wait are new callers.
 *
 * Threads: knit_closer_start() and _stop() by one, the others by any. Nothing blocks but _stop().
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

/* So many sockets wait that no more should be accepted. */
#define KNIT_CLOSER_MANY 64u

struct knit_closer {
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t is_due;
    int *fds; /* a ring: `count` of them from `first` on, the one that is being closed included */
    size_t capacity, first, count;
    bool is_ending;
    pthread_t thread;
};

/* For so many sockets that are open, and KNIT_CLOSER_MANY beside them. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_closer_start(struct knit_closer *closer, size_t open_max);

/* Closes what waits, then ends. */
void knit_closer_stop(struct knit_closer *closer);

/* The peer finds the connection ended at once; the descriptor is closed soon after. Without a
 * closer (NULL) it is closed here. */
void knit_closer_close(struct knit_closer *closer, int fd);

/* How many wait; 0 without a closer. */
size_t knit_closer_count(struct knit_closer *closer);
