/* SPDX-License-Identifier: Apache-2.0 */
/* Which way a call goes, when its time is over, and where it waits for room. The usual call through
 * lanes needs none of this: call.c starts it by itself.
 */
#include "clients/lib/start.h"

#include <string.h>

#include "clients/lib/choose.h"
#include "clients/lib/error.h"
#include "clients/lib/handle_inline.h"
#include "clients/lib/late.h"
#include "clients/lib/lost.h"
#include "clients/lib/typed.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "proto/limits.h"
#include "proto/signature.h"
#include "proto/text.h"

/* Over a stream, where it is not known how long the tasks take. */
enum { RETRY_MS = 10 };

/* setting: the daemon's, which decided. */
static int refuse_large(struct knit_error *ret_error, const char *what, uint64_t bytes,
    uint64_t limit, const char *setting)
{
    knit_error_make(ret_error, KNIT_TOO_LARGE, KNIT_STARTED_NO,
        "the %s %llu bytes, %llu are allowed (%s)", what, (unsigned long long)bytes,
        (unsigned long long)limit, setting);
    if (ret_error != NULL) {
        ret_error->limit = (int64_t)limit;
        ret_error->actual = (int64_t)bytes;
    }
    return KNIT_TOO_LARGE;
}

/* Over a stream. */
static struct knit_options stream_options(
    const struct knit_handle *handle, const struct knit_start *start)
{
    struct knit_options options = knit_options();

    options.timeout_ns = knit_options_ns(start->options->timeout_ms);
    options.queue_ns = start->queue_ns;
    if (start->options->queue_max != 0)
        options.queue_max = start->options->queue_max;
    if (start->substitute != NULL)
        options.substitute = *start->substitute;
    options.output = (handle->flags & KNIT_HANDLE_OUTPUT) != 0;
    options.progress = (handle->flags & KNIT_HANDLE_WATCHED) != 0;
    options.priority = (uint8_t)start->options->priority;
    /* As the daemon reads that number, by which none is meant here. */
    if (start->options->affinity != 0)
        options.affinity =
            start->options->affinity != KNIT_OPTION_NONE ? start->options->affinity : 0;
    if (start->options->key != NULL)
        options.key = knit_span_text(start->options->key);
    if ((handle->flags & KNIT_HANDLE_TRACED) != 0)
        options.trace = knit_span_text(handle->trace);
    return options;
}

static __attribute__((noinline)) int start_with_options(
    struct knit_handle *handle, const struct knit_start *start)
{
    struct knit_options options = stream_options(handle, start);
    int code = knit_handle_start_on_stream(handle, start->prepared->task, start->params, &options);

    if (code == KNIT_OK && options.key.bytes != NULL)
        knit_handles_note_key(handle->handles, options.key);
    return code;
}

size_t knit_arguments_max(struct knit *k)
{
    size_t least;

    if (!knit_client_is_ours(k))
        return 0;
    if (k->handles.lanes != NULL)
        return knit_lanes_argument_max(k->handles.lanes);
    least = k->handles.stream->arguments_max;
    for (const struct knit_stream *at = k->handles.several; at != NULL; at = at->next)
        least = at->arguments_max < least ? at->arguments_max : least;
    return least;
}

static bool has_key(const struct knit_start *start)
{
    return start->options != NULL && start->options->key != NULL;
}

/* The way that was chosen may be gone by now, and another one there. */
static inline bool is_way_there(const struct knit_handle *handle, const struct knit_start *start)
{
    const struct knit_lanes *lanes = handle->handles->lanes;

    if (handle->handles->returns && knit_handles_is_leaving(handle->handles))
        return start->prepared->is_of_protocol;
    if (start->is_by_lanes)
        return lanes != NULL && (start->prepared->age == knit_lanes_age(lanes) ||
                                    handle->handles->session->link.step == NULL);
    return lanes == NULL || start->prepared->is_of_protocol || start->is_asked || has_key(start);
}

/* Of several connections, the one for this call. */
static __attribute__((noinline)) void choose(struct knit *k, const struct knit_start *start)
{
    if (has_key(start))
        knit_handles_choose_by_key(&k->handles, knit_span_text(start->options->key));
    else if (start->promise == NULL || !knit_handles_choose_for(&k->handles, start->promise))
        knit_handles_choose(&k->handles, NULL);
}

