/* SPDX-License-Identifier: Apache-2.0 */
/* The plain transport's results, and the rule of pending bytes with a transport that holds some: it
 * takes all that its socket has in one go, as a library does that decrypts, so that epoll has
 * nothing to report while messages are still to be read.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <knitting/code.h>

#include "server/net/closer.h"
#include "server/net/lookahead.h"
#include "server/net/transport.h"
#include "tests/server/turns.h"
#include "tests/support/lingering.h"

/* ---- plain ---- */

static void open_pair(struct knit_transport *transport, bool is_unix, int *ret_peer)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *transport = knit_transport_plain(fds[0], is_unix, NULL);
    *ret_peer = fds[1];
}

static void receiving_has_four_results(void **state)
{
    struct knit_transport transport;
    char bytes[8];
    size_t len = 99;
    int peer;

    (void)state;
    open_pair(&transport, false, &peer);
    assert_int_equal(
        knit_transport_receive(&transport, bytes, sizeof(bytes), &len), KNIT_TRANSPORT_WANT_READ);
    assert_int_equal(len, 0);
    assert_int_equal(send(peer, "0123456789", 10, 0), 10);
    assert_int_equal(
        knit_transport_receive(&transport, bytes, sizeof(bytes), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, 8);
    assert_memory_equal(bytes, "01234567", 8);
    assert_int_equal(
        knit_transport_receive(&transport, bytes, sizeof(bytes), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, 2);
    close(peer);
    assert_int_equal(
        knit_transport_receive(&transport, bytes, sizeof(bytes), &len), KNIT_TRANSPORT_END);
    transport.ops->close(&transport);
    assert_int_equal(transport.fd, -1);
    assert_int_equal(
        knit_transport_receive(&transport, bytes, sizeof(bytes), &len), KNIT_TRANSPORT_BROKEN);
}

static void sending_tells_how_much_went(void **state)
{
    struct evbuffer *output = evbuffer_new();
    struct knit_transport transport;
    char *bytes = calloc(1, 1 << 20);
    size_t sent, total = 0;
    int peer;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    open_pair(&transport, false, &peer);
    assert_int_equal(evbuffer_add(output, "ab", 2), 0);
    assert_int_equal(knit_transport_send(&transport, output, &sent), KNIT_TRANSPORT_OK);
    assert_int_equal(sent, 2);
    assert_int_equal(evbuffer_add(output, bytes, 1 << 20), 0);
    while (knit_transport_send(&transport, output, &sent) == KNIT_TRANSPORT_OK)
        total += sent;
    assert_int_equal(total + evbuffer_get_length(output), 1 << 20);
    assert_true(evbuffer_get_length(output) > 0);
    assert_int_equal(knit_transport_send(&transport, output, &sent), KNIT_TRANSPORT_WANT_WRITE);
    assert_int_equal(sent, 0);
    transport.ops->shut_down(&transport);
    assert_int_equal(knit_transport_send(&transport, output, &sent), KNIT_TRANSPORT_BROKEN);
    assert_int_equal(sent, 0);
    transport.ops->close(&transport);
    close(peer);
    evbuffer_free(output);
    free(bytes);
}

static void sending_one_piece_tells_how_much_went(void **state)
{
    enum { LEN = 1 << 20 };
    struct knit_transport transport;
    char *bytes = calloc(1, LEN);
    enum knit_transport_result result;
    size_t sent;
    int peer;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    open_pair(&transport, false, &peer);
    assert_int_equal(
        knit_transport_send_bytes(&transport, knit_span("ab", 2), &sent), KNIT_TRANSPORT_OK);
    assert_int_equal(sent, 2);
    do {
        result = knit_transport_send_bytes(&transport, knit_span(bytes, LEN), &sent);
        assert_int_equal(sent > 0, result == KNIT_TRANSPORT_OK);
        assert_true(sent < LEN);
    } while (result == KNIT_TRANSPORT_OK);
    assert_int_equal(result, KNIT_TRANSPORT_WANT_WRITE);
    transport.ops->shut_down(&transport);
    assert_int_equal(
        knit_transport_send_bytes(&transport, knit_span(bytes, LEN), &sent), KNIT_TRANSPORT_BROKEN);
    assert_int_equal(sent, 0);
    transport.ops->close(&transport);
    close(peer);
    free(bytes);
}

static void a_unix_socket_passes_descriptors_and_knows_its_peer(void **state)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char text[KNIT_ENDPOINT_TEXT_MAX], own[64], byte[4];
    struct iovec part = {byte, sizeof(byte)};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    struct knit_transport transport;
    struct ucred credentials;
    size_t sent;
    int peer, fd;

    (void)state;
    open_pair(&transport, false, &peer);
    assert_false(knit_transport_passes_descriptors(&transport));
    transport.ops->close(&transport);
    close(peer);

    open_pair(&transport, true, &peer);
    assert_true(knit_transport_passes_descriptors(&transport));
    assert_int_equal(knit_transport_send_descriptors(
                         &transport, knit_span_text("yes"), (int[]){STDERR_FILENO}, 1, &sent),
        KNIT_TRANSPORT_OK);
    assert_int_equal(sent, 3);
    assert_int_equal(recvmsg(peer, &message, 0), 3);
    assert_non_null(CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    assert_true(fd > STDERR_FILENO);
    close(fd);
    assert_int_equal(knit_transport_credentials(&transport, &credentials), 0);
    assert_int_equal(credentials.uid, geteuid());
    assert_int_equal(credentials.pid, getpid());
    assert_int_equal(knit_transport_address(&transport, text), 0);
    (void)snprintf(own, sizeof(own), "uid:%u,pid:%d", (unsigned)getuid(), (int)getpid());
    assert_string_equal(text, own);
    transport.ops->close(&transport);
    assert_true(knit_transport_credentials(&transport, &credentials) < 0);
    assert_true(knit_transport_address(&transport, text) < 0);
    close(peer);
}

/* Sent in the moment after it was looked and nothing was there; -1: nothing is. */
static int late_peer = -1;

/* In place of the library's, which the transport calls to look. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t n = syscall(SYS_recvmsg, fd, message, flags);

    if (n < 0 && errno == EAGAIN && late_peer >= 0) {
        assert_int_equal(knit_lingering_send(late_peer, late_peer, 1, 0), 1);
        errno = EAGAIN;
    }
    return n;
}

static void descriptors_that_come_behind_the_look_are_not_taken(void **state)
{
    struct knit_transport transport;
    struct knit_closer closer;
    char bytes[8];
    size_t len;
    int fds[2];

    (void)state;
    assert_int_equal(knit_closer_start(&closer, 2), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    transport = knit_transport_plain(fds[0], true, &closer);
    late_peer = fds[1];
    assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_WANT_READ);
    late_peer = -1;
    assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_GIFT);
    transport.ops->close(&transport);
    close(fds[1]);
    knit_closer_stop(&closer);
}

static void descriptors_that_come_are_not_taken(void **state)
{
    static const int flags[] = {0, MSG_OOB};
    struct knit_transport transport;
    struct knit_closer closer;
    char bytes[8];
    size_t len;
    int peer;

    (void)state;
    assert_int_equal(knit_closer_start(&closer, 2), 0);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        int fds[2];

        assert_int_equal(
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
        transport = knit_transport_plain(fds[0], true, &closer);
        peer = fds[1];
        assert_int_equal(
            knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_WANT_READ);
        assert_int_equal(send(peer, "0123456789", 10, 0), 10);
        assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_OK);
        assert_int_equal(len, 8);
        assert_memory_equal(bytes, "01234567", 8);
        assert_int_equal(knit_lingering_send(peer, peer, 1, flags[i]), 1);
        /* Out-of-band bytes are read by themselves. */
        if (flags[i] != 0)
            assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_OK);
        assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_GIFT);
        assert_int_equal(knit_transport_receive(&transport, bytes, 8, &len), KNIT_TRANSPORT_GIFT);
        assert_int_equal(len, 0);
        transport.ops->close(&transport);
        assert_int_equal(transport.fd, -1);
        assert_int_equal(send(peer, "x", 1, MSG_NOSIGNAL), -1);
        close(peer);
    }
    knit_closer_stop(&closer);
}

