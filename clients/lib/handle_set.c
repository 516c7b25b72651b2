/* SPDX-License-Identifier: Apache-2.0 */
/* A handle's place in a set: among those that wait, then in the list of those that are done. */
#include <stdlib.h>

#include "clients/lib/handle.h"
#include "clients/lib/members.h"

static void leave_waiting(struct knit_handle *handle)
{
    struct knit_set *set = handle->set;

    set->waiting[handle->place_in_set] = NULL;
    set->count--;
}

void knit_handle_finish_in_set(struct knit_handle *handle)
{
    struct knit_set *set = handle->set;

    leave_waiting(handle);
    handle->next_done = NULL;
    if (set->done == NULL)
        set->done = handle;
    else
        set->last_done->next_done = handle;
    set->last_done = handle;
    set->done_count++;
}

void knit_handle_leave_set(struct knit_handle *handle)
{
    struct knit_set *set = handle->set;
    struct knit_handle *before = NULL;

    handle->flags &= ~(uint32_t)KNIT_HANDLE_IN_SET;
    if ((handle->flags & KNIT_HANDLE_WAITING) != 0) {
        leave_waiting(handle);
        return;
    }
    for (struct knit_handle *at = set->done; at != handle; at = at->next_done)
        before = at;
    if (before == NULL)
        set->done = handle->next_done;
    else
        before->next_done = handle->next_done;
    if (set->last_done == handle)
        set->last_done = before;
    set->done_count--;
}

void knit_handle_set_free(struct knit_set *set)
{
    TAILQ_REMOVE(&set->handles->sets, set, entry);
    free(set->waiting);
    free(set);
}
