/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: opening, closing, and the turn that every waiting and dispatching function takes.
 *
 * A turn sends, receives, settles what expired. Callbacks are not run where outcomes are found but
 * afterwards, from one list, at the outermost level of a public function: so no callback ever sees
 * a half-done turn, and a handle may be freed inside its own callback.
 *
 * fork(): one page of each session is marked MADV_WIPEONFORK, so a single load tells a child that
 * the session is not its own, without a system call on the way of each call.
 */
#include "clients/lib/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients/lib/connect.h"
#include "clients/lib/url.h"
#include "config.h"
#include "fastpath/lane/bell.h"
#include "proto/hello.h"

enum {
    PAGE_BYTES = 4096,
    PARAMS_MAX = 1024 * 1024 * 1024,
    ERROR_BYTES_MAX = 16 * 1024 * 1024,
};

const char *knit_version(void)
{
    return KNIT_VERSION;
}

/* ---- opening and closing ---- */

static void free_client(struct knit *k)
{
    bool is_ours = k->alive != NULL && *k->alive != 0;

    k->lanes = knit_lanes_free(k->lanes, is_ours);
    knit_poll_fd_fini(&k->poll_fd);
    knit_stream_fini(&k->stream);
    knit_handles_fini(k);
    knit_shapes_fini(&k->shapes);
    knit_buffer_fini(&k->params);
    knit_buffer_fini(&k->error);
    if (k->alive != NULL)
        munmap(k->alive, PAGE_BYTES);
    free(k);
}

/* Takes fd, whatever comes of it. */
static struct knit *new_client(int fd, const struct knit_open_options *options)
{
    struct knit *k = calloc(1, sizeof(*k));
    uint32_t slots = options->slots != 0 ? options->slots : KNIT_SLOTS_DEFAULT;
    struct knit_transport transport;
    void *page;

    if (k == NULL) {
        close(fd);
        return NULL;
    }
    TAILQ_INIT(&k->spare);
    TAILQ_INIT(&k->timed);
    TAILQ_INIT(&k->ready);
    k->next_deadline_ns = UINT64_MAX;
    k->would_block = options->would_block;
    if (slots > KNIT_STREAM_PLACES_MAX - KNIT_STREAM_PLACES_SPARE)
        slots = KNIT_STREAM_PLACES_MAX - KNIT_STREAM_PLACES_SPARE;
    k->admin_ms = options->connect_ms != 0 ? options->connect_ms : KNIT_CONNECT_MS_DEFAULT;
    knit_poll_fd_init(&k->poll_fd);
    knit_buffer_init(&k->params, PARAMS_MAX);
    knit_buffer_init(&k->error, ERROR_BYTES_MAX);
    knit_transport_init_plain(&transport, fd);
    if (knit_stream_init(&k->stream, &knit_handle_stream_callbacks, &transport, slots) < 0) {
        free_client(k);
        return NULL;
    }
    page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, PAGE_BYTES, MADV_WIPEONFORK) < 0) {
        free_client(k);
        return NULL;
    }
    k->alive = page;
    *k->alive = 1;
    return k;
}

static int say_hello(struct knit *k, const struct knit_open_options *options, uint64_t until_ns,
    struct knit_error *ret_error)
{
    const struct knit_hello hello = {
        .name = knit_span_text(options->name != NULL ? options->name : "libknitting"),
        .version = knit_span_text(KNIT_VERSION),
    };
    struct knit_handle *handle;
    struct knit_hello_reply reply;
    const char *reason;
    struct knit_buffer params;
    struct knit_span result;
    int code;

    knit_buffer_init(&params, PAGE_BYTES);
    if (knit_hello_put(&params, &hello) != 0)
        code = knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the name for the daemon's logs is too long");
    else
        code = knit_client_admin_call(
            k, "$/hello", knit_buffer_span(&params), until_ns, &handle, &result, ret_error);
    knit_buffer_fini(&params);
    if (code != KNIT_OK)
        return code;

