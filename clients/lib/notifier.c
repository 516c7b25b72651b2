/* SPDX-License-Identifier: Apache-2.0 */
/* In a forked child the session stays as it is, with its memory: a thread of the parent may have
 * been in the middle of it.
 */
#include "clients/lib/notifier.h"

#include "clients/lib/client.h"
#include "clients/lib/error.h"
#include "fastpath/worker/inliner.h"

void knit_notifier_init(struct knit_notifier *notifier)
{
    *notifier = (struct knit_notifier){.k = NULL};
    (void)pthread_mutex_init(&notifier->mutex, NULL);
    (void)pthread_cond_init(&notifier->turned, NULL);
}

void knit_notifier_fini(struct knit_notifier *notifier)
{
    (void)pthread_cond_destroy(&notifier->turned);
    (void)pthread_mutex_destroy(&notifier->mutex);
}

static void drop(struct knit_handle *handle, void *user)
{
    (void)user;
    (void)knit_free(handle);
}

/* Without waiting. */
static int try_start(
    struct knit *k, const char *task, struct knit_span params, struct knit_error *ret_error)
{
    struct knit_handle *handle;
    int code = knit_start_raw(k, NULL, &handle, ret_error, task, params.bytes, params.len);

    if (code == KNIT_OK)
        knit_on_done(handle, drop, NULL);
    /* The pool's thread wakes up for what was found here too. */
    (void)knit_flush(k, NULL);
    return code;
}

static int open_first(struct knit_notifier *notifier, struct knit_pool *pool, bool *ret_is_first,
    struct knit_error *ret_error)
{
    static const struct knit_open_options options = {.would_block = true, .no_spin = true};
    struct knit *k;
    int code = knit_pool_session(pool, &options, &k, ret_error);

    if (code != KNIT_OK)
        return code;
    if (knit_fd(k) < 0) {
        (void)knit_close(k);
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO,
            "the system has no descriptors for notifications");
    }
    /* Nobody waits for these calls, and a task would run under the mutex. */
    k->handles.inliner = knit_inliner_free(k->handles.inliner);
    notifier->k = k;
    *ret_is_first = true;
    return KNIT_OK;
}

int knit_notifier_start(struct knit_notifier *notifier, struct knit_pool *pool, bool waits,
    const char *task, struct knit_span params, bool *ret_is_first, struct knit_error *ret_error)
{
    int code = KNIT_OK;

    *ret_is_first = false;
    pthread_mutex_lock(&notifier->mutex);
    if (notifier->k == NULL && !notifier->has_ended)
        code = open_first(notifier, pool, ret_is_first, ret_error);
    while (code == KNIT_OK && !notifier->has_ended) {
        code = try_start(notifier->k, task, params, ret_error);
        if (code != KNIT_WOULD_BLOCK || !waits)
            break;
        pthread_cond_wait(&notifier->turned, &notifier->mutex);
        code = KNIT_OK;
    }
    if (code == KNIT_OK && notifier->has_ended)
        code = knit_client_refuse_local(NULL, ret_error);
    pthread_mutex_unlock(&notifier->mutex);
    return code == KNIT_UNKNOWN_TASK ? KNIT_OK : code;
}

int knit_notifier_fd(struct knit_notifier *notifier)
{
    int fd;

    pthread_mutex_lock(&notifier->mutex);
    fd = notifier->k != NULL ? knit_fd(notifier->k) : -1;
    pthread_mutex_unlock(&notifier->mutex);
    return fd;
}

void knit_notifier_dispatch(struct knit_notifier *notifier)
{
    pthread_mutex_lock(&notifier->mutex);
    if (notifier->k != NULL)
        (void)knit_dispatch(notifier->k, NULL);
    pthread_cond_broadcast(&notifier->turned);
    pthread_mutex_unlock(&notifier->mutex);
}

void knit_notifier_end(struct knit_notifier *notifier)
{
    struct knit *k;

    pthread_mutex_lock(&notifier->mutex);
    k = notifier->k;
    notifier->k = NULL;
    notifier->has_ended = true;
    pthread_cond_broadcast(&notifier->turned);
    pthread_mutex_unlock(&notifier->mutex);
    (void)knit_close(k);
}
