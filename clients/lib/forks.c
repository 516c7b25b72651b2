/* SPDX-License-Identifier: Apache-2.0 */
/* The connection of a session is its lease: the daemon learns by its end that the caller is gone.
 * A forked child has the descriptor too, and close-on-exec does not help where it runs no other
 * program: a child that lives on would keep the session of a parent that is dead, with its memory
 * and its calls. The kernel has no close-on-fork, so the child closes it in the handler that fork()
 * runs. What a process makes without fork() (vfork(), clone() by hand) runs another program soon.
 *
 * One page of each session and of each pool is marked MADV_WIPEONFORK, so a single load tells a
 * child that they are not its own, without a system call in every call.
 */
#include "clients/lib/forks.h"

#include <pthread.h>
#include <sys/mman.h>

#include "clients/lib/client.h"
#include "clients/lib/resolve.h"

enum { PAGE_BYTES = 4096 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static LIST_HEAD(, knit) sessions = LIST_HEAD_INITIALIZER(sessions);

static void prepare(void)
{
    pthread_mutex_lock(&mutex);
}

static void in_parent(void)
{
    pthread_mutex_unlock(&mutex);
}

static void in_child(void)
{
    struct knit *k;

    LIST_FOREACH(k, &sessions, in_process)
    {
        for (size_t i = 0; i < KNIT_STREAMS_MAX; i++)
            knit_transport_close(&k->link.streams[i].transport);
        knit_connect_close(k->link.connecting);
        for (uint32_t i = 0; k->link.lookups != NULL && i < k->link.url_count; i++)
            if (k->link.lookups[i] != NULL)
                knit_lookup_close(k->link.lookups[i]);
    }
    pthread_mutex_unlock(&mutex);
}

/* Without memory for the handlers, children keep what they inherit. */
static void install(void)
{
    (void)pthread_atfork(prepare, in_parent, in_child);
}

uint8_t *knit_forks_new_page(void)
{
    uint8_t *page =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, PAGE_BYTES, MADV_WIPEONFORK) < 0) {
        munmap(page, PAGE_BYTES);
        return NULL;
    }
    *page = 1;
    return page;
}

void knit_forks_free_page(uint8_t *page)
{
    if (page != NULL)
        munmap(page, PAGE_BYTES);
}

void knit_forks_add(struct knit *k)
{
    (void)pthread_once(&once, install);
    pthread_mutex_lock(&mutex);
    LIST_INSERT_HEAD(&sessions, k, in_process);
    pthread_mutex_unlock(&mutex);
}

void knit_forks_remove(struct knit *k)
{
    pthread_mutex_lock(&mutex);
    if (k->in_process.le_prev != NULL)
        LIST_REMOVE(k, in_process);
    pthread_mutex_unlock(&mutex);
}
