/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over the params checks them and finds the arguments, so getters only read a head. The
 * outcome is encoded by the function that gives it; what is left for the end is to notice that none
 * was given, or that a reserved result was filled.
 *
 * Errors are encoded into a buffer of their own, so that a result half built never gets in their
 * way; when even that fails for want of memory, the job's own body holds INTERNAL.
 *
 * The hard timeout is the host's to enforce. It learns of the call from one word, written only for
 * tasks that have such a limit: reading the clock would double the cost of an empty call.
 */
#include "fastpath/worker/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/mark.h"
#include "proto/check.h"
#include "proto/decoder.h"
#include "proto/failure.h"
#include "proto/head.h"
#include "proto/limits.h"
#include "proto/pack.h"
#include "proto/writer.h"

/* Beyond this a buffer that grew for one large result is given back. */
#define KEEP_BYTES ((size_t)1 << 20)

/* What the opaque struct of the module ABI is. */
struct knit_call {
    struct knit_runner *runner;
    struct knit_job *job;
    const struct knit_registry_task *task;
    uint32_t arg_count;
    bool is_settled;
    bool is_placed;         /* a result was reserved and is being filled */
    int code;               /* of the error it ended with, or KNIT_OK */
    size_t refused_bytes;   /* of a place that was too large; 0 = none was */
    struct knit_span whole; /* the placed result, head included */
    struct knit_writer writer;
    struct knit_buffer fixed; /* stands on the job's body or on the lane's room */
    struct knit_signature_args args;
};

struct knit_runner {
    const struct knit_modules *modules;
    const struct knit_registry *registry;
    struct knit_lane *lane;
    struct knit_decoder *decoder;
    struct knit_buffer results;
    struct knit_buffer errors;
    uint64_t result_max_bytes;
    uint32_t hard_timeout_ms;
    struct knit_busy_line *busy;
    struct knit_pool_view pool;
    /* Where an argument beyond those recorded was last found: so that walking through them in
     * order is not quadratic. */
    uint32_t far_index;
    size_t far_off;
    struct knit_call call;
};

/* ---- errors ---- */

static int settle(struct knit_call *call, uint32_t status, const void *bytes, size_t len, int code)
{
    call->is_settled = true;
    call->code = code;
    call->job->status = status;
    call->job->result = bytes;
    call->job->result_len = len;
    return code;
}

/* Encodes into the errors' buffer, or says INTERNAL when that cannot be. */
static int settle_errors(struct knit_call *call, int code)
{
    struct knit_buffer *errors = &call->runner->errors;

    if (errors->error != 0) {
        struct knit_failure failure = knit_failure(KNIT_INTERNAL, "out of memory");

        code = KNIT_INTERNAL;
        knit_buffer_init_fixed(&call->fixed, call->job->body, sizeof(call->job->body));
        (void)knit_failure_put(&call->fixed, &failure, KNIT_FAILURE_COMPACT);
        return settle(call, KNIT_STATUS_ERROR, call->fixed.bytes, call->fixed.len, code);
    }
    return settle(call, KNIT_STATUS_ERROR, errors->bytes, errors->len, code);
}

static int fail_with(struct knit_call *call, const struct knit_failure *failure)
{
    knit_buffer_reset(&call->runner->errors);
    (void)knit_failure_put(&call->runner->errors, failure, KNIT_FAILURE_COMPACT);
    return settle_errors(call, (int)failure->code);
}

static int fail(struct knit_call *call, enum knit_code code, const char *message)
{
    struct knit_failure failure = knit_failure(code, message);

    return fail_with(call, &failure);
}

static int fail_too_large(struct knit_call *call, uint64_t actual)
{
    struct knit_failure failure =
        knit_failure(KNIT_RESULT_TOO_LARGE, "the result is larger than the pool allows");

    failure.limit = call->job->result_max;
    if (actual != 0)
        failure.actual = actual;
    return fail_with(call, &failure);
}

/* ---- results ---- */

