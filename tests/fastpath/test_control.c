/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket and the pipe to the host: messages with their descriptors, and what is not a
 * message.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/control/control.h"

static void open_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void every_type_arrives_with_its_descriptors(void **state)
{
    int pair[2], fds[KNIT_CONTROL_FDS_MAX];

    (void)state;
    open_pair(pair);
    for (uint32_t type = 1; type < KNIT_CONTROL_TYPES; type++) {
        struct knit_control_message sent, received;
        int before = count_descriptors();

        knit_control_init(&sent, (enum knit_control_type)type);
        sent.attach.session = type * 1000u;
        memset(sent.text, 'x', sizeof(sent.text));
        fds[0] = fds[1] = fds[2] = fds[3] = pair[0];
        assert_int_equal(knit_control_send(pair[0], &sent, fds, true), 0);
        assert_int_equal(knit_control_receive(pair[1], &received, fds, true), 0);
        assert_int_equal(received.type, type);
        assert_int_equal(received.attach.session, type * 1000u);
        assert_int_equal(strlen(received.text), KNIT_CONTROL_TEXT_SIZE - 1);
        for (uint32_t i = 0; i < KNIT_CONTROL_FDS_MAX; i++) {
            assert_true((fds[i] >= 0) == (i < knit_control_fds(type)));
            if (fds[i] >= 0) {
                assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
                close(fds[i]);
            }
        }
        assert_int_equal(count_descriptors(), before);
    }
    close_pair(pair);
}

static void empty_full_and_closed_sockets_give_different_results(void **state)
{
    struct knit_control_message message;
    int pair[2], fds[KNIT_CONTROL_FDS_MAX], error;

    (void)state;
    open_pair(pair);
    assert_int_equal(knit_control_receive(pair[1], &message, fds, false), KNIT_CONTROL_E_AGAIN);
    knit_control_init(&message, KNIT_CONTROL_STOP);
    do
        error = knit_control_send(pair[0], &message, NULL, false);
    while (error == 0);
    assert_int_equal(error, KNIT_CONTROL_E_AGAIN);
    close(pair[1]);
    assert_int_equal(knit_control_send(pair[0], &message, NULL, true), KNIT_CONTROL_E_CLOSED);
    close(pair[0]);
    open_pair(pair);
    close(pair[0]);
    assert_int_equal(knit_control_receive(pair[1], &message, fds, true), KNIT_CONTROL_E_CLOSED);
    close(pair[1]);
}

/* Sends these bytes with so many descriptors. */
static void send_raw(int fd, const void *bytes, size_t len, uint32_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } ancillary = {.bytes = {0}};
    struct iovec body = {(void *)bytes, len};
    struct msghdr header = {.msg_iov = &body, .msg_iovlen = 1};

    if (count != 0) {
        struct cmsghdr *control;

        header.msg_control = ancillary.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (uint32_t i = 0; i < count; i++)
            memcpy(CMSG_DATA(control) + i * sizeof(int), &fd, sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &header, 0), (ssize_t)len);
}

static void expect(int pair[2], const void *bytes, size_t len, uint32_t count, int error)
{
    struct knit_control_message message;
    int fds[KNIT_CONTROL_FDS_MAX], before = count_descriptors();

    send_raw(pair[0], bytes, len, count);
    assert_int_equal(knit_control_receive(pair[1], &message, fds, true), error);
    assert_int_equal(count_descriptors(), before);
}

static void anything_but_a_message_is_refused_and_its_descriptors_closed(void **state)
{
    struct knit_control_message message;
    char longer[sizeof(message) + 1] = {0};
    int pair[2];

    (void)state;
    open_pair(pair);
    knit_control_init(&message, KNIT_CONTROL_ATTACH);
    expect(pair, &message, sizeof(message), 2, KNIT_CONTROL_E_BAD);
    expect(pair, &message, sizeof(message), 4, KNIT_CONTROL_E_BAD);
    expect(pair, &message, sizeof(message), 16, KNIT_CONTROL_E_BAD);
    expect(pair, &message, sizeof(message), 0, KNIT_CONTROL_E_BAD);
    expect(pair, &message, sizeof(message) - 1, 3, KNIT_CONTROL_E_BAD);
    memcpy(longer, &message, sizeof(message));
    expect(pair, longer, sizeof(longer), 3, KNIT_CONTROL_E_BAD);
    expect(pair, "x", 1, 0, KNIT_CONTROL_E_BAD);
    message.type = 0;
    expect(pair, &message, sizeof(message), 0, KNIT_CONTROL_E_BAD);
    message.type = KNIT_CONTROL_TYPES;
    expect(pair, &message, sizeof(message), 0, KNIT_CONTROL_E_BAD);
    message.magic++;
    expect(pair, &message, sizeof(message), 0, KNIT_CONTROL_E_BAD);
    knit_control_init(&message, KNIT_CONTROL_HELLO);
    message.version++;
    expect(pair, &message, sizeof(message), 0, KNIT_CONTROL_E_VERSION);
    /* A message of another version may have another size. */
    expect(pair, &message, 100, 1, KNIT_CONTROL_E_VERSION);
    close_pair(pair);
}

/* The pipe takes any bytes, and reads that are no message say so, whole or in pieces. */
static void reports_come_whole_or_are_refused(void **state)
{
    struct knit_control_message message, got;
    int ends[2], count = 0;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(knit_control_read_report(ends[0], &got), KNIT_CONTROL_E_AGAIN);
    knit_control_init(&message, KNIT_CONTROL_EVICTED);
    memset(message.text, 'x', sizeof(message.text));
    for (message.session.session = 0; knit_control_report(ends[1], &message) == 0; count++)
        message.session.session++;
    assert_int_equal(knit_control_report(ends[1], &message), KNIT_CONTROL_E_AGAIN);
    for (int i = 0; i < count; i++) {
        assert_int_equal(knit_control_read_report(ends[0], &got), 0);
        assert_int_equal(got.session.session, i);
        assert_int_equal(strlen(got.text), KNIT_CONTROL_TEXT_SIZE - 1);
    }
    assert_true(count >= 2);
    assert_int_equal(write(ends[1], &message, sizeof(message) - 1), sizeof(message) - 1);
    assert_int_equal(knit_control_read_report(ends[0], &got), KNIT_CONTROL_E_BAD);
    message.type = KNIT_CONTROL_TYPES;
    assert_int_equal(knit_control_report(ends[1], &message), 0);
    assert_int_equal(knit_control_read_report(ends[0], &got), KNIT_CONTROL_E_BAD);
    message.version++;
    assert_int_equal(write(ends[1], &message, 100), 100);
    assert_int_equal(knit_control_read_report(ends[0], &got), KNIT_CONTROL_E_VERSION);
    close(ends[1]);
    assert_int_equal(knit_control_read_report(ends[0], &got), KNIT_CONTROL_E_CLOSED);
    close(ends[0]);
}

/* The writer ignores SIGPIPE, as a worker does. */
static void a_report_to_nobody_says_so(void **state)
{
    struct knit_control_message message;
    int ends[2];

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    knit_control_init(&message, KNIT_CONTROL_READY);
    assert_int_equal(knit_control_report(ends[1], &message), KNIT_CONTROL_E_CLOSED);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_arrives_with_its_descriptors),
        cmocka_unit_test(empty_full_and_closed_sockets_give_different_results),
        cmocka_unit_test(anything_but_a_message_is_refused_and_its_descriptors_closed),
        cmocka_unit_test(reports_come_whole_or_are_refused),
        cmocka_unit_test(a_report_to_nobody_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
