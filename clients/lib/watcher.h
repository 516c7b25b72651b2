/* SPDX-License-Identifier: Apache-2.0 */
/* What a call that was started with the option `progress` has emitted last, until its callback has
 * been given it.
 *
 * Values come by stream or through lanes, in a turn; callbacks run afterwards, from the list
 * `fresh` of the session's handles, before those of outcomes. So the last value of a call comes
 * before its outcome.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/knitting.h>

#include "fastpath/lane/session.h"
#include "proto/progress.h"

struct knit_watcher {
    struct knit_handle *handle;
    void (*on_progress)(struct knit_handle *handle, const void *value, size_t len, uint64_t count,
        void *user); /* or NULL */
    void *user;
    bool is_fresh;  /* it stands in that list */
    uint64_t count; /* of the value; 0 = there is none yet */
    uint64_t given; /* of the one that the callback was given last */
    size_t len;
    TAILQ_ENTRY(knit_watcher) entry;
    uint64_t body[KNIT_VALUE_WORDS];
};

TAILQ_HEAD(knit_watcher_list, knit_watcher);

/* NULL: out of memory. */
struct knit_watcher *knit_watcher_new(struct knit_handle *handle);

/* NULL is allowed; returns NULL. */
struct knit_watcher *knit_watcher_free(
    struct knit_watcher *watcher, struct knit_watcher_list *fresh);

/* A value has come. One that no call can emit is left out. */
void knit_watcher_note(struct knit_watcher *watcher, struct knit_watcher_list *fresh,
    struct knit_span value, uint64_t count);

/* NULL = no more. */
void knit_watcher_set_callback(struct knit_watcher *watcher, struct knit_watcher_list *fresh,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user);

/* Takes the first of the list out of it, and gives its callback the value. */
void knit_watcher_call_first(struct knit_watcher_list *fresh);
