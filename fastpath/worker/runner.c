/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over the params checks them and finds the arguments. The outcome is encoded by the
 * function that gives it; after the task there is only to see whether none was given, or a reserved
 * result was filled.
 *
 * The hard timeout is the host's to enforce. It learns of the call from one word, written only for
 * tasks that have such a limit: reading the clock would double the cost of an empty call.
 */
#include "fastpath/worker/runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/lane_serve.h"
#include "fastpath/lane/mark.h"
#include "fastpath/worker/deferred.h"
#include "fastpath/worker/float_state.h"
#include "fastpath/worker/outcome.h"
#include "proto/limits.h"
#include "proto/pack.h"

/* A buffer that grew beyond this for one large result is given back. */
#define KEEP_BYTES ((size_t)1 << 20)

struct knit_runner {
    struct knit_call call;       /* first, as it is used most; its buffers stay */
    struct knit_hot_task *tasks; /* [task_count], by id */
    uint32_t task_count;
    uint32_t epoch; /* low byte */
    struct knit_busy_line *busy;
    const _Atomic uint32_t *leftovers;
    void (*undo_leftovers)(void);
    FILE *output, *log_output;
    const struct knit_runner_capture *capture;
    struct knit_span text; /* what the task printed */
    bool is_cut;
    struct knit_call_place found;
    struct knit_deferreds deferreds;
};

static int fill_tasks(struct knit_runner *runner, const struct knit_runner_options *options)
{
    static const _Atomic uint8_t trusted = KNIT_MARK_TRUSTED;
    const struct knit_registry *registry = knit_modules_registry(options->modules);

    runner->epoch = knit_registry_epoch(registry) & 0xff;
    runner->task_count = knit_registry_count(registry);
    runner->tasks =
        aligned_alloc(KNIT_LINE, (size_t)(runner->task_count + 1) * sizeof(*runner->tasks));
    if (runner->tasks == NULL)
        return -ENOMEM;
    for (uint32_t id = 0; id < runner->task_count; id++) {
        const struct knit_registry_task *task = knit_registry_at(registry, id);
        uint32_t hard_ms =
            task->hard_timeout_ms != 0 ? task->hard_timeout_ms : options->hard_timeout_ms;

        runner->tasks[id] = (struct knit_hot_task){.run = knit_modules_run(options->modules, id),
            .task = task,
            .mark = options->pool.mark != NULL ? &options->pool.mark[id] : &trusted,
            .hard_ns = (uint64_t)hard_ms * 1000000u,
            .precheck = task->precheck};
    }
    return 0;
}

int knit_runner_new(const struct knit_runner_options *options, struct knit_runner **ret_runner)
{
    static const _Atomic uint32_t none;
    static struct knit_busy_line unseen;
    struct knit_runner *runner = calloc(1, sizeof(*runner));

    if (runner == NULL)
        return -ENOMEM;
    runner->busy = options->busy != NULL ? options->busy : &unseen;
    runner->leftovers = options->leftovers != NULL ? options->leftovers : &none;
    runner->undo_leftovers = options->undo_leftovers;
    runner->output = runner->log_output = options->output;
    runner->capture = options->capture;
    runner->call.found = &runner->found;
    runner->call.users = knit_modules_users(options->modules);
    runner->deferreds = (struct knit_deferreds){
        .max = options->deferred_max, .abort_grace_ms = options->abort_grace_ms};
    runner->call.deferreds = &runner->deferreds;
    runner->call.inlined = options->inlined;
    if (fill_tasks(runner, options) != 0) {
        knit_runner_free(runner);
        return -ENOMEM;
    }
    knit_buffer_init(&runner->call.results, options->result_max_bytes);
    /* Room for a message and details beside the largest data. */
    knit_buffer_init(
        &runner->call.errors, options->result_max_bytes + 2 * KNIT_ERROR_MESSAGE_BYTES_MAX);
    *ret_runner = runner;
    return 0;
}

