/* SPDX-License-Identifier: Apache-2.0 */
/* The callback gets a copy, because it may free its handle. */
#include "clients/lib/watcher.h"

#include <stdlib.h>
#include <string.h>

struct knit_watcher *knit_watcher_new(struct knit_handle *handle)
{
    struct knit_watcher *watcher = calloc(1, sizeof(*watcher));

    if (watcher != NULL)
        watcher->handle = handle;
    return watcher;
}

static void leave(struct knit_watcher *watcher, struct knit_watcher_list *fresh)
{
    if (watcher->is_fresh)
        TAILQ_REMOVE(fresh, watcher, entry);
    watcher->is_fresh = false;
}

struct knit_watcher *knit_watcher_free(
    struct knit_watcher *watcher, struct knit_watcher_list *fresh)
{
    if (watcher != NULL)
        leave(watcher, fresh);
    free(watcher);
    return NULL;
}

/* It stands in the list if there is a value that its callback has not been given. */
static void enter(struct knit_watcher *watcher, struct knit_watcher_list *fresh)
{
    if (watcher->is_fresh || watcher->on_progress == NULL || watcher->count == watcher->given)
        return;
    TAILQ_INSERT_TAIL(fresh, watcher, entry);
    watcher->is_fresh = true;
}

void knit_watcher_note(struct knit_watcher *watcher, struct knit_watcher_list *fresh,
    struct knit_span value, uint64_t count)
{
    if (!knit_progress_check(value))
        return;
    memcpy(watcher->body, value.bytes, value.len);
    watcher->len = value.len;
    watcher->count = count;
    enter(watcher, fresh);
}

void knit_watcher_set_callback(struct knit_watcher *watcher, struct knit_watcher_list *fresh,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user)
{
    watcher->on_progress = on_progress;
    watcher->user = user;
    if (on_progress == NULL)
        leave(watcher, fresh);
    enter(watcher, fresh);
}

void knit_watcher_call_first(struct knit_watcher_list *fresh)
{
    struct knit_watcher *watcher = TAILQ_FIRST(fresh);
    struct knit_watcher copy;

    leave(watcher, fresh);
    watcher->given = watcher->count;
    copy = *watcher;
    copy.on_progress(copy.handle, copy.body, copy.len, copy.count, copy.user);
}
