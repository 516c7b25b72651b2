/* SPDX-License-Identifier: Apache-2.0 */
/* From messages to lanes and back: a request becomes a call in the loop's session, its outcome goes
 * to the caller that waits for it.
 *
 * A call is known by its session slot. The record of that slot says which caller waits for the
 * outcome, which caller the slot is charged to, and when the call is overdue. When the caller goes
 * away or the deadline passes, no caller waits any more, while the slot stays taken until the
 * worker has answered. Until then it counts in its caller's share (share.h).
 *
 * Deadlines count from when the request was read. The router knows a lower bound of the next one
 * and looks at all records when it has come: with at most some thousand slots that costs a
 * microsecond, and costs nothing for the calls that end in time, which are nearly all of them.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/stop.h"
#include "fastpath/worker/inliner.h"
#include "proto/message.h"
#include "server/base/due.h"
#include "server/config/setting.h"
#include "server/rpc/asked.h"
#include "server/rpc/backlog.h"
#include "server/rpc/caller.h"
#include "server/rpc/share.h"
#include "server/rpc/suggest.h"

/* The text of OVERLOADED for a call that is started at once or not at all. */
#define KNIT_ROUTER_NO_WORKER_FREE "no worker is free to start the call at once"

/* And of TIMEOUT for one that never got as far as the lanes. */
#define KNIT_ROUTER_WAITED "the call waited for a slot for as long as it may"

struct knit_access;
struct knit_access_log;
struct knit_authentication;
struct knit_exporter;
struct knit_host;
struct knit_host_own_session;
struct knit_kept;
struct knit_keyed;
struct knit_late;
struct knit_references;
struct knit_registry;
struct knit_reports;
struct knit_stats_sources;

enum knit_record_extra {
    KNIT_RECORD_WATCHED = 1, /* its values go to its caller */
    KNIT_RECORD_SOURCE = 2,  /* its outcome is of interest to references.h */
    KNIT_RECORD_COUNTED = 4, /* among its task's calls, by the inliner */
    KNIT_RECORD_QUOTA = 16,  /* among the calls in flight of its principal */
    KNIT_RECORD_KEYED = 8,   /* its caller is the keeper of keyed.h, its msgid its slot */
    KNIT_RECORD_LONG = 32,   /* among the long calls of its flow */
    KNIT_RECORD_REPORTED = 64,
};

struct knit_record {
    struct knit_caller *caller;     /* waits for the outcome; NULL = none */
    struct knit_caller *charged_to; /* NULL = it has gone, or there is no call in the slot */
    uint64_t deadline_ns;           /* UINT64_MAX = none */
    uint64_t queue_deadline_ns;     /* it must have started by then; UINT64_MAX = none */
    uint64_t abort_ns;              /* its caller has gone: it is aborted then; 0 = never */
    uint32_t msgid;
    uint32_t task;
    uint32_t argument_bytes; /* in the request arena */
    bool is_settled;         /* its outcome was given early */
    uint8_t extras;          /* of enum knit_record_extra: what a usual outcome has not */
    bool prints;             /* a result comes with what the task printed */
    struct knit_late *late;  /* what its caller gets at the deadline; NULL = TIMEOUT */
    /* Whose calls in flight it is among when its caller has gone. */
    struct knit_principal *left_by;
};

#define KNIT_ROUTER_SOCKETS_MAX 40

/* What all routers of a daemon ask. Constant while they run; may be NULL where no method does. */
struct knit_router_backend {
    struct knit_host *pool;
    const struct knit_access *access;
    struct knit_authentication *authentication;
    const struct knit_stats_sources *stats;
    const char *instance;
    struct knit_policy *policy;         /* NULL: there is none */
    struct knit_access_log *access_log; /* the same, as the next */
    struct knit_exporter *exporter;
    /* These are called from any loop's thread. `$/drain`, of one that takes over or not; false: not
     * now. */
    bool (*on_drain)(void *arg, bool is_taken_over);
    /* `$/takeover`: copies of the listening sockets, and their number; 0: not now. Until the end of
     * its caller nobody else gets them. */
    uint32_t (*on_takeover)(void *arg, int ret_fds[KNIT_ROUTER_SOCKETS_MAX]);
    void (*on_takeover_end)(void *arg);
    /* `$/reload`, `$/calls`, `$/sessions`; knit_asked_reloaded() or knit_asked_listed() follows.
     * False: not now. */
    bool (*ask)(void *arg, enum knit_asked_kind kind, uint32_t loop, uint32_t ticket);
    /* A call of some session is to stop: its loop, if it is one's, knit_router_stop(). */
    void (*tell_stop)(void *arg, const struct knit_host_address *call);
    void *arg;
};

