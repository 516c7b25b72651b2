/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that waits, and the functions for event loops.
 *
 * A call through lanes is answered in shared memory, of which a poll of the connection says
 * nothing; so a waiter for lanes sleeps on the lanes' bell and looks at the connection, which is
 * the lease, every lease_check_ns.
 */
#include "clients/lib/client.h"

#include <errno.h>
#include <poll.h>

#include "clients/lib/choose.h"
#include "clients/lib/error.h"
#include "clients/lib/handle_inline.h"
#include "clients/lib/lost.h"
#include "fastpath/lane/bell.h"
#include "proto/options.h"

enum {
    /* How long a session that the pool has closed waits for the stream to tell why. */
    CLOSED_CHECK_MS = 5,
};

/* ---- checks ---- */

int knit_client_refuse(struct knit *k, struct knit_error *ret_error)
{
    if (!knit_client_is_ours(k))
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "this session belongs to the parent process; open one of your own after fork()");
    if (knit_link_is_open(&k->link))
        return KNIT_OK;
    return knit_error_make(
        ret_error, k->handles.lost_code, KNIT_STARTED_NO, "%s", k->handles.stream->reason);
}

int knit_client_refuse_local(const char *method, struct knit_error *ret_error)
{
    if (method != NULL)
        return knit_error_make(ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO,
            "'%s': a pool of this process has no methods of the protocol", method);
    return knit_error_make(ret_error, KNIT_SHUTDOWN, KNIT_STARTED_NO, "the pool is shut down");
}

int knit_client_refuse_signature(
    const char *signature, int r, const struct knit_shape_flaw *flaw, struct knit_error *ret_error)
{
    if (r == -EINVAL)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "the name of the task is NULL");
    if (r != KNIT_SHAPE_E_SYNTAX)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "the signature \"%s\" is wrong at byte %zu: %s", signature, flaw->offset, flaw->reason);
}

int knit_client_check_waiting(struct knit *k, struct knit_error *ret_error)
{
    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "a callback must not wait");
    return knit_client_check(k, ret_error);
}

int knit_client_begin_wait(
    struct knit *k, double wait_ms, uint64_t *ret_until_ns, struct knit_error *ret_error)
{
    const uint64_t wait_ns = knit_options_ns(wait_ms);
    uint64_t now_ns;

    if (k->is_calling_back && wait_ms == 0)
        return KNIT_PENDING;
    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_UNKNOWN, "a callback must not wait");
    *ret_until_ns = UINT64_MAX;
    if (wait_ns == KNIT_OPTION_NONE)
        return KNIT_OK;
    now_ns = knit_clock_ns();
    if (wait_ns < UINT64_MAX - now_ns)
        *ret_until_ns = now_ns + wait_ns;
    return KNIT_OK;
}

/* ---- the turn ---- */

/* Of a session without a stream: whether its pool lives. It closes the session first, and then
 * gives the calls that it took their outcomes. */
static void check_local_lease(struct knit *k)
{
    const struct knit_lanes *lanes = k->handles.lanes;

    if (k->handles.has_local_lease && knit_lanes_is_closed(lanes) &&
        knit_lanes_local(lanes)->has_stopped(knit_lanes_local_arg(lanes)))
        knit_handles_end_lease(&k->handles, KNIT_SHUTDOWN, "the pool is shut down");
}

/* What outcomes have made due is started, and sent. */
static __attribute__((noinline)) void run_promises(struct knit *k)
{
    knit_promises_run(&k->handles);
    if (k->handles.lanes != NULL)
        knit_lanes_flush(k->handles.lanes);
    knit_handles_flush(&k->handles);
}

static inline void run_due_promises(struct knit *k)
{
    /* There is nothing to wait for any more. */
    if (!TAILQ_EMPTY(&k->handles.promises.delayed) && !knit_handles_has_lease(&k->handles) &&
        !k->handles.returns)
        (void)knit_promises_expire(&k->handles.promises, UINT64_MAX);
    if (knit_promises_are_due(&k->handles.promises))
        run_promises(k);
}

/* Also when an exception or the end of its thread leaves a task: then its call ends too. */
static void end_inline(struct knit **calling)
{
    struct knit *k = *calling;
    struct knit_handle *handle;

    if (k == NULL)
        return;
    k->is_calling_back = false;
    handle = knit_inliner_abandon(k->handles.inliner);
    if (handle != NULL)
        knit_handle_fail(handle, KNIT_WORKER_DIED, KNIT_STARTED_YES,
            "the task did not return to the thread that ran it");
}