/* The buffer for a result of at most `size` bytes, in the place from which it will be read where
 * that can be. NULL: the call has ended, too large. */
static struct knit_buffer *open_result(struct knit_call *call, size_t size)
{
    struct knit_job *job = call->job;
    void *room = NULL;

    if (size <= sizeof(job->body)) {
        knit_buffer_init_fixed(&call->fixed, job->body, sizeof(job->body));
        return &call->fixed;
    }
    if (size > job->result_max)
        return NULL;
    if (call->runner->lane != NULL)
        room = knit_lane_room(call->runner->lane, job, size);
    if (room != NULL) {
        knit_buffer_init_fixed(&call->fixed, room, size);
        return &call->fixed;
    }
    knit_buffer_reset(&call->runner->results);
    call->runner->results.max = job->result_max;
    return &call->runner->results;
}

/* Not inlined, like all that words an error: a call that goes well would pay for the texts'
 * frames. */
static __attribute__((cold, noinline)) int fail_result(
    struct knit_call *call, int error, const struct knit_signature_mismatch *why)
{
    char text[512];

    if (error == KNIT_SIGNATURE_E_TOO_DEEP)
        return fail(call, KNIT_BAD_RESULT, "the result is nested too deep");
    (void)knit_signature_explain(why, true, text, sizeof(text));
    return fail(call, KNIT_BAD_RESULT, text);
}

/* Encoded bytes become the outcome when they are what the signature promises. */
static int settle_result(struct knit_call *call, const void *bytes, size_t len)
{
    struct knit_signature_mismatch why;
    int error = knit_signature_check_result(call->task->signature, bytes, len, &why);

    if (error != 0)
        return fail_result(call, error, &why);
    return settle(call, KNIT_STATUS_RESULT, bytes, len, KNIT_OK);
}

static int end_result(struct knit_call *call, struct knit_writer *writer)
{
    struct knit_buffer *buffer = writer->buffer;
    int error = knit_writer_end(writer);

    if (error == KNIT_WRITER_E_FULL)
        return fail_too_large(call, 0);
    if (error == -ENOMEM)
        return fail(call, KNIT_INTERNAL, "out of memory");
    if (error != 0)
        return fail(call, KNIT_BAD_RESULT, knit_writer_reason(error));
    return settle_result(call, buffer->bytes, buffer->len);
}

/* ---- outcomes, as tasks give them ---- */

/* Numbers and the like are a head alone, which fits the job's body: no buffer is opened. */
static int return_head(struct knit_call *call, knit_pack *pack, uint64_t value)
{
    if (call->is_settled)
        return call->code;
    return settle_result(call, call->job->body, pack((uint8_t *)call->job->body, value));
}

static int return_nil(struct knit_call *call)
{
    return return_head(call, knit_pack_nil, 0);
}

static int return_bool(struct knit_call *call, bool value)
{
    return return_head(call, knit_pack_bool, value);
}

static int return_int(struct knit_call *call, int64_t value)
{
    return return_head(call, knit_pack_int, (uint64_t)value);
}

static int return_uint(struct knit_call *call, uint64_t value)
{
    return return_head(call, knit_pack_uint, value);
}

static int return_float(struct knit_call *call, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return return_head(call, knit_pack_float, bits);
}

/* Head and bytes, in the place from which the outcome will be read where that can be. */
static int return_body(struct knit_call *call, knit_pack *pack, const void *bytes, size_t len)
{
    struct knit_buffer *buffer = NULL;
    uint8_t head[KNIT_HEAD_BYTES_MAX], *place;
    size_t size = 0;

    if (call->is_settled)
        return call->code;
    if (len <= UINT32_MAX) {
        size = pack(head, len);
        buffer = open_result(call, size + len);
    }
    if (buffer == NULL)
        return fail_too_large(call, len);
    place = knit_buffer_reserve(buffer, size + len);
    if (place == NULL)
        return buffer->error == KNIT_BUFFER_E_FULL ? fail_too_large(call, len)
                                                   : fail(call, KNIT_INTERNAL, "out of memory");
    memcpy(place, head, size);
    if (len > 0)
        memcpy(place + size, bytes, len);
    return settle_result(call, place, size + len);
}

