/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for each server, which sleeps in one poll(). Messages are read by the project's own
 * scanner, and answers are written at once. */
#include "tests/clients/fake_several.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/cancel.h"
#include "proto/failure.h"
#include "proto/goaway.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/scan.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 10000 };

struct knit_several several[KNIT_SEVERAL_MAX];
uint16_t several_port;
static uint32_t several_count;

static void add_one(_Atomic uint32_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- answers ---- */

static void send_out(const struct knit_several *server, uint32_t at, struct knit_buffer *out)
{
    if (out->len > 0)
        (void)send(server->connection[at].fd, out->bytes, out->len, MSG_NOSIGNAL);
    knit_buffer_fini(out);
}

static void put_number(struct knit_buffer *out, uint32_t msgid, uint32_t number)
{
    const uint8_t byte = (uint8_t)number;

    knit_message_put_response(out, msgid, knit_span(&byte, 1));
}

static void put_hello(const struct knit_several *server, struct knit_buffer *out, uint32_t msgid)
{
    char instance[32];
    struct knit_hello_reply reply = {
        .server = knit_span_text("fake"),
        .version = knit_span_text("1"),
        .protocol = KNIT_PROTOCOL_VERSION,
        .epoch = 1,
        .message_bytes = KNIT_MESSAGE_BYTES_DEFAULT,
        .depth = KNIT_DEPTH_MAX,
        .in_flight = 1024,
        .output_bytes = 4 * 1024 * 1024,
        .workers = server->workers,
    };

    (void)snprintf(instance, sizeof(instance), "%u.%u", server->number, server->life);
    reply.instance = knit_span_text(instance);
    reply.feature[reply.feature_count++] = knit_span_text("references");
    reply.feature[reply.feature_count++] = knit_span_text("key");
    knit_message_put_response_head(out, msgid);
    knit_hello_reply_put(out, &reply);
}

static void put_goaway(struct knit_buffer *out)
{
    const struct knit_method method = {.name = knit_span_text("$/goaway")};
    const struct knit_goaway goaway = {knit_span_text("enough"), 0};
    struct knit_buffer params;

    knit_buffer_init(&params, 256);
    (void)knit_goaway_put(&params, &goaway);
    (void)knit_message_put_notification(out, &method, knit_buffer_span(&params));
    knit_buffer_fini(&params);
}

static void put_first(struct knit_buffer *out, const struct knit_message *message)
{
    struct knit_walk walk;
    struct knit_item item;

    if (knit_walk_array(&walk, message->params) == 0 && knit_walk_next(&walk, &item) == 0)
        knit_message_put_response(out, message->msgid, item.raw);
    else
        knit_message_put_response(out, message->msgid, knit_span("\xc0", 1));
}

static void put_failure(struct knit_buffer *out, uint32_t msgid, uint32_t code)
{
    struct knit_failure failure = knit_failure(code, "as the test has it");

    failure.started = code == KNIT_OVERLOADED ? KNIT_STARTED_NO : KNIT_STARTED_UNKNOWN;
    knit_message_put_error(out, msgid, &failure, KNIT_FAILURE_FULL);
}

static void cancel(
    struct knit_several *server, const struct knit_message *message, struct knit_buffer *out)
{
    struct knit_span reason;
    uint32_t msgid, i = 0;

    if (!knit_cancel_decode(message->params, &msgid, &reason))
        return;
    add_one(&server->cancelled);
    while (i < server->held_count && server->held[i].msgid != msgid)
        i++;
    if (i == server->held_count)
        return;
    server->held[i] = server->held[--server->held_count];
    put_failure(out, msgid, KNIT_CANCELLED);
}

static void count_references(struct knit_several *server, const struct knit_message *message)
{
    struct knit_walk walk;
    struct knit_item item;

    if (knit_walk_array(&walk, message->params) != 0)
        return;
    while (knit_walk_next(&walk, &item) == 0)
        if (item.head.type == KNIT_HEAD_EXT && item.head.ext == KNIT_EXT_RESULT)
            add_one(&server->references);
}

static void put_tasks(struct knit_several *server, struct knit_buffer *out, uint32_t msgid,
    const struct knit_message *message)
{
    const char *types = atomic_load_explicit(&server->types, memory_order_relaxed);
    const bool is_paged = atomic_load_explicit(&server->is_paged, memory_order_relaxed);
    struct knit_task_entry entry = {.name = knit_span_text("where")};
    struct knit_tasks_query query;
    const char *reason;
    char signature[64], doc[16];

    if (is_paged && knit_tasks_query_decode(message->params, &query, &reason) == 0 &&
        query.after != KNIT_TASKS_FIRST)
        entry.id = query.after + 1;
    (void)snprintf(doc, sizeof(doc), "%u", server->number);
    entry.doc = knit_span_text(doc);

    (void)snprintf(signature, sizeof(signature), "where%s", types != NULL ? types : "() -> int");
    entry.signature = knit_span_text(signature);
    knit_message_put_response_head(out, msgid);
    knit_tasks_page_put_head(out, 1, is_paged && entry.id + 1 < KNIT_SEVERAL_PAGES, 1);
    knit_tasks_page_put_entry(out, &entry);
}

static void hold(struct knit_several *server, uint32_t at, uint32_t msgid)
{
    if (server->held_count < KNIT_SEVERAL_HELD)
        server->held[server->held_count++] = (struct knit_several_held){at, msgid};
}

static void handle(struct knit_several *server, uint32_t at, const struct knit_message *message)
{
    const struct knit_span name = message->method.name;
    const bool is_busy = atomic_load_explicit(&server->is_busy, memory_order_relaxed);
    const uint32_t hello_code = atomic_load_explicit(&server->hello_code, memory_order_relaxed);
    struct knit_buffer out;

    knit_buffer_init(&out, 1 << 20);
    count_references(server, message);
    if (!(name.len > 2 && memcmp(name.bytes, "$/", 2) == 0))
        add_one(&server->calls);
    if (knit_span_is(name, "$/hello") && hello_code != 0) {
        put_failure(&out, message->msgid, hello_code);
    } else if (knit_span_is(name, "$/hello")) {
        put_hello(server, &out, message->msgid);
    } else if (knit_span_is(name, "$/ping")) {
        add_one(&server->pings);
        if (!atomic_load_explicit(&server->is_unpinged, memory_order_relaxed))
            put_first(&out, message);
    } else if (knit_span_is(name, "$/tasks")) {
        put_tasks(server, &out, message->msgid, message);
        if (atomic_load_explicit(&server->leaves_when_asked, memory_order_relaxed))
            put_goaway(&out);
    } else if (knit_span_is(name, "$/cancel")) {
        cancel(server, message, &out);
    } else if (knit_span_is(name, "echo")) {
        put_first(&out, message);
    } else if (knit_span_is(name, "hold")) {
        hold(server, at, message->msgid);
    } else if (knit_span_is(name, "busy") && is_busy) {
        put_failure(&out, message->msgid, KNIT_OVERLOADED);
    } else if (message->kind == KNIT_MESSAGE_REQUEST) {
        put_number(&out, message->msgid, server->number);
    }
    send_out(server, at, &out);
}

/* ---- connections ---- */

static void end(struct knit_several *server, uint32_t at)
{
    uint32_t kept = 0;

    if (server->connection[at].fd < 0)
        return;
    close(server->connection[at].fd);
    server->connection[at].fd = -1;
    for (uint32_t i = 0; i < server->held_count; i++)
        if (server->held[i].connection != at)
            server->held[kept++] = server->held[i];
    server->held_count = kept;
    atomic_fetch_sub_explicit(&server->connections, 1, memory_order_relaxed);
}

static void receive(struct knit_several *server, uint32_t at)
{
    struct knit_several_connection *connection = &server->connection[at];
    ssize_t len = recv(connection->fd, connection->bytes + connection->len,
        sizeof(connection->bytes) - connection->len, 0);
    struct knit_message message;
    struct knit_scan scan;
    const char *reason;
    size_t used, begin = 0;

    if (len <= 0) {
        end(server, at);
        return;
    }
    connection->len += (uint32_t)len;
    for (;;) {
        knit_scan_init(&scan, NULL);
        if (knit_scan_feed(&scan, connection->bytes + begin, connection->len - begin, &used) !=
                KNIT_SCAN_E_DONE ||
            knit_message_parse(connection->bytes + begin, used, &scan, &message, &reason) != 0)
            break;
        handle(server, at, &message);
        begin += used;
    }
    connection->len -= (uint32_t)begin;
    memmove(connection->bytes, connection->bytes + begin, connection->len);
}

static void take(struct knit_several *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    uint32_t at = 0;

    while (at < KNIT_SEVERAL_CONNECTIONS && server->connection[at].fd >= 0)
        at++;
    if (fd < 0 || at == KNIT_SEVERAL_CONNECTIONS) {
        if (fd >= 0)
            close(fd);
        return;
    }
    server->connection[at].fd = fd;
    server->connection[at].len = 0;
    add_one(&server->connections);
    add_one(&server->accepted);
}

static void begin_listening(struct knit_several *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + server->number),
        .sin_port = htons(several_port)};
    socklen_t size = sizeof(address);
    const int on = 1;

    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(server->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    if (bind(server->listen_fd, (const struct sockaddr *)&address, size) != 0)
        fail_msg("127.0.0.%u:%u: %s", server->number + 1, several_port, strerror(errno));
    assert_int_equal(listen(server->listen_fd, 16), 0);
    assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&address, &size), 0);
    several_port = ntohs(address.sin_port);
}

