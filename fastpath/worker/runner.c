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
#include "fastpath/lane/mark.h"
#include "fastpath/worker/float_state.h"
#include "fastpath/worker/outcome.h"
#include "proto/limits.h"
#include "proto/pack.h"

/* A buffer that grew beyond this for one large result is given back. */
#define KEEP_BYTES ((size_t)1 << 20)

struct knit_runner {
    const struct knit_modules *modules;
    const struct knit_registry *registry;
    uint64_t result_max_bytes;
    uint32_t hard_timeout_ms;
    struct knit_busy_line *busy;
    struct knit_pool_view pool;
    const _Atomic uint32_t *leftovers;
    void (*undo_leftovers)(void);
    FILE *output, *log_output;
    const struct knit_runner_capture *capture;
    struct knit_span text; /* what the task printed */
    bool is_cut;
    struct knit_call_place found;
    struct knit_call call; /* its buffers and its decoder stay from call to call */
};

int knit_runner_new(const struct knit_runner_options *options, struct knit_runner **ret_runner)
{
    static const _Atomic uint32_t none;
    struct knit_runner *runner = calloc(1, sizeof(*runner));

    if (runner == NULL)
        return -ENOMEM;
    runner->modules = options->modules;
    runner->registry = knit_modules_registry(options->modules);
    runner->result_max_bytes = options->result_max_bytes;
    runner->hard_timeout_ms = options->hard_timeout_ms;
    runner->busy = options->busy;
    runner->pool = options->pool;
    runner->leftovers = options->leftovers != NULL ? options->leftovers : &none;
    runner->undo_leftovers = options->undo_leftovers;
    runner->output = runner->log_output = options->output;
    runner->capture = options->capture;
    runner->call.found = &runner->found;
    runner->call.decoder = knit_decoder_new();
    if (runner->call.decoder == NULL) {
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
    knit_decoder_free(runner->call.decoder);
    knit_buffer_fini(&runner->call.results);
    knit_buffer_fini(&runner->call.errors);
    free(runner);
    return NULL;
}

void knit_runner_set_lane(struct knit_runner *runner, struct knit_lane *lane)
{
    runner->call.lane = lane;
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
    case KNIT_SHUTDOWN:
        failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");
        break;
    default:
        failure = knit_failure((uint32_t)code, "the call's memory is damaged");
    }
    failure.started = KNIT_STARTED_NO;
    (void)knit_outcome_fail_with(call, &failure);
}

static __attribute__((cold, noinline)) void fail_arguments(
    struct knit_call *call, int error, const struct knit_signature_mismatch *why)
{
    char text[512];

    if (error == KNIT_SIGNATURE_E_TOO_DEEP) {
        (void)knit_outcome_fail(call, KNIT_TOO_DEEP, "the arguments are nested too deep");
        return;
    }
    (void)knit_signature_explain(why, false, text, sizeof(text));
    (void)knit_outcome_fail(call, KNIT_BAD_ARGUMENT, text);
}

/* Finds the task and checks the params. False: the call has ended. */
static bool admit(const struct knit_runner *runner, struct knit_call *call)
{
    struct knit_job *job = call->job;
    struct knit_signature_mismatch why;
    int error;

    if (job->refusal != 0) {
        refuse(call, job->refusal);
        return false;
    }
    if ((job->epoch & 0xff) != (knit_registry_epoch(runner->registry) & 0xff)) {
        (void)knit_outcome_fail(
            call, KNIT_STALE_EPOCH, "the tasks were loaded anew since this caller asked");
        return false;
    }
    call->task = knit_registry_at(runner->registry, job->task);
    if (call->task == NULL) {
        (void)knit_outcome_fail(call, KNIT_UNKNOWN_TASK, "there is no task of that number");
        return false;
    }
    if (runner->pool.mark != NULL &&
        knit_mark_read(&runner->pool, job->task) == KNIT_MARK_QUARANTINED) {
        (void)knit_outcome_fail(call, KNIT_QUARANTINED,
            "workers died in this task again and again (deaths_per_minute); it is served later, or "
            "when knit lift says so");
        return false;
    }
    error = knit_signature_check(call->task->signature, job->payload, job->len, &call->args, &why);
    if (error != 0) {
        fail_arguments(call, error, &why);
        return false;
    }
    call->arg_count = call->args.count;
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
static void finish(struct knit_call *call, int returned)
{
    if (call->is_settled)
        return;
    if (call->refused_bytes != 0 && !call->is_placed)
        (void)knit_outcome_fail_too_large(call, call->refused_bytes);
    else if (returned != 0)
        fail_returned(call, returned);
    else if (call->is_placed)
        (void)knit_outcome_settle_result(call, call->whole.bytes, call->whole.len);
    else
        (void)knit_outcome_head(call, knit_pack_nil, 0);
}

/* Writes what the host must know before the task can do harm. */
static void announce(struct knit_runner *runner, const struct knit_registry_task *task)
{
    uint32_t hard_ms = task->hard_timeout_ms != 0 ? task->hard_timeout_ms : runner->hard_timeout_ms;

    knit_board_set_task(runner->busy, task->id);
    if (hard_ms != 0)
        knit_board_set_limit(runner->busy, knit_clock_ns() + (uint64_t)hard_ms * 1000000u);
}

/* What a task leaves in the buffer would be seen with the next line that some task prints, and as
 * that one's. */
static __attribute__((cold, noinline)) void end_line(FILE *output)
{
    (void)putc('\n', output);
    (void)fflush(output);
}

static void run_task(struct knit_runner *runner, struct knit_call *call)
{
    const struct knit_registry_task *task = call->task;
    int returned;

    if (runner->busy != NULL)
        announce(runner, task);
    returned = knit_modules_run(runner->modules, task->id)(call);
    knit_float_restore();
    /* relaxed: the task's own thread has set it, or it does not matter when it is seen. */
    if (atomic_load_explicit(runner->leftovers, memory_order_relaxed) != 0)
        runner->undo_leftovers();
    if (runner->output != NULL && __builtin_expect(__fpending(runner->output) != 0, 0))
        end_line(runner->output);
    finish(call, returned);
    if (runner->busy != NULL)
        knit_board_lift_limit(runner->busy);
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
    knit_outcome_add_output(call, text, is_cut);
}

static inline void trim(struct knit_buffer *buffer)
{
    if (buffer->capacity <= KEEP_BYTES)
        return;
    knit_buffer_reset(buffer);
    knit_buffer_trim(buffer, KEEP_BYTES);
}

void knit_runner_run(void *arg, struct knit_job *job)
{
    struct knit_runner *runner = arg;
    struct knit_call *call = &runner->call;

    call->job = job;
    call->task = NULL;
    call->arg_count = 0;
    call->is_settled = false;
    call->is_placed = false;
    call->code = KNIT_OK;
    call->refused_bytes = 0;
    runner->found.index = 0;
    if (runner->result_max_bytes < job->result_max)
        job->result_max = runner->result_max_bytes;
    /* The outcome of the last call has been copied by now. */
    trim(&call->results);
    trim(&call->errors);
    knit_decoder_reset(call->decoder);
    if (!admit(runner, call)) {
        job->was_refused = true;
        return;
    }
    if (__builtin_expect(job->wants_output, 0))
        begin_capture(runner);
    run_task(runner, call);
    if (__builtin_expect(job->wants_output, 0))
        end_capture(runner, call);
}
