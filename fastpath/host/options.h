/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool is opened with.
 *
 * Every field counts as it stands, 0 included, so a host starts from knit_host_options_init() and
 * changes what it wants. knit_host_open() copies strings and lists.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/confine/confine.h"
#include "fastpath/control/thread.h"
#include "fastpath/host/event.h"
#include "fastpath/lane/layout.h"
#include "proto/sentence.h"

#define KNIT_HOST_WORKERS_MAX  KNIT_LANES_MAX
#define KNIT_HOST_DEATHS_MAX   10000u
#define KNIT_HOST_MODULES_MAX  1024u
#define KNIT_HOST_SESSIONS_MAX 124u /* of both kinds: what a parked worker can listen to */

struct knit_host_options {
    /* Workers are threads of this process (crew.h); NULL: processes. Threads have no prefix, no
     * environment, no confinement, and nothing kills them: hard_timeout_ms, abort_grace_ms,
     * abandoned_ms and kill_orphans must be 0. */
    const struct knit_thread_kind *threads;
    const struct knit_module *program; /* of threads: tasks of the program itself; NULL = none */

    /* What is started. Paths are absolute; lists end with NULL. */
    const char *worker_path;    /* of knitting-worker; not for threads */
    const char *const *prefix;  /* words before it ("nice", "-n", "5"), or NULL */
    const char *const *modules; /* module_count of them, without a NULL */
    uint32_t module_count;
    const char *const *environment; /* "NAME=value", the whole of it; NULL = PATH and LANG */
    const char *bootstrap;          /* text for the modules' hooks, "" */

    /* Workers. */
    uint32_t workers;    /* 1..KNIT_HOST_WORKERS_MAX; 1 */
    bool has_no_workers; /* none is started, and nobody calls by the lanes; threads alone; false */
    bool steal;          /* an idle worker takes calls from other lanes; true */
    uint32_t spin_us;    /* longest spin before a worker parks, adapts below; 50 */
    uint32_t pause_ns;   /* of one pause in a spin; 250 */
    uint32_t park_ms;    /* longest sleep of a parked worker, should a wake be lost; 0 = no limit */
    uint32_t deferred_max; /* calls of a worker that are deferred at once; 64; 0 = none is */

    /* Sessions and their memory. */
    uint32_t slots;               /* of a session of another process, at most; KNIT_SLOTS_DEFAULT */
    uint64_t arena_initial_bytes; /* of each arena, allocated up front; 64 KiB */
    uint64_t arena_bytes;         /* of a request arena, and of each lane's reply arena; 64 MiB */
    uint64_t call_max_bytes;      /* one argument, one result: 1 .. arena_bytes / 8; 8 MiB */
    uint64_t reply_budget_bytes;  /* of all reply arenas of a session together; 64 MiB */
    uint64_t memory_max_bytes;    /* of all sessions, counted; 0 = half of the RAM */
    uint32_t sessions_max;        /* of other processes; 120 */
    uint32_t uid_sessions_max;    /* of one uid; 64 */
    uint32_t sessions_kept;       /* for uids that have none, at most a quarter of all; 16 */

    /* Workers that one task may take down by its own fault in a minute before it is quarantined;
     * 0 = no limit; 10 */
    uint32_t deaths_per_minute;

    /* Of sessions of the host's own threads, where their threads wait in them. */
    uint32_t busy_poll_turns; /* looks for an answer before the clock is read, and spin_us; 128 */
    uint32_t max_backoff_ms;  /* longest sleep while calls are in flight; 10 */

    /* Times. */
    uint32_t hard_timeout_ms; /* of tasks that name none; 0 = none */
    uint32_t abort_grace_ms;  /* for which a task may ignore its abort; 10,000; 0 = for ever */
    uint32_t slow_call_ms;    /* a call is reported when it runs longer; 30,000; 0 = never */
    uint32_t startup_ms;      /* until a worker serves, and twice that until all do; 30,000 */
    uint32_t stop_ms;         /* from STOP until a worker is killed or left behind; 5,000 */
    uint32_t abandoned_ms; /* until a task is killed whose session is closed; 60,000; 0 = never */

    /* The process has no children but the workers and, as their subreaper, what they leave behind:
     * the latter is killed before a lane is used again, and at the end; false. */
    bool kill_orphans;

    /* The host's own sessions take no more calls either once a shutdown has begun: whoever calls by
     * them knows of it by their memory alone; false. */
    bool own_sessions_drain;

    int stop_fd; /* readable: knit_host_open() ends with E_CLOSED; borrowed; -1 = none */
    struct knit_confine_policy confinement; /* unsafe: a program's own modules in its own pool */
    struct knit_host_callbacks callbacks;   /* members may be NULL */
};

/* An option that is a number, with what it may be and what it is until somebody changes it. These
 * are those that settings of the daemon and options of a program's pool are named after; both have
 * ranges and defaults from here. */
struct knit_host_number {
    const char *name;
    size_t offset; /* of the member of that name: uint32_t, or: */
    bool is_wide;  /* uint64_t */
    uint64_t least, most, preset;
};

extern const struct knit_host_number knit_host_numbers[];
extern const size_t knit_host_number_count;

/* NULL: there is none of that name. */
const struct knit_host_number *knit_host_number_find(const char *name);
void knit_host_number_set(
    struct knit_host_options *options, const struct knit_host_number *number, uint64_t value);
uint64_t knit_host_number_get(
    const struct knit_host_options *options, const struct knit_host_number *number);

void knit_host_options_init(struct knit_host_options *options);

/* All of an arena is allocated when it is made: arena_initial_bytes and the reply budget follow
 * from arena_bytes and workers. */
void knit_host_options_fix_arenas(struct knit_host_options *options);

/* For knit_host_open(): 0, or KNIT_HOST_E_STARTUP and which field is wrong. */
KNIT_MUST_CHECK int knit_host_options_check(
    const struct knit_host_options *options, struct knit_sentence *ret_why);
