/* SPDX-License-Identifier: Apache-2.0 */
/* What a set knows of its calls (<knitting/set.h>): those that wait, in an array, and those that
 * are done, in a list that goes through their handles. A handle tells its set when it ends; the
 * functions here are in handle.c.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct knit_handle;
struct knit_handles;

struct knit_set {
    TAILQ_ENTRY(knit_set) entry;
    struct knit_handles *handles; /* of the set's session */
    struct knit_handle *
        *waiting;            /* [room], in the order in which they were added; NULL: has left */
    size_t first, end, room; /* of these places those in use */
    size_t count;            /* how many wait */
    struct knit_handle *done, *last_done;
    size_t done_count;
    bool is_awaited; /* by a function that goes on with it after callbacks */
};

/* Of a handle in a set: it waits no more and is done; it is in no set any more. */
void knit_handle_finish_in_set(struct knit_handle *handle);
void knit_handle_leave_set(struct knit_handle *handle);

void knit_handle_set_free(struct knit_set *set); /* and none of its handles */
