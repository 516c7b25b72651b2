/* SPDX-License-Identifier: Apache-2.0 */
/* One worker, from the host's side: its process, and what it is sent.
 *
 * Threads: under the pool's mutex, on the dispatching thread where a process is started.
 */
#pragma once

#include "fastpath/host/host.h"

enum knit_source {
    KNIT_SOURCE_TIMER,
    KNIT_SOURCE_PID,
    KNIT_SOURCE_REPORT, /* the worker has sent something */
    KNIT_SOURCE_ROOM,   /* the control socket has room */
    KNIT_SOURCE_OUTPUT,
    KNIT_SOURCE_RELAY, /* epoll's data: the id of a session */
};

/* Starts a process for the lane. False: worker->refusal says why not. A process may exist even so,
 * when its step is not NONE: it is to be killed and reaped. */
KNIT_MUST_CHECK bool knit_worker_start(
    struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);
/* Has the dispatching thread handle the reports of a worker. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_worker_listen(
    struct knit_host *pool, const struct knit_worker *worker, int report_fd);
/* Gives the worker a number for its claims. */
void knit_worker_take_owner(struct knit_host *pool, struct knit_worker *worker);
/* Sends what is due; what does not fit into the socket is sent when it has room. */
void knit_worker_flush(struct knit_host *pool, struct knit_worker *worker);
/* Sends STOP to a worker that serves, and kills it at the given time; kills one that starts. A
 * thread is asked to stop in place of being killed, and given up at that time (crew.h). */
void knit_worker_stop(struct knit_host *pool, struct knit_worker *worker, uint64_t kill_at_ns);
void knit_worker_kill(struct knit_worker *worker);
/* Its process group, also when its leader has ended. */
void knit_worker_kill_group(const struct knit_worker *worker);
/* Kills a worker that cannot be used, for that reason; the rest happens when its process ends. */
__attribute__((format(printf, 2, 3))) void knit_worker_refuse(
    struct knit_worker *worker, const char *format, ...);
/* Takes the descriptor out of the epoll; closes it too. */
void knit_worker_drop_interest(const struct knit_host *pool, int fd);
void knit_worker_close_fd(const struct knit_host *pool, int *fd);
/* Closes what a worker that was never started, or is finalized, still has open. */
void knit_worker_fini(struct knit_host *pool, struct knit_worker *worker);
