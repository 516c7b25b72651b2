/* SPDX-License-Identifier: Apache-2.0 */
/* A session, and the turn that every waiting and dispatching function takes.
 *
 * A turn sends, receives and settles what has expired. Callbacks are not run where outcomes are
 * found but afterwards, from one list, at the outermost level of a public function: so no callback
 * sees a half-done turn, and a handle may be freed inside its own callback.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/knitting.h>

#include "clients/lib/handle.h"
#include "clients/lib/link.h"
#include "clients/lib/poll_fd.h"
#include "clients/lib/prepared.h"
#include "proto/buffer.h"

struct knit_registry;
struct knit_tls;
struct knit_token;

struct knit {
    LIST_ENTRY(knit) in_process; /* forks.c */
    uint8_t *alive;              /* a page that fork() clears: 0 in a child */
    bool would_block;
    bool is_calling_back;
    uint32_t admin_ms; /* how long a call of the protocol's own methods may take */
    struct knit_handles handles;
    struct knit_token *token; /* NULL: the caller says none */
    struct knit_tls *tls;     /* of its connections, if they encrypt; NULL: they do not */
    struct knit_link link;
    struct knit_poll_fd poll_fd;
    uint64_t lease_check_ns;      /* how long waiting for lanes sleeps, and then: */
    uint64_t next_lease_check_ns; /* when it looks at the lease again */

    uint32_t drain_below; /* on_drain is due when fewer calls are in flight; 0 = it is not */
    void (*on_drain)(struct knit *k, void *user);
    void *drain_user;

    struct knit_handle *last;       /* the latest blocking call: its results are borrowed from it */
    struct knit_handle *stats;      /* the latest knit_stats() */
    struct knit_buffer local_stats; /* the same of a pool of this process */
    struct knit_prepareds prepareds;
    /* Without lanes, for declarations (typed.h): the tasks of each connection's server as of an
       age, or NULL; it has another tasks_age once they may have changed. */
    struct knit_registry *registries[KNIT_STREAMS_MAX];
    uint32_t registry_ages[KNIT_STREAMS_MAX], tasks_age; /* the last that any has */
    struct knit_buffer params; /* scratch: the arguments of the call that starts; or, short ones: */
    uint64_t short_params[KNIT_SHAPE_SHORT_ROOM / sizeof(uint64_t)];
};

/* Ends what `is_calling_back` says, also when an exception or the end of its thread leaves the
 * callback: for a variable with __attribute__((cleanup)), NULL = it was not begun. */
static inline void knit_client_end_calling(struct knit **calling)
{
    if (*calling != NULL)
        (*calling)->is_calling_back = false;
}

/* One load, no system call. False in a forked child. */
static inline bool knit_client_is_ours(const struct knit *k)
{
    return *k->alive != 0;
}

/* Why the session cannot be used; KNIT_OK if another connection will be there. */
int knit_client_refuse(struct knit *k, struct knit_error *ret_error);

/* Why a pool of this process takes no call. method: of the protocol, which is no task; or NULL. */
int knit_client_refuse_local(const char *method, struct knit_error *ret_error);

/* Why there is no prepared call. r: what knit_prepared_new() has returned. */
__attribute__((cold)) int knit_client_refuse_signature(
    const char *signature, int r, const struct knit_shape_flaw *flaw, struct knit_error *ret_error);

/* Whether the session is this process's and lives. */
static inline bool knit_client_is_usable(const struct knit *k)
{
    return knit_client_is_ours(k) && knit_handles_has_lease(&k->handles);
}

/* The same: KNIT_OK, or the code, with *ret_error filled. */
KNIT_MUST_CHECK static inline int knit_client_check(struct knit *k, struct knit_error *ret_error)
{
    return knit_client_is_usable(k) ? KNIT_OK : knit_client_refuse(k, ret_error);
}

/* The same for a function that waits, which no callback may. */
KNIT_MUST_CHECK int knit_client_check_waiting(struct knit *k, struct knit_error *ret_error);

