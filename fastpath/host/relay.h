/* SPDX-License-Identifier: Apache-2.0 */
/* Wakes parked workers in place of callers, where workers cannot sleep on the callers' bells.
 *
 * A worker that is refused futex_waitv sleeps on its lane's bell alone, which no caller can write.
 * So a caller that finds it parked stores the park word in its own bell as always, and then adds 1
 * to an eventfd of the host. The host finds by the bells which lanes are meant, and notifies these
 * (LAYOUT.md, "Without futex_waitv"; tests/model/park.pml with -DVIA_HOST).
 *
 * The eventfd is never read and never written here: epoll reports each write to it once, by edge.
 * So nothing that a caller does with its end can make this side wait, and there is no counter to be
 * kept low. A pipe or a socket has to be drained: a socket carries descriptors whose last close may
 * sleep, and a write to a pipe out of memory that does not come stops the pipe's readers, also
 * those that do not block.
 *
 * Threads: under the pool's mutex.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/host.h"

/* Whether the host wakes parked workers in place of callers in other processes, and the callers of
 * this one do it by the lane's bell: workers cannot sleep on callers' bells, or, as threads that
 * serve their own process, need not. */
static inline bool knit_relay_is_needed(const struct knit_host *pool)
{
    return pool->wait_error != 0 || pool->options.threads != NULL;
}

/* A worker that starts has reported this errno, or 0, of futex_waitv. False: it cannot be used,
 * since the sessions of the pool are woken in the other way. */
KNIT_MUST_CHECK bool knit_relay_begin(
    struct knit_host *pool, const struct knit_worker *worker, int wait_error);

/* For a session of another process, if the pool relays. *ret_fd: a descriptor for the caller; else
 * it stays as it is. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_relay_open(
    struct knit_host *pool, struct knit_host_session *session, int *ret_fd);

/* The session is to be published, from where on the caller is heard. Before that nothing of it is
 * read, and workers look at its rings when they get it. Accepts one that has none. Returns 0 or
 * -errno. */
KNIT_MUST_CHECK int knit_relay_listen(
    const struct knit_host *pool, const struct knit_host_session *session);

/* Accepts one that has none. The caller may hold the same open file, so epoll is told. */
void knit_relay_close(const struct knit_host *pool, struct knit_host_session *session);

/* epoll has reported the eventfd of the session with that id. */
void knit_relay_event(struct knit_host *pool, uint64_t id, uint64_t now_ns);