static int return_str(struct knit_call *call, const char *text, size_t len)
{
    return return_body(call, knit_pack_str, text, len);
}

static int return_bin(struct knit_call *call, const void *bytes, size_t len)
{
    return return_body(call, knit_pack_bin, bytes, len);
}

static int return_raw(struct knit_call *call, const void *msgpack, size_t len)
{
    struct knit_buffer *buffer;

    if (call->is_settled)
        return call->code;
    buffer = open_result(call, len);
    if (buffer == NULL)
        return fail_too_large(call, len);
    knit_writer_init(&call->writer, buffer);
    knit_writer_raw(&call->writer, msgpack, len);
    return end_result(call, &call->writer);
}

static void *return_bin_place(struct knit_call *call, size_t len)
{
    uint8_t head[KNIT_WRITER_BIN_HEAD_MAX];
    struct knit_buffer *buffer = NULL;
    size_t size;
    uint8_t *bytes;

    if (call->is_settled || call->is_placed)
        return NULL;
    if (len <= UINT32_MAX) {
        size = knit_writer_bin_head(head, (uint32_t)len);
        buffer = open_result(call, size + len);
    }
    bytes = buffer != NULL ? knit_buffer_reserve(buffer, size + len) : NULL;
    if (bytes == NULL) {
        /* The task may still end in another way; if it does not, this is why. */
        call->refused_bytes = len;
        return NULL;
    }
    memcpy(bytes, head, size);
    call->whole = knit_span(bytes, size + len);
    call->is_placed = true;
    return bytes + size;
}

static int fail_task(
    struct knit_call *call, int64_t code, const char *message, const void *data, size_t data_len)
{
    struct knit_runner *runner = call->runner;
    struct knit_span value = knit_span(data, data != NULL ? data_len : 0);
    struct knit_check_flaw flaw;

    if (call->is_settled)
        return call->code;
    /* The data lies within the error's array, its details and its own map. */
    if (data != NULL && knit_check_value(data, data_len, KNIT_DEPTH_MAX - 3, &flaw) != 0) {
        char text[256];

        (void)snprintf(text, sizeof(text),
            "the task failed with %lld, and with data that is bad: %s", (long long)code,
            flaw.reason);
        return fail(call, KNIT_BAD_RESULT, text);
    }
    knit_buffer_reset(&runner->errors);
    (void)knit_failure_put_task(
        &runner->errors, code, knit_span_text(message != NULL ? message : ""), value);
    if (runner->errors.error == KNIT_BUFFER_E_FULL || runner->errors.len > call->job->result_max)
        return fail_too_large(call, data_len);
    return settle_errors(call, KNIT_TASK_FAILED);
}

/* ---- results built piece by piece ---- */

static struct knit_writer *writer(struct knit_call *call)
{
    call->writer.buffer = &call->runner->results;
    call->is_placed = false;
    if (call->is_settled) {
        /* The outcome may lie in that buffer: nothing is put any more. */
        call->writer.error = KNIT_WRITER_E_SURPLUS;
        return &call->writer;
    }
    knit_buffer_reset(&call->runner->results);
    call->runner->results.max = call->job->result_max;
    knit_writer_init(&call->writer, &call->runner->results);
    return &call->writer;
}

static int return_built(struct knit_call *call, struct knit_writer *built)
{
    if (call->is_settled)
        return call->code;
    if (built != &call->writer || built->buffer != &call->runner->results)
        return fail(call, KNIT_BAD_RESULT, "the writer is not this call's");
    return end_result(call, built);
}

/* ---- arguments ---- */

/* The bytes of an argument; absent when it was not given. */
static struct knit_span find_arg(const struct knit_call *call, uint32_t index)
{
    const uint8_t *params = call->job->payload;
    struct knit_runner *runner = call->runner;
    uint32_t at = KNIT_SIGNATURE_PARAMS_MAX - 1;
    size_t off, len;

