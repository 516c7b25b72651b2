/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that end after their task has returned.
 *
 * A task may return before its call has an outcome, which some thread of the module gives later:
 *
 *     #include <pthread.h>
 *
 *     #include <knitting/deferred.h>
 *
 *     KNIT_MODULE("1.0");
 *
 *     static void *answer(void *deferred)
 *     {
 *         knit_deferred_return_int(deferred, 42);
 *         return NULL;
 *     }
 *
 *     KNIT_TASK(later, "later() -> int")
 *     {
 *         struct knit_deferred *deferred = knit_defer(call);
 *         pthread_t thread;
 *
 *         if (deferred == NULL)
 *             return knit_fail(call, 1, "too much at once");
 *         if (pthread_create(&thread, NULL, answer, deferred) != 0)
 *             return knit_deferred_fail(deferred, 1, "no thread");
 *         pthread_detach(thread);
 *         return 0;
 *     }
 *
 * Meanwhile the worker runs other calls. knit_defer() returns NULL when as many calls of the worker
 * are deferred as the pool's deferred_max says, 64 unless it is set, or memory or a thread is
 * lacking, and the call is as it was. After it the call takes no outcome any more in the task,
 * whose return value means nothing. A deferred call is aborted as any other one, has the same
 * deadline and hard timeout, and its caller is told WORKER_DIED if the process ends. If it runs
 * past its hard timeout, or goes on for abort_grace_ms when nobody waits any more, it alone is
 * ended; its worker takes no further calls, and is replaced when the others have ended.
 *
 * What knit_defer() returned is a token and no address. It may be kept, copied, and used by any
 * number of threads at once, also when the call is over: then it does nothing. So whichever of
 * several threads is first gives the outcome.
 *
 * knit_deferred_open() gives one thread the call itself, as the task had it: its arguments, which
 * were copied, progress, and all that gives an outcome. knit_deferred_close() ends that. NULL: the
 * call is over, or another thread has it open; there is nothing to close. The functions below that
 * are named as those of a task do the three at once. They return the code that the call ended with,
 * or KNIT_CANCELLED where knit_deferred_open() returned NULL.
 *
 * Threads: knit_defer() in the task, all others from any thread of the worker. Nothing here blocks.
 * What a thread prints
 * goes to the daemon's log; the option `output` of a call has what its task printed. */
#pragma once

#include <knitting/code.h>
#include <knitting/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The token of the call, which ends later; NULL: see above. */
static inline struct knit_deferred *knit_defer(struct knit_call *call)
{
    return knit_api->defer(call);
}

/* The call, for this thread until knit_deferred_close(); NULL: it is over, or another thread has
 * it. */
static inline struct knit_call *knit_deferred_open(struct knit_deferred *deferred)
{
    return knit_api->deferred_open(deferred);
}

/* The code that the call ended with; 0 if it has not ended, or with a result. */
static inline int knit_deferred_close(struct knit_call *call)
{
    return knit_api->deferred_close(call);
}

/* As knit_aborted(); true also for a call that is over. From any thread, whoever has it open. */
static inline bool knit_deferred_aborted(const struct knit_deferred *deferred)
{
    return knit_api->deferred_aborted(deferred);
}

/* As knit_abort_reason(); "" also for a call that is over. */
static inline size_t knit_deferred_abort_reason(
    const struct knit_deferred *deferred, char ret_text[KNIT_ABORT_REASON_SIZE])
{
    size_t len = 0;

    if (knit_api->size >=
        offsetof(struct knit_api, deferred_abort_reason) + sizeof(knit_api->deferred_abort_reason))
        len = knit_api->deferred_abort_reason(deferred, ret_text);
    ret_text[len] = '\0';
    return len;
}

#define KNIT_DEFERRED_END(deferred, outcome)                                                       \
    struct knit_call *call = knit_api->deferred_open(deferred);                                    \
                                                                                                   \
    if (call == NULL)                                                                              \
        return KNIT_CANCELLED;                                                                     \
    (void)(outcome);                                                                               \
    return knit_api->deferred_close(call)

/* The call ends with nil. */
static inline int knit_deferred_return_nil(struct knit_deferred *deferred)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_nil(call));
}

/* With a bool. */
static inline int knit_deferred_return_bool(struct knit_deferred *deferred, bool value)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_bool(call, value));
}

/* With an int. */
static inline int knit_deferred_return_int(struct knit_deferred *deferred, int64_t value)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_int(call, value));
}

/* With a uint. */
static inline int knit_deferred_return_uint(struct knit_deferred *deferred, uint64_t value)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_uint(call, value));
}

/* With a float. */
static inline int knit_deferred_return_float(struct knit_deferred *deferred, double value)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_float(call, value));
}

/* With a str: UTF-8, which is checked. */
static inline int knit_deferred_return_str(
    struct knit_deferred *deferred, const char *text, size_t len)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_str(call, text, len));
}

/* With a bin. */
static inline int knit_deferred_return_bin(
    struct knit_deferred *deferred, const void *bytes, size_t len)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_bin(call, bytes, len));
}

/* With one msgpack value, which is checked. */
static inline int knit_deferred_return_raw(
    struct knit_deferred *deferred, const void *msgpack, size_t len)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_raw(call, msgpack, len));
}

/* With TASK_FAILED, this code and this message. */
static inline int knit_deferred_fail(
    struct knit_deferred *deferred, int64_t code, const char *message)
{
    KNIT_DEFERRED_END(deferred, knit_api->fail(call, code, message, NULL, 0));
}

/* As knit_return_aborted(). */
static inline int knit_deferred_return_aborted(struct knit_deferred *deferred)
{
    KNIT_DEFERRED_END(deferred, knit_api->return_aborted(call));
}

#undef KNIT_DEFERRED_END

#ifdef __cplusplus
}
#endif
