/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool reports to its host while it runs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KNIT_POOL_LINE_BYTES 4096u /* longest line of output that is handed on whole */

enum knit_pool_event_kind {
    KNIT_POOL_WORKER_STARTED,   /* lane, pid; is_replacement */
    KNIT_POOL_WORKER_DIED,      /* lane, pid, signal or status, lost, task, text "killed by ..." */
    KNIT_POOL_WORKER_REFUSED,   /* lane, pid, text: a replacement could not start */
    KNIT_POOL_WORKER_STOPPED,   /* lane, pid: left because it was told to */
    KNIT_POOL_HARD_TIMEOUT,     /* lane, pid, task: about to be killed; DIED follows */
    KNIT_POOL_TASK_QUARANTINED, /* task */
    KNIT_POOL_SESSION_EVICTED,  /* session, text: broke the protocol; end its connection */
    KNIT_POOL_SESSION_DAMAGED,  /* session, text: the host's own, served no more. Once for each. */
    KNIT_POOL_DEGRADED,         /* workers die faster than they work; is_degraded, or no longer */
    KNIT_POOL_UNCONFINED,       /* text: what of the policy is not enforced. Once. */
    KNIT_POOL_OUTPUT_DROPPED,   /* lost = lines that were not handed on, for want of memory */
    KNIT_POOL_STOPPED,          /* after knit_pool_shutdown(): all workers are reaped. Once. */
};

#define KNIT_POOL_TASK_NONE UINT32_MAX

struct knit_pool_event {
    enum knit_pool_event_kind kind;
    bool is_replacement; /* STARTED, REFUSED */
    bool is_degraded;
    uint32_t lane;
    pid_t pid;
    int signal;    /* that killed it; 0 = it exited by itself */
    int status;    /* its exit status */
    uint32_t lost; /* calls it was running, answered in its place */
    uint32_t task; /* id it was running, or KNIT_POOL_TASK_NONE */
    uint64_t session;
    const char *text; /* one sentence without a stop, or ""; valid during the callback */
};

struct knit_pool_callbacks {
    /* One line a task printed (stdout and stderr are one stream), without its newline; the rest of
     * a line longer than KNIT_POOL_LINE_BYTES is dropped and `truncated` set. Any bytes but \n. */
    void (*on_output)(
        void *arg, uint32_t lane, pid_t pid, const char *line, size_t len, bool truncated);
    void (*on_event)(void *arg, const struct knit_pool_event *event);
    void *arg;
};
