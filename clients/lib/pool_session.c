/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of a pool of this process: the source of lanes that needs no stream.
 *
 * The host makes the session as it does for a daemon's loop. Its end is seen in the session's own
 * memory: the host closes it, gives all calls their outcomes, and has stopped then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "clients/lib/handle_inline.h"
#include "clients/lib/open.h"
#include "clients/lib/pool.h"
#include "config.h"
#include "fastpath/host/describe.h"
#include "fastpath/lane/bell.h"
#include "fastpath/worker/thread.h"
#include "proto/writer.h"

enum { SPIN_US_DEFAULT = 50 };

/* What lanes of this source lie in. */
struct pool_lanes {
    struct knit_pool *pool;
    struct knit_host_own_session *own;
};

/* ---- what a daemon would be asked ---- */

static bool has_stopped(void *arg)
{
    const struct pool_lanes *lanes = arg;

    return knit_host_is_stopped(lanes->pool->host);
}

static int each_task(
    void *arg, knit_lanes_on_task *on_task, void *user, struct knit_error *ret_error)
{
    const struct pool_lanes *lanes = arg;
    const struct knit_registry *registry = knit_host_registry(lanes->pool->host);
    int code = KNIT_OK;

    for (uint32_t id = 0; code == KNIT_OK && id < knit_registry_count(registry); id++) {
        struct knit_task_entry entry;

        knit_host_describe_task(lanes->pool->host, knit_registry_at(registry, id), &entry);
        code = on_task(&entry, knit_registry_epoch(registry), user, ret_error);
    }
    return code;
}

static int put_stats(void *arg, struct knit_buffer *buffer)
{
    const struct pool_lanes *lanes = arg;
    struct knit_host_snapshot *snapshot = malloc(sizeof(*snapshot));
    struct knit_writer writer;
    int r;

    if (snapshot == NULL)
        return -ENOMEM;
    knit_host_snapshot(lanes->pool->host, snapshot);
    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 2 + KNIT_HOST_SNAPSHOT_MEMBERS);
    knit_writer_text(&writer, "version");
    knit_writer_text(&writer, KNIT_VERSION);
    knit_writer_member_uint(&writer, "pid", (uint64_t)getpid());
    knit_host_snapshot_put(&writer, snapshot);
    r = knit_writer_end(&writer);
    free(snapshot);
    return r;
}

static bool lift(void *arg, const char *task, bool *ret_lifted)
{
    const struct pool_lanes *lanes = arg;
    const struct knit_registry_task *found =
        knit_registry_find(knit_host_registry(lanes->pool->host), task, strlen(task));

    if (found == NULL)
        return false;
    *ret_lifted = knit_host_lift(lanes->pool->host, found->id);
    return true;
}

static int notify(
    void *arg, const char *task, struct knit_span params, bool waits, struct knit_error *ret_error)
{
    const struct pool_lanes *lanes = arg;

    if (lanes->pool->inline_tasks != NULL && lanes->pool->workers == 0)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a pool without workers takes no notifications: nobody would run them");
    return knit_pool_notify(lanes->pool, task, params, waits, ret_error);
}

static const struct knit_lanes_local local = {
    .has_stopped = has_stopped,
    .each_task = each_task,
    .put_stats = put_stats,
    .lift = lift,
    .notify = notify,
};

/* ---- as a source of lanes ---- */

/* The host's own: it never changes. */
static int fetch_registry(
    void *arg, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error)
{
    const struct pool_lanes *lanes = arg;

    (void)until_ns;
    (void)ret_error;
    *ret = (struct knit_registry *)knit_host_registry(lanes->pool->host);
    return KNIT_OK;
}

static void free_lanes(const struct knit_lanes_options *options, bool is_ours)
{
    struct pool_lanes *lanes = options->arg;

    if (is_ours)
        (void)knit_host_own_session_close(lanes->pool->host, lanes->own);
    else
        (void)knit_session_free(options->session);
    knit_pool_release(lanes->pool);
    free(lanes);
}

static const struct knit_lanes_source pool_source = {
    .fetch_registry = fetch_registry,
    .lends_registry = true,
    .free = free_lanes,
    .local = &local,
};

/* ---- opening ---- */

static int explain(int error, struct knit_error *ret_error)
{
    int code = error == KNIT_HOST_E_CLOSED     ? KNIT_SHUTDOWN
               : error == KNIT_HOST_E_SESSIONS ? KNIT_QUOTA
                                               : KNIT_INTERNAL;

    if (error == KNIT_HOST_E_CLOSED)
        return knit_error_make(ret_error, code, KNIT_STARTED_NO, "the pool is shut down");
    return knit_error_make(ret_error, code, KNIT_STARTED_NO, "no session can be opened: %s",
        error < 0 ? strerror(-error) : knit_host_reason(error));
}

