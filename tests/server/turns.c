/* SPDX-License-Identifier: Apache-2.0 */
/* See turns.h. The turn is that of server/daemon/loop.c without its sleeping. */
#include "tests/server/turns.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "proto/sentence.h"
#include "proto/writer.h"
#include "server/net/lookahead.h"

enum { BYTES_MAX = 8 << 20 };

struct turns turns;
uint32_t turns_depth_ns;
uint32_t turns_lanes = 1;

static struct knit_registry *make_registry(void)
{
    /* In the order of enum lanes_task, which are their numbers. */
    static const char *const signatures[] = {"echo(value: any) -> any", "count(value: any) -> any",
        "spin(value: any) -> any", "gate(value: any) -> any", "room(value: any) -> any"};
    struct knit_registry *registry = knit_registry_new(KNIT_REGISTRY_EPOCH_FIRST);

    for (size_t i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++) {
        struct knit_registry_task task = {.doc = ""};
        struct knit_signature *signature = NULL;

        assert_int_equal(
            knit_signature_parse(signatures[i], strlen(signatures[i]), &signature, NULL), 0);
        assert_int_equal(knit_registry_add(registry, &task, signature), 0);
    }
    return registry;
}

static void init(void)
{
    struct knit_loop *loop = &turns.loop;
    struct lanes_session *side;
    struct knit_sentence why;

    memset(&turns, 0, sizeof(turns));
    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    lanes_init(&turns.lanes, turns_lanes, false, 20);
    turns.lanes.report_settled = true;
    turns.lanes.depth_ns = turns_depth_ns;
    side = lanes_add_session(&turns.lanes, TURNS_SLOTS, TURNS_ARENA_BYTES, 0);
    turns.registry = make_registry();
    assert_int_equal(knit_settings_init(&turns.settings, &why), 0);
    turns.settings.message_max_bytes = 1 << 20;
    turns.settings.call_max_bytes = 1 << 19;
    turns.settings.arena_bytes = TURNS_ARENA_BYTES;
    turns.settings.slots = TURNS_SLOTS;
    knit_log_init(&turns.log, STDERR_FILENO, KNIT_LOG_ERROR);
    turns.loops = (struct knit_loops){
        .settings = &turns.settings, .log = &turns.log, .count = 1, .items = loop};
    turns.session = (struct knit_host_own_session){.session = side->session,
        .reply = side->reply,
        .geometry = side->geometry,
        .bell_fd = side->bell_fd};
    loop->all = &turns.loops;
    assert_int_equal(knit_principals_init(&turns.principals), 0);
    loop->turn = (struct knit_turn){
        .settings = &turns.settings, .log = &turns.log, .principals = &turns.principals};
    loop->session = &turns.session;
    loop->base = event_base_new();
    assert_non_null(loop->base);
    assert_int_equal(
        knit_router_init(&loop->router, &loop->turn, loop->session, turns.registry), 0);
    assert_int_equal(knit_connections_init(&loop->net, &loop->turn, &loop->router, loop->base), 0);
    knit_buffer_init(&loop->turn.scratch, 1 << 22);
    lanes_start_worker(&turns.lanes, 0, 5);
}

static void fini(void)
{
    struct knit_loop *loop = &turns.loop;

    turns_open_gate();
    TURNS_UNTIL(turns_is_idle());
    assert_true(TAILQ_EMPTY(&loop->net.connections));
    lanes_fini(&turns.lanes);
    knit_connections_fini(&loop->net);
    knit_router_fini(&loop->router);
    event_base_free(loop->base);
    knit_buffer_fini(&loop->turn.scratch);
    knit_registry_free(turns.registry);
    knit_principals_fini(&turns.principals);
    knit_log_fini(&turns.log);
    knit_settings_fini(&turns.settings);
}

int turns_setup(void **state)
{
    (void)state;
    init();
    return 0;
}

int turns_teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < turns.caller_count; i++) {
        if (turns.callers[i].is_open)
            turns_leave(&turns.callers[i]);
    }
    fini();
    return 0;
}

void turns_restart(void)
{
    (void)turns_teardown(NULL);
    init();
}

bool turns_is_at_gate(void)
{
    return atomic_load_explicit(&turns.lanes.at_gate, memory_order_acquire) == 1;
}

void turns_open_gate(void)
{
    atomic_store_explicit(&turns.lanes.gate, 1, memory_order_release);
}

static void refresh_inputs(void)
{
    struct knit_loop *loop = &turns.loop;
    struct knit_connection *connection;

    knit_turn_tick(&loop->turn);
    TAILQ_FOREACH(connection, &loop->net.inputs.large, in_large)
    connection->input.progress_ns = loop->turn.now_ns;
}