/* ---- orders ---- */

static void drop(struct knit_several *server)
{
    for (uint32_t i = 0; i < KNIT_SEVERAL_CONNECTIONS; i++)
        end(server, i);
}

static void die(struct knit_several *server)
{
    close(server->listen_fd);
    server->listen_fd = -1;
    drop(server);
}

static void release(struct knit_several *server)
{
    for (uint32_t i = 0; i < server->held_count; i++) {
        struct knit_buffer out;

        knit_buffer_init(&out, 4096);
        put_number(&out, server->held[i].msgid, server->number);
        send_out(server, server->held[i].connection, &out);
    }
    server->held_count = 0;
}

static void say_goaway(const struct knit_several *server)
{
    for (uint32_t i = 0; i < KNIT_SEVERAL_CONNECTIONS; i++) {
        struct knit_buffer out;

        if (server->connection[i].fd < 0)
            continue;
        knit_buffer_init(&out, 4096);
        put_goaway(&out);
        send_out(server, i, &out);
    }
}

/* False: it ends. */
static bool obey(struct knit_several *server)
{
    const enum knit_several_order order =
        atomic_load_explicit(&server->order, memory_order_acquire);
    uint64_t count;

    (void)!read(server->order_fd, &count, sizeof(count));
    if (order == KNIT_SEVERAL_DIE)
        die(server);
    else if (order == KNIT_SEVERAL_DROP)
        drop(server);
    else if (order == KNIT_SEVERAL_LIVE)
        begin_listening(server);
    else if (order == KNIT_SEVERAL_RELEASE)
        release(server);
    else if (order == KNIT_SEVERAL_GOAWAY)
        say_goaway(server);
    server->life += order == KNIT_SEVERAL_LIVE;
    atomic_store_explicit(&server->order, KNIT_SEVERAL_NOTHING, memory_order_release);
    return order != KNIT_SEVERAL_END;
}

