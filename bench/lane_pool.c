/* SPDX-License-Identifier: Apache-2.0 */
/* Four segments, made and mapped as a host does, without a control socket: a forked worker inherits
 * their descriptors. */
#include "bench/lane_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/ticks.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"

enum { REQUEST, REPLY, BOARD, POOL, SEGMENTS };

enum { SESSION_ID = 1, OWNER = 2 };

static const uint64_t LEAVE_WITHIN_NS = UINT64_C(5) * 1000 * 1000 * 1000;

struct knit_lane_pool {
    struct knit_lane_pool_options options;
    struct knit_geometry geometry;
    uint64_t bytes[SEGMENTS];
    int fds[SEGMENTS];
    struct knit_mapping maps[SEGMENTS];
    struct knit_session *session;
    const char *fault;
    pid_t pid;
    pthread_t thread;
    bool has_thread;
    bool leaving;           /* the worker's own */
    struct knit_lane *lane; /* the worker's own */
};

static void run(void *arg, struct knit_job *job)
{
    struct knit_lane_pool *pool = arg;
    job->status = job->refusal == 0 ? KNIT_STATUS_RESULT : KNIT_STATUS_ERROR;
    if (job->refusal == 0 && knit_job_task(job) == KNIT_LANE_POOL_ECHO) {
        void *room = knit_job_len(job) > KNIT_INLINE_MAX
                         ? knit_lane_room(pool->lane, job, knit_job_len(job))
                         : NULL;
        job->result = job->payload;
        job->result_len = knit_job_len(job);
        if (room != NULL)
            job->result = memcpy(room, job->payload, knit_job_len(job));
        return;
    }
    if (job->refusal == 0 && knit_job_task(job) == KNIT_LANE_POOL_LOOK) {
        job->result = memcpy(job->body, job->payload, sizeof(uint64_t));
        job->result_len = sizeof(uint64_t);
        return;
    }
    pool->leaving |= knit_job_task(job) == KNIT_LANE_POOL_LEAVE;
    job->body[0] = 0xc0;
    job->result = job->body;
    job->result_len = 1;
}

static void on_evict(void *arg, uint64_t session, const char *reason)
{
    (void)session;
    ((struct knit_lane_pool *)arg)->fault = reason;
}

static int serve(struct knit_lane_pool *pool)
{
    struct knit_lane_options options = {
        .lanes = 1,
        .owner = OWNER,
        .spin_us = pool->options.spin_us,
        .pause_ns = pool->options.pause_ns,
        .park_ms = pool->options.park_ms,
        .run = run,
        .run_arg = pool,
        .on_evict = on_evict,
        .event_arg = pool,
    };
    struct knit_lane_session session = {
        .id = SESSION_ID,
        .geometry = pool->geometry,
        .bell_fd = -1,
        .trusted = pool->options.trusted,
    };
    int error;
    if (pool->options.cpu >= 0)
        (void)knit_machine_pin(pool->options.cpu);
    knit_layout_board(1, pool->maps[BOARD].base, &options.board);
    knit_layout_pool(1, pool->maps[POOL].base, &options.pool);
    knit_layout_request(&pool->geometry, pool->maps[REQUEST].base, &session.request);
    knit_layout_reply(&pool->geometry, pool->maps[REPLY].base, &session.reply);
    error = knit_lane_new(&options, &pool->lane);
    if (error == 0)
        error = knit_lane_attach(pool->lane, &session);
    while (error == 0 && !pool->leaving && knit_lane_turn(pool->lane) != KNIT_LANE_STOPPED)
        ;
    pool->lane = knit_lane_free(pool->lane);
    return error;
}

static void *serve_thread(void *arg)
{
    int error = serve(arg);
    if (error < 0)
        ((struct knit_lane_pool *)arg)->fault = strerror(-error);
    return NULL;
}

static int map_all(struct knit_lane_pool *pool, bool writable_request, bool writable_rest)
{
    for (int i = 0; i < SEGMENTS; i++) {
        int error = knit_segment_map(pool->fds[i], pool->bytes[i],
            i == REQUEST ? writable_request : writable_rest, &pool->maps[i]);
        if (error != 0)
            return error > 0 ? -EINVAL : error;
    }
    return 0;
}

