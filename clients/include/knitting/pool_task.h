/* SPDX-License-Identifier: Apache-2.0 */
/* The part of <knitting/pool.h> for programs with one task: one call for a pool, a session and a
 * prepared call.
 *
 *     #include <stdio.h>
 *     #include <knitting/pool.h>
 *
 *     KNIT_TASK(add, "add(a: int, b: int) -> int")
 *     {
 *         return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
 *     }
 *
 *     int main(void)
 *     {
 *         KNIT_POOL_TASK_AUTO struct knit_pool_task add = {0};
 *         int64_t sum = 0;
 *
 *         if (knit_pool_task_open(NULL, "add", "(int, int) -> int", &add, NULL) == KNIT_OK &&
 *             knit_call_prepared(add.call, NULL, NULL, (int64_t)2, (int64_t)3, &sum) == KNIT_OK)
 *             printf("%lld\n", (long long)sum);
 *         return 0;
 *     }
 *
 * Threads: any may open and close it; `k` and `call` are for one. Opening and closing block as
 * knit_pool_open() and knit_pool_close() do.
 *
 * `k` takes the calls of a declaration, KNIT_CALL(add, add.k, ...); `pool` gives other threads
 * their sessions. The pool has its other tasks too. */
#pragma once

#include <knitting/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct knit_pool_task {
    struct knit_pool *pool;
    struct knit *k;             /* of the thread that opened it */
    struct knit_prepared *call; /* for knit_call_prepared() and knit_start_prepared() */
};

/* All that is open of it; one that is zeroed is allowed. In a callback, as knit_close(). */
static inline void knit_pool_task_close(struct knit_pool_task *task)
{
    task->call = NULL;
    task->k = knit_close(task->k);
    task->pool = knit_pool_close(task->pool);
}

/* options: NULL = one thread. On failure nothing is open. Fails as knit_pool_open(),
 * knit_pool_session() and knit_prepare(); a task that does not exist fails each call. */
KNIT_MUST_CHECK static inline int knit_pool_task_open(const struct knit_pool_options *options,
    const char *task, const char *signature, struct knit_pool_task *ret,
    struct knit_error *ret_error)
{
    int code;

    ret->k = NULL;
    code = knit_pool_open(options, &ret->pool, ret_error);
    if (code == KNIT_OK)
        code = knit_pool_session(ret->pool, NULL, &ret->k, ret_error);
    if (code == KNIT_OK)
        code = knit_prepare(ret->k, ret_error, task, signature, &ret->call);
    if (code != KNIT_OK)
        knit_pool_task_close(ret);
    return code;
}

#define KNIT_POOL_TASK_AUTO __attribute__((cleanup(knit_pool_task_close)))

#ifdef __cplusplus
}
#endif
