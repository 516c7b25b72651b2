/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions of calls: C values or msgpack to a handle, and a handle to C values. What
 * else is done with a handle is in outcome.c.
 *
 * Every call is one of a prepared call (prepared.h). Those that name their task find theirs among
 * the ones that the session keeps. A blocking call starts a handle and waits for it. The session
 * keeps that handle until the next blocking call, so that the results can be read in place.
 */
#include "clients/lib/call.h"

#include <errno.h>
#include <stdio.h>

#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "clients/lib/start.h"

/* ---- starting ---- */

/* The usual call: through lanes, without options and timeouts, with room for it. Raw arguments go
 * to the worker as they are, since it checks them all. */
KNIT_ALWAYS_INLINE bool try_begin(struct knit *k, struct knit_prepared *prepared,
    struct knit_span params, struct knit_handle **ret)
{
    struct knit_lanes *lanes = k->handles.lanes;
    struct knit_handle *handle = k->handles.spare;

    /* One that has the age of these lanes is not of the protocol. */
    if (lanes == NULL || handle == NULL || prepared->usual_age != knit_lanes_age(lanes) ||
        !knit_handle_try_start_on_lanes(handle, lanes, prepared->head, params))
        return false;
    k->handles.spare = handle->next_spare;
    handle->prepared = prepared;
    prepared->references++;
    *ret = handle;
    return true;
}

/* A caller whose call is refused does not flush. But looking for room or for the task's number may
 * have settled other calls, whose callbacks are due at the next dispatch: the descriptor must say
 * so. */
static int start_call(struct knit *k, struct knit_start *start, struct knit_handle **ret,
    struct knit_error *ret_error)
{
    int code;

    if (start->options == NULL && try_begin(k, start->prepared, start->params, ret))
        return KNIT_OK;
    code = knit_begin_call(k, start, ret, ret_error);
    if (code != KNIT_OK)
        knit_client_update_poll_fd(k);
    return code;
}

int knit_call_explain(
    int r, const struct knit_shape_flaw *flaw, bool is_result, struct knit_error *ret_error)
{
    enum knit_started started = is_result ? KNIT_STARTED_YES : KNIT_STARTED_NO;
    int code = is_result ? KNIT_BAD_RESULT : KNIT_BAD_ARGUMENT;
    const char *what = is_result ? "result" : "argument";
    char name[80] = "";

    if (r == -ENOMEM)
        return knit_error_make(ret_error, KNIT_INTERNAL, started, "not enough memory");
    if (r < 0)
        return knit_error_make(ret_error, KNIT_TOO_LARGE, started, "the arguments are too large");
    if (flaw->is_too_deep)
        code = KNIT_TOO_DEEP;
    if (flaw->name != NULL)
        (void)snprintf(name, sizeof(name), " (%s)", flaw->name);
    if (flaw->expected != NULL)
        return knit_error_make(ret_error, code, started, "%s %zu%s: expected %s, got %s", what,
            flaw->index + 1, name, flaw->expected,
            flaw->actual != NULL ? flaw->actual : flaw->number);
    return knit_error_make(
        ret_error, code, started, "%s %zu%s: %s", what, flaw->index + 1, name, flaw->reason);
}

/* The session can call, and has the prepared call of these texts. signature: NULL = raw. */
KNIT_ALWAYS_INLINE int find(struct knit *k, const char *task, const char *signature,
    struct knit_prepared **ret, struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw;
    int r, code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    r = knit_prepareds_find(&k->prepareds, task, signature, ret, &flaw);
    return r == 0 ? KNIT_OK : knit_client_refuse_signature(signature, r, &flaw, ret_error);
}

__attribute__((cold)) int knit_call_refuse_freed(struct knit_error *ret_error)
{
    return knit_error_make(
        ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "the prepared call was freed before");
}

/* The same as encode(), for all arguments. */
static __attribute__((noinline)) int encode_long(struct knit *k, const struct knit_shape *shape,
    struct knit_shape_values *values, struct knit_span *ret_params, struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw;
    int r;

    va_end(values->list);
    va_copy(values->list, values->first);
    if (shape == NULL) {
        ret_params->bytes = va_arg(values->list, const void *);
        ret_params->len = va_arg(values->list, size_t);
        return KNIT_OK;
    }
    knit_buffer_reset(&k->params);
    r = knit_shape_encode(shape, values, &k->params, &flaw);
    *ret_params = knit_buffer_span(&k->params);
    return r == 0 ? KNIT_OK : knit_call_explain(r, &flaw, false, ret_error);
}

