/* SPDX-License-Identifier: Apache-2.0 */
/* Level-triggered: what one call of epoll_wait() leaves out is there in the next one. */
#include "server/net/hangup.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>

#include "fastpath/lane/fd.h"

enum { EVENTS_A_READ = 64 };

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    const struct knit_hangup_monitor *hangups = arg;
    struct epoll_event seen[EVENTS_A_READ];
    int count = epoll_wait(fd, seen, EVENTS_A_READ, 0);

    (void)events;
    for (int i = 0; i < count; i++)
        hangups->on_hangup(seen[i].data.ptr, (seen[i].events & (EPOLLERR | EPOLLHUP)) != 0);
}

int knit_hangup_open(
    struct knit_hangup_monitor *hangups, struct event_base *base, knit_hangup_on_hangup *on_hangup)
{
    hangups->on_hangup = on_hangup;
    hangups->fd = epoll_create1(EPOLL_CLOEXEC);
    if (hangups->fd < 0)
        return -errno;
    hangups->event = event_new(base, hangups->fd, EV_READ | EV_PERSIST, on_readable, hangups);
    if (hangups->event == NULL || event_add(hangups->event, NULL) < 0) {
        knit_hangup_close(hangups);
        return -ENOMEM;
    }
    return 0;
}

void knit_hangup_close(struct knit_hangup_monitor *hangups)
{
    if (hangups->event != NULL)
        event_free(hangups->event);
    hangups->event = NULL;
    knit_fd_close(&hangups->fd);
}

int knit_hangup_add(struct knit_hangup_monitor *hangups, int fd, void *arg, bool has_end)
{
    struct epoll_event wanted = {.events = has_end ? EPOLLRDHUP : 0, .data.ptr = arg};

    return epoll_ctl(hangups->fd, EPOLL_CTL_ADD, fd, &wanted) < 0 ? -errno : 0;
}

void knit_hangup_remove(struct knit_hangup_monitor *hangups, int fd)
{
    struct epoll_event unused;

    (void)epoll_ctl(hangups->fd, EPOLL_CTL_DEL, fd, &unused);
}
