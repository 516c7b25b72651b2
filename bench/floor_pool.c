/* SPDX-License-Identifier: Apache-2.0 */
/* What is written by hand where there is no pool: a forked worker at the ends of two pipes, and a
 * thread with a queue, a mutex and two conditions. A batch is sent as such code sends it: a write()
 * for each message, or a turn of the mutex; what the other side finds it takes together. */
#include "bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/process_time.h"
#include "bench/ticks.h"
#include "bench/typical.h"

/* One batch there and back. False: an answer is wrong, or the other side has gone. */
typedef bool pool_batch(void *pool, uint64_t first);

struct run {
    const struct knit_floor_setting *setting;
    pool_batch *batch;
    void *pool;
    const pid_t *others; /* whose time counts with the caller's */
    uint32_t others_count;
};

static bool batches_for(
    const struct run *run, uint64_t ns, uint64_t count, struct knit_typical *typical)
{
    const uint64_t end_ns = knit_ticks_clock_ns() + ns;
    uint64_t first = 0;

    knit_typical_init(typical);
    do {
        uint64_t begin = knit_ticks_now();

        if (!run->batch(run->pool, first))
            return false;
        knit_typical_record(typical, knit_ticks_now() - begin);
        first += run->setting->depth;
    } while (count > 0 ? first < count : knit_ticks_clock_ns() < end_ns);
    return true;
}

static int measure(const struct run *run, struct knit_floor_figure *ret)
{
    static struct knit_typical typical;
    const uint64_t ns = (uint64_t)run->setting->ms * 1000000, count = run->setting->count;
    const double depth = run->setting->depth;
    uint64_t cpu_ns;

    if (count == 0 && !batches_for(run, ns / 5, 0, &typical))
        return -EBADMSG;
    cpu_ns = knit_process_times_ns(run->others, run->others_count);
    if (!batches_for(run, ns, count, &typical))
        return -EBADMSG;
    cpu_ns = knit_process_times_ns(run->others, run->others_count) - cpu_ns;
    ret->typical_ns = knit_typical_ns(&typical) / depth;
    ret->p99_ns = knit_typical_percentile_ns(&typical, 99);
    ret->per_second = depth * 1e9 / knit_typical_mean_ns(&typical);
    ret->cpu_ns = (double)cpu_ns / (depth * (double)typical.spans.count);
    return 0;
}

/* ---- a forked worker and two pipes ----------------------------------------------------------- */

struct pipes {
    const struct knit_floor_setting *setting;
    int there, back;
    unsigned char *message, *incoming; /* of `depth` messages */
};

static void write_all(int fd, const unsigned char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);

        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}

/* Whole messages are answered one by one; a part of one waits for the rest. */
static void pipe_worker(const struct pipes *pipes, int from, int to)
{
    const size_t bytes = pipes->setting->bytes, room = bytes * pipes->setting->depth;
    size_t filled = 0;
    ssize_t n;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)knit_machine_pin(pipes->setting->partner_cpu);
    while ((n = read(from, pipes->incoming + filled, room - filled)) > 0) {
        size_t at = 0;

        filled += (size_t)n;
        for (; filled - at >= bytes; at += bytes)
            write_all(to, pipes->incoming + at, bytes);
        memmove(pipes->incoming, pipes->incoming + at, filled - at);
        filled -= at;
    }
    _exit(0);
}

