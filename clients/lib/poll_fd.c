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

void knit_watch_init(struct knit_watch *watch)
{
    *watch = (struct knit_watch){
        .epoll_fd = -1, .timer_fd = -1, .stream_fd = -1, .timer_ns = UINT64_MAX};
}

void knit_watch_fini(struct knit_watch *watch)
{
    if (watch->epoll_fd >= 0)
        close(watch->epoll_fd);
    if (watch->timer_fd >= 0)
        close(watch->timer_fd);
    knit_watch_init(watch);
}

static int add(struct knit_watch *watch, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int knit_watch_open(struct knit *k)
{
    struct knit_watch *watch = &k->watch;
    int r = 0;

    if (watch->epoll_fd >= 0)
        return watch->epoll_fd;
    watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (watch->epoll_fd < 0 || watch->timer_fd < 0)
        r = -errno;
    if (r == 0)
        r = add(watch, watch->timer_fd);
    if (r == 0 && k->stream.fd >= 0) {
        r = add(watch, k->stream.fd);
        watch->stream_fd = k->stream.fd;
    }
    if (r == 0 && k->local != NULL)
        r = add(watch, knit_local_bell_fd(k->local));
    if (r < 0) {
        knit_watch_fini(watch);
        return r;
    }
    knit_watch_update(k);
    return watch->epoll_fd;
}

static void set_timer(struct knit_watch *watch, uint64_t at_ns, uint64_t now_ns)
{
    struct itimerspec time = {0};

    /* One that expires too early costs one turn in vain; setting it costs a system call a turn. */
    if (watch->timer_ns > now_ns && watch->timer_ns <= at_ns)
        return;
    watch->timer_ns = at_ns;
    if (at_ns != UINT64_MAX) {
        time.it_value.tv_sec = (time_t)(at_ns / 1000000000);
        time.it_value.tv_nsec = (long)(at_ns % 1000000000);
        if (at_ns == 0)
            time.it_value.tv_nsec = 1;
    }
    (void)timerfd_settime(watch->timer_fd, TFD_TIMER_ABSTIME, &time, NULL);
}

void knit_watch_awake(struct knit *k)
{
    if (k->watch.epoll_fd >= 0 && k->local != NULL)
        knit_local_disarm(k->local);
}

/* A closed descriptor leaves the epoll instance by itself. */
void knit_watch_update(struct knit *k)
{
    struct knit_watch *watch = &k->watch;
    bool wants_room = knit_stream_has_output(&k->stream);
    uint64_t at_ns = k->next_deadline_ns, now_ns, look_ns;

    if (watch->epoll_fd < 0)
        return;
    now_ns = knit_clock_ns();
    look_ns = now_ns + KNIT_LEASE_LOOK_MS * UINT64_C(1000000);
    if (k->local != NULL && look_ns < at_ns && knit_local_in_flight(k->local) != 0)
        at_ns = look_ns;
    if (k->stream.fd < 0) {
        watch->stream_fd = -1;
        at_ns = 0;
    } else if (wants_room != watch->wants_room) {
        struct epoll_event event = {
            .events = wants_room ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.fd = k->stream.fd};

        (void)epoll_ctl(watch->epoll_fd, EPOLL_CTL_MOD, k->stream.fd, &event);
        watch->wants_room = wants_room;
    }
    if (!TAILQ_EMPTY(&k->ready) || (k->local != NULL && !knit_local_arm(k->local)))
        at_ns = 0;
    set_timer(watch, at_ns, now_ns);
}
