/* SPDX-License-Identifier: Apache-2.0 */
/* What calls of one task by one signature have in common, resolved once: the shape, the number of
 * the task, its timeout.
 *
 * Every call is made of one. A caller makes its own by knit_prepare(). For calls that name their
 * task, the session keeps those it used last: a caller has few tasks and calls each again and
 * again.
 *
 * Numbers of tasks are those of one registry. Once the session has another, or its own is out of
 * date, the age says so and the number is asked for again.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>

#include "clients/lib/shape.h"
#include "clients/lib/stream.h"

struct knit_typed;
struct knit;
struct knit_prepareds;

struct knit_prepared {
    struct knit_prepareds *all; /* of its session */
    struct knit_prepared *next_made, *next_spare;
    const char *task;
    const char *signature;              /* NULL: arguments and result are msgpack */
    const char *task_at, *signature_at; /* where the two lay that were given; or NULL */
    uint16_t task_size, signature_size; /* with their ends */
    struct knit_shape *shape;
    uint64_t timeout_ns;         /* through lanes, the task's own; KNIT_OPTION_NONE = none */
    struct knit_span on_timeout; /* and what comes then, in the registry; absent = TIMEOUT */
    uint32_t references;         /* by its owner and by each handle of a call */
    uint32_t age;                /* knit_lanes_age() when these were asked for; 0 = not yet */
    uint32_t usual_age;          /* the same, if the task has no timeout; else 0, which no age is */
    uint32_t task_id;
    uint64_t head;                        /* knit_lanes_head() */
    bool is_short;                        /* its shape is */
    bool is_of_protocol;                  /* "$/...", which never goes through lanes */
    bool is_freed;                        /* by its owner */
    const struct knit_typed *typed;       /* the declaration it is of (typed.h); NULL: of none */
    uint32_t fits_ages[KNIT_STREAMS_MAX]; /* over each stream: of the tasks that it fits */
};

enum {
    KNIT_PREPAREDS_KEPT = 64,
    /* Bytes of a text, with its end, that is compared without a look for its end: half of a word,
       and what lies within one page of the smallest size. */
    KNIT_PREPARED_SIZE_MIN = 4,
    KNIT_PREPARED_PAGE = 4096,
};

/* Those of a session. All zero, but for the session: there is none yet. */
struct knit_prepareds {
    struct knit *session;
    struct knit_prepared *made, *spare;
    struct knit_prepared *kept[KNIT_PREPAREDS_KEPT]; /* for calls that name their task */
    struct knit_prepared **typed; /* by their declarations' addresses; a power of two of places, */
    uint32_t typed_places, typed_count; /* of which at most half are taken; or NULL */
};

/* Frees all of them, used or not. */
void knit_prepareds_fini(struct knit_prepareds *prepareds);

/* Copies both texts; the caller owns it. Returns 0, KNIT_SHAPE_E_SYNTAX, -EINVAL (the
 * task is NULL), -ENOMEM. */
KNIT_MUST_CHECK int knit_prepared_new(struct knit_prepareds *prepareds, const char *task,
    const char *signature, struct knit_prepared **ret, struct knit_shape_flaw *ret_flaw);

/* Its owner needs it no more; handles may. A second time changes nothing, unless another one has
 * been made in its place. */
void knit_prepared_disown(struct knit_prepared *prepared);

/* Nobody uses it any more. knit_prepared_release() and knit_prepared_disown() are the callers. */
void knit_prepared_recycle(struct knit_prepared *prepared);

/* The handle of a call is dropped. */
static inline void knit_prepared_release(struct knit_prepared *prepared)
{
    if (--prepared->references == 0)
        knit_prepared_recycle(prepared);
}

/* ---- for calls of a declaration ---- */

