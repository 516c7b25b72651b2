/* SPDX-License-Identifier: Apache-2.0 */
/* One thread, blocking calls, and an eventfd that ends it: the simplest server there can be, so
 * that what a test sees is the client's doing. Requests are parsed with the project's own scanner,
 * which has tests of its own; answers are gathered in a buffer and sent after each read.
 */
#include "tests/clients/fake_server.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/segment.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "tests/support/scratch.h"

static void answer_hello(struct knit_fake *fake, uint32_t msgid)
{
    const struct knit_hello_reply reply = {
        .server = knit_span_text("fake"),
        .version = knit_span_text("1"),
        .protocol = fake->protocol != 0 ? fake->protocol : KNIT_PROTOCOL_VERSION,
        .epoch = 1,
        .message_bytes = KNIT_MESSAGE_BYTES_DEFAULT,
        .depth = KNIT_DEPTH_MAX,
        .in_flight = fake->in_flight != 0 ? fake->in_flight : 1024,
        .output_bytes = KNIT_OUTPUT_BYTES_DEFAULT,
    };

    knit_message_put_response_head(&fake->out, msgid);
    knit_hello_reply_put(&fake->out, &reply);
}

/* Three tasks, two a page. */
static void answer_tasks(struct knit_fake *fake, const struct knit_message *message)
{
    static const char *const names[] = {"a", "b", "c"};
    struct knit_tasks_query query = {.after = KNIT_TASKS_FIRST};
    const char *reason;
    uint64_t id;
    uint32_t count;

    (void)knit_tasks_query_decode(message->params, &query, &reason);
    id = query.after == KNIT_TASKS_FIRST ? 0 : query.after + 1;
    count = id < 2 ? 2 - (uint32_t)id : 1;
    knit_message_put_response_head(&fake->out, message->msgid);
    knit_tasks_page_put_head(&fake->out, 1, id + count < 3, count);
    for (; count > 0; count--, id++) {
        char signature[32];
        struct knit_task_entry entry = {.id = id, .name = knit_span_text(names[id])};

        snprintf(signature, sizeof(signature), "%s(x: int) -> int", names[id]);
        entry.signature = knit_span_text(signature);
        entry.timeout_ms = id * 100;
        knit_tasks_page_put_entry(&fake->out, &entry);
    }
}

static void put_uint(struct knit_writer *writer, const char *key, uint64_t value)
{
    knit_writer_text(writer, key);
    knit_writer_uint(writer, value);
}

static int make_segment(const struct knit_fake *fake, uint64_t bytes, bool is_unsealed)
{
    int fd = -1;

    if (fake->attach == KNIT_FAKE_ATTACH_SHORT)
        bytes -= KNIT_PAGE;
    if (fake->attach == KNIT_FAKE_ATTACH_PIPES)
        return eventfd(0, EFD_CLOEXEC);
    if (fake->attach == KNIT_FAKE_ATTACH_UNSEALED) {
        fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    } else if (is_unsealed && fake->attach != KNIT_FAKE_ATTACH_CLOSED) {
        assert_int_equal(knit_segment_create_unsealed("fake", bytes, &fd), 0);
    } else {
        assert_int_equal(knit_segment_create("fake", bytes, &fd), 0);
    }
    return fd;
}

static void forget_segments(struct knit_fake *fake)
{
    knit_segment_unmap(&fake->reply);
    if (fake->bell_fd >= 0)
        close(fake->bell_fd);
    if (fake->request_fd >= 0)
        close(fake->request_fd);
    fake->bell_fd = fake->request_fd = -1;
    fake->is_attached = false;
}

static void make_fds(struct knit_fake *fake, const struct knit_geometry *geometry)
{
    int pair[2];

    if (fake->attach == KNIT_FAKE_ATTACH_NO_FDS)
        return;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fake->fds[0] = make_segment(fake, knit_layout_board_bytes(geometry->lanes), false);
    fake->fds[1] = make_segment(fake, knit_layout_request_bytes(geometry), true);
    fake->fds[2] = make_segment(
        fake, knit_layout_reply_bytes(geometry), fake->attach == KNIT_FAKE_ATTACH_LOOSE);
    if (fake->attach == KNIT_FAKE_ATTACH_GOOD) {
        fake->bell_fd = pair[0];
        assert_int_equal(knit_segment_reopen_readonly(fake->fds[1], &fake->request_fd), 0);
        assert_int_equal(
            knit_segment_map(fake->fds[2], knit_layout_reply_bytes(geometry), true, &fake->reply),
            0);
    } else {
        close(pair[0]);
    }
    fake->geometry = *geometry;
    fake->fds[3] = pair[1];
    if (fake->attach == KNIT_FAKE_ATTACH_BELL) {
        close(pair[1]);
        fake->fds[3] = eventfd(0, EFD_CLOEXEC);
    }
    fake->fds_count = fake->attach == KNIT_FAKE_ATTACH_FEW_FDS ? 3 : 4;
    if (fake->fds_count == 3)
        close(pair[1]);
    while (fake->attach == KNIT_FAKE_ATTACH_MANY_FDS && fake->fds_count < 7)
        fake->fds[fake->fds_count++] = eventfd(0, EFD_CLOEXEC);
}

