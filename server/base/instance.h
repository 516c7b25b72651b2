/* SPDX-License-Identifier: Apache-2.0 */
/* Which run of the daemon this is: a name by random, by which callers tell one from another, since
 * what a daemon remembers of calls ends with it.
 *
 * Threads: any; it does not change.
 */
#pragma once

#include <knitting/code.h>

struct knit_instance {
    char text[33]; /* 32 hexadecimal digits */
};

/* Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_instance_make(struct knit_instance *instance);
