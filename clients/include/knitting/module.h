/* SPDX-License-Identifier: Apache-2.0 */
/* The binary contract between a module and the worker that loads it.
 *
 * Authors of modules include <knitting/task.h>, which wraps all of this; workers include this file.
 * Structures grow at their ends only, and their `size` tells how far; every other change raises
 * KNIT_MODULE_ABI, and a worker refuses a module with another one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/on_timeout.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Rises when the layout of a structure below changes incompatibly. */
#define KNIT_MODULE_ABI 1u

struct knit_call;     /* one invocation, opaque */
struct knit_deferred; /* one that ends after its task has returned, opaque: no address */

/* The functions that the worker offers a module. Grows at its end only; `size` is its length. */
struct knit_api {
    uint32_t abi;
    uint32_t size;

    /* Arguments. `index` counts from 0; past the last one given (or nil) the scalars are 0,
     * pointers NULL. */
    uint32_t (*arg_count)(const struct knit_call *call);
    bool (*arg_bool)(const struct knit_call *call, uint32_t index);
    int64_t (*arg_int)(const struct knit_call *call, uint32_t index);
    uint64_t (*arg_uint)(const struct knit_call *call, uint32_t index);
    double (*arg_float)(const struct knit_call *call, uint32_t index); /* ints are converted */
    /* Body of a str, bin or ext argument; not NUL-terminated. */
    const void *(*arg_bytes)(const struct knit_call *call, uint32_t index, size_t *ret_len);
    /* The argument's own msgpack bytes; with index UINT32_MAX, the whole params array. */
    const void *(*arg_raw)(const struct knit_call *call, uint32_t index, size_t *ret_len);
    /* The same with every typed array in it aligned, in a copy if need be; for values.h. NULL when
     * absent or out of memory. */
    const void *(*arg_aligned)(struct knit_call *call, uint32_t index, size_t *ret_len);

    /* Outcomes. Each returns 0, or the code of the error the call now ends with. */
    int (*return_nil)(struct knit_call *call);
    int (*return_bool)(struct knit_call *call, bool value);
    int (*return_int)(struct knit_call *call, int64_t value);
    int (*return_uint)(struct knit_call *call, uint64_t value);
    int (*return_float)(struct knit_call *call, double value);
    int (*return_str)(struct knit_call *call, const char *text, size_t len); /* UTF-8, checked */
    int (*return_bin)(struct knit_call *call, const void *bytes, size_t len);
    int (*return_raw)(
        struct knit_call *call, const void *msgpack, size_t len); /* one value, checked */
    /* A result in two pieces: the head of one msgpack value, at most 16 bytes, and what follows it;
     * checked. */
    int (*return_pieces)(
        struct knit_call *call, const void *head, size_t head_len, const void *body, size_t len);
    /* Reserve a result that begins with this head, and has len bytes behind it in place; fill them
     * before the task returns. NULL: too large. */
    void *(*return_place)(struct knit_call *call, const void *head, size_t head_len, size_t len);
    /* A result could not be made: enum knit_code and a sentence. The call ends with BAD_RESULT,
     * RESULT_TOO_LARGE or INTERNAL. */
    int (*return_refused)(struct knit_call *call, int code, const char *reason);
    /* code, message and data (one msgpack value, or NULL) become TASK_FAILED's details. */
    int (*fail)(struct knit_call *call, int64_t code, const char *message, const void *data,
        size_t data_len);

    /* The surroundings. */
    bool (*aborted)(const struct knit_call *call);    /* the caller no longer waits; end soon */
    uint64_t (*now_ns)(const struct knit_call *call); /* CLOCK_MONOTONIC */
    uint64_t (*deadline_ns)(const struct knit_call *call); /* on that clock; 0 = none */

    /* The outcome of a task that ends early because aborted() returned true: CANCELLED, or TIMEOUT
     * once its deadline has passed. */
    int (*return_aborted)(struct knit_call *call);

    /* One msgpack value of at most 112 bytes for the caller, if it looks; else nothing. 0, or
     * TOO_LARGE or BAD_ARGUMENT; the call goes on in any case. */
    int (*progress)(struct knit_call *call, const void *msgpack, size_t len);

    /* BAD_ARGUMENT, not started: for arguments that the signature lets pass and the task cannot
     * take. */
    int (*refuse)(struct knit_call *call, const char *message);
    /* `user` of the call's task. */
    void *(*task_user)(const struct knit_call *call);

