/* SPDX-License-Identifier: Apache-2.0 */
/* Notifications in a pool of this process.
 *
 * What is in a lane is given up with the session that its memory belongs to. A notification
 * outlives its caller's session, so it is a call of another one: of the pool's own, which is opened
 * for the first of them, and whose outcomes the pool's thread drops. Callers' threads start calls
 * in it under a lock, and no lock is held while one of them waits for room. The other way, to leave
 * a closed session to the pool until its notifications are through, was rejected: a session has one
 * thread, and each would need a second owner.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include <knitting/pool.h>

#include "proto/span.h"

struct knit_notifier {
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t turned; /* outcomes were dropped, or it has ended */
    struct knit *k;        /* NULL: nobody has notified yet, or it has ended */
    bool has_ended;
};

void knit_notifier_init(struct knit_notifier *notifier);

/* After knit_notifier_end(), or before anybody notified. */
void knit_notifier_fini(struct knit_notifier *notifier);

/* Start a call of which nobody hears again. waits: for room, where else KNIT_WOULD_BLOCK is
 * returned; not for the pool's thread, which makes it. *ret_is_first: the pool's thread has to look
 * at knit_notifier_fd(). Returns KNIT_OK, also for a task that does not exist, or the code. */
KNIT_MUST_CHECK int knit_notifier_start(struct knit_notifier *notifier, struct knit_pool *pool,
    bool waits, const char *task, struct knit_span params, bool *ret_is_first,
    struct knit_error *ret_error);

/* ---- by the pool's thread ---- */

/* Readable when there is something to dispatch; -1: there is none yet. */
int knit_notifier_fd(struct knit_notifier *notifier);

void knit_notifier_dispatch(struct knit_notifier *notifier);

/* The pool has stopped. */
void knit_notifier_end(struct knit_notifier *notifier);
