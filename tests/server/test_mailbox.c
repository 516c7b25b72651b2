/* SPDX-License-Identifier: Apache-2.0 */
/* Messages arrive whole and in order, a full mailbox refuses, and descriptors do not leak. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/daemon/mailbox.h"

static void messages_arrive_in_order(void **state)
{
    struct knit_mailbox mailbox;
    struct knit_mailbox_message message;

    (void)state;
    assert_int_equal(knit_mailbox_open(&mailbox), 0);
    assert_false(knit_mailbox_receive(&mailbox, &message));
    for (uint64_t i = 0; i < 10; i++)
        assert_true(
            knit_mailbox_send(&mailbox, (struct knit_mailbox_message){KNIT_MAILBOX_DRAIN, -1, i}));
    for (uint64_t i = 0; i < 10; i++) {
        assert_true(knit_mailbox_receive(&mailbox, &message));
        assert_int_equal(message.kind, KNIT_MAILBOX_DRAIN);
        assert_int_equal(message.value, i);
    }
    assert_false(knit_mailbox_receive(&mailbox, &message));
    knit_mailbox_close(&mailbox);
    knit_mailbox_close(&mailbox);
}

static void a_full_one_says_so_and_loses_nothing(void **state)
{
    struct knit_mailbox mailbox;
    struct knit_mailbox_message message;
    uint64_t sent = 0, received = 0;

    (void)state;
    assert_int_equal(knit_mailbox_open(&mailbox), 0);
    while (knit_mailbox_send(&mailbox, (struct knit_mailbox_message){KNIT_MAILBOX_DRAIN, -1, sent}))
        sent++;
    assert_true(sent >= 1024);
    while (knit_mailbox_receive(&mailbox, &message))
        assert_int_equal(message.value, received++);
    assert_int_equal(received, sent);
    knit_mailbox_close(&mailbox);
}

static void closing_closes_what_was_not_received(void **state)
{
    struct knit_mailbox mailbox;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(knit_mailbox_open(&mailbox), 0);
    assert_true(
        knit_mailbox_send(&mailbox, (struct knit_mailbox_message){KNIT_MAILBOX_CONNECTION, fd, 0}));
    knit_mailbox_close(&mailbox);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order),
        cmocka_unit_test(a_full_one_says_so_and_loses_nothing),
        cmocka_unit_test(closing_closes_what_was_not_received),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
