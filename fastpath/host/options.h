/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool is opened with.
 *
 * Every field counts as it stands, 0 included, so a host starts from knit_pool_options_init() and
 * changes what it wants. knit_pool_open() copies strings and lists.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/confine/confine.h"
#include "fastpath/host/event.h"
#include "fastpath/lane/layout.h"
#include "proto/sentence.h"

#define KNIT_POOL_WORKERS_MAX  KNIT_LANES_MAX
#define KNIT_POOL_MODULES_MAX  1024u
#define KNIT_POOL_SESSIONS_MAX 124u /* of both kinds: what a parked worker can listen to */

/* Copied by knit_pool_open(). Start from knit_pool_options_init(); then every field counts as it
 * stands, 0 included. */
struct knit_pool_options {
    const char *worker_path;    /* absolute, of knitting-worker */
    const char *const *prefix;  /* NULL-ended words before it ("nice", "-n", "5"), or NULL */
    const char *const *modules; /* absolute paths */
    uint32_t module_count;
    const char *const
        *environment;      /* NULL-ended "NAME=value": the whole of it, or NULL = PATH and LANG */
    const char *bootstrap; /* text for the modules' hooks, "" */
    uint32_t workers;      /* 1..KNIT_POOL_WORKERS_MAX; 1 */
    bool steal;            /* true */
    uint32_t spin_us;      /* longest spin before a worker parks, adapts below; 50 */
    uint32_t pause_ns;     /* of one pause in a spin; 250 */
    uint32_t park_ms;      /* belt: longest sleep of a worker; 0 = no limit */
    uint32_t slots;        /* of a foreign session, at most; KNIT_SLOTS_DEFAULT */
    uint64_t arena_initial_bytes; /* of each arena, allocated up front; 64 KiB */
    uint64_t arena_bytes;    /* size of a request arena, and of each lane's reply arena; 64 MiB */
    uint64_t call_max_bytes; /* one argument, one result: 1 .. an eighth of that; 8 MiB */
    uint64_t reply_budget_bytes; /* of all reply arenas of a session together; 64 MiB */
    uint64_t memory_max_bytes; /* all sessions: request segments and reply budgets; 0 = half of the
                                  RAM */
    uint32_t sessions_max;     /* foreign ones; 120 */
    uint32_t uid_sessions_max; /* of one uid; 8 */
    uint32_t hard_timeout_ms;  /* of tasks that name none; 0 = none */
    uint32_t startup_ms;       /* until all workers serve; 30,000 */
    int stop_fd;      /* readable: knit_pool_open() gives up with E_CLOSED; borrowed; -1 = none */
    uint32_t stop_ms; /* a worker that was told to leave is killed then; 5,000 */
    uint32_t
        gone_ms; /* a task whose session is closed may go on for so long; 60,000; 0 = no limit */
    struct knit_confine_policy confinement; /* unsafe: a program's own modules in its own pool */
    struct knit_pool_callbacks callbacks;   /* members may be NULL */
};

void knit_pool_options_init(struct knit_pool_options *options);

/* For knit_pool_open(): 0, or KNIT_POOL_E_STARTUP and which field is wrong. */
int knit_pool_options_check(const struct knit_pool_options *options, struct knit_sentence *ret_why);