/* And not one that has ended meanwhile. */
static __attribute__((noinline)) void choose_living(struct knit *k, const struct knit_start *start)
{
    const struct knit_stream *stream;
    uint32_t left = KNIT_STREAMS_MAX;

    do {
        choose(k, start);
        stream = k->handles.stream;
        knit_stream_look(k->handles.stream);
    } while (--left > 0 && !knit_stream_takes_calls(stream));
}

/* One attempt. */
static inline int try_start(struct knit_handle *handle, const struct knit_start *start)
{
    if (!start->is_by_lanes)
        knit_stream_look(handle->handles->stream);
    if (!is_way_there(handle, start))
        return KNIT_DISCONNECTED;
    if (start->is_by_lanes)
        return knit_handle_start_here(
            handle, start->prepared->task_id, start->params, start->queue_ns == 0);
    if (start->options != NULL)
        return start_with_options(handle, start);
    return knit_handle_start_on_stream(handle, start->prepared->task, start->params, NULL);
}

static int explain(
    struct knit *k, int code, const struct knit_start *start, struct knit_error *ret_error)
{
    const struct knit_stream *stream = k->handles.stream;
    const char *task = start->prepared->task;

    if ((code == KNIT_DRAINING || code == KNIT_DISCONNECTED) &&
        knit_lanes_local(k->handles.lanes) != NULL)
        return knit_client_refuse_local(start->is_by_lanes ? NULL : task, ret_error);
    if (code == KNIT_TOO_LARGE && start->is_by_lanes)
        return refuse_large(ret_error, "arguments are", start->params.len,
            knit_lanes_argument_max(k->handles.lanes), "call_max_bytes");
    if (code == KNIT_TOO_LARGE && start->params.len > stream->arguments_max &&
        stream->arguments_max < stream->request_max)
        return refuse_large(
            ret_error, "arguments are", start->params.len, stream->arguments_max, "call_max_bytes");
    if (code == KNIT_TOO_LARGE)
        return refuse_large(ret_error, "message is", stream->refused_bytes, stream->request_max,
            "message_max_bytes");
    if (code == KNIT_DRAINING)
        return knit_error_make(ret_error, code, KNIT_STARTED_NO, "the server is shutting down");
    if (code == KNIT_DISCONNECTED)
        return knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s",
            !knit_handles_has_lease(&k->handles) ? k->handles.stream->reason
                                                 : "the pool has closed this session");
    if (!knit_text_is_utf8(task, strlen(task)))
        return knit_error_make(ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO,
            "there is no task '%s': names of tasks are UTF-8", task);
    return knit_error_make(ret_error, code, KNIT_STARTED_NO, "not enough memory to start the call");
}

/* There was no room: wait and try again until the call is started or its time is over. */
static __attribute__((noinline)) int wait_and_start(
    struct knit_handle *handle, const struct knit_start *start)
{
    struct knit *k = handle->handles->session;
    enum knit_handle_via via = start->is_by_lanes ? KNIT_VIA_LANES : KNIT_VIA_STREAM;
    uint64_t until_ns = handle->deadline_ns != 0 ? handle->deadline_ns : UINT64_MAX;

    if (handle->start_by_ns < until_ns)
        until_ns = handle->start_by_ns;
    for (;;) {
        int code;

        knit_client_progress(k);
        if (k->handles.several != NULL)
            choose(k, start);
        code = try_start(handle, start);
        /* A slot whose call was settled early is free again once a worker has answered it. Without
           a pool that never happens, so waiting for room would not end. */
        if (code == KNIT_WOULD_BLOCK && !knit_handles_has_lease(&k->handles))
            return KNIT_DISCONNECTED;
        if (code != KNIT_WOULD_BLOCK || k->would_block || k->is_calling_back)
            return code;
        if (until_ns != UINT64_MAX && knit_clock_ns() >= until_ns)
            return KNIT_TIMEOUT;
        knit_client_wait(k, via, NULL, until_ns);
    }
}

static bool may_go_inline(const struct knit *k, uint32_t task)
{
    return k->handles.inliner != NULL && knit_inliner_has(k->handles.inliner, task);
}

/* The task's number and timeout, which are the session's registry's. */
static __attribute__((noinline)) int resolve(
    struct knit *k, struct knit_prepared *prepared, struct knit_error *ret_error)
{
    struct knit_lanes *lanes = k->handles.lanes;
    const struct knit_registry_task *task;
    int code = knit_lanes_find(lanes, prepared->task, k->admin_ms, &task, ret_error);

