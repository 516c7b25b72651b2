/* SPDX-License-Identifier: Apache-2.0 */
/* Part of <knitting/pool.h>: what a pool is opened with.
 *
 * A structure is read by knit_pool_open() alone, which copies what it keeps.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct knit_pool_event;

enum knit_pool_kind {
    KNIT_POOL_THREADS = 0,   /* each worker is a thread of the program */
    KNIT_POOL_PROCESSES = 1, /* each worker is a process: a crash is its own */
};

/* What may be on or off; 0: what a pool does of itself. */
enum knit_pool_switch {
    KNIT_POOL_ON = 1,
    KNIT_POOL_OFF = 2,
};

/* Of an option that is a number: 0 itself, since the number 0 stands for the default. */
#define KNIT_POOL_NONE UINT32_MAX

/* A zeroed structure, and every member that is 0 or NULL in it, means the defaults. Those that the
 * daemon has as settings have the same names, ranges and defaults there (knittingd.conf(5)), but
 * for workers, drain_ms, files_max and permission. */
struct knit_pool_options {
    enum knit_pool_kind kind; /* 0 = threads */
    uint32_t workers;         /* 1 to 256; 0 = 1; KNIT_POOL_NONE: an inliner alone */

    /* What tasks there are. Relative paths begin at the current folder. */
    const char *const *modules; /* paths of modules, ended by NULL; threads need none if the program
                                   declares tasks. In threads, a module is the program's, once */
    const char *modules_root;   /* folder that all of them must lie in, at any depth, when symbolic
                                 links have been followed; NULL = anywhere */
    const char *bootstrap;      /* text for the modules' hooks */

    /* Worker processes alone; set with threads they are refused, and so are the permission with
     * all that belongs to it, hard_timeout_ms and abort_grace_ms below. */
    const char *worker_program; /* path of knitting-worker; NULL = the one that was installed with
                                   the library, or lies beside it */
    const char *const *environment; /* "NAME=value", ended by NULL: all that workers get; NULL =
                                       PATH and LANG */

    /* What worker processes may touch, by Landlock, seccomp and limits. NULL or "unsafe": all that
     * the program may, since the modules are its own choice, and the same ones run in its threads;
     * a daemon, which serves others, has "strict" unless its settings say otherwise. "strict": read
     * modules, libraries and read_paths, nothing else. "custom": that, and what the others open. A
     * worker that the kernel cannot hold to what is named here does not start, and says to what. */
    const char *permission;
    const char *const *read_paths;  /* files and folders, ended by NULL; strict and custom */
    const char *const *write_paths; /* the same, to read, write, make and remove; custom, as all
                                       that follow: */
    const char *const *connect_ports, *const *listen_ports; /* of TCP: numbers as text, or "any",
                                                               ended by NULL */
    enum knit_pool_switch udp_sockets;   /* datagrams, name lookups among them; 0 = off */
    enum knit_pool_switch unix_sockets;  /* connect to those that have a path; 0 = off */
    enum knit_pool_switch exec_programs; /* of the system's folders and read_paths; 0 = off */

    /* Limits of a worker process, with each permission. 0 = the program's own, but for files_max
     * and core_max_bytes with strict and custom: a quarter of it, from 256 to 1024, and none. */
    uint64_t memory_max_bytes; /* private memory (RLIMIT_DATA) */
    uint32_t files_max;        /* open descriptors; KNIT_POOL_NONE = the program's own */
    uint64_t core_max_bytes;   /* core dump of one that crashes; KNIT_POOL_NONE = none */
    uint64_t file_max_bytes;   /* to which a file may be written */

    /* How a session chooses a worker for a call; NULL = roundRobin. "roundRobin" (or "robinRound"):
     * each task's in turn; with steal on, the one that answered last while it is awake.
     * "firstIdle": the first one with nothing queued or running, else in turn. "randomLane": any.
     * "firstIdleOrRandom": the first such one, else any. "leastLoaded": the one with the fewest
     * calls of the session. */
    const char *balancer;
    enum knit_pool_switch steal; /* a worker that is idle takes calls that wait for another one; 0 =
                                    with two workers or more, unless a balancer is named */

