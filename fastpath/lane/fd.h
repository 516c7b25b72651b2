/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a descriptor that may never have been opened: -1 means none. So one function takes down
 * a structure that is complete, half built or already taken down.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static inline void knit_fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* The first statement of a program: takes the numbers 0 to 2 where they are closed. Otherwise the
 * next socket would get one of them, and what is printed would go into it. Reading and writing what
 * is put there fails with EBADF, as it would on a closed one. Returns 0 or -errno. */
static inline int knit_fd_reserve_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/", O_PATH | O_DIRECTORY) != fd)
            return -errno;
    }
    return 0;
}
