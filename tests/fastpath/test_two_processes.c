/* SPDX-License-Identifier: Apache-2.0 */
/* A caller and a worker in two processes, each with only the rights it has in earnest: the caller
 * maps the reply segment and the board read-only, the worker the request segment. A store into the
 * other side's memory would be a segmentation fault.
 *
 * Oracle: every call carries its number and a checksum of a body whose length is random; the
 * worker's answer carries both, transformed; every number comes back once, with its own bytes.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/segment.h"
#include "fastpath/lane/session.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"

#define CALLS      40000u
#define SLOTS      64u
#define LEN_MAX    5000u
#define TASK_LEAVE 9u

struct shared {
    struct knit_geometry geometry;
    int request_fd, reply_fd, board_fd, pool_fd;
};

static void *mapped(int fd, uint64_t bytes, bool writable)
{
    struct knit_mapping mapping;
    if (knit_segment_map(fd, bytes, writable, &mapping) != 0)
        abort();
    return mapping.base;
}

static uint32_t sum_of(const unsigned char *bytes, size_t len)
{
    uint32_t sum = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 16777619u;
    return sum;
}

/* ---- the worker's process ------------------------------------------------------------------- */

static struct knit_lane *worker_lane;

/* Body: number, checksum of the rest, rest. Answer: the same with every byte of the rest turned. */
static void run(void *arg, struct knit_job *job)
{
    static unsigned char out[LEN_MAX];
    uint32_t sum;

    (void)arg;
    if (knit_job_task(job) == TASK_LEAVE) {
        knit_lane_stop(worker_lane);
        return;
    }
    memcpy(out, job->payload, knit_job_len(job));
    memcpy(&sum, out + 4, 4);
    job->status = knit_job_len(job) >= 8 && sum == sum_of(out + 8, knit_job_len(job) - 8)
                      ? KNIT_STATUS_RESULT
                      : KNIT_STATUS_ERROR;
    for (size_t i = 8; i < knit_job_len(job); i++)
        out[i] ^= 0xff;
    job->result = out;
    job->result_len = knit_job_len(job);
}

static _Noreturn void be_worker(const struct shared *shared, uint32_t index, bool trusted)
{
    uint32_t lanes;
    struct knit_lane_session in;
    struct knit_lane_options options;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    lanes = shared->geometry.lanes;
    options = (struct knit_lane_options){.index = index,
        .lanes = lanes,
        .owner = 2 + index,
        .steal = true,
        .spin_us = 20,
        .run = run};
    knit_layout_board(
        lanes, mapped(shared->board_fd, knit_layout_board_bytes(lanes), true), &options.board);
    knit_layout_pool(
        lanes, mapped(shared->pool_fd, knit_layout_pool_bytes(lanes), true), &options.pool);
    in = (struct knit_lane_session){
        .id = 1, .geometry = shared->geometry, .bell_fd = -1, .trusted = trusted};
    knit_layout_request(&shared->geometry,
        mapped(shared->request_fd, knit_layout_request_bytes(&shared->geometry), false),
        &in.request);
    knit_layout_reply(&shared->geometry,
        mapped(shared->reply_fd, knit_layout_reply_bytes(&shared->geometry), true), &in.reply);
    if (knit_lane_new(&options, &worker_lane) != 0 || knit_lane_attach(worker_lane, &in) != 0)
        _exit(2);
    while (knit_lane_turn(worker_lane) == KNIT_LANE_RUNNING)
        ;
    _exit(0);
}

/* ---- the caller's --------------------------------------------------------------------------- */

static struct knit_session *open_session(const struct shared *shared)
{
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;
    const struct knit_geometry *geometry = &shared->geometry;
    int reply_fd, board_fd;
    struct knit_session_options options;
    struct knit_session *session;
    assert_int_equal(knit_segment_reopen_readonly(shared->reply_fd, &reply_fd), 0);
    assert_int_equal(knit_segment_reopen_readonly(shared->board_fd, &board_fd), 0);
    knit_layout_request(
        geometry, mapped(shared->request_fd, knit_layout_request_bytes(geometry), true), &request);
    knit_layout_reply(geometry, mapped(reply_fd, knit_layout_reply_bytes(geometry), false), &reply);
    knit_layout_board(
        geometry->lanes, mapped(board_fd, knit_layout_board_bytes(geometry->lanes), false), &board);
    options = (struct knit_session_options){
        .steal = true, .spin_us = 20, .bell_fd = -1, .argument_max_bytes = LEN_MAX};
    assert_int_equal(knit_session_new(geometry, &request, &reply, &board, &options, &session), 0);
    close(reply_fd);
    close(board_fd);
    return session;
}

