/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a stream works over every kind of transport, also one that must read before it can send and
 * one that holds received bytes, as a kind that encrypts does. Method: a kind made of two scripts,
 * what the next operations answer; and the plain kind on a socket pair.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "fastpath/lane/bell.h"
#include "tests/support/deadline.h"
#include "tests/support/lingering.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* [1, msgid 1 << KNIT_STREAM_PLACE_BITS, nil, 7]: the answer to the first request of place 0. */
static const uint8_t answer[] = {0x94, 0x01, 0xcd, 0x40, 0x00, 0xc0, 0x07};
static const uint8_t no_params[] = {0x90};

static struct {
    enum knit_transport_result send, receive;
    const uint8_t *held; /* received bytes that the transport has not given out */
    size_t held_len;
    size_t most; /* bytes that one receive gives out */
    size_t sent;
    bool opens; /* a receive brings what a send waits for */
} script;

static enum knit_transport_result scripted_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    size_t len = script.held_len < script.most ? script.held_len : script.most;

    (void)transport;
    if (script.opens)
        script.send = KNIT_TRANSPORT_OK;
    if (script.receive != KNIT_TRANSPORT_OK)
        return script.receive;
    if (len == 0)
        return KNIT_TRANSPORT_WANT_READ;
    assert_true(len <= max);
    memcpy(room, script.held, len);
    script.held += len;
    script.held_len -= len;
    *ret_len = len;
    return KNIT_TRANSPORT_OK;
}

static enum knit_transport_result scripted_send(
    struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len)
{
    (void)bytes;
    if (script.send != KNIT_TRANSPORT_OK)
        return script.send;
    transport->unsent = 0;
    script.sent += len;
    *ret_len = len;
    return KNIT_TRANSPORT_OK;
}

static bool scripted_has_pending(const struct knit_transport *transport)
{
    (void)transport;
    return script.held_len != 0;
}

static void scripted_shut_down(struct knit_transport *transport)
{
    (void)transport;
}

static const struct knit_transport_kind scripted = {
    .receive = scripted_receive,
    .send = scripted_send,
    .has_pending = scripted_has_pending,
    .shut_down = scripted_shut_down,
};

static struct knit session;
static uint8_t alive;
static int other_fd;

static struct knit_stream *stream(void)
{
    return session.handles.stream;
}

/* A session over one end of a socket pair, whose other end stays silent. */
static int begin(void **state)
{
    struct knit_transport transport;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    other_fd = pair[1];
    memset(&script, 0, sizeof(script));
    alive = 1;
    session = (struct knit){.alive = &alive};
    knit_handles_init(&session.handles, &session, &alive);
    knit_poll_fd_init(&session.poll_fd);
    knit_transport_init_plain(&transport, pair[0]);
    assert_int_equal(knit_stream_init(stream(), &knit_handle_stream_callbacks, &transport, 10), 0);
    return 0;
}

static int begin_scripted(void **state)
{
    (void)begin(state);
    stream()->transport.kind = &scripted;
    return 0;
}

static int end(void **state)
{
    (void)state;
    knit_poll_fd_fini(&session.poll_fd);
    knit_stream_fini(stream());
    knit_handles_fini(&session.handles);
    close(other_fd);
    return 0;
}

static struct knit_handle *start(void)
{
    struct knit_handle *handle = knit_handle_new(&session.handles);

    assert_int_equal(
        knit_handle_start_on_stream(handle, "task", knit_span(no_params, sizeof(no_params)), NULL),
        KNIT_OK);
    return handle;
}

static void hold(const uint8_t *bytes, size_t len, size_t most)
{
    script.held = bytes;
    script.held_len = len;
    script.most = most;
}

/* ---- every kind ---- */

static void output_that_waits_for_input_does_not_wait_for_room(void **state)
{
    (void)state;
    (void)start();
    assert_true(knit_stream_wants_write(stream()));
    script.send = KNIT_TRANSPORT_WANT_READ;
    knit_stream_flush(stream());
    assert_true(knit_stream_has_output(stream()));
    assert_false(knit_stream_wants_write(stream()));
    script.send = KNIT_TRANSPORT_WANT_WRITE;
    knit_stream_flush(stream());
    assert_true(knit_stream_wants_write(stream()));
    script.send = KNIT_TRANSPORT_OK;
    knit_stream_flush(stream());
    assert_false(knit_stream_has_output(stream()));
    assert_false(knit_stream_wants_write(stream()));
}

static void input_may_wait_for_room(void **state)
{
    (void)state;
    script.receive = KNIT_TRANSPORT_WANT_WRITE;
    knit_stream_receive(stream());
    assert_true(knit_stream_is_open(stream()));
    assert_true(knit_stream_wants_write(stream()));
    script.receive = KNIT_TRANSPORT_WANT_READ;
    knit_stream_receive(stream());
    assert_false(knit_stream_wants_write(stream()));
}

/* The descriptor would not become readable for it again. */
static void output_that_waits_for_input_goes_when_that_has_come(void **state)
{
    (void)state;
    (void)start();
    script.send = KNIT_TRANSPORT_WANT_READ;
    knit_stream_flush(stream());
    assert_int_equal(script.sent, 0);
    script.opens = true;
    knit_stream_receive(stream());
    assert_false(knit_stream_has_output(stream()));
    assert_true(script.sent > 0);
}

static void bytes_that_the_transport_could_not_send_are_output(void **state)
{
    (void)state;
    stream()->transport.unsent = 5;
    script.send = KNIT_TRANSPORT_WANT_WRITE;
    knit_stream_flush(stream());
    assert_true(knit_stream_wants_write(stream()));
    script.send = KNIT_TRANSPORT_OK;
    knit_stream_flush(stream());
    assert_false(knit_stream_has_output(stream()));
    assert_false(knit_stream_wants_write(stream()));
}

