/* SPDX-License-Identifier: Apache-2.0 */
/* One thread, blocking calls, and an eventfd that ends it: the simplest server there can be, so
 * that what a test sees is the client's doing. Requests are read by the project's own scanner and
 * answers written by its own structures, which have tests of their own; answers are gathered in a
 * buffer and sent after each read.
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

#include "fastpath/lane/clock.h"
#include "fastpath/lane/segment.h"
#include "proto/attach.h"
#include "proto/cancel.h"
#include "proto/failure.h"
#include "proto/goaway.h"
#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/tasks.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "tests/support/scratch.h"

struct knit_fake fake;

static void answer_nil(uint32_t msgid)
{
    knit_message_put_response(&fake.out, msgid, knit_span("\xc0", 1));
}

/* The first of the message's params. */
static bool first_param(const struct knit_message *message, struct knit_item *ret_item)
{
    struct knit_walk walk;

    return knit_walk_array(&walk, message->params) == 0 && knit_walk_next(&walk, ret_item) == 0;
}

/* ---- what the protocol names ---- */

/* As a result so many bytes, of which none comes. */
static void begin_answer(uint32_t msgid, uint32_t bytes)
{
    const uint8_t head[] = {0xc6, (uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16),
        (uint8_t)(bytes >> 8), (uint8_t)bytes};

    knit_message_put_response_head(&fake.out, msgid);
    (void)knit_buffer_append(&fake.out, head, sizeof(head));
}

static void answer_hello(const struct knit_message *message)
{
    struct knit_hello_reply reply = {
        .server = knit_span_text("fake"),
        .version = knit_span_text("1"),
        .protocol = fake.protocol != 0 ? fake.protocol : KNIT_PROTOCOL_VERSION,
        .epoch = 1,
        .message_bytes = KNIT_MESSAGE_BYTES_DEFAULT,
        .depth = KNIT_DEPTH_MAX,
        .in_flight = fake.in_flight != 0 ? fake.in_flight : 1024,
        .output_bytes = 4 * 1024 * 1024,
    };

    if (fake.hello_bytes != 0) {
        begin_answer(message->msgid, fake.hello_bytes);
        return;
    }
    if (fake.takes_references)
        reply.feature[reply.feature_count++] = knit_span_text("references");
    if (fake.takes_keys)
        reply.feature[reply.feature_count++] = knit_span_text("key");
    if (fake.instance != NULL)
        reply.instance = knit_span_text(fake.instance);
    knit_message_put_response_head(&fake.out, message->msgid);
    knit_hello_reply_put(&fake.out, &reply);
}

/* Three tasks, two a page. */
static void answer_tasks(const struct knit_message *message)
{
    static const char *const names[] = {"a", "b", "c"};
    const uint32_t moved = atomic_load_explicit(&fake.epoch_more, memory_order_relaxed);
    const char *types = atomic_load_explicit(&fake.types, memory_order_relaxed);
    struct knit_tasks_query query = {.after = KNIT_TASKS_FIRST};
    const char *reason;
    uint64_t id;
    uint32_t count;

    if (knit_tasks_query_decode(message->params, &query, &reason) != 0)
        abort();
    id = query.after == KNIT_TASKS_FIRST ? 0 : query.after + 1;
    if (id == 0)
        atomic_fetch_add_explicit(&fake.tasks_asked, 1, memory_order_relaxed);
    count = id < 2 ? 2 - (uint32_t)id : 1;
    knit_message_put_response_head(&fake.out, message->msgid);
    knit_tasks_page_put_head(&fake.out, 1 + moved, id + count < 3, count);
    for (; count > 0; count--, id++) {
        char signature[128];
        const char *name = names[(id + moved) % 3];
        struct knit_task_entry entry = {.id = id, .name = knit_span_text(name)};

        snprintf(
            signature, sizeof(signature), "%s%s", name, types != NULL ? types : "(x: int) -> int");
        entry.signature = knit_span_text(signature);
        entry.flags = fake.flags;
        entry.timeout_ms = id * (fake.timeout_ms != 0 ? fake.timeout_ms : 20000);
        knit_tasks_page_put_entry(&fake.out, &entry);
    }
}

/* ---- `$/attach` ---- */

static void forget_segments(void)
{
    knit_segment_unmap(&fake.reply);
    if (fake.bell_fd >= 0)
        close(fake.bell_fd);
    if (fake.request_fd >= 0)
        close(fake.request_fd);
    fake.bell_fd = fake.request_fd = -1;
    fake.is_attached = false;
}

