/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor is readable for as long as there is something to do, so it suits every event loop
 * that is level-triggered. Its timer stands for everything of which no other descriptor tells;
 * client.c says what that is.
 */
#include "clients/lib/poll_fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "fastpath/lane/fd.h"
#include "fastpath/lane/timer.h"

void knit_poll_fd_init(struct knit_poll_fd *poll_fd)
{
    *poll_fd = (struct knit_poll_fd){
        .epoll_fd = -1, .timer_fd = -1, .opening_fd = -1, .timer_ns = UINT64_MAX};
}

void knit_poll_fd_fini(struct knit_poll_fd *poll_fd)
{
    knit_fd_close(&poll_fd->epoll_fd);
    knit_fd_close(&poll_fd->timer_fd);
    knit_poll_fd_init(poll_fd);
}

static int add(struct knit_poll_fd *poll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(poll_fd->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int knit_poll_fd_open(struct knit_poll_fd *poll_fd, int stream_fd, int bell_fd)
{
    int r = 0;

    if (knit_poll_fd_is_open(poll_fd))
        return 0;
    poll_fd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    poll_fd->timer_fd = knit_timer_open();
    if (poll_fd->epoll_fd < 0 || poll_fd->timer_fd < 0)
        r = -errno;
    if (r == 0)
        r = add(poll_fd, poll_fd->timer_fd);
    if (r == 0 && stream_fd >= 0)
        r = add(poll_fd, stream_fd);
    if (r == 0 && bell_fd >= 0)
        r = add(poll_fd, bell_fd);
    if (r < 0)
        knit_poll_fd_fini(poll_fd);
    return r;
}

/* Without memory for it the timer alone wakes. */
void knit_poll_fd_add(struct knit_poll_fd *poll_fd, int fd)
{
    if (knit_poll_fd_is_open(poll_fd) && fd >= 0)
        (void)add(poll_fd, fd);
}

void knit_poll_fd_remove(struct knit_poll_fd *poll_fd, int fd)
{
    if (knit_poll_fd_is_open(poll_fd) && fd >= 0)
        (void)epoll_ctl(poll_fd->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void knit_poll_fd_set_opening(struct knit_poll_fd *poll_fd, int fd, bool wants_write)
{
    struct epoll_event event = {
        .events = wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = fd};

    if (!knit_poll_fd_is_open(poll_fd) ||
        (fd == poll_fd->opening_fd && wants_write == poll_fd->opening_wants))
        return;
    if (fd != poll_fd->opening_fd)
        knit_poll_fd_remove(poll_fd, poll_fd->opening_fd);
    if (fd >= 0 && epoll_ctl(poll_fd->epoll_fd,
                       fd == poll_fd->opening_fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        fd = -1;
    poll_fd->opening_fd = fd;
    poll_fd->opening_wants = wants_write;
}

void knit_poll_fd_set_writing(
    const struct knit_poll_fd *poll_fd, int fd, bool wants_write, bool *registered)
{
    struct epoll_event event = {
        .events = wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = fd};

    if (wants_write == *registered)
        return;
    (void)epoll_ctl(poll_fd->epoll_fd, EPOLL_CTL_MOD, fd, &event);
    *registered = wants_write;
}

void knit_poll_fd_update(struct knit_poll_fd *poll_fd, uint64_t at_ns, uint64_t now_ns)
{
    bool is_expired = poll_fd->timer_ns <= now_ns;

    /* Each setting is a system call. It makes the timer expire earlier, or ends that it is expired;
       one that expires too early costs one turn that finds nothing. */
    if (is_expired ? at_ns <= now_ns : poll_fd->timer_ns <= at_ns)
        return;
    poll_fd->timer_ns = at_ns;
    knit_timer_arm(poll_fd->timer_fd, at_ns == UINT64_MAX ? 0 : at_ns == 0 ? 1 : at_ns);
}

void knit_poll_fd_wait(int stream_fd, bool wants_write, int bell_fd, int wait_ms)
{
    struct pollfd polled[] = {{.fd = stream_fd, .events = wants_write ? POLLIN | POLLOUT : POLLIN},
        {.fd = bell_fd, .events = POLLIN}};

    (void)poll(polled, sizeof(polled) / sizeof(polled[0]), wait_ms);
}