static int start_worker(struct knit_lane_pool *pool)
{
    if (!pool->options.process) {
        int error = pthread_create(&pool->thread, NULL, serve_thread, pool);
        pool->has_thread = error == 0;
        return -error;
    }
    pool->pid = fork();
    if (pool->pid < 0)
        return -errno;
    if (pool->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* The parent's mappings are not inherited (MADV_DONTFORK). */
        _exit(map_all(pool, false, true) == 0 && serve(pool) == 0 ? 0 : 1);
    }
    return 0;
}

static int make_session(struct knit_lane_pool *pool)
{
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;
    const struct knit_session_options options = {
        .argument_max_bytes = pool->geometry.request_arena_bytes / 2,
        .spin_us = pool->options.spin_us,
        .bell_fd = -1,
    };
    knit_layout_request(&pool->geometry, pool->maps[REQUEST].base, &request);
    knit_layout_reply(&pool->geometry, pool->maps[REPLY].base, &reply);
    knit_layout_board(1, pool->maps[BOARD].base, &board);
    return knit_session_new(&pool->geometry, &request, &reply, &board, &options, &pool->session);
}

static int fill(struct knit_lane_pool *pool)
{
    static const char *const names[SEGMENTS] = {"request", "reply", "board", "pool"};
    int error;
    pool->bytes[REQUEST] = knit_layout_request_bytes(&pool->geometry);
    pool->bytes[REPLY] = knit_layout_reply_bytes(&pool->geometry);
    pool->bytes[BOARD] = knit_layout_board_bytes(1);
    pool->bytes[POOL] = knit_layout_pool_bytes(1);
    for (int i = 0; i < SEGMENTS; i++) {
        error = knit_segment_create(names[i], pool->bytes[i], &pool->fds[i]);
        if (error != 0)
            return error;
    }
    error = map_all(pool, true, !pool->options.process);
    if (error == 0)
        error = start_worker(pool);
    return error == 0 ? make_session(pool) : error;
}

int knit_lane_pool_new(const struct knit_lane_pool_options *options, struct knit_lane_pool **ret)
{
    struct knit_lane_pool *pool = calloc(1, sizeof(*pool));
    int error;
    if (pool == NULL)
        return -ENOMEM;
    pool->options = *options;
    pool->geometry = (struct knit_geometry){
        .version = KNIT_LAYOUT_VERSION,
        .lanes = 1,
        .slots = options->slots,
        .cells = knit_geometry_cells(options->slots),
        .features = KNIT_FEATURES,
        .classes = KNIT_CLASSES_MAX,
        .request_arena_bytes = options->arena_bytes,
        .reply_arena_bytes = options->arena_bytes,
    };
    for (int i = 0; i < SEGMENTS; i++)
        pool->fds[i] = -1;
    error = knit_geometry_check(&pool->geometry) == NULL ? fill(pool) : -EINVAL;
    if (error != 0) {
        knit_lane_pool_free(pool);
        return error;
    }
    *ret = pool;
    return 0;
}

/* A worker that does not answer is killed if it is a process. False: it is a thread, which is left
 * running with its memory. */
static bool end_worker(struct knit_lane_pool *pool)
{
    uint32_t slot;
    uint64_t until_ns = knit_ticks_clock_ns() + LEAVE_WITHIN_NS;
    const struct knit_session_call call = {.task = KNIT_LANE_POOL_LEAVE, .lane = KNIT_LANE_ANY};
    struct knit_session_outcome outcome;
    bool left = false;
    if (pool->session != NULL && knit_session_publish(pool->session, &call, &slot) == 0) {
        while (!(left = knit_session_collect_slot(pool->session, slot, &outcome)) &&
               knit_session_wait(pool->session, slot, until_ns) == 0)
            ;
    }
    if (pool->pid > 0) {
        if (!left)
            (void)kill(pool->pid, SIGKILL);
        (void)waitpid(pool->pid, NULL, 0);
    } else if (pool->has_thread) {
        return left && pthread_join(pool->thread, NULL) == 0;
    }
    return true;
}

struct knit_lane_pool *knit_lane_pool_free(struct knit_lane_pool *pool)
{
    if (pool == NULL || !end_worker(pool))
        return NULL;
    knit_session_free(pool->session);
    for (int i = 0; i < SEGMENTS; i++) {
        knit_segment_unmap(&pool->maps[i]);
        if (pool->fds[i] >= 0)
            close(pool->fds[i]);
    }
    free(pool);
    return NULL;
}

struct knit_session *knit_lane_pool_session(struct knit_lane_pool *pool)
{
    return pool->session;
}

const char *knit_lane_pool_eviction(const struct knit_lane_pool *pool)
{
    return pool->fault;
}
