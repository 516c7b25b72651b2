/* SPDX-License-Identifier: Apache-2.0 */
/* A pool: workers that run tasks, the board they share, and the sessions of those who call.
 *
 * The pool is a host's: a daemon's, or a program's that embeds it. It never loads modules itself;
 * it learns what there is from the first worker that came up and refuses workers that say
 * otherwise. Its supervisor (supervisor.c) starts, watches, kills and replaces workers; what a dead
 * worker held gets its outcome from recovery.c. Calls do not pass through here: they go from
 * session to lane through shared memory.
 *
 *     knit_pool_options_init(&options);
 *     options.worker_path = ...; options.modules = ...;
 *     if (knit_pool_open(&options, &pool, &why) != 0)
 *         ... why.text: "worker startup failed: ..."
 *     watch knit_pool_fd(pool) for reading; when readable: knit_pool_dispatch(pool);
 *
 * Threads: every function may be called from any thread; one mutex guards the pool. But only one
 * thread at a time dispatches, and it is the one that opened the pool and lives as long as the
 * pool: the kernel kills workers when the thread that started them ends. Callbacks run on that
 * thread, inside knit_pool_open(), _dispatch(), _wait_stopped() and _free(), without the mutex:
 * they may call everything here but those four. Nothing blocks but knit_pool_open() and
 * knit_pool_wait_stopped(), both bounded; dispatch may take some milliseconds when a worker is
 * stopped for its hard timeout.
 *
 * Signals: the pool reaps its own children by pidfd. A host that reaps by itself asks
 * knit_pool_owns_pid() first; SIGCHLD must not be ignored (SIG_IGN or SA_NOCLDWAIT).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/control/registry.h"
#include "fastpath/host/attach.h"
#include "fastpath/host/event.h"
#include "fastpath/host/options.h"
#include "fastpath/host/reason.h"
#include "fastpath/host/stats.h"
#include "proto/sentence.h"

struct knit_pool;

/* Starts the workers and waits until all of them serve, at most startup_ms.
 * KNIT_POOL_E_STARTUP: ret_why holds one sentence ("worker startup failed: /a/b.so: ...", or which
 * option is wrong) and everything that was started is gone again. Else 0 or -errno (ret_why too).
 */
int knit_pool_open(const struct knit_pool_options *options, struct knit_pool **ret_pool,
    struct knit_sentence *ret_why);

/* Ends what still runs, at once, and frees everything. All host sessions must be closed. NULL is
 * allowed; returns NULL. */
struct knit_pool *knit_pool_free(struct knit_pool *pool);

/* Readable when there is something to dispatch: an epoll descriptor, good inside another epoll.
 * Timers are within it. Owned by the pool. */
int knit_pool_fd(const struct knit_pool *pool);

/* Handles what is there and returns; never waits for more. */
void knit_pool_dispatch(struct knit_pool *pool);

/* Begin to close; returns at once, KNIT_POOL_STOPPED follows. No session can be opened any more.
 * drain: what was published runs to its end, until deadline_ns (CLOCK_MONOTONIC). Then, or without
 * drain: queued calls end in SHUTDOWN (started no), running ones see knit_aborted(), workers leave
 * after their task or are killed at the deadline and no later than stop_ms; their calls end in
 * SHUTDOWN (started yes). Again: can only make it sooner. */
void knit_pool_shutdown(struct knit_pool *pool, bool drain, uint64_t deadline_ns);
bool knit_pool_is_stopped(const struct knit_pool *pool);

/* Dispatches until the pool is stopped; for hosts without an event loop. shutdown() came before. */
void knit_pool_wait_stopped(struct knit_pool *pool);

/* What the workers announced; lives as long as the pool. */
const struct knit_registry *knit_pool_registry(const struct knit_pool *pool);

uint32_t knit_pool_lanes(const struct knit_pool *pool);

/* Whether this is a worker of the pool that has not been reaped: leave it alone. */
bool knit_pool_owns_pid(struct knit_pool *pool, pid_t pid);
