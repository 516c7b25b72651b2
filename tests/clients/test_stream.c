/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a session writes into its stream agrees with the outcomes it gave to its caller, also
 * when the server reads slowly. Method: a session on one end of a socket pair, of whose other end
 * the test reads as much as it wants; nothing waits, and the clock is an argument.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "proto/writer.h"

enum { FILLER_BYTES = 1024 * 1024 };

static struct knit session;
static uint8_t alive;
static int server_fd;
static uint8_t filler[FILLER_BYTES];
static struct knit_scan scan;
static uint8_t received[4 * FILLER_BYTES];
static size_t received_len;

static int begin(void **state)
{
    struct knit_transport transport;
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    server_fd = pair[1];
    alive = 1;
    received_len = 0;
    session = (struct knit){.alive = &alive};
    knit_handles_init(&session.handles, &session, &alive);
    knit_poll_fd_init(&session.poll_fd);
    knit_transport_init_plain(&transport, pair[0]);
    assert_int_equal(
        knit_stream_init(session.handles.stream, &knit_handle_stream_callbacks, &transport, 200),
        0);
    knit_scan_init(&scan, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    knit_stream_fini(session.handles.stream);
    knit_handles_fini(&session.handles);
    close(server_fd);
    return 0;
}

static struct knit_handle *start(const char *method, const void *argument, size_t len)
{
    struct knit_handle *handle = knit_handle_new(&session.handles);
    struct knit_buffer params;
    struct knit_writer writer;

    knit_buffer_init(&params, 2 * FILLER_BYTES);
    knit_writer_init(&writer, &params);
    knit_writer_array(&writer, 1);
    knit_writer_bin(&writer, argument, len);
    assert_int_equal(knit_writer_end(&writer), 0);
    assert_int_equal(
        knit_handle_start_on_stream(handle, method, knit_buffer_span(&params), NULL), KNIT_OK);
    knit_buffer_fini(&params);
    return handle;
}

static struct knit_handle *start_until(const char *method, uint64_t deadline_ns)
{
    struct knit_handle *handle = start(method, "x", 1);

    knit_handle_set_deadline(handle, deadline_ns);
    return handle;
}

/* Receives that many more bytes of what the session sends, or fewer when there are no more. */
static void receive(size_t more)
{
    while (more > 0) {
        ssize_t n;

        knit_stream_flush(session.handles.stream);
        n = recv(server_fd, received + received_len, more, MSG_DONTWAIT);
        if (n <= 0)
            return;
        received_len += (size_t)n;
        more -= (size_t)n;
    }
}

/* Receives everything that the session has to send, and lists the methods in it. */
static void read_methods(char *names, size_t size)
{
    size_t names_len = 0, begin_at = 0, fed = 0;

    names[0] = '\0';
    receive(sizeof(received) - received_len);
    while (fed < received_len) {
        struct knit_message message;
        const char *reason;
        size_t used;

        assert_int_equal(
            knit_scan_feed(&scan, received + fed, received_len - fed, &used), KNIT_SCAN_E_DONE);
        fed += used;
        assert_int_equal(
            knit_message_parse(received + begin_at, scan.used, &scan, &message, &reason), 0);
        names_len += (size_t)snprintf(names + names_len, size - names_len, "%.*s ",
            (int)message.method.name.len, (const char *)message.method.name.bytes);
        assert_true(names_len < size);
        begin_at = fed;
        knit_scan_reset(&scan);
    }
}

/* ---- what is not sent ---- */

static void what_expires_unsent_is_never_sent(void **state)
{
    struct knit_handle *first, *second, *third;
    struct knit_span result;
    struct knit_error error;
    uint32_t taken;
    char names[200];

    (void)state;
    start("filler", filler, FILLER_BYTES);
    knit_stream_flush(session.handles.stream);
    first = start_until("first", 1000);
    start("between", "y", 1);
    second = start_until("second", 2000);
    third = start_until("third", 1000);
    start("last", "z", 1);
    taken = session.handles.stream->places_taken;
    knit_handles_expire(&session.handles, 1000 + KNIT_STREAM_GRACE_MS * UINT64_C(1000000));
    knit_handles_expire(&session.handles, 2000 + KNIT_STREAM_GRACE_MS * UINT64_C(1000000));
    assert_int_equal(knit_handle_outcome(first, &error, &result), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_handle_outcome(second, &error, &result), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_handle_outcome(third, &error, &result), KNIT_TIMEOUT);
    assert_int_equal(session.handles.stream->places_taken, taken - 3);
    read_methods(names, sizeof(names));
    assert_string_equal(names, "filler between last ");
}

static void what_expires_half_sent_may_run(void **state)
{
    struct knit_handle *half = start("half", filler, FILLER_BYTES);
    struct knit_span result;
    struct knit_error error;
    char names[200];

    (void)state;
    knit_handle_set_deadline(half, 1000);
    knit_stream_flush(session.handles.stream);
    assert_true(knit_stream_is_unsent(session.handles.stream, half->slot));
    knit_handles_expire(&session.handles, 1000 + KNIT_STREAM_GRACE_MS * UINT64_C(1000000));
    assert_int_equal(knit_handle_outcome(half, &error, &result), KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    read_methods(names, sizeof(names));
    assert_string_equal(names, "half $/cancel ");
}

static void what_is_freed_unsent_is_never_sent(void **state)
{
    char names[200];

    (void)state;
    start("filler", filler, FILLER_BYTES);
    knit_stream_flush(session.handles.stream);
    knit_free(start("freed", "x", 1));
    start("kept", "y", 1);
    read_methods(names, sizeof(names));
    assert_string_equal(names, "filler kept ");
}

/* ---- what is sent ---- */

static void what_is_freed_in_flight_is_cancelled_at_once(void **state)
{
    struct knit_handle *handle = start("freed", "x", 1);
    char names[200];

    (void)state;
    knit_stream_flush(session.handles.stream);
    knit_free(handle);
    assert_false(knit_stream_has_output(session.handles.stream));
    read_methods(names, sizeof(names));
    assert_string_equal(names, "freed $/cancel ");
}

/* The server reads each time as much as was added, so there is always more to send. */
static void a_socket_that_never_drains_costs_no_memory(void **state)
{
    enum { ROUNDS = 100 };
    size_t most = 0;

    (void)state;
    start("filler", filler, FILLER_BYTES);
    for (int i = 0; i < ROUNDS; i++) {
        start("filler", filler, FILLER_BYTES / 2);
        received_len = 0;
        receive(FILLER_BYTES / 2);
        assert_true(knit_stream_has_output(session.handles.stream));
        if (session.handles.stream->out.capacity > most)
            most = session.handles.stream->out.capacity;
    }
    assert_true(most <= 8 * FILLER_BYTES);
}

static void requests_are_found_where_they_were_moved_to(void **state)
{
    struct knit_handle *late;
    char names[200];

    (void)state;
    start("first", filler, FILLER_BYTES);
    start("second", filler, FILLER_BYTES / 2);
    late = start_until("late", 1000);
    start("last", "x", 1);
    receive(FILLER_BYTES);
    assert_true(session.handles.stream->out.len < FILLER_BYTES);
    knit_handles_expire(&session.handles, 1000 + KNIT_STREAM_GRACE_MS * UINT64_C(1000000));
    assert_int_equal(late->started, KNIT_STARTED_NO);
    read_methods(names, sizeof(names));
    assert_string_equal(names, "first second last ");
}

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(what_expires_unsent_is_never_sent),
        WITH_SESSION(what_expires_half_sent_may_run),
        WITH_SESSION(what_is_freed_unsent_is_never_sent),
        WITH_SESSION(what_is_freed_in_flight_is_cancelled_at_once),
        WITH_SESSION(a_socket_that_never_drains_costs_no_memory),
        WITH_SESSION(requests_are_found_where_they_were_moved_to),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
