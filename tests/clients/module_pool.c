/* SPDX-License-Identifier: Apache-2.0 */
/* A module that is linked with the library: what it finds where its tasks run.
 */
#include <knitting/pool.h>
#include <knitting/task.h>

KNIT_MODULE("1.0");

KNIT_TASK(is_host, "is_host() -> bool")
{
    return knit_return_bool(call, knit_is_host());
}

KNIT_TASK(open_pool, "open_pool() -> int", .doc = "The code with which opening a pool fails.")
{
    struct knit_pool *pool;
    int code = knit_pool_open(NULL, &pool, NULL);

    (void)knit_pool_close(pool);
    return knit_return_int(call, code);
}
