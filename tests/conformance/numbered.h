/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the tasks of module_numbered.c, which their caller knows too. */
#pragma once

#include <stdio.h>
#include <string.h>

enum { NUMBERED_BYTES = 129, NUMBERED_LETTERS = 26 };

static inline void numbered_name(char name[NUMBERED_BYTES], int number)
{
    const int len = 126 + number / NUMBERED_LETTERS % 3;
    char group[16];
    int at = snprintf(group, sizeof(group), "_%d_", number / NUMBERED_LETTERS);

    memset(name, 'n', (size_t)len);
    memcpy(name + len - 1 - at, group, (size_t)at);
    name[len - 1] = (char)('a' + number % NUMBERED_LETTERS);
    name[len] = '\0';
}
