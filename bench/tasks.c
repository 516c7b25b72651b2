/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks that loads call when the tasks themselves are to cost nothing. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

KNIT_TASK(empty, "empty() -> nil", .doc = "Nothing.")
{
    return knit_return_nil(call);
}

KNIT_TASK(echo, "echo(value: any) -> any", .doc = "The value itself.")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(size, "size(data: bin) -> uint", .doc = "How many bytes; they are not looked at.")
{
    size_t len;

    (void)knit_arg_bytes(call, 0, &len);
    return knit_return_uint(call, len);
}