static void *run(void *arg)
{
    struct knit_several *server = arg;

    for (;;) {
        struct pollfd items[KNIT_SEVERAL_CONNECTIONS + 2] = {
            {.fd = server->order_fd, .events = POLLIN}};
        const bool is_deaf = atomic_load_explicit(&server->is_deaf, memory_order_relaxed);

        items[1] = (struct pollfd){.fd = is_deaf ? -1 : server->listen_fd, .events = POLLIN};
        for (uint32_t i = 0; i < KNIT_SEVERAL_CONNECTIONS; i++)
            items[i + 2] =
                (struct pollfd){.fd = is_deaf ? -1 : server->connection[i].fd, .events = POLLIN};
        if (poll(items, KNIT_SEVERAL_CONNECTIONS + 2, -1) < 0)
            continue;
        for (uint32_t i = 0; i < KNIT_SEVERAL_CONNECTIONS; i++)
            if (items[i + 2].revents != 0 && server->connection[i].fd >= 0)
                receive(server, i);
        if (items[1].revents != 0 && server->listen_fd >= 0)
            take(server);
        /* Behind what came before it. */
        if (items[0].revents != 0 && !obey(server))
            return NULL;
    }
}

/* ---- for tests ---- */

void knit_several_tell(uint32_t number, enum knit_several_order order)
{
    struct knit_several *server = &several[number];
    const uint64_t one = 1;

    atomic_store_explicit(&server->order, order, memory_order_release);
    assert_int_equal(write(server->order_fd, &one, sizeof(one)), sizeof(one));
    assert_true(KNIT_WAIT_UNTIL(
        atomic_load_explicit(&server->order, memory_order_acquire) == KNIT_SEVERAL_NOTHING,
        PATIENCE_MS));
}

void knit_several_start(uint32_t count, const uint64_t *workers)
{
    several_port = 0;
    several_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct knit_several *server = &several[i];

        memset(server, 0, sizeof(*server));
        server->number = i;
        server->workers = workers != NULL ? workers[i] : 1;
        for (uint32_t at = 0; at < KNIT_SEVERAL_CONNECTIONS; at++)
            server->connection[at].fd = -1;
        server->order_fd = eventfd(0, EFD_CLOEXEC);
        begin_listening(server);
        assert_int_equal(pthread_create(&server->thread, NULL, run, server), 0);
    }
}

void knit_several_stop(void)
{
    for (uint32_t i = 0; i < several_count; i++) {
        knit_several_tell(i, KNIT_SEVERAL_END);
        pthread_join(several[i].thread, NULL);
        if (several[i].listen_fd >= 0)
            close(several[i].listen_fd);
        for (uint32_t at = 0; at < KNIT_SEVERAL_CONNECTIONS; at++)
            end(&several[i], at);
        close(several[i].order_fd);
    }
    several_count = 0;
}

const char *knit_several_url(uint32_t count)
{
    static char url[256];
    size_t len = (size_t)snprintf(url, sizeof(url), "knit://");

    for (uint32_t i = 0; i < count; i++)
        len += (size_t)snprintf(
            url + len, sizeof(url) - len, "%s127.0.0.%u:%u", i > 0 ? "," : "", i + 1, several_port);
    return url;
}
