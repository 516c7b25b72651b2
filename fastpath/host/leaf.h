/* SPDX-License-Identifier: Apache-2.0 */
/* A control group for each lane below the host's own, where that was given to the host: what a
 * worker starts can leave its process group and its session, and not this.
 *
 * Threads: under the pool's mutex, on the dispatching thread. What fails here is done without: the
 * worker is started all the same, and orphans.c finds what it left behind.
 */
#pragma once

#include "fastpath/host/host.h"

/* Finds the host's own group, and removes what hosts that were killed have left there. Without one
 * that was given to it, the others do nothing. */
void knit_leaf_init(struct knit_host *pool);

/* Makes the lane's group. Returns its cgroup.procs, which the worker writes to, or -1. */
int knit_leaf_open(const struct knit_host *pool, uint32_t lane);

/* Kills all that is in the lane's group. Returns whether it is not empty yet. */
bool knit_leaf_kill(const struct knit_host *pool, uint32_t lane);

/* The lane in whose group the process is; UINT32_MAX = none. */
uint32_t knit_leaf_of(const struct knit_host *pool, pid_t pid);

/* Removes the groups. */
void knit_leaf_fini(struct knit_host *pool);
