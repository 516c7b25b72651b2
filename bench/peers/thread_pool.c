/* SPDX-License-Identifier: Apache-2.0 */
/* A thread pool as it is written by hand: a queue of calls and a queue of answers, a mutex and a
 * condition variable each. What was sent between two waits is queued under one lock, answers are
 * taken all at once, and nobody is signalled who does not wait. The worker takes one call at a
 * time, since the next one may be another thread's, and its answer is a copy.
 *
 * A task that crashes takes the caller along, one that hangs cannot be stopped, and no argument is
 * checked or kept from being changed meanwhile. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

struct job {
    struct job *next;
    const void *argument;
    void *answer;
    size_t len, room; /* of the argument, of the answer's memory */
};

struct queue {
    pthread_mutex_t mutex;
    pthread_cond_t is_filled;
    struct job *first, **last;
    bool is_awaited;
};

static struct job jobs[PEER_CALLS_MAX];
static struct queue calls = {.mutex = PTHREAD_MUTEX_INITIALIZER,
    .is_filled = PTHREAD_COND_INITIALIZER,
    .last = &calls.first};
static struct queue answers = {.mutex = PTHREAD_MUTEX_INITIALIZER,
    .is_filled = PTHREAD_COND_INITIALIZER,
    .last = &answers.first};
static struct job *unsent, **unsent_last = &unsent;

/* A list of one or more. */
static void put(struct queue *queue, struct job *first, struct job **last)
{
    bool is_awaited;

    (void)pthread_mutex_lock(&queue->mutex);
    *queue->last = first;
    queue->last = last;
    is_awaited = queue->is_awaited;
    queue->is_awaited = false;
    (void)pthread_mutex_unlock(&queue->mutex);
    if (is_awaited)
        (void)pthread_cond_signal(&queue->is_filled);
}

static struct job *take(struct queue *queue, bool all)
{
    struct job *taken;

    (void)pthread_mutex_lock(&queue->mutex);
    while (queue->first == NULL) {
        queue->is_awaited = true;
        (void)pthread_cond_wait(&queue->is_filled, &queue->mutex);
    }
    taken = queue->first;
    queue->first = all ? NULL : taken->next;
    if (queue->first == NULL)
        queue->last = &queue->first;
    (void)pthread_mutex_unlock(&queue->mutex);
    return taken;
}

static void *serve(void *unused)
{
    for (;;) {
        struct job *job = take(&calls, false);

        memcpy(job->answer, job->argument, job->len);
        job->next = NULL;
        put(&answers, job, &job->next);
    }
    return unused;
}

static void open_pool(const struct peer_options *options)
{
    pthread_t thread;

    (void)options;
    if (pthread_create(&thread, NULL, serve, NULL) != 0)
        peer_fail("no thread");
    (void)pthread_detach(thread);
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    struct job *job = &jobs[call];

    if (job->room < len) {
        free(job->answer);
        job->answer = malloc(len);
        job->room = len;
        if (job->answer == NULL)
            peer_fail("out of memory");
    }
    job->argument = bytes;
    job->len = len;
    job->next = NULL;
    *unsent_last = job;
    unsent_last = &job->next;
}

static void wait_calls(void)
{
    struct job *job, *next;

    if (unsent != NULL)
        put(&calls, unsent, unsent_last);
    unsent = NULL;
    unsent_last = &unsent;
    for (job = take(&answers, true); job != NULL; job = next) {
        next = job->next;
        peer_done((uint32_t)(job - jobs), job->answer, job->len);
    }
}

static void close_pool(void)
{
}

const struct peer peer = {"thread-pool", open_pool, send_call, wait_calls, close_pool};