static void answer_attach(struct knit_fake *fake, uint32_t msgid)
{
    struct knit_geometry geometry = {
        .version = KNIT_LAYOUT_VERSION,
        .lanes = 2,
        .slots = 16,
        .cells = knit_geometry_cells(16),
        .request_arena_bytes = 1 << 20,
        .reply_arena_bytes = 1 << 20,
    };
    struct knit_writer writer;

    forget_segments(fake);
    make_fds(fake, &geometry);
    if (fake->attach == KNIT_FAKE_ATTACH_LAYOUT)
        geometry.version++;
    if (fake->attach == KNIT_FAKE_ATTACH_GEOMETRY)
        geometry.cells = 3;
    knit_message_put_response_head(&fake->out, msgid);
    knit_writer_init(&writer, &fake->out);
    knit_writer_map(&writer, fake->attach == KNIT_FAKE_ATTACH_KEYS ? 4 : 8);
    put_uint(&writer, "layout", geometry.version);
    put_uint(&writer, "lanes", geometry.lanes);
    put_uint(&writer, "slots", geometry.slots);
    put_uint(&writer, "cells", geometry.cells);
    if (fake->attach != KNIT_FAKE_ATTACH_KEYS) {
        put_uint(&writer, "request_arena", geometry.request_arena_bytes);
        put_uint(&writer, "reply_arena", geometry.reply_arena_bytes);
        put_uint(&writer, "payload_max", 1 << 17);
        knit_writer_text(&writer, "steal");
        knit_writer_bool(&writer, true);
    }
    assert_int_equal(knit_writer_end(&writer), 0);
}

static void answer_first(struct knit_fake *fake, const struct knit_message *message)
{
    struct knit_walk walk;
    struct knit_item item;

    if (knit_walk_array(&walk, message->params) == 0 && knit_walk_next(&walk, &item) == 0)
        knit_message_put_response(&fake->out, message->msgid, item.raw);
    else
        knit_message_put_response(&fake->out, message->msgid, knit_span("\xc0", 1));
}

static void answer_failure(struct knit_fake *fake, uint32_t msgid)
{
    struct knit_buffer error;

    knit_buffer_init(&error, 4096);
    knit_failure_put_task(
        &error, 42, knit_span_text("it was asked to"), knit_span("\x93\x01\x02\x03", 4));
    knit_message_put_error_raw(&fake->out, msgid, knit_buffer_span(&error), KNIT_FAILURE_FULL);
    knit_buffer_fini(&error);
}

/* An error whose code the caller chose. */
static void answer_code(struct knit_fake *fake, const struct knit_message *message)
{
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "that code");
    struct knit_walk walk;
    struct knit_item item;
    uint64_t code;

    if (knit_walk_array(&walk, message->params) == 0 && knit_walk_next(&walk, &item) == 0 &&
        knit_item_uint(&item, &code))
        failure.code = (uint32_t)code;
    knit_message_put_error(&fake->out, message->msgid, &failure, KNIT_FAILURE_FULL);
}

static void cancel(struct knit_fake *fake, const struct knit_message *message)
{
    struct knit_walk walk;
    struct knit_item item;
    uint64_t msgid;

    if (knit_walk_array(&walk, message->params) != 0 || knit_walk_next(&walk, &item) != 0 ||
        !knit_item_uint(&item, &msgid))
        return;
    for (uint32_t i = 0; i < fake->held_count; i++) {
        if (fake->held[i] == msgid) {
            const struct knit_failure failure = knit_failure(KNIT_CANCELLED, "cancelled");

            fake->held[i] = fake->held[--fake->held_count];
            knit_message_put_error(&fake->out, (uint32_t)msgid, &failure, KNIT_FAILURE_FULL);
            return;
        }
    }
}

static void release(struct knit_fake *fake, const struct knit_message *message)
{
    knit_message_put_response(&fake->out, message->msgid, knit_span("\xc0", 1));
    while (fake->held_count > 0)
        knit_message_put_response(&fake->out, fake->held[--fake->held_count], knit_span("\xc3", 1));
}