/* The part of a turn that is this thread's own work. A task may not wait for its own session: it is
 * as a callback there. */
static void run_inline(struct knit *k)
{
    __attribute__((cleanup(end_inline))) struct knit *calling = NULL;

    if (!knit_handles_has_inline(&k->handles) || k->is_calling_back ||
        !knit_handles_has_lease(&k->handles))
        return;
    /* What has waited too long is not started. */
    if (k->handles.next_deadline_ns != UINT64_MAX)
        knit_handles_expire(&k->handles, knit_clock_ns());
    calling = k;
    k->is_calling_back = true;
    (void)knit_inliner_turn(k->handles.inliner);
}

void knit_client_return(struct knit *k)
{
    if (k->handles.lanes != NULL)
        knit_handles_disconnect(&k->handles);
    if (k->link.step != NULL)
        k->link.step(k);
}

static bool is_idle(const struct knit_stream *stream)
{
    return stream->places_taken == 0 && !knit_stream_has_output(stream);
}

/* Of several streams the one that calls take was looked at. Of the others those that take no calls
 * any more end with the last one that they have. */
static __attribute__((noinline)) void progress_several(struct knit *k)
{
    struct knit_handles *handles = &k->handles;
    struct knit_link *link = &k->link;
    bool has_changed = false;

    for (struct knit_stream *stream = handles->several; stream != NULL; stream = stream->next) {
        if (stream != handles->stream) {
            knit_stream_flush(stream);
            if (!stream->is_quiet)
                knit_stream_receive(stream);
            if (stream->has_goaway && is_idle(stream))
                knit_stream_break(stream, "the server is shutting down");
        }
        stream->is_quiet = false;
        has_changed |= !knit_stream_is_open(stream) || (stream->has_goaway && !stream->is_out);
    }
    if (has_changed && link->state != KNIT_LINK_CLOSED)
        link->regroup(k);
    if (link->endpoints != NULL && knit_clock_ns() >= link->look_ns)
        link->is_due = true;
}

/* The server wants no more calls here. Another connection takes them, while this one goes on beside
 * it. Where it cannot: when those that it has are over, the connection ends, and the others go on
 * with the next one; they are not patient without end either. */
static __attribute__((noinline)) void leave(struct knit *k)
{
    struct knit_handles *handles = &k->handles;
    const uint64_t now_ns = knit_clock_ns();

    if (handles->several != NULL)
        knit_handles_choose(handles, handles->stream);
    if (!knit_handles_is_leaving(handles))
        return;
    if (handles->lanes == NULL && knit_link_has_room(&k->link)) {
        k->link.leave(k);
        return;
    }
    if (handles->returns && k->link.patient_ns == UINT64_MAX)
        k->link.patient_ns = now_ns + (uint64_t)k->admin_ms * 1000000;
    if (is_idle(handles->stream) &&
        (handles->lanes == NULL || knit_lanes_in_flight(handles->lanes) == 0)) {
        knit_stream_break(handles->stream, "the server is shutting down");
    } else if (now_ns >= k->link.patient_ns) {
        handles->returns = false;
        k->link.patient_ns = UINT64_MAX;
    }
}

void knit_client_progress(struct knit *k)
{
    struct knit_handles *handles = &k->handles;

    knit_stream_flush(handles->stream);
    knit_stream_receive(handles->stream);
    if (handles->lanes != NULL) {
        knit_lanes_flush(handles->lanes);
        check_local_lease(k);
        if (knit_session_is_watching(handles->lanes->session))
            knit_handles_take_values(handles);
        knit_handles_collect(handles);
    }
    if (knit_handles_is_leaving(handles) && knit_link_is_open(&k->link) &&
        knit_handles_has_lease(handles) && !k->link.options.stays_lost)
        leave(k);
    if (handles->several != NULL)
        progress_several(k);
    if (k->link.is_due)
        k->link.tend(k);
    if (!knit_handles_has_lease(handles))
        knit_client_return(k);
    run_inline(k);
    if (handles->next_deadline_ns != UINT64_MAX)
        knit_handles_expire(handles, knit_clock_ns());
    run_due_promises(k);
}