static int make_fd(enum knit_fake_fd kind, uint64_t bytes)
{
    int fd = -1, pair[2];

    switch (kind) {
    case KNIT_FAKE_RIGHT:
        break;
    case KNIT_FAKE_SEALED:
        assert_int_equal(knit_segment_create("fake", bytes, &fd), 0);
        break;
    case KNIT_FAKE_UNSEALED:
        assert_int_equal(knit_segment_create_unsealed("fake", bytes, &fd), 0);
        break;
    case KNIT_FAKE_RESIZABLE:
        fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
        break;
    case KNIT_FAKE_BELL:
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        if (fake.bell_fd >= 0)
            close(fake.bell_fd);
        fake.bell_fd = pair[0];
        fd = pair[1];
        break;
    case KNIT_FAKE_EVENTFD:
        fd = eventfd(0, EFD_CLOEXEC);
        break;
    case KNIT_FAKE_HOST:
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        break;
    }
    return fd;
}

static void make_fds(void)
{
    static const enum knit_fake_fd right[] = {
        KNIT_FAKE_SEALED, KNIT_FAKE_UNSEALED, KNIT_FAKE_SEALED, KNIT_FAKE_BELL};
    const struct knit_fake_attach *how = &fake.attach;
    const uint64_t bytes[] = {knit_layout_board_bytes(fake.geometry.lanes),
        knit_layout_request_bytes(&fake.geometry), knit_layout_reply_bytes(&fake.geometry), 0};

    for (int i = 0; i < 4; i++)
        fake.fds[i] = make_fd(
            how->fds[i] != KNIT_FAKE_RIGHT ? how->fds[i] : right[i], bytes[i] - how->missing_bytes);
    if (how->fds[1] == KNIT_FAKE_RIGHT)
        assert_int_equal(knit_segment_reopen_readonly(fake.fds[1], &fake.request_fd), 0);
    if (how->fds[2] == KNIT_FAKE_RIGHT && how->missing_bytes == 0)
        assert_int_equal(knit_segment_map(fake.fds[2], bytes[2], true, &fake.reply), 0);
    for (fake.fds_count = 4; fake.fds_count < 4 + how->more_fds; fake.fds_count++)
        fake.fds[fake.fds_count] =
            make_fd(how->host != KNIT_FAKE_RIGHT ? how->host : KNIT_FAKE_HOST, 0);
    while (fake.fds_count > 4 + how->more_fds)
        close(fake.fds[--fake.fds_count]);
}

/* A map that says the layout's version and nothing else. */
static void put_version_alone(uint64_t version)
{
    struct knit_writer writer;

    knit_writer_init(&writer, &fake.out);
    knit_writer_map(&writer, 1);
    knit_writer_member_uint(&writer, "layout", version);
    assert_int_equal(knit_writer_end(&writer), 0);
}

static uint64_t next_clock(void)
{
    if (fake.attach.clocks == NULL)
        return KNIT_ATTACH_UNUSABLE;
    return knit_clock_difference() + (uint64_t)fake.attach.clocks[fake.clocks_said++];
}

static void answer_attach(const struct knit_message *message)
{
    struct knit_geometry *geometry = &fake.geometry;
    struct knit_attach_reply reply;

    if (!fake.attaches)
        return;
    forget_segments();
    *geometry = (struct knit_geometry){
        .version = KNIT_LAYOUT_VERSION,
        .lanes = 2,
        .slots = 16,
        .cells = knit_geometry_cells(16),
        .features = KNIT_FEATURES,
        .classes = KNIT_CLASSES_MAX,
        .request_arena_bytes = 1 << 20,
        .reply_arena_bytes = 1 << 20,
    };
    make_fds();
    fake.clocks_said = 0;
    reply = (struct knit_attach_reply){
        .layout = geometry->version + fake.attach.more_version,
        .lanes = geometry->lanes,
        .slots = geometry->slots,
        .cells = fake.attach.cells != 0 ? fake.attach.cells : geometry->cells,
        .features = geometry->features & ~fake.attach.fewer_features,
        .classes = geometry->classes,
        .request_arena_bytes = geometry->request_arena_bytes,
        .reply_arena_bytes = geometry->reply_arena_bytes,
        .call_max_bytes = 1 << 17,
        .steal = true,
        .asks_host = fake.attach.asks_host,
        .clock = next_clock(),
    };
    knit_message_put_response_head(&fake.out, message->msgid);
    if (fake.attach.lacks_keys)
        put_version_alone(reply.layout);
    else
        assert_int_equal(knit_attach_reply_put(&fake.out, &reply), 0);
}

