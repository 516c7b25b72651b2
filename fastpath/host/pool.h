/* SPDX-License-Identifier: Apache-2.0 */
/* A pool: workers that run tasks, the board that they share, and the sessions of their callers.
 *
 * The host of a pool is a daemon, or a program that embeds it. It loads no modules for worker
 * processes: the first one announces its tasks, and those that announce others are refused. Workers
 * are started, stopped, killed and replaced here; calls do not pass through here, they go from
 * session to lane through shared memory.
 *
 *     knit_host_options_init(&options);
 *     options.worker_path = ...; options.modules = ...;
 *     if (knit_host_open(&options, &pool, &why) != 0)
 *         ... why.text: "worker startup failed: ..."
 *     poll knit_host_fd(pool) for reading; when it is readable: knit_host_dispatch(pool);
 *
 * Where workers are refused futex_waitv, callers of other processes wake parked workers through
 * dispatch (relay.h): a host that dispatches late delays their calls.
 *
 * Threads: every function may be called from any thread; one mutex guards the pool. But one thread
 * dispatches: the one that opened the pool. It must live as long as the pool, because the kernel
 * kills a worker that is not ready yet when the thread that started it ends. Callbacks run on that
 * thread, inside knit_host_open(), _dispatch(), _wait_stopped() and _free(), without the mutex;
 * they may call all functions but those four. Of these only knit_host_dispatch() does not block,
 * and the others do so for a bounded time; dispatch may take some milliseconds when a worker is
 * stopped for its hard timeout.
 *
 * Signals: the pool reaps its own children by pidfd. A host that reaps children itself asks
 * knit_host_owns_pid() first. A worker that was reaped by others, or by the kernel because SIGCHLD
 * is ignored (SIG_IGN or SA_NOCLDWAIT), has ended in a way that is not known.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <knitting/code.h>

#include "fastpath/control/registry.h"
#include "fastpath/host/attach.h"
#include "fastpath/host/event.h"
#include "fastpath/host/options.h"
#include "fastpath/host/quarantine.h"
#include "fastpath/host/reason.h"
#include "fastpath/host/rights.h"
#include "fastpath/host/stats.h"
#include "proto/sentence.h"

struct knit_host;

/* Starts the workers and waits until all of them serve, each for at most startup_ms. Returns 0,
 * KNIT_HOST_E_STARTUP, KNIT_HOST_E_CLOSED (stop_fd), -errno; but for 0 ret_why is filled ("worker
 * startup failed: /a/b.so: ...", or which option is wrong) and everything started is ended. */
KNIT_MUST_CHECK int knit_host_open(const struct knit_host_options *options,
    struct knit_host **ret_pool, struct knit_sentence *ret_why);

/* Kills what still runs, or waits stop_ms for it if workers are threads, and frees everything but
 * what threads use that were left behind. Sessions of the host's threads must be closed. NULL
 * is allowed; returns NULL. */
struct knit_host *knit_host_free(struct knit_host *pool);

/* An epoll descriptor, to be polled or added to another epoll: readable when there is something to
 * dispatch, timers included. Owned by the pool. */
int knit_host_fd(const struct knit_host *pool);

/* The most shared memory that the sessions of such a pool take together; own_count of them are the
 * host's own. */
uint64_t knit_host_memory_bytes(const struct knit_host_options *options, uint32_t own_count);

/* Handles what has arrived or come due; does not wait. */
void knit_host_dispatch(struct knit_host *pool);

/* From now on no caller's session is opened, and those there are take no more calls (DRAINING);
 * what they have published is served, and the host's own sessions go on. For a daemon that is about
 * to shut its pool down and serves by its sockets until then. */
void knit_host_refuse_callers(struct knit_host *pool);

/* Begins a shutdown; returns at once, KNIT_HOST_STOPPED follows. No session can be opened any more.
 * drain: published calls run to their end, until deadline_ns (CLOCK_MONOTONIC). Then, or without
 * drain: queued calls end in SHUTDOWN (started no), running ones see knit_aborted(); workers leave
 * after their task, or are killed at the deadline or after stop_ms, and their calls end in SHUTDOWN
 * (started yes). A second call can only bring the deadline forward. */
void knit_host_shutdown(struct knit_host *pool, bool drain, uint64_t deadline_ns);
bool knit_host_is_stopped(const struct knit_host *pool);

/* Dispatches until the pool is stopped, after its shutdown; for hosts without an event loop. */
void knit_host_wait_stopped(struct knit_host *pool);

/* Not 0, and never again another pool's of this process. */
uint64_t knit_host_number(const struct knit_host *pool);

/* The tasks that the workers announced; lives as long as the pool. */
const struct knit_registry *knit_host_registry(const struct knit_host *pool);

/* Of each of them, whether it may run (lane/mark.h); by id, for as long. */
const _Atomic uint8_t *knit_host_marks(const struct knit_host *pool);

uint32_t knit_host_lanes(const struct knit_host *pool);
uint32_t knit_host_sessions_max(const struct knit_host *pool); /* of other processes */

/* Whether the process is a worker of the pool, to be reaped by the pool and not by the host. */
bool knit_host_owns_pid(struct knit_host *pool, pid_t pid);