/* The arguments, in the session's scratch; raw ones stay where they are. */
KNIT_ALWAYS_INLINE int encode(struct knit *k, const struct knit_shape *shape,
    struct knit_shape_values *values, struct knit_span *ret_params, struct knit_error *ret_error)
{
    size_t len = 0;

    if (shape != NULL && shape->is_short)
        len = knit_shape_encode_short(shape, values, (uint8_t *)k->short_params);
    *ret_params = knit_span(k->short_params, len);
    return len != 0 ? KNIT_OK : encode_long(k, shape, values, ret_params, ret_error);
}

/* The call of start->prepared. */
static int start_by_values(struct knit_start *start, struct knit_shape_values *values,
    struct knit_handle **ret, struct knit_error *ret_error)
{
    struct knit *k = start->prepared->all->session;
    int code;

    va_copy(values->first, values->list);
    code = encode(k, start->prepared->shape, values, &start->params, ret_error);
    va_end(values->first);
    return code == KNIT_OK ? start_call(k, start, ret, ret_error) : code;
}

int knit_start(struct knit *k, const struct knit_call_options *options, struct knit_handle **ret,
    struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct knit_start start = {.options = options};
    struct knit_shape_values values;
    int code = find(k, task, signature, &start.prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, signature);
    code = start_by_values(&start, &values, ret, ret_error);
    va_end(values.list);
    return code;
}

int knit_start_prepared(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, ...)
{
    struct knit_start start = {.options = options, .prepared = prepared};
    struct knit_shape_values values;
    int code = knit_call_check(prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, ret_error);
    code = start_by_values(&start, &values, ret, ret_error);
    va_end(values.list);
    return code;
}

static __attribute__((noinline)) int start_raw(struct knit *k,
    const struct knit_call_options *options, const char *task, struct knit_span params,
    struct knit_handle **ret, struct knit_error *ret_error)
{
    struct knit_start start = {.options = options, .params = params};
    int code = find(k, task, NULL, &start.prepared, ret_error);

    return code == KNIT_OK ? start_call(k, &start, ret, ret_error) : code;
}

int knit_start_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const char *task, const void *params,
    size_t params_len)
{
    struct knit_prepared *prepared = knit_prepareds_kept(&k->prepareds, task, NULL);
    const struct knit_span span = knit_span(params, params_len);

    if (options == NULL && prepared != NULL && knit_client_is_usable(k) &&
        try_begin(k, prepared, span, ret))
        return KNIT_OK;
    return start_raw(k, options, task, span, ret, ret_error);
}

int knit_call_start(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_span params, struct knit_handle **ret, struct knit_error *ret_error)
{
    struct knit_start start = {.options = options, .prepared = prepared, .params = params};

    return start_call(prepared->all->session, &start, ret, ret_error);
}

/* ---- notifications ---- */

/* Of start->prepared. */
static int notify_by_values(
    struct knit_start *start, struct knit_shape_values *values, struct knit_error *ret_error)
{
    struct knit *k = start->prepared->all->session;
    int code;

    va_copy(values->first, values->list);
    code = encode(k, start->prepared->shape, values, &start->params, ret_error);
    va_end(values->first);
    return code == KNIT_OK ? knit_begin_notification(k, start, ret_error) : code;
}

