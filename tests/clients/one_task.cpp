// SPDX-License-Identifier: Apache-2.0
// A pool for one task, from C++: a prepared call by every standard, a declaration by C++17.
#include <knitting/pool.h>

#if __cplusplus >= 201703L
#include <knitting/typed.h>

KNIT_TYPED(add, ((int, a), (int, b)), ((int, sum)));
KNIT_IMPLEMENT(add)

static int add_impl(struct knit_call *, int64_t a, int64_t b, int64_t *sum)
{
    *sum = a + b;
    return 0;
}
#else
KNIT_TASK(add, "add(a: int, b: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
}
#endif

int main()
{
    KNIT_POOL_TASK_AUTO struct knit_pool_task one = {};
    struct knit_error error;
    int64_t sum = 0;

    if (knit_pool_task_open(NULL, "add", "(int, int) -> int", &one, &error) != KNIT_OK)
        return 1;
    if (knit_call_prepared(one.call, NULL, &error, int64_t{2}, int64_t{3}, &sum) != KNIT_OK ||
        sum != 5)
        return 2;
#if __cplusplus >= 201703L
    if (KNIT_CALL(add, one.k, &error, (sum, 4), (&sum)) != KNIT_OK || sum != 9)
        return 3;
#endif
    return 0;
}
