/* SPDX-License-Identifier: Apache-2.0 */
/* The plain transport. TCP and unix sockets differ in whether they pass descriptors, and unix
 * sockets in whether their peers can send some.
 *
 * Descriptors that come are not received to be closed: without room in the table of open files the
 * kernel closes them in the receiving thread, and SO_LINGER cannot be taken from one that waits in
 * the queue of a socket that was sent. To look at a message's bytes takes no descriptor, and tells
 * whether there are any. Out-of-band bytes can carry descriptors too; SO_OOBINLINE has them seen.
 */
#include "server/net/transport.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <string.h>

#include "server/net/closer.h"

enum { SENT_MAX = 256 * 1024 }; /* in one go, whatever the socket takes */

static enum knit_transport_result result_of(ssize_t received)
{
    if (received > 0)
        return KNIT_TRANSPORT_OK;
    if (received == 0)
        return KNIT_TRANSPORT_END;
    return errno == EAGAIN ? KNIT_TRANSPORT_WANT_READ : KNIT_TRANSPORT_BROKEN;
}

static enum knit_transport_result receive(
    struct knit_transport *transport, void *room, size_t size, size_t *ret_len)
{
    ssize_t n;

    do
        n = recv(transport->fd, room, size, 0);
    while (n < 0 && errno == EINTR);
    *ret_len = n > 0 ? (size_t)n : 0;
    return result_of(n);
}

/* Takes only what it has looked at: descriptors may come behind that at any time. */
static enum knit_transport_result receive_bytes_alone(
    struct knit_transport *transport, void *room, size_t size, size_t *ret_len)
{
    struct iovec part = {room, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    do
        n = recvmsg(transport->fd, &message, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    *ret_len = 0;
    if (n > 0 && message.msg_flags & MSG_CTRUNC)
        return KNIT_TRANSPORT_GIFT;
    return n > 0 ? receive(transport, room, (size_t)n, ret_len) : result_of(n);
}

static enum knit_transport_result send_buffer(
    struct knit_transport *transport, struct evbuffer *output, size_t *ret_len)
{
    int n = evbuffer_write_atmost(output, transport->fd, SENT_MAX);

    *ret_len = n > 0 ? (size_t)n : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return KNIT_TRANSPORT_BROKEN;
    return n > 0 ? KNIT_TRANSPORT_OK : KNIT_TRANSPORT_WANT_WRITE;
}

static enum knit_transport_result send_bytes(
    struct knit_transport *transport, struct knit_span bytes, size_t *ret_len)
{
    ssize_t n = send(transport->fd, bytes.bytes, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);

    *ret_len = n > 0 ? (size_t)n : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return KNIT_TRANSPORT_BROKEN;
    return n > 0 ? KNIT_TRANSPORT_OK : KNIT_TRANSPORT_WANT_WRITE;
}

static enum knit_transport_result send_descriptors(struct knit_transport *transport,
    struct knit_span bytes, const int *fds, size_t count, size_t *ret_len)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int[KNIT_TRANSPORT_DESCRIPTORS_MAX]))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {(void *)bytes.bytes, bytes.len};
    struct msghdr message = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(count * sizeof(*fds))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    ssize_t n;

    assert(count > 0 && count <= KNIT_TRANSPORT_DESCRIPTORS_MAX);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(*fds));
    memcpy(CMSG_DATA(head), fds, count * sizeof(*fds));
    do
        n = sendmsg(transport->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    *ret_len = n > 0 ? (size_t)n : 0;
    if (n >= 0)
        return KNIT_TRANSPORT_OK;
    if (errno == EAGAIN)
        return KNIT_TRANSPORT_WANT_WRITE;
    return errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM ? KNIT_TRANSPORT_CROWDED
                                                                        : KNIT_TRANSPORT_BROKEN;
}

static enum knit_transport_result shut_down(struct knit_transport *transport)
{
    return shutdown(transport->fd, SHUT_WR) == 0 ? KNIT_TRANSPORT_OK : KNIT_TRANSPORT_BROKEN;
}

static void close_plain(struct knit_transport *transport)
{
    if (transport->fd >= 0)
        knit_closer_close(transport->closer, transport->fd);
    transport->fd = -1;
}

static const struct knit_transport_ops tcp_ops = {.name = "tcp",
    .receive = receive,
    .send = send_buffer,
    .send_bytes = send_bytes,
    .shut_down = shut_down,
    .close = close_plain};

static const struct knit_transport_ops unix_ops = {.name = "unix",
    .receive = receive,
    .send = send_buffer,
    .send_bytes = send_bytes,
    .send_descriptors = send_descriptors,
    .shut_down = shut_down,
    .close = close_plain};

static const struct knit_transport_ops guarded_unix_ops = {.name = "unix",
    .receive = receive_bytes_alone,
    .send = send_buffer,
    .send_bytes = send_bytes,
    .send_descriptors = send_descriptors,
    .shut_down = shut_down,
    .close = close_plain};

struct knit_transport knit_transport_plain(int fd, bool is_unix, struct knit_closer *closer)
{
    int on = 1;

    if (closer == NULL)
        return (struct knit_transport){.ops = is_unix ? &unix_ops : &tcp_ops, .fd = fd};
    (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
    return (struct knit_transport){.ops = &guarded_unix_ops, .fd = fd, .closer = closer};
}

int knit_transport_credentials(
    const struct knit_transport *transport, struct ucred *ret_credentials)
{
    return knit_endpoint_peer_credentials(transport->fd, ret_credentials);
}

int knit_transport_address(
    const struct knit_transport *transport, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    return knit_endpoint_peer_name(transport->fd, ret_text);
}

bool knit_transport_is_private(const struct knit_transport *transport)
{
    return transport->ops->encrypts || knit_endpoint_stays_here(transport->fd);
}
