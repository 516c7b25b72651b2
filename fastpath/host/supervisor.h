/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to workers: events of their descriptors.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* Starts a worker for the lane, now. When none can be started, that is a death like any other. */
void knit_supervisor_start(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Something happened on a descriptor, named by epoll's data. */
void knit_supervisor_event(struct knit_pool *pool, uint64_t data, uint32_t events);
/* The worker's process has ended. */
void knit_supervisor_end(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