static int open_lanes(struct pool_lanes *lanes, const struct knit_open_options *options,
    struct knit_lanes **ret, struct knit_error *ret_error)
{
    const struct knit_pool *pool = lanes->pool;
    const struct knit_session_options session = {
        .balancer = pool->balancer,
        .spin_us = options->no_spin        ? 0
                   : options->spin_us != 0 ? options->spin_us
                                           : SPIN_US_DEFAULT,
        .random_seed = knit_clock_ns() ^ (uint64_t)getpid() << 32,
    };
    struct knit_lanes_options made = {
        .source = &pool_source,
        .arg = lanes,
        .host_fd = -1,
        .slots = options->slots != 0 ? options->slots : KNIT_SLOTS_DEFAULT,
        .reply_arena_bytes = pool->arena_bytes,
        .argument_max = pool->call_max_bytes,
        .lacks_output = pool->is_threads,
    };
    int error;

    if (made.slots > KNIT_SLOTS_MAX)
        made.slots = KNIT_SLOTS_MAX;
    error = knit_host_own_session_open(pool->host, made.slots, &session, &lanes->own);
    if (error != 0)
        return explain(error, ret_error);
    made.session = lanes->own->session;
    made.bell_fd = lanes->own->bell_fd;
    *ret = knit_lanes_new(&made);
    if (*ret != NULL)
        return KNIT_OK;
    (void)knit_host_own_session_close(pool->host, lanes->own);
    return explain(-ENOMEM, ret_error);
}

/* ---- its inliner ---- */

static bool has_ended(void *arg)
{
    const struct knit_handles *handles = arg;

    return knit_lanes_is_closed(handles->lanes);
}

static int give_inliner(
    const struct knit_pool *pool, struct knit_handles *handles, struct knit_error *ret_error)
{
    const struct knit_inliner_options options = {.tasks = pool->inline_tasks,
        .marks = knit_host_marks(pool->host),
        .settings = pool->inliner,
        .workers = pool->workers,
        .places = handles->lanes->options.slots,
        .result_max_bytes = pool->call_max_bytes,
        .on_end = knit_handle_end_inline,
        .on_value = knit_handle_note_inline,
        .is_over = has_ended,
        .arg = handles};

    if (pool->inline_tasks == NULL)
        return KNIT_OK;
    return knit_inliner_new(&options, &handles->inliner) == 0 ? KNIT_OK
                                                              : explain(-ENOMEM, ret_error);
}

/* Holds the pool when it succeeds. */
static int give_lanes(struct knit_pool *pool, const struct knit_open_options *options,
    struct knit *k, struct knit_error *ret_error)
{
    struct pool_lanes *lanes = calloc(1, sizeof(*lanes));
    int code;

    if (lanes == NULL)
        return explain(-ENOMEM, ret_error);
    lanes->pool = pool;
    code = open_lanes(lanes, options, &k->handles.lanes, ret_error);
    if (code != KNIT_OK) {
        free(lanes);
        return code;
    }
    knit_pool_hold(pool);
    k->handles.has_local_lease = true;
    k->lease_check_ns = pool->max_backoff_ms * UINT64_C(1000000);
    code = knit_lanes_fetch_registry(k->handles.lanes, 0, ret_error);
    return code == KNIT_OK ? give_inliner(pool, &k->handles, ret_error) : code;
}

int knit_pool_session(struct knit_pool *pool, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error)
{
    static const struct knit_open_options defaults;
    struct knit *k;
    int code;

    *ret = NULL;
    if (options == NULL)
        options = &defaults;
    if (pool == NULL)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "the pool is NULL: it was not opened");
    code = knit_open_check(options, ret_error);
    if (code != KNIT_OK)
        return code;
    if (options->token != NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a token with a pool of this process, which asks nobody who calls");
    if (!knit_pool_is_ours(pool))
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "this pool belongs to the parent process; open one of your own after fork()");
    if (knit_thread_host() == knit_host_number(pool->host))
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a worker has no session of its own pool: it would wait for itself");
    k = knit_open_new(options);
    if (k == NULL)
        return explain(-ENOMEM, ret_error);
    code = give_lanes(pool, options, k, ret_error);
    if (code == KNIT_OK)
        *ret = k;
    else
        knit_open_free(k);
    return code;
}