/* Its answer to what is no TLS is an alert. */
static void a_server_that_speaks_tls_is_named(void **state)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 70};

    (void)state;
    hold(alert, sizeof(alert), sizeof(alert));
    knit_stream_receive(stream());
    assert_false(knit_stream_is_open(stream()));
    assert_non_null(strstr(stream()->reason, "knits://"));
    assert_int_equal(stream()->transport.refusal, KNIT_DISCONNECTED);
}

/* Each receive gives less than was asked for, which from a socket would mean that it is empty. */
static void held_bytes_are_read_to_their_end(void **state)
{
    struct knit_handle *handle = start();
    struct knit_span result;

    (void)state;
    knit_stream_flush(stream());
    hold(answer, sizeof(answer), 2);
    knit_stream_receive(stream());
    assert_int_equal(script.held_len, 0);
    assert_int_equal(knit_handle_outcome(handle, NULL, &result), KNIT_OK);
    assert_int_equal(result.len, 1);
    assert_int_equal(result.bytes[0], 7);
}

/* The descriptor never becomes readable: a sleep would not end. */
static void no_sleep_while_bytes_are_held(void **state)
{
    struct pollfd item = {.events = POLLIN};

    (void)state;
    hold(answer, sizeof(answer), 1);
    knit_stream_sleep(stream(), -1);
    item.fd = knit_fd(&session);
    assert_true(item.fd >= 0);
    assert_int_equal(poll(&item, 1, 10000), 1);
}

static void its_end_ends_the_stream(void **state)
{
    struct knit_handle *handle = start();
    struct knit_span result;
    struct knit_error error;

    (void)state;
    script.receive = KNIT_TRANSPORT_END;
    knit_stream_receive(stream());
    assert_int_equal(knit_handle_outcome(handle, &error, &result), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_string_equal(error.message, "the server closed the connection");
}

/* ---- the plain kind ---- */

static void a_socket_gives_bytes_then_its_end(void **state)
{
    struct knit_transport *transport = &stream()->transport;
    char room[8];
    size_t len = 0;

    (void)state;
    assert_int_equal(
        knit_transport_receive(transport, room, sizeof(room), &len), KNIT_TRANSPORT_WANT_READ);
    assert_int_equal(write(other_fd, "abc", 3), 3);
    assert_int_equal(
        knit_transport_receive(transport, room, sizeof(room), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(len, 3);
    assert_false(knit_transport_has_pending(transport));
    assert_int_equal(shutdown(other_fd, SHUT_RDWR), 0);
    assert_int_equal(
        knit_transport_receive(transport, room, sizeof(room), &len), KNIT_TRANSPORT_END);
    assert_int_equal(knit_transport_send(transport, "x", 1, &len), KNIT_TRANSPORT_BROKEN);
    assert_int_equal(transport->error, EPIPE);
}

/* Those that are wanted, beyond the room for them, and those that are not. */
static void descriptors_that_linger_make_nobody_wait(void **state)
{
    static const struct {
        bool wants_fds;
        int count;
    } cases[] = {{true, 1}, {true, 9}, {false, 1}, {false, 253}};
    struct knit_transport *transport = &stream()->transport;
    const int pass = 1;
    char room[8];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t by_ns = knit_deadline_in_ms(KNIT_LINGERING_S * 1000 / 2);
        int peer_fd, fd = knit_lingering_open(&peer_fd);

        knit_transport_want_fds(transport, cases[i].wants_fds);
        /* As before Linux 6.16. */
        (void)setsockopt(transport->fd, SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof(pass));
        assert_int_equal(knit_lingering_send(other_fd, fd, cases[i].count, 0), 1);
        close(fd);
        assert_int_equal(
            knit_transport_receive(transport, room, sizeof(room), &len), KNIT_TRANSPORT_OK);
        knit_transport_close_fds(transport);
        assert_true(knit_clock_ns() < by_ns);
        close(peer_fd);
    }
}

static void descriptors_are_refused_when_none_is_wanted(void **state)
{
    struct knit_transport *transport = &stream()->transport;
    const int pass = 1;
    char room[8];
    size_t len;

    (void)state;
    if (setsockopt(transport->fd, SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof(pass)) < 0)
        skip();
    knit_transport_want_fds(transport, false);
    assert_int_equal(knit_lingering_send(other_fd, other_fd, 1, 0), -1);
    assert_int_equal(errno, EPERM);
    knit_transport_want_fds(transport, true);
    assert_int_equal(knit_lingering_send(other_fd, other_fd, 1, 0), 1);
    assert_int_equal(
        knit_transport_receive(transport, room, sizeof(room), &len), KNIT_TRANSPORT_OK);
    assert_int_equal(transport->fds_count, 1);
    knit_transport_close_fds(transport);
}

#define SCRIPTED(test) cmocka_unit_test_setup_teardown(test, begin_scripted, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPTED(output_that_waits_for_input_does_not_wait_for_room),
        SCRIPTED(output_that_waits_for_input_goes_when_that_has_come),
        SCRIPTED(bytes_that_the_transport_could_not_send_are_output),
        SCRIPTED(a_server_that_speaks_tls_is_named),
        SCRIPTED(input_may_wait_for_room),
        SCRIPTED(held_bytes_are_read_to_their_end),
        SCRIPTED(no_sleep_while_bytes_are_held),
        SCRIPTED(its_end_ends_the_stream),
        cmocka_unit_test_setup_teardown(a_socket_gives_bytes_then_its_end, begin, end),
        cmocka_unit_test_setup_teardown(descriptors_that_linger_make_nobody_wait, begin, end),
        cmocka_unit_test_setup_teardown(descriptors_are_refused_when_none_is_wanted, begin, end),
    };

    return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
