/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe and not an eventfd: every holder of an eventfd shares one open file description, and with
 * it O_NONBLOCK, which a task could take off. The event loop has the end of the pipe that is read,
 * the host one to write to, and each worker gets an open file description of its own.
 */
#include "fastpath/host/loop_bell.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int knit_loop_bell_open(struct knit_host_session *session)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    session->loop_bell_fd = ends[0];
    session->view.bell_fd = ends[1];
    session->view.bell_is_pipe = true;
    return 0;
}

int knit_loop_bell_copy(const struct knit_host_session *session, int *ret_fd)
{
    char path[32];
    int fd;

    if (!session->view.bell_is_pipe) {
        *ret_fd = session->view.bell_fd;
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", session->view.bell_fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

void knit_loop_bell_close_copy(const struct knit_host_session *session, int fd)
{
    if (fd != session->view.bell_fd)
        (void)close(fd);
}