    if (knit_hello_reply_decode(result, &reply, &reason) != 0)
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server answered $/hello with something else: %s", reason);
    else if (reply.protocol != KNIT_PROTOCOL_VERSION)
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the server (%.*s %.*s) speaks version %llu of the protocol, this library (%s) "
            "version %u",
            (int)reply.server.len, (const char *)reply.server.bytes, (int)reply.version.len,
            (const char *)reply.version.bytes, (unsigned long long)reply.protocol, KNIT_VERSION,
            KNIT_PROTOCOL_VERSION);
    else
        knit_stream_set_limits(&k->stream, reply.message_bytes, reply.in_flight);
    knit_handle_drop(handle);
    return code;
}

int knit_open(const char *url, const struct knit_open_options *options, struct knit **ret,
    struct knit_error *ret_error)
{
    static const struct knit_open_options defaults;
    struct knit_url where;
    struct knit *k;
    const char *reason;
    uint64_t until_ns;
    int fd, code;

    if (options == NULL)
        options = &defaults;
    if (knit_url_parse(url, &where, &reason) != 0)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "bad URL \"%s\": %s", url, reason);
    until_ns = options->connect_ms != 0 ? options->connect_ms : KNIT_CONNECT_MS_DEFAULT;
    until_ns = knit_clock_ns() + until_ns * 1000000;
    code = knit_connect(&where, until_ns, &fd, ret_error);
    if (code != KNIT_OK)
        return code;
    k = new_client(fd, options);
    if (k == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");

    code = say_hello(k, options, until_ns, ret_error);
    if (code == KNIT_OK && where.scheme == KNIT_URL_SHM)
        code = knit_lanes_attach(k, options, until_ns, ret_error);
    if (code != KNIT_OK) {
        knit_stream_break(&k->stream, "opening failed");
        free_client(k);
        /* These pointed into the session that is gone. */
        if (ret_error != NULL) {
            ret_error->data = ret_error->details = NULL;
            ret_error->data_len = ret_error->details_len = 0;
        }
        return code;
    }
    *ret = k;
    return KNIT_OK;
}

struct knit *knit_close(struct knit *k)
{
    if (k == NULL || k->is_calling_back)
        return k;
    if (*k->alive != 0) {
        knit_stream_break(&k->stream, "the session was closed");
        knit_client_progress(k);
        knit_client_call_back(k);
    }
    free_client(k);
    return NULL;
}

/* ---- the turn ---- */

int knit_client_check(struct knit *k, struct knit_error *ret_error)
{
    if (*k->alive == 0)
        return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "this session belongs to the parent process; open one of your own after fork()");
    if (!knit_stream_is_open(&k->stream))
        return knit_error_make(
            ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO, "%s", k->stream.reason);
    return KNIT_OK;
}

void knit_client_progress(struct knit *k)
{
    knit_stream_flush(&k->stream);
    knit_stream_receive(&k->stream);
    if (k->lanes != NULL) {
        knit_lanes_flush(k->lanes);
        knit_lanes_collect(k->lanes);
        if (!knit_stream_is_open(&k->stream))
            knit_lanes_disconnect(k);
    }
    if (k->next_deadline_ns != UINT64_MAX)
        knit_handle_expire(k, knit_clock_ns());
}

/* Whoever waits for lanes in vain looks at the lease, as often as it must be looked at and not more
 * often. The session remembers when, since a caller may wait in many short pieces, none of which is
 * as long as the time between two looks. */
static void look_at_lease(struct knit *k, uint64_t now_ns)
{
    if (now_ns < k->next_look_ns && !knit_lanes_is_closed(k->lanes))
        return;
    k->next_look_ns = now_ns + KNIT_LEASE_LOOK_MS * UINT64_C(1000000);
    knit_stream_flush(&k->stream);
    knit_stream_receive(&k->stream);
    if (!knit_stream_is_open(&k->stream))
        knit_lanes_disconnect(k);
}

