/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions of calls whose arguments and results are arrays, of a prepared call and of a
 * declaration. What a call is from then on, call.c says.
 */
#include "clients/lib/call.h"

#include <string.h>

#include "clients/lib/args.h"
#include "clients/lib/error.h"
#include "clients/lib/typed.h"
#include "proto/limits.h"

/* ---- arguments ---- */

/* The flaw gets the name that the declaration has for what is wrong. */
static void add_name(
    const struct knit_prepared *prepared, bool is_result, struct knit_shape_flaw *flaw)
{
    const struct knit_typed *typed = prepared->typed;
    size_t index = flaw->index;

    if (typed == NULL || index >= (is_result ? typed->results_count : typed->params_count))
        return;
    if (is_result)
        index += typed->params_count;
    flaw->name = typed->parts[index].name;
}

/* The same as encode(), for all arguments. */
static __attribute__((noinline)) int encode_long(const struct knit_prepared *prepared,
    const struct knit_arg *args, size_t count, struct knit_span *ret_params,
    struct knit_error *ret_error)
{
    struct knit *k = prepared->all->session;
    struct knit_shape_flaw flaw = {0};
    int r;

    if (prepared->shape == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a call that was prepared without a signature takes msgpack: use knit_call_prepared()");
    knit_buffer_reset(&k->params);
    r = knit_args_encode(prepared->shape, args, count, &k->params, &flaw);
    *ret_params = knit_buffer_span(&k->params);
    if (r == 0)
        return KNIT_OK;
    if (r == KNIT_SHAPE_E_VALUE)
        add_name(prepared, false, &flaw);
    return knit_call_explain(r, &flaw, false, ret_error);
}

/* The arguments, in the session's scratch. */
KNIT_ALWAYS_INLINE int encode(const struct knit_prepared *prepared, const struct knit_arg *args,
    size_t count, struct knit_span *ret_params, struct knit_error *ret_error)
{
    struct knit *k = prepared->all->session;
    const struct knit_shape *shape = prepared->shape;
    size_t len = 0;

    if (shape != NULL && shape->is_short_args && shape->param_count == count)
        len = knit_args_encode_short(shape, args, (uint8_t *)k->short_params);
    *ret_params = knit_span(k->short_params, len);
    return len != 0 ? KNIT_OK : encode_long(prepared, args, count, ret_params, ret_error);
}

/* ---- results ---- */

static __attribute__((noinline)) int decode(
    struct knit_handle *handle, void *const *places, struct knit_error *ret_error)
{
    const struct knit_prepared *prepared = handle->prepared;
    const struct knit_shape *shape = prepared->shape;
    struct knit_shape_flaw flaw = {0};
    struct knit_span result = knit_span(NULL, 0);
    int code = knit_client_outcome(handle, ret_error, &result), r;

    if (code == KNIT_OK && knit_args_decode_short(shape, result.bytes, result.len,
                               knit_call_spare(handle, result), places))
        return KNIT_OK;
    if (code == KNIT_OK) {
        r = knit_shape_decode_into(shape, result, places, &handle->aligned_copies, &flaw);
        if (r == KNIT_SHAPE_E_VALUE)
            add_name(prepared, true, &flaw);
        code = r == 0 ? KNIT_OK : knit_call_explain(r, &flaw, true, ret_error);
    }
    if (code >= KNIT_BAD_MESSAGE && prepared->typed != NULL)
        knit_typed_note_code(handle->handles->session, code);
    return code;
}

/* The same for any number of places. */
static int decode_some(
    struct knit_handle *handle, void *const *results, size_t count, struct knit_error *ret_error)
{
    const struct knit_shape *shape = handle->prepared->shape;
    void *places[KNIT_SIGNATURE_RESULTS_MAX] = {NULL};

    if (shape == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN,
            "the call was started without a signature: use knit_result_raw()");
    if (count > shape->result_count)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN,
            "there are places for %zu results, and %u results", count, shape->result_count);
    if (count > 0)
        memcpy(places, results, count * sizeof(places[0]));
    return decode(handle, places, ret_error);
}

/* ---- of a prepared call ---- */