/* When a wait of at most wait_ms ends (UINT64_MAX = never). Returns KNIT_OK, or what is returned in
 * place of waiting: in a callback KNIT_PENDING, if it would not wait, or KNIT_BAD_ARGUMENT. */
KNIT_MUST_CHECK int knit_client_begin_wait(
    struct knit *k, double wait_ms, uint64_t *ret_until_ns, struct knit_error *ret_error);

/* The outcome of a handle. In a forked child it may lie in memory that the child does not have. */
KNIT_MUST_CHECK static inline int knit_client_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result)
{
    if (!knit_client_is_ours(handle->handles->session))
        return knit_client_refuse(handle->handles->session, ret_error);
    if (knit_handle_try_outcome(handle, ret_result))
        return KNIT_OK;
    return knit_handle_outcome(handle, ret_error, ret_result);
}

/* The result of the last blocking call ends before the next one is started, which may wait for its
 * slot. Raw arguments that lie in it move to the session's scratch. False: there is no memory. */
KNIT_MUST_CHECK bool knit_client_end_last(struct knit *k, struct knit_span *params);

/* There is no lease any more: what waits has its outcome, or waits for another connection, of which
 * this is one step. */
void knit_client_return(struct knit *k);

/* For who needs a connection and may wait: until there is one, at most until until_ns. Returns
 * KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_client_wait_for_lease(
    struct knit *k, uint64_t until_ns, struct knit_error *ret_error);

/* Send what was started, settle what was answered and what has expired. Never waits. */
void knit_client_progress(struct knit *k);

/* Give the kernel and the workers what was started. */
void knit_client_flush(struct knit *k);

/* Sleep until there may be progress on that way, at most until until_ns (UINT64_MAX = no limit).
 * handle: whose outcome is waited for; NULL = any. */
void knit_client_wait(
    struct knit *k, enum knit_handle_via via, struct knit_handle *handle, uint64_t until_ns);

/* The whole turn of a usual call that was flushed and whose small result has come; false:
 * knit_client_await(). */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_client_try_await(struct knit_handle *handle)
{
    return handle->flags == KNIT_HANDLE_USUAL_WAITING &&
           handle->handles->lanes->session->dirty == 0 && knit_handle_try_collect(handle);
}

/* The way on which an outcome comes, or what the call waits for. Lanes that are lost have answered
 * what they will. */
static inline enum knit_handle_via knit_client_way(const struct knit_handle *handle)
{
    if ((handle->flags & (KNIT_HANDLE_PROMISED | KNIT_HANDLE_BY_LANES)) == 0)
        return knit_handle_via(handle);
    return handle->handles->lanes != NULL ? KNIT_VIA_LANES : KNIT_VIA_STREAM;
}

/* Callbacks of outcomes run when a wait is over; those of values, which these are, until then. Does
 * nothing inside a callback. */
void knit_client_give_values(struct knit *k);

/* One turn, of the way that the handle's call went. */
void knit_client_turn(struct knit_handle *handle);

/* Whether that instant (UINT64_MAX = none) has passed; then the last look was taken. */
bool knit_client_is_late(struct knit_handle *handle, uint64_t until_ns);

/* What is only sent now has no answer yet, and a look for it would cost a system call: sends it and
 * sleeps. */
void knit_client_send_first(struct knit_handle *handle, uint64_t until_ns);

/* Turn and sleep until the handle is done. Returns KNIT_OK, or KNIT_PENDING when it is late. */
int knit_client_await(struct knit_handle *handle, uint64_t until_ns);

/* Run the callbacks that are due. Does nothing inside a callback. */
void knit_client_call_back(struct knit *k);

/* Make the descriptor of knit_fd() readable when and only when a dispatch has something to do.
 * Called after everything that may have changed that. */
void knit_client_update_poll_fd(struct knit *k);

/* The end of a function that took turns: callbacks, and the session's descriptor as it must be. */
void knit_client_end_turn(struct knit *k);

/* Whether that has nothing to do. */
static inline bool knit_client_is_turn_over(const struct knit *k)
{
    return TAILQ_EMPTY(&k->handles.ready) && !knit_poll_fd_is_open(&k->poll_fd);
}