static bool is_drained(const struct knit *k)
{
    return k->drain_below != 0 && k->on_drain != NULL &&
           knit_handles_in_flight(&k->handles) < k->drain_below;
}

void knit_client_flush(struct knit *k)
{
    if (k->handles.lanes != NULL)
        knit_lanes_flush_and_part(k->handles.lanes);
    knit_handles_flush(&k->handles);
}

/* Looks at the lease when it is due and not more often. The session remembers when that is, because
 * a caller may wait in many pieces, each of them shorter than the time between two looks. */
static void check_lease(struct knit *k, uint64_t now_ns)
{
    struct knit_handles *handles = &k->handles;

    if (now_ns < k->next_lease_check_ns && !knit_lanes_is_closed(handles->lanes))
        return;
    k->next_lease_check_ns = now_ns + k->lease_check_ns;
    knit_stream_flush(handles->stream);
    knit_stream_receive(handles->stream);
    check_local_lease(k);
    if (!knit_handles_has_lease(handles))
        knit_client_return(k);
}

static void wait_lanes(
    struct knit *k, struct knit_handle *handle, uint64_t now_ns, uint64_t until_ns)
{
    uint64_t check_ns = k->next_lease_check_ns;
    int r;

    if (check_ns <= now_ns)
        check_ns = now_ns + k->lease_check_ns;
    /* Another call's outcome may be what starts a further one. */
    if (k->handles.promises.count != 0)
        handle = NULL;
    r = knit_lanes_wait(k->handles.lanes, handle != NULL ? handle->slot : KNIT_SLOT_ANY,
        check_ns < until_ns ? check_ns : until_ns);
    if (r == KNIT_LANES_E_CLOSED)
        knit_stream_sleep(k->handles.stream, CLOSED_CHECK_MS);
    /* An answer is given to its handle before anything else is looked at. */
    if (r != 0)
        check_lease(k, knit_clock_ns());
}

/* How long poll() may sleep. */
static int wait_ms_until(uint64_t until_ns, uint64_t now_ns)
{
    if (until_ns <= now_ns)
        return 0;
    if (until_ns - now_ns >= UINT64_C(3600) * 1000000000)
        return -1;
    return (int)((until_ns - now_ns + 999999) / 1000000);
}

/* What is polled: the streams first, which learn what was found. */
struct polled {
    struct pollfd items[KNIT_STREAMS_MAX + 2];
    struct knit_stream *streams[KNIT_STREAMS_MAX + 1];
    nfds_t count;
};

static void add_stream(struct polled *polled, struct knit_stream *stream)
{
    const short events = knit_stream_wants_write(stream) ? POLLIN | POLLOUT : POLLIN;

    if (!knit_stream_is_open(stream))
        return;
    polled->streams[polled->count] = stream;
    polled->items[polled->count++] = (struct pollfd){.fd = stream->transport.fd, .events = events};
}

static void poll_all(struct polled *polled, nfds_t stream_count, int wait_ms)
{
    (void)poll(polled->items, polled->count, wait_ms);
    for (nfds_t i = 0; i < stream_count; i++)
        polled->streams[i]->is_quiet = polled->items[i].revents == 0;
}

/* Where there is more than one stream, or none, or another one is being opened: until something
 * comes, or the next step is due. */
static void wait_several(const struct knit *k, uint64_t now_ns, uint64_t until_ns)
{
    const struct knit_link *link = &k->link;
    const struct knit_handles *handles = &k->handles;
    struct polled polled = {.count = 0};
    nfds_t stream_count;

    if (knit_stream_has_pending(handles->stream))
        return;
    add_stream(&polled, handles->stream);
    for (struct knit_stream *at = handles->several; at != NULL; at = at->next) {
        if (knit_stream_has_pending(at))
            return;
        if (at != handles->stream)
            add_stream(&polled, at);
    }
    stream_count = polled.count;
    if (knit_link_is_opening(link)) {
        polled.items[polled.count++] = (struct pollfd){
            .fd = link->fd, .events = link->wants_write ? POLLIN | POLLOUT : POLLIN};
        until_ns = link->due_ns < until_ns ? link->due_ns : until_ns;
    } else if (polled.count == 0) {
        return;
    }
    if (link->endpoints != NULL && handles->several != NULL && link->look_ns < until_ns)
        until_ns = link->look_ns;
    poll_all(&polled, stream_count, wait_ms_until(until_ns, now_ns));
}

