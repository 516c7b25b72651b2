/* SPDX-License-Identifier: Apache-2.0 */
/* The client library's part of knit-counts, through its public functions.
 *
 * The session is made here as knit_open() makes it, over the lanes of counts_lanes.c; its
 * connection, which is the lease, is a socket that nobody writes to. In a batch the worker serves
 * between the two halves, uncounted; without lanes the other end of the connection answers there,
 * by echoing. A blocking call finds its answer already there: what a worker
 * of this process cannot do meanwhile is written before, so no look at an unanswered slot counts.
 */
#include <sys/socket.h>

#include <knitting/set.h>
#include <knitting/typed.h>

#include "bench/counts.h"
#include "clients/lib/client.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/session_private.h"
#include "proto/plain.h"

KNIT_TYPED(add, ((int, a), (int, b)), ((int, sum)));

enum { STREAM_BYTES = 128 * 1024 };

struct library {
    struct knit_counts_lanes *lanes;
    struct knit k;
    uint8_t alive;
    const char *task;
    struct knit_span params;
    int peer_fd; /* the server's end of the connection */
    struct knit_handle *handles[KNIT_COUNTS_BATCH];
    struct knit_prepared *add;
    struct knit_set *set;
};

/* ---- the session ----------------------------------------------------------------------------- */

/* The library frees its registry, so it has one of its own. */
static int fetch_registry(
    void *arg, uint64_t until_ns, struct knit_registry **ret, struct knit_error *ret_error)
{
    const struct knit_counts_lanes *lanes = arg;
    struct knit_buffer bytes;

    (void)until_ns;
    (void)ret_error;
    knit_buffer_init(&bytes, KNIT_REGISTRY_BYTES_MAX);
    if (knit_registry_put(knit_modules_registry(lanes->modules), &bytes) != 0 ||
        knit_registry_parse(knit_buffer_span(&bytes), ret) != 0)
        knit_counts_fail("no registry for the library");
    knit_buffer_fini(&bytes);
    return KNIT_OK;
}

static void keep(const struct knit_lanes_options *options, bool is_ours)
{
    (void)options;
    (void)is_ours;
}

static const struct knit_lanes_source source = {.fetch_registry = fetch_registry, .free = keep};

/* With the session of the lanes. Nothing is given back, since the process ends soon. */
static void start(struct library *library, struct knit_counts_lanes *lanes)
{
    struct knit *k = &library->k;
    struct knit_lanes_options options = {.source = &source,
        .arg = lanes,
        .session = lanes->session,
        .bell_fd = -1,
        .host_fd = -1,
        .slots = lanes->geometry.slots,
        .reply_arena_bytes = lanes->geometry.reply_arena_bytes,
        .argument_max = lanes->geometry.request_arena_bytes / 8};
    struct knit_transport transport;
    int fds[2];

    *library = (struct library){.lanes = lanes, .alive = 1};
    k->alive = &library->alive;
    k->prepareds.session = k;
    knit_poll_fd_init(&k->poll_fd);
    knit_buffer_init(&k->params, 1 << 20);
    knit_handles_init(&k->handles, k, k->alive);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        knit_counts_fail("no connection for the library");
    library->peer_fd = fds[1];
    knit_transport_init_plain(&transport, fds[0]);
    if (knit_stream_init(
            k->handles.stream, &knit_handle_stream_callbacks, &transport, options.slots) != 0)
        knit_counts_fail("no stream for the library");
    k->handles.lanes = knit_lanes_new(&options);
    if (k->handles.lanes == NULL)
        knit_counts_fail("no lanes for the library");
}

/* ---- batches --------------------------------------------------------------------------------- */

/* As a server does whose task returns its one argument. */
static void echo(int fd)
{
    static uint8_t in[STREAM_BYTES], out[STREAM_BYTES];
    size_t in_len = 0, at = 0, len;
    struct knit_message message;
    struct knit_buffer replies;
    ssize_t n;

    while ((n = recv(fd, in + in_len, sizeof(in) - in_len, 0)) > 0)
        in_len += (size_t)n;
    knit_buffer_init_fixed(&replies, out, sizeof(out));
    while ((len = knit_plain_take(in + at, in_len - at, sizeof(in), &message)) > 0) {
        (void)knit_message_put_response(
            &replies, message.msgid, knit_span(message.params.bytes + 1, message.params.len - 1));
        at += len;
    }
    if (at != in_len || replies.error != 0 || send(fd, out, replies.len, 0) != (ssize_t)replies.len)
        knit_counts_fail("the stream cannot be answered");
}

/* A counted function that is called inside of another one counts nothing. */
static KNIT_COUNTS_APART void counted_not_serve(struct library *library)
{
    if (library->k.handles.lanes != NULL)
        knit_counts_lanes_turn(library->lanes, KNIT_COUNTS_BATCH);
    else
        echo(library->peer_fd);
}

/* Start them all, send them at once, read and free each. */
static void batch(void *arg)
{
    struct library *library = arg;
    const void *result;
    size_t len;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_start_raw(&library->k, NULL, &library->handles[i], NULL, library->task,
                library->params.bytes, library->params.len) != KNIT_OK)
            knit_counts_fail("the library refuses a call");
    }
    if (knit_flush(&library->k, NULL) != KNIT_OK)
        knit_counts_fail("the library cannot flush");
    counted_not_serve(library);
    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_await(library->handles[i], -1, NULL) != KNIT_OK ||
            knit_result_raw(library->handles[i], NULL, &result, &len) != KNIT_OK)
            knit_counts_fail("a call of the library failed");
        (void)knit_free(library->handles[i]);
    }
}

