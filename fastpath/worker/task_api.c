/* SPDX-License-Identifier: Apache-2.0 */
/* Getters read heads only, because one walk over the params has checked them and found the
 * arguments before the task began. A result is encoded by the function that gives it, in the place
 * from which it is read where that is possible. */
#include "fastpath/worker/task_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/values.h>

#include "fastpath/lane/bell.h"
#include "fastpath/worker/deferred.h"
#include "fastpath/worker/outcome.h"
#include "proto/check.h"
#include "proto/head.h"
#include "proto/limits.h"
#include "proto/pack.h"
#include "proto/progress.h"
#include "proto/text.h"

/* ---- outcomes ---- */

static int return_nil(struct knit_call *call)
{
    return knit_outcome_byte(call, KNIT_PACK_NIL, KNIT_HEAD_NIL);
}

static int return_bool(struct knit_call *call, bool value)
{
    return knit_outcome_byte(call, value ? KNIT_PACK_TRUE : KNIT_PACK_FALSE, KNIT_HEAD_BOOL);
}

static int return_int(struct knit_call *call, int64_t value)
{
    return knit_outcome_head(
        call, knit_pack_int, value < 0 ? KNIT_HEAD_INT : KNIT_HEAD_UINT, (uint64_t)value);
}

static int return_uint(struct knit_call *call, uint64_t value)
{
    /* An int has no room for the largest. */
    return knit_outcome_head(
        call, knit_pack_uint, value <= INT64_MAX ? KNIT_HEAD_UINT : KNIT_HEAD_RESERVED, value);
}

static int return_float(struct knit_call *call, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return knit_outcome_head(call, knit_pack_float, KNIT_HEAD_FLOAT64, bits);
}

/* Head and bytes, in the place from which the outcome will be read where that can be. Of what is
 * made here, the text alone can be wrong. */
static inline int return_body(struct knit_call *call, knit_pack *pack, enum knit_head_type type,
    const void *bytes, size_t len)
{
    uint8_t head[KNIT_HEAD_BYTES_MAX], *place;
    bool is_right = true;
    size_t size;
    int error;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    if (len > UINT32_MAX)
        return knit_outcome_fail_too_large(call, len);
    size = pack(head, len);
    error = knit_outcome_open(call, size + len, &place);
    if (error != 0)
        return knit_outcome_fail_open(call, error, len);
    memcpy(place, head, size);
    if (type == KNIT_HEAD_STR)
        is_right = knit_text_copy(place + size, bytes, len);
    else if (len > 0)
        memcpy(place + size, bytes, len);
    if (!is_right || !knit_outcome_may_be(call, type))
        return knit_outcome_check_result(call, place, size + len);
    return knit_outcome_settle(call, place, size + len);
}

static int return_str(struct knit_call *call, const char *text, size_t len)
{
    return return_body(call, knit_pack_str, KNIT_HEAD_STR, text, len);
}

static int return_bin(struct knit_call *call, const void *bytes, size_t len)
{
    return return_body(call, knit_pack_bin, KNIT_HEAD_BIN, bytes, len);
}

/* One str and nothing else is copied and checked in one pass. False: it is something else. */
static bool copy_text(struct knit_call *call, uint8_t *place, const uint8_t *msgpack, size_t len)
{
    struct knit_head head;

    memcpy(place, msgpack, KNIT_HEAD_BYTES_MAX);
    return knit_head_read(place, len, &head) == 0 && head.type == KNIT_HEAD_STR &&
           head.value == len - head.size && knit_outcome_may_be(call, KNIT_HEAD_STR) &&
           knit_text_copy(place + head.size, msgpack + head.size, len - head.size);
}

static __attribute__((noinline)) int return_large(
    struct knit_call *call, const uint8_t *msgpack, size_t len)
{
    uint8_t *place;
    int error = knit_outcome_open(call, len, &place);

    if (error != 0)
        return knit_outcome_fail_open(call, error, len);
    if (knit_head_table[msgpack[0]].type == KNIT_HEAD_STR && copy_text(call, place, msgpack, len))
        return knit_outcome_settle(call, place, len);
    memcpy(place, msgpack, len);
    return knit_outcome_settle_result(call, place, len, 0);
}

/* What is copied is checked, once: whether it is one value, and whether the signature's. */
static int return_raw(struct knit_call *call, const void *msgpack, size_t len)
{
    uint8_t *body = call->job->body;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    if (len > KNIT_INLINE_MAX)
        return return_large(call, msgpack, len);
    knit_outcome_copy_small(body, msgpack, len);
    return knit_outcome_settle_result(call, body, len, KNIT_HEAD_SPARE);
}

