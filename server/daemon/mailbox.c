/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe whose both ends do not block. */
#include "server/daemon/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"

int knit_mailbox_open(struct knit_mailbox *mailbox)
{
    int fds[2];

    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        return -errno;
    *mailbox = (struct knit_mailbox){.read_fd = fds[0], .write_fd = fds[1]};
    return 0;
}

void knit_mailbox_close(struct knit_mailbox *mailbox)
{
    struct knit_mailbox_message message;

    if (mailbox->read_fd < 0)
        return;
    while (knit_mailbox_receive(mailbox, &message))
        knit_fd_close(&message.fd);
    knit_fd_close(&mailbox->read_fd);
    knit_fd_close(&mailbox->write_fd);
}

bool knit_mailbox_send(struct knit_mailbox *mailbox, struct knit_mailbox_message message)
{
    ssize_t n;

    do
        n = write(mailbox->write_fd, &message, sizeof(message));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(message);
}

void knit_mailbox_send_surely(struct knit_mailbox *mailbox, struct knit_mailbox_message message)
{
    struct pollfd poll_fd = {mailbox->write_fd, POLLOUT, 0};

    for (int attempt = 0; attempt < 50 && !knit_mailbox_send(mailbox, message); attempt++)
        (void)poll(&poll_fd, 1, 100);
}

bool knit_mailbox_receive(struct knit_mailbox *mailbox, struct knit_mailbox_message *ret_message)
{
    struct knit_mailbox_message message;
    ssize_t n;

    do
        n = read(mailbox->read_fd, &message, sizeof(message));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(message))
        return false;
    *ret_message = message;
    return true;
}