/* False: close. */
static bool handle(struct knit_fake *fake, const struct knit_message *message)
{
    struct knit_span name = message->method.name;
    uint32_t msgid = message->msgid;
    uint8_t number[] = {0x00};

    if (message->kind == KNIT_MESSAGE_NOTIFICATION) {
        fake->notifications++;
        if (knit_span_is(name, "$/cancel"))
            cancel(fake, message);
        if (knit_span_is(name, "$/attached"))
            fake->is_attached = knit_segment_is_sealed(fake->request_fd);
        return true;
    }
    if (knit_span_is(name, "$/hello"))
        answer_hello(fake, msgid);
    else if (knit_span_is(name, "$/attach") && fake->attach != KNIT_FAKE_SILENT)
        answer_attach(fake, msgid);
    else if (knit_span_is(name, "$/tasks"))
        answer_tasks(fake, message);
    else if (knit_span_is(name, "echo") || knit_span_is(name, "$/ping"))
        answer_first(fake, message);
    else if (knit_span_is(name, "params"))
        knit_message_put_response(&fake->out, msgid, message->params);
    else if (knit_span_is(name, "hold") && fake->held_count < KNIT_FAKE_HELD_MAX)
        fake->held[fake->held_count++] = msgid;
    else if (knit_span_is(name, "release"))
        release(fake, message);
    else if (knit_span_is(name, "fail"))
        answer_failure(fake, msgid);
    else if (knit_span_is(name, "code"))
        answer_code(fake, message);
    else if (knit_span_is(name, "garbage"))
        knit_buffer_append(&fake->out, "\xc1\xc1\xc1", 3);
    else if (knit_span_is(name, "close"))
        return false;
    else if (knit_span_is(name, "stats") || knit_span_is(name, "$/stats")) {
        number[0] = (uint8_t)(fake->notifications & 0x7f);
        knit_message_put_response(&fake->out, msgid, knit_span(number, 1));
    } else if (knit_span_is(name, "twice")) {
        knit_message_put_response(&fake->out, msgid, knit_span("\x01", 1));
        knit_message_put_response(&fake->out, msgid, knit_span("\x02", 1));
    }
    return true;
}

static bool send_with_fds(struct knit_fake *fake)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(KNIT_FAKE_FDS_MAX * sizeof(int))] = {0};
    struct iovec part = {fake->out.bytes, fake->out.len};
    size_t bytes = (size_t)fake->fds_count * sizeof(int);
    struct msghdr header = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE(bytes)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&header);
    bool is_sent;

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(head), fake->fds, bytes);
    is_sent = sendmsg(fake->fd, &header, MSG_NOSIGNAL) == (ssize_t)fake->out.len;
    while (fake->fds_count > 0)
        close(fake->fds[--fake->fds_count]);
    knit_buffer_reset(&fake->out);
    return is_sent;
}

static bool send_out(struct knit_fake *fake)
{
    size_t sent = 0;

    if (fake->fds_count > 0)
        return send_with_fds(fake);
    while (sent < fake->out.len) {
        size_t part = fake->drips ? 1 : fake->out.len - sent;
        ssize_t n = send(fake->fd, fake->out.bytes + sent, part, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    knit_buffer_reset(&fake->out);
    return true;
}

static bool may_go_on(struct knit_fake *fake, int fd)
{
    bool is_deaf = atomic_load_explicit(&fake->is_deaf, memory_order_relaxed);
    struct pollfd items[] = {
        {.fd = is_deaf && fd == fake->fd ? -1 : fd, .events = POLLIN},
        {.fd = fake->stop_fd, .events = POLLIN},
    };

    while (poll(items, 2, -1) < 0)
        ;
    return items[1].revents == 0;
}

static void serve(struct knit_fake *fake)
{
    struct knit_scan scan;
    static uint8_t bytes[16 * 1024 * 1024];
    size_t len = 0, fed = 0, begin = 0;

    knit_scan_init(&scan, NULL);
    while (may_go_on(fake, fake->fd)) {
        ssize_t n = recv(fake->fd, bytes + len, sizeof(bytes) - len, 0);

        if (n <= 0)
            return;
        len += (size_t)n;
        while (fed < len) {
            struct knit_message message;
            const char *reason;
            size_t used;
            int r = knit_scan_feed(&scan, bytes + fed, len - fed, &used);

            fed += used;
            if (r == 0)
                break;
            if (r != KNIT_SCAN_E_DONE ||
                knit_message_parse(bytes + begin, scan.used, &scan, &message, &reason) != 0 ||
                !handle(fake, &message))
                return;
            begin = fed;
            knit_scan_reset(&scan);
        }
        if (fed == len && begin == len)
            begin = fed = len = 0;
        if (!send_out(fake))
            return;
    }
}

static void *thread_main(void *arg)
{
    struct knit_fake *fake = arg;

    while (may_go_on(fake, fake->listen_fd)) {
        fake->fd = accept(fake->listen_fd, NULL, NULL);
        serve(fake);
        close(fake->fd);
        fake->held_count = 0;
        knit_buffer_reset(&fake->out);
    }
    return NULL;
}

void knit_fake_start(struct knit_fake *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *fake =
        (struct knit_fake){.fd = -1, .bell_fd = -1, .request_fd = -1, .dir = knit_scratch_new()};
    snprintf(fake->url, sizeof(fake->url), "unix://%s/s", fake->dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", fake->dir);
    fake->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fake->stop_fd = eventfd(0, EFD_CLOEXEC);
    knit_buffer_init(&fake->out, 64 * 1024 * 1024);
    assert_int_equal(bind(fake->listen_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fake->listen_fd, 8), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, thread_main, fake), 0);
}

void knit_fake_stop(struct knit_fake *fake)
{
    uint64_t one = 1;

    assert_int_equal(write(fake->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(fake->thread, NULL);
    close(fake->listen_fd);
    close(fake->stop_fd);
    knit_buffer_fini(&fake->out);
    forget_segments(fake);
    fake->dir = knit_scratch_free(fake->dir);
}
