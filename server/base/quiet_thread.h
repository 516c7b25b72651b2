/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the daemon, which get no signals: the main thread alone does.
 *
 * Threads: any.
 */
#pragma once

#include <pthread.h>

#include <knitting/code.h>

/* name: as the kernel shows it, of at most 15 bytes. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_quiet_thread_start(
    const char *name, void *(*run)(void *arg), void *arg, pthread_t *ret_thread);
