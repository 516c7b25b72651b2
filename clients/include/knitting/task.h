/* SPDX-License-Identifier: Apache-2.0 */
/* Writing tasks.
 *
 * A module is a shared object that holds tasks. It links nothing of Knitting: at load the worker
 * hands it a table of functions (struct knit_api), which the inline helpers below call. A whole
 * module:
 *
 *     #include <knitting/task.h>
 *
 *     KNIT_MODULE("1.0");
 *
 *     KNIT_TASK(add, "add(a: int, b: int) -> int", .doc = "The sum of two integers.")
 *     {
 *         int64_t a = knit_arg_int(call, 0), b = knit_arg_int(call, 1), sum;
 *         if (__builtin_add_overflow(a, b, &sum))
 *             return knit_fail(call, 1, "the sum does not fit 64 bits");
 *         return knit_return_int(call, sum);
 *     }
 *
 * built with: cc -shared -fPIC -o add.so add.c $(pkg-config --cflags knitting)
 *
 * The worker has checked the arguments against the signature before the function runs, so the
 * getters cannot fail for a parameter of the type they name. A task gives its outcome by calling
 * one knit_return_* or knit_fail* and returning what that returned. The first outcome counts, later
 * ones are ignored. A task that returns 0 without an outcome ends with nil, where its signature
 * allows nil; one that returns another number without an outcome ends with BAD_RESULT.
 *
 * Threads: a task runs on its worker's one thread; every function here may be called from that
 * thread, while the task runs, and from nowhere else, knit_aborted(), knit_abort_reason() and
 * knit_now_ns() excepted, which any thread may call until the task returns. Pointers to arguments
 * are borrowed and stay valid until the task returns. Nothing here blocks. What a task prints goes
 * to the daemon's log, or to `on_output` of a program's own pool of processes, a line at a time; a
 * task that prints faster than that is read waits. Threads print where the program does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>
#include <knitting/declare.h>
#include <knitting/emit.h>
#include <knitting/values.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How many arguments were given. */
static inline uint32_t knit_arg_count(const struct knit_call *call)
{
    return knit_api->arg_count(call);
}

/* True for nil and past the last argument given, where knit_arg_int() and its like return 0. */
static inline bool knit_arg_is_nil(const struct knit_call *call, uint32_t index)
{
    size_t len;
    /* Made of a function that each worker has: the module loads in workers of every version. */
    const unsigned char *bytes = (const unsigned char *)knit_api->arg_raw(call, index, &len);

    return index == UINT32_MAX || bytes == NULL || len == 0 || bytes[0] == 0xc0;
}

/* A bool. */
static inline bool knit_arg_bool(const struct knit_call *call, uint32_t index)
{
    return knit_api->arg_bool(call, index);
}

/* An int. */
static inline int64_t knit_arg_int(const struct knit_call *call, uint32_t index)
{
    return knit_api->arg_int(call, index);
}

/* A uint. */
static inline uint64_t knit_arg_uint(const struct knit_call *call, uint32_t index)
{
    return knit_api->arg_uint(call, index);
}

/* A float; of an int, the nearest. */
static inline double knit_arg_float(const struct knit_call *call, uint32_t index)
{
    return knit_api->arg_float(call, index);
}

/* The body of a str, a bin or an ext, not NUL-terminated; NULL for nil and past the last one given.
 * */
static inline const void *knit_arg_bytes(
    const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    return knit_api->arg_bytes(call, index, ret_len);
}

/* The msgpack of one argument; with UINT32_MAX, of the array that all of them are. NULL past the
 * last one given. */
static inline const void *knit_arg_raw(
    const struct knit_call *call, uint32_t index, size_t *ret_len)
{
    return knit_api->arg_raw(call, index, ret_len);
}

/* The call ends with nil. */
static inline int knit_return_nil(struct knit_call *call)
{
    return knit_api->return_nil(call);
}

/* With a bool. */
static inline int knit_return_bool(struct knit_call *call, bool value)
{
    return knit_api->return_bool(call, value);
}

/* With an int. */
static inline int knit_return_int(struct knit_call *call, int64_t value)
{
    return knit_api->return_int(call, value);
}

/* With a uint. */
static inline int knit_return_uint(struct knit_call *call, uint64_t value)
{
    return knit_api->return_uint(call, value);
}

/* With a float. */
static inline int knit_return_float(struct knit_call *call, double value)
{
    return knit_api->return_float(call, value);
}

/* With a str: UTF-8, which is checked. */
static inline int knit_return_str(struct knit_call *call, const char *text, size_t len)
{
    return knit_api->return_str(call, text, len);
}

