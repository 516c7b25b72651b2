/* SPDX-License-Identifier: Apache-2.0 */
/* Calls inside an event loop that is not ours, here libevent's: one descriptor, one dispatch
 * function.
 *
 *     event_loop URL          sorts by sleeping, and ticks meanwhile to show that the loop turns
 *
 * cc -o event_loop event_loop.c $(pkg-config --cflags --libs knitting libevent_core)
 */
#include <inttypes.h>
#include <stdio.h>

#include <event2/event.h>

#include <knitting/knitting.h>

enum { SLEEPERS = 5 };

static const int64_t naps_ms[SLEEPERS] = {150, 50, 250, 100, 200};

struct loop {
    struct event_base *base;
    struct knit *k;
    int waiting;
    int ticks;
};

struct sleeper {
    struct loop *loop;
    int64_t ms;
};

static void on_woken(struct knit_handle *handle, void *user)
{
    struct sleeper *sleeper = user;
    struct knit_error error;

    if (knit_await(handle, 0, &error) == KNIT_OK)
        printf("%" PRId64 "\n", sleeper->ms);
    else
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    knit_free(handle);
    if (--sleeper->loop->waiting == 0)
        event_base_loopbreak(sleeper->loop->base);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    struct knit_error error;

    (void)fd;
    (void)what;
    if (knit_dispatch(loop->k, &error) != KNIT_OK) {
        fprintf(stderr, "%s: %s\n", error.name, error.message);
        event_base_loopbreak(loop->base);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;

    (void)fd;
    (void)what;
    loop->ticks++;
}

static int start_sleepers(struct loop *loop, struct sleeper *sleepers, struct knit_error *error)
{
    for (int i = 0; i < SLEEPERS; i++) {
        struct knit_handle *handle;
        int code;

        sleepers[i] = (struct sleeper){loop, naps_ms[i]};
        code = knit_start(loop->k, NULL, &handle, error, "sleep", "(int) -> nil", naps_ms[i]);
        if (code != KNIT_OK)
            return code;
        knit_on_done(handle, on_woken, &sleepers[i]);
        loop->waiting++;
    }
    return knit_flush(loop->k, error);
}

int main(int argc, char **argv)
{
    struct sleeper sleepers[SLEEPERS];
    struct loop loop = {0};
    struct event *readable, *tick;
    struct knit_error error;
    int status = 1;

    if (argc != 2) {
        fprintf(stderr, "usage: event_loop URL\n");
        return 2;
    }
    if (knit_open(argv[1], NULL, &loop.k, &error) != KNIT_OK) {
        fprintf(stderr, "%s: %s\n", error.name, error.message);
        return 1;
    }
    loop.base = event_base_new();
    readable = event_new(loop.base, knit_fd(loop.k), EV_READ | EV_PERSIST, on_readable, &loop);
    tick = event_new(loop.base, -1, EV_PERSIST, on_tick, &loop);
    event_add(readable, NULL);
    event_add(tick, &(struct timeval){.tv_usec = 10000});

    if (start_sleepers(&loop, sleepers, &error) == KNIT_OK) {
        event_base_dispatch(loop.base);
        printf("the loop turned %d times meanwhile\n", loop.ticks);
        status = loop.waiting == 0 && loop.ticks > 0 ? 0 : 1;
    } else {
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    }
    event_free(readable);
    event_free(tick);
    knit_close(loop.k);
    event_base_free(loop.base);
    return status;
}