int knit_call_args(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_error *ret_error, const struct knit_arg *args, size_t args_count,
    void *const *results, size_t results_count)
{
    struct knit *k = prepared->all->session;
    struct knit_span params;
    int code = knit_call_check(prepared, ret_error);

    if (code == KNIT_OK)
        code = encode(prepared, args, args_count, &params, ret_error);
    if (code == KNIT_OK && results_count > prepared->shape->result_count)
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "there are places for %zu results, and %u results", results_count,
            prepared->shape->result_count);
    if (code == KNIT_OK && (options != NULL || !knit_call_try_run(k, prepared, params, 0)))
        code = knit_call_run(prepared, options, params, ret_error);
    return code == KNIT_OK ? decode_some(k->last, results, results_count, ret_error) : code;
}

int knit_start_args(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const struct knit_arg *args,
    size_t args_count)
{
    struct knit_span params;
    int code = knit_call_check(prepared, ret_error);

    if (code == KNIT_OK)
        code = encode(prepared, args, args_count, &params, ret_error);
    return code == KNIT_OK ? knit_call_start(prepared, options, params, ret, ret_error) : code;
}

int knit_results_args(struct knit_handle *handle, struct knit_error *ret_error,
    void *const *results, size_t results_count)
{
    return decode_some(handle, results, results_count, ret_error);
}

/* ---- of a declaration ---- */

/* One that is not usual. */
static __attribute__((noinline)) int call_slowly(struct knit_prepared *prepared,
    const struct knit_call_options *options, const struct knit_arg *args, void *const *results,
    struct knit_error *ret_error)
{
    struct knit_span params;
    int code = encode(prepared, args, prepared->shape->param_count, &params, ret_error);

    if (code == KNIT_OK)
        code = knit_call_run(prepared, options, params, ret_error);
    return code == KNIT_OK ? decode(prepared->all->session->last, results, ret_error) : code;
}

int knit_call_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_error *ret_error,
    const struct knit_arg *args, void *const *results)
{
    uint8_t *params = (uint8_t *)k->short_params;
    const struct knit_handle *last;
    const struct knit_shape *shape;
    struct knit_prepared *prepared;
    size_t len = 0;
    int code = knit_typed_find(k, typed, &prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    shape = prepared->shape;
    if (options == NULL && shape->is_short_args)
        len = knit_args_encode_short(shape, args, params);
    if (len == 0 || !knit_call_try_run(k, prepared, knit_span(params, len), KNIT_PUT_PADDED))
        return call_slowly(prepared, options, args, results, ret_error);
    last = k->last;
    return last->flags == KNIT_HANDLE_USUAL_DONE &&
                   knit_args_decode_short(shape, (const uint8_t *)last->body, last->outcome.len,
                       sizeof(last->body) - last->outcome.len, results)
               ? KNIT_OK
               : decode(k->last, results, ret_error);
}

int knit_start_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_handle **ret, struct knit_error *ret_error,
    const struct knit_arg *args)
{
    struct knit_prepared *prepared;
    struct knit_span params;
    int code = knit_typed_find(k, typed, &prepared, ret_error);

    if (code == KNIT_OK)
        code = encode(prepared, args, prepared->shape->param_count, &params, ret_error);
    return code == KNIT_OK ? knit_call_start(prepared, options, params, ret, ret_error) : code;
}

int knit_then_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_error *ret_error,
    const struct knit_arg *args, void (*on_done)(struct knit_handle *handle, void *user),
    void *user)
{
    struct knit_handle *handle;
    int code = knit_start_typed(k, typed, options, &handle, ret_error, args);

    if (code == KNIT_OK)
        knit_on_done(handle, on_done, user);
    return code;
}

/* A declaration in another file of the program has another address. */
static int check_declaration(
    const struct knit_handle *handle, const struct knit_typed *typed, struct knit_error *ret_error)
{
    const struct knit_typed *own = handle->prepared->typed;

    if (own == typed)
        return KNIT_OK;
    if (own != NULL && strcmp(own->name, typed->name) == 0 &&
        strcmp(own->signature, typed->signature) == 0)
        return KNIT_OK;
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN,
        "the handle is of a call of %s, not of %s",
        own != NULL ? own->signature : handle->prepared->task, typed->signature);
}

int knit_await_typed(struct knit_handle *handle, const struct knit_typed *typed, double wait_ms,
    struct knit_error *ret_error, void *const *results)
{
    int code = check_declaration(handle, typed, ret_error);

    if (code != KNIT_OK)
        return code;
    code = knit_await(handle, wait_ms, ret_error);
    if (code == KNIT_OK)
        return decode(handle, results, ret_error);
    if (code >= KNIT_BAD_MESSAGE)
        knit_typed_note_code(handle->handles->session, code);
    return code;
}
