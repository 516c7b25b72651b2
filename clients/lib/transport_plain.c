/* SPDX-License-Identifier: Apache-2.0 */
/* The plain kind: one system call for each operation, repeated only when a signal interrupts it.
 * What every kind needs of its descriptor (closing, waiting) is here as well.
 */
#include "clients/lib/transport.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "fastpath/lane/fd.h"

/* Descriptors beyond the room are closed. A truncated control message has lost some of them, and
 * then none is kept. */
static void take_fds(struct knit_transport *transport, struct msghdr *header)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (transport->fds_count == KNIT_TRANSPORT_FDS_MAX)
                knit_fd_close(&fd);
            else
                transport->fds[transport->fds_count++] = fd;
        }
    }
    if ((header->msg_flags & MSG_CTRUNC) != 0)
        knit_transport_close_fds(transport);
}

static enum knit_transport_result plain_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(KNIT_TRANSPORT_FDS_MAX * sizeof(int))];
    struct iovec span = {room, max};
    struct msghdr header = {.msg_iov = &span, .msg_iovlen = 1};
    ssize_t n;

    do {
        /* Without room for control messages the kernel closes the descriptors that come. */
        if (transport->wants_fds) {
            header.msg_control = control;
            header.msg_controllen = sizeof(control);
        }
        n = recvmsg(transport->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return KNIT_TRANSPORT_WANT_READ;
    if (n < 0) {
        transport->error = errno;
        return KNIT_TRANSPORT_BROKEN;
    }
    if (transport->wants_fds)
        take_fds(transport, &header);
    *ret_len = (size_t)n;
    return n > 0 ? KNIT_TRANSPORT_OK : KNIT_TRANSPORT_END;
}

static enum knit_transport_result plain_send(
    struct knit_transport *transport, const void *bytes, size_t len, size_t *ret_len)
{
    ssize_t n;

    do
        n = send(transport->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return KNIT_TRANSPORT_WANT_WRITE;
    if (n < 0) {
        transport->error = errno;
        return KNIT_TRANSPORT_BROKEN;
    }
    *ret_len = (size_t)n;
    return KNIT_TRANSPORT_OK;
}

static size_t plain_pending(const struct knit_transport *transport)
{
    (void)transport;
    return 0;
}

static void plain_shut_down(struct knit_transport *transport)
{
    (void)shutdown(transport->fd, SHUT_RDWR);
}

void knit_transport_init_plain(struct knit_transport *transport, int fd)
{
    static const struct knit_transport_kind plain = {
        .receive = plain_receive,
        .send = plain_send,
        .pending = plain_pending,
        .shut_down = plain_shut_down,
    };

    *transport = (struct knit_transport){.kind = &plain, .fd = fd};
}

void knit_transport_close(struct knit_transport *transport)
{
    knit_fd_close(&transport->fd);
}

void knit_transport_close_fds(struct knit_transport *transport)
{
    for (uint32_t i = 0; i < transport->fds_count; i++)
        knit_fd_close(&transport->fds[i]);
    transport->fds_count = 0;
}

void knit_transport_wait(const struct knit_transport *transport, bool wants_write, int wait_ms)
{
    struct pollfd item = {.fd = transport->fd, .events = POLLIN};

    if (wants_write)
        item.events |= POLLOUT;
    if (knit_transport_pending(transport) == 0)
        (void)poll(&item, 1, wait_ms);
}
