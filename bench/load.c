/* SPDX-License-Identifier: Apache-2.0 */
/* Threads open their connections first, meet at a barrier, and then begin together: connecting is
 * not measured. Each decides by its own clock which outcomes count. */
#include "bench/load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/load_thread.h"
#include "bench/machine.h"
#include "bench/own_pool.h"
#include "bench/process_time.h"
#include "bench/ticks.h"

enum { IDLE_ARENA_BYTES = 64 << 10 };

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

/* Rewrites one line of the terminal each second, until the thread ends. */
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

int knit_load_open(const struct knit_load *load, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error)
{
    struct knit_open_options own = *options;
    if (load->token.file != NULL || load->token.text != NULL)
        own.token = &load->token;
    if (load->has_tls)
        own.tls = &load->tls;
    return knit_own_pool_session(load->url, &own, ret, ret_error);
}

/* ---- idle connections ------------------------------------------------------------------------ */

static bool open_idle(const struct knit_load *load, struct knit **idle, char ret_error[])
{
    const struct knit_open_options options = {
        .slots = 1, .arena_bytes = IDLE_ARENA_BYTES, .name = "knit-bench, idle"};
    struct knit_error error;
    for (uint32_t i = 0; i < load->idle; i++) {
        if (idle == NULL || knit_load_open(load, &options, &idle[i], &error) != KNIT_OK) {
            snprintf(ret_error, KNIT_LOAD_TEXT_MAX, "idle connection %u: %.200s", i,
                idle == NULL ? "out of memory" : error.message);
            return false;
        }
    }
    return true;
}

static void close_idle(const struct knit_load *load, struct knit **idle)
{
    for (uint32_t i = 0; idle != NULL && i < load->idle; i++)
        knit_close(idle[i]);
    free(idle);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void add(struct knit_load_figures *all, const struct knit_load_figures *one)
{
    knit_histogram_merge(&all->spans.spans, &one->spans.spans);
    knit_histogram_merge(&all->spans.rows, &one->spans.rows);
    all->calls += one->calls;
    all->seconds = one->seconds > all->seconds ? one->seconds : all->seconds;
    if (all->errors == 0)
        memcpy(all->first_error, one->first_error, sizeof(all->first_error));
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

/* Threads at the barrier would wait for ever for one that cannot be started: the program ends. */
static void start(struct member *members, struct crew *crew)
{
    for (uint32_t i = 0; i < crew->load->threads; i++) {
        prepare(&members[i], crew, i);
        if (pthread_create(&members[i].id, NULL, work, &members[i]) != 0) {
            fputs("cannot start a thread\n", stderr);
            exit(1);
        }
    }
}

static void join(
    struct member *members, const struct knit_load *load, struct knit_load_figures *all)
{
    uint64_t finished = 0, cpu_ns = knit_process_times_ns(load->pids, load->pids_count);
    for (uint32_t i = 0; i < load->threads; i++) {
        if (load->shows_progress)
            watch(members, load->threads, members[i].id);
        else
            (void)pthread_join(members[i].id, NULL);
        add(all, &members[i].thread.figures);
        finished += atomic_load_explicit(&members[i].thread.finished, memory_order_relaxed);
    }
    cpu_ns = knit_process_times_ns(load->pids, load->pids_count) - cpu_ns;
    all->cpu_ns = finished > 0 ? (double)cpu_ns / (double)finished : 0;
}

bool knit_load_run(const struct knit_load *load, struct knit_load_figures *ret)
{
    struct crew crew = {.load = load};
    struct member *members = calloc(load->threads, sizeof(*members));
    struct knit **idle = calloc(load->idle + 1, sizeof(struct knit *));
    bool ok;
    memset(ret, 0, sizeof(*ret));
    knit_typical_init(&ret->spans);
    ok = open_idle(load, idle, ret->first_error);
    if (ok &&
        (members == NULL || pthread_barrier_init(&crew.opened, NULL, load->threads + 1) != 0)) {
        snprintf(ret->first_error, sizeof(ret->first_error), "out of memory");
        ok = false;
    }
    if (ok) {
        start(members, &crew);
        pthread_barrier_wait(&crew.opened);
        join(members, load, ret);
        pthread_barrier_destroy(&crew.opened);
        ok = !atomic_load_explicit(&crew.failed, memory_order_relaxed);
    }
    close_idle(load, idle);
    free(members);
    return ok;
}
