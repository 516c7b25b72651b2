/* SPDX-License-Identifier: Apache-2.0 */
/* A signal ends the sleep of a close, and what is left is closed without waiting. A timer sends the
 * signal to this thread alone, again and again while a close lasts.
 */
#include "server/net/closer.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { WAKE_SIGNAL = SIGALRM, CLOSE_NS = 100 * 1000 };

static void on_wake(int number)
{
    (void)number;
}

/* Without a timer a close may sleep; it is this thread that does. */
static bool open_timer(timer_t *ret_timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = WAKE_SIGNAL};

    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    return timer_create(CLOCK_MONOTONIC, &event, ret_timer) == 0;
}

static void close_soon(int fd, bool has_timer, timer_t timer)
{
    static const struct itimerspec often = {{0, CLOSE_NS}, {0, CLOSE_NS}}, never;

    if (has_timer)
        (void)timer_settime(timer, 0, &often, NULL);
    (void)close(fd);
    if (has_timer)
        (void)timer_settime(timer, 0, &never, NULL);
}

static void *run(void *arg)
{
    struct knit_closer *closer = arg;
    timer_t timer;
    bool has_timer = open_timer(&timer);

    (void)pthread_mutex_lock(&closer->mutex);
    while (closer->count > 0 || !closer->is_ending) {
        int fd = closer->fds[closer->first];

        if (closer->count == 0) {
            (void)pthread_cond_wait(&closer->is_due, &closer->mutex);
            continue;
        }
        (void)pthread_mutex_unlock(&closer->mutex);
        close_soon(fd, has_timer, timer);
        (void)pthread_mutex_lock(&closer->mutex);
        closer->first = (closer->first + 1) % closer->capacity;
        closer->count--;
    }
    (void)pthread_mutex_unlock(&closer->mutex);
    if (has_timer)
        (void)timer_delete(timer);
    return NULL;
}

/* It gets the one signal and no other. */
static int start_thread(struct knit_closer *closer)
{
    const struct sigaction action = {.sa_handler = on_wake};
    sigset_t others, before;
    int r;

    if (sigaction(WAKE_SIGNAL, &action, NULL) < 0)
        return -errno;
    (void)sigfillset(&others);
    (void)sigdelset(&others, WAKE_SIGNAL);
    (void)pthread_sigmask(SIG_SETMASK, &others, &before);
    r = pthread_create(&closer->thread, NULL, run, closer);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

int knit_closer_start(struct knit_closer *closer, size_t open_max)
{
    /* One more for the socket that listens. */
    size_t capacity = open_max + KNIT_CLOSER_MANY + 1;
    int r;

    *closer = (struct knit_closer){.capacity = capacity, .fds = calloc(capacity, sizeof(int))};
    if (closer->fds == NULL)
        return -ENOMEM;
    (void)pthread_mutex_init(&closer->mutex, NULL);
    (void)pthread_cond_init(&closer->is_due, NULL);
    r = start_thread(closer);
    if (r != 0)
        free(closer->fds);
    return r;
}

void knit_closer_stop(struct knit_closer *closer)
{
    (void)pthread_mutex_lock(&closer->mutex);
    closer->is_ending = true;
    (void)pthread_cond_signal(&closer->is_due);
    (void)pthread_mutex_unlock(&closer->mutex);
    (void)pthread_join(closer->thread, NULL);
    (void)pthread_cond_destroy(&closer->is_due);
    (void)pthread_mutex_destroy(&closer->mutex);
    free(closer->fds);
}

void knit_closer_close(struct knit_closer *closer, int fd)
{
    if (closer == NULL) {
        (void)close(fd);
        return;
    }
    (void)shutdown(fd, SHUT_RDWR);
    (void)pthread_mutex_lock(&closer->mutex);
    assert(closer->count < closer->capacity);
    closer->fds[(closer->first + closer->count) % closer->capacity] = fd;
    closer->count++;
    (void)pthread_cond_signal(&closer->is_due);
    (void)pthread_mutex_unlock(&closer->mutex);
}

size_t knit_closer_count(struct knit_closer *closer)
{
    size_t count;

    if (closer == NULL)
        return 0;
    (void)pthread_mutex_lock(&closer->mutex);
    count = closer->count;
    (void)pthread_mutex_unlock(&closer->mutex);
    return count;
}