static int return_pieces(
    struct knit_call *call, const void *head, size_t head_len, const void *body, size_t len)
{
    uint8_t *place;
    int error;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    /* No head says how long it is. */
    if (head_len == 0 || len > UINT32_MAX)
        return knit_outcome_fail_too_large(call, len);
    error = knit_outcome_open(call, head_len + len, &place);
    if (error != 0)
        return knit_outcome_fail_open(call, error, len);
    memcpy(place, head, head_len);
    if (len > 0)
        memcpy(place + head_len, body, len);
    return knit_outcome_settle_result(call, place, head_len + len, 0);
}

static void *return_place(struct knit_call *call, const void *head, size_t head_len, size_t len)
{
    uint8_t *bytes;

    if (knit_call_is_settled(call) || call->is_placed)
        return NULL;
    if (head_len == 0 || len > UINT32_MAX || knit_outcome_open(call, head_len + len, &bytes) != 0) {
        /* If the task gives no other outcome, the call ends with RESULT_TOO_LARGE. */
        call->is_used = true;
        call->refused_bytes = len;
        return NULL;
    }
    memcpy(bytes, head, head_len);
    /* A task may leave some of it as it is. A room in the arena holds what this session was sent
     * before; the worker's own memory, what others were. */
    if (bytes == (uint8_t *)call->job->body || bytes == call->results.bytes)
        memset(bytes + head_len, 0, len);
    call->whole = knit_span(bytes, head_len + len);
    call->is_used = true;
    call->is_placed = true;
    return bytes + head_len;
}

static int return_refused(struct knit_call *call, int code, const char *reason)
{
    if (knit_call_is_settled(call))
        return knit_call_code(call);
    if (code == KNIT_TOO_LARGE)
        return knit_outcome_fail_too_large(call, 0);
    return knit_outcome_fail(call, code == KNIT_INTERNAL ? KNIT_INTERNAL : KNIT_BAD_RESULT, reason);
}

static int fail_task(
    struct knit_call *call, int64_t code, const char *message, const void *data, size_t data_len)
{
    struct knit_span value = knit_span(data, data != NULL ? data_len : 0);
    struct knit_check_flaw flaw;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    /* The data lies within the error's array, its details and its own map. */
    if (data != NULL && knit_check_value(data, data_len, KNIT_DEPTH_MAX - 3, &flaw) != 0) {
        char text[256];

        (void)snprintf(text, sizeof(text),
            "the task failed with %lld, and with data that is bad: %s", (long long)code,
            flaw.reason);
        return knit_outcome_fail(call, KNIT_BAD_RESULT, text);
    }
    call->is_used = true;
    knit_buffer_reset(&call->errors);
    (void)knit_failure_put_task(
        &call->errors, code, knit_span_text(message != NULL ? message : ""), value);
    if (call->errors.error == KNIT_BUFFER_E_FULL || call->errors.len > call->job->result_max)
        return knit_outcome_fail_too_large(call, data_len);
    return knit_outcome_settle_errors(call, KNIT_TASK_FAILED);
}

/* The arguments were at fault, and the task did nothing. */
static int refuse(struct knit_call *call, const char *message)
{
    if (knit_call_is_settled(call))
        return knit_call_code(call);
    call->job->was_refused = true;
    return knit_outcome_fail(
        call, KNIT_BAD_ARGUMENT, message != NULL ? message : "the task refused its arguments");
}

static void *task_user(const struct knit_call *call)
{
    return call->users[call->hot->task->id];
}

/* ---- arguments ---- */

/* The bytes of an argument behind those that the check has noted. Checked bytes can be skipped. If
 * a trusted caller changed them after the check, the argument is absent. */
static __attribute__((noinline)) struct knit_span find_far(
    const struct knit_call *call, uint32_t index)
{
    const uint8_t *params = call->job->payload;
    uint32_t at = KNIT_SIGNATURE_PARAMS_MAX - 1;
    size_t off = call->args.arg[at].off, len;

    if (index >= call->args.count)
        return knit_span(NULL, 0);
    if (call->found->index > at && call->found->index <= index) {
        at = call->found->index;
        off = call->found->off;
    }
    for (;; at++) {
        if (knit_check_skip(params + off, knit_job_len(call->job) - off, &len) != 0)
            return knit_span(NULL, 0);
        if (at == index)
            break;
        off += len;
    }
    call->found->index = index;
    call->found->off = off;
    return knit_span(params + off, len);
}

