/* SPDX-License-Identifier: Apache-2.0 */
/* See lanes.h. Segments are mapped once, writable, and used by both sides. */
#include "tests/fastpath/lanes.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/support/deadline.h"

static void map_new(uint64_t bytes, struct knit_mapping *ret)
{
    int fd;
    assert_int_equal(knit_segment_create("knit-test", bytes, &fd), 0);
    assert_int_equal(knit_segment_map(fd, bytes, true, ret), 0);
    close(fd);
}

void lanes_init(struct lanes *lanes, uint32_t count, bool steal, uint32_t spin_us)
{
    *lanes = (struct lanes){.lanes = count, .steal = steal, .spin_us = spin_us};
    pthread_mutex_init(&lanes->mutex, NULL);
    map_new(knit_layout_board_bytes(count), &lanes->board_mapping);
    map_new(knit_layout_pool_bytes(count), &lanes->pool_mapping);
    knit_layout_board(count, lanes->board_mapping.base, &lanes->board);
    knit_layout_pool(count, lanes->pool_mapping.base, &lanes->pool);
}

struct lanes_session *lanes_add_session(
    struct lanes *lanes, uint32_t slots, uint64_t arena_bytes, uint64_t start)
{
    struct lanes_session *session = &lanes->session[lanes->sessions++];
    int bell[2];
    struct knit_session_options options;
    session->geometry = (struct knit_geometry){
        .version = KNIT_LAYOUT_VERSION,
        .lanes = lanes->lanes,
        .slots = slots,
        .cells = knit_geometry_cells(slots),
        .features = KNIT_FEATURES & ~lanes->denied,
        .classes = KNIT_CLASSES_MAX,
        .request_arena_bytes = arena_bytes,
        .reply_arena_bytes = arena_bytes,
    };
    assert_null(knit_geometry_check(&session->geometry));
    map_new(knit_layout_request_bytes(&session->geometry), &session->request_mapping);
    map_new(knit_layout_reply_bytes(&session->geometry), &session->reply_mapping);
    knit_layout_request(&session->geometry, session->request_mapping.base, &session->request);
    knit_layout_reply(&session->geometry, session->reply_mapping.base, &session->reply);
    session->reply.header->session = lanes->sessions;
    for (uint32_t i = 0; i < lanes->lanes; i++) {
        atomic_store_explicit(&session->reply.head[i].value[0], start, memory_order_relaxed);
        atomic_store_explicit(&session->reply.lane[i].completion_tail, start, memory_order_relaxed);
        for (uint32_t j = 0; j < session->geometry.cells; j++) {
            size_t at = (size_t)i * session->geometry.cells + j;
            /* As if the lap before had been published and announced. */
            uint64_t before = (start & ~(uint64_t)(session->geometry.cells - 1)) + j;
            before -= before >= start ? session->geometry.cells : 0;
            atomic_store_explicit(&session->request.ring[at].ctrl,
                start == 0 ? 0
                           : knit_ctrl(start & KNIT_GEN_MASK, j % slots,
                                 knit_tag(before, session->geometry.cells)),
                memory_order_relaxed);
            atomic_store_explicit(&session->reply.completions[at],
                start == 0 ? 0 : knit_completion(0, before, session->geometry.cells),
                memory_order_relaxed);
        }
    }
    for (uint32_t i = 0; i < slots; i++) {
        uint64_t gen = start & KNIT_GEN_MASK;
        atomic_store_explicit(
            &session->reply.claim[i], knit_claim(gen, KNIT_OWNER_HOST), memory_order_relaxed);
        atomic_store_explicit(
            &session->reply.reply[i].word, knit_word(gen, 0, 0), memory_order_relaxed);
    }
    assert_int_equal(pipe2(bell, O_NONBLOCK | O_CLOEXEC), 0);
    session->bell_fd = bell[0];
    session->bell_end_fd = bell[1];
    options = (struct knit_session_options){.steal = lanes->steal,
        .spin_us = lanes->spin_us,
        .report_settled = lanes->report_settled,
        .depth_ns = lanes->depth_ns,
        .bell_fd = session->bell_fd,
        .argument_max_bytes = arena_bytes};
    assert_int_equal(knit_session_new(&session->geometry, &session->request, &session->reply,
                         &lanes->board, &options, &session->session),
        0);
    /* No call bears its time unless a test wants it: cells are compared. */
    session->session->until_stamp = 0;
    return session;
}

static uint32_t argument(const struct knit_job *job)
{
    uint32_t value = 0;
    memcpy(&value, job->payload,
        knit_job_len(job) < sizeof(value) ? knit_job_len(job) : sizeof(value));
    return value;
}

struct runner {
    struct lanes *lanes;
    struct knit_lane *lane;
    struct lanes_deferred *deferred; /* by the job that runs */
};

static struct runner runners[LANES_WORKERS_MAX];