    if (code == KNIT_OK && prepared->typed != NULL)
        code = knit_typed_compare_on_lanes(k, prepared, &task, ret_error);
    if (code != KNIT_OK)
        return code;
    prepared->task_id = task->id;
    prepared->head = knit_lanes_head(lanes, task->id);
    prepared->timeout_ns =
        task->timeout_ms != 0 ? (uint64_t)task->timeout_ms * 1000000 : KNIT_OPTION_NONE;
    prepared->on_timeout = task->on_timeout;
    prepared->age = knit_lanes_age(lanes);
    prepared->usual_age = task->timeout_ms != 0 || may_go_inline(k, task->id) ||
                                  k->handles.promises.retries.attempts != 0
                              ? 0
                              : prepared->age;
    return KNIT_OK;
}

/* A task that is not listed may be one that this caller may not run, which the daemon says. */
static __attribute__((cold)) bool is_said_by_daemon(
    const struct knit *k, const struct knit_prepared *prepared)
{
    return k->handles.lanes != NULL && knit_lanes_local(k->handles.lanes) == NULL &&
           prepared->typed == NULL;
}

static __attribute__((cold)) int refuse_output(struct knit_error *ret_error)
{
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "option output: tasks on threads of the program print where it prints");
}

/* A server that does not know keys would run the call each time. */
static __attribute__((noinline)) int check_key(
    const struct knit *k, const char *key, struct knit_error *ret_error)
{
    const size_t len = strnlen(key, KNIT_KEY_BYTES_MAX + 1);

    if (len == 0 || len > KNIT_KEY_BYTES_MAX)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "option key has 1 to %u bytes", KNIT_KEY_BYTES_MAX);
    if (!k->handles.stream->takes_keys)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "option key: %s",
            knit_lanes_local(k->handles.lanes) != NULL ? "a pool of this process has none"
                                                       : "the server does not know keys");
    return KNIT_OK;
}

/* Which way the call goes, and when the caller stops waiting: by its own limit and, through lanes,
 * by the task's as well. On a stream the daemon applies the task's limit. */
static int choose_way(struct knit *k, struct knit_start *start, struct knit_error *ret_error)
{
    struct knit_prepared *prepared = start->prepared;
    int code = KNIT_OK;

    start->timeout_ns = start->queue_ns = KNIT_OPTION_NONE;
    if (start->options != NULL) {
        start->timeout_ns = knit_options_ns(start->options->timeout_ms);
        start->queue_ns = knit_options_ns(start->options->queue_ms);
        if (start->options->priority > KNIT_PRIORITY_MAX)
            return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
                "option priority is %u: 0 (urgent), 1 (normal) and 2 (background) are allowed",
                start->options->priority);
        if (start->options->output && k->handles.lanes != NULL &&
            k->handles.lanes->options.lacks_output)
            return refuse_output(ret_error);
        if (start->options->key != NULL)
            code = check_key(k, start->options->key, ret_error);
        if (code != KNIT_OK)
            return code;
    }
    start->is_asked = false;
    start->is_by_lanes = k->handles.lanes != NULL && !prepared->is_of_protocol && !has_key(start);
    if (!start->is_by_lanes)
        return knit_typed_is_compared(k, prepared)
                   ? KNIT_OK
                   : knit_typed_compare_on_stream(k, prepared, ret_error);
    if (prepared->age != knit_lanes_age(k->handles.lanes))
        code = resolve(k, prepared, ret_error);
    /* Or lost while it was asked: the call waits for other lanes. */
    start->is_asked = code == KNIT_UNKNOWN_TASK && is_said_by_daemon(k, prepared);
    if (start->is_asked ||
        (code == KNIT_DISCONNECTED && k->handles.lanes == NULL && knit_link_is_open(&k->link))) {
        start->is_by_lanes = false;
        return KNIT_OK;
    }
    if (prepared->timeout_ns < start->timeout_ns)
        start->timeout_ns = prepared->timeout_ns;
    return code;
}

static __attribute__((cold)) int explain_raw(
    int r, const struct knit_signature_mismatch *why, struct knit_error *ret_error)
{
    char text[128];

    (void)knit_signature_explain(why, false, text, sizeof(text));
    return knit_error_make(ret_error,
        r == KNIT_SIGNATURE_E_TOO_DEEP ? KNIT_TOO_DEEP : KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "%s",
        text);
}

