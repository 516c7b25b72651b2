/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the pool of workers as the settings say: their program, their modules, what confines them.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <knitting/code.h>

#include "fastpath/host/pool.h"
#include "proto/sentence.h"
#include "server/config/setting.h"

struct knit_inline_tasks;
struct knit_log;

/* What a start needs besides the settings. */
struct knit_workers_surroundings {
    struct knit_host_callbacks callbacks;
    int stop_fd;
    uint32_t sessions_max; /* of other processes */
};

/* Whether program, modules and paths are there and the rules go together. Starts nothing.
 * Returns 0; or not 0 with the sentence. */
KNIT_MUST_CHECK int knit_workers_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* The most shared memory that a pool of these settings takes, with so many sessions of other
 * processes. */
uint64_t knit_workers_memory_bytes(const struct knit_settings *settings, uint32_t sessions_max);

/* Gives up privileges that neither the daemon nor its workers need, then opens the pool, which may
 * take half a minute; it ends early when stop_fd becomes readable.
 * Returns 0; or not 0 with the sentence, KNIT_HOST_E_CLOSED after stop_fd. */
KNIT_MUST_CHECK int knit_workers_start(const struct knit_settings *settings, struct knit_log *log,
    const struct knit_workers_surroundings *surroundings, struct knit_host **ret_pool,
    struct knit_sentence *why);

/* Loads the inliner's modules into this process, once the pool is started; NULL: it has none.
 * Returns as knit_workers_start() does. */
KNIT_MUST_CHECK int knit_workers_load_inline(const struct knit_settings *settings,
    struct knit_log *log, const struct knit_host *pool, struct knit_inline_tasks **ret_tasks,
    struct knit_sentence *why);

/* Whether workers start with these settings: one is started, loads the modules with their bootstrap
 * hooks, and is ended. Gives up privileges too. Returns what knit_workers_start() would. */
KNIT_MUST_CHECK int knit_workers_try(
    const struct knit_settings *settings, struct knit_sentence *why);

/* As process 1, and as subreaper of unsafe workers, the daemon inherits orphans, which it reaps, at
 * each SIGCHLD. pool: NULL = there is none yet. */
void knit_workers_reap_orphans(struct knit_host *pool);