/* ---- what the method's name decides ---- */

static void answer_first(const struct knit_message *message)
{
    struct knit_item item;

    if (first_param(message, &item))
        knit_message_put_response(&fake.out, message->msgid, item.raw);
    else
        answer_nil(message->msgid);
}

static void announce(const struct knit_message *message)
{
    struct knit_item item;
    uint64_t bytes;

    if (first_param(message, &item) && knit_item_uint(&item, &bytes))
        begin_answer(message->msgid, (uint32_t)bytes);
}

static void answer_params(const struct knit_message *message)
{
    knit_message_put_response(&fake.out, message->msgid, message->params);
}

static void answer_failure(const struct knit_message *message)
{
    struct knit_buffer error;

    knit_buffer_init(&error, 4096);
    knit_failure_put_task(
        &error, 42, knit_span_text("it was asked to"), knit_span("\x93\x01\x02\x03", 4));
    knit_message_put_error_raw(
        &fake.out, message->msgid, knit_buffer_span(&error), KNIT_FAILURE_FULL);
    knit_buffer_fini(&error);
}

/* An error whose code the caller chose. */
static void answer_code(const struct knit_message *message)
{
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "that code");
    struct knit_item item;
    uint64_t code;

    if (first_param(message, &item) && knit_item_uint(&item, &code))
        failure.code = (uint32_t)code;
    knit_message_put_error(&fake.out, message->msgid, &failure, KNIT_FAILURE_FULL);
}

static void answer_or_fail(const struct knit_message *message)
{
    atomic_fetch_add_explicit(&fake.attempts, 1, memory_order_relaxed);
    if (fake.closes > 0) {
        fake.closes--;
        fake.is_over = true;
        return;
    }
    if (fake.failures == 0) {
        answer_first(message);
        return;
    }
    fake.failures--;
    knit_message_put_error(&fake.out, message->msgid, &fake.failure, KNIT_FAILURE_FULL);
}

static void answer_twice(const struct knit_message *message)
{
    knit_message_put_response(&fake.out, message->msgid, knit_span("\x01", 1));
    knit_message_put_response(&fake.out, message->msgid, knit_span("\x02", 1));
}

static void answer_garbage(const struct knit_message *message)
{
    (void)message;
    knit_buffer_append(&fake.out, "\xc1\xc1\xc1", 3);
}

static void answer_notifications(const struct knit_message *message)
{
    const uint8_t number = (uint8_t)(fake.notifications & 0x7f);

    knit_message_put_response(&fake.out, message->msgid, knit_span(&number, 1));
}

static void hold(const struct knit_message *message)
{
    if (fake.held_count < KNIT_FAKE_HELD_MAX)
        fake.held[fake.held_count++] = message->msgid;
}

static void release(const struct knit_message *message)
{
    answer_nil(message->msgid);
    while (fake.held_count > 0)
        answer_nil(fake.held[--fake.held_count]);
}

/* ---- sums ---- */

/* That of the one which the argument refers to. */
static int64_t sum_meant(const struct knit_item *item)
{
    struct knit_head head;

    assert_int_equal(knit_head_read(item->body.bytes, item->body.len, &head), 0);
    for (uint32_t i = fake.sums_count; i-- > 0;) {
        if (fake.sums[i].msgid == head.value)
            return fake.sums[i].sum;
    }
    fail_msg("request %u has not come", (unsigned)head.value);
    return 0;
}

static void answer_sums(void)
{
    for (uint32_t i = 0; i < fake.sums_count; i++) {
        struct knit_fake_sum *sum = &fake.sums[i];
        struct knit_writer writer;

        if (sum->is_answered)
            continue;
        sum->is_answered = true;
        knit_message_put_response_head(&fake.out, sum->msgid);
        knit_writer_init(&writer, &fake.out);
        knit_writer_int(&writer, sum->sum);
        assert_int_equal(knit_writer_end(&writer), 0);
    }
}

