/* SPDX-License-Identifier: Apache-2.0 */
/* Calls through the lanes of a pool on this machine: shared memory instead of a connection.
 *
 * Lanes come from a source, which gives a session of fastpath/lane/session.h, the pool's registry
 * whenever it is asked, and a way to give everything back. There are two: a daemon, at which
 * attach.c attaches over the stream; and a pool of this process (pool_session.c), which answers by
 * itself what a daemon is asked over the stream. What a call is for is an opaque `user`, which
 * comes back with the outcome; nothing here knows handles.
 *
 * Threads: one at a time. Nothing blocks but knit_lanes_find(), knit_lanes_fetch_registry() and
 * knit_lanes_wait().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/session_flush.h"
#include "proto/span.h"
#include "proto/tasks.h"

struct knit_error;
struct knit_registry;
struct knit_registry_task;

enum {
    KNIT_LANES_E_TIMEOUT = 1, /* nothing was answered in time */
    KNIT_LANES_E_CLOSED = 2,  /* the pool has closed the session: only the stream can tell why */
};

struct knit_lanes_options;

/* Returns KNIT_OK to go on, or the code of an error. */
typedef int knit_lanes_on_task(
    const struct knit_task_entry *entry, uint64_t epoch, void *user, struct knit_error *ret_error);

/* What a pool of this process is asked. Nothing blocks, but notify where it waits. */
struct knit_lanes_local {
    /* Whether the pool has stopped: every call that it took has its outcome. */
    bool (*has_stopped)(void *arg);
    /* Give every task, in the order of ids. Returns KNIT_OK, or what on_task returned. */
    int (*each_task)(
        void *arg, knit_lanes_on_task *on_task, void *user, struct knit_error *ret_error);
    /* Append the map of `$/stats`. Returns 0, or the buffer's error. */
    int (*put_stats)(void *arg, struct knit_buffer *buffer);
    /* Serve a quarantined task again. False: there is no such task. */
    bool (*lift)(void *arg, const char *task, bool *ret_lifted);
    /* Call the task so that nobody hears of it again. waits: for room. */
    int (*notify)(void *arg, const char *task, struct knit_span params, bool waits,
        struct knit_error *ret_error);
};

struct knit_lanes_source {
    /* Fetch the registry as it is now. Blocks until until_ns. Returns KNIT_OK, or the code of an
     * error. */
    int (*fetch_registry)(
        void *arg, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error);
    bool lends_registry; /* what was fetched stays the source's; it outlives the lanes */
    /* Give back the session, what it lies in, and the descriptors. is_ours false: this is a forked
     * child, and nothing that is shared with the parent may be touched. */
    void (*free)(const struct knit_lanes_options *options, bool is_ours);
    const struct knit_lanes_local *local; /* NULL: the stream is asked */
};

struct knit_lanes_options {
    const struct knit_lanes_source *source;
    void *arg; /* of the source's functions */
    struct knit_session *session;
    int bell_fd;                /* readable when an armed session is woken */
    int host_fd;                /* of the session's option asks_host, or -1 */
    uint32_t slots;             /* of the session */
    uint64_t reply_arena_bytes; /* of one lane */
    uint64_t argument_max;      /* the most one call's arguments may take */
    bool lacks_output;          /* tasks print where this program prints */
};

struct knit_lanes {
    struct knit_session *session;
    uint32_t epoch; /* of the registry */
    uint32_t age;   /* knit_lanes_age() */
    int64_t clock_shift_ns;
    struct knit_registry *registry; /* NULL: not fetched yet, or the pool has no tasks */
    bool is_stale;                  /* the registry's numbers are no longer the pool's */
    bool is_lost;                   /* they take no calls, and have results that are read */
    struct knit_lanes *next;        /* of those */
    uint32_t held;                  /* results that are read in place, and their bytes */
    uint64_t held_bytes;
    struct knit_lanes_options options;
};

/* Takes over what the options name when it succeeds. NULL: out of memory. */
struct knit_lanes *knit_lanes_new(const struct knit_lanes_options *options);

/* NULL is allowed; returns NULL. */
struct knit_lanes *knit_lanes_free(struct knit_lanes *lanes, bool is_ours);

/* ---- tasks ---- */

/* Ask the source for the registry. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_lanes_fetch_registry(
    struct knit_lanes *lanes, uint64_t until_ns, struct knit_error *ret_error);

/* The registry is the lanes' from now on; NULL: the pool has no tasks. */
void knit_lanes_take_registry(struct knit_lanes *lanes, struct knit_registry *registry);

/* They come after lanes of that age, whose tasks may have had other numbers. */
void knit_lanes_follow(struct knit_lanes *lanes, uint32_t age);

/* What a pool of this process is asked, with knit_lanes_local_arg(); NULL: it is another one's. */
static inline const struct knit_lanes_local *knit_lanes_local(const struct knit_lanes *lanes)
{
    return lanes != NULL ? lanes->options.source->local : NULL;
}

static inline void *knit_lanes_local_arg(const struct knit_lanes *lanes)
{
    return lanes->options.arg;
}

/* Which registry the session has; another number once it has another, or knows that its own is out
 * of date. Never 0. */
static inline uint32_t knit_lanes_age(const struct knit_lanes *lanes)
{
    return lanes->age;
}

/* A task by its name; the pointer is good until the next one is asked for. When the name is not
 * known, the registry is fetched again, which may take wait_ms. Returns KNIT_OK, KNIT_UNKNOWN_TASK,
 * or the code of what went wrong. */
KNIT_MUST_CHECK int knit_lanes_find(struct knit_lanes *lanes, const char *task, uint32_t wait_ms,
    const struct knit_registry_task **ret_task, struct knit_error *ret_error);

