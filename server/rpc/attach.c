/* SPDX-License-Identifier: Apache-2.0 */
/* The response is encoded whole when the request comes, and kept with the descriptors until the
 * output is empty. With it go, in this order: board (read-only), request segment, reply segment
 * (read-only), bell.
 */
#include "server/rpc/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "proto/attach.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/output.h"

struct knit_attach {
    uint32_t msgid;
    struct knit_pool_grant grant;
    struct knit_buffer response;
};

static void refuse(
    struct knit_connection *connection, uint32_t msgid, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    knit_output_failure(connection, msgid, &failure);
}

/* NULL, or what is wrong with the params. */
static const char *read_request(struct knit_span params, struct knit_attach_request *ret_request)
{
    const char *reason;

    if (knit_attach_request_decode(params, ret_request, &reason) != 0)
        return reason;
    if (ret_request->version != KNIT_LAYOUT_VERSION)
        return "$/attach: the caller's library has another layout of shared memory than this "
               "daemon; install the same version of both";
    return NULL;
}

static int encode(struct knit_buffer *response, uint32_t msgid, const struct knit_pool_grant *grant)
{
    const struct knit_attach_reply reply = {
        .layout = grant->geometry.version,
        .id = grant->id,
        .lanes = grant->geometry.lanes,
        .slots = grant->geometry.slots,
        .cells = grant->geometry.cells,
        .request_arena_bytes = grant->geometry.request_arena_bytes,
        .reply_arena_bytes = grant->geometry.reply_arena_bytes,
        .call_max_bytes = grant->call_max_bytes,
        .steal = grant->steal,
    };

    (void)knit_message_put_response_head(response, msgid);
    return knit_attach_reply_put(response, &reply);
}

static void free_attach(struct knit_connection *connection)
{
    knit_pool_grant_close(&connection->attach->grant);
    knit_buffer_fini(&connection->attach->response);
    free(connection->attach);
    connection->attach = NULL;
}

/* The code of a pool that cannot give a session. */
static uint32_t code_of(int error)
{
    switch (error) {
    case KNIT_POOL_E_CLOSED:
        return KNIT_DRAINING;
    case KNIT_POOL_E_SIZE:
        return KNIT_BAD_ARGUMENT;
    case KNIT_POOL_E_SESSIONS:
    case KNIT_POOL_E_UID_SESSIONS:
    case KNIT_POOL_E_MEMORY:
        return KNIT_QUOTA;
    default:
        return KNIT_INTERNAL;
    }
}

/* NULL when the caller may attach to this connection. */
static const char *why_not(const struct knit_connection *connection)
{
    if (!knit_transport_passes_descriptors(&connection->transport))
        return "$/attach works on a unix socket alone: shared memory does not reach further";
    if (connection->session_id != 0)
        return "$/attach: this connection has a session already";
    if (!knit_access_may_attach(
            connection->loop->all->access, connection->transport.fd, &connection->peer))
        return "$/attach: this user may not call through shared memory; see attach_users and "
               "attach_groups of the daemon's configuration";
    return NULL;
}

static void attach(
    struct knit_connection *connection, uint32_t msgid, const struct knit_attach_request *request)
{
    struct knit_loop *loop = connection->loop;
    struct knit_pool_peer peer = {connection->peer.uid, connection->peer.gid, connection->peer.pid};
    uint32_t slots = request->slots > UINT32_MAX ? UINT32_MAX : (uint32_t)request->slots;
    struct knit_attach *made = calloc(1, sizeof(*made));
    int r;

    if (!made) {
        refuse(connection, msgid, KNIT_INTERNAL, "out of memory");
        return;
    }
    r = knit_pool_attach(loop->all->pool, &peer, slots, request->arena_bytes, &made->grant);
    if (r != 0) {
        free(made);
        refuse(connection, msgid, code_of(r), r > 0 ? knit_pool_reason(r) : strerror(-r));
        return;
    }
    made->msgid = msgid;
    connection->session_id = made->grant.id;
    connection->attach = made;
    knit_buffer_init(&made->response, 1024);
    if (encode(&made->response, msgid, &made->grant) != 0) {
        knit_connection_close(connection);
        return;
    }
    knit_connection_pause(connection, KNIT_PAUSE_ATTACH);
    knit_output_flush(connection);
}

void knit_attach_handle(struct knit_connection *connection, const struct knit_message *message)
{
    const char *reason;
    struct knit_attach_request request;

    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(&connection->loop->turn, notifications_dropped);
        return;
    }
    reason = why_not(connection);
    if (reason) {
        refuse(connection, message->msgid, KNIT_DENIED, reason);
        return;
    }
    reason = read_request(message->params, &request);
    if (reason)
        refuse(connection, message->msgid, KNIT_BAD_ARGUMENT, reason);
    else
        attach(connection, message->msgid, &request);
}

void knit_attach_confirm(struct knit_connection *connection, const struct knit_message *message)
{
    static const uint8_t nil = 0xc0;
    bool is_request = message->kind == KNIT_MESSAGE_REQUEST;
    int r;

    if (connection->session_id == 0) {
        if (is_request)
            refuse(connection, message->msgid, KNIT_DENIED,
                "$/attached: this connection has no session");
        else
            KNIT_COUNT(&connection->loop->turn, notifications_dropped);
        return;
    }
    r = knit_pool_attached(connection->loop->all->pool, connection->session_id);
    if (is_request && r != 0)
        refuse(connection, message->msgid, KNIT_DENIED, r > 0 ? knit_pool_reason(r) : strerror(-r));
    else if (is_request)
        knit_output_result(connection, message->msgid, knit_span(&nil, 1));
}

/* Callers that do not read keep descriptors on their way; that passes. */
static void take_back(struct knit_connection *connection)
{
    uint32_t msgid = connection->attach->msgid;

    (void)event_del(&connection->output_event);
    knit_attach_end(connection);
    refuse(connection, msgid, KNIT_OVERLOADED,
        "$/attach: too many descriptors of the daemon's user are on their way to other callers; "
        "try again");
    knit_connection_unpause(connection, KNIT_PAUSE_ATTACH);
}

void knit_attach_send(struct knit_connection *connection)
{
    struct knit_attach *attach = connection->attach;
    const int fds[KNIT_POOL_GRANT_FDS] = {attach->grant.board_fd, attach->grant.request_fd,
        attach->grant.reply_fd, attach->grant.bell_fd};
    struct knit_span response = knit_buffer_span(&attach->response);
    size_t sent;
    enum knit_transport_result result = connection->transport.ops->send_descriptors(
        &connection->transport, response, fds, KNIT_POOL_GRANT_FDS, &sent);

    if (result == KNIT_TRANSPORT_WANT_WRITE && event_add(&connection->output_event, NULL) == 0)
        return;
    if (result == KNIT_TRANSPORT_CROWDED) {
        take_back(connection);
        return;
    }
    if (result != KNIT_TRANSPORT_OK) {
        knit_connection_close(connection);
        return;
    }
    if (sent < response.len)
        knit_output_message(
            connection, knit_span((const uint8_t *)response.bytes + sent, response.len - sent));
    (void)event_del(&connection->output_event);
    free_attach(connection);
    knit_connection_unpause(connection, KNIT_PAUSE_ATTACH);
}

void knit_attach_end(struct knit_connection *connection)
{
    if (connection->attach)
        free_attach(connection);
    if (connection->session_id != 0)
        knit_pool_detach(connection->loop->all->pool, connection->session_id);
    connection->session_id = 0;
}
