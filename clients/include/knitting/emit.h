/* SPDX-License-Identifier: Apache-2.0 */
/* What a task tells its caller before its outcome. Part of <knitting/task.h>, which includes it.
 *
 * While it runs, a task may tell its caller how far it is, or anything else: one value, which
 * replaces the one before. A caller that looks (knit_on_progress(), or the option `progress`) gets
 * the last one and how many there were; for any other these functions do nothing, in a few
 * nanoseconds. They return 0; KNIT_TOO_LARGE for more than 112 bytes of msgpack and
 * KNIT_BAD_ARGUMENT for what is not one value, of which the caller gets nothing. The call goes on
 * in any case.
 *
 * Threads: that of the task; of a deferred call the one that has it open. Nothing here blocks. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/code.h>
#include <knitting/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The table of task.h. */
extern const struct knit_api *knit_api __attribute__((visibility("hidden")));

/* One msgpack value. */
static inline int knit_progress_raw(struct knit_call *call, const void *msgpack, size_t len)
{
    return knit_api->progress(call, msgpack, len);
}

/* An int. */
static inline int knit_progress_int(struct knit_call *call, int64_t value)
{
    unsigned char bytes[9] = {0xd3};
    int i;

    for (i = 0; i < 8; i++)
        bytes[1 + i] = (unsigned char)((uint64_t)value >> (56 - 8 * i));
    return knit_api->progress(call, bytes, sizeof(bytes));
}

/* A float. */
static inline int knit_progress_float(struct knit_call *call, double value)
{
    unsigned char bytes[9] = {0xcb};
    uint64_t bits;
    int i;

    memcpy(&bits, &value, sizeof(bits));
    for (i = 0; i < 8; i++)
        bytes[1 + i] = (unsigned char)(bits >> (56 - 8 * i));
    return knit_api->progress(call, bytes, sizeof(bytes));
}

/* A str of at most 110 bytes. */
static inline int knit_progress_str(struct knit_call *call, const char *text, size_t len)
{
    unsigned char bytes[112] = {0xd9};

    if (len > sizeof(bytes) - 2)
        return knit_api->progress(call, NULL, len + 2);
    bytes[1] = (unsigned char)len;
    memcpy(bytes + 2, text, len);
    return knit_api->progress(call, bytes, len + 2);
}

#ifdef __cplusplus
}
#endif
