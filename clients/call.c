/* SPDX-License-Identifier: Apache-2.0 */
/* Calling: from C values or msgpack to a handle, and from a handle to C values or msgpack.
 *
 * The blocking forms are the asynchronous ones, one after the other, on a handle that the session
 * keeps until the next blocking call, so that its results can be read in place.
 */
#include "clients/client.h"

#include <errno.h>
#include <string.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/limits.h"

/* What a call is started with. */
struct start {
    const struct knit_call_options *options; /* NULL = none */
    const char *task;
    const char *signature; /* NULL = raw */
    struct knit_span params;
    uint32_t task_id; /* through lanes */
};

static const struct knit_call_options no_options = KNIT_CALL_OPTIONS_INIT;

/* ---- starting ---- */

static int refuse_large(struct knit_error *ret_error, struct knit_span params, uint64_t limit)
{
    knit_error_make(ret_error, KNIT_TOO_LARGE, KNIT_STARTED_NO,
        "the arguments are %zu bytes, %llu are allowed", params.len, (unsigned long long)limit);
    if (ret_error != NULL) {
        ret_error->limit = (int64_t)limit;
        ret_error->actual = (int64_t)params.len;
    }
    return KNIT_TOO_LARGE;
}

static bool is_by_lanes(const struct knit *k, const char *task)
{
    return k->local != NULL && strncmp(task, "$/", 2) != 0;
}

/* One attempt. */
static int try_start(struct knit_handle *handle, const struct start *start, uint64_t now_ns)
{
    struct knit *k = handle->k;
    struct knit_options options = knit_options();
    uint64_t queue_ns;

    options.timeout_ns = knit_options_ns(start->options->timeout_ms);
    options.queue_ns = queue_ns = knit_options_ns(start->options->queue_ms);
    if (!is_by_lanes(k, start->task))
        return knit_stream_start(k, handle, start->task, start->params, &options);

    /* A cell has one deadline, the last moment to start at: whichever of the two comes first. The
       end of the whole call is watched by the session. */
    uint64_t start_by_ns = handle->deadline_ns;
    if (queue_ns != KNIT_OPTION_NONE && (start_by_ns == 0 || queue_ns < start_by_ns - now_ns))
        start_by_ns = now_ns + queue_ns;
    return knit_local_start(k->local, handle, start->task_id, start->params, start_by_ns);
}

static int explain(
    struct knit *k, int code, const struct start *start, struct knit_error *ret_error)
{
    bool by_lanes = is_by_lanes(k, start->task);

    if (code == KNIT_TOO_LARGE)
        return refuse_large(ret_error, start->params,
            by_lanes ? knit_local_payload_max(k->local) : k->stream.request_max);
    if (code == KNIT_DISCONNECTED)
        return knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s",
            k->stream.fd < 0 ? k->stream.reason : "the pool has closed this session");
    return knit_error_make(ret_error, code, KNIT_STARTED_NO, "not enough memory to start the call");
}

/* Until the call is started, or its time is over. */
static int start_or_wait(struct knit_handle *handle, const struct start *start, uint64_t now_ns)
{
    struct knit *k = handle->k;
    enum knit_handle_via via = is_by_lanes(k, start->task) ? KNIT_VIA_LANES : KNIT_VIA_STREAM;

    for (;;) {
        int code = try_start(handle, start, now_ns);

        if (code != KNIT_WOULD_BLOCK)
            return code;
        knit_client_progress(k);
        code = try_start(handle, start, now_ns);
        if (code != KNIT_WOULD_BLOCK || k->would_block || k->is_calling_back)
            return code;
        if (handle->deadline_ns != 0 && knit_client_now_ns() >= handle->deadline_ns)
            return KNIT_TIMEOUT;
        knit_client_wait(k, via, NULL, handle->deadline_ns != 0 ? handle->deadline_ns : UINT64_MAX);
    }
}

/* The moment the caller stops waiting: by its own limit and, through lanes, by the task's, which
 * otherwise the daemon looks after. UINT64_MAX in *ret_timeout_ns: none. */
static int find_timeout(
    struct knit *k, struct start *start, uint64_t *ret_timeout_ns, struct knit_error *ret_error)
{
    uint64_t timeout_ns = knit_options_ns(start->options->timeout_ms);
    uint32_t task_ms = 0;
    int code;

    if (is_by_lanes(k, start->task)) {
        code = knit_local_find(k, start->task, &start->task_id, &task_ms, ret_error);
        if (code != KNIT_OK)
            return code;
    }
    if (task_ms != 0 && (uint64_t)task_ms * 1000000 < timeout_ns)
        timeout_ns = (uint64_t)task_ms * 1000000;
    *ret_timeout_ns = timeout_ns;
    return KNIT_OK;
}

static int start_call(
    struct knit *k, struct start *start, struct knit_handle **ret, struct knit_error *ret_error)
{
    uint64_t timeout_ns, now_ns = 0;
    struct knit_handle *handle;
    int code = find_timeout(k, start, &timeout_ns, ret_error);

