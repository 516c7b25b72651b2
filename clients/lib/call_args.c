/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions of calls whose arguments and results are arrays, of a prepared call and of a
 * declaration. What a call is from then on, call.c says.
 */
#include "clients/lib/call.h"

#include <string.h>

#include "clients/lib/args.h"
#include "clients/lib/error.h"
#include "clients/lib/start.h"
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

/* Results of other calls stand in for them. sources, indexes: of those. */
static int promise(struct knit_start *start, struct knit_handle *const *sources,
    const uint32_t *indexes, uint32_t count, struct knit_error *ret_error)
{
    const struct knit_handles *handles = &start->prepared->all->session->handles;

    for (uint32_t i = 0; i < count; i++) {
        if (sources[i] == NULL || sources[i]->handles != handles ||
            sources[i]->prepared->is_of_protocol)
            return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
                "argument %u: expected the handle of a task's call in the same session, got %s",
                indexes[i] + 1,
                sources[i] == NULL               ? "NULL"
                : sources[i]->handles != handles ? "one of another session"
                                                 : "one of a method of the protocol");
    }
    start->promise = knit_promise_new(start->params, sources, indexes, count);
    return start->promise != NULL ? KNIT_OK
                                  : knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO,
                                        "not enough memory for the arguments");
}

static int promise_handles(struct knit_start *start, const struct knit_arg *args, size_t count,
    struct knit_error *ret_error)
{
    struct knit_handle *sources[KNIT_SIGNATURE_PARAMS_MAX];
    uint32_t indexes[KNIT_SIGNATURE_PARAMS_MAX], found = 0;

    for (size_t i = 0; i < count; i++) {
        if (args[i].type != KNIT_ARG_HANDLE)
            continue;
        sources[found] = args[i].value.handle;
        indexes[found++] = (uint32_t)i;
    }
    return found != 0 ? promise(start, sources, indexes, found, ret_error) : KNIT_OK;
}

/* Any arguments, of start->prepared. */
static __attribute__((noinline)) int encode_long(struct knit_start *start,
    const struct knit_arg *args, size_t count, struct knit_error *ret_error)
{
    const struct knit_prepared *prepared = start->prepared;
    struct knit *k = prepared->all->session;
    struct knit_shape_flaw flaw = {0};
    int r;

    if (prepared->shape == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "a call that was prepared without a signature takes msgpack: use knit_call_prepared()");
    knit_buffer_reset(&k->params);
    r = knit_args_encode(prepared->shape, args, count, &k->params, &flaw);
    start->params = knit_buffer_span(&k->params);
    if (r == 0)
        return promise_handles(start, args, count, ret_error);
    if (r == KNIT_SHAPE_E_VALUE)
        add_name(prepared, false, &flaw);
    return knit_call_explain(r, &flaw, false, ret_error);
}

/* Short arguments, in the session's scratch; empty: they are something else. */
KNIT_ALWAYS_INLINE struct knit_span encode_short(
    const struct knit_prepared *prepared, const struct knit_arg *args, size_t count)
{
    struct knit *k = prepared->all->session;
    const struct knit_shape *shape = prepared->shape;
    size_t len = 0;

    if (shape != NULL && shape->is_short_args && shape->param_count == count)
        len = knit_args_encode_short(shape, args, (uint8_t *)k->short_params);
    return knit_span(k->short_params, len);
}

/* ---- calls of any arguments ---- */

static __attribute__((noinline)) int run_long(struct knit_prepared *prepared,
    const struct knit_call_options *options, const struct knit_arg *args, size_t count,
    struct knit_error *ret_error)
{
    struct knit_start start = {.options = options, .prepared = prepared};
    struct knit *k = prepared->all->session;
    int code = encode_long(&start, args, count, ret_error);

    if (code != KNIT_OK)
        return code;
    if (start.promise != NULL)
        return knit_call_run_promised(&start, ret_error);
    if (options == NULL && knit_call_try_run(k, prepared, start.params, 0))
        return KNIT_OK;
    return knit_call_run(prepared, options, start.params, ret_error);
}

static __attribute__((noinline)) int start_long(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_handle **ret, struct knit_error *ret_error,
    const struct knit_arg *args, size_t count)
{
    struct knit_start start = {.options = options, .prepared = prepared};
    int code = encode_long(&start, args, count, ret_error);

    if (code != KNIT_OK)
        return code;
    return start.promise != NULL ? knit_call_start_promised(&start, ret, ret_error)
                                 : knit_call_start(prepared, options, start.params, ret, ret_error);
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

/* Its arguments are encoded, or empty: then `args` are. */
KNIT_ALWAYS_INLINE int run_args(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_span params, const struct knit_arg *args,
    size_t count, struct knit_error *ret_error)
{
    if (params.len == 0)
        return run_long(prepared, options, args, count, ret_error);
    if (options == NULL && knit_call_try_run(prepared->all->session, prepared, params, 0))
        return KNIT_OK;
    return knit_call_run(prepared, options, params, ret_error);
}

int knit_call_args(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_error *ret_error, const struct knit_arg *args, size_t args_count,
    void *const *results, size_t results_count)
{
    struct knit *k = prepared->all->session;
    int code = knit_call_check(prepared, ret_error);

    if (code == KNIT_OK && prepared->shape != NULL && results_count > prepared->shape->result_count)
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "there are places for %zu results, and %u results", results_count,
            prepared->shape->result_count);
    if (code == KNIT_OK)
        code = run_args(prepared, options, encode_short(prepared, args, args_count), args,
            args_count, ret_error);
    return code == KNIT_OK ? decode_some(k->last, results, results_count, ret_error) : code;
}

int knit_start_args(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_handle **ret, struct knit_error *ret_error, const struct knit_arg *args,
    size_t args_count)
{
    struct knit_span params;
    int code = knit_call_check(prepared, ret_error);

    if (code != KNIT_OK)
        return code;
    params = encode_short(prepared, args, args_count);
    return params.len != 0 ? knit_call_start(prepared, options, params, ret, ret_error)
                           : start_long(prepared, options, ret, ret_error, args, args_count);
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
    const size_t count = prepared->shape->param_count;
    int code =
        run_args(prepared, options, encode_short(prepared, args, count), args, count, ret_error);

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

    if (code != KNIT_OK)
        return code;
    params = encode_short(prepared, args, prepared->shape->param_count);
    return params.len != 0
               ? knit_call_start(prepared, options, params, ret, ret_error)
               : start_long(prepared, options, ret, ret_error, args, prepared->shape->param_count);
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