int knit_client_wait_for_lease(struct knit *k, uint64_t until_ns, struct knit_error *ret_error)
{
    while (!knit_handles_has_lease(&k->handles)) {
        uint64_t now_ns = knit_clock_ns();

        knit_client_progress(k);
        if (knit_handles_has_lease(&k->handles))
            break;
        if (!knit_link_is_open(&k->link) || !k->handles.returns || now_ns >= until_ns)
            return knit_error_make(
                ret_error, k->handles.lost_code, KNIT_STARTED_NO, "%s", k->handles.stream->reason);
        wait_several(k, now_ns, until_ns);
    }
    return KNIT_OK;
}

/* Where calls of both ways are waited for. */
static void wait_both(struct knit *k, uint64_t now_ns, uint64_t until_ns)
{
    struct knit_stream *stream = k->handles.stream;
    struct knit_lanes *lanes = k->handles.lanes;
    uint64_t check_ns = now_ns + k->lease_check_ns;

    if (knit_stream_has_pending(stream) || !knit_lanes_arm(lanes))
        return;
    if (check_ns < until_ns)
        until_ns = check_ns;
    knit_poll_fd_wait(stream->transport.fd, knit_stream_wants_write(stream),
        knit_lanes_bell_fd(lanes), wait_ms_until(until_ns, now_ns));
    knit_lanes_disarm(lanes);
    k->next_lease_check_ns = 0;
    check_lease(k, knit_clock_ns());
}

void knit_client_wait(
    struct knit *k, enum knit_handle_via via, struct knit_handle *handle, uint64_t until_ns)
{
    uint64_t now_ns = knit_clock_ns();

    if (k->handles.next_deadline_ns < until_ns)
        until_ns = k->handles.next_deadline_ns;
    if (k->link.patient_ns < until_ns && k->link.step != NULL)
        until_ns = k->link.patient_ns;
    knit_link_note_time(&k->link, now_ns);
    if (k->link.tend_ns < until_ns)
        until_ns = k->link.tend_ns;
    if (until_ns <= now_ns || knit_handles_has_inline(&k->handles))
        return;
    if (!knit_handles_has_lease(&k->handles) || k->handles.several != NULL ||
        knit_link_is_opening(&k->link)) {
        wait_several(k, now_ns, until_ns);
        return;
    }
    if (k->handles.lanes != NULL && k->handles.stream->places_taken != 0 &&
        (handle == NULL || k->handles.promises.count != 0)) {
        wait_both(k, now_ns, until_ns);
        return;
    }
    if (via == KNIT_VIA_LANES) {
        wait_lanes(k, handle, now_ns, until_ns);
        return;
    }
    knit_stream_sleep(k->handles.stream, wait_ms_until(until_ns, now_ns));
}

bool knit_client_is_late(struct knit_handle *handle, uint64_t until_ns)
{
    uint64_t now_ns;

    if (until_ns == UINT64_MAX)
        return false;
    now_ns = knit_clock_ns();
    knit_link_note_time(&handle->handles->session->link, now_ns);
    if (now_ns < until_ns)
        return false;
    if (knit_client_way(handle) == KNIT_VIA_LANES)
        check_lease(handle->handles->session, now_ns);
    return true;
}

/* A call through lanes is the one whose nanoseconds count: its turn does not look at the stream,
 * and reads the clock only when there are deadlines. */
static void turn_for_lanes(struct knit *k, struct knit_handle *handle)
{
    struct knit_handles *handles = &k->handles;

    knit_lanes_flush(handles->lanes);
    run_inline(k);
    if ((handle->flags & (KNIT_HANDLE_WAITING | KNIT_HANDLE_PROMISED)) != KNIT_HANDLE_WAITING ||
        !knit_handle_collect(handle)) {
        if (knit_session_is_watching(handles->lanes->session))
            knit_handles_take_values(handles);
        knit_handles_collect(handles);
    }
    if (!knit_handles_has_lease(handles))
        knit_client_return(k);
    if ((handle->flags & KNIT_HANDLE_WAITING) != 0 && handles->next_deadline_ns != UINT64_MAX)
        knit_handles_expire(handles, knit_clock_ns());
    run_due_promises(k);
}

