/* SPDX-License-Identifier: Apache-2.0 */
/* One worker, from the host's side: its process, and what it is sent.
 *
 * Threads: under the pool's mutex, on the dispatching thread where a process is started.
 */
#pragma once

#include "fastpath/host/host.h"

enum knit_source { KNIT_SOURCE_TIMER, KNIT_SOURCE_PID, KNIT_SOURCE_CONTROL, KNIT_SOURCE_OUTPUT };

/* Starts a process for the lane. False: there is none, and worker->refusal says why. */
bool knit_worker_start(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Send what is due; what cannot be sent now goes when the socket has room. */
void knit_worker_flush(struct knit_pool *pool, struct knit_worker *worker);
/* Tell the worker to leave; it is killed at the given time. */
void knit_worker_stop(struct knit_pool *pool, struct knit_worker *worker, uint64_t kill_at_ns);
void knit_worker_kill(struct knit_worker *worker);
/* It cannot be used, for that reason: it is killed, and the rest happens when its process ends. */
__attribute__((format(printf, 2, 3))) void knit_worker_refuse(
    struct knit_worker *worker, const char *format, ...);
/* Takes the descriptor out of the epoll; closes it too. */
void knit_worker_drop_interest(const struct knit_pool *pool, int fd);
void knit_worker_close_fd(const struct knit_pool *pool, int *fd);
/* Closes what a worker that was never started, or is finalized, still has open. */
void knit_worker_fini(struct knit_pool *pool, struct knit_worker *worker);
