/* SPDX-License-Identifier: Apache-2.0 */
/* What loads call beside the example module's echo: tasks that cost nothing themselves. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

KNIT_TASK(empty, "empty() -> nil", .doc = "Nothing.")
{
    return knit_return_nil(call);
}

KNIT_TASK(emit, "emit() -> nil", .doc = "Nothing, after a value of progress.")
{
    (void)knit_progress_int(call, 1);
    return knit_return_nil(call);
}

KNIT_TASK(size, "size(data: bin) -> uint", .doc = "How many bytes; they are not looked at.")
{
    size_t len;

    (void)knit_arg_bytes(call, 0, &len);
    return knit_return_uint(call, len);
}
