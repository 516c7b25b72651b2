/* SPDX-License-Identifier: Apache-2.0 */
/* Over TCP on the loopback device: a full receiver keeps the sender's data unsent. */
#include "tests/support/lingering.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

int knit_lingering_open(int *ret_peer_fd)
{
    const struct linger linger = {1, KNIT_LINGERING_S};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    static char bytes[65536];
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listen_fd, 1), 0);
    assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    *ret_peer_fd = accept(listen_fd, NULL, NULL);
    assert_true(*ret_peer_fd >= 0);
    close(listen_fd);
    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    return fd;
}

ssize_t knit_lingering_send(int socket_fd, int fd, int count, int flags)
{
    static _Alignas(struct cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))];
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr header = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&header);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(head) + (size_t)i * sizeof(int), &fd, sizeof(fd));
    return sendmsg(socket_fd, &header, flags | MSG_NOSIGNAL);
}