static void wait_lanes(
    struct knit *k, struct knit_handle *handle, uint64_t now_ns, uint64_t until_ns)
{
    uint64_t look_ns = k->next_look_ns;

    if (look_ns <= now_ns)
        look_ns = now_ns + KNIT_LEASE_LOOK_MS * UINT64_C(1000000);
    /* What has come is given out before anything else is looked at. */
    if (!knit_lanes_wait(k->lanes, handle, look_ns < until_ns ? look_ns : until_ns))
        look_at_lease(k, knit_clock_ns());
}

void knit_client_wait(
    struct knit *k, enum knit_handle_via via, struct knit_handle *handle, uint64_t until_ns)
{
    uint64_t now_ns = knit_clock_ns();
    int wait_ms = -1;

    if (k->next_deadline_ns < until_ns)
        until_ns = k->next_deadline_ns;
    if (until_ns <= now_ns || !knit_stream_is_open(&k->stream))
        return;
    if (via == KNIT_VIA_LANES) {
        wait_lanes(k, handle, now_ns, until_ns);
        return;
    }
    if (until_ns - now_ns < UINT64_C(3600) * 1000000000)
        wait_ms = (int)((until_ns - now_ns + 999999) / 1000000);
    knit_stream_sleep(&k->stream, wait_ms);
}

static bool has_passed(struct knit *k, enum knit_handle_via via, uint64_t until_ns)
{
    uint64_t now_ns = knit_clock_ns();

    if (now_ns < until_ns)
        return false;
    if (via == KNIT_VIA_LANES)
        look_at_lease(k, now_ns);
    return true;
}

int knit_client_await(struct knit_handle *handle, uint64_t until_ns)
{
    struct knit *k = handle->k;
    enum knit_handle_via via = (enum knit_handle_via)handle->via;

    for (;;) {
        /* A call through lanes is the one whose nanoseconds count: it does not look at the stream,
           and at the clock only when it must. */
        if (via == KNIT_VIA_LANES) {
            knit_lanes_flush(k->lanes);
            if (!knit_lanes_collect_one(k->lanes, handle))
                knit_lanes_collect(k->lanes);
            if (!knit_stream_is_open(&k->stream))
                knit_lanes_disconnect(k);
            if (handle->state == KNIT_HANDLE_WAITING && k->next_deadline_ns != UINT64_MAX)
                knit_handle_expire(k, knit_clock_ns());
        } else {
            knit_client_progress(k);
        }
        if (handle->state == KNIT_HANDLE_DONE)
            return KNIT_OK;
        if (until_ns != UINT64_MAX && has_passed(k, via, until_ns))
            return handle->state == KNIT_HANDLE_DONE ? KNIT_OK : KNIT_PENDING;
        knit_client_wait(k, via, handle, until_ns);
    }
}

int knit_client_admin_call(struct knit *k, const char *method, struct knit_span params,
    uint64_t until_ns, struct knit_handle **ret_handle, struct knit_span *ret_result,
    struct knit_error *ret_error)
{
    struct knit_handle *handle = knit_handle_new(k);
    int code;

    if (handle == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a call");
    while ((code = knit_stream_start(&k->stream, method, params, NULL, handle, &handle->slot)) ==
               KNIT_WOULD_BLOCK &&
           knit_clock_ns() < until_ns) {
        knit_client_progress(k);
        knit_client_wait(k, KNIT_VIA_STREAM, NULL, until_ns);
    }
    if (code == KNIT_OK) {
        handle->via = KNIT_VIA_STREAM;
        code = knit_client_await(handle, until_ns);
    }
    if (code == KNIT_OK)
        code = knit_handle_outcome(handle, ret_error, ret_result);
    else if (code == KNIT_PENDING || code == KNIT_WOULD_BLOCK)
        code = knit_error_make(
            ret_error, KNIT_TIMEOUT, KNIT_STARTED_UNKNOWN, "no answer to %s in time", method);
    else
        code = knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s could not be sent%s%s", method,
            !knit_stream_is_open(&k->stream) ? ": " : "", k->stream.reason);
    if (code == KNIT_OK)
        *ret_handle = handle;
    else
        knit_handle_drop(handle);
    return code;
}

