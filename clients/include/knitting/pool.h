/* SPDX-License-Identifier: Apache-2.0 */
/* A pool in the program's own process: no daemon, the same calls.
 *
 *     const char *modules[] = {"/usr/lib/knitting/modules/example.so", NULL};
 *     struct knit_pool_options options = {.kind = KNIT_POOL_PROCESSES, .modules = modules};
 *     struct knit_pool *pool;
 *     struct knit *k = NULL;
 *     struct knit_error error;
 *     int64_t sum;
 *
 *     if (knit_pool_open(&options, &pool, &error) != KNIT_OK ||
 *         knit_pool_session(pool, NULL, &k, &error) != KNIT_OK ||
 *         knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum) != 0)
 *         fprintf(stderr, "%s: %s\n", error.name, error.message);
 *     else
 *         printf("%lld\n", (long long)sum);
 *     knit_close(k);
 *     knit_pool_close(pool);
 *
 * Workers are threads of the program unless the option `kind` says otherwise. They have the tasks
 * of modules, as processes do, and those that the program itself declares with KNIT_TASK() of
 * <knitting/task.h>. A pool that is opened without options has one thread with these:
 *
 *     #include <stdio.h>
 *     #include <knitting/pool.h>
 *
 *     KNIT_TASK(add, "add(a: int, b: int) -> int")
 *     {
 *         return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
 *     }
 *
 *     int main(void)
 *     {
 *         KNIT_POOL_AUTO struct knit_pool *pool = NULL;
 *         struct knit *k = NULL;
 *         int64_t sum = 0;
 *
 *         if (knit_pool_open(NULL, &pool, NULL) == KNIT_OK &&
 *             knit_pool_session(pool, NULL, &k, NULL) == KNIT_OK &&
 *             knit_call(k, NULL, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum) == 0)
 *             printf("%lld\n", (long long)sum);
 *         knit_close(k);
 *         return 0;
 *     }
 *
 * A worker that is a process crashes for itself, can be killed, and has no memory in common with
 * the program. A thread has all memory in common: a crash in a task ends the program, what a
 * task changes of the process (folder, locale, signals) is changed for the program too, nothing
 * stops a task that goes on, and what it prints goes where the program's own output goes. All
 * signals are blocked in it. A task that ends its thread, by pthread_exit(), fails with
 * KNIT_WORKER_DIED, and the thread is replaced.
 *
 * A session of a pool is one of <knitting/knitting.h>: all calls, handles, batches and the
 * descriptor for event loops are the same as with a URL. What a pool does itself, starting,
 * watching, killing and replacing workers, runs on one thread of its own, with all signals blocked.
 * The pool installs no signal handlers, logs nothing and ends nothing: what happens is told to
 * `on_event`.
 *
 * Threads: every function may be called from any thread; each thread that calls tasks opens a
 * session of its own.
 *
 * Notifications, knit_notify(), go on when their session is closed, until the pool is: as other
 * calls then, for drain_ms. They are calls of one session of the pool's, which it opens for the
 * first; the first may fail as knit_pool_session() does. In `on_event` and `on_output` they do not
 * wait for room.
 *
 * Children: worker processes are children of the program. One that ignores SIGCHLD, or that waits
 * for any child, may do so: the pool then knows that a worker has ended, and not how. A program
 * that exits without closing its pool leaves no worker behind, also when a child that it has forked
 * lives on. After fork() pool and sessions are the parent's: in the child every function on them
 * fails, and knit_pool_close() and knit_close() only free the child's memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>
#include <knitting/error.h>
#include <knitting/knitting.h>
#include <knitting/pool_options.h>
#include <knitting/task.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct knit_pool;

enum knit_pool_event_kind {
    KNIT_POOL_WORKER_STARTED = 1, /* worker, pid, is_replacement */
    KNIT_POOL_WORKER_DIED,        /* worker, pid, signal or status, lost, task, text: why */
    KNIT_POOL_WORKER_REFUSED,     /* worker, pid, text: why a replacement could not start */
    KNIT_POOL_WORKER_STOPPED,     /* worker, pid: it left because the pool closes */
    KNIT_POOL_WORKER_LEFT,      /* worker, task, text: a thread did not end in stop_ms; what it uses
                                     stays in memory */
    KNIT_POOL_HARD_TIMEOUT,     /* worker, pid, task, time_ms: it is killed; WORKER_DIED follows */
    KNIT_POOL_TASK_SLOW,        /* worker, pid, task, time_ms: it has run for so long */
    KNIT_POOL_TASK_QUARANTINED, /* task, signal: workers died in it; it is refused for a while */
    KNIT_POOL_TASK_LIFTED,      /* task: it is served again */
    KNIT_POOL_DEGRADED,         /* is_degraded: workers die faster than they work, or no longer */
    KNIT_POOL_DAMAGED,          /* text: a task wrote into the memory of a session */
    KNIT_POOL_RELAYING,       /* text: the pool's thread wakes workers, which is slower, and why */
    KNIT_POOL_OUTPUT_DROPPED, /* lost: lines that tasks printed faster than they were read */
    KNIT_POOL_DEBUG,          /* text: what the option `debug` asks for */
};

