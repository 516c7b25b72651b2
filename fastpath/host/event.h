/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool reports to its host while it runs.
 *
 * Threads: callbacks run on the dispatching thread; see pool.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/trace.h"

#define KNIT_HOST_LINE_BYTES 2048u /* longest line of output that is reported whole */
#define KNIT_HOST_LINE_NS    200000000u

enum knit_host_event_kind {
    KNIT_HOST_WORKER_STARTED,   /* lane, pid, is_replacement */
    KNIT_HOST_WORKER_DIED,      /* lane, pid, signal or status, lost, task, text "killed by ..." */
    KNIT_HOST_WORKER_REFUSED,   /* lane, pid, text: a replacement could not start */
    KNIT_HOST_WORKER_STOPPED,   /* lane, pid: it left after STOP */
    KNIT_HOST_WORKER_LEFT,      /* lane, task, text: a thread that did not end is left behind */
    KNIT_HOST_HARD_TIMEOUT,     /* lane, pid, task, limit_ms, and whose call it is: it is killed */
    KNIT_HOST_TASK_SLOW,        /* lane, pid, task, age_ms, and whose call it is. Once */
    KNIT_HOST_TASK_QUARANTINED, /* task, signal of the last death */
    KNIT_HOST_TASK_LIFTED,      /* task: it is served again */
    KNIT_HOST_SESSION_EVICTED,  /* session, uid, pid, text: its memory broke the protocol */
    KNIT_HOST_CALL_DENIED,      /* lane, session, uid, pid, task; a few a second of each lane */
    KNIT_HOST_SESSION_DAMAGED,  /* session, text: the host's own, and no worker serves it. Once */
    KNIT_HOST_DEGRADED,         /* workers die faster than they work: is_degraded, or no longer */
    KNIT_HOST_UNCONFINED,       /* text: which part of the policy is not enforced. Once */
    KNIT_HOST_RELAYING,         /* status, text: why futex_waitv is refused to workers. Once */
    KNIT_HOST_OUTPUT_DROPPED,   /* lost, bytes: of output since the last one; once a second */
    KNIT_HOST_STOPPED,          /* after knit_host_shutdown(): all workers are reaped. Once */
};

#define KNIT_HOST_TASK_NONE UINT32_MAX

struct knit_host_event {
    enum knit_host_event_kind kind;
    bool is_replacement; /* STARTED, REFUSED */
    bool is_degraded;
    uint32_t lane;
    pid_t pid;         /* of the worker, or of the session's caller */
    uid_t uid;         /* of the session's caller */
    int signal;        /* that ended it; 0 = it exited */
    int status;        /* its exit status */
    uint32_t lost;     /* calls that the host answered in its place */
    uint32_t task;     /* id of the one it ran, or KNIT_HOST_TASK_NONE */
    uint32_t limit_ms; /* the hard timeout that passed */
    uint64_t age_ms;   /* of its running call */
    uint64_t call;     /* of a line: how many its lane had begun; 0 = its worker none */
    uint64_t bytes;    /* of output, that are not reported */
    uint64_t session;
    uint32_t slot;   /* of a running call, with the next: by these `$/calls` names it as well */
    uint64_t gen;    /* 0: it is not known */
    bool is_foreign; /* of a running call: it came by shared memory, from a process of uid */
    struct knit_trace trace; /* of a running call; zeros: it is part of none */
    const char *text;        /* a sentence without a full stop, or ""; valid during the callback */
};

struct knit_host_callbacks {
    /* One line that a task printed, to stdout or stderr, without its newline. It may contain any
     * bytes but \n. from: lane, pid, task and call, which are those that the worker had begun last
     * when the line was read: what a task printed before a short call may be taken for the next
     * one's. `truncated`: it was longer than KNIT_HOST_LINE_BYTES; the rest is dropped. A line
     * whose newline does not come is reported as far as it goes after KNIT_HOST_LINE_NS. */
    void (*on_output)(void *arg, const struct knit_host_event *from, const char *line, size_t len,
        bool truncated);
    void (*on_event)(void *arg, const struct knit_host_event *event);
    void *arg;
};
