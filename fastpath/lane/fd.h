/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a descriptor that may never have been opened: -1 means none. So one function takes down
 * a structure that is complete, half built or already taken down.
 */
#pragma once

#include <unistd.h>

static inline void knit_fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}
