/* SPDX-License-Identifier: Apache-2.0 */
/* A task that prints, for tests of where that goes. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <knitting/task.h>

KNIT_MODULE("1.0");

KNIT_TASK(print, "print(text: str, times: int, stream: str?) -> nil",
    .doc = "Prints the text that many times, to stdout or to stderr.")
{
    size_t len, stream_len;
    const char *text = knit_arg_bytes(call, 0, &len);
    int64_t times = knit_arg_int(call, 1);
    FILE *file = knit_arg_bytes(call, 2, &stream_len) != NULL ? stderr : stdout;

    for (int64_t i = 0; i < times; i++)
        (void)fwrite(text, 1, len, file);
    (void)fflush(file);
    return knit_return_nil(call);
}