    if (index >= call->arg_count)
        return knit_span(NULL, 0);
    if (index < KNIT_SIGNATURE_PARAMS_MAX)
        return knit_span(params + call->args.arg[index].off, call->args.arg[index].len);
    off = call->args.arg[at].off;
    if (runner->far_index > at && runner->far_index <= index) {
        at = runner->far_index;
        off = runner->far_off;
    }
    /* Passing over checked bytes cannot fail; were they changed after the check (a trusted caller's
     * mistake), the argument is absent. */
    for (;; at++) {
        if (knit_check_skip(params + off, call->job->len - off, &len) != 0)
            return knit_span(NULL, 0);
        if (at == index)
            break;
        off += len;
    }
    runner->far_index = index;
    runner->far_off = off;
    return knit_span(params + off, len);
}

/* The heads of recorded arguments were kept by the check: they are not read again. */
static bool read_arg(const struct knit_call *call, uint32_t index, struct knit_head *ret_head)
{
    struct knit_span arg;

    if (index < call->arg_count && index < KNIT_SIGNATURE_PARAMS_MAX) {
        *ret_head = call->args.arg[index].head;
        return true;
    }
    arg = find_arg(call, index);
    return arg.bytes != NULL && knit_head_read(arg.bytes, arg.len, ret_head) == 0;
}

static uint32_t arg_count(const struct knit_call *call)
{
    return call->arg_count;
}

static bool arg_bool(const struct knit_call *call, uint32_t index)
{
    struct knit_head head;

    return read_arg(call, index, &head) && head.type == KNIT_HEAD_BOOL && head.value != 0;
}

static int64_t arg_int(const struct knit_call *call, uint32_t index)
{
    struct knit_head head;
    int64_t value = 0;

    if (read_arg(call, index, &head))
        (void)knit_head_as_int(&head, &value);
    return value;
}

static uint64_t arg_uint(const struct knit_call *call, uint32_t index)
{
    struct knit_head head;
    uint64_t value = 0;

    if (read_arg(call, index, &head))
        (void)knit_head_as_uint(&head, &value);
    return value;
}

static double arg_float(const struct knit_call *call, uint32_t index)
{
    struct knit_head head;
    double value = 0;

    if (read_arg(call, index, &head))
        (void)knit_head_as_float(&head, &value);
    return value;
}

static const void *arg_bytes(const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    struct knit_span arg = find_arg(call, index);
    struct knit_head head;

    *ret_len = 0;
    if (arg.bytes == NULL || !read_arg(call, index, &head) || !knit_head_has_body(&head))
        return NULL;
    /* An argument that is read in place may have changed since the check. */
    if (head.size > arg.len || head.value > arg.len - head.size)
        return NULL;
    *ret_len = head.value;
    return arg.bytes + head.size;
}

static const void *arg_raw(const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    struct knit_span arg =
        index == UINT32_MAX ? knit_span(call->job->payload, call->job->len) : find_arg(call, index);

    *ret_len = arg.len;
    return arg.bytes;
}

static const struct knit_value *arg_value(struct knit_call *call, uint32_t index)
{
    struct knit_span arg = find_arg(call, index);

    return arg.bytes != NULL ? knit_decoder_read(call->runner->decoder, arg.bytes, arg.len) : NULL;
}

/* ---- the surroundings ---- */

static bool aborted(const struct knit_call *call)
{
    const struct knit_lane *lane = call->runner->lane;

    return lane != NULL && knit_lane_aborted(lane, call->job);
}

static uint64_t now_ns(const struct knit_call *call)
{
    (void)call;
    return knit_clock_ns();
}

static uint64_t deadline_ns(const struct knit_call *call)
{
    return call->job->deadline_ns;
}