void knit_client_give_values(struct knit *k)
{
    __attribute__((cleanup(knit_client_end_calling))) struct knit *calling = NULL;

    if (k->is_calling_back)
        return;
    calling = k;
    k->is_calling_back = true;
    while (!TAILQ_EMPTY(&k->handles.fresh))
        knit_watcher_call_first(&k->handles.fresh);
}

void knit_client_turn(struct knit_handle *handle)
{
    if (knit_client_way(handle) == KNIT_VIA_LANES && !knit_handles_is_leaving(handle->handles))
        turn_for_lanes(handle->handles->session, handle);
    else
        knit_client_progress(handle->handles->session);
}

void knit_client_send_first(struct knit_handle *handle, uint64_t until_ns)
{
    struct knit *k = handle->handles->session;

    if (knit_handle_via(handle) == KNIT_VIA_STREAM && knit_stream_has_output(handle->stream)) {
        knit_client_flush(k);
        knit_client_wait(k, KNIT_VIA_STREAM, handle, until_ns);
    }
}

int knit_client_await(struct knit_handle *handle, uint64_t until_ns)
{
    struct knit *k = handle->handles->session;

    knit_client_send_first(handle, until_ns);
    for (;;) {
        knit_client_turn(handle);
        if ((handle->flags & KNIT_HANDLE_DONE) != 0)
            return KNIT_OK;
        if (!TAILQ_EMPTY(&k->handles.fresh))
            knit_client_give_values(k);
        if (knit_client_is_late(handle, until_ns))
            return (handle->flags & KNIT_HANDLE_DONE) != 0 ? KNIT_OK : KNIT_PENDING;
        knit_client_wait(k, knit_client_way(handle), handle, until_ns);
    }
}

void knit_client_call_back(struct knit *k)
{
    void (*on_done)(struct knit_handle *, void *);
    struct knit_handle *handle;
    __attribute__((cleanup(knit_client_end_calling))) struct knit *calling = NULL;

    if (k->is_calling_back)
        return;
    calling = k;
    k->is_calling_back = true;
    for (;;) {
        if (!TAILQ_EMPTY(&k->handles.fresh)) {
            knit_watcher_call_first(&k->handles.fresh);
            continue;
        }
        handle = TAILQ_FIRST(&k->handles.ready);
        if (handle == NULL)
            return;
        on_done = handle->on_done;
        knit_handle_take_ready(handle);
        on_done(handle, handle->user);
    }
}

static void say_drained(struct knit *k)
{
    __attribute__((cleanup(knit_client_end_calling))) struct knit *calling = NULL;

    if (!is_drained(k))
        return;
    calling = k;
    k->is_calling_back = true;
    k->drain_below = 0;
    k->on_drain(k, k->drain_user);
}

void knit_on_drain(struct knit *k, void (*on_drain)(struct knit *k, void *user), void *user)
{
    k->on_drain = on_drain;
    k->drain_user = user;
    if (knit_client_is_ours(k))
        knit_client_update_poll_fd(k);
}

void knit_client_end_turn(struct knit *k)
{
    if (!TAILQ_EMPTY(&k->handles.ready) || !TAILQ_EMPTY(&k->handles.fresh))
        knit_client_call_back(k);
    if (knit_poll_fd_is_open(&k->poll_fd))
        knit_client_update_poll_fd(k);
}

/* ---- event loops ---- */

/* When the descriptor becomes readable without any other descriptor's doing. At once (0) for work
 * that is there already: callbacks that became due outside of a dispatch, answers that came while
 * the lanes' bell was being armed, bytes that wait in the transport, a session that has broken and
 * stays so. At the next deadline, and at the next step to another connection. And at the next check
 * of the lease while calls are in the lanes: a worker that is stopped between its answer and the
 * bell wakes its caller not at all, nor does one for whose byte the kernel lacks memory. */