struct knit_router {
    struct knit_turn *turn;
    const struct knit_router_backend *backend;
    struct knit_host_own_session *session;
    const struct knit_registry *registry;
    uint32_t epoch;              /* of the registry */
    struct knit_record *records; /* [record_count]: of slots, then of the inliner's places */
    struct knit_charge *charges; /* of the same; of calls that are in no account they are zero */
    uint32_t slots, record_count;
    struct knit_inliner *inliner; /* NULL: there is none */
    uint32_t outstanding;         /* calls published and not collected */
    uint32_t waiting;      /* calls that stand in their callers' lookahead, as far as those know */
    bool is_draining;      /* new calls are refused, those in flight go on */
    bool serves_plain;     /* while it drains: but callers that said no `$/hello` are served on */
    uint64_t next_ns;      /* no deadline is earlier; UINT64_MAX = none */
    uint64_t interval_ns;  /* between two outcomes while calls are in the lanes, a moving average:
                           * for retry_after_ms; 0 = not known yet */
    uint64_t collected_ns; /* the last outcome; 0 = no calls are in the lanes since */
    uint64_t ids;          /* of spans: where their sequence is */
    struct knit_backlog backlog;
    struct knit_share share;
    struct knit_keyed *keyed;     /* NULL: keys mean nothing */
    struct knit_reports *reports; /* NULL: nothing is said of calls */
    struct knit_suggest suggest;
    struct knit_asked asked;
    TAILQ_HEAD(, knit_references)
    references, due_references;         /* of callers: all; with some that are ready */
    size_t referenced_bytes;            /* what they keep */
    struct knit_dues bound_dues;        /* requests that wait for results */
    TAILQ_HEAD(, knit_kept) kept_until; /* outcomes, in the order in which they are dropped */
};

/* The session is borrowed. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_router_init(struct knit_router *router, struct knit_turn *turn,
    struct knit_host_own_session *session, const struct knit_registry *registry);

/* The loop runs calls of these tasks itself, as the settings say. They are borrowed. Returns 0 or
 * -ENOMEM. */
KNIT_MUST_CHECK int knit_router_add_inliner(
    struct knit_router *router, const struct knit_inline_tasks *tasks);

/* Whether a turn has such calls to run. */
static inline bool knit_router_has_inline(const struct knit_router *router)
{
    return router->inliner != NULL && knit_inliner_has_work(router->inliner);
}

/* Whether there is work for a turn though no event comes. */
static inline bool knit_router_has_work(const struct knit_router *router)
{
    return knit_router_has_inline(router) || !TAILQ_EMPTY(&router->due_references);
}

/* Whether new calls of the caller are refused. Those that cannot be told to go elsewhere may be
 * served on; see knit_connections_drain(). */
static inline bool knit_router_drains_for(const struct knit_caller *caller)
{
    return caller->router->is_draining &&
           !(caller->router->serves_plain && caller->form == KNIT_FAILURE_PLAIN);
}

/* The pool is stopped and has answered all it could, so what is not answered now never will be:
 * those calls end in SHUTDOWN. There are none unless the session's memory was damaged. */
void knit_router_give_up(struct knit_router *router);

/* All callers are gone. Accepts a zeroed one. */
void knit_router_fini(struct knit_router *router);

enum knit_router_verdict {
    KNIT_ROUTER_DONE,  /* published, or refused */
    KNIT_ROUTER_LATER, /* there is no room: the caller is paused, and brings it again */
    KNIT_ROUTER_TWICE, /* a call of its msgid is in flight; nothing was done */
};

/* since_ns: when the message was read. */
KNIT_MUST_CHECK enum knit_router_verdict knit_router_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns);

/* Whether further calls are refused, and the error for them, which is counted. */
static inline bool knit_router_is_full(const struct knit_router *router)
{
    uint64_t most = router->turn->settings->queue_max;

    return most > 0 && router->outstanding + router->waiting >= most;
}
struct knit_failure knit_router_overloaded(const struct knit_router *router);

/* The same for another reason, where the call would wait for about so long. */
struct knit_failure knit_router_overload(
    const struct knit_router *router, const char *text, uint64_t wait_ns);

/* Of a call or notification that was read at since_ns. With `has_late` its caller gets something
 * else than TIMEOUT when it is overdue, by knit_router_time_out(). */
void knit_router_look(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, struct knit_outlook *ret_outlook);

/* Of a call or notification, which may be malformed. ret_is_kept: it has the option `keep`. */
uint8_t knit_router_priority(const struct knit_message *message, bool *ret_is_kept);

/* Whether a call or notification that has to wait is refused: by queue_max, by its own limit where
 * so many of its caller are in flight or wait, by how long it would wait (backlog.h); and the error
 * then, which is counted. */
KNIT_MUST_CHECK bool knit_router_refuses(struct knit_caller *caller,
    const struct knit_message *message, uint64_t in_flight, const struct knit_outlook *outlook,
    struct knit_failure *ret_failure);

/* Gives a request that waited in its caller the outcome that its timeout has. */
void knit_router_time_out(struct knit_caller *caller, const struct knit_message *message);

/* The message that waited at the caller's front need not: go on behind it. */
void knit_router_stop_waiting(struct knit_caller *caller);

/* `$/cancel`. reason: one msgpack value, with which it ends at once; absent: none. False: no call
 * of that id is in flight; its response may be on its way. */
bool knit_router_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason);

/* An operator has asked the slot's call of that generation to stop: if no worker has claimed it, it
 * has its outcome now. */
void knit_router_stop(struct knit_router *router, uint32_t slot, uint64_t gen);

/* The caller is going: abort its calls, forget that it waits. */
void knit_router_forget(struct knit_caller *caller);

/* Collect what is answered, settle what is overdue, resume callers that waited. Returns how many
 * outcomes there were. */
size_t knit_router_turn(struct knit_router *router);

/* A held outcome is not needed any more: its slot is free again. */
void knit_router_release(struct knit_caller *caller, uint32_t slot);