/* The outcome of a task that saw its abort flag and stopped. */
static int return_aborted(struct knit_call *call)
{
    bool is_late = deadline_ns(call) != 0 && now_ns(call) >= deadline_ns(call);
    struct knit_failure failure = is_late
                                      ? knit_failure(KNIT_TIMEOUT, "stopped when its time was over")
                                      : knit_failure(KNIT_CANCELLED, "cancelled while it ran");

    failure.started = KNIT_STARTED_YES;
    return call->is_settled ? call->code : fail_with(call, &failure);
}

const struct knit_api *knit_call_api(void)
{
    static const struct knit_api api = {
        .abi = KNIT_MODULE_ABI,
        .size = sizeof(struct knit_api),
        .arg_count = arg_count,
        .arg_bool = arg_bool,
        .arg_int = arg_int,
        .arg_uint = arg_uint,
        .arg_float = arg_float,
        .arg_bytes = arg_bytes,
        .arg_raw = arg_raw,
        .arg_value = arg_value,
        .value_type = knit_decoder_type,
        .value_bool = knit_decoder_bool,
        .value_int = knit_decoder_int,
        .value_uint = knit_decoder_uint,
        .value_float = knit_decoder_float,
        .value_bytes = knit_decoder_bytes,
        .value_count = knit_decoder_count,
        .value_at = knit_decoder_at,
        .value_key = knit_decoder_key,
        .return_nil = return_nil,
        .return_bool = return_bool,
        .return_int = return_int,
        .return_uint = return_uint,
        .return_float = return_float,
        .return_str = return_str,
        .return_bin = return_bin,
        .return_raw = return_raw,
        .return_bin_place = return_bin_place,
        .fail = fail_task,
        .writer = writer,
        .put_nil = knit_writer_nil,
        .put_bool = knit_writer_bool,
        .put_int = knit_writer_int,
        .put_uint = knit_writer_uint,
        .put_float = knit_writer_float,
        .put_str = knit_writer_str,
        .put_bin = knit_writer_bin,
        .put_array = knit_writer_array,
        .put_map = knit_writer_map,
        .put_ext = knit_writer_ext,
        .put_raw = knit_writer_raw,
        .return_built = return_built,
        .aborted = aborted,
        .now_ns = now_ns,
        .deadline_ns = deadline_ns,
        .return_aborted = return_aborted,
        .value_time = knit_decoder_time,
        .put_time = knit_writer_time,
    };

    return &api;
}

/* ---- running ---- */

int knit_runner_new(const struct knit_runner_options *options, struct knit_runner **ret_runner)
{
    struct knit_runner *runner = calloc(1, sizeof(*runner));

    if (runner == NULL)
        return -ENOMEM;
    runner->modules = options->modules;
    runner->registry = knit_modules_registry(options->modules);
    runner->result_max_bytes = options->result_max_bytes;
    runner->hard_timeout_ms = options->hard_timeout_ms;
    runner->busy = options->busy;
    runner->pool = options->pool;
    runner->decoder = knit_decoder_new();
    if (runner->decoder == NULL) {
        knit_runner_free(runner);
        return -ENOMEM;
    }
    knit_buffer_init(&runner->results, options->result_max_bytes);
    /* Room for a message and details beside the largest data. */
    knit_buffer_init(&runner->errors, options->result_max_bytes + 2 * KNIT_ERROR_MESSAGE_BYTES_MAX);
    *ret_runner = runner;
    return 0;
}

struct knit_runner *knit_runner_free(struct knit_runner *runner)
{
    if (runner == NULL)
        return NULL;
    knit_decoder_free(runner->decoder);
    knit_buffer_fini(&runner->results);
    knit_buffer_fini(&runner->errors);
    free(runner);
    return NULL;
}

void knit_runner_set_lane(struct knit_runner *runner, struct knit_lane *lane)
{
    runner->lane = lane;
}

/* Words a refusal of the lane's: the call was claimed but must not run. */
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
    default:
        failure = knit_failure((uint32_t)code, "the call's memory is damaged");
    }
    failure.started = KNIT_STARTED_NO;
    (void)fail_with(call, &failure);
}