static void take_sum(const struct knit_message *message)
{
    struct knit_fake_sum *sum = &fake.sums[fake.sums_count];
    struct knit_walk walk;
    struct knit_item item;

    assert_true(fake.sums_count < KNIT_FAKE_SUMS_MAX);
    *sum = (struct knit_fake_sum){.msgid = message->msgid};
    assert_int_equal(knit_walk_array(&walk, message->params), 0);
    while (knit_walk_next(&walk, &item) == 0) {
        uint64_t value = 0;

        if (item.head.type == KNIT_HEAD_EXT && item.head.ext == KNIT_EXT_RESULT) {
            atomic_fetch_add_explicit(&fake.references_come, 1, memory_order_relaxed);
            value = (uint64_t)sum_meant(&item);
        } else {
            assert_true(knit_item_uint(&item, &value));
        }
        sum->sum += (int64_t)value;
    }
    atomic_fetch_add_explicit(&fake.sums_come, 1, memory_order_relaxed);
    if (++fake.sums_count >= fake.sums_wanted)
        answer_sums();
}

static void refuse_sum(const struct knit_message *message)
{
    struct knit_failure failure = knit_failure(KNIT_DEPENDENCY, "that is over");

    if (fake.refusals == 0) {
        take_sum(message);
        return;
    }
    fake.refusals--;
    atomic_fetch_add_explicit(&fake.sums_come, 1, memory_order_relaxed);
    answer_sums();
    fake.sums_wanted = 1;
    failure.unknown = fake.sums[0].msgid;
    knit_message_put_error(&fake.out, message->msgid, &failure, KNIT_FAILURE_FULL);
}

/* What no `$/tasks` lists a library that has lanes asks for here. */
static void refuse_unknown(const struct knit_message *message)
{
    struct knit_failure failure = knit_failure(KNIT_UNKNOWN_TASK, "there is no task 'nosuch'");

    knit_message_put_error(&fake.out, message->msgid, &failure, KNIT_FAILURE_FULL);
}

static void end_connection(const struct knit_message *message)
{
    (void)message;
    fake.is_over = true;
}

static void say_goaway(const struct knit_message *message)
{
    const struct knit_method method = {.name = knit_span_text("$/goaway")};
    const struct knit_goaway goaway = {knit_span_text("enough"), 0};
    struct knit_buffer params;

    answer_first(message);
    knit_buffer_init(&params, 256);
    assert_int_equal(knit_goaway_put(&params, &goaway), 0);
    assert_int_equal(
        knit_message_put_notification(&fake.out, &method, knit_buffer_span(&params)), 0);
    knit_buffer_fini(&params);
    fake.is_left = fake.goes_on;
}

static void cancel(const struct knit_message *message)
{
    const struct knit_failure failure = knit_failure(KNIT_CANCELLED, "cancelled");
    struct knit_span reason;
    uint32_t msgid, i = 0;

    if (!knit_cancel_decode(message->params, &msgid, &reason))
        return;
    while (i < fake.held_count && fake.held[i] != msgid)
        i++;
    if (i == fake.held_count)
        return;
    fake.held[i] = fake.held[--fake.held_count];
    knit_message_put_error(&fake.out, msgid, &failure, KNIT_FAILURE_FULL);
}

static void note_attached(const struct knit_message *message)
{
    fake.is_attached = knit_segment_is_sealed(fake.request_fd);
    if (message->kind != KNIT_MESSAGE_REQUEST)
        return;
    knit_message_put_response_head(&fake.out, message->msgid);
    assert_int_equal(knit_attached_reply_put(&fake.out, next_clock()), 0);
}

/* ---- messages ---- */

/* Calls of other methods get no answer. */
static const struct {
    const char *method;
    void (*handle)(const struct knit_message *message);
} handlers[] = {
    {"$/attach", answer_attach},
    {"$/attached", note_attached},
    {"$/cancel", cancel},
    {"$/hello", answer_hello},
    {"$/ping", answer_first},
    {"$/stats", answer_notifications},
    {"$/tasks", answer_tasks},
    {"a", answer_first},
    {"b", answer_code},
    {"announce", announce},
    {"c", answer_or_fail},
    {"close", end_connection},
    {"code", answer_code},
    {"echo", answer_first},
    {"fail", answer_failure},
    {"garbage", answer_garbage},
    {"goaway", say_goaway},
    {"hold", hold},
    {"params", answer_params},
    {"refused", refuse_sum},
    {"nosuch", refuse_unknown},
    {"release", release},
    {"sum", take_sum},
    {"twice", answer_twice},
};

static void handle(const struct knit_message *message)
{
    fake.notifications += message->kind == KNIT_MESSAGE_NOTIFICATION;
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (knit_span_is(message->method.name, handlers[i].method))
            handlers[i].handle(message);
    }
}