/* As a worker checks them, but for types, and in its words. */
KNIT_ALWAYS_INLINE int check_raw(struct knit_span params, struct knit_error *ret_error)
{
    struct knit_signature_mismatch why;
    int r = knit_signature_check(NULL, params.bytes, params.len, NULL, &why);

    return r == 0 ? KNIT_OK : explain_raw(r, &why, ret_error);
}

/* What comes at the end of the timeout: by the caller, else by the task whose timeout it is, which
 * for calls on a stream the daemon knows. It lies in *to for as long as the call is being started.
 */
static __attribute__((noinline)) int read_late(
    struct knit_start *start, struct knit_substitute *to, struct knit_error *ret_error)
{
    const struct knit_prepared *prepared = start->prepared;
    const char *reason;
    int code;

    if (start->options != NULL && start->options->on_timeout != NULL) {
        code = knit_late_read(start->options->on_timeout, prepared->shape, to, ret_error);
        if (code != KNIT_OK || to->kind != KNIT_SUBSTITUTE_NONE) {
            start->substitute = to;
            return code;
        }
    }
    if (start->is_by_lanes && prepared->on_timeout.bytes != NULL &&
        start->timeout_ns == prepared->timeout_ns &&
        knit_substitute_decode(prepared->on_timeout, to, NULL, &reason) == 0)
        start->substitute = to;
    return KNIT_OK;
}

static bool has_late(const struct knit_start *start)
{
    return (start->options != NULL && start->options->on_timeout != NULL) ||
           start->prepared->on_timeout.bytes != NULL;
}

/* What the handle has of the options and of the timeout's end. False: out of memory. */
static bool take_options(struct knit_handle *handle, const struct knit_start *start)
{
    struct knit_trace trace;

    if (start->substitute != NULL && knit_handle_keep_late(handle, start->substitute) != 0)
        return false;
    if (start->options == NULL)
        return true;
    if (start->options->output)
        handle->flags |= KNIT_HANDLE_OUTPUT;
    if (start->options->priority == 0)
        handle->flags |= KNIT_HANDLE_URGENT;
    else if (start->options->priority == KNIT_PRIORITY_MAX)
        handle->flags |= KNIT_HANDLE_BACKGROUND;
    if (start->options->affinity != 0) {
        handle->flags |= KNIT_HANDLE_PINNED;
        handle->affinity = start->options->affinity;
    }
    if (start->options->trace != NULL &&
        knit_trace_parse(knit_span_text(start->options->trace), &trace)) {
        handle->flags |= KNIT_HANDLE_TRACED;
        knit_trace_format(&trace, handle->trace);
    }
    return !start->options->progress || knit_handle_watch(handle);
}

/* For the call that is being started. NULL: out of memory. */
static struct knit_handle *new_handle(struct knit *k, const struct knit_start *start)
{
    struct knit_handle *handle = knit_handle_new(&k->handles);

    if (handle == NULL)
        return NULL;
    handle->prepared = start->prepared;
    start->prepared->references++;
    handle->deadline_ns = 0;
    handle->start_by_ns = UINT64_MAX;
    if (!take_options(handle, start)) {
        knit_handle_drop(handle);
        return NULL;
    }
    return handle;
}

/* Whether the call's own limit refuses it. On a stream the daemon says so, which knows better how
 * many there are; but not when a call comes to it that waits first. */
static bool is_beyond(struct knit *k, const struct knit_start *start)
{
    uint32_t most = start->options->queue_max;

    if (knit_handles_in_flight(&k->handles) < most)
        return false;
    k->drain_below = most / 2 + most % 2;
    return k->handles.lanes != NULL || start->promise != NULL ||
           !knit_handles_has_lease(&k->handles);
}

/* The time of a call was over before it was anywhere. */
static void time_out_unstarted(struct knit_handle *handle)
{
    const char *reason = "the call's timeout had passed before it began";

    if (handle->deadline_ns != 0 && handle->deadline_ns <= handle->start_by_ns)
        knit_handle_time_out(handle, KNIT_STARTED_NO, reason);
    else
        knit_handle_fail(handle, KNIT_TIMEOUT, KNIT_STARTED_NO, reason);
}