struct knit_pool_event {
    enum knit_pool_event_kind kind;
    uint32_t worker; /* 0 .. workers - 1 */
    int64_t pid;
    int signal; /* that ended it; 0 = it exited */
    int status; /* its exit status */
    bool is_replacement;
    bool is_degraded;
    uint32_t lost; /* calls that ended with the worker */
    uint64_t time_ms;
    const char *task; /* "": none, or unknown */
    const char *text; /* a sentence without a full stop, or "" */
    uint64_t reserved[4];
};

/* Start the workers, and wait until all of them serve. On failure *ret is NULL, so that a
 * knit_pool_close() at the end needs no condition. Fails with KNIT_BAD_ARGUMENT (an option, which
 * the message names; or this is a worker, where no pool can be opened), KNIT_NO_WORKER ("worker
 * startup failed": a module, a hook, the worker program), KNIT_INTERNAL (the system is short of
 * something). */
KNIT_MUST_CHECK int knit_pool_open(
    const struct knit_pool_options *options, struct knit_pool **ret, struct knit_error *ret_error);
/* The same; `program` has the tasks of the program itself, which processes do not get, or is
 * NULL. */
KNIT_MUST_CHECK int knit_pool_open_with(const struct knit_module *program,
    const struct knit_pool_options *options, struct knit_pool **ret, struct knit_error *ret_error);

/* With the tasks of the program, or of the shared library, whose code says this. The function
 * above, for other languages, has none. */
#define knit_pool_open(options, ret, ret_error)                                                    \
    knit_pool_open_with(knit_own_tasks(), options, ret, ret_error)

/* A session for one thread; knit_close() ends it, before or after the pool is closed. Of the
 * options slots, spin_us, no_spin and would_block count. Does not block. Fails with
 * KNIT_SHUTDOWN (the pool closes), KNIT_QUOTA (124 sessions are open, of threads and of processes
 * alike: as many words can a worker sleep on; one is the pool's once it has been notified),
 * KNIT_DISCONNECTED (in a forked child), KNIT_BAD_ARGUMENT (this is a thread of that pool, which
 * would wait for itself), KNIT_INTERNAL. */
KNIT_MUST_CHECK int knit_pool_session(struct knit_pool *pool,
    const struct knit_open_options *options, struct knit **ret, struct knit_error *ret_error);

/* End the pool. New calls are refused with KNIT_SHUTDOWN; those under way go on for drain_ms,
 * then queued ones end in KNIT_SHUTDOWN, and running ones see knit_aborted(). Workers leave when
 * their task returns, or are killed after stop_ms, and what they ran ends in KNIT_SHUTDOWN. A
 * thread cannot be killed: it is left behind then, with the memory that it uses and a descriptor
 * of each session that was open, to which it may still write; and WORKER_LEFT tells it. Blocks
 * until all other workers have ended. Sessions may stay open: their calls have these outcomes, and
 * they are closed later. A program that exits without this, while threads run tasks, runs its
 * destructors beside them. NULL is allowed; returns NULL, except in a callback and in a thread of
 * the pool. */
struct knit_pool *knit_pool_close(struct knit_pool *pool);

/* For a variable that closes its pool when it goes out of scope:
 *     KNIT_POOL_AUTO struct knit_pool *pool = NULL; */
static inline void knit_pool_close_variable(struct knit_pool **pool)
{
    *pool = knit_pool_close(*pool);
}
#define KNIT_POOL_AUTO __attribute__((cleanup(knit_pool_close_variable)))

/* Whether this is the program itself, and neither a worker process nor a thread that is a worker: a
 * module that is also linked into a program may ask. Does not block. */
bool knit_is_host(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#include <knitting/pool_task.h>
