/* SPDX-License-Identifier: Apache-2.0 */
/* Compared are types, position by position. Names of parameters are for readers; a declaration that
 * was written before a task got further, optional parameters goes on fitting.
 */
#include "clients/lib/typed.h"

#include <errno.h>
#include <string.h>

#include "clients/lib/admin_calls.h"
#include "clients/lib/error.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"

enum { FETCHES_MAX = 3 }; /* of tasks, when their server leaves meanwhile */

/* ---- preparing ---- */

int knit_typed_prepare(struct knit *k, const struct knit_typed *typed, struct knit_prepared **ret,
    struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw;
    struct knit_prepared *prepared;
    const struct knit_shape *shape;
    int r = knit_prepared_new(&k->prepareds, typed->name, typed->signature, &prepared, &flaw);

    if (r != 0)
        return knit_client_refuse_signature(typed->signature, r, &flaw, ret_error);
    shape = prepared->shape;
    prepared->typed = typed;
    if (shape->param_count == typed->params_count &&
        shape->result_count == (typed->results_count != 0 ? typed->results_count : 1u)) {
        for (uint32_t i = 0; i < (uint32_t)typed->params_count + typed->results_count; i++)
            knit_shape_set_width(prepared->shape, i, typed->parts[i].bytes);
        r = knit_prepareds_add_typed(&k->prepareds, prepared);
    } else {
        r = -EINVAL;
    }
    if (r == 0) {
        *ret = prepared;
        return KNIT_OK;
    }
    knit_prepared_disown(prepared);
    return r == -EINVAL
               ? knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
                     "the declaration of '%s' has other parts than its signature %s", typed->name,
                     typed->signature)
               : knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
}

/* ---- comparing ---- */

/* What is wrong, for the message; index from 0. */
struct misfit {
    const char *what; /* NULL: they fit */
    uint32_t index;
};

static bool has_rest(const struct knit_signature *signature)
{
    const uint32_t count = knit_signature_param_count(signature);
    const char *type = count > 0 ? knit_signature_param_type(signature, count - 1) : "";
    const size_t len = strlen(type);

    return len > 3 && strcmp(type + len - 3, "...") == 0;
}

static struct misfit compare_params(
    const struct knit_signature *ours, const struct knit_signature *published)
{
    const uint32_t count = knit_signature_param_count(ours);
    const uint32_t there = knit_signature_param_count(published);
    const bool is_open = has_rest(published);
    bool is_optional, may_be_nil;

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = i < there || !is_open ? i : there - 1;
        const struct knit_type_row *type = knit_signature_type(ours, i, &is_optional);
        const struct knit_type_row *other;

        if (at >= there)
            return (struct misfit){"there is no parameter", i};
        other = knit_signature_type(published, at, &may_be_nil);
        if (other->kind == KNIT_KIND_ANY)
            continue;
        if (type != other)
            return (struct misfit){"of another type is parameter", i};
        if (is_optional && !may_be_nil)
            return (struct misfit){"not optional is parameter", i};
    }
    for (uint32_t i = count; i < there - (is_open ? 1 : 0); i++) {
        (void)knit_signature_type(published, i, &may_be_nil);
        if (!may_be_nil)
            return (struct misfit){"there is one more that is not optional, parameter", i};
    }
    return (struct misfit){NULL, 0};
}

static struct misfit compare_results(
    const struct knit_signature *ours, const struct knit_signature *published)
{
    const uint32_t count = knit_signature_result_count(ours);
    const uint32_t there = knit_signature_result_count(published);
    bool is_optional, may_be_nil;

    for (uint32_t i = 0; i < count || i < there; i++) {
        const struct knit_type_row *type, *other;

        if (i >= count || i >= there)
            return (struct misfit){"there are more or fewer results, from result", i};
        type = knit_signature_type(ours, knit_signature_param_count(ours) + i, &is_optional);
        other =
            knit_signature_type(published, knit_signature_param_count(published) + i, &may_be_nil);
        if (type != other || is_optional != may_be_nil)
            return (struct misfit){"of another type is result", i};
    }
    return (struct misfit){NULL, 0};
}

int knit_typed_compare(const struct knit_prepared *prepared, const struct knit_signature *published,
    struct knit_error *ret_error)
{
    const char *text = prepared->signature;
    struct knit_signature *ours = NULL;
    struct misfit misfit;

    if (knit_signature_parse_call(text, strlen(text), &ours, NULL) != 0)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    misfit = compare_params(ours, published);
    if (misfit.what == NULL)
        misfit = compare_results(ours, published);
    (void)knit_signature_free(ours);
    if (misfit.what == NULL)
        return KNIT_OK;
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "the declaration %s does not fit the pool's task %s: %s %u", text,
        knit_signature_text(published), misfit.what, misfit.index + 1);
}