static void run(void *arg, struct knit_job *job)
{
    struct runner *runner = arg;
    struct lanes *lanes = runner->lanes;
    atomic_store_explicit(&lanes->payload, job->payload, memory_order_relaxed);
    atomic_store_explicit(&lanes->saw_watched, job->wants_progress, memory_order_relaxed);
    job->result = job->payload;
    job->result_len = knit_job_len(job);
    if (job->refusal != 0) {
        atomic_fetch_add_explicit(&lanes->refused, 1, memory_order_relaxed);
        job->status = KNIT_STATUS_ERROR;
        memcpy(job->body, &job->refusal, sizeof(job->refusal));
        job->result = job->body;
        job->result_len = sizeof(job->refusal);
        return;
    }
    switch (knit_job_task(job)) {
    case LANES_COUNT:
        assert_true(argument(job) < lanes->executions_count);
        atomic_fetch_add_explicit(&lanes->executions[argument(job)], 1, memory_order_relaxed);
        break;
    case LANES_SPIN: {
        uint64_t until = knit_clock_ns() + argument(job) * (uint64_t)1000;
        while (knit_clock_ns() < until)
            knit_bell_pause();
        break;
    }
    case LANES_DEFER:
        runner->deferred = calloc(1, sizeof(*runner->deferred) + job->result_len + 1);
        assert_non_null(runner->deferred);
        memcpy(runner->deferred + 1, job->payload, job->result_len);
        runner->deferred->lane = runner->lane;
        runner->deferred->finished = (struct knit_finished){.session = job->session,
            .slot = knit_job_slot(job),
            .gen = knit_job_gen(job),
            .status = KNIT_STATUS_RESULT,
            .bytes = runner->deferred + 1,
            .len = job->result_len};
        job->result_len = KNIT_JOB_DEFERRED;
        break;
    case LANES_EMIT:
        knit_lane_emit(runner->lane, job, "\7", 1);
        __attribute__((fallthrough));
    case LANES_GATE:
        atomic_fetch_add_explicit(&lanes->at_gate, 1, memory_order_seq_cst);
        knit_bell_wake(&lanes->at_gate, 100);
        while (atomic_load_explicit(&lanes->gate, memory_order_acquire) == 0 &&
               !knit_lane_aborted(runner->lane, job))
            (void)knit_bell_wait(&lanes->gate, 0, knit_clock_ns() + 1000000);
        break;
    case LANES_TRACE:
        job->result = &job->trace;
        job->result_len = job->is_traced ? sizeof(job->trace) : 0;
        break;
    case LANES_ROOM: {
        void *room;

        (void)knit_lane_room(runner->lane, job, knit_job_len(job));
        room = knit_lane_room(runner->lane, job, knit_job_len(job) + 100);
        if (room != NULL) {
            unsigned char *within = (unsigned char *)room + LANES_ROOM_SKIPS;
            memcpy(within, job->payload, knit_job_len(job));
            job->result = within;
        }
        break;
    }
    default:
        break;
    }
}

static void on_deferred(void *arg)
{
    struct runner *runner = arg;
    struct lanes *lanes = runner->lanes;

    atomic_fetch_add_explicit(&lanes->to_come, 1, memory_order_seq_cst);
    pthread_mutex_lock(&lanes->mutex);
    assert_true(lanes->deferred_count < LANES_DEFERRED_MAX);
    lanes->deferred[lanes->deferred_count++] = runner->deferred;
    pthread_mutex_unlock(&lanes->mutex);
    runner->deferred = NULL;
}

static void on_finished(void *arg, struct knit_finished *finished)
{
    struct lanes *lanes = ((struct runner *)arg)->lanes;

    free(finished);
    atomic_fetch_add_explicit(&lanes->finished, 1, memory_order_seq_cst);
    atomic_fetch_sub_explicit(&lanes->to_come, 1, memory_order_seq_cst);
}

static bool is_over(void *arg)
{
    struct lanes *lanes = ((struct runner *)arg)->lanes;

    return atomic_load_explicit(&lanes->to_come, memory_order_seq_cst) == 0;
}

uint32_t lanes_publish(struct knit_session *session, uint32_t lane, uint32_t task, uint32_t us)
{
    struct knit_session_call call = lanes_call(task, &us, sizeof(us));
    uint32_t slot;

    call.lane = lane;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    return slot;
}

void lanes_fill(struct knit_session *session, uint32_t task, uint32_t us)
{
    while (knit_session_slots_free(session) > 0)
        (void)lanes_publish(session, 0, task, us);
}

void lanes_turn(struct lanes *lanes)
{
    assert_int_equal(knit_lane_turn(lanes->worker[0]), KNIT_LANE_RUNNING);
}

size_t lanes_collect(struct knit_session *session)
{
    struct knit_session_outcome outcomes[LANES_COLLECTED_MAX];

    return knit_session_collect(session, outcomes, LANES_COLLECTED_MAX);
}

void lanes_pretend(struct lanes *lanes, uint32_t task, uint32_t ns)
{
    lanes->worker[0]->mean_ns[task] = ns;
    lanes->worker[0]->unmeasured = UINT32_MAX;
}