    /* The inliner: calls of tasks marked KNIT_TASK_INLINE_SAFE run on the thread that waits for
     * them, in its session's turns: in all functions that wait, knit_dispatch() and knit_flush().
     * Meanwhile that thread does nothing else, and a timeout that ends is noticed when the task has
     * returned. They run in the order of their start, whatever their priority. knit_fd() stays
     * readable while some wait. A task there may not wait for the session that runs it, nor defer
     * its call (KNIT_BAD_RESULT); a crash ends the program. Notifications,
     * and calls with the options output, progress or affinity, or with queue_ms 0, go to workers.
     * All other tasks, and those with a hard timeout, are isolated: workers alone run them. */
    const char
        *inliner_position; /* NULL = "none". Of each task's calls it takes one in a round over
                                     it and the workers: "first" or "last" of these */
    uint32_t
        inliner_batch; /* calls a turn, then the loop goes on; 0 = 1; KNIT_POOL_NONE = no limit */
    uint32_t inliner_dispatch_threshold; /* once so many of the task are in flight in the session,
                                            the new one included; 0 = 1 */
    const char *const
        *inliner_modules; /* of `modules`, ended by NULL, those with such tasks, beside
                                            the program's own; NULL = with threads all. Processes
                                            need it: the program loads these too */

    /* An idle worker looks for calls, with pauses between two looks, and then sleeps. */
    uint32_t spin_us;  /* how long it looks, at most; 0 = 50; KNIT_POOL_NONE = it sleeps at once */
    uint32_t pause_ns; /* 0 = 250; KNIT_POOL_NONE = no pauses */
    uint32_t park_ms;  /* longest such sleep; 0 = until it is woken, which is all that is needed */

    /* A session that waits looks for an answer, spins (spin_us of its own options), and sleeps. */
    uint32_t busy_poll_turns; /* looks before it reads the clock; 0 = 128; KNIT_POOL_NONE = none */
    uint32_t max_backoff_ms;  /* longest such sleep while calls are in flight; 0 = 10 */

    /* Memory for arguments and results above 1024 bytes: an arena for each session, and one for
     * each session and worker. */
    uint64_t arena_initial_bytes; /* that an arena has when it is made; 0 = 64 KiB */
    uint64_t arena_bytes;         /* its size; 0 = 64 MiB */
    const char *arena_mode;       /* NULL = "growable": it gets memory as it is needed. "fixed": it
                                     has all from the beginning, so that none can be lacking */
    uint64_t call_max_bytes;      /* of one argument or result, at most an eighth of arena_bytes;
                                     0 = that */

    uint32_t deferred_max; /* calls of a worker whose outcomes come later, at once; 0 = 64;
                              KNIT_POOL_NONE = none may be deferred */

    uint32_t hard_timeout_ms;       /* a worker is killed when a call runs longer; 0 = never */
    const char *hard_timeout_scope; /* NULL = "worker". "pool": it ends the pool too, and all other
                                       calls with KNIT_SHUTDOWN; knit_pool_close() frees it */
    uint32_t abort_grace_ms;        /* the same after nobody waits for the call any more; 0 = 10 s;
                                KNIT_POOL_NONE = never */
    uint32_t slow_call_ms; /* TASK_SLOW is told after so long; 0 = 30 s; KNIT_POOL_NONE = never */
    uint32_t deaths_per_minute; /* of workers by one task's fault before it is quarantined; 0 = 10;
                                   KNIT_POOL_NONE = it is not */
    uint32_t startup_ms;        /* until a worker serves, and twice that until all do; 0 = 30 s */

    /* Closing. */
    uint32_t drain_ms; /* how long calls that were made before may go on to their end; 0 = not */
    uint32_t stop_ms;  /* then, until a worker whose task goes on is killed; 0 = 5 s;
                          KNIT_POOL_NONE = at once */

    /* What KNIT_POOL_DEBUG tells besides, words apart by blanks or commas; NULL = nothing.
     * $KNITTING_DEBUG adds to it. "host": how many sessions are open, when that has changed.
     * "lane": what each worker's lane has done, when it has died and when the pool has stopped.
     * "imports": modules and tasks, once. "lifecycle": that the pool is open, and has stopped.
     * "signals": nothing, they are the program's. The text begins with the word. */
    const char *debug;

    /* Called by the pool's thread, one at a time; NULL = not. They may use the pool, and must
     * return: meanwhile no worker is watched. knit_pool_close() does nothing in them. */
    void (*on_event)(void *user, const struct knit_pool_event *event);
    /* A line that a task printed, without its newline, cut if it was longer than 2048 bytes; `from`
     * has worker, pid and task. NULL = nobody reads them. */
    void (*on_output)(
        void *user, const struct knit_pool_event *from, const char *line, size_t len, bool is_cut);
    void *user;

    uint64_t reserved[8];
};

#ifdef __cplusplus
}
#endif
