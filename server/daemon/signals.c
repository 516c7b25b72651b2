/* SPDX-License-Identifier: Apache-2.0 */
/* A blocked signal stays pending, so none is lost between stop_fd and libevent's handlers. */
#include "server/daemon/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "fastpath/lane/fd.h"

static void on_unasked(int number)
{
    (void)number;
}

void knit_signals_disarm(void)
{
    static const int numbers[] = {SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGPOLL,
        SIGPWR, SIGSTKFLT, SIGXCPU, SIGXFSZ};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction nothing = {.sa_handler = on_unasked, .sa_flags = SA_RESTART};

    (void)sigemptyset(&nothing.sa_mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)sigaction(numbers[i], &nothing, NULL);
    /* A handler would not do: a write to the terminal would be tried again for ever. */
    (void)sigaction(SIGTTOU, &ignore, NULL);
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        (void)sigaction(number, &nothing, NULL);
}

static void block(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)sigaddset(ret_set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

int knit_signals_open(struct knit_signals *signals, struct knit_sentence *why)
{
    sigset_t set;

    block(&set);
    (void)sigdelset(&set, SIGHUP);
    signals->stop_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return signals->stop_fd >= 0
               ? 0
               : knit_sentence_set(why, -errno, "cannot watch for signals: %s", strerror(errno));
}

static void on_event(evutil_socket_t number, short events, void *arg)
{
    struct knit_signals *signals = arg;

    (void)events;
    signals->on_signal(signals->arg, (int)number);
}

int knit_signals_start(struct knit_signals *signals, struct event_base *base,
    knit_signals_on_signal *on_signal, void *arg)
{
    static const int numbers[KNIT_SIGNALS_COUNT] = {SIGTERM, SIGINT, SIGCHLD, SIGHUP};
    sigset_t set;

    signals->on_signal = on_signal;
    signals->arg = arg;
    for (size_t i = 0; i < KNIT_SIGNALS_COUNT; i++) {
        signals->events[i] = evsignal_new(base, numbers[i], on_event, signals);
        if (signals->events[i] == NULL || event_add(signals->events[i], NULL) < 0)
            return -ENOMEM;
    }
    knit_fd_close(&signals->stop_fd);
    block(&set);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return 0;
}

void knit_signals_hold(void)
{
    sigset_t set;

    block(&set);
}

void knit_signals_close(struct knit_signals *signals)
{
    for (size_t i = 0; i < KNIT_SIGNALS_COUNT; i++) {
        if (signals->events[i] != NULL)
            event_free(signals->events[i]);
        signals->events[i] = NULL;
    }
    knit_fd_close(&signals->stop_fd);
}