void knit_client_call_back(struct knit *k)
{
    struct knit_handle *handle;

    if (k->is_calling_back)
        return;
    k->is_calling_back = true;
    while ((handle = TAILQ_FIRST(&k->ready)) != NULL) {
        void (*on_done)(struct knit_handle *, void *) = handle->on_done;

        TAILQ_REMOVE(&k->ready, handle, entry);
        handle->is_ready = false;
        handle->on_done = NULL;
        on_done(handle, handle->user);
    }
    k->is_calling_back = false;
}

/* ---- event loops ---- */

/* The timer of the descriptor stands for three things. Deadlines. Work of which no descriptor
 * tells: callbacks that became due outside of a dispatch, answers that came while the lanes' bell
 * was being armed, bytes that wait in the transport, a session that has broken; then it expires at
 * once. And a look from time to time while calls are in the lanes, as a blocking caller takes it: a
 * worker that is stopped between its answer and the bell wakes nobody, nor does one for whose byte
 * the kernel lacks memory. */
void knit_client_update_poll_fd(struct knit *k)
{
    const struct knit_stream *stream = &k->stream;
    uint64_t at_ns = k->next_deadline_ns, now_ns, look_ns;

    if (!knit_poll_fd_is_open(&k->poll_fd))
        return;
    now_ns = knit_clock_ns();
    look_ns = now_ns + KNIT_LEASE_LOOK_MS * UINT64_C(1000000);
    if (k->lanes != NULL && look_ns < at_ns && knit_lanes_in_flight(k->lanes) != 0)
        at_ns = look_ns;
    if (!knit_stream_is_open(stream) || knit_stream_has_pending(stream))
        at_ns = 0;
    if (!TAILQ_EMPTY(&k->ready) || (k->lanes != NULL && !knit_lanes_arm(k->lanes)))
        at_ns = 0;
    knit_poll_fd_update(
        &k->poll_fd, stream->transport.fd, knit_stream_wants_write(stream), at_ns, now_ns);
}

int knit_flush(struct knit *k, struct knit_error *ret_error)
{
    int code = knit_client_check(k, ret_error);

    if (code != KNIT_OK)
        return code;
    if (k->lanes != NULL)
        knit_lanes_flush(k->lanes);
    knit_stream_flush(&k->stream);
    knit_client_update_poll_fd(k);
    return knit_client_check(k, ret_error);
}

int knit_fd(struct knit *k)
{
    int stream_fd = k->stream.transport.fd, r = -ENOTCONN;

    if (*k->alive != 0)
        r = knit_poll_fd_open(
            &k->poll_fd, stream_fd, k->lanes != NULL ? knit_lanes_bell_fd(k->lanes) : -1);
    if (r < 0) {
        errno = -r;
        return -1;
    }
    knit_client_update_poll_fd(k);
    return k->poll_fd.epoll_fd;
}

int knit_dispatch(struct knit *k, struct knit_error *ret_error)
{
    if (*k->alive == 0)
        return knit_client_check(k, ret_error);
    if (k->is_calling_back)
        return knit_error_make(
            ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "a callback must not dispatch");
    if (knit_poll_fd_is_open(&k->poll_fd) && k->lanes != NULL)
        knit_lanes_disarm(k->lanes);
    knit_client_progress(k);
    knit_client_call_back(k);
    knit_stream_flush(&k->stream);
    if (k->lanes != NULL)
        knit_lanes_flush(k->lanes);
    knit_client_update_poll_fd(k);
    return knit_client_check(k, ret_error);
}