int knit_typed_compare_on_lanes(struct knit *k, const struct knit_prepared *prepared,
    const struct knit_registry_task **task, struct knit_error *ret_error)
{
    struct knit_lanes *lanes = k->handles.lanes;
    const uint64_t until_ns = knit_clock_ns() + (uint64_t)k->admin_ms * 1000000;
    int code = knit_typed_compare(prepared, (*task)->signature, ret_error);

    if (code != KNIT_BAD_ARGUMENT)
        return code;
    code = knit_lanes_fetch_registry(lanes, until_ns, ret_error);
    if (code == KNIT_OK)
        code = knit_lanes_find(lanes, prepared->task, k->admin_ms, task, ret_error);
    return code == KNIT_OK ? knit_typed_compare(prepared, (*task)->signature, ret_error) : code;
}

/* ---- over a stream ---- */

/* What is known of the server of the connection that the next call takes. */
static struct knit_registry *registry_of(struct knit *k)
{
    const struct knit_stream *stream = k->handles.stream;

    return k->registry_ages[stream->number] == stream->tasks_age ? k->registries[stream->number]
                                                                 : NULL;
}

static void keep(struct knit *k, const struct knit_stream *stream, struct knit_registry *registry)
{
    (void)knit_registry_free(k->registries[stream->number]);
    k->registries[stream->number] = registry;
    k->registry_ages[stream->number] = stream->tasks_age;
}

/* Those of the connection that the next call takes, which may be another once they have come. */
static int fetch(struct knit *k, struct knit_error *ret_error)
{
    const uint64_t until_ns = knit_clock_ns() + (uint64_t)k->admin_ms * 1000000;

    for (int i = 0; i < FETCHES_MAX; i++) {
        const uint32_t serial = k->handles.stream->serial;
        struct knit_registry *registry = NULL;
        int code = knit_admin_fetch_registry(k, until_ns, &registry, ret_error);

        if (code != KNIT_OK)
            return code;
        if (k->handles.stream->serial == serial) {
            keep(k, k->handles.stream, registry);
            return KNIT_OK;
        }
        (void)knit_registry_free(registry);
    }
    return knit_error_make(ret_error, KNIT_STALE_EPOCH, KNIT_STARTED_NO,
        "connections were lost again and again while tasks were read; try again");
}

const struct knit_registry *knit_typed_tasks(struct knit *k)
{
    const struct knit_stream *stream = k->handles.stream;

    if (k->registry_ages[stream->number] != stream->tasks_age && !k->is_calling_back &&
        fetch(k, NULL) != KNIT_OK)
        keep(k, k->handles.stream, NULL);
    return registry_of(k);
}

static int compare_with_registry(
    struct knit *k, struct knit_prepared *prepared, struct knit_error *ret_error)
{
    const struct knit_stream *stream = k->handles.stream;
    const struct knit_registry *registry = registry_of(k);
    const char *name = prepared->task;
    const struct knit_registry_task *found =
        registry != NULL ? knit_registry_find(registry, name, strlen(name)) : NULL;
    int code;

    if (found == NULL)
        return knit_error_make(ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO,
            "there is no task '%s', which is declared %s", name, prepared->signature);
    code = knit_typed_compare(prepared, found->signature, ret_error);
    if (code == KNIT_OK)
        prepared->fits_ages[stream->number] = stream->tasks_age;
    return code;
}

int knit_typed_compare_on_stream(
    struct knit *k, struct knit_prepared *prepared, struct knit_error *ret_error)
{
    int code;

    if (registry_of(k) != NULL && compare_with_registry(k, prepared, ret_error) == KNIT_OK)
        return KNIT_OK;
    /* Before a declaration is refused, the tasks are asked for: they may have changed. */
    code = fetch(k, ret_error);
    return code == KNIT_OK ? compare_with_registry(k, prepared, ret_error) : code;
}

/* Whichever of several connections it was. */
void knit_typed_note_code(struct knit *k, int code)
{
    if (k->handles.lanes != NULL || (code != KNIT_BAD_ARGUMENT && code != KNIT_BAD_RESULT &&
                                        code != KNIT_UNKNOWN_TASK && code != KNIT_STALE_EPOCH))
        return;
    if (++k->tasks_age == 0)
        k->tasks_age = 1;
    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        k->link.streams[i].tasks_age = k->tasks_age;
    k->handles.lost.tasks_age = k->tasks_age;
}