/* The same of what is known already; NULL: nothing is. */
const struct knit_registry_task *knit_lanes_look_up(
    const struct knit_lanes *lanes, const char *task);

/* Look at the error of an answered call: it may say that the registry is out of date. */
void knit_lanes_note_error(struct knit_lanes *lanes, struct knit_span error);

/* ---- calls ---- */

uint64_t knit_lanes_argument_max(const struct knit_lanes *lanes);

/* knit_lanes_start() for a call that has no deadline; true: KNIT_OK. head: knit_lanes_head(). */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_lanes_try_start(struct knit_lanes *lanes,
    const struct knit_session_call *call, uint64_t head, uint32_t *ret_slot)
{
    return knit_session_try_publish_warm(lanes->session, call, head, ret_slot);
}

/* The same and knit_lanes_flush(), while nothing else waits for that. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_lanes_try_send(struct knit_lanes *lanes,
    const struct knit_session_call *call, uint64_t head, unsigned known, uint32_t *ret_slot)
{
    return knit_session_try_send(lanes->session, call, head, known, ret_slot);
}

/* Of a task by its number in the registry. */
static inline uint64_t knit_lanes_head(const struct knit_lanes *lanes, uint32_t task)
{
    return knit_meta(task, lanes->epoch, 0, 0);
}

/* The lane for calls of that affinity. */
static inline uint32_t knit_lanes_place(const struct knit_lanes *lanes, uint64_t affinity)
{
    return knit_session_place(lanes->session, affinity);
}

/* Publish a call; epoch and lane are filled in here. at_once: only to a worker that is idle.
 * Returns KNIT_OK, KNIT_WOULD_BLOCK, KNIT_OVERLOADED (none is), KNIT_TOO_LARGE, KNIT_DRAINING,
 * KNIT_DISCONNECTED. */
KNIT_MUST_CHECK int knit_lanes_start(
    struct knit_lanes *lanes, struct knit_session_call *call, bool at_once, uint32_t *ret_slot);

/* By how much the pool's clock is ahead of this process's (fastpath/lane/clock.h); 0 until set.
 * Deadlines are shifted by it as they are published. */
void knit_lanes_set_clock_shift(struct knit_lanes *lanes, int64_t shift_ns);

/* Whether a call would be taken: KNIT_OK, KNIT_DRAINING, KNIT_DISCONNECTED. */
KNIT_MUST_CHECK int knit_lanes_check(const struct knit_lanes *lanes);

/* Wake the workers that published calls need. */
static inline void knit_lanes_flush(struct knit_lanes *lanes)
{
    if (!knit_session_try_flush(lanes->session))
        knit_session_flush(lanes->session);
}

/* The same, and the caller turns to something else. */
static inline void knit_lanes_flush_and_part(struct knit_lanes *lanes)
{
    knit_lanes_flush(lanes);
    if (knit_session_in_flight(lanes->session) != 0)
        knit_session_part(lanes->session);
}

/* Outcomes that have come, at most max; returns how many. A `held` payload lies in a lane's memory
 * and is given back: after it was copied by knit_lanes_release(), or, if knit_lanes_try_hold()
 * allows to read it in place, at last by knit_lanes_release_held(). */
size_t knit_lanes_collect(
    struct knit_lanes *lanes, struct knit_session_outcome *outcomes, size_t max);

/* A small result of one slot's call, into body[KNIT_CELL_WORDS]; false: see below. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_lanes_try_collect(
    struct knit_lanes *lanes, uint32_t slot, uint64_t *body, size_t *ret_len)
{
    return knit_session_try_collect(lanes->session, slot, body, ret_len);
}

/* The outcome of one slot's call; false: it has not come. */
bool knit_lanes_collect_slot(
    struct knit_lanes *lanes, uint32_t slot, struct knit_session_outcome *ret);

/* Whether a held payload of that length may be read in place for as long as its user likes. True
 * counts it as held. */
bool knit_lanes_try_hold(struct knit_lanes *lanes, size_t len);
void knit_lanes_release_held(struct knit_lanes *lanes, uint32_t slot, size_t len);
void knit_lanes_release(struct knit_lanes *lanes, uint32_t slot);

/* Ask the worker to stop the call; its outcome still comes. */
void knit_lanes_cancel(struct knit_lanes *lanes, uint32_t slot);

/* End the call if no worker has claimed it: true, and it never runs. Else nothing ends. */
bool knit_lanes_withdraw(struct knit_lanes *lanes, uint32_t slot);

/* End the call before it is answered: it is cancelled and its answer will be dropped. False: it had
 * been answered, collect that instead. */
bool knit_lanes_settle(struct knit_lanes *lanes, uint32_t slot, enum knit_started *ret_started);

/* Calls that have no outcome yet. */
uint32_t knit_lanes_in_flight(const struct knit_lanes *lanes);

/* A guess of when half of them have ended, by the mean time of the task, in ms. */
uint64_t knit_lanes_retry_ms(const struct knit_lanes *lanes, uint32_t task);

/* ---- waiting ---- */

bool knit_lanes_is_closed(const struct knit_lanes *lanes);

/* Sleep until the slot's call (KNIT_SLOT_ANY: any call) is answered. until_ns: CLOCK_MONOTONIC.
 * Returns 0, KNIT_LANES_E_TIMEOUT, KNIT_LANES_E_CLOSED. May return 0 early. */
KNIT_MUST_CHECK int knit_lanes_wait(struct knit_lanes *lanes, uint32_t slot, uint64_t until_ns);

/* For event loops: the bell's descriptor, and whether it may be slept on now (false: something is
 * to be collected). Disarm after waking. */
int knit_lanes_bell_fd(const struct knit_lanes *lanes);
bool knit_lanes_arm(struct knit_lanes *lanes);
void knit_lanes_disarm(struct knit_lanes *lanes);
