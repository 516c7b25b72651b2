/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions of a call that was started: wait for its outcome, read it as msgpack, cancel
 * it, free it.
 *
 * Each begins with the usual call, which went through lanes and ended in a small result, and leaves
 * all others to a function that is not inlined, so that their frames cost nothing here.
 */
#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "clients/lib/lost.h"
#include "proto/cancel.h"
#include "proto/limits.h"

static __attribute__((noinline)) int await(
    struct knit_handle *handle, double wait_ms, struct knit_error *ret_error)
{
    struct knit *k = handle->handles->session;
    struct knit_span result;
    uint64_t until_ns;
    int code;

    if (!knit_client_is_ours(k) || (handle->flags & KNIT_HANDLE_DONE) != 0)
        return knit_client_outcome(handle, ret_error, &result);
    code = knit_client_begin_wait(k, wait_ms, &until_ns, ret_error);
    if (code != KNIT_OK)
        return code;
    (void)knit_client_await(handle, until_ns);
    /* The handle's own callback may free it, so the outcome is read before the callbacks run. The
       error's data stays readable as long as they report no other error. */
    code = knit_handle_outcome(handle, ret_error, &result);
    knit_client_end_turn(k);
    return code;
}

/* After a result. */
static __attribute__((noinline)) int end_turn(struct knit *k)
{
    knit_client_end_turn(k);
    return KNIT_OK;
}

int knit_await(struct knit_handle *handle, double wait_ms, struct knit_error *ret_error)
{
    struct knit *k = handle->handles->session;

    if (!knit_client_is_ours(k) || k->is_calling_back || !knit_client_try_await(handle))
        return await(handle, wait_ms, ret_error);
    return knit_client_is_turn_over(k) ? KNIT_OK : end_turn(k);
}

static __attribute__((noinline)) int result_raw(struct knit_handle *handle,
    struct knit_error *ret_error, const void **ret_result, size_t *ret_len)
{
    struct knit_span result = knit_span(NULL, 0);
    int code = knit_client_outcome(handle, ret_error, &result);

    if (code == KNIT_OK) {
        *ret_result = result.bytes;
        *ret_len = result.len;
    }
    return code;
}

int knit_result_raw(struct knit_handle *handle, struct knit_error *ret_error,
    const void **ret_result, size_t *ret_len)
{
    struct knit_span result;

    if (!knit_client_is_ours(handle->handles->session) || !knit_handle_try_outcome(handle, &result))
        return result_raw(handle, ret_error, ret_result, ret_len);
    *ret_result = result.bytes;
    *ret_len = result.len;
    return KNIT_OK;
}

bool knit_output(
    struct knit_handle *handle, const void **ret_text, size_t *ret_len, bool *ret_is_cut)
{
    struct knit_span text;

    if (!knit_client_is_ours(handle->handles->session) ||
        !knit_handle_output(handle, &text, ret_is_cut))
        return false;
    *ret_text = text.bytes;
    *ret_len = text.len;
    return true;
}

void knit_on_done(
    struct knit_handle *handle, void (*on_done)(struct knit_handle *handle, void *user), void *user)
{
    struct knit *k = handle->handles->session;

    knit_handle_set_callback(handle, on_done, user);
    if ((handle->flags & KNIT_HANDLE_READY) != 0 && knit_client_is_ours(k))
        knit_client_update_poll_fd(k);
}

void knit_on_progress(struct knit_handle *handle,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user)
{
    struct knit *k = handle->handles->session;

    knit_handle_set_progress(handle, on_progress, user);
    if (!TAILQ_EMPTY(&handle->handles->fresh) && knit_client_is_ours(k))
        knit_client_update_poll_fd(k);
}

void knit_cancel(struct knit_handle *handle)
{
    struct knit *k = handle->handles->session;

    if ((handle->flags & (KNIT_HANDLE_WAITING | KNIT_HANDLE_CANCELLED)) != KNIT_HANDLE_WAITING ||
        !knit_client_is_ours(k))
        return;
    knit_handle_cancel(handle);
    if (knit_handle_via(handle) == KNIT_VIA_STREAM)
        knit_handles_flush(&k->handles);
    if (knit_handle_via(handle) != KNIT_VIA_LANES)
        knit_client_update_poll_fd(k);
}

void knit_abort(struct knit_handle *handle, const char *reason)
{
    struct knit *k = handle->handles->session;
    struct knit_buffer value;

    if (reason == NULL) {
        knit_cancel(handle);
        return;
    }
    if ((handle->flags & KNIT_HANDLE_WAITING) == 0 || !knit_client_is_ours(k))
        return;
    knit_buffer_init(&value, KNIT_METHOD_PARAMS_BYTES_MAX);
    /* Without memory for the reason it is as if none had been given. */
    if (knit_cancel_put_reason(&value, reason) == 0)
        knit_handle_abort(handle, knit_buffer_span(&value));
    else
        knit_handle_cancel(handle);
    knit_buffer_fini(&value);
    knit_handles_flush(&k->handles);
    knit_client_update_poll_fd(k);
}

static __attribute__((noinline)) struct knit_handle *drop(struct knit_handle *handle)
{
    struct knit *k = handle->handles->session;
    bool is_cancelled = knit_client_is_ours(k) && (handle->flags & KNIT_HANDLE_WAITING) != 0 &&
                        knit_handle_via(handle) == KNIT_VIA_STREAM;

    knit_handle_drop(handle);
    if (k->handles.promises.unwanted != NULL && knit_client_is_ours(k)) {
        knit_promises_run(&k->handles);
        is_cancelled = true;
    }
    /* The caller may never wait or dispatch again, and the worker is to stop all the same. */
    if (is_cancelled) {
        knit_handles_flush(&k->handles);
        knit_client_update_poll_fd(k);
    }
    return NULL;
}

struct knit_handle *knit_free(struct knit_handle *handle)
{
    return handle == NULL || knit_handle_try_drop(handle) ? NULL : drop(handle);
}

struct knit *knit_handle_session(struct knit_handle *handle)
{
    return handle->handles->session;
}

bool knit_client_end_last(struct knit *k, struct knit_span *params)
{
    const struct knit_span last = k->last != NULL ? k->last->outcome : knit_span(NULL, 0);

    if (params->len != 0 && (uintptr_t)params->bytes - (uintptr_t)last.bytes < last.len) {
        knit_buffer_reset(&k->params);
        if (knit_buffer_append(&k->params, params->bytes, params->len) != 0)
            return false;
        *params = knit_buffer_span(&k->params);
    }
    k->last = knit_free(k->last);
    return true;
}
