/* SPDX-License-Identifier: Apache-2.0 */
/* The table of deferred calls where its threads end or are lost: a task ends its thread, a process
 * forks. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/worker/deferred.h"
#include "proto/printed.h"
#include "tests/proto/failing.h"
#include "tests/support/deadline.h"

/* A worker without a lane's turns: a call that runs, and what deferring it looks at. */
struct worker {
    struct knit_busy_line busy;
    struct knit_worker_session session;
    struct knit_lane lane;
    struct knit_line32 bell;
    struct knit_registry_task task;
    struct knit_hot_task hot;
    struct knit_job job;
    unsigned char payload[32];
    struct knit_call call;
    struct knit_deferreds deferreds;
};

static struct worker *new_worker(void)
{
    struct worker *worker = aligned_alloc(KNIT_LINE, sizeof(*worker));

    assert_non_null(worker);
    memset(worker, 0, sizeof(*worker));
    worker->lane.current = &worker->session;
    worker->lane.options.board.busy = &worker->busy;
    worker->lane.options.pool.lane_bell = &worker->bell;
    worker->lane.finished_end = &worker->lane.finished;
    worker->session.in.id = 7;
    worker->task.name = "later";
    worker->hot.task = &worker->task;
    worker->job.session = 7;
    worker->job.payload = worker->payload;
    worker->job.result_max = 1000;
    worker->deferreds = (struct knit_deferreds){.max = 4, .lane = &worker->lane};
    worker->call = (struct knit_call){.job = &worker->job,
        .hot = &worker->hot,
        .lane = &worker->lane,
        .deferreds = &worker->deferreds};
    return worker;
}

/* The task of the call that runs defers it. */
static struct knit_deferred *defer(struct worker *worker)
{
    struct knit_deferred *token;

    worker->job.result = NULL;
    token = knit_deferred_new(&worker->call);
    assert_non_null(token);
    return token;
}

static bool has_ended(struct knit_deferred *token)
{
    struct knit_call *call = knit_deferred_open(token);

    if (call != NULL)
        (void)knit_deferred_close(call);
    return call == NULL;
}

/* Its place is before that of the call for which the watching thread gives up the mutex. */
static void a_call_whose_task_returns_while_another_one_expires_is_watched(void **state)
{
    struct worker *worker = new_worker();
    struct knit_deferred_call *first;
    struct knit_deferred *tokens[2];

    (void)state;
    knit_board_set_limit(&worker->busy, 1);
    tokens[0] = defer(worker);
    first = worker->deferreds.newest;
    tokens[1] = defer(worker);
    /* For as long as this is taken, the watching thread hands the second one over. */
    assert_int_equal(pthread_mutex_lock(&worker->lane.mutex), 0);
    knit_deferred_let_go(&worker->deferreds);
    assert_true(KNIT_WAIT_UNTIL(has_ended(tokens[1]), 10000));
    worker->deferreds.newest = first;
    knit_deferred_let_go(&worker->deferreds);
    assert_int_equal(pthread_mutex_unlock(&worker->lane.mutex), 0);
    assert_true(KNIT_WAIT_UNTIL(has_ended(tokens[0]), 10000));
    knit_deferred_fini(&worker->deferreds);
    while (worker->lane.finished != NULL) {
        struct knit_finished *finished = worker->lane.finished;

        worker->lane.finished = finished->next;
        knit_deferred_on_finished(NULL, finished);
    }
    assert_int_equal(worker->deferreds.count, 0);
    free(worker);
}

static void a_task_that_ends_its_thread_keeps_no_place(void **state)
{
    struct worker *worker = new_worker();
    struct knit_call *open = knit_deferred_open(defer(worker));

    (void)state;
    assert_non_null(open);
    open->job->result = open->job->body;
    (void)knit_deferred_close(open);
    /* It has its outcome, and its task never returns. */
    knit_deferred_fini(&worker->deferreds);
    assert_int_equal(worker->deferreds.count, 0);
    assert_true(knit_deferred_is_over(&worker->deferreds));
    free(worker);
}

/* Its caller splits the outcome, so it gets both parts. */
static void output_that_finds_no_memory_is_told_as_cut(void **state)
{
    struct worker *worker = new_worker();
    struct knit_finished *finished;
    struct knit_span result, output, text;
    struct knit_call *open;
    bool is_cut = false;

    (void)state;
    worker->job.wants_output = true;
    open = knit_deferred_open(defer(worker));
    assert_non_null(open);
    memcpy(open->job->body, "\300", 1); /* nil */
    open->job->result = open->job->body;
    open->job->result_len = 1;
    (void)knit_deferred_close(open);
    (void)knit_failing_after(1);
    knit_deferred_keep_output(&worker->deferreds, knit_span("printed", 7), false);
    (void)knit_failing_after(0);
    knit_deferred_let_go(&worker->deferreds);
    finished = worker->lane.finished;
    assert_non_null(finished);
    assert_int_equal(
        knit_printed_split(knit_span(finished->bytes, finished->len), &result, &output), 0);
    assert_int_equal(result.len, 1);
    assert_int_equal(knit_printed_read(output, &text, &is_cut), 0);
    assert_int_equal(text.len, 0);
    assert_true(is_cut);
    knit_deferred_on_finished(NULL, finished);
    assert_int_equal(worker->deferreds.count, 0);
    knit_deferred_fini(&worker->deferreds);
    free(worker);
}

static atomic_bool is_over;

/* Of no call's token: it takes the mutex. */
static void *look(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed))
        (void)knit_deferred_aborted(NULL);
    return NULL;
}

/* In the child: as a pool of its own does. A child that finds the mutex taken is ended. */
static void use_table(struct knit_deferred *parents)
{
    struct worker *worker;
    struct knit_deferred *token;

    (void)alarm(20);
    if (knit_deferred_open(parents) != NULL)
        _exit(1);
    /* ThreadSanitizer starts no thread in a forked child, and the first call needs one. */
    if (KNIT_BELL_TSAN)
        _exit(0);
    worker = new_worker();
    token = defer(worker);
    _exit(knit_deferred_open(parents) != NULL || knit_deferred_open(token) == NULL ? 1 : 0);
}

static void a_forked_child_has_a_table_of_its_own(void **state)
{
    struct worker *worker = new_worker();
    struct knit_deferred *token = defer(worker);
    pthread_t thread;

    (void)state;
    knit_deferred_let_go(&worker->deferreds);
    assert_int_equal(pthread_create(&thread, NULL, look, NULL), 0);
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            use_table(token);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    atomic_store_explicit(&is_over, true, memory_order_relaxed);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(knit_deferred_open(token));
    knit_deferred_fini(&worker->deferreds);
    free(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_whose_task_returns_while_another_one_expires_is_watched),
        cmocka_unit_test(a_task_that_ends_its_thread_keeps_no_place),
        cmocka_unit_test(output_that_finds_no_memory_is_told_as_cut),
        cmocka_unit_test(a_forked_child_has_a_table_of_its_own),
    };

    return cmocka_run_group_tests_name("deferred table", tests, NULL, NULL);
}