bool turns_turn(void)
{
    struct knit_loop *loop = &turns.loop;

    if (turns.is_fresh)
        refresh_inputs();
    (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    knit_turn_tick(&loop->turn);
    knit_connections_resume_ready(&loop->net);
    knit_lookahead_expire(&loop->net);
    (void)knit_router_turn(&loop->router);
    knit_lookahead_scan(&loop->net);
    knit_connections_flush(&loop->net);
    /* As before a sleep: a worker that parked meanwhile is woken. */
    (void)knit_session_arm(turns.session.session);
    knit_session_disarm(turns.session.session);
    return true;
}

bool turns_is_idle(void)
{
    return knit_session_slots_free(turns.session.session) == TURNS_SLOTS;
}

/* ---- callers ---- */

struct turns_caller *turns_connect(void)
{
    struct turns_caller *caller = &turns.callers[turns.caller_count++];
    int fds[2];

    assert_true(turns.caller_count <= TURNS_CALLERS_MAX);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(
        knit_connection_open(&turns.loop.net, knit_transport_plain(fds[0], false, NULL)), 0);
    caller->connection = TAILQ_LAST(&turns.loop.net.connections, knit_connection_list);
    caller->fd = fds[1];
    caller->is_open = true;
    caller->bytes = malloc(BYTES_MAX);
    assert_non_null(caller->bytes);
    knit_scan_init(&caller->scan, NULL);
    return caller;
}

static bool is_gone(const struct turns_caller *caller)
{
    const struct knit_connection *connection;

    TAILQ_FOREACH(connection, &turns.loop.net.connections, in_all)
    if (connection == caller->connection)
        return false;
    return true;
}

void turns_hang_up(struct turns_caller *caller)
{
    assert_int_equal(shutdown(caller->fd, SHUT_RDWR), 0);
}

void turns_leave(struct turns_caller *caller)
{
    close(caller->fd);
    caller->is_open = false;
    TURNS_UNTIL(is_gone(caller));
    free(caller->bytes);
}

static bool send_all(struct turns_caller *caller, struct knit_buffer *buffer)
{
    ssize_t sent = send(caller->fd, buffer->bytes, buffer->len, MSG_NOSIGNAL);
    bool whole = sent == (ssize_t)buffer->len;

    assert_int_equal(buffer->error, 0);
    knit_buffer_fini(buffer);
    return whole;
}

static void put_params(struct knit_buffer *params, size_t len)
{
    struct knit_writer writer;
    void *zeros = calloc(1, len + 1);

    assert_non_null(zeros);
    knit_buffer_init(params, len + 16);
    knit_writer_init(&writer, params);
    knit_writer_array(&writer, 1);
    knit_writer_bin(&writer, zeros, len);
    assert_int_equal(knit_writer_end(&writer), 0);
    free(zeros);
}

bool turns_request(struct turns_caller *caller, const char *task, size_t len, uint32_t first,
    uint32_t count, const struct knit_options *options)
{
    const struct knit_method method = {.name = knit_span_text(task)};
    struct knit_buffer buffer, params;

    put_params(&params, len);
    knit_buffer_init(&buffer, BYTES_MAX);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(knit_message_put_request(
                             &buffer, first + i, &method, knit_buffer_span(&params), options),
            0);
    knit_buffer_fini(&params);
    return send_all(caller, &buffer);
}

void turns_cancel(struct turns_caller *caller, uint8_t msgid)
{
    const uint8_t message[] = {
        0x93, 0x02, 0xa8, '$', '/', 'c', 'a', 'n', 'c', 'e', 'l', 0x91, 0xcc, msgid};

    assert_int_equal(send(caller->fd, message, sizeof(message), MSG_NOSIGNAL), sizeof(message));
}

void turns_notify(struct turns_caller *caller, const char *task, uint32_t count)
{
    const struct knit_method method = {.name = knit_span_text(task)};
    struct knit_buffer buffer;

    knit_buffer_init(&buffer, BYTES_MAX);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(
            knit_message_put_notification(&buffer, &method, knit_span("\x91\x01", 2)), 0);
    assert_true(send_all(caller, &buffer));
}

static void take(struct turns_caller *caller, const uint8_t *bytes, size_t len)
{
    struct knit_message message;
    const char *reason;

    assert_int_equal(knit_message_parse(bytes, len, &caller->scan, &message, &reason), 0);
    assert_int_equal(message.kind, KNIT_MESSAGE_RESPONSE);
    caller->msgids[caller->responses++ % TURNS_MSGIDS] = message.msgid;
    caller->msgid = message.msgid;
    caller->code = 0;
    caller->result_len = message.result.len;
    if (message.error.bytes != NULL) {
        struct knit_failure failure;

        assert_int_equal(knit_failure_decode(message.error, &failure), 0);
        caller->code = failure.code;
        caller->retry_after_ms = failure.retry_after_ms;
    }
}

bool turns_read(struct turns_caller *caller)
{
    for (;;) {
        ssize_t got = recv(caller->fd, caller->bytes + caller->len, BYTES_MAX - caller->len, 0);
        size_t begin = 0;

        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        caller->len += (size_t)got;
        while (begin + caller->used < caller->len) {
            size_t used;
            int r = knit_scan_feed(&caller->scan, caller->bytes + begin + caller->used,
                caller->len - begin - caller->used, &used);

            caller->used += used;
            if (r == 0)
                break;
            assert_int_equal(r, KNIT_SCAN_E_DONE);
            take(caller, caller->bytes + begin, caller->used);
            knit_scan_reset(&caller->scan);
            begin += caller->used;
            caller->used = 0;
        }
        caller->len -= begin;
        memmove(caller->bytes, caller->bytes + begin, caller->len);
    }
}

void turns_expect(struct turns_caller *caller, uint32_t responses)
{
    TURNS_UNTIL(turns_read(caller) && caller->responses >= responses);
    assert_int_equal(caller->responses, responses);
}

void turns_set_mean(uint32_t task, uint32_t ns)
{
    atomic_store_explicit(&turns.lanes.board.mean_ns[task], ns, memory_order_relaxed);
}
