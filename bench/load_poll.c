/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop of a load. Between two sleeps it starts what may or must be started, flushes each
 * session that got something, and dispatches each whose descriptor is readable.
 *
 * Open loop: call k is due at a fixed time. When no connection has room for it, it waits, but its
 * span has begun; the loop ends only when every call that was due has had its outcome. */
#include "bench/load_thread.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/ticks.h"

enum { EVENTS = 64 };

static const uint64_t GIVE_UP_NS = UINT64_C(10) * 1000 * 1000 * 1000;

/* Shorter waits than this are spun: a sleep would end later than it should. */
static const double SPIN_NS = 60e3;

struct poll {
    struct knit_load_thread *thread;
    int fd;
    bool is_open;       /* open loop */
    uint64_t first;     /* ticks of call 0 */
    double interval;    /* ticks between calls */
    bool is_full;       /* open loop: there is no room for calls that are due */
    uint32_t next_link; /* open loop: the connection of the next call */
};

/* Outcomes are read in the callback; the next calls are started after the dispatch. */
static void on_done(struct knit_handle *handle, void *user)
{
    struct knit_load_call *call = user;
    struct knit_load_thread *thread = call->link->thread;
    int error;
    if (thread->closing)
        return;
    error = knit_await(handle, 0, &thread->error);
    knit_load_record(thread, call->begin, knit_ticks_now(), 1);
    knit_load_finish(thread, call, error);
    call->next = call->link->idle;
    call->link->idle = call;
}

/* False: no room on this connection now. */
static bool start_one(struct poll *poll, struct knit_load_link *link, uint64_t begin)
{
    struct knit_load_call *call = link->idle;
    int error;
    if (call == NULL)
        return false;
    error = knit_load_start(poll->thread, call, begin);
    if (error == KNIT_OK) {
        link->idle = call->next;
        knit_on_done(call->handle, on_done, call);
    }
    return error == KNIT_OK;
}

static bool flush(struct poll *poll, struct knit_load_link *link)
{
    struct knit_load_thread *thread = poll->thread;
    if (knit_flush(link->session, &thread->error) == KNIT_OK)
        return true;
    knit_load_count_error(thread, thread->error.message);
    return false;
}

static bool top_up(struct poll *poll, struct knit_load_link *link)
{
    bool some = false;
    while (knit_load_goes_on(poll->thread, knit_ticks_now()) &&
           start_one(poll, link, knit_ticks_now()))
        some = true;
    return !some || flush(poll, link);
}

static uint64_t due(const struct poll *poll, uint64_t number)
{
    return poll->first + (uint64_t)((double)number * poll->interval);
}

/* Starts every call that is due, as far as there is room. */
static bool start_due(struct poll *poll)
{
    struct knit_load_thread *thread = poll->thread;
    uint32_t full = 0;
    poll->is_full = false;
    for (;;) {
        uint64_t at = due(poll, thread->next_number);
        struct knit_load_link *link;
        poll->is_full = full == thread->links_count;
        if (at > knit_ticks_now() || at >= thread->to || poll->is_full ||
            thread->next_number >= thread->count_max)
            return true;
        link = &thread->links[poll->next_link];
        poll->next_link = (poll->next_link + 1) % thread->links_count;
        if (!start_one(poll, link, at))
            full++;
        else if (!flush(poll, link))
            return false;
    }
}

static void sleep_until_something(struct poll *poll, struct epoll_event *events, int *ret_count)
{
    struct timespec wait = {.tv_nsec = 100 * 1000 * 1000};
    uint64_t now = knit_ticks_now(), at = due(poll, poll->thread->next_number);
    if (poll->is_open && !poll->is_full && at < poll->thread->to) {
        double ns = at > now ? knit_ticks_to_ns((double)(at - now)) : 0;
        if (ns < 100e6)
            wait.tv_nsec = ns < SPIN_NS ? 0 : (long)(ns - SPIN_NS / 2);
    }
    *ret_count = epoll_pwait2(poll->fd, events, EVENTS, &wait, NULL);
}

static bool is_over(struct poll *poll, uint64_t give_up_ns)
{
    struct knit_load_thread *thread = poll->thread;
    uint64_t finished = atomic_load_explicit(&thread->finished, memory_order_relaxed);
    bool all_done = finished >= thread->next_number;
    bool all_started;
    if (!poll->is_open && thread->count_max == UINT64_MAX)
        return knit_ticks_now() >= thread->to;
    all_started = thread->next_number >= thread->count_max ||
                  (poll->is_open && due(poll, thread->next_number) >= thread->to);
    if (all_started && all_done)
        return true;
    if (knit_ticks_clock_ns() < give_up_ns)
        return false;
    knit_load_count_error(thread, "calls without an outcome ten seconds after the end");
    return true;
}

static void loop(struct poll *poll, uint64_t give_up_ns)
{
    struct knit_load_thread *thread = poll->thread;
    struct epoll_event events[EVENTS];
    int count = 0;
    for (uint32_t i = 0; !poll->is_open && i < thread->links_count; i++)
        (void)top_up(poll, &thread->links[i]);
    while (!is_over(poll, give_up_ns)) {
        if (poll->is_open && !start_due(poll))
            return;
        sleep_until_something(poll, events, &count);
        for (int i = 0; i < count; i++) {
            struct knit_load_link *link = events[i].data.ptr;
            if (knit_dispatch(link->session, &thread->error) != KNIT_OK) {
                knit_load_count_error(thread, thread->error.message);
                return;
            }
            if (!poll->is_open && !top_up(poll, link))
                return;
        }
    }
}

void knit_load_run_poll(struct knit_load_thread *thread)
{
    const struct knit_load *load = thread->load;
    struct poll poll = {
        .thread = thread, .fd = epoll_create1(EPOLL_CLOEXEC), .is_open = load->rate > 0};
    uint64_t give_up_ns = knit_ticks_clock_ns() + load->warm_ns + load->ns + GIVE_UP_NS;
    if (load->count > 0)
        give_up_ns = UINT64_MAX;
    poll.first = knit_ticks_now();
    if (poll.is_open)
        poll.interval = 1e9 / knit_ticks_to_ns(1) / (load->rate / load->threads);
    for (uint32_t i = 0; i < thread->links_count; i++) {
        struct knit_load_link *link = &thread->links[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
        if (epoll_ctl(poll.fd, EPOLL_CTL_ADD, knit_fd(link->session), &event) != 0) {
            knit_load_count_error(thread, "a session without a descriptor");
            close(poll.fd);
            return;
        }
    }
    loop(&poll, give_up_ns);
    close(poll.fd);
}
