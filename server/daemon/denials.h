/* SPDX-License-Identifier: Apache-2.0 */
/* Denials of calls in lanes. Workers count all of them and tell a few a second, so that nobody
 * keeps the host busy with them; how many had no line is found out here.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct knit_host;
struct knit_log;

struct knit_denials {
    uint64_t told; /* by workers */
    uint64_t left; /* of those that were counted, in the last second */
    uint64_t said; /* of these, as left out */
};

/* A worker has told of one. */
static inline void knit_denials_note(struct knit_denials *denials)
{
    denials->told++;
}

/* Says how many were left out. A worker counts before it tells, so only what was left a second ago
 * as well has no line. Returns whether there is more to say in a second. */
bool knit_denials_end_second(
    struct knit_denials *denials, struct knit_host *pool, struct knit_log *log);
