/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that run, as the board shows them: nobody is stopped to be asked.
 *
 * Threads: any. Takes the pool's mutex for some moments.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/lane/layout.h"

struct knit_host;

struct knit_host_running {
    uint32_t lane;
    pid_t pid;        /* of its worker; 0: it is a thread */
    uint64_t session; /* id, and slot, of its place */
    uint32_t slot;
    uint64_t gen;    /* of the slot's calls, which one it is */
    uint32_t task;   /* id in the registry */
    uint64_t age_ns; /* at least: since a look first found it */
    bool is_foreign; /* it came by shared memory, from a process of: */
    uid_t uid;
};

/* Those of all lanes, in their order. Returns how many. */
uint32_t knit_host_running(
    struct knit_host *pool, struct knit_host_running ret_running[KNIT_LANES_MAX]);