/* Its head; nil if it is absent, or its bytes are not those that were checked. */
static __attribute__((noinline)) const struct knit_head *read_far(
    const struct knit_call *call, uint32_t index)
{
    struct knit_head *head = &call->found->head;
    struct knit_span arg = find_far(call, index);

    if (arg.bytes == NULL || knit_head_read(arg.bytes, arg.len, head) != 0 ||
        (knit_head_has_body(head) && head->value != arg.len - head->size))
        *head = (struct knit_head){.type = KNIT_HEAD_NIL, .size = 1};
    return head;
}

/* Whether the check has noted the argument. */
static inline bool is_noted(const struct knit_call *call, uint32_t index)
{
    return index < call->args.count && index < KNIT_SIGNATURE_PARAMS_MAX;
}

/* The bytes of an argument; absent when it was not given. */
static inline struct knit_span find_arg(const struct knit_call *call, uint32_t index)
{
    if (!is_noted(call, index))
        return find_far(call, index);
    return knit_span(
        (const uint8_t *)call->job->payload + call->args.arg[index].off, call->args.arg[index].len);
}

static inline const struct knit_head *read_arg(const struct knit_call *call, uint32_t index)
{
    return is_noted(call, index) ? &call->args.arg[index].head : read_far(call, index);
}

static uint32_t arg_count(const struct knit_call *call)
{
    return call->args.count;
}

static bool arg_bool(const struct knit_call *call, uint32_t index)
{
    const struct knit_head *head = read_arg(call, index);

    return head->type == KNIT_HEAD_BOOL && head->value != 0;
}

static int64_t arg_int(const struct knit_call *call, uint32_t index)
{
    int64_t value = 0;

    (void)knit_head_as_int(read_arg(call, index), &value);
    return value;
}

static uint64_t arg_uint(const struct knit_call *call, uint32_t index)
{
    uint64_t value = 0;

    (void)knit_head_as_uint(read_arg(call, index), &value);
    return value;
}

static double arg_float(const struct knit_call *call, uint32_t index)
{
    double value = 0;

    (void)knit_head_as_float(read_arg(call, index), &value);
    return value;
}

static const void *arg_bytes(const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    const struct knit_head *head = read_arg(call, index);
    struct knit_span arg;

    *ret_len = 0;
    if (!knit_head_has_body(head))
        return NULL;
    arg = find_arg(call, index);
    /* Far behind, one that is read in place may have changed since its head was read. */
    if (head->value != arg.len - head->size)
        return NULL;
    *ret_len = (size_t)head->value;
    return arg.bytes + head->size;
}

static const void *arg_raw(const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    struct knit_span arg = index == UINT32_MAX
                               ? knit_span(call->job->payload, knit_job_len(call->job))
                               : find_arg(call, index);

    *ret_len = arg.len;
    return arg.bytes;
}

/* The builder takes nothing on trust: a trusted caller may change the bytes while they are copied.
 */
static __attribute__((noinline)) const void *copy_aligned(
    struct knit_call *call, uint32_t index, struct knit_value value, size_t *ret_len)
{
    struct knit_call_copy *copy = call->copies;
    const void *bytes = NULL;

    while (copy != NULL && copy->index != index)
        copy = copy->next;
    if (copy == NULL) {
        copy = calloc(1, sizeof(*copy));
        if (copy == NULL)
            return NULL;
        copy->index = index;
        copy->next = call->copies;
        call->copies = copy;
        call->is_used = true;
        knit_put_value(&copy->builder, value);
    }
    return knit_built(&copy->builder, &bytes, ret_len) == KNIT_OK ? bytes : NULL;
}

static const void *arg_aligned(struct knit_call *call, uint32_t index, size_t *ret_len)
{
    struct knit_span arg = find_arg(call, index);
    struct knit_value value = knit_read(NULL, arg.bytes, arg.len);

    *ret_len = arg.len;
    return arg.bytes == NULL || knit_value_is_aligned(value)
               ? arg.bytes
               : copy_aligned(call, index, value, ret_len);
}

/* ---- progress ---- */

static __attribute__((noinline)) int emit(struct knit_call *call, const void *msgpack, size_t len)
{
    if (!knit_progress_check(knit_span(msgpack, len)))
        return KNIT_BAD_ARGUMENT;
    if (call->lane != NULL)
        knit_lane_emit(call->lane, call->job, msgpack, len);
    else if (call->inlined != NULL)
        call->inlined->emit(call->inlined->arg, knit_span(msgpack, len));
    else
        knit_deferred_emit(call, knit_span(msgpack, len));
    return KNIT_OK;
}

/* Whether anybody looks is asked first, so what is wrong costs nobody else anything. */
static int progress(struct knit_call *call, const void *msgpack, size_t len)
{
    if (len > KNIT_PROGRESS_BYTES_MAX)
        return KNIT_TOO_LARGE;
    return call->job->wants_progress && !knit_call_is_settled(call) ? emit(call, msgpack, len)
                                                                    : KNIT_OK;
}