static __attribute__((cold, noinline)) void fail_arguments(
    struct knit_call *call, int error, const struct knit_signature_mismatch *why)
{
    char text[512];

    if (error == KNIT_SIGNATURE_E_TOO_DEEP) {
        (void)fail(call, KNIT_TOO_DEEP, "the arguments are nested too deep");
        return;
    }
    (void)knit_signature_explain(why, false, text, sizeof(text));
    (void)fail(call, KNIT_BAD_ARGUMENT, text);
}

/* Finds the task and looks at the params. False: the call has ended. */
static bool admit(struct knit_call *call)
{
    struct knit_runner *runner = call->runner;
    struct knit_job *job = call->job;
    struct knit_signature_mismatch why;
    int error;

    if (job->refusal != 0) {
        refuse(call, job->refusal);
        return false;
    }
    if ((job->epoch & 0xff) != (knit_registry_epoch(runner->registry) & 0xff)) {
        (void)fail(call, KNIT_STALE_EPOCH, "the tasks were loaded anew since this caller asked");
        return false;
    }
    call->task = knit_registry_at(runner->registry, job->task);
    if (call->task == NULL) {
        (void)fail(call, KNIT_UNKNOWN_TASK, "there is no task of that number");
        return false;
    }
    if (runner->pool.mark != NULL &&
        knit_mark_read(&runner->pool, job->task) == KNIT_MARK_QUARANTINED) {
        (void)fail(call, KNIT_QUARANTINED, "workers died in this task again and again");
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

/* The task has returned: what if it gave no outcome? */
static void finish(struct knit_call *call)
{
    if (call->is_settled)
        return;
    if (call->is_placed)
        (void)settle_result(call, call->whole.bytes, call->whole.len);
    else if (call->refused_bytes != 0)
        (void)fail_too_large(call, call->refused_bytes);
    else
        (void)return_nil(call);
}

/* Writes what the host must know before the task can do harm. */
static void announce(struct knit_runner *runner, const struct knit_registry_task *task)
{
    uint32_t hard_ms = task->hard_timeout_ms != 0 ? task->hard_timeout_ms : runner->hard_timeout_ms;

    knit_board_set_task(runner->busy, task->id);
    if (hard_ms != 0)
        knit_board_set_limit(runner->busy, knit_clock_ns() + (uint64_t)hard_ms * 1000000u);
}

static void run_task(struct knit_runner *runner, struct knit_call *call)
{
    const struct knit_registry_task *task = call->task;

    if (runner->busy != NULL)
        announce(runner, task);
    (void)knit_modules_run(runner->modules, task->id)(call);
    finish(call);
    if (runner->busy != NULL)
        knit_board_lift_limit(runner->busy);
    if (runner->pool.mark != NULL)
        knit_mark_lift_probation(&runner->pool, task->id);
}

void knit_runner_run(void *arg, struct knit_job *job)
{
    struct knit_runner *runner = arg;
    struct knit_call *call = &runner->call;

    call->runner = runner;
    call->job = job;
    call->task = NULL;
    call->arg_count = 0;
    call->is_settled = false;
    call->is_placed = false;
    call->code = KNIT_OK;
    call->refused_bytes = 0;
    runner->far_index = 0;
    if (runner->result_max_bytes < job->result_max)
        job->result_max = runner->result_max_bytes;
    /* The outcome of the call before this one has been copied by now. */
    if (runner->results.capacity > KEEP_BYTES) {
        knit_buffer_reset(&runner->results);
        knit_buffer_trim(&runner->results, KEEP_BYTES);
    }
    if (runner->errors.capacity > KEEP_BYTES) {
        knit_buffer_reset(&runner->errors);
        knit_buffer_trim(&runner->errors, KEEP_BYTES);
    }
    knit_decoder_reset(runner->decoder);
    if (admit(call))
        run_task(runner, call);
    else
        job->was_refused = true;
}
