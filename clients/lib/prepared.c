/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of one that was freed belongs to the session until that is closed, and the next one
 * takes it: until then a caller that uses one once more is told so instead of reading what is no
 * longer there, and freeing it twice changes nothing.
 */
#include "clients/lib/prepared.h"

#include <errno.h>
#include <stdlib.h>

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
    struct knit_prepared *prepared = take_spare(prepareds);
    int r = 0;

    if (prepared == NULL)
        return -ENOMEM;
    prepared->is_freed = false;
    prepared->is_of_protocol = strncmp(task, "$/", 2) == 0;
    prepared->references = 1;
    prepared->age = 0;
    prepared->task = strdup(task);
    if (signature != NULL) {
        prepared->signature = strdup(signature);
        r = knit_shape_new(signature, &prepared->shape, ret_flaw);
    }
    if (r == 0 && (prepared->task == NULL || (signature != NULL && prepared->signature == NULL)))
        r = -ENOMEM;
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
}

int knit_prepareds_replace(struct knit_prepareds *prepareds, struct knit_prepared **place,
    const char *task, const char *signature, struct knit_prepared **ret,
    struct knit_shape_flaw *ret_flaw)
{
    struct knit_prepared *prepared;
    int r = knit_prepared_new(prepareds, task, signature, &prepared, ret_flaw);

    if (r != 0)
        return r;
    if (*place != NULL)
        knit_prepared_disown(*place);
    *ret = *place = prepared;
    return 0;
}
