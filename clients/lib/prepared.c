/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of one that was freed belongs to the session until that is closed, and the next one
 * takes it: until then a caller that uses one once more is told so instead of reading what is no
 * longer there, and freeing it twice changes nothing.
 */
#include "clients/lib/prepared.h"

#include <errno.h>
#include <stdlib.h>

enum { TYPED_PLACES_FIRST = 16 };

static struct knit_prepared *take_spare(struct knit_prepareds *prepareds)
{
    struct knit_prepared *prepared = prepareds->spare;

    if (prepared != NULL) {
        prepareds->spare = prepared->next_spare;
        return prepared;
    }
    prepared = calloc(1, sizeof(*prepared));
    if (prepared == NULL)
        return NULL;
    prepared->all = prepareds;
    prepared->next_made = prepareds->made;
    prepareds->made = prepared;
    return prepared;
}

static void free_parts(struct knit_prepared *prepared)
{
    free((char *)prepared->task);
    free((char *)prepared->signature);
    (void)knit_shape_free(prepared->shape);
    prepared->task = prepared->signature = NULL;
    prepared->shape = NULL;
}

void knit_prepared_recycle(struct knit_prepared *prepared)
{
    free_parts(prepared);
    prepared->next_spare = prepared->all->spare;
    prepared->all->spare = prepared;
}

int knit_prepared_new(struct knit_prepareds *prepareds, const char *task, const char *signature,
    struct knit_prepared **ret, struct knit_shape_flaw *ret_flaw)
{
    struct knit_prepared *prepared;
    int r = 0;

    if (task == NULL)
        return -EINVAL;
    prepared = take_spare(prepareds);
    if (prepared == NULL)
        return -ENOMEM;
    prepared->is_freed = false;
    prepared->is_of_protocol = strncmp(task, "$/", 2) == 0;
    prepared->references = 1;
    prepared->age = prepared->usual_age = 0;
    prepared->task_at = NULL;
    prepared->typed = NULL;
    memset(prepared->fits_ages, 0, sizeof(prepared->fits_ages));
    prepared->task = strdup(task);
    if (signature != NULL) {
        prepared->signature = strdup(signature);
        r = knit_shape_new(signature, &prepared->shape, ret_flaw);
    }
    if (r == 0 && (prepared->task == NULL || (signature != NULL && prepared->signature == NULL)))
        r = -ENOMEM;
    prepared->is_short = prepared->shape != NULL && prepared->shape->is_short;
    if (r == 0)
        *ret = prepared;
    else
        knit_prepared_disown(prepared);
    return r;
}

void knit_prepared_disown(struct knit_prepared *prepared)
{
    if (prepared->is_freed)
        return;
    prepared->is_freed = true;
    knit_prepared_release(prepared);
}

void knit_prepareds_fini(struct knit_prepareds *prepareds)
{
    struct knit_prepared *prepared, *next;

    for (prepared = prepareds->made; prepared != NULL; prepared = next) {
        next = prepared->next_made;
        free_parts(prepared);
        free(prepared);
    }
    prepareds->made = prepareds->spare = NULL;
    free(prepareds->typed);
    prepareds->typed = NULL;
}

static void put_typed(struct knit_prepareds *prepareds, struct knit_prepared *prepared)
{
    uint32_t at = knit_prepareds_typed_place(prepareds, prepared->typed);

    while (prepareds->typed[at] != NULL)
        at = (at + 1) & (prepareds->typed_places - 1);
    prepareds->typed[at] = prepared;
    prepareds->typed_count++;
}

static int grow_typed(struct knit_prepareds *prepareds)
{
    struct knit_prepared **old = prepareds->typed;
    const uint32_t old_places = prepareds->typed_places;
    const uint32_t places = old_places != 0 ? 2 * old_places : TYPED_PLACES_FIRST;
    struct knit_prepared **typed = calloc(places, sizeof(struct knit_prepared *));

    if (typed == NULL)
        return -ENOMEM;
    prepareds->typed = typed;
    prepareds->typed_places = places;
    prepareds->typed_count = 0;
    for (uint32_t i = 0; i < old_places; i++) {
        if (old[i] != NULL)
            put_typed(prepareds, old[i]);
    }
    free(old);
    return 0;
}

int knit_prepareds_add_typed(struct knit_prepareds *prepareds, struct knit_prepared *prepared)
{
    int r = 0;

    if (prepareds->typed_count >= prepareds->typed_places / 2)
        r = grow_typed(prepareds);
    if (r == 0)
        put_typed(prepareds, prepared);
    return r;
}

static bool is_same(const char *text, const char *other)
{
    return text == NULL || other == NULL ? text == other : strcmp(text, other) == 0;
}

/* Where the text lies, if it may be compared without a look for its end; 0: it may not. A shorter
 * one may lie there later; but its first byte is in the same page, so what is read behind its end
 * is there too, and it differs at its end. */
static uint16_t size_of(const char *text)
{
    const size_t size = strlen(text) + 1;

    return size < KNIT_PREPARED_SIZE_MIN ||
                   size > KNIT_PREPARED_PAGE - (uintptr_t)text % KNIT_PREPARED_PAGE
               ? 0
               : (uint16_t)size;
}

/* From now on it is found by these addresses. */
static void settle(struct knit_prepared *prepared, const char *task, const char *signature)
{
    prepared->task_size = size_of(task);
    prepared->signature_size = signature != NULL ? size_of(signature) : 0;
    prepared->signature_at = signature;
    prepared->task_at =
        prepared->task_size != 0 && (signature == NULL || prepared->signature_size != 0)
            ? task
            : prepared->task;
}

int knit_prepareds_look_up(struct knit_prepareds *prepareds, const char *task,
    const char *signature, struct knit_prepared **ret, struct knit_shape_flaw *ret_flaw)
{
    struct knit_prepared **place = knit_prepareds_place(prepareds, task, signature);
    struct knit_prepared *prepared = *place;
    int r;

    if (task == NULL)
        return -EINVAL;
    if (prepared == NULL || !is_same(prepared->task, task) ||
        !is_same(prepared->signature, signature)) {
        r = knit_prepared_new(prepareds, task, signature, &prepared, ret_flaw);
        if (r != 0)
            return r;
        if (*place != NULL)
            knit_prepared_disown(*place);
        *place = prepared;
    }
    settle(prepared, task, signature);
    *ret = prepared;
    return 0;
}