struct lanes_deferred *lanes_take_deferred(struct lanes *lanes, bool first)
{
    struct lanes_deferred *deferred = NULL;

    pthread_mutex_lock(&lanes->mutex);
    if (lanes->deferred_count > 0) {
        uint32_t at = first ? 0 : lanes->deferred_count - 1;

        deferred = lanes->deferred[at];
        lanes->deferred_count--;
        memmove(&lanes->deferred[at], &lanes->deferred[at + 1],
            (lanes->deferred_count - at) * sizeof(lanes->deferred[0]));
    }
    pthread_mutex_unlock(&lanes->mutex);
    return deferred;
}

void lanes_finish(struct lanes_deferred *deferred)
{
    knit_lane_finish(deferred->lane, &deferred->finished);
}

static void on_evict(void *arg, uint64_t session, const char *reason)
{
    (void)session, (void)reason;
    atomic_fetch_add_explicit(&((struct runner *)arg)->lanes->evictions, 1, memory_order_seq_cst);
}

static void on_detached(void *arg, uint64_t session)
{
    (void)session;
    atomic_fetch_add_explicit(&((struct runner *)arg)->lanes->detached, 1, memory_order_seq_cst);
}

void lanes_attach(struct lanes *lanes, uint32_t index, uint32_t session)
{
    const struct lanes_session *from = &lanes->session[session];
    struct knit_lane_session in = {.id = session + 1,
        .geometry = from->geometry,
        .request = from->request,
        .reply = from->reply,
        .bell_fd = from->bell_end_fd,
        .bell_is_pipe = true,
        .trusted = session % 2 == 0,
        .flow = from->flow,
        .weight = &from->weight};

    assert_int_equal(knit_lane_attach(lanes->worker[index], &in), 0);
}

void lanes_add_worker(struct lanes *lanes, uint32_t index, uint32_t owner)
{
    struct knit_lane_options options;

    runners[index].lanes = lanes;
    options = (struct knit_lane_options){.index = index,
        .lanes = lanes->lanes,
        .owner = owner,
        .board = lanes->board,
        .pool = lanes->pool,
        .rights = {.waiting = &lanes->waiting, .long_calls = &lanes->long_calls},
        .steal = lanes->steal,
        .spin_us = lanes->spin_us,
        .pause_ns = 250,
        .park_ms = 1,
        .run = run,
        .run_arg = &runners[index],
        .on_deferred = on_deferred,
        .on_finished = on_finished,
        .is_over = is_over,
        .on_evict = on_evict,
        .on_detached = on_detached,
        .event_arg = &runners[index]};
    assert_int_equal(knit_lane_new(&options, &lanes->worker[index]), 0);
    runners[index].lane = lanes->worker[index];
    for (uint32_t i = 0; i < lanes->sessions; i++)
        lanes_attach(lanes, index, i);
}

static void *loop(void *arg)
{
    while (knit_lane_turn(arg) == KNIT_LANE_RUNNING)
        ;
    return NULL;
}

void lanes_start_worker(struct lanes *lanes, uint32_t index, uint32_t owner)
{
    lanes_add_worker(lanes, index, owner);
    lanes->worker[index]->options.park_ms = 0;
    assert_int_equal(pthread_create(&lanes->thread[index], NULL, loop, lanes->worker[index]), 0);
    lanes->is_running[index] = true;
}

void lanes_stop_worker(struct lanes *lanes, uint32_t index)
{
    if (lanes->is_running[index]) {
        knit_lane_stop(lanes->worker[index]);
        pthread_join(lanes->thread[index], NULL);
        lanes->is_running[index] = false;
    }
    lanes->worker[index] = knit_lane_free(lanes->worker[index]);
}

void lanes_fini(struct lanes *lanes)
{
    atomic_store_explicit(&lanes->gate, 1, memory_order_release);
    for (uint32_t i = 0; i < lanes->lanes; i++)
        lanes_stop_worker(lanes, i);
    for (uint32_t i = 0; i < lanes->sessions; i++) {
        struct lanes_session *session = &lanes->session[i];
        (void)knit_session_free(session->session);
        knit_segment_unmap(&session->request_mapping);
        knit_segment_unmap(&session->reply_mapping);
        close(session->bell_fd);
        close(session->bell_end_fd);
    }
    knit_segment_unmap(&lanes->board_mapping);
    knit_segment_unmap(&lanes->pool_mapping);
    lanes->lanes = lanes->sessions = 0;
}

struct knit_session_call lanes_call(uint32_t task, const void *payload, size_t len)
{
    return (struct knit_session_call){
        .task = task, .lane = KNIT_LANE_ANY, .payload = payload, .len = len};
}

void lanes_wait_for(
    struct knit_session *session, uint32_t slot, struct knit_session_outcome *ret_outcome)
{
    uint64_t until = knit_deadline_in_ms(20000);
    while (!knit_session_collect_slot(session, slot, ret_outcome)) {
        assert_true(knit_clock_ns() < until);
        (void)knit_session_wait(session, slot, until);
    }
}
