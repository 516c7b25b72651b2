/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations of <knitting/typed.h> in a session: each becomes a prepared call once, and is
 * compared with what the pool publishes before its first call and whenever the pool's tasks have
 * changed.
 *
 * Two designs were weighed for a session over a stream, which has no registry: to send the
 * signature with each call, for the daemon to compare, or to fetch the registry once. The second
 * costs nothing in a call and asks nothing new of the protocol; that tasks changed meanwhile shows
 * in the answers that a change can cause, and the daemon checks arguments in any case. */
#pragma once

#include <knitting/typed_types.h>

#include "clients/lib/client.h"
#include "clients/lib/prepared.h"
#include "proto/signature.h"

/* The slow part of knit_typed_find(), which is the one caller. */
KNIT_MUST_CHECK int knit_typed_prepare(struct knit *k, const struct knit_typed *typed,
    struct knit_prepared **ret, struct knit_error *ret_error);

/* The session's prepared call of a declaration. Returns KNIT_OK, or a code. */
KNIT_MUST_CHECK static inline int knit_typed_find(struct knit *k, const struct knit_typed *typed,
    struct knit_prepared **ret, struct knit_error *ret_error)
{
    int code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    *ret = knit_prepareds_find_typed(&k->prepareds, typed);
    return *ret != NULL ? KNIT_OK : knit_typed_prepare(k, typed, ret, ret_error);
}

/* Whether calls of a declaration are right for a task that publishes that signature. Returns
 * KNIT_OK, KNIT_BAD_ARGUMENT, KNIT_INTERNAL. */
KNIT_MUST_CHECK int knit_typed_compare(const struct knit_prepared *prepared,
    const struct knit_signature *published, struct knit_error *ret_error);

/* The same with the task of that name, which the registry of the session's lanes has. Before it is
 * denied, the pool's tasks are asked for, since they may have changed; *task is then the one that
 * there is now. */
KNIT_MUST_CHECK int knit_typed_compare_on_lanes(struct knit *k,
    const struct knit_prepared *prepared, const struct knit_registry_task **task,
    struct knit_error *ret_error);

/* The same with what a session over a stream is told, for which it waits if it has to. */
KNIT_MUST_CHECK int knit_typed_compare_on_stream(
    struct knit *k, struct knit_prepared *prepared, struct knit_error *ret_error);

/* What tasks there are, over the stream that the next call takes; waits for it once, but in no
 * callback. NULL: it is not known, as a server may refuse to say. */
const struct knit_registry *knit_typed_tasks(struct knit *k);

/* Whether that has been done since the tasks may last have changed. */
static inline bool knit_typed_is_compared(
    const struct knit *k, const struct knit_prepared *prepared)
{
    return prepared->typed == NULL ||
           prepared->fits_ages[k->handles.stream->number] == k->handles.stream->tasks_age;
}

/* A call of a declaration ended with that code, as it may if the tasks have changed. */
void knit_typed_note_code(struct knit *k, int code);
