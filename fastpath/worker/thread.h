/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that is a thread of the host's process.
 *
 * It serves its lane as a process does (serve.h), and has nothing of what a process has for itself:
 * no confinement, no output of its own, no leftovers that are put back, no time after which it is
 * killed. A task's fault ends the program. What a task changes of the process (folder, locale,
 * signals, timers) stays changed, for the program too.
 *
 * A task that ends its thread, by pthread_exit() or because somebody cancelled it, ends its worker:
 * that is reported, and the host replaces it. Nothing here cancels a thread.
 *
 * Threads: see control/thread.h. Modules are loaded by one thread at a time in all of the process,
 * and hooks of one pool run one after another, each on its worker's thread.
 */
#pragma once

#include "fastpath/control/thread.h"
#include "fastpath/worker/module.h"

/* For the option `threads` of a host. */
extern const struct knit_thread_kind knit_threads;

/* knit_modules_load() while no other thread of the process loads modules so. A program without
 * tasks is left out. */
KNIT_MUST_CHECK int knit_thread_load(const struct knit_module_loading *loading,
    struct knit_modules **ret_modules, struct knit_sentence *ret_why);

/* The number of the host for which the calling thread is a worker; 0: for none. No pointer: a
 * thread may outlive its host, and then another host may lie in the same place. */
uint64_t knit_thread_host(void);
