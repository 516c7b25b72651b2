/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of this process, for its sessions.
 *
 * Its opener holds it, and each open session: memory of calls and registry last as long. Its thread
 * lives from knit_pool_open() to knit_pool_close().
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/pool.h>

#include "clients/lib/notifier.h"
#include "clients/lib/pool_debug.h"
#include "clients/lib/pool_options.h"
#include "fastpath/host/pool.h"
#include "proto/sentence.h"

struct knit_pool {
    uint8_t *alive; /* a page that fork() clears: 0 in a child, where nothing else is looked at */
    struct knit_host *host;
    pthread_t thread;
    int wake_fd; /* an eventfd: what the thread is to do, see pool.c */
    struct knit_notifier notifier;
    uint32_t drain_ms, stop_ms, max_backoff_ms;
    struct knit_pool_debug debug; /* the thread's */
    bool ends_by_hard_timeout;    /* hard_timeout_scope */
    bool is_overrun;              /* a task has run into it: the thread's */
    uint64_t arena_bytes, call_max_bytes;
    enum knit_balancer balancer;
    bool is_threads; /* its workers */
    void (*on_event)(void *user, const struct knit_pool_event *event);
    void (*on_output)(
        void *user, const struct knit_pool_event *from, const char *line, size_t len, bool is_cut);
    void *user;
    const struct knit_host_options *opens;  /* while the thread opens the host */
    struct knit_inline_tasks *inline_tasks; /* NULL: there is no inliner */
    struct knit_inliner_settings inliner;
    uint32_t workers; /* beside the inliner */

    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t answered;
    uint32_t references;
    bool has_answered; /* the thread, whether the host is open: */
    int error;
    struct knit_sentence why;
};

/* False in a forked child. */
static inline bool knit_pool_is_ours(const struct knit_pool *pool)
{
    return *pool->alive != 0;
}

void knit_pool_hold(struct knit_pool *pool);

/* knit_notify() in a session of it. waits: for room. */
KNIT_MUST_CHECK int knit_pool_notify(struct knit_pool *pool, const char *task,
    struct knit_span params, bool waits, struct knit_error *ret_error);

/* Frees it when nobody holds it any more; in a forked child the child's memory alone. */
void knit_pool_release(struct knit_pool *pool);
