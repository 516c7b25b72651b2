/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to workers: events of their descriptors.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* Starts a worker for the lane. If no process can be started, that counts as a death. */
void knit_supervisor_start(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);
/* An event of a descriptor, which epoll's data names. */
void knit_supervisor_event(struct knit_host *pool, uint64_t data);
/* The end of a line that a worker prints has not come in time: what has come is reported. */
void knit_supervisor_end_line(struct knit_host *pool, struct knit_worker *worker);
/* The worker's process has ended. */
void knit_supervisor_end(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);
