/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that the session's own thread runs (fastpath/worker/inliner.h), between a handle and the
 * inliner. */
#pragma once

#include "clients/lib/handle.h"
#include "fastpath/worker/inliner.h"

/* knit_handle_start_on_lanes(), or in its place the call waits for a turn of this session. */
KNIT_MUST_CHECK int knit_handle_start_counted(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once);

KNIT_MUST_CHECK static inline int knit_handle_start_here(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once)
{
    return handle->handles->inliner != NULL
               ? knit_handle_start_counted(handle, task, params, at_once)
               : knit_handle_start_on_lanes(handle, task, params, at_once);
}

/* The inliner's on_end() and on_value(), with a handle as `user`; arg: all handles. */
void knit_handle_end_inline(void *arg, void *user, const struct knit_inlined *inlined);
void knit_handle_note_inline(void *arg, void *user, struct knit_span value, uint32_t count);

/* Whether calls wait that this thread itself is to run. */
static inline bool knit_handles_has_inline(const struct knit_handles *handles)
{
    return handles->inliner != NULL && knit_inliner_has_work(handles->inliner);
}
