/* SPDX-License-Identifier: Apache-2.0 */
/* getaddrinfo() has no timeout: a name server that does not answer holds it for ten seconds and
 * more. So a name is looked up in a thread of its own, with all signals blocked, which owns half of
 * what it works on; the last of the two sides frees it. The library cannot be unloaded (nodelete),
 * because a thread that was left alone still runs its code.
 *
 * No AI_ADDRCONFIG: it looks at the addresses that the machine has beside loopback, and where there
 * are none of a family it hides even ::1 and 127.0.0.1. A family that the machine cannot reach
 * fails at once when it is connected.
 */
#include "clients/lib/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "clients/lib/error.h"

enum { STACK_BYTES = 256 * 1024 };

struct lookup {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct knit_url url;
    bool is_done;
    bool is_abandoned;
    struct addrinfo *list;
    int r; /* of getaddrinfo() */
};

static int look_up(const struct knit_url *url, int flags, struct addrinfo **ret)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};

    return getaddrinfo(url->host, url->port, &hints, ret);
}

static void free_lookup(struct lookup *lookup)
{
    if (lookup->list != NULL)
        freeaddrinfo(lookup->list);
    pthread_cond_destroy(&lookup->changed);
    pthread_mutex_destroy(&lookup->mutex);
    free(lookup);
}

static struct lookup *new_lookup(const struct knit_url *url)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    pthread_condattr_t monotonic;

    if (lookup == NULL)
        return NULL;
    lookup->url = *url;
    pthread_mutex_init(&lookup->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lookup->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return lookup;
}

static void *run(void *arg)
{
    struct lookup *lookup = arg;
    struct addrinfo *list = NULL;
    int r = look_up(&lookup->url, 0, &list);
    bool is_abandoned;

    pthread_mutex_lock(&lookup->mutex);
    lookup->r = r;
    lookup->list = r == 0 ? list : NULL;
    lookup->is_done = true;
    is_abandoned = lookup->is_abandoned;
    pthread_cond_signal(&lookup->changed);
    pthread_mutex_unlock(&lookup->mutex);
    if (is_abandoned)
        free_lookup(lookup);
    return NULL;
}

static int begin(struct lookup *lookup)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int r;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attributes, run, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return r;
}

/* Whether the lookup is done in time. If not, it is the thread's alone. */
static bool wait_done(struct lookup *lookup, uint64_t until_ns)
{
    const struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000), .tv_nsec = (long)(until_ns % 1000000000)};
    bool is_done;
    int r = 0;

    pthread_mutex_lock(&lookup->mutex);
    while (!lookup->is_done && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&lookup->changed, &lookup->mutex, &until);
    is_done = lookup->is_done;
    lookup->is_abandoned = !is_done;
    pthread_mutex_unlock(&lookup->mutex);
    return is_done;
}

static int fail(const struct knit_url *url, int code, const char *why, struct knit_error *ret_error)
{
    knit_error_make(
        ret_error, code, KNIT_STARTED_NO, "cannot connect to %s:%s: %s", url->host, url->port, why);
    if (ret_error != NULL)
        ret_error->retryable = true; /* nothing was sent */
    return code;
}

int knit_resolve(const struct knit_url *url, uint64_t until_ns, struct addrinfo **ret,
    struct knit_error *ret_error)
{
    struct lookup *lookup;
    int r = look_up(url, AI_NUMERICHOST, ret);

    if (r == 0)
        return KNIT_OK;
    lookup = new_lookup(url);
    if (lookup == NULL)
        return fail(url, KNIT_INTERNAL, "not enough memory to look up the name", ret_error);
    r = begin(lookup);
    if (r != 0) {
        free_lookup(lookup);
        return fail(url, KNIT_INTERNAL, strerror(r), ret_error);
    }
    if (!wait_done(lookup, until_ns))
        return fail(url, KNIT_TIMEOUT, "the name was not resolved in time", ret_error);
    r = lookup->r;
    *ret = lookup->list;
    lookup->list = NULL;
    free_lookup(lookup);
    return r == 0 ? KNIT_OK : fail(url, KNIT_DISCONNECTED, gai_strerror(r), ret_error);
}
