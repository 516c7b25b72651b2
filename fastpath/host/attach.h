/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of a pool: of the host's own threads, and of other processes.
 *
 * Threads: any; see pool.h. Nothing blocks.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/lease.h"
#include "fastpath/lane/session.h"

struct knit_host;

/* ---- sessions of the host's own threads ---- */

/* slots: 1..KNIT_SLOTS_MAX. `options->bell_fd`, `steal` and `argument_max_bytes` are set here.
 * Returns 0, KNIT_HOST_E_SESSIONS, _E_CLOSED, _E_SIZE, -errno. */
KNIT_MUST_CHECK int knit_host_own_session_open(struct knit_host *pool, uint32_t slots,
    const struct knit_session_options *options, struct knit_host_own_session **ret_session);

/* Calls in flight are aborted and forgotten; outcomes must not be used any more. By the thread that
 * uses the session. NULL is allowed; returns NULL. */
struct knit_host_own_session *knit_host_own_session_close(
    struct knit_host *pool, struct knit_host_own_session *outside);

/* ---- sessions of other processes ---- */

/* What of it is above what the pool offers is cut and not refused. Returns 0, KNIT_HOST_E_SESSIONS,
 * _E_UID_SESSIONS, _E_SESSIONS_KEPT, _E_DEPARTED, _E_MEMORY, _E_CLOSED, _E_SIZE, -errno. */
KNIT_MUST_CHECK int knit_host_attach(struct knit_host *pool, const struct knit_host_peer *peer,
    const struct knit_host_ask *ask, struct knit_host_grant *ret_grant);
void knit_host_grant_close(struct knit_host_grant *grant); /* accepts one that is closed */

/* The caller reports that it has mapped and sealed what it was granted. From now on the session is
 * served; before, it counts against the limits, and its request segment is not read. Ids that are
 * unknown or were reported before are ignored. Returns 0, or KNIT_HOST_E_UNSEALED, -errno: it
 * cannot be served, and KNIT_HOST_SESSION_EVICTED follows. */
int knit_host_attached(struct knit_host *pool, uint64_t id);

/* The connection that the session depends on has ended. Queued calls are dropped, running ones see
 * knit_aborted(); memory is freed when the workers have detached it. Unknown ids are ignored. */
void knit_host_detach(struct knit_host *pool, uint64_t id);
