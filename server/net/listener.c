/* SPDX-License-Identifier: Apache-2.0 */
/* Each turn accepts a bounded number, so that a flood of connections cannot keep the thread from
 * its other work.
 *
 * That accept() does not wait is a flag of the open file, which other processes may hold too: those
 * that it is shared with, and whoever started this one. One of them may take it away at any time:
 * systemd does so for each unit without NonBlocking=yes that the socket is passed to. So the socket
 * has a timeout as well, which is not a flag of the file, and a turn that finds no connection sets
 * the flag again. Rejected: poll() before each accept(), between which another process may accept.
 */
#include "server/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/net/closer.h"

enum { ACCEPTS_A_TURN = 64 };
static const struct timeval pause_time = {0, 50 * 1000}, moment = {0, 1000};

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* If the pause cannot be set, accepting goes on at once: that is better than never. */
static void pause_accepting(struct knit_listener *listener, const struct timeval *span)
{
    if (event_add(listener->pause_event, span) == 0)
        (void)event_del(listener->accept_event);
}

static void turn_away(struct knit_listener *listener, int error)
{
    if (listener->spare_fd >= 0) {
        int fd;

        (void)close(listener->spare_fd);
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            knit_closer_close(listener->closer, fd);
    }
    listener->spare_fd = open_spare();
    pause_accepting(listener, &pause_time);
    listener->on_exhausted(listener->arg, error);
}

static void prepare_tcp(int fd)
{
    int on = 1;

    /* Replies of one turn go out in one write; waiting for more would only delay them. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* To one tick of the kernel's clock. */
static void limit_wait(int fd)
{
    static const struct timeval shortest = {0, 1};

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &shortest, sizeof(shortest));
}

static void stay_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && (flags & O_NONBLOCK) == 0)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    struct knit_listener *listener = arg;

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int accepted;

        if (knit_closer_count(listener->closer) >= KNIT_CLOSER_MANY) {
            pause_accepting(listener, &pause_time);
            return;
        }
        accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            if (listener->kind != KNIT_LISTENER_UNIX)
                prepare_tcp(accepted);
            if (!listener->on_accept(listener->arg, accepted, listener->kind)) {
                pause_accepting(listener, &moment);
                return;
            }
            if (listener->is_held)
                return;
            continue;
        }
        if (errno == EAGAIN) {
            stay_nonblocking(fd);
            return;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            turn_away(listener, errno);
            return;
        }
        /* Other errors concern one connection, which was gone before it was accepted. */
    }
}

static void on_pause_over(evutil_socket_t fd, short events, void *arg)
{
    struct knit_listener *listener = arg;

    (void)fd, (void)events;
    if (!listener->is_held && event_add(listener->accept_event, NULL) < 0)
        (void)event_add(listener->pause_event, &pause_time);
}

void knit_listener_hold(struct knit_listener *listener, bool is_held)
{
    listener->is_held = is_held;
    if (listener->accept_event == NULL)
        return;
    if (is_held)
        (void)event_del(listener->accept_event);
    else if (event_pending(listener->pause_event, EV_TIMEOUT, NULL) == 0)
        on_pause_over(-1, 0, listener);
}

int knit_listener_start(struct knit_listener *listener, struct event_base *base)
{
    listener->accept_event =
        event_new(base, listener->fd, EV_READ | EV_PERSIST, on_readable, listener);
    listener->pause_event = evtimer_new(base, on_pause_over, listener);
    listener->spare_fd = open_spare();
    limit_wait(listener->fd);
    if (listener->accept_event == NULL || listener->pause_event == NULL ||
        event_add(listener->accept_event, NULL) < 0) {
        knit_listener_stop(listener);
        return -ENOMEM;
    }
    return 0;
}

void knit_listener_stop(struct knit_listener *listener)
{
    if (listener->accept_event != NULL)
        event_free(listener->accept_event);
    if (listener->pause_event != NULL)
        event_free(listener->pause_event);
    if (listener->spare_fd > 0)
        (void)close(listener->spare_fd);
    listener->accept_event = listener->pause_event = NULL;
    listener->spare_fd = -1;
}