/* The same with a set in place of an array. */
static void batch_set(void *arg)
{
    struct library *library = arg;
    struct knit_handle *handle;
    const void *result;
    size_t len;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        if (knit_start_raw(&library->k, NULL, &handle, NULL, library->task, library->params.bytes,
                library->params.len) != KNIT_OK ||
            knit_set_add(library->set, handle, NULL, NULL) != KNIT_OK)
            knit_counts_fail("a set refuses a call");
    }
    if (knit_set_flush(library->set, NULL) != KNIT_OK)
        knit_counts_fail("a set cannot flush");
    counted_not_serve(library);
    while (knit_set_count(library->set) > 0) {
        if (knit_set_next(library->set, -1, NULL, &handle, NULL) != KNIT_OK ||
            knit_result_raw(handle, NULL, &result, &len) != KNIT_OK)
            knit_counts_fail("a call of a set failed");
        (void)knit_free(handle);
    }
}

KNIT_COUNTED(library_empty, batch)
KNIT_COUNTED(library_set_empty, batch_set)
KNIT_COUNTED(library_echo_37, batch)
KNIT_COUNTED(stream_echo_37, batch)
static const struct knit_counts_phase phases_empty[] = {
    KNIT_COUNTS_PHASE(library_empty, batch, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_PHASE(library_set_empty, batch_set, KNIT_COUNTS_BATCH),
};
static const struct knit_counts_phase phase_stream[] = {
    KNIT_COUNTS_PHASE(stream_echo_37, batch, KNIT_COUNTS_BATCH),
};
static const struct knit_counts_phase phase_echo_37[] = {
    KNIT_COUNTS_PHASE(library_echo_37, batch, KNIT_COUNTS_BATCH),
};

/* ---- blocking calls -------------------------------------------------------------------------- */

/* Answers the call that will be made next, in the slot that it will take. */
static KNIT_COUNTS_APART void counted_not_answer_ahead(struct library *library)
{
    const struct knit_session *session = library->lanes->session;
    const uint32_t index = session->lanes[0].free_head;
    struct knit_reply_cell *cell = &library->lanes->reply.reply[index];

    knit_cell_store(cell->body, "\xcd\x01\x07", 3);
    atomic_store_explicit(&cell->meta, knit_meta(0, 0, 0, 3), memory_order_relaxed);
    atomic_store_explicit(&cell->word,
        knit_word(knit_gen_next(knit_session_gen(session, index)), KNIT_STATUS_RESULT, 0),
        memory_order_release);
}

static void call_add(void *arg)
{
    struct library *library = arg;
    int64_t sum = 0;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        counted_not_answer_ahead(library);
        if (knit_call(&library->k, NULL, "add", "(int, int) -> int", (int64_t)7, (int64_t)256,
                &sum) != KNIT_OK ||
            sum != 263)
            knit_counts_fail("a typed call failed");
    }
}

/* The same of a prepared call. */
static void call_add_prepared(void *arg)
{
    struct library *library = arg;
    int64_t sum = 0;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        counted_not_answer_ahead(library);
        if (knit_call_prepared(library->add, NULL, NULL, (int64_t)7, (int64_t)256, &sum) !=
                KNIT_OK ||
            sum != 263)
            knit_counts_fail("a prepared call failed");
    }
}

/* The same by a declaration. */
static void call_add_typed(void *arg)
{
    struct library *library = arg;
    int64_t sum = 0;

    for (uint32_t i = 0; i < KNIT_COUNTS_BATCH; i++) {
        counted_not_answer_ahead(library);
        if (KNIT_CALL(add, &library->k, NULL, (7, 256), (&sum)) != KNIT_OK || sum != 263)
            knit_counts_fail("a call of a declaration failed");
    }
}

KNIT_COUNTED(library_call_add, call_add)
KNIT_COUNTED(library_prepared_add, call_add_prepared)
KNIT_COUNTED(library_typed_add, call_add_typed)
static const struct knit_counts_phase phases_call_add[] = {
    KNIT_COUNTS_PHASE(library_call_add, call_add, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_PHASE(library_prepared_add, call_add_prepared, KNIT_COUNTS_BATCH),
    KNIT_COUNTS_PHASE(library_typed_add, call_add_typed, KNIT_COUNTS_BATCH),
};

void knit_counts_library(struct knit_counts_lanes *lanes)
{
    static struct library library;
    unsigned char room[64];

    start(&library, lanes);
    library.task = "empty";
    library.params = knit_span("\x90", 1);
    if (knit_set_new(&library.k, NULL, &library.set) != KNIT_OK)
        knit_counts_fail("the library makes no set");
    knit_counts_measure(phases_empty, 2, 1, &library);
    library.task = "echo";
    library.params = knit_counts_params(room, 37);
    knit_counts_measure(phase_echo_37, 1, 1, &library);
    if (knit_prepare(&library.k, NULL, "add", "(int, int) -> int", &library.add) != KNIT_OK)
        knit_counts_fail("the library prepares no call");
    knit_counts_measure(phases_call_add, 3, 1, &library);
    library.k.handles.lanes = NULL;
    knit_counts_measure(phase_stream, 1, 1, &library);
}
