/* SPDX-License-Identifier: Apache-2.0 */
/* Optimal string alignment distance over three rows. Names are short and this runs only on
 * mistakes, so there is nothing to make fast; the bound on the length keeps the rows on the stack.
 */
#include "proto/nearest.h"

#include <stdint.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t knit_nearest_distance(const char *left, const char *right)
{
    size_t rows[3][KNIT_NEAREST_NAME_MAX + 1];
    size_t left_len = strlen(left), right_len = strlen(right);

    if (left_len > KNIT_NEAREST_NAME_MAX || right_len > KNIT_NEAREST_NAME_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= right_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= left_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= right_len; j++) {
            row[j] = least(
                least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (left[i - 1] != right[j - 1]));
            if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1])
                row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
        }
    }
    return rows[left_len % 3][right_len];
}

int knit_nearest_is_close(const char *name, size_t distance)
{
    size_t bound = strlen(name) / 3;

    return distance <= (bound < 2 ? 2 : bound);
}