static uint64_t wake_ns(struct knit *k, uint64_t now_ns)
{
    struct knit_lanes *lanes = k->handles.lanes;
    uint64_t at_ns = k->handles.next_deadline_ns;
    uint64_t check_ns = now_ns + k->lease_check_ns;

    if (lanes != NULL && check_ns < at_ns && knit_lanes_in_flight(lanes) != 0)
        at_ns = check_ns;
    if (knit_link_is_opening(&k->link) && k->link.due_ns < at_ns)
        at_ns = k->link.due_ns;
    if (k->link.tend_ns < at_ns)
        at_ns = k->link.tend_ns;
    if (k->link.step != NULL && k->link.patient_ns < at_ns)
        at_ns = k->link.patient_ns;
    if (!knit_handles_has_lease(&k->handles) &&
        (k->handles.stream != &k->handles.lost || !knit_link_is_opening(&k->link)))
        at_ns = 0;
    if (knit_stream_has_pending(k->handles.stream) || is_drained(k) ||
        knit_handles_has_inline(&k->handles))
        at_ns = 0;
    if (!TAILQ_EMPTY(&k->handles.ready) || !TAILQ_EMPTY(&k->handles.fresh) ||
        !TAILQ_EMPTY(&k->handles.promises.due) || k->handles.promises.unwanted != NULL ||
        (lanes != NULL && !knit_lanes_arm(lanes)))
        at_ns = 0;
    return at_ns;
}

/* The same of several streams: while calls are in flight they are looked at now and then. */
static uint64_t update_several(struct knit *k, uint64_t at_ns)
{
    for (struct knit_stream *at = k->handles.several; at != NULL; at = at->next) {
        if (!knit_stream_is_open(at) || knit_stream_has_pending(at)) {
            at_ns = 0;
            continue;
        }
        knit_poll_fd_set_writing(
            &k->poll_fd, at->transport.fd, knit_stream_wants_write(at), &at->watched_write);
        if (k->link.endpoints != NULL && at->places_taken != 0 && k->link.look_ns < at_ns)
            at_ns = k->link.look_ns;
    }
    return at_ns;
}

void knit_client_update_poll_fd(struct knit *k)
{
    struct knit_stream *stream = k->handles.stream;
    uint64_t now_ns, at_ns;

    if (!knit_poll_fd_is_open(&k->poll_fd))
        return;
    now_ns = knit_clock_ns();
    knit_link_note_time(&k->link, now_ns);
    knit_poll_fd_set_opening(&k->poll_fd, k->link.fd, k->link.wants_write);
    at_ns = wake_ns(k, now_ns);
    if (k->handles.several != NULL)
        at_ns = update_several(k, at_ns);
    if (knit_stream_is_open(stream))
        knit_poll_fd_set_writing(&k->poll_fd, stream->transport.fd, knit_stream_wants_write(stream),
            &stream->watched_write);
    knit_poll_fd_update(&k->poll_fd, at_ns, now_ns);
}

int knit_flush(struct knit *k, struct knit_error *ret_error)
{
    int code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    knit_client_flush(k);
    run_inline(k);
    knit_client_update_poll_fd(k);
    return knit_client_check(k, ret_error);
}

int knit_fd(struct knit *k)
{
    const struct knit_handles *handles = &k->handles;
    int bell_fd, r = -ENOTCONN;

    if (knit_client_is_ours(k) && !knit_poll_fd_is_open(&k->poll_fd)) {
        bell_fd = handles->lanes != NULL ? knit_lanes_bell_fd(handles->lanes) : -1;
        r = knit_poll_fd_open(&k->poll_fd, handles->stream->transport.fd, bell_fd);
        for (struct knit_stream *at = handles->several; r == 0 && at != NULL; at = at->next)
            if (at != handles->stream)
                knit_poll_fd_add(&k->poll_fd, at->transport.fd);
    } else if (knit_client_is_ours(k)) {
        r = 0;
    }
    if (r < 0) {
        errno = -r;
        return -1;
    }
    knit_client_update_poll_fd(k);
    return k->poll_fd.epoll_fd;
}

int knit_dispatch(struct knit *k, struct knit_error *ret_error)
{
    if (!knit_client_is_ours(k))
        return knit_client_check(k, ret_error);
    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "a callback must not dispatch");
    if (knit_poll_fd_is_open(&k->poll_fd) && k->handles.lanes != NULL)
        knit_lanes_disarm(k->handles.lanes);
    if (k->link.tend_ns != UINT64_MAX)
        knit_link_note_time(&k->link, knit_clock_ns());
    knit_client_progress(k);
    knit_client_call_back(k);
    say_drained(k);
    knit_client_flush(k);
    knit_client_update_poll_fd(k);
    return knit_client_check(k, ret_error);
}
