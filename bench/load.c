/* SPDX-License-Identifier: Apache-2.0 */
/* Threads open their connections first, meet at a barrier, and then begin together: connecting is
 * not what is measured. Each decides by its own clock which outcomes count. */
#include "bench/load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/load_thread.h"
#include "bench/machine.h"
#include "bench/ticks.h"

struct crew {
    const struct knit_load *load;
    pthread_barrier_t opened;
    _Atomic bool failed;
};

struct member {
    struct crew *crew;
    pthread_t id;
    struct knit_load_thread thread;
};

static void set_window(struct knit_load_thread *thread)
{
    const struct knit_load *load = thread->load;
    double ns_per_tick = knit_ticks_to_ns(1);
    uint64_t now = knit_ticks_now();
    thread->from = now;
    thread->to = UINT64_MAX;
    if (load->count == 0) {
        thread->from = now + (uint64_t)((double)load->warm_ns / ns_per_tick);
        thread->to = thread->from + (uint64_t)((double)load->ns / ns_per_tick);
    }
}

static void *work(void *arg)
{
    struct member *member = arg;
    struct knit_load_thread *thread = &member->thread;
    int cpus[64];
    uint32_t count = knit_machine_cpus(cpus, 64);
    if (thread->load->cpu >= 0 && count > 0)
        (void)knit_machine_pin(cpus[((uint32_t)thread->load->cpu + thread->index) % count]);
    knit_typical_init(&thread->figures.spans);
    if (!knit_load_thread_open(thread))
        atomic_store_explicit(&member->crew->failed, true, memory_order_relaxed);
    pthread_barrier_wait(&member->crew->opened);
    if (!atomic_load_explicit(&member->crew->failed, memory_order_relaxed)) {
        set_window(thread);
        knit_load_thread_run(thread);
    }
    knit_load_thread_close(thread);
    return NULL;
}

/* A line that writes over itself, once a second, until the thread ends. */
static void watch(struct member *members, uint32_t threads, pthread_t id)
{
    struct timespec until;
    uint64_t before = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    for (until.tv_sec++; pthread_timedjoin_np(id, NULL, &until) != 0; until.tv_sec++) {
        uint64_t finished = 0;
        for (uint32_t i = 0; i < threads; i++)
            finished += atomic_load_explicit(&members[i].thread.finished, memory_order_relaxed);
        fprintf(stderr, "\r%12llu calls, %9llu/s ", (unsigned long long)finished,
            (unsigned long long)(finished - before));
        before = finished;
    }
    if (before > 0)
        fputs("\r\033[K", stderr);
}

static uint64_t share(uint64_t all, uint32_t parts, uint32_t index)
{
    return all / parts + (index < all % parts);
}

static void add(struct knit_load_figures *all, const struct knit_load_figures *one)
{
    knit_histogram_merge(&all->spans.spans, &one->spans.spans);
    knit_histogram_merge(&all->spans.rows, &one->spans.rows);
    all->calls += one->calls;
    all->seconds = one->seconds > all->seconds ? one->seconds : all->seconds;
    if (all->errors == 0)
        memcpy(all->first_error, one->first_error, sizeof all->first_error);
    all->errors += one->errors;
}

static void prepare(struct member *member, struct crew *crew, uint32_t index)
{
    const struct knit_load *load = crew->load;
    uint32_t per_link = load->depth > load->batch ? load->depth : load->batch;
    member->crew = crew;
    member->thread.load = load;
    member->thread.index = index;
    member->thread.per_link = per_link;
    member->thread.links_count = (uint32_t)share(load->connections, load->threads, index);
    member->thread.count_max =
        load->count > 0 ? share(load->count, load->threads, index) : UINT64_MAX;
}

bool knit_load_run(const struct knit_load *load, struct knit_load_figures *ret)
{
    struct crew crew = {.load = load};
    struct member *members = calloc(load->threads, sizeof *members);
    memset(ret, 0, sizeof *ret);
    knit_typical_init(&ret->spans);
    if (members == NULL || pthread_barrier_init(&crew.opened, NULL, load->threads) != 0) {
        snprintf(ret->first_error, sizeof ret->first_error, "out of memory");
        free(members);
        return false;
    }
    for (uint32_t i = 0; i < load->threads; i++) {
        prepare(&members[i], &crew, i);
        if (pthread_create(&members[i].id, NULL, work, &members[i]) != 0) {
            /* Those that run wait at the barrier for one that will never come. */
            fputs("cannot start a thread\n", stderr);
            exit(1);
        }
    }
    for (uint32_t i = 0; i < load->threads; i++) {
        if (load->shows_progress)
            watch(members, load->threads, members[i].id);
        else
            (void)pthread_join(members[i].id, NULL);
        add(ret, &members[i].thread.figures);
    }
    pthread_barrier_destroy(&crew.opened);
    free(members);
    return !atomic_load_explicit(&crew.failed, memory_order_relaxed);
}
