/* SPDX-License-Identifier: Apache-2.0 */
/* The name somebody probably meant. */
#pragma once

#include <stddef.h>

/* Longest name that is compared; longer ones are near nothing. */
#define KNIT_NEAREST_NAME_MAX 64

/* How many single letters lie between two names (inserted, left out, changed or swapped with the
 * next one). */
size_t knit_nearest_distance(const char *left, const char *right);

/* Whether `distance` is close enough to `name` to be worth naming: a third of its letters, at least
 * two. */
int knit_nearest_is_close(const char *name, size_t distance);