/* ---- bytes that are held ---- */

/* One at a time: there is no room for it in struct knit_transport. */
static struct {
    uint8_t bytes[256 * 1024];
    size_t begin, end;
    size_t most; /* handed out at a time */
    unsigned receives;
} held;

static bool pending(const struct knit_transport *transport)
{
    (void)transport;
    return held.end > held.begin;
}

static enum knit_transport_result receive_held(
    struct knit_transport *transport, void *room, size_t size, size_t *ret_len)
{
    size_t len = size < held.most ? size : held.most;
    ssize_t n;

    held.receives++;
    *ret_len = 0;
    if (held.begin == held.end)
        held.begin = held.end = 0;
    n = recv(transport->fd, held.bytes + held.end, sizeof(held.bytes) - held.end, 0);
    if (n > 0)
        held.end += (size_t)n;
    if (held.begin == held.end)
        return n == 0 ? KNIT_TRANSPORT_END : KNIT_TRANSPORT_WANT_READ;
    if (len > held.end - held.begin)
        len = held.end - held.begin;
    memcpy(room, held.bytes + held.begin, len);
    held.begin += len;
    *ret_len = len;
    return KNIT_TRANSPORT_OK;
}

static struct knit_transport_ops holding_ops;

/* A connection with such a transport, which hands out `most` bytes at a time. */
static struct turns_caller *connect_holding(size_t most)
{
    struct turns_caller *caller = turns_connect();

    holding_ops = *caller->connection->transport.ops;
    holding_ops.receive = receive_held;
    holding_ops.pending = pending;
    caller->connection->transport.ops = &holding_ops;
    memset(&held, 0, sizeof(held));
    held.most = most;
    return caller;
}