/* With a bin. */
static inline int knit_return_bin(struct knit_call *call, const void *bytes, size_t len)
{
    return knit_api->return_bin(call, bytes, len);
}

/* With one msgpack value, which is checked. */
static inline int knit_return_raw(struct knit_call *call, const void *msgpack, size_t len)
{
    return knit_api->return_raw(call, msgpack, len);
}

/* Room for a bin of len bytes, which the task fills before it returns 0. NULL: too large. */
static inline void *knit_return_bin_place(struct knit_call *call, size_t len)
{
    unsigned char head[5];

    return knit_api->return_place(call, head, knit_encode_count(head, 0, 0, 0xc4, len), len);
}

/* With TASK_FAILED, this code and this message. */
static inline int knit_fail(struct knit_call *call, int64_t code, const char *message)
{
    /* In parentheses: a program's test framework may have a macro of that name. */
    return (knit_api->fail)(call, code, message, NULL, 0);
}

/* The same, with one msgpack value as data. */
static inline int knit_fail_data(
    struct knit_call *call, int64_t code, const char *message, const void *data, size_t data_len)
{
    return (knit_api->fail)(call, code, message, data, data_len);
}

/* The call ends with BAD_ARGUMENT, as if its arguments had not fitted the signature: for a task
 * that finds so before it does anything. */
static inline int knit_refuse(struct knit_call *call, const char *message)
{
    /* A worker may be older than the module. */
    if (knit_api->size < offsetof(struct knit_api, refuse) + sizeof(knit_api->refuse))
        return (knit_api->fail)(call, KNIT_BAD_ARGUMENT, message, NULL, 0);
    return knit_api->refuse(call, message);
}

/* `user` of struct knit_task, as in KNIT_TASK(name, signature, .user = ...). */
static inline void *knit_task_user(const struct knit_call *call)
{
    return knit_api->size < offsetof(struct knit_api, task_user) + sizeof(knit_api->task_user)
               ? NULL
               : knit_api->task_user(call);
}

/* For a task that stops because knit_aborted() returned true: the call ends with CANCELLED,
 * TIMEOUT or, when the pool is shut down, SHUTDOWN. */
static inline int knit_return_aborted(struct knit_call *call)
{
    return knit_api->return_aborted(call);
}

/* Whether no caller waits for the outcome any more: the call was cancelled, its deadline is over,
 * its caller has gone, or the pool shuts down. The worker of a task that goes on is killed and
 * replaced after a while (abort_grace_ms). */
static inline bool knit_aborted(const struct knit_call *call)
{
    return knit_api->aborted(call);
}

#define KNIT_ABORT_REASON_SIZE 113

/* The reason that the caller gave with knit_abort(), or a client of another kind as text: UTF-8,
 * ended by a NUL, cut to 112 bytes where a character begins. Returns its length; 0, and "": the
 * call is not aborted, or for no reason that was given. As knit_aborted(), from any thread. */
static inline size_t knit_abort_reason(
    const struct knit_call *call, char ret_text[KNIT_ABORT_REASON_SIZE])
{
    size_t len = 0;

    if (knit_api->size >= offsetof(struct knit_api, abort_reason) + sizeof(knit_api->abort_reason))
        len = knit_api->abort_reason(call, ret_text);
    ret_text[len] = '\0';
    return len;
}

#define KNIT_CALL_TRACE_SIZE 56

/* The trace that the call is a part of, as W3C traceparent, ended by a NUL; the task hands it on to
 * what it calls itself. Its span is this call: one that the daemon made, for calls by sockets, and
 * that its access log and its collector of spans have, if it has these; over shared memory and in a
 * pool of the program's own, the caller's. Returns its length, 55; 0, and
 * "": the call is part of none. */
static inline size_t knit_call_trace(
    const struct knit_call *call, char ret_text[KNIT_CALL_TRACE_SIZE])
{
    size_t len = 0;

    if (knit_api->size >= offsetof(struct knit_api, trace) + sizeof(knit_api->trace))
        len = knit_api->trace(call, ret_text);
    ret_text[len] = '\0';
    return len;
}

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t knit_now_ns(const struct knit_call *call)
{
    return knit_api->now_ns(call);
}

/* When on that clock the call's time is over; 0 = never. */
static inline uint64_t knit_deadline_ns(const struct knit_call *call)
{
    return knit_api->deadline_ns(call);
}

#ifdef __cplusplus
}
#endif

#include <knitting/task_values.h>
