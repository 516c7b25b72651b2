/* SPDX-License-Identifier: Apache-2.0 */
/* getaddrinfo() has no timeout: a name server that does not answer holds it for ten seconds and
 * more. So a name is looked up in a thread of its own, with all signals blocked, which owns half of
 * what it works on; the last of the two sides frees it. Its end makes an eventfd readable, which an
 * event loop can watch. The library cannot be unloaded (nodelete), because a thread that was left
 * alone still runs its code. Rejected: getaddrinfo_a(), of which a lookup that runs cannot be
 * cancelled, and a resolver library, which knows nothing of nsswitch.conf.
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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/lib/error.h"
#include "fastpath/lane/fd.h"

enum { STACK_BYTES = 256 * 1024 };

struct knit_lookup {
    pthread_mutex_t mutex;
    struct knit_url url;
    int event_fd; /* readable once it is done; open as long as the caller's half is there */
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

static void free_lookup(struct knit_lookup *lookup)
{
    if (lookup->list != NULL)
        freeaddrinfo(lookup->list);
    knit_fd_close(&lookup->event_fd);
    pthread_mutex_destroy(&lookup->mutex);
    free(lookup);
}

static struct knit_lookup *new_lookup(const struct knit_url *url)
{
    struct knit_lookup *lookup = calloc(1, sizeof(*lookup));

    if (lookup == NULL)
        return NULL;
    lookup->url = *url;
    lookup->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lookup->event_fd < 0) {
        free(lookup);
        return NULL;
    }
    pthread_mutex_init(&lookup->mutex, NULL);
    return lookup;
}

static void *run(void *arg)
{
    static const uint64_t one = 1;
    struct knit_lookup *lookup = arg;
    struct addrinfo *list = NULL;
    int r = look_up(&lookup->url, 0, &list);
    bool is_abandoned;

    pthread_mutex_lock(&lookup->mutex);
    lookup->r = r;
    lookup->list = r == 0 ? list : NULL;
    lookup->is_done = true;
    is_abandoned = lookup->is_abandoned;
    if (!is_abandoned && write(lookup->event_fd, &one, sizeof(one)) < 0)
        lookup->r = EAI_SYSTEM; /* an eventfd that was never written takes a one */
    pthread_mutex_unlock(&lookup->mutex);
    if (is_abandoned)
        free_lookup(lookup);
    return NULL;
}

static int begin(struct knit_lookup *lookup)
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

static int fail(const struct knit_url *url, int code, const char *why, struct knit_error *ret_error)
{
    char where[KNIT_URL_PLACE_MAX];

    knit_url_place(url, where);
    knit_error_make(ret_error, code, KNIT_STARTED_NO, "cannot connect to %s: %s", where, why);
    if (ret_error != NULL)
        ret_error->retryable = true; /* nothing was sent */
    return code;
}

bool knit_resolve_is_name(const struct knit_url *url)
{
    struct addrinfo *list = NULL;

    if (look_up(url, AI_NUMERICHOST, &list) != 0)
        return true;
    freeaddrinfo(list);
    return false;
}

/* One that has an answer by now may have had it for long. */
static struct knit_lookup *take_kept(struct knit_lookup **kept)
{
    struct knit_lookup *lookup = kept != NULL ? *kept : NULL;

    if (lookup == NULL)
        return NULL;
    *kept = NULL;
    return knit_lookup_is_done(lookup) ? knit_lookup_free(lookup) : lookup;
}

int knit_resolve_begin(const struct knit_url *url, struct knit_lookup **kept,
    struct addrinfo **ret_list, struct knit_lookup **ret_lookup, struct knit_error *ret_error)
{
    struct knit_lookup *lookup;
    int r = look_up(url, AI_NUMERICHOST, ret_list);

    *ret_lookup = NULL;
    if (r == 0)
        return KNIT_OK;
    *ret_list = NULL;
    *ret_lookup = take_kept(kept);
    if (*ret_lookup != NULL)
        return KNIT_OK;
    lookup = new_lookup(url);
    if (lookup == NULL)
        return fail(url, KNIT_INTERNAL, "not enough memory to look up the name", ret_error);
    r = begin(lookup);
    if (r != 0) {
        free_lookup(lookup);
        return fail(url, KNIT_INTERNAL, strerror(r), ret_error);
    }
    *ret_lookup = lookup;
    return KNIT_OK;
}

void knit_lookup_close(struct knit_lookup *lookup)
{
    knit_fd_close(&lookup->event_fd);
}

int knit_lookup_fd(const struct knit_lookup *lookup)
{
    return lookup->event_fd;
}

bool knit_lookup_is_done(struct knit_lookup *lookup)
{
    bool is_done;

    pthread_mutex_lock(&lookup->mutex);
    is_done = lookup->is_done;
    pthread_mutex_unlock(&lookup->mutex);
    return is_done;
}

int knit_lookup_take(
    struct knit_lookup *lookup, struct addrinfo **ret_list, struct knit_error *ret_error)
{
    if (lookup->r != 0)
        return fail(&lookup->url, KNIT_DISCONNECTED, gai_strerror(lookup->r), ret_error);
    *ret_list = lookup->list;
    lookup->list = NULL;
    return KNIT_OK;
}

int knit_lookup_time_out(const struct knit_lookup *lookup, struct knit_error *ret_error)
{
    return fail(&lookup->url, KNIT_TIMEOUT, "the name was not resolved in time", ret_error);
}

void knit_lookup_keep(struct knit_lookup *lookup, struct knit_lookup **kept)
{
    if (lookup == NULL || kept == NULL || *kept != NULL || knit_lookup_is_done(lookup))
        (void)knit_lookup_free(lookup);
    else
        *kept = lookup;
}

struct knit_lookup *knit_lookup_free(struct knit_lookup *lookup)
{
    bool is_done;

    if (lookup == NULL)
        return NULL;
    pthread_mutex_lock(&lookup->mutex);
    is_done = lookup->is_done;
    lookup->is_abandoned = true;
    /* Nobody waits for it any more; the thread does not touch it then. */
    knit_fd_close(&lookup->event_fd);
    pthread_mutex_unlock(&lookup->mutex);
    if (is_done)
        free_lookup(lookup);
    return NULL;
}
