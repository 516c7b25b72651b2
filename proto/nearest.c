/* SPDX-License-Identifier: Apache-2.0 */
/* Optimal string alignment distance over three rows. A search among thousands of tasks is the
 * costly case, so a comparison ends as soon as the distance is known to be too large: most names
 * differ in length by too much, or have differed too often after a few letters.
 */
#include "proto/nearest.h"

#include <string.h>

enum { ABBREVIATED_MIN = 3 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The distance if it is smaller than `below`, else `below`. */
static size_t distance(
    const char *left, size_t left_len, const char *right, size_t right_len, size_t below)
{
    size_t rows[3][KNIT_NEAREST_NAME_MAX + 1];
    size_t best_above = 0;

    if ((left_len > right_len ? left_len - right_len : right_len - left_len) >= below)
        return below;
    for (size_t j = 0; j <= right_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= left_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3];
        size_t best = row[0] = i;

        for (size_t j = 1; j <= right_len; j++) {
            row[j] = least(
                least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (left[i - 1] != right[j - 1]));
            if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1])
                row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
            best = least(best, row[j]);
        }
        /* A row is made of the two above it, of the upper one only by a swap, which costs one. */
        if (best >= below && best_above + 1 >= below)
            return below;
        best_above = best;
    }
    return least(rows[left_len % 3][right_len], below);
}

void knit_nearest_init(struct knit_nearest *nearest, const char *name, size_t len)
{
    nearest->name = name;
    nearest->len = len;
    nearest->below = len == 0 || len > KNIT_NEAREST_NAME_MAX ? 0 : len / 3 + 2;
}

static bool is_abbreviated(const struct knit_nearest *nearest, const char *name, size_t len)
{
    return nearest->len >= ABBREVIATED_MIN && nearest->len < len &&
           memcmp(nearest->name, name, nearest->len) == 0;
}

bool knit_nearest_try(struct knit_nearest *nearest, const char *name, size_t len)
{
    size_t found;

    if (nearest->below == 0 || len > KNIT_NEAREST_NAME_MAX)
        return false;
    if (is_abbreviated(nearest, name, len))
        found = least(1, nearest->below);
    else
        found = distance(nearest->name, nearest->len, name, len, nearest->below);
    if (found == nearest->below)
        return false;
    nearest->below = found;
    return true;
}