    if (code != KNIT_OK)
        return code;
    handle = knit_handle_new(k);
    if (handle == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a call");
    handle->signature = start->signature;
    if (timeout_ns != KNIT_OPTION_NONE ||
        knit_options_ns(start->options->queue_ms) != KNIT_OPTION_NONE)
        now_ns = knit_client_now_ns();
    if (timeout_ns < UINT64_MAX - now_ns)
        handle->deadline_ns = now_ns + timeout_ns;

    code = timeout_ns == 0 ? KNIT_TIMEOUT : start_or_wait(handle, start, now_ns);
    if (code == KNIT_TIMEOUT) {
        knit_handle_fail(
            handle, code, KNIT_STARTED_NO, "the call's timeout had passed before it began");
        code = KNIT_OK;
    } else if (code != KNIT_OK) {
        knit_handle_drop(handle);
        return code == KNIT_WOULD_BLOCK ? code : explain(k, code, start, ret_error);
    } else if (handle->deadline_ns != 0) {
        knit_handle_set_deadline(handle, handle->deadline_ns);
    }
    *ret = handle;
    return code;
}

static int check_raw(struct knit_span params, struct knit_error *ret_error)
{
    struct knit_check_flaw flaw;
    struct knit_head head;
    int r;

    if (knit_head_read(params.bytes, params.len, &head) != 0 || head.type != KNIT_HEAD_ARRAY)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the arguments must be one msgpack array");
    r = knit_check_value(params.bytes, params.len, KNIT_DEPTH_MAX, &flaw);
    if (r == 0)
        return KNIT_OK;
    return knit_error_make(ret_error,
        r == KNIT_CHECK_E_TOO_DEEP ? KNIT_TOO_DEEP : KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "the arguments are wrong at byte %zu: %s", flaw.offset, flaw.reason);
}

static int explain_shape(const char *signature, int r, const struct knit_shape_flaw *flaw,
    bool is_result, struct knit_error *ret_error)
{
    enum knit_started started = is_result ? KNIT_STARTED_YES : KNIT_STARTED_NO;
    int code = is_result ? KNIT_BAD_RESULT : KNIT_BAD_ARGUMENT;
    const char *what = is_result ? "result" : "argument";

    if (r == KNIT_SHAPE_E_SYNTAX)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, started,
            "the signature \"%s\" is wrong at byte %zu: %s", signature, flaw->offset, flaw->reason);
    if (r == -ENOMEM)
        return knit_error_make(ret_error, KNIT_INTERNAL, started, "not enough memory");
    if (r < 0)
        return knit_error_make(ret_error, KNIT_TOO_LARGE, started, "the arguments are too large");
    if (flaw->expected != NULL)
        return knit_error_make(ret_error, code, started, "%s %zu: expected %s, got %s", what,
            flaw->index + 1, flaw->expected, flaw->actual);
    return knit_error_make(
        ret_error, code, started, "%s %zu: %s", what, flaw->index + 1, flaw->reason);
}

/* Arguments by signature into the session's scratch. */
static int encode(struct knit *k, const char *signature, struct knit_shape_values *values,
    struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw = {0};
    int r;

    knit_buffer_reset(&k->params);
    r = knit_shape_encode(signature, values, &k->params, &flaw);
    return r == 0 ? KNIT_OK : explain_shape(signature, r, &flaw, false, ret_error);
}

int knit_start(struct knit *k, const struct knit_call_options *options, struct knit_handle **ret,
    struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct start start = {options != NULL ? options : &no_options, task, signature, {NULL, 0}, 0};
    struct knit_shape_values values;
    int code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, signature);
    code = encode(k, signature, &values, ret_error);
    va_end(values.list);
    if (code != KNIT_OK)
        return code;
    start.params = knit_buffer_span(&k->params);
    return start_call(k, &start, ret, ret_error);
}

int knit_start_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const char *task, const void *params,
    size_t params_len)
{
    struct start start = {
        options != NULL ? options : &no_options, task, NULL, knit_span(params, params_len), 0};
    int code = knit_client_check(k, ret_error);

    if (code == KNIT_OK)
        code = check_raw(start.params, ret_error);
    return code == KNIT_OK ? start_call(k, &start, ret, ret_error) : code;
}

/* ---- outcomes ---- */

int knit_await(struct knit_handle *handle, double wait_ms, struct knit_error *ret_error)
{
    struct knit *k = handle->k;
    struct knit_span result;
    uint64_t until_ns = UINT64_MAX;
    int code;

    if (handle->state == KNIT_HANDLE_DONE)
        return knit_handle_outcome(handle, ret_error, &result);
    if (*k->alive == 0)
        return knit_client_check(k, ret_error);
    if (k->is_calling_back && wait_ms == 0)
        return KNIT_PENDING;
    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN, "a callback must not wait");
    if (knit_options_ns(wait_ms) != KNIT_OPTION_NONE)
        until_ns = knit_client_now_ns() + knit_options_ns(wait_ms);
    (void)knit_client_await(handle, until_ns);
    /* Its own callback may free it, so the outcome is read before; the error's data stays readable
       as long as the callbacks report no other error. */
    code = knit_handle_outcome(handle, ret_error, &result);
    knit_client_call_back(k);
    knit_watch_update(k);
    return code;
}