struct knit_runner *knit_runner_free(struct knit_runner *runner)
{
    if (runner == NULL)
        return NULL;
    knit_call_free_copies(&runner->call);
    knit_buffer_fini(&runner->call.results);
    knit_buffer_fini(&runner->call.errors);
    free(runner->tasks);
    free(runner);
    return NULL;
}

uint32_t knit_runner_epoch(const struct knit_runner *runner)
{
    return runner->epoch;
}

void knit_runner_set_lane(struct knit_runner *runner, struct knit_lane *lane)
{
    runner->call.lane = lane;
    runner->deferreds.lane = lane;
}

void knit_runner_let_go(void *arg)
{
    struct knit_runner *runner = arg;

    knit_deferred_let_go(&runner->deferreds);
}

bool knit_runner_is_over(void *arg)
{
    struct knit_runner *runner = arg;

    return knit_deferred_is_over(&runner->deferreds);
}

void knit_runner_count_late(struct knit_runner *runner, _Atomic uint64_t *late)
{
    runner->deferreds.late = late;
}

void knit_runner_end_deferred(struct knit_runner *runner)
{
    knit_deferred_fini(&runner->deferreds);
}

void knit_runner_close_session(struct knit_runner *runner, uint64_t session)
{
    knit_deferred_close_session(&runner->deferreds, session);
}

/* Makes the error of a call that the lane claimed and does not start. */
static __attribute__((cold, noinline)) void refuse(struct knit_call *call, int code)
{
    struct knit_failure failure;

    switch (code) {
    case KNIT_TIMEOUT:
        failure = knit_failure(KNIT_TIMEOUT, "the deadline passed before the call was started");
        break;
    case KNIT_CANCELLED:
        failure = knit_failure(KNIT_CANCELLED, "cancelled before it was started");
        break;
    case KNIT_JOB_STOPPED:
        failure = knit_failure(KNIT_CANCELLED, "stopped by an operator before it was started");
        break;
    case KNIT_SHUTDOWN:
        failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");
        break;
    case KNIT_DENIED:
        failure = knit_failure(KNIT_DENIED, "the policy does not let its caller call this task");
        break;
    default:
        failure = knit_failure((uint32_t)code, "the call's memory is damaged");
    }
    failure.started = KNIT_STARTED_NO;
    (void)knit_outcome_fail_with(call, &failure);
}

/* Not inlined: params that are usual need no frame for the rest. */
static __attribute__((noinline)) bool check_arguments(struct knit_call *call)
{
    const struct knit_job *job = call->job;
    struct knit_signature_mismatch why;
    char text[512];
    int error = knit_signature_check(
        call->hot->task->signature, job->payload, knit_job_len(job), &call->args, &why);

    /* Where an argument of the last call lay. Calls that do not come here have too few to look for
     * one. */
    call->found->index = 0;
    if (error == 0)
        return true;
    (void)knit_signature_explain(&why, false, text, sizeof(text));
    (void)knit_outcome_fail(
        call, error == KNIT_SIGNATURE_E_TOO_DEEP ? KNIT_TOO_DEEP : KNIT_BAD_ARGUMENT, text);
    return false;
}

/* Not inlined: the walk over the heads needs the registers that the loop over the ring keeps. */
static __attribute__((noinline)) bool check_heads(struct knit_call *call)
{
    const struct knit_job *job = call->job;

    return knit_precheck_params(
               &call->hot->precheck, job->payload, knit_job_len(job), &call->args) ||
           check_arguments(call);
}

/* A call that does not come to its arguments. */
static __attribute__((cold, noinline)) void fail_unstarted(
    const struct knit_runner *runner, struct knit_call *call)
{
    const struct knit_job *job = call->job;

    if (job->refusal != 0)
        refuse(call, job->refusal);
    else if (knit_meta_epoch(job->meta) != runner->epoch)
        (void)knit_outcome_fail(
            call, KNIT_STALE_EPOCH, "the tasks were loaded anew since this caller asked");
    else if (knit_job_task(job) >= runner->task_count)
        (void)knit_outcome_fail(call, KNIT_UNKNOWN_TASK, "there is no task of that number");
    else
        (void)knit_outcome_fail(call, KNIT_QUARANTINED,
            "workers died in this task again and again (deaths_per_minute); it is served later, or "
            "when knit lift says so");
}

