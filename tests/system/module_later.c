/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that tell their caller something before they end. */
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <knitting/task.h>

KNIT_MODULE("1.0");

/* Between two values: a task whose work is to last. */
static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
}

KNIT_TASK(count_on, "count_on() -> int",
    .doc = "Emits 1, 2, 3 and so on, one each millisecond, until it is aborted; then the last one.")
{
    int64_t count = 0;

    while (!knit_aborted(call)) {
        (void)knit_progress_int(call, ++count);
        pause_ms(1);
    }
    return knit_return_int(call, count);
}

KNIT_TASK(emit_all, "emit_all(count: int) -> int",
    .doc = "Emits the numbers up to count as fast as it can, and gives the codes of all added up.")
{
    int64_t codes = 0;

    for (int64_t i = 1; i <= knit_arg_int(call, 0); i++)
        codes += knit_progress_int(call, i);
    return knit_return_int(call, codes);
}

KNIT_TASK(emit_raw, "emit_raw(bytes: bin) -> int",
    .doc = "Emits these bytes of msgpack, and gives what that returned.")
{
    size_t len;
    const void *bytes = knit_arg_bytes(call, 0, &len);

    return knit_return_int(call, knit_progress_raw(call, bytes, len));
}

KNIT_TASK(emit_kinds, "emit_kinds() -> int", .doc = "Emits a text, a float and an int.")
{
    char text[111];
    int codes;

    memset(text, 'x', sizeof(text));
    codes = knit_progress_str(call, text, sizeof(text)) == KNIT_TOO_LARGE ? 1 : 0;
    codes += knit_progress_str(call, text, sizeof(text) - 1) == 0 ? 10 : 0;
    codes += knit_progress_float(call, 0.5) == 0 ? 100 : 0;
    codes += knit_progress_int(call, -2) == 0 ? 1000 : 0;
    return knit_return_int(call, codes);
}