/* The first place to look at. */
static inline uint32_t knit_prepareds_typed_place(
    const struct knit_prepareds *prepareds, const struct knit_typed *typed)
{
    return (uint32_t)((uint64_t)(uintptr_t)typed * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
           (prepareds->typed_places - 1);
}

/* The one that knit_prepareds_add_typed() was told of; or NULL. */
static inline struct knit_prepared *knit_prepareds_find_typed(
    const struct knit_prepareds *prepareds, const struct knit_typed *typed)
{
    struct knit_prepared *found;
    uint32_t at;

    if (prepareds->typed == NULL)
        return NULL;
    for (at = knit_prepareds_typed_place(prepareds, typed);;
         at = (at + 1) & (prepareds->typed_places - 1)) {
        found = prepareds->typed[at];
        if (found == NULL || found->typed == typed)
            return found;
    }
}

/* It is of its `typed` from now on. Returns 0, -ENOMEM. */
KNIT_MUST_CHECK int knit_prepareds_add_typed(
    struct knit_prepareds *prepareds, struct knit_prepared *prepared);

/* ---- for calls that name their task ---- */

/* The slow part of knit_prepareds_find(), which is the one caller. */
KNIT_MUST_CHECK int knit_prepareds_look_up(struct knit_prepareds *prepareds, const char *task,
    const char *signature, struct knit_prepared **ret, struct knit_shape_flaw *ret_flaw);

/* By Fibonacci hashing, because literals lie close together. */
static inline struct knit_prepared **knit_prepareds_place(
    struct knit_prepareds *prepareds, const char *task, const char *signature)
{
    uint64_t hash = ((uint64_t)(uintptr_t)task + 31 * (uint64_t)(uintptr_t)signature) *
                    UINT64_C(0x9e3779b97f4a7c15);

    return &prepareds->kept[hash >> 32 & (KNIT_PREPAREDS_KEPT - 1)];
}

static inline bool knit_prepared_is_word(const char *text, const char *kept)
{
    return memcmp(text, kept, sizeof(uint64_t)) == 0;
}

/* The same text, of `size` bytes, at least KNIT_PREPARED_SIZE_MIN. */
static inline bool knit_prepared_is_text(const char *text, const char *kept, size_t size)
{
    const size_t rest = size - sizeof(uint64_t);

    if (size < sizeof(uint64_t))
        return memcmp(text, kept, sizeof(uint32_t)) == 0 &&
               memcmp(text + size - sizeof(uint32_t), kept + size - sizeof(uint32_t),
                   sizeof(uint32_t)) == 0;
    for (size_t at = 0; at < rest; at += sizeof(uint64_t)) {
        if (!knit_prepared_is_word(text + at, kept + at))
            return false;
    }
    return knit_prepared_is_word(text + rest, kept + rest);
}

/* The one that is kept for those two, if they lie where they lay before and are what they were; or
 * NULL. signature: NULL = raw. */
KNIT_ALWAYS_INLINE struct knit_prepared *knit_prepareds_kept(
    struct knit_prepareds *prepareds, const char *task, const char *signature)
{
    struct knit_prepared *found = *knit_prepareds_place(prepareds, task, signature);

    return found != NULL && found->task_at == task && found->signature_at == signature &&
                   knit_prepared_is_text(task, found->task, found->task_size) &&
                   (signature == NULL ||
                       knit_prepared_is_text(signature, found->signature, found->signature_size))
               ? found
               : NULL;
}

/* The addresses of the texts, which are literals most often, say where to look; a caller may have
 * changed a text in place, so the texts themselves are compared. Good until the next one is asked
 * for, unless a handle refers to it. Returns what knit_prepared_new() returns. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE int knit_prepareds_find(struct knit_prepareds *prepareds,
    const char *task, const char *signature, struct knit_prepared **ret,
    struct knit_shape_flaw *ret_flaw)
{
    struct knit_prepared *found = knit_prepareds_kept(prepareds, task, signature);

    if (found == NULL)
        return knit_prepareds_look_up(prepareds, task, signature, ret, ret_flaw);
    *ret = found;
    return 0;
}