/* Whether the task may run; `meta` is what the job was made of. */
KNIT_ALWAYS_INLINE bool find_task(
    const struct knit_runner *runner, uint64_t meta, const struct knit_hot_task **ret_hot)
{
    const uint32_t id = knit_meta_task(meta);

    if (__builtin_expect(id >= runner->task_count, 0))
        return false;
    *ret_hot = &runner->tasks[id];
    /* relaxed, as in mark.h. */
    if (__builtin_expect(
            atomic_load_explicit((*ret_hot)->mark, memory_order_relaxed) == KNIT_MARK_QUARANTINED,
            0))
        return false;
    /* What the host must know before the task can do harm. */
    knit_board_set_task(runner->busy, id);
    return true;
}

static __attribute__((cold, noinline)) void fail_returned(struct knit_call *call, int returned)
{
    char text[96];

    (void)snprintf(text, sizeof(text), "the task returned %d and gave no outcome", returned);
    (void)knit_outcome_fail(call, KNIT_BAD_RESULT, text);
}

/* The task has returned. If it gave no outcome and returned 0, the result is what it placed, or
 * nil. */
static __attribute__((noinline)) void finish(struct knit_call *call, int returned)
{
    if (call->refused_bytes != 0 && !call->is_placed)
        (void)knit_outcome_fail_too_large(call, call->refused_bytes);
    else if (returned != 0)
        fail_returned(call, returned);
    else if (call->is_placed)
        (void)knit_outcome_settle_result(call, call->whole.bytes, call->whole.len, 0);
    else
        (void)knit_outcome_byte(call, KNIT_PACK_NIL, KNIT_HEAD_NIL);
}

/* What a task leaves in the buffer would be seen with the next line that some task prints, and as
 * that one's. */
static __attribute__((cold, noinline)) void end_line(FILE *output)
{
    (void)putc('\n', output);
    (void)fflush(output);
}

/* The task has printed the begin of a line. __fpending() says it everywhere; in glibc, where that
 * is a call, fields of the structure say that it is not needed. */
static inline bool has_pending(FILE *output)
{
#ifdef __GLIBC__
    if (output->_mode <= 0 && output->_IO_write_ptr == output->_IO_write_base)
        return false;
#endif
    return __fpending(output) != 0;
}

KNIT_ALWAYS_INLINE void run_unlimited(
    struct knit_runner *runner, struct knit_call *call, const struct knit_hot_task *hot)
{
    int returned;

    returned = hot->run(call);
    knit_float_restore();
    /* relaxed: the task's own thread has set it, or it does not matter when it is seen. */
    if (__builtin_expect(atomic_load_explicit(runner->leftovers, memory_order_relaxed) != 0, 0))
        runner->undo_leftovers();
    if (runner->output != NULL && __builtin_expect(has_pending(runner->output), 0))
        end_line(runner->output);
    if (__builtin_expect(!knit_call_is_settled(call), 0))
        finish(call, returned);
}

/* The same for a task that has a hard timeout. */
static __attribute__((noinline)) void run_limited(
    struct knit_runner *runner, struct knit_call *call, const struct knit_hot_task *hot)
{
    knit_board_set_limit(runner->busy, knit_clock_ns() + hot->hard_ns);
    run_unlimited(runner, call, hot);
    knit_board_lift_limit(runner->busy);
}

KNIT_ALWAYS_INLINE void run_task(
    struct knit_runner *runner, struct knit_call *call, const struct knit_hot_task *hot)
{
    if (__builtin_expect(hot->hard_ns != 0, 0))
        run_limited(runner, call, hot);
    else
        run_unlimited(runner, call, hot);
}