    /* The call ends later, from any thread, and takes no outcome itself any more. NULL: too many
     * have not ended, or there is no memory. */
    struct knit_deferred *(*defer)(struct knit_call *call);
    /* The deferred call, for one thread until it is closed; NULL: it has ended, or another thread
     * has it. If it has an outcome when it is closed, it ends. */
    struct knit_call *(*deferred_open)(struct knit_deferred *deferred);
    int (*deferred_close)(struct knit_call *call);
    bool (*deferred_aborted)(const struct knit_deferred *deferred);

    /* Why it was aborted, if its caller said so: at most 112 bytes of UTF-8 into ret_text, without
     * a NUL. Their number, or 0. */
    size_t (*abort_reason)(const struct knit_call *call, char *ret_text);
    size_t (*deferred_abort_reason)(const struct knit_deferred *deferred, char *ret_text);

    /* The traceparent of the call, 55 bytes into ret_text without a NUL, and their number; or 0. */
    size_t (*trace)(const struct knit_call *call, char *ret_text);
};

/* One task, as its module declares it. */
struct knit_task {
    const char *name;
    const char *signature; /* "add(a: int, b: int) -> int": its name must be `name` */
    int (*run)(struct knit_call *call);
    const char *doc;          /* one line, or NULL */
    uint32_t timeout_ms;      /* the caller gets TIMEOUT then; 0 = none */
    uint32_t hard_timeout_ms; /* the worker is killed then; 0 = the pool's */
    uint32_t flags;           /* KNIT_TASK_*; unknown bits refuse the module */
    void *user;               /* knit_task_user() in its calls: which task it is, where several have
                                 one function */
    /* What the caller gets after timeout_ms, if it did not say that itself; a value must be a
     * result of the signature. NULL = TIMEOUT. */
    const struct knit_on_timeout *on_timeout;
};

/* May run on a thread of its caller's, or of the daemon's event loop, where a pool has an inliner:
 * it is short, never blocks, never crashes, does not end its thread and does not defer its call.
 * Another task is isolated: workers alone run it. So is one with a hard timeout. */
#define KNIT_TASK_INLINE_SAFE 1u

/* To run it twice is as good as once: callers may send a call again of which they do not know
 * whether it ran. */
#define KNIT_TASK_IDEMPOTENT 2u

/* The argument of a bootstrap hook. */
struct knit_bootstrap {
    const char *text; /* from the configuration, or "" */
    uint32_t index;   /* this worker's lane */
    uint32_t total;   /* how many lanes */
    const char *path; /* of the module's file, which may have been replaced meanwhile */
    uint32_t kind;    /* KNIT_WORKER_* */
};

/* A process has the module for itself, and runs the hook once. Workers that are threads of one
 * process share the module and its variables: the hook runs once for each of them, on its thread,
 * and of one pool for one after another. */
#define KNIT_WORKER_PROCESS 0u
#define KNIT_WORKER_THREAD  1u
/* The host itself, which runs tasks that are marked inline-safe: the hook runs once in it, with
 * `index` one past the last worker's. */
#define KNIT_WORKER_INLINE 2u

/* The one exported symbol of a module, `knit_module`. */
struct knit_module {
    uint32_t abi;       /* KNIT_MODULE_ABI */
    uint32_t size;      /* of this structure */
    uint32_t task_size; /* of struct knit_task, as the module knows it */
    uint32_t reserved;
    const char *version;
    const struct knit_task *const *tasks; /* first of them */
    const struct knit_task *const *tasks_end;
    const struct knit_api **api; /* filled by the worker before anything runs */
    /* Runs in each worker before its tasks are announced; not 0, with a message, fails the start.
     * NULL = none. */
    int (*bootstrap)(const struct knit_bootstrap *info, char *ret_message, size_t message_size);
    /* Gives the tasks in place of the two members above, which are not read then: for modules that
     * make them when they are loaded. Runs once in each worker, before everything else, and can
     * call nothing of the table. What it gives stays, and is the same in all workers of a pool. As
     * the hook: not 0, with a message, fails the start. NULL = the tasks are those of the
     * members. */
    int (*list)(const struct knit_task *const **ret_tasks, size_t *ret_count, char *ret_message,
        size_t message_size);
};

#ifdef __cplusplus
}
#endif