int knit_notify(
    struct knit *k, struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct knit_start start = {.options = NULL};
    struct knit_shape_values values;
    int code = find(k, task, signature, &start.prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, signature);
    code = notify_by_values(&start, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_notify_prepared(struct knit_prepared *prepared, struct knit_error *ret_error, ...)
{
    struct knit_start start = {.prepared = prepared};
    struct knit_shape_values values;
    int code = knit_call_check(prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, ret_error);
    code = notify_by_values(&start, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_notify_raw(struct knit *k, struct knit_error *ret_error, const char *task,
    const void *params, size_t params_len)
{
    struct knit_start start = {.params = knit_span(params, params_len)};
    int code = find(k, task, NULL, &start.prepared, ret_error);

    return code == KNIT_OK ? knit_begin_notification(k, &start, ret_error) : code;
}

/* ---- prepared calls ---- */

int knit_prepare(struct knit *k, struct knit_error *ret_error, const char *task,
    const char *signature, struct knit_prepared **ret)
{
    struct knit_shape_flaw flaw;
    int r, code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    r = knit_prepared_new(&k->prepareds, task, signature, ret, &flaw);
    return r == 0 ? KNIT_OK : knit_client_refuse_signature(signature, r, &flaw, ret_error);
}

struct knit_prepared *knit_prepared_free(struct knit_prepared *prepared)
{
    if (prepared != NULL)
        knit_prepared_disown(prepared);
    return NULL;
}

/* ---- outcomes ---- */

static void give_raw(struct knit_span result, struct knit_shape_values *values)
{
    const void **to = va_arg(values->list, const void **);
    size_t *to_len = va_arg(values->list, size_t *);

    if (to != NULL)
        *to = result.bytes;
    if (to_len != NULL)
        *to_len = result.len;
}

static int decode(
    struct knit_handle *handle, struct knit_shape_values *values, struct knit_error *ret_error)
{
    const struct knit_shape *shape = handle->prepared->shape;
    struct knit_shape_flaw flaw;
    struct knit_span result = knit_span(NULL, 0);
    int code = knit_client_outcome(handle, ret_error, &result), r;

    if (code != KNIT_OK)
        return code;
    if (shape == NULL) {
        give_raw(result, values);
        return KNIT_OK;
    }
    if (knit_shape_decode_short(
            shape, result.bytes, result.len, knit_call_spare(handle, result), values))
        return KNIT_OK;
    r = knit_shape_decode(shape, result, values, &handle->aligned_copies, &flaw);
    return r == 0 ? KNIT_OK : knit_call_explain(r, &flaw, true, ret_error);
}

int knit_results(struct knit_handle *handle, struct knit_error *ret_error, ...)
{
    struct knit_shape_values values;
    int code;

    if (handle->prepared->shape == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN,
            "the call was started without a signature: use knit_result_raw()");
    va_start(values.list, ret_error);
    code = decode(handle, &values, ret_error);
    va_end(values.list);
    return code;
}

/* ---- blocking ---- */

/* Start and wait. The handle with its outcome becomes `last` of the session. */
static __attribute__((noinline)) int run(
    struct knit *k, struct knit_start *start, struct knit_error *ret_error)
{
    struct knit_handle *previous = NULL;
    int code;

    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "a callback must not wait");
    /* What comes after the timeout may lie in the last result. */
    if (start->options != NULL && start->options->on_timeout != NULL) {
        previous = k->last;
        k->last = NULL;
    } else if (!knit_client_end_last(k, &start->params)) {
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory to start the call");
    }
    code = knit_begin_call(k, start, &k->last, ret_error);
    knit_free(previous);
    if (code == KNIT_WOULD_BLOCK)
        code = knit_error_make(ret_error, KNIT_OVERLOADED, KNIT_STARTED_NO,
            "there is no room for another call until one in flight has ended");
    if (code == KNIT_OK)
        (void)knit_client_await(k->last, UINT64_MAX);
    knit_client_end_turn(k);
    return code;
}

int knit_call_start_promised(
    struct knit_start *start, struct knit_handle **ret, struct knit_error *ret_error)
{
    int code = knit_begin_call(start->prepared->all->session, start, ret, ret_error);

    knit_client_update_poll_fd(start->prepared->all->session);
    return code;
}

int knit_call_run_promised(struct knit_start *start, struct knit_error *ret_error)
{
    int code = run(start->prepared->all->session, start, ret_error);

    /* It was not begun. */
    knit_promise_free(start->promise);
    start->promise = NULL;
    return code;
}

int knit_call_run(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_span params, struct knit_error *ret_error)
{
    struct knit_start start = {.options = options, .prepared = prepared, .params = params};

    return run(prepared->all->session, &start, ret_error);
}

/* Not inlined: a usual call needs no frame for it. */
__attribute__((noinline)) void knit_call_finish_last(struct knit *k)
{
    if ((k->last->flags & KNIT_HANDLE_DONE) == 0)
        (void)knit_client_await(k->last, UINT64_MAX);
    knit_client_end_turn(k);
}

__attribute__((noinline)) bool knit_call_renew_last(struct knit *k, struct knit_prepared *prepared)
{
    struct knit_handle *handle;

    if (k->last != NULL && !knit_handle_try_drop(k->last))
        return false;
    k->last = NULL;
    handle = k->handles.spare;
    if (handle == NULL)
        return false;
    k->handles.spare = handle->next_spare;
    handle->prepared = prepared;
    prepared->references++;
    handle->outcome = knit_span(NULL, 0);
    handle->flags = KNIT_HANDLE_USUAL_DONE;
    k->last = handle;
    return true;
}

/* A call of it that is not usual. Of one without a signature the result is one msgpack value. */
static __attribute__((noinline)) int call_by_values(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_shape_values *values,
    struct knit_error *ret_error)
{
    struct knit *k = prepared->all->session;
    struct knit_start start = {.options = options, .prepared = prepared};
    int code;

    va_copy(values->first, values->list);
    code = encode(k, prepared->shape, values, &start.params, ret_error);
    va_end(values->first);
    if (code == KNIT_OK)
        code = run(k, &start, ret_error);
    return code == KNIT_OK ? decode(k->last, values, ret_error) : code;
}

/* The whole of a usual call: short arguments by a signature, no options, a small result. False:
 * nothing was started, and `values` are used up. */
KNIT_ALWAYS_INLINE bool try_call(struct knit_prepared *prepared, struct knit_shape_values *values,
    int *ret_code, struct knit_error *ret_error)
{
    struct knit *k = prepared->all->session;
    const struct knit_shape *shape = prepared->shape;
    uint8_t *params = (uint8_t *)k->short_params;
    struct knit_handle *last;
    size_t len;

    if (!prepared->is_short)
        return false;
    len = knit_shape_encode_short(shape, values, params);
    if (len == 0 || !knit_call_try_run(k, prepared, knit_span(params, len), KNIT_PUT_PADDED))
        return false;
    last = k->last;
    *ret_code = last->flags == KNIT_HANDLE_USUAL_DONE &&
                        knit_shape_decode_short(shape, (const uint8_t *)last->body,
                            last->outcome.len, sizeof(last->body) - last->outcome.len, values)
                    ? KNIT_OK
                    : decode(last, values, ret_error);
    return true;
}

int knit_call(
    struct knit *k, struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct knit_shape_values values;
    struct knit_prepared *prepared;
    bool is_done;
    int code = find(k, task, signature, &prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, signature);
    is_done = try_call(prepared, &values, &code, ret_error);
    va_end(values.list);
    if (is_done)
        return code;
    va_start(values.list, signature);
    code = call_by_values(prepared, NULL, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_call_with(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const char *signature, ...)
{
    struct knit_shape_values values;
    struct knit_prepared *prepared;
    int code = find(k, task, signature, &prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    va_start(values.list, signature);
    code = call_by_values(prepared, options, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_call_prepared(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_error *ret_error, ...)
{
    struct knit_shape_values values;
    bool is_done = false;
    int code = knit_call_check(prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    if (options == NULL) {
        va_start(values.list, ret_error);
        is_done = try_call(prepared, &values, &code, ret_error);
        va_end(values.list);
    }
    if (is_done)
        return code;
    va_start(values.list, ret_error);
    code = call_by_values(prepared, options, &values, ret_error);
    va_end(values.list);
    return code;
}

int knit_call_raw(struct knit *k, const struct knit_call_options *options,
    struct knit_error *ret_error, const char *task, const void *params, size_t params_len,
    const void **ret_result, size_t *ret_len)
{
    struct knit_start start = {.options = options, .params = knit_span(params, params_len)};
    int code = find(k, task, NULL, &start.prepared, ret_error);

    if (code == KNIT_OK &&
        (options != NULL || !knit_call_try_run(k, start.prepared, start.params, 0)))
        code = run(k, &start, ret_error);
    return code == KNIT_OK ? knit_result_raw(k->last, ret_error, ret_result, ret_len) : code;
}