/* ---- abort, clock, deadline ---- */

static uint64_t now_ns(const struct knit_call *call)
{
    (void)call;
    return knit_clock_ns();
}

static uint64_t deadline_ns(const struct knit_call *call)
{
    return call->job->deadline_ns;
}

static bool is_late(const struct knit_call *call)
{
    return deadline_ns(call) != 0 && now_ns(call) >= deadline_ns(call);
}

/* A caller over shared memory that does not enter the library aborts nothing, so the task's
 * deadline is looked at too. */
static bool aborted(const struct knit_call *call)
{
    const struct knit_lane *lane = call->lane;

    if (lane == NULL && call->inlined != NULL)
        return call->inlined->is_over(call->inlined->arg) || is_late(call);
    if (lane == NULL)
        return call->deferred != NULL && knit_deferred_call_aborted(call);
    return knit_lane_aborted(lane, call->job) || is_late(call);
}

static size_t abort_reason(const struct knit_call *call, char *ret_text)
{
    if (call->lane != NULL)
        return knit_lane_reason(call->lane, call->job, ret_text);
    return call->deferred != NULL ? knit_deferred_call_reason(call, ret_text) : 0;
}

static size_t trace(const struct knit_call *call, char *ret_text)
{
    char text[KNIT_TRACE_BYTES + 1];

    if (!call->job->is_traced)
        return 0;
    knit_trace_format(&call->job->trace, text);
    memcpy(ret_text, text, KNIT_TRACE_BYTES);
    return KNIT_TRACE_BYTES;
}

/* Why a task was to stop, if its time is not over. No caller reads the outcome of a call whose own
 * caller has closed its session, so a session that is closed means the end of the pool. */
static bool is_cancelled(const struct knit_call *call)
{
    if (call->deferred != NULL)
        return knit_deferred_call_cancelled(call) || !knit_deferred_call_aborted(call);
    if (call->inlined != NULL)
        return !call->inlined->is_over(call->inlined->arg);
    return call->lane == NULL || knit_lane_cancelled(call->lane, call->job) ||
           !knit_lane_aborted(call->lane, call->job);
}

/* The outcome of a task that saw its abort flag and stopped. */
static int return_aborted(struct knit_call *call)
{
    const bool is_stopped = call->lane != NULL && knit_lane_stopped(call->lane, call->job);
    struct knit_failure failure =
        is_late(call)        ? knit_failure(KNIT_TIMEOUT, "stopped when its time was over")
        : is_stopped         ? knit_failure(KNIT_CANCELLED, "stopped by an operator while it ran")
        : is_cancelled(call) ? knit_failure(KNIT_CANCELLED, "cancelled while it ran")
                             : knit_failure(KNIT_SHUTDOWN, "the pool was shut down while it ran");

    failure.started = KNIT_STARTED_YES;
    return knit_call_is_settled(call) ? knit_call_code(call)
                                      : knit_outcome_fail_with(call, &failure);
}

/* Nobody else could end a call on a thread of its caller's, so none is deferred there. */
static struct knit_deferred *defer(struct knit_call *call)
{
    char text[KNIT_NAME_BYTES_MAX + 128];

    if (call->inlined == NULL || knit_call_is_settled(call))
        return knit_deferred_new(call);
    (void)snprintf(text, sizeof(text),
        "%s is marked inline-safe and defers its call: on a thread of its caller's none can be "
        "deferred",
        call->hot->task->name);
    (void)knit_outcome_fail(call, KNIT_BAD_RESULT, text);
    return NULL;
}

/* ---- the table ---- */

const struct knit_api *knit_task_api(void)
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
        .arg_aligned = arg_aligned,
        .return_nil = return_nil,
        .return_bool = return_bool,
        .return_int = return_int,
        .return_uint = return_uint,
        .return_float = return_float,
        .return_str = return_str,
        .return_bin = return_bin,
        .return_raw = return_raw,
        .return_pieces = return_pieces,
        .return_place = return_place,
        .return_refused = return_refused,
        .fail = fail_task,
        .aborted = aborted,
        .now_ns = now_ns,
        .deadline_ns = deadline_ns,
        .return_aborted = return_aborted,
        .progress = progress,
        .refuse = refuse,
        .task_user = task_user,
        .defer = defer,
        .deferred_open = knit_deferred_open,
        .deferred_close = knit_deferred_close,
        .deferred_aborted = knit_deferred_aborted,
        .abort_reason = abort_reason,
        .deferred_abort_reason = knit_deferred_reason,
        .trace = trace,
    };

    return &api;
}
