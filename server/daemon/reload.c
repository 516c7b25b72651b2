/* SPDX-License-Identifier: Apache-2.0 */
/* A part that is not given takes no part. */
#include "server/daemon/reload.h"

int knit_reload(const struct knit_reload_part *parts, size_t count, struct knit_sentence *why)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++)
        if (parts[i].name != NULL)
            r = parts[i].prepare(parts[i].arg, why);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].name == NULL)
            continue;
        if (r == 0)
            parts[i].commit(parts[i].arg);
        else
            parts[i].abandon(parts[i].arg);
    }
    return r;
}