/* Some arguments are results of other calls. True: they are there, and the call can be started.
 * False: it waits for them, here or at the server, or has ended. */
static bool take_results(struct knit_handle *handle, struct knit_start *start)
{
    struct knit_promise *promise = start->promise;
    bool is_sent;

    if (!knit_promise_is_open(promise)) {
        if (!knit_promise_fill(promise, handle))
            return false;
        start->params = knit_buffer_span(&promise->params);
        if (!start->is_by_lanes)
            handle->start_by_ns = UINT64_MAX;
        return true;
    }
    if (start->queue_ns == 0) {
        knit_handle_fail(
            handle, KNIT_OVERLOADED, KNIT_STARTED_NO, "an argument of the call is not there yet");
        return false;
    }
    if (!start->is_by_lanes && start->options != NULL) {
        const struct knit_options options = stream_options(handle, start);

        if (!knit_promise_take_options(promise, &options)) {
            knit_handle_fail(handle, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory to wait");
            return false;
        }
    }
    start->promise = NULL;
    is_sent = !start->is_by_lanes && knit_promise_refer(promise, handle);
    if (handle->deadline_ns != 0 || handle->start_by_ns != UINT64_MAX)
        knit_handle_set_deadline(handle, handle->deadline_ns);
    if (!is_sent)
        knit_promise_wait(promise, handle);
    return false;
}

/* There is no connection: the call waits for another one, if it may. */
static __attribute__((noinline)) bool shelve(
    struct knit_handle *handle, const struct knit_start *start)
{
    struct knit *k = handle->handles->session;
    struct knit_options options = knit_options();

    if (!knit_link_is_open(&k->link) || start->queue_ns == 0)
        return false;
    /* The pool has closed this session alone, or the connection has not been looked at yet. */
    if (k->handles.lanes != NULL && knit_lanes_is_closed(k->handles.lanes))
        knit_stream_break(k->handles.stream, "the pool has closed this session");
    knit_client_progress(k);
    if (start->options != NULL)
        options = stream_options(handle, start);
    options.queue_ns = start->queue_ns;
    return k->handles.returns && knit_promise_shelve(handle, start->params, &options);
}

/* Whether its task is marked so, as far as that can be known. */
static bool is_idempotent(struct knit *k, const struct knit_start *start)
{
    const char *name = start->prepared->task;
    const struct knit_registry *registry;
    const struct knit_registry_task *task = NULL;

    if (k->handles.lanes != NULL)
        task = knit_lanes_look_up(k->handles.lanes, name);
    else if ((registry = knit_typed_tasks(k)) != NULL)
        task = knit_registry_find(registry, name, strlen(name));
    return task != NULL && (task->flags & KNIT_TASK_IDEMPOTENT) != 0;
}

/* In a session that makes calls again. */
static __attribute__((noinline)) void keep_for_retry(
    struct knit_handle *handle, const struct knit_start *start, uint64_t now_ns)
{
    struct knit_options options = knit_options();

    if (start->prepared->is_of_protocol || start->promise != NULL || start->queue_ns == 0)
        return;
    if (start->options != NULL)
        options = stream_options(handle, start);
    knit_retry_keep(handle, start->params, &options,
        start->queue_ns < UINT64_MAX - now_ns ? now_ns + start->queue_ns : UINT64_MAX,
        is_idempotent(handle->handles->session, start));
}

static int begin(struct knit *k, struct knit_start *start, struct knit_handle **ret,
    struct knit_error *ret_error)
{
    uint64_t now_ns = 0;
    struct knit_substitute substitute;
    struct knit_handle *handle;
    int code = KNIT_OK;

    if (k->handles.several != NULL)
        choose_living(k, start);
    /* On a stream they become a part of a message, and a limit may end the call before a worker
     * sees it. */
    if (start->prepared->shape == NULL)
        code = check_raw(start->params, ret_error);
    if (code == KNIT_OK && start->options != NULL)
        code = knit_error_check_reserved("knit_call_options", start->options->reserved,
            sizeof(start->options->reserved) / sizeof(start->options->reserved[0]), ret_error);
    if (code == KNIT_OK)
        code = choose_way(k, start, ret_error);
    if (code == KNIT_OK && has_late(start))
        code = read_late(start, &substitute, ret_error);
    if (code != KNIT_OK)
        return code;
    handle = new_handle(k, start);
    if (handle == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a call");
    if (start->timeout_ns != KNIT_OPTION_NONE || start->queue_ns != KNIT_OPTION_NONE)
        now_ns = knit_clock_ns();
    if (start->timeout_ns < UINT64_MAX - now_ns)
        handle->deadline_ns = now_ns + start->timeout_ns;
    if ((start->is_by_lanes || start->promise != NULL) && start->queue_ns < UINT64_MAX - now_ns)
        handle->start_by_ns = now_ns + (start->queue_ns != 0 ? start->queue_ns : KNIT_AT_ONCE_NS);
    if (k->handles.promises.retries.attempts != 0)
        keep_for_retry(handle, start, now_ns);

    if (start->options != NULL && start->options->queue_max != 0 && is_beyond(k, start)) {
        knit_handle_overload(handle, start->options->queue_max,
            start->is_by_lanes ? knit_lanes_retry_ms(k->handles.lanes, start->prepared->task_id)
                               : RETRY_MS);
        *ret = handle;
        return KNIT_OK;
    }
    if (start->promise != NULL && start->timeout_ns != 0 && !take_results(handle, start)) {
        *ret = handle;
        return KNIT_OK;
    }
    code = start->timeout_ns == 0 ? KNIT_TIMEOUT : try_start(handle, start);
    if (code == KNIT_WOULD_BLOCK && start->queue_ns == 0)
        code = KNIT_OVERLOADED;
    if (code == KNIT_WOULD_BLOCK)
        code = wait_and_start(handle, start);
    if (code == KNIT_DRAINING && k->handles.returns)
        k->handles.is_leaving = true;
    if ((code == KNIT_DISCONNECTED || code == KNIT_DRAINING) && shelve(handle, start))
        code = KNIT_OK;
    if (code != KNIT_OK && code != KNIT_TIMEOUT && code != KNIT_OVERLOADED) {
        knit_handle_drop(handle);
        return code == KNIT_WOULD_BLOCK ? code : explain(k, code, start, ret_error);
    }
    if (code == KNIT_OVERLOADED)
        knit_handle_fail(
            handle, code, KNIT_STARTED_NO, "no worker is free to start the call at once");
    else if (code == KNIT_TIMEOUT)
        time_out_unstarted(handle);
    else if (handle->deadline_ns != 0 || handle->start_by_ns != UINT64_MAX)
        knit_handle_set_deadline(handle, handle->deadline_ns);
    *ret = handle;
    return KNIT_OK;
}

int knit_begin_call(struct knit *k, struct knit_start *start, struct knit_handle **ret,
    struct knit_error *ret_error)
{
    int code = begin(k, start, ret, ret_error);

    knit_promise_free(start->promise);
    start->promise = NULL;
    return code;
}

static int try_notify(struct knit *k, const struct knit_start *start)
{
    if (k->handles.several != NULL)
        knit_handles_choose(&k->handles, NULL);
    return knit_stream_notify_task(k->handles.stream, start->prepared->task, start->params);
}

int knit_begin_notification(
    struct knit *k, const struct knit_start *start, struct knit_error *ret_error)
{
    const struct knit_lanes_local *local = knit_lanes_local(k->handles.lanes);
    const struct knit_prepared *prepared = start->prepared;
    int code = KNIT_OK;

    if (prepared->is_of_protocol)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "%.128s is a method of the protocol, no task", prepared->task);
    if (prepared->shape == NULL)
        code = check_raw(start->params, ret_error);
    if (code != KNIT_OK)
        return code;
    if (local != NULL)
        return local->notify(knit_lanes_local_arg(k->handles.lanes), prepared->task, start->params,
            !k->would_block && !k->is_calling_back, ret_error);
    while ((code = try_notify(k, start)) == KNIT_WOULD_BLOCK && !k->would_block &&
           !k->is_calling_back) {
        /* Nothing may be left to wait for once the progress is made. */
        knit_client_wait(k, KNIT_VIA_STREAM, NULL, UINT64_MAX);
        knit_client_progress(k);
    }
    /* What waits for lanes alone does not look at the stream. */
    if (code == KNIT_OK && k->handles.lanes != NULL)
        knit_stream_flush(k->handles.stream);
    knit_client_update_poll_fd(k);
    return code == KNIT_OK || code == KNIT_WOULD_BLOCK ? code : explain(k, code, start, ret_error);
}
