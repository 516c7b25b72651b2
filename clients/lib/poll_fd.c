/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor is readable for as long as there is something to do, so it suits every event loop
 * that is level-triggered. The timer serves three ends. Deadlines. Work that no descriptor would
 * tell of (callbacks that became due outside of a dispatch, answers that came while the lanes' bell
 * was being armed, a session that has broken): for that it is set to expire at once. And a look now
 * and then while calls are in the lanes, as a caller that blocks takes it: a worker that is stopped
 * between its answer and the bell rings nobody, nor does one for whose byte the kernel lacks
 * memory.
 */
#include "clients/lib/poll_fd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clients/lib/client.h"
#include "fastpath/lane/bell.h"

void knit_poll_fd_init(struct knit_poll_fd *poll_fd)
{
    *poll_fd = (struct knit_poll_fd){
        .epoll_fd = -1, .timer_fd = -1, .stream_fd = -1, .timer_ns = UINT64_MAX};
}

void knit_poll_fd_fini(struct knit_poll_fd *poll_fd)
{
    if (poll_fd->epoll_fd >= 0)
        close(poll_fd->epoll_fd);
    if (poll_fd->timer_fd >= 0)
        close(poll_fd->timer_fd);
    knit_poll_fd_init(poll_fd);
}

static int add(struct knit_poll_fd *poll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(poll_fd->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int knit_poll_fd_open(struct knit *k)
{
    struct knit_poll_fd *poll_fd = &k->poll_fd;
    int r = 0;

    if (poll_fd->epoll_fd >= 0)
        return poll_fd->epoll_fd;
    poll_fd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    poll_fd->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (poll_fd->epoll_fd < 0 || poll_fd->timer_fd < 0)
        r = -errno;
    if (r == 0)
        r = add(poll_fd, poll_fd->timer_fd);
    if (r == 0 && k->stream.fd >= 0) {
        r = add(poll_fd, k->stream.fd);
        poll_fd->stream_fd = k->stream.fd;
    }
    if (r == 0 && k->lanes != NULL)
        r = add(poll_fd, knit_lanes_bell_fd(k->lanes));
    if (r < 0) {
        knit_poll_fd_fini(poll_fd);
        return r;
    }
    knit_poll_fd_update(k);
    return poll_fd->epoll_fd;
}

static void set_timer(struct knit_poll_fd *poll_fd, uint64_t at_ns, uint64_t now_ns)
{
    struct itimerspec time = {0};

    /* One that expires too early costs one turn in vain; setting it costs a system call a turn. */
    if (poll_fd->timer_ns > now_ns && poll_fd->timer_ns <= at_ns)
        return;
    poll_fd->timer_ns = at_ns;
    if (at_ns != UINT64_MAX) {
        time.it_value.tv_sec = (time_t)(at_ns / 1000000000);
        time.it_value.tv_nsec = (long)(at_ns % 1000000000);
        if (at_ns == 0)
            time.it_value.tv_nsec = 1;
    }
    (void)timerfd_settime(poll_fd->timer_fd, TFD_TIMER_ABSTIME, &time, NULL);
}

void knit_poll_fd_awake(struct knit *k)
{
    if (k->poll_fd.epoll_fd >= 0 && k->lanes != NULL)
        knit_lanes_disarm(k->lanes);
}

/* A closed descriptor leaves the epoll instance by itself. */
void knit_poll_fd_update(struct knit *k)
{
    struct knit_poll_fd *poll_fd = &k->poll_fd;
    bool wants_send = knit_stream_has_output(&k->stream);
    uint64_t at_ns = k->next_deadline_ns, now_ns, look_ns;

    if (poll_fd->epoll_fd < 0)
        return;
    now_ns = knit_clock_ns();
    look_ns = now_ns + KNIT_LEASE_LOOK_MS * UINT64_C(1000000);
    if (k->lanes != NULL && look_ns < at_ns && knit_lanes_in_flight(k->lanes) != 0)
        at_ns = look_ns;
    if (k->stream.fd < 0) {
        poll_fd->stream_fd = -1;
        at_ns = 0;
    } else if (wants_send != poll_fd->wants_send) {
        struct epoll_event event = {
            .events = wants_send ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = k->stream.fd};

        (void)epoll_ctl(poll_fd->epoll_fd, EPOLL_CTL_MOD, k->stream.fd, &event);
        poll_fd->wants_send = wants_send;
    }
    if (!TAILQ_EMPTY(&k->ready) || (k->lanes != NULL && !knit_lanes_arm(k->lanes)))
        at_ns = 0;
    set_timer(poll_fd, at_ns, now_ns);
}