static bool pipe_batch(void *pool, uint64_t first)
{
    const struct pipes *pipes = pool;
    const size_t bytes = pipes->setting->bytes;
    const size_t all = bytes * pipes->setting->depth;
    size_t got = 0;

    for (uint32_t i = 0; i < pipes->setting->depth; i++) {
        const uint64_t number = first + i;

        memcpy(pipes->message, &number, sizeof(number));
        write_all(pipes->there, pipes->message, bytes);
    }
    while (got < all) {
        ssize_t n = read(pipes->back, pipes->incoming + got, all - got);

        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    for (uint32_t i = 0; i < pipes->setting->depth; i++) {
        const uint64_t number = first + i;

        if (memcmp(pipes->incoming + i * bytes, &number, sizeof(number)) != 0)
            return false;
    }
    return true;
}

/* Both sides would block in write() if a batch did not fit a pipe. */
enum { PIPE_BYTES = 65536 };

int knit_floor_pipe(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    const size_t all = (size_t)setting->bytes * setting->depth;
    struct pipes pipes = {.setting = setting, .message = calloc(2, all)};
    int there[2] = {-1, -1}, back[2] = {-1, -1}, error = 0;
    pid_t pid = -1;

    if (pipes.message == NULL || setting->bytes < sizeof(uint64_t) || all > PIPE_BYTES)
        error = -EINVAL;
    else if (pipe2(there, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0 || (pid = fork()) < 0)
        error = -errno;
    pipes.incoming = error == 0 ? pipes.message + all : NULL;
    if (pid == 0) {
        close(there[1]);
        pipe_worker(&pipes, there[0], back[1]);
    }
    if (error == 0) {
        struct run run = {setting, pipe_batch, &pipes, &pid, 1};

        pipes.there = there[1];
        pipes.back = back[0];
        close(there[0]);
        close(back[1]);
        there[0] = back[1] = -1;
        (void)knit_machine_pin(setting->cpu);
        error = measure(&run, ret);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    for (int i = 0; i < 2; i++) {
        if (there[i] >= 0)
            close(there[i]);
        if (back[i] >= 0)
            close(back[i]);
    }
    free(pipes.message);
    return error;
}

/* ---- a thread, a mutex, two conditions ------------------------------------------------------- */

struct threads {
    const struct knit_floor_setting *setting;
    pthread_mutex_t mutex;
    pthread_cond_t has_job, has_answer;
    uint64_t queued, done; /* jobs, counted from the beginning */
    bool is_over;
    unsigned char *arguments, *results; /* a place for each job of a batch */
};

static void *thread_worker(void *arg)
{
    struct threads *pool = arg;
    const size_t bytes = pool->setting->bytes;

    (void)knit_machine_pin(pool->setting->partner_cpu);
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        size_t place;

        while (pool->done == pool->queued && !pool->is_over)
            pthread_cond_wait(&pool->has_job, &pool->mutex);
        if (pool->is_over)
            break;
        place = pool->done % pool->setting->depth * bytes;
        pthread_mutex_unlock(&pool->mutex);
        memcpy(pool->results + place, pool->arguments + place, bytes);
        pthread_mutex_lock(&pool->mutex);
        pool->done++;
        pthread_cond_signal(&pool->has_answer);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static bool thread_batch(void *arg, uint64_t first)
{
    struct threads *pool = arg;
    const size_t bytes = pool->setting->bytes;
    uint64_t base = pool->queued; /* only this thread changes it */

    for (uint32_t i = 0; i < pool->setting->depth; i++) {
        const uint64_t number = first + i;

        memcpy(
            pool->arguments + (base + i) % pool->setting->depth * bytes, &number, sizeof(number));
        pthread_mutex_lock(&pool->mutex);
        pool->queued++;
        pthread_cond_signal(&pool->has_job);
        pthread_mutex_unlock(&pool->mutex);
    }
    for (uint32_t i = 0; i < pool->setting->depth; i++) {
        const uint64_t number = first + i;

        pthread_mutex_lock(&pool->mutex);
        while (pool->done <= base + i)
            pthread_cond_wait(&pool->has_answer, &pool->mutex);
        pthread_mutex_unlock(&pool->mutex);
        if (memcmp(pool->results + (base + i) % pool->setting->depth * bytes, &number,
                sizeof(number)) != 0)
            return false;
    }
    return true;
}

int knit_floor_threads(const struct knit_floor_setting *setting, struct knit_floor_figure *ret)
{
    const size_t all = (size_t)setting->bytes * setting->depth;
    struct threads pool = {.setting = setting,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .has_job = PTHREAD_COND_INITIALIZER,
        .has_answer = PTHREAD_COND_INITIALIZER,
        .arguments = calloc(2, all)};
    struct run run = {setting, thread_batch, &pool, NULL, 0};
    pthread_t id;
    int error = pool.arguments == NULL || setting->bytes < sizeof(uint64_t) ? -EINVAL : 0;

    if (error == 0) {
        pool.results = pool.arguments + all;
        error = -pthread_create(&id, NULL, thread_worker, &pool);
    }
    if (error == 0) {
        (void)knit_machine_pin(setting->cpu);
        error = measure(&run, ret);
        pthread_mutex_lock(&pool.mutex);
        pool.is_over = true;
        pthread_cond_signal(&pool.has_job);
        pthread_mutex_unlock(&pool.mutex);
        (void)pthread_join(id, NULL);
    }
    free(pool.arguments);
    return error;
}
