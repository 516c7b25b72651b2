/* SPDX-License-Identifier: Apache-2.0 */
/* One error, as the caller of a failed call sees it: the same over every transport.
 *
 * The caller owns the structure and may copy it or put it on its stack; nothing has to be freed.
 * Only `data` and `details` point elsewhere: into the session, which keeps them until it reports
 * its next error or is closed.
 *
 * Threads: any may call these functions, none of which blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define KNIT_ERROR_MESSAGE_MAX 4096
#define KNIT_ERROR_TASK_MAX    128

struct knit_error {
    int code;         /* enum knit_code; KNIT_OK when the call did not fail */
    const char *name; /* "TASK_FAILED", never freed */
    enum knit_started started;
    enum knit_origin origin;
    bool retryable;         /* the same call may succeed when it is made again; on another session
                               where this one is lost, if the call was not sent */
    int signal;             /* that killed the worker; 0: none, or unknown */
    int64_t retry_after_ms; /* -1: unknown, as are the two below */
    int64_t limit;
    int64_t actual;
    int64_t task_code; /* of KNIT_TASK_FAILED: the task's own; else 0 */
    const void *data;  /* msgpack, what the task attached; NULL: nothing */
    size_t data_len;
    const void *details; /* msgpack map, everything that came; NULL: nothing */
    size_t details_len;
    uint64_t reserved[4];
    char task[KNIT_ERROR_TASK_MAX + 1];       /* of a call that was made; else "" */
    char message[KNIT_ERROR_MESSAGE_MAX + 1]; /* UTF-8, one sentence or a few */
};

/* Returns "TASK_FAILED" for 600, "UNKNOWN" for what this version does not know. Does not block. */
const char *knit_error_code_name(int code);

/* Return "no", "yes" or "unknown"; "server", "worker", "task" or "client". Do not block. */
const char *knit_error_started_name(enum knit_started started);
const char *knit_error_origin_name(enum knit_origin origin);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