static bool send_with_fds(void)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(KNIT_FAKE_FDS_MAX * sizeof(int))] = {0};
    struct iovec part = {fake.out.bytes, fake.out.len};
    size_t bytes = (size_t)fake.fds_count * sizeof(int);
    struct msghdr header = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE(bytes)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&header);
    bool is_sent;

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(head), fake.fds, bytes);
    is_sent = sendmsg(fake.fd, &header, MSG_NOSIGNAL) == (ssize_t)fake.out.len;
    while (fake.fds_count > 0)
        close(fake.fds[--fake.fds_count]);
    knit_buffer_reset(&fake.out);
    return is_sent;
}

static bool send_out(void)
{
    size_t sent = 0;

    if (fake.fds_count > 0)
        return send_with_fds();
    while (sent < fake.out.len) {
        size_t part = fake.drips ? 1 : fake.out.len - sent;
        ssize_t n = send(fake.fd, fake.out.bytes + sent, part, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    knit_buffer_reset(&fake.out);
    return true;
}

static bool may_go_on(int fd)
{
    bool is_deaf = atomic_load_explicit(&fake.is_deaf, memory_order_relaxed);
    struct pollfd items[] = {
        {.fd = is_deaf && fd == fake.fd ? -1 : fd, .events = POLLIN},
        {.fd = fake.stop_fd, .events = POLLIN},
    };

    while (poll(items, 2, -1) < 0)
        ;
    return items[1].revents == 0;
}

static void serve(void)
{
    struct knit_scan scan;
    static uint8_t bytes[16 * 1024 * 1024];
    size_t len = 0, fed = 0, begin = 0;

    knit_scan_init(&scan, NULL);
    while (may_go_on(fake.fd)) {
        ssize_t n = recv(fake.fd, bytes + len, sizeof(bytes) - len, 0);

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
                knit_message_parse(bytes + begin, scan.used, &scan, &message, &reason) != 0)
                return;
            handle(&message);
            if (fake.is_over)
                return;
            begin = fed;
            knit_scan_reset(&scan);
        }
        if (fed == len && begin == len)
            begin = fed = len = 0;
        if (!send_out() || fake.is_left)
            return;
    }
}

static void leave(void)
{
    fake.left_fd = fake.fd;
    memcpy(fake.left_held, fake.held, sizeof(fake.held));
    fake.left_held_count = fake.held_count;
}

static void *thread_main(void *arg)
{
    (void)arg;
    while (may_go_on(fake.listen_fd)) {
        fake.fd = accept(fake.listen_fd, NULL, NULL);
        serve();
        if (fake.is_left)
            leave();
        else
            close(fake.fd);
        fake.is_over = fake.is_left = false;
        fake.held_count = 0;
        fake.sums_count = 0;
        knit_buffer_reset(&fake.out);
    }
    return NULL;
}

/* ---- a test's server ---- */

int knit_fake_start(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)state;
    fake = (struct knit_fake){
        .fd = -1, .left_fd = -1, .bell_fd = -1, .request_fd = -1, .dir = knit_scratch_new()};
    snprintf(fake.url, sizeof(fake.url), "unix://%s/s", fake.dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", fake.dir);
    fake.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fake.stop_fd = eventfd(0, EFD_CLOEXEC);
    knit_buffer_init(&fake.out, 64 * 1024 * 1024);
    assert_int_equal(bind(fake.listen_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fake.listen_fd, 8), 0);
    assert_int_equal(pthread_create(&fake.thread, NULL, thread_main, NULL), 0);
    return 0;
}

void knit_fake_end_left(const char *result)
{
    struct knit_buffer out;

    knit_buffer_init(&out, 4096);
    for (uint32_t i = 0; i < fake.left_held_count; i++)
        knit_message_put_response(&out, fake.left_held[i], knit_span(result, 1));
    assert_int_equal(send(fake.left_fd, out.bytes, out.len, MSG_NOSIGNAL), out.len);
    knit_buffer_fini(&out);
    close(fake.left_fd);
    fake.left_fd = -1;
}

struct knit *knit_fake_open(const struct knit_open_options *options)
{
    struct knit_error error;
    struct knit *k = NULL;

    if (knit_open(fake.url, options, &k, &error) != KNIT_OK)
        fail_msg("%s", error.message);
    return k;
}

int knit_fake_stop(void **state)
{
    const uint64_t one = 1;

    (void)state;
    assert_int_equal(write(fake.stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(fake.thread, NULL);
    if (fake.left_fd >= 0)
        close(fake.left_fd);
    close(fake.listen_fd);
    close(fake.stop_fd);
    knit_buffer_fini(&fake.out);
    forget_segments();
    fake.dir = knit_scratch_free(fake.dir);
    return 0;
}
