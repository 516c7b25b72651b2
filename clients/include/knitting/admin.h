/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the pool of a session: its tasks, its counters, whether it answers. Part of
 * <knitting/knitting.h>, whose rules hold here too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>
#include <knitting/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct knit;

/* ---- The pool ----
 *
 * These wait for the daemon's answer for at most connect_ms, but for knit_arguments_max(). They
 * fail with KNIT_TIMEOUT then, KNIT_DISCONNECTED, KNIT_BAD_ARGUMENT in a callback, KNIT_INTERNAL
 * (out of memory), and with what the daemon answers. */

/* One round trip; the time it took. */
int knit_ping(struct knit *k, struct knit_error *ret_error, uint64_t *ret_ns);

/* Returns the most bytes that the arguments of one call may take in this session. Where the
 * daemon's message_max_bytes is less than its call_max_bytes, the name of the task and the options
 * take a few of them. Asks nobody. 0: the session is a parent's. */
size_t knit_arguments_max(struct knit *k);

struct knit_task_info {
    uint32_t id;
    const char *name;
    const char *signature;
    const char *doc;    /* "" if there is none */
    double timeout_ms;  /* negative: none */
    uint32_t flags;     /* KNIT_TASK_* of <knitting/task.h> */
    const char *module; /* the name of its file; "" if the daemon does not say */
    uint64_t deaths;    /* workers that it took down by its own fault */
    int last_signal;    /* by which the last of them ended; 0: it exited */
    bool quarantined;   /* too many lately: its calls are refused for some seconds */
};

/* Every task, in the order of their ids; `info` is borrowed for the duration of the callback, which
 * may do what other callbacks may. All are one daemon's: STALE_EPOCH where its connection was lost
 * behind the first of them. */
int knit_tasks(struct knit *k, struct knit_error *ret_error,
    void (*on_task)(const struct knit_task_info *info, void *user), void *user);

/* Serves a quarantined task again at once; only for root and the daemon's user, by unix:// or
 * shm://, and for whom its policy lets, else it fails with KNIT_DENIED; KNIT_UNKNOWN_TASK.
 * *ret_lifted: it was quarantined. */
KNIT_MUST_CHECK int knit_lift(
    struct knit *k, struct knit_error *ret_error, const char *task, bool *ret_lifted);

/* Has the daemon drain, as SIGTERM does: it accepts no more connections, tells its callers to go
 * elsewhere, lets calls finish for drain_ms, and ends. Returns when it has begun to. For the same
 * callers, else it fails with KNIT_DENIED, as it does in a pool of the program's own, which
 * knit_pool_close() ends. *ret_began: it was not draining yet. */
KNIT_MUST_CHECK int knit_drain(struct knit *k, struct knit_error *ret_error, bool *ret_began);

/* The pool's counters: one msgpack map, borrowed until the next knit_stats() or knit_close(). */
KNIT_MUST_CHECK int knit_stats(
    struct knit *k, struct knit_error *ret_error, const void **ret_map, size_t *ret_len);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
