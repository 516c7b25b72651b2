/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that have ended, and whose callers still hold the memory.
 *
 * Threads: under the pool's mutex. Nothing blocks for longer than the kernel needs to free pages.
 */
#pragma once

#include "fastpath/host/host.h"

/* The last worker has detached the session, which another process had attached: keeps descriptors
 * for as long as its caller has the segments. knit_departed_look() is due when the host's own
 * descriptors of it are closed. */
void knit_departed_add(
    struct knit_host *pool, const struct knit_host_session *session, uint64_t now_ns);

/* Counts again what they hold, takes results back that are due, and forgets sessions whose
 * segments no other process has. */
void knit_departed_look(struct knit_host *pool, uint64_t now_ns);

/* How many sessions of the uid have departed, and what they held at the last look. */
uint32_t knit_departed_count(const struct knit_host *pool, uid_t uid);
uint64_t knit_departed_bytes(const struct knit_host *pool, uid_t uid);

void knit_departed_fini(struct knit_host *pool);
