/* SPDX-License-Identifier: Apache-2.0 */
/* Which known name a misspelt one probably means: for errors about unknown tasks, options and
 * settings.
 *
 * The distance of two names is the number of single letters that are inserted, left out, changed or
 * swapped with the next one. A name is near when at most a third of the misspelt name's letters,
 * plus one, differ; beyond that two names look alike by accident. A name that begins with the
 * misspelt one, of three letters or more, is as near as one letter: an abbreviation lacks many.
 *
 *     knit_nearest_init(&nearest, given, strlen(given));
 *     for each known name
 *         if (knit_nearest_try(&nearest, known, strlen(known)))
 *             found = known;
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/limits.h"

/* Longest name that is compared; longer ones are near nothing. */
enum { KNIT_NEAREST_NAME_MAX = KNIT_NAME_BYTES_MAX };

struct knit_nearest {
    const char *name; /* borrowed */
    size_t len;
    size_t below; /* a name is taken if its distance is smaller; 0 = no further name can be */
};

void knit_nearest_init(struct knit_nearest *nearest, const char *name, size_t len);

/* Whether `name` is near, and nearer than all names that were tried before. */
KNIT_MUST_CHECK bool knit_nearest_try(struct knit_nearest *nearest, const char *name, size_t len);
