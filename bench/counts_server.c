/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's part of knit-counts: from a readable socket into the lanes ("route"), and from the
 * lanes into the socket ("reply"), with so many requests in one read.
 *
 * Lanes have a depth here, as in the daemon, and tasks a mean, by which the depth is filled.
 *
 * An event loop is made here for the session that the other phases use; the program runs its turns
 * itself, in the two parts that loop.h names. libevent's share is included.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/counts.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/session_private.h"
#include "proto/message.h"
#include "proto/sentence.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/output.h"
#include "server/policy/principals.h"

enum { ROUNDS = 32, DEPTH_MAX = 16, REQUEST_MAX = 128, LANE_DEPTH_NS = 500000, MEAN_NS = 1000 };

struct server {
    struct knit_counts_lanes *lanes;
    struct knit_settings settings;
    struct knit_principals principals;
    struct knit_loops loops;
    struct knit_host_own_session session;
    struct knit_loop loop;
    int caller_fd;
    uint32_t depth; /* requests in one read */
    unsigned char requests[DEPTH_MAX * REQUEST_MAX];
    size_t request_len, response_len;
};

static void begin_depth(struct knit_session *session, uint32_t lanes, uint32_t task)
{
    session->options.depth_ns = LANE_DEPTH_NS;
    session->work_ns = calloc(lanes, sizeof(*session->work_ns));
    if (session->work_ns == NULL)
        knit_counts_fail("no depth");
    knit_board_note_mean(&session->board, task, MEAN_NS);
}

static void start(struct server *server, struct knit_counts_lanes *lanes)
{
    struct knit_loop *loop = &server->loop;
    struct knit_sentence why = {0};
    int fds[2];

    *server = (struct server){.lanes = lanes};
    if (knit_settings_init(&server->settings, &why) != 0 ||
        knit_principals_init(&server->principals) != 0)
        knit_counts_fail("no settings");
    server->settings.message_max_bytes = 1 << 20;
    server->settings.call_max_bytes = 1 << 20;
    server->loops = (struct knit_loops){.settings = &server->settings, .count = 1, .items = loop};
    server->session = (struct knit_host_own_session){.session = lanes->session,
        .reply = lanes->reply,
        .geometry = lanes->geometry,
        .bell_fd = -1};
    *loop = (struct knit_loop){
        .turn = {.settings = &server->settings, .principals = &server->principals},
        .all = &server->loops,
        .session = &server->session,
        .base = knit_loop_new_base()};
    if (loop->base == NULL ||
        knit_router_init(&loop->router, &loop->turn, loop->session,
            knit_modules_registry(lanes->modules)) != 0 ||
        knit_connections_init(&loop->net, &loop->turn, &loop->router, loop->base) != 0)
        knit_counts_fail("no event loop");
    knit_buffer_init(&loop->turn.scratch, 1 << 20);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0 ||
        knit_connection_open(&loop->net, knit_transport_plain(fds[0], false, NULL)) != 0)
        knit_counts_fail("no connection");
    server->caller_fd = fds[1];
    begin_depth(lanes->session, lanes->geometry.lanes, knit_counts_task(lanes, "echo"));
}

static void stop(struct server *server)
{
    struct knit_loop *loop = &server->loop;
    struct knit_connection *connection = TAILQ_FIRST(&loop->net.connections);

    knit_session_fill_lanes(server->lanes->session);
    knit_connection_close(connection);
    knit_connection_free(connection);
    knit_connections_fini(&loop->net);
    knit_router_fini(&loop->router);
    event_base_free(loop->base);
    knit_buffer_fini(&loop->turn.scratch);
    knit_principals_fini(&server->principals);
    knit_settings_fini(&server->settings);
    (void)close(server->caller_fd);
}

/* msgids count on in each read, as callers count; the number of digits stays. */
static void write_requests(
    struct server *server, uint32_t depth, const struct knit_options *options)
{
    struct knit_method method = {.name = knit_span_text("echo")};
    unsigned char room[REQUEST_MAX];
    struct knit_span params = knit_counts_params(room, 64);
    struct knit_buffer buffer;

    knit_buffer_init_fixed(&buffer, server->requests, sizeof(server->requests));
    for (uint32_t i = 0; i < depth; i++) {
        if (knit_message_put_request(&buffer, 70000 + i, &method, params, options) != 0)
            knit_counts_fail("a request does not fit");
    }
    server->depth = depth;
    server->request_len = buffer.len;
    /* The same value after a head of 8 bytes: [1, msgid, nil, value]. */
    server->response_len = depth * (8 + params.len - 1);
}

static void send_requests(void *arg)
{
    struct server *server = arg;

    if (send(server->caller_fd, server->requests, server->request_len, 0) !=
        (ssize_t)server->request_len)
        knit_counts_fail("requests cannot be sent");
}

static void route(void *arg)
{
    struct server *server = arg;

    (void)event_base_loop(server->loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    knit_session_flush(server->lanes->session);
}

static void run(void *arg)
{
    struct server *server = arg;

    knit_counts_lanes_turn(server->lanes, server->depth);
}

static void reply(void *arg)
{
    struct server *server = arg;
    struct knit_loop *loop = &server->loop;

    if (knit_router_turn(&loop->router) != server->depth)
        knit_counts_fail("outcomes are missing");
    knit_connections_flush(&loop->net);
}

static void receive_responses(void *arg)
{
    struct server *server = arg;
    unsigned char bytes[DEPTH_MAX * REQUEST_MAX];

    if (recv(server->caller_fd, bytes, sizeof(bytes), 0) != (ssize_t)server->response_len)
        knit_counts_fail("responses are missing");
}

#define SERVED(name, depth)                                                                        \
    KNIT_COUNTED(route_##name, route)                                                              \
    KNIT_COUNTED(reply_##name, reply)                                                              \
    static const struct knit_counts_phase phases_##name[] = {                                      \
        KNIT_COUNTS_BETWEEN(send_requests),                                                        \
        KNIT_COUNTS_PHASE(route_##name, route, depth),                                             \
        KNIT_COUNTS_BETWEEN(run),                                                                  \
        KNIT_COUNTS_PHASE(reply_##name, reply, depth),                                             \
        KNIT_COUNTS_BETWEEN(receive_responses),                                                    \
    };

SERVED(1, 1)
SERVED(16, 16)
SERVED(timeout_16, 16)
SERVED(tasks_65500, 1)

enum { STEPS = 5 };

#define TIMEOUT_NS UINT64_C(60000000000)

void knit_counts_server(struct knit_counts_lanes *lanes)
{
    struct knit_options options = knit_options();
    static struct server server;

    options.timeout_ns = TIMEOUT_NS;
    start(&server, lanes);
    write_requests(&server, 1, NULL);
    knit_counts_measure(phases_1, STEPS, ROUNDS, &server);
    write_requests(&server, 16, NULL);
    knit_counts_measure(phases_16, STEPS, ROUNDS, &server);
    write_requests(&server, 16, &options);
    knit_counts_measure(phases_timeout_16, STEPS, ROUNDS, &server);
    stop(&server);
}

void knit_counts_server_tasks(struct knit_counts_lanes *lanes)
{
    static struct server server;

    start(&server, lanes);
    write_requests(&server, 1, NULL);
    knit_counts_measure(phases_tasks_65500, STEPS, ROUNDS, &server);
    stop(&server);
}