static void what_a_transport_holds_is_read_without_an_event(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = connect_holding(7);
    assert_true(turns_request(caller, "$/ping", 1, 1, 20, NULL));
    turns_expect(caller, 20);
    assert_int_equal(pending(NULL), 0);
}

/* Paused with bytes pending: they are read when the pause is over, and not before. */
static void who_unpauses_with_pending_bytes_is_ready(void **state)
{
    struct turns_caller *caller;

    (void)state;
    caller = connect_holding(64);
    assert_true(turns_request(caller, "$/ping", 1, 1, 2, NULL));
    held.end = (size_t)recv(caller->connection->transport.fd, held.bytes, sizeof(held.bytes), 0);
    knit_net_pause(caller->connection, KNIT_PAUSE_OUTPUT);
    (void)turns_turn();
    assert_int_equal(held.receives, 0);
    knit_caller_unpause(&caller->connection->caller, KNIT_PAUSE_OUTPUT);
    assert_true(caller->connection->lists & KNIT_IN_READY);
    turns_expect(caller, 2);
}

/* The same when it has yielded to others, or waits for slots and looks ahead for a cancel. */
static void who_yields_with_pending_bytes_is_ready(void **state)
{
    const struct knit_method cancel = {.name = knit_span_text("$/cancel")};
    struct turns_caller *caller;
    struct knit_buffer buffer;

    (void)state;
    turns.settings.in_flight_max = 2;
    caller = connect_holding(100);
    turns_notify(caller, "nobody", 3000);
    TURNS_UNTIL(knit_counter_read(&turns.loop.turn.counters.notifications_dropped) == 3000);
    assert_true(turns_request(caller, "gate", 1, 1, 10, NULL));
    knit_buffer_init(&buffer, 256);
    assert_int_equal(
        knit_message_put_request(&buffer, 100, &cancel, knit_span("\x91\x0a", 2), NULL), 0);
    assert_int_equal(send(caller->fd, buffer.bytes, buffer.len, 0), (ssize_t)buffer.len);
    knit_buffer_fini(&buffer);
    /* Call 10 waits behind others and is answered at once all the same. */
    turns_expect(caller, 1);
    assert_int_equal(caller->msgid, 10);
    assert_int_equal(caller->code, KNIT_CANCELLED);
    assert_int_equal(pending(NULL), 0);
    turns_open_gate();
    turns_expect(caller, 11);
}

/* It goes on with bytes pending, needs the budget of a silent connection, and so ends that one,
 * which is ready as well: the list of those that are ready stays whole. */
static void who_goes_on_may_end_another_that_is_ready(void **state)
{
    static const uint8_t head[] = {
        0x94, 0, 1, 0xa4, 'e', 'c', 'h', 'o', 0x91, 0xc6, 0, 0x0d, 0xbb, 0xa0};
    static const uint8_t zeros[16 * 1024];
    struct turns_caller *caller, *silent, *other;
    struct knit_connection_list *ready = &turns.loop.net.ready;
    struct knit_connection *last;

    (void)state;
    turns.settings.input_max_bytes = 4 * turns.settings.message_max_bytes;
    other = turns_connect();
    silent = turns_connect();
    assert_int_equal(send(silent->fd, head, sizeof(head), 0), sizeof(head));
    TURNS_UNTIL(send(silent->fd, zeros, sizeof(zeros), MSG_NOSIGNAL) != 0 &&
                silent->connection->input.charged_bytes > 0);
    caller = connect_holding(64 * 1024);
    assert_true(turns_request(caller, "echo", 100000, 1, 1, NULL));
    held.end = (size_t)recv(caller->connection->transport.fd, held.bytes, sizeof(held.bytes), 0);
    assert_true(held.end > 100000);
    knit_net_add_ready(caller->connection);
    while (knit_counter_read(&turns.loop.turn.counters.inputs_dropped) == 0) {
        assert_true(caller->connection->lists & KNIT_IN_READY);
        silent->connection->input.progress_ns = 0;
        knit_net_add_ready(silent->connection);
        knit_turn_tick(&turns.loop.turn);
        knit_connections_resume_ready(&turns.loop.net);
    }
    knit_net_add_ready(other->connection);
    for (last = TAILQ_FIRST(ready); last != NULL && TAILQ_NEXT(last, in_ready) != NULL;)
        last = TAILQ_NEXT(last, in_ready);
    assert_ptr_equal(last, other->connection);
    turns_expect(caller, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receiving_has_four_results),
        cmocka_unit_test(sending_tells_how_much_went),
        cmocka_unit_test(sending_one_piece_tells_how_much_went),
        cmocka_unit_test(a_unix_socket_passes_descriptors_and_knows_its_peer),
        cmocka_unit_test(descriptors_that_come_are_not_taken),
        cmocka_unit_test(descriptors_that_come_behind_the_look_are_not_taken),
        TURNS_TEST(what_a_transport_holds_is_read_without_an_event),
        TURNS_TEST(who_unpauses_with_pending_bytes_is_ready),
        TURNS_TEST(who_yields_with_pending_bytes_is_ready),
        TURNS_TEST(who_goes_on_may_end_another_that_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