static int decode(struct knit_handle *handle, const char *signature,
    struct knit_shape_values *values, struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw = {0};
    struct knit_span result;
    int code = knit_handle_outcome(handle, ret_error, &result), r;

    if (code != KNIT_OK)
        return code;
    r = knit_shape_decode(signature, result, values, &handle->lent, &flaw);
    return r == 0 ? KNIT_OK : explain_shape(signature, r, &flaw, true, ret_error);
}

int knit_results(struct knit_handle *handle, struct knit_error *ret_error, ...)
{
    struct knit_shape_values values;
    int code;

    if (handle->signature == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN,
            "the call was started without a signature: use knit_result_raw()");
    va_start(values.list, ret_error);
    code = decode(handle, handle->signature, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_result_raw(struct knit_handle *handle, struct knit_error *ret_error,
    const void **ret_result, size_t *ret_len)
{
    struct knit_span result;
    int code = knit_handle_outcome(handle, ret_error, &result);

    if (code == KNIT_OK) {
        *ret_result = result.bytes;
        *ret_len = result.len;
    }
    return code;
}

void knit_on_done(
    struct knit_handle *handle, void (*on_done)(struct knit_handle *handle, void *user), void *user)
{
    struct knit *k = handle->k;

    handle->on_done = on_done;
    handle->user = user;
    if (handle->state != KNIT_HANDLE_DONE)
        return;
    if (handle->is_ready && on_done == NULL) {
        TAILQ_REMOVE(&k->ready, handle, entry);
        handle->is_ready = false;
    } else if (!handle->is_ready && on_done != NULL) {
        TAILQ_INSERT_TAIL(&k->ready, handle, entry);
        handle->is_ready = true;
        if (*k->alive != 0)
            knit_watch_update(k);
    }
}

void knit_cancel(struct knit_handle *handle)
{
    struct knit *k = handle->k;

    if (handle->state != KNIT_HANDLE_WAITING || handle->is_cancelled || *k->alive == 0)
        return;
    handle->is_cancelled = true;
    if (handle->via == KNIT_VIA_LANES) {
        knit_local_cancel(k->local, handle);
    } else {
        knit_stream_cancel(k, handle);
        knit_stream_flush(k);
        knit_watch_update(k);
    }
}

struct knit_handle *knit_free(struct knit_handle *handle)
{
    if (handle != NULL)
        knit_handle_drop(handle);
    return NULL;
}

struct knit *knit_handle_session(struct knit_handle *handle)
{
    return handle->k;
}

/* ---- blocking ---- */

/* Start and wait; the handle, with its outcome, becomes the session's last. */
static int run(struct knit *k, struct start *start, struct knit_error *ret_error)
{
    int code;

    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "a callback must not wait");
    k->last = knit_free(k->last);
    code = start_call(k, start, &k->last, ret_error);
    if (code == KNIT_WOULD_BLOCK)
        return knit_error_make(ret_error, KNIT_OVERLOADED, KNIT_STARTED_NO,
            "there is no room for another call until one in flight has ended");
    if (code != KNIT_OK)
        return code;
    (void)knit_client_await(k->last, UINT64_MAX);
    knit_client_call_back(k);
    knit_watch_update(k);
    return KNIT_OK;
}

static int call_by_signature(struct knit *k, struct start *start, struct knit_error *ret_error,
    struct knit_shape_values *values)
{
    int code = knit_client_check(k, ret_error);

    if (code == KNIT_OK)
        code = encode(k, start->signature, values, ret_error);
    if (code != KNIT_OK)
        return code;
    start->params = knit_buffer_span(&k->params);
    code = run(k, start, ret_error);
    return code == KNIT_OK ? decode(k->last, start->signature, values, ret_error) : code;
}

int knit_call(
    struct knit *k, struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct start start = {&no_options, task, signature, {NULL, 0}, 0};
    struct knit_shape_values values;
    int code;

    va_start(values.list, signature);
    code = call_by_signature(k, &start, ret_error, &values);
    va_end(values.list);
    return code;
}

int knit_call_with(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct start start = {options != NULL ? options : &no_options, task, signature, {NULL, 0}, 0};
    struct knit_shape_values values;
    int code;

    va_start(values.list, signature);
    code = call_by_signature(k, &start, ret_error, &values);
    va_end(values.list);
    return code;
}

int knit_call_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const void *params, size_t params_len,
    const void **ret_result, size_t *ret_len)
{
    struct start start = {
        options != NULL ? options : &no_options, task, NULL, knit_span(params, params_len), 0};
    int code = knit_client_check(k, ret_error);

    if (code == KNIT_OK)
        code = check_raw(start.params, ret_error);
    if (code == KNIT_OK)
        code = run(k, &start, ret_error);
    return code == KNIT_OK ? knit_result_raw(k->last, ret_error, ret_result, ret_len) : code;
}
