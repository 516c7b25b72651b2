/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket is one time: when it will be empty. What is in it is how far that lies ahead, in
 * units of the time that one death takes to leak. */
#include "fastpath/host/quarantine.h"

#include "fastpath/host/host.h"
#include "fastpath/host/tick.h"
#include "fastpath/lane/mark.h"

#define MINUTE_NS UINT64_C(60000000000)

static uint64_t leak_ns(const struct knit_host *pool)
{
    return MINUTE_NS / pool->options.deaths_per_minute;
}

struct knit_quarantine_cause knit_quarantine_cause(
    const struct knit_host *pool, const struct knit_worker *worker)
{
    struct knit_quarantine_cause cause = {0};

    cause.has_note = knit_note_read(&pool->shared, worker->lane, worker->owner, &cause.note) &&
                     cause.note.signal == worker->signal;
    /* Nobody outside can make a process exit. A signal without a note was sent from outside, or is
     * one of those that an earlier task may have asked for. Of the pool's own kills only that for
     * an ignored abort counts: a task with a hard timeout, or one that an operator does not want,
     * may be slow and well. */
    cause.is_own = (worker->given_up != KNIT_OK && !worker->is_stopped) ||
                   (!worker->was_killed && (worker->signal == 0 || cause.has_note));
    return cause;
}

static void lift(struct knit_host *pool, uint32_t task)
{
    struct knit_host_event event = {.kind = KNIT_HOST_TASK_LIFTED, .task = task};

    pool->task_deaths[task].is_quarantined = false;
    knit_mark_write(&pool->shared, task, KNIT_MARK_TRUSTED);
    pool->quarantined--;
    knit_notices_add_event(&pool->notices, &event);
}

/* When the task's bucket has room for one death; until then it stays quarantined. */
static uint64_t lifted_ns(const struct knit_host *pool, uint32_t task)
{
    return pool->task_deaths[task].empty_ns - (MINUTE_NS - leak_ns(pool));
}

void knit_quarantine_count(struct knit_host *pool, uint32_t task, int signal, uint64_t now_ns)
{
    struct knit_host_event event = {
        .kind = KNIT_HOST_TASK_QUARANTINED, .task = task, .signal = signal};
    struct knit_task_deaths *deaths;

    if (pool->task_deaths == NULL || task >= knit_registry_count(pool->registry))
        return;
    deaths = &pool->task_deaths[task];
    deaths->count++;
    deaths->signal = signal;
    if (pool->options.deaths_per_minute == 0)
        return;
    if (deaths->empty_ns < now_ns)
        deaths->empty_ns = now_ns;
    deaths->empty_ns += leak_ns(pool);
    if (deaths->is_quarantined || deaths->empty_ns - now_ns <= MINUTE_NS - leak_ns(pool))
        return;
    deaths->is_quarantined = true;
    knit_mark_write(&pool->shared, task, KNIT_MARK_QUARANTINED);
    pool->quarantined++;
    if (pool->quarantine_due_ns == 0 || lifted_ns(pool, task) < pool->quarantine_due_ns)
        pool->quarantine_due_ns = lifted_ns(pool, task);
    knit_notices_add_event(&pool->notices, &event);
}

void knit_quarantine_tick(struct knit_host *pool, uint64_t now_ns)
{
    uint64_t due_ns = 0;

    if (pool->quarantine_due_ns == 0 || now_ns < pool->quarantine_due_ns)
        return;
    for (uint32_t task = 0; task < knit_registry_count(pool->registry); task++) {
        if (!pool->task_deaths[task].is_quarantined)
            continue;
        if (now_ns >= lifted_ns(pool, task))
            lift(pool, task);
        else if (due_ns == 0 || lifted_ns(pool, task) < due_ns)
            due_ns = lifted_ns(pool, task);
    }
    pool->quarantine_due_ns = due_ns;
}

/* ---- of the pool ---- */

static struct knit_host_task_deaths deaths_of(const struct knit_host *pool, uint32_t task)
{
    const struct knit_task_deaths *deaths = &pool->task_deaths[task];

    return (struct knit_host_task_deaths){.task = knit_registry_at(pool->registry, task)->name,
        .deaths = deaths->count,
        .signal = deaths->signal,
        .is_quarantined = deaths->is_quarantined};
}

void knit_host_task_deaths(
    struct knit_host *pool, uint32_t task, struct knit_host_task_deaths *ret_deaths)
{
    pthread_mutex_lock(&pool->mutex);
    *ret_deaths = deaths_of(pool, task);
    pthread_mutex_unlock(&pool->mutex);
}

uint32_t knit_host_deaths(
    struct knit_host *pool, struct knit_host_task_deaths *ret_deaths, uint32_t max)
{
    uint32_t count = 0;

    pthread_mutex_lock(&pool->mutex);
    /* Most pools have seen none, and need not be searched. */
    for (int round = 0; round < 2 && pool->deaths != 0; round++) {
        for (uint32_t task = 0; count < max && task < knit_registry_count(pool->registry); task++) {
            if (pool->task_deaths[task].count != 0 &&
                pool->task_deaths[task].is_quarantined == (round == 0))
                ret_deaths[count++] = deaths_of(pool, task);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return count;
}

bool knit_host_lift(struct knit_host *pool, uint32_t task)
{
    struct knit_task_deaths *deaths = &pool->task_deaths[task];
    bool was_quarantined;

    pthread_mutex_lock(&pool->mutex);
    was_quarantined = deaths->is_quarantined;
    deaths->empty_ns = 0;
    if (was_quarantined) {
        lift(pool, task);
        pool->has_notices = true;
        knit_tick_arm(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return was_quarantined;
}