/* Where the caller wants what the task prints. A line without an end is its own as it is. */
static __attribute__((cold, noinline)) void begin_capture(struct knit_runner *runner)
{
    runner->output = NULL;
    if (runner->capture != NULL)
        runner->capture->begin();
}

static __attribute__((cold, noinline)) void end_capture(
    struct knit_runner *runner, struct knit_call *call)
{
    struct knit_span text = knit_span("", 0);
    bool is_cut = true;

    if (runner->capture != NULL)
        text = runner->capture->end(&is_cut);
    runner->output = runner->log_output;
    if (call->job->result_len == KNIT_JOB_DEFERRED)
        knit_deferred_keep_output(&runner->deferreds, text, is_cut);
    else
        knit_outcome_add_output(call, text, is_cut);
}

static void trim(struct knit_buffer *buffer)
{
    if (buffer->capacity <= KEEP_BYTES)
        return;
    knit_buffer_reset(buffer);
    knit_buffer_trim(buffer, KEEP_BYTES);
}

/* Before the next call: the outcome that lay in them has been copied by now. */
static __attribute__((noinline)) void empty(struct knit_call *call)
{
    trim(&call->results);
    trim(&call->errors);
    knit_call_free_copies(call);
    call->is_placed = false;
    call->refused_bytes = 0;
    call->is_used = false;
}

/* Finds the task and checks the params. False: the call has ended. */
KNIT_ALWAYS_INLINE bool admit(struct knit_runner *runner, struct knit_job *job, uint64_t meta,
    const struct knit_hot_task **ret_hot)
{
    struct knit_call *call = &runner->call;

    if (__builtin_expect(call->is_used, 0))
        empty(call);
    job->result = NULL;
    if (!find_task(runner, meta, ret_hot)) {
        fail_unstarted(runner, call);
        job->was_refused = true;
        return false;
    }
    call->hot = *ret_hot;
    if (knit_precheck_is_empty(&(*ret_hot)->precheck, job->payload, knit_meta_len(meta))) {
        call->args.count = 0;
        return true;
    }
    if (check_heads(call))
        return true;
    job->was_refused = true;
    return false;
}

/* A job as most are, in the loop over its ring. */
KNIT_ALWAYS_INLINE void run_job(void *arg, struct knit_job *job, uint64_t meta)
{
    struct knit_runner *runner = arg;
    const struct knit_hot_task *hot;

    if (__builtin_expect(admit(runner, job, meta, &hot), 1))
        run_task(runner, &runner->call, hot);
}

/* Makes the error of a call that the lane claimed and does not start. */
static __attribute__((cold, noinline)) void refuse_job(
    struct knit_runner *runner, struct knit_job *job)
{
    job->result = NULL;
    fail_unstarted(runner, &runner->call);
    job->was_refused = true;
}

void knit_runner_run(void *arg, struct knit_job *job)
{
    struct knit_runner *runner = arg;
    const uint64_t meta = job->meta;
    const struct knit_hot_task *hot;

    runner->call.job = job;
    if (job->refusal != 0 || knit_meta_epoch(meta) != runner->epoch) {
        refuse_job(runner, job);
        return;
    }
    if (!admit(runner, job, meta, &hot))
        return;
    if (job->wants_output)
        begin_capture(runner);
    run_task(runner, &runner->call, hot);
    if (job->wants_output)
        end_capture(runner, &runner->call);
}

uint32_t knit_runner_serve(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    struct knit_runner *runner = lane->options.run_arg;
    const struct knit_lane_way way = {.run = run_job,
        .arg = runner,
        .meta = knit_meta(0, runner->epoch, 0, 0),
        .meta_mask = KNIT_LANE_WAY_FLAGS | knit_meta(0, 0xff, 0, 0)};

    runner->call.job = &lane->job;
    return knit_lane_serve_with(lane, session, most, &way);
}
