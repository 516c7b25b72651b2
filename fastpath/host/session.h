/* SPDX-License-Identifier: Apache-2.0 */
/* A session as the pool keeps it: found, published to workers, closed, evicted, freed.
 *
 * Threads: under the pool's mutex.
 */
#pragma once

#include "fastpath/host/host.h"

struct knit_host_session *knit_host_session_find(struct knit_host *pool, uint64_t id);
/* Has all workers attach the session. */
void knit_host_session_publish(struct knit_host *pool, struct knit_host_session *session);
/* Its caller has left: no call is claimed any more, workers detach it, and then it is freed. */
void knit_host_session_close(
    struct knit_host *pool, struct knit_host_session *session, uint64_t now_ns);
/* Its memory broke the protocol: it is served no more, and the host is notified. */
void knit_host_session_evict(
    struct knit_host *pool, struct knit_host_session *session, const char *reason);
/* A worker has detached it, or has ended. Frees a closed session if that was the last worker. */
void knit_host_session_unlink(struct knit_host *pool, struct knit_worker *worker, uint32_t index);
/* Frees it whatever its links say: all workers have ended, or none has it. */
void knit_host_session_free(struct knit_host *pool, struct knit_host_session *session);
/* The same, but for mappings and bell: a thread that was left behind may use them. */
void knit_host_session_leave(struct knit_host *pool, struct knit_host_session *session);
/* The same for one that the pool does not list. */
void knit_host_session_fini(const struct knit_host *pool, struct knit_host_session *session);
