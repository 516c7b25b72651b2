/* SPDX-License-Identifier: Apache-2.0 */
/* Level-triggered: what one look leaves out, the next one finds. */
#include "server/net/departures.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server/net/connection.h"

enum { DEPARTURES_A_LOOK = 64 };

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    struct epoll_event seen[DEPARTURES_A_LOOK];
    int count = epoll_wait(fd, seen, DEPARTURES_A_LOOK, 0);

    (void)events, (void)arg;
    for (int i = 0; i < count; i++)
        knit_connection_on_departure(
            seen[i].data.ptr, (seen[i].events & (EPOLLERR | EPOLLHUP)) != 0);
}

int knit_departures_open(struct knit_departures *departures, struct event_base *base)
{
    departures->fd = epoll_create1(EPOLL_CLOEXEC);
    if (departures->fd < 0)
        return -errno;
    departures->event = event_new(base, departures->fd, EV_READ | EV_PERSIST, on_readable, NULL);
    if (!departures->event || event_add(departures->event, NULL) < 0) {
        knit_departures_close(departures);
        return -ENOMEM;
    }
    return 0;
}

void knit_departures_close(struct knit_departures *departures)
{
    if (departures->event)
        event_free(departures->event);
    departures->event = NULL;
    if (departures->fd >= 0)
        (void)close(departures->fd);
    departures->fd = -1;
}

int knit_departures_watch(
    struct knit_departures *departures, struct knit_connection *connection, bool has_end)
{
    struct epoll_event wanted = {.events = has_end ? EPOLLRDHUP : 0, .data.ptr = connection};

    return epoll_ctl(departures->fd, EPOLL_CTL_ADD, connection->fd, &wanted) < 0 ? -errno : 0;
}

void knit_departures_take_off(
    struct knit_departures *departures, const struct knit_connection *connection)
{
    struct epoll_event unused;

    (void)epoll_ctl(departures->fd, EPOLL_CTL_DEL, connection->fd, &unused);
}
