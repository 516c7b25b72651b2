/* SPDX-License-Identifier: Apache-2.0 */
/* The plain kind: one system call for each operation, repeated only when a signal interrupts it.
 * What every kind needs of its descriptor (closing, waiting) is here as well.
 *
 * Descriptors that a daemon sends: the last close of a socket with SO_LINGER and unsent data sleeps
 * for as long as its sender has chosen, in whichever thread it happens. So none is sent here but
 * when descriptors are wanted (SO_PASSRIGHTS, Linux 6.16). Those that come all the same are
 * received with room for as many as one message can carry, or the kernel would close them; and
 * SO_LINGER is taken from them before they are closed.
 */
#include "clients/lib/transport.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "fastpath/lane/fd.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

enum { MESSAGE_FDS_MAX = 253 }; /* SCM_MAX_FD of the kernel */

static void close_received(int *fd)
{
    static const struct linger none;

    /* ENOTSOCK of all others, whose close does not wait. */
    if (*fd >= 0)
        (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    knit_fd_close(fd);
}

/* Descriptors that are not wanted are closed. Of more than there is room for, and of a truncated
 * control message, which has lost some, none is kept. */
static void take_fds(struct knit_transport *transport, struct msghdr *header)
{
    bool is_kept = (header->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (transport->wants_fds && transport->fds_count < KNIT_TRANSPORT_FDS_MAX) {
                transport->fds[transport->fds_count++] = fd;
                continue;
            }
            close_received(&fd);
            is_kept = false;
        }
    }
    if (!is_kept)
        knit_transport_close_fds(transport);
}

static enum knit_transport_result plain_receive(
    struct knit_transport *transport, void *room, size_t max, size_t *ret_len)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int))];
    struct iovec span = {room, max};
    struct msghdr header = {.msg_iov = &span, .msg_iovlen = 1};
    ssize_t n;

    do {
        if (transport->may_bring_fds) {
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
    if (transport->may_bring_fds)
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

static void plain_shut_down(struct knit_transport *transport)
{
    (void)shutdown(transport->fd, SHUT_RDWR);
}

static bool is_unix(int fd)
{
    int domain = 0;
    socklen_t size = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

void knit_transport_init_plain(struct knit_transport *transport, int fd)
{
    static const struct knit_transport_kind plain = {
        .receive = plain_receive,
        .send = plain_send,
        .shut_down = plain_shut_down,
    };

    *transport = (struct knit_transport){.kind = &plain, .fd = fd, .may_bring_fds = is_unix(fd)};
    knit_transport_want_fds(transport, false);
}

void knit_transport_want_fds(struct knit_transport *transport, bool wants_fds)
{
    int pass = wants_fds;

    transport->wants_fds = wants_fds;
    if (transport->may_bring_fds)
        (void)setsockopt(transport->fd, SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof(pass));
}

void knit_transport_close(struct knit_transport *transport)
{
    knit_fd_close(&transport->fd);
}

void knit_transport_fini(struct knit_transport *transport)
{
    knit_transport_close(transport);
    knit_transport_close_fds(transport);
    if (transport->kind != NULL && transport->kind->free != NULL)
        transport->kind->free(transport);
}

const char *knit_transport_reason(const struct knit_transport *transport)
{
    return transport->kind->reason != NULL ? transport->kind->reason(transport)
                                           : strerror(transport->error);
}

void knit_transport_close_fds(struct knit_transport *transport)
{
    for (uint32_t i = 0; i < transport->fds_count; i++)
        close_received(&transport->fds[i]);
    transport->fds_count = 0;
}

void knit_transport_wait(const struct knit_transport *transport, bool wants_write, int wait_ms)
{
    struct pollfd item = {.fd = transport->fd, .events = POLLIN};

    if (wants_write)
        item.events |= POLLOUT;
    if (!knit_transport_has_pending(transport))
        (void)poll(&item, 1, wait_ms);
}
