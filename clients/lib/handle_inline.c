/* SPDX-License-Identifier: Apache-2.0 */
/* What a task did on this thread becomes what it would have become from a worker. */
#include "clients/lib/handle_inline.h"

/* Whether this thread is to run it. What its caller looks at while it runs, wants begun at once or
 * not at all, or always in one place, is for workers. */
static bool goes_inline(const struct knit_handle *handle, uint32_t task, bool at_once)
{
    struct knit_inliner *inliner = handle->handles->inliner;
    const uint32_t own = KNIT_HANDLE_OUTPUT | KNIT_HANDLE_WATCHED | KNIT_HANDLE_PINNED;

    if (!knit_inliner_is_alone(inliner) && ((handle->flags & own) != 0 || at_once))
        return false;
    return knit_inliner_takes(inliner, task);
}

static int start_inline(struct knit_handle *handle, uint32_t task, struct knit_span params)
{
    struct knit_handles *handles = handle->handles;
    struct knit_trace trace;
    const struct knit_inliner_call call = {.task = task,
        .deadline_ns = handle->deadline_ns,
        .params = params,
        .wants_output = (handle->flags & KNIT_HANDLE_OUTPUT) != 0,
        .wants_progress = (handle->flags & KNIT_HANDLE_WATCHED) != 0,
        .trace = (handle->flags & KNIT_HANDLE_TRACED) != 0 &&
                         knit_trace_parse(knit_span(handle->trace, KNIT_TRACE_BYTES), &trace)
                     ? &trace
                     : NULL,
        .user = handle};
    int code = knit_lanes_check(handles->lanes);

    if (code != KNIT_OK)
        return code;
    if (params.len > knit_lanes_argument_max(handles->lanes))
        return KNIT_TOO_LARGE;
    if (knit_inliner_add(handles->inliner, &call, &handle->slot) != 0)
        return KNIT_INTERNAL;
    handle->flags |= KNIT_HANDLE_BY_INLINER;
    return KNIT_OK;
}

int knit_handle_start_counted(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once)
{
    struct knit_inliner *inliner = handle->handles->inliner;
    int code;

    if (goes_inline(handle, task, at_once))
        code = start_inline(handle, task, params);
    else if (knit_inliner_is_alone(inliner))
        code = KNIT_WOULD_BLOCK;
    else
        code = knit_handle_start_on_lanes(handle, task, params, at_once);
    if (code == KNIT_OK && knit_inliner_has(inliner, task)) {
        knit_inliner_count(inliner, task);
        handle->flags |= KNIT_HANDLE_COUNTED;
    }
    return code;
}

void knit_handle_end_inline(void *arg, void *user, const struct knit_inlined *inlined)
{
    (void)arg;
    if (inlined->is_late)
        knit_handle_time_out(user, inlined->started, "the call's timeout has passed");
    else
        knit_handle_finish_copied(user, inlined->is_error, inlined->outcome);
}

void knit_handle_note_inline(void *arg, void *user, struct knit_span value, uint32_t count)
{
    struct knit_handles *handles = arg;
    struct knit_handle *handle = user;

    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        knit_watcher_note(handle->watcher, &handles->fresh, value, count);
}
