/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that are threads of this process, from the host's side (control/thread.h). The host has
 * them by the same structures as processes, and they go through the same steps but those of a
 * process's start.
 *
 * What cannot be: to kill one. A worker that shall end is asked to, and ends after the call that it
 * runs. While the pool stops, one that does not end until its time is over is left behind: what it
 * uses stays, the pool's segments and sessions included, and nobody gives outcomes in its place,
 * because it may still give them itself.
 *
 * Threads: under the pool's mutex, on the dispatching thread but for attach.
 */
#pragma once

#include "fastpath/host/host.h"

/* Loads the tasks. Returns 0; KNIT_HOST_E_STARTUP with a sentence, -errno. */
KNIT_MUST_CHECK int knit_crew_open(
    struct knit_host *pool, const struct knit_host_options *options, struct knit_sentence *ret_why);
/* Gives back what was loaded. */
void knit_crew_close(struct knit_host *pool);

/* Starts the lane's thread. False: worker->refusal says why not. */
KNIT_MUST_CHECK bool knit_crew_start(
    struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);

/* Returns 0, or KNIT_CONTROL_E_EXHAUSTED. */
KNIT_MUST_CHECK int knit_crew_attach(struct knit_host *pool, struct knit_worker *worker,
    const struct knit_host_session *session, bool is_trusted);

/* The worker has not ended in time: leaves it behind, unless it serves in a pool that goes on. */
void knit_crew_give_up(struct knit_host *pool, struct knit_worker *worker, uint64_t now_ns);
