/* SPDX-License-Identifier: Apache-2.0 */
/* One of many modules, each with a task that says which one it is. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

#define NAMED(number)  NAMED_(number)
#define NAMED_(number) KNIT_TASK(counted_##number, "counted_" #number "() -> int")

NAMED(NUMBER)
{
    return knit_return_int(call, NUMBER);
}