static void check_answer(
    const struct knit_session_outcome *outcome, unsigned char *seen, uint32_t *collected)
{
    static unsigned char bytes[LEN_MAX];
    uint32_t number, sum;
    assert_int_equal(outcome->status, KNIT_STATUS_RESULT);
    memcpy(bytes, outcome->payload, outcome->len);
    memcpy(&number, bytes, 4);
    memcpy(&sum, bytes + 4, 4);
    assert_int_equal(number, (uint32_t)(uintptr_t)outcome->user);
    for (size_t i = 8; i < outcome->len; i++)
        bytes[i] ^= 0xff;
    assert_int_equal(sum, sum_of(bytes + 8, outcome->len - 8));
    assert_int_equal(seen[number], 0);
    seen[number] = 1;
    ++*collected;
}

static int publish_random(struct knit_session *session, struct knit_random *random, uint32_t number)
{
    static unsigned char body[LEN_MAX];
    size_t len = 8 + (size_t)knit_random_below(random, 100);
    uint32_t sum, slot;
    struct knit_session_call call;
    if (knit_random_chance(random, 20))
        len = 8 + (size_t)knit_random_below(random, LEN_MAX - 8);
    knit_random_bytes(random, body + 8, len - 8);
    sum = sum_of(body + 8, len - 8);
    memcpy(body, &number, 4);
    memcpy(body + 4, &sum, 4);
    call = (struct knit_session_call){
        .lane = KNIT_LANE_ANY, .payload = body, .len = len, .user = (void *)(uintptr_t)number};
    return knit_session_publish(session, &call, &slot);
}

static void hammer(struct knit_session *session)
{
    struct knit_random random;
    unsigned char *seen;
    uint32_t published, collected;
    uint64_t until;
    struct knit_session_outcome outcomes[16];
    knit_random_init(&random);
    seen = calloc(CALLS, 1);
    published = 0;
    collected = 0;
    until = knit_deadline_in_ms(60000);
    while (collected < CALLS) {
        uint64_t burst;
        size_t got;

        assert_true(knit_deadline_now_ns() < until);
        burst = knit_random_below(&random, SLOTS) + 1;
        while (burst-- > 0 && published < CALLS && publish_random(session, &random, published) == 0)
            published++;
        got = knit_session_collect(session, outcomes, 16);
        for (size_t i = 0; i < got; i++) {
            check_answer(&outcomes[i], seen, &collected);
            if (outcomes[i].held)
                knit_session_release(session, outcomes[i].slot);
        }
        if (got == 0)
            (void)knit_session_wait(session, KNIT_SLOT_ANY, until);
    }
    free(seen);
}

static void every_call_comes_back_once_with_its_own_bytes(uint32_t lanes, bool trusted)
{
    struct shared shared = {.geometry = {.version = KNIT_LAYOUT_VERSION,
                                .lanes = lanes,
                                .slots = SLOTS,
                                .cells = knit_geometry_cells(SLOTS),
                                .features = KNIT_FEATURES,
                                .classes = KNIT_CLASSES_MAX,
                                .request_arena_bytes = 1 << 18,
                                .reply_arena_bytes = 1 << 18}};
    pid_t worker[4];
    struct knit_session *session;
    assert_int_equal(knit_segment_create("knit-test", knit_layout_request_bytes(&shared.geometry),
                         &shared.request_fd),
        0);
    assert_int_equal(knit_segment_create(
                         "knit-test", knit_layout_reply_bytes(&shared.geometry), &shared.reply_fd),
        0);
    assert_int_equal(
        knit_segment_create("knit-test", knit_layout_board_bytes(lanes), &shared.board_fd), 0);
    assert_int_equal(
        knit_segment_create("knit-test", knit_layout_pool_bytes(lanes), &shared.pool_fd), 0);
    for (uint32_t i = 0; i < lanes; i++) {
        worker[i] = fork();
        if (worker[i] == 0)
            be_worker(&shared, i, trusted);
    }
    session = open_session(&shared);
    hammer(session);
    for (uint32_t i = 0; i < lanes; i++) {
        struct knit_session_call leave = {.task = TASK_LEAVE, .lane = i};
        struct knit_session_outcome outcome;
        uint32_t slot;
        uint64_t until = knit_deadline_in_ms(20000);
        assert_int_equal(knit_session_publish(session, &leave, &slot), 0);
        while (!knit_session_collect_slot(session, slot, &outcome)) {
            assert_true(knit_deadline_now_ns() < until);
            (void)knit_session_wait(session, slot, until);
        }
    }
    for (uint32_t i = 0; i < lanes; i++) {
        int status;
        assert_int_equal(waitpid(worker[i], &status, 0), worker[i]);
        assert_int_equal(status, 0);
    }
    (void)knit_session_free(session);
    close(shared.request_fd);
    close(shared.reply_fd);
    close(shared.board_fd);
    close(shared.pool_fd);
}

static void one_worker_that_reads_arguments_in_place(void **state)
{
    (void)state;
    every_call_comes_back_once_with_its_own_bytes(1, true);
}

static void one_worker_that_copies_arguments(void **state)
{
    (void)state;
    every_call_comes_back_once_with_its_own_bytes(1, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_that_reads_arguments_in_place),
        cmocka_unit_test(one_worker_that_copies_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
