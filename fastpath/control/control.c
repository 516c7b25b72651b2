/* SPDX-License-Identifier: Apache-2.0 */
/* sendmsg() and recvmsg() with ancillary data, and a pipe. The whole structure is sent whatever the
 * type: these messages are rare, and with one size there is no length to check against a type, and
 * a pipe needs no boundaries between them.
 */
#include "fastpath/control/control.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* More than any type has: a message with too many descriptors must arrive with too many, to be
 * refused. Beyond this number the kernel drops some and sets MSG_CTRUNC. */
#define RECEIVE_FDS_MAX 8

static_assert(KNIT_CONTROL_FDS_MAX <= RECEIVE_FDS_MAX, "descriptors of each type fit");
static_assert(sizeof(struct knit_control_message) <= PIPE_BUF, "a pipe takes a message whole");

union ancillary {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(RECEIVE_FDS_MAX * sizeof(int))];
};

void knit_control_init(struct knit_control_message *message, enum knit_control_type type)
{
    memset(message, 0, sizeof(*message));
    message->magic = KNIT_CONTROL_MAGIC;
    message->version = KNIT_CONTROL_VERSION;
    message->type = type;
}

uint32_t knit_control_fds(uint32_t type)
{
    static const uint8_t counts[KNIT_CONTROL_TYPES] = {
        [KNIT_CONTROL_START] = 1,
        [KNIT_CONTROL_SERVE] = 4,
        [KNIT_CONTROL_ATTACH] = 3,
    };

    return type < KNIT_CONTROL_TYPES ? counts[type] : 0;
}

int knit_control_send(
    int fd, const struct knit_control_message *message, const int *fds, bool may_block)
{
    uint32_t count = knit_control_fds(message->type);
    union ancillary ancillary;
    struct iovec body = {(void *)message, sizeof(*message)};
    struct msghdr header = {.msg_iov = &body, .msg_iovlen = 1};
    ssize_t sent;

    if (count != 0) {
        struct cmsghdr *control;

        memset(&ancillary, 0, sizeof(ancillary));
        header.msg_control = ancillary.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control = CMSG_FIRSTHDR(&header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(control), fds, count * sizeof(int));
    }
    do
        sent = sendmsg(fd, &header, MSG_NOSIGNAL | (may_block ? 0 : MSG_DONTWAIT));
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    if (errno == EAGAIN)
        return KNIT_CONTROL_E_AGAIN;
    /* ETOOMANYREFS: this user has too many descriptors in flight, until some are received. */
    if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)
        return KNIT_CONTROL_E_EXHAUSTED;
    if (errno == EPIPE || errno == ECONNRESET)
        return KNIT_CONTROL_E_CLOSED;
    return -errno;
}

static uint32_t take_fds(struct msghdr *header, int fds[RECEIVE_FDS_MAX])
{
    uint32_t count = 0;

    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL;
         control = CMSG_NXTHDR(header, control)) {
        size_t here = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < here && count < RECEIVE_FDS_MAX; i++)
            memcpy(&fds[count++], CMSG_DATA(control) + i * sizeof(int), sizeof(int));
    }
    return count;
}

/* 0 when the bytes are a message. */
static int check_bytes(const struct knit_control_message *message, ssize_t len)
{
    if (len == 0)
        return KNIT_CONTROL_E_CLOSED;
    if (len < 8 || message->magic != KNIT_CONTROL_MAGIC)
        return KNIT_CONTROL_E_BAD;
    if (message->version != KNIT_CONTROL_VERSION)
        return KNIT_CONTROL_E_VERSION;
    if ((size_t)len != sizeof(*message))
        return KNIT_CONTROL_E_BAD;
    return message->type == 0 || message->type >= KNIT_CONTROL_TYPES ? KNIT_CONTROL_E_BAD : 0;
}

/* 0 when the bytes and descriptors are a message. */
static int check(const struct knit_control_message *message, ssize_t len,
    const struct msghdr *header, uint32_t fd_count)
{
    int error = check_bytes(message, len);

    if (error != 0)
        return error;
    if ((header->msg_flags & MSG_TRUNC) != 0)
        return KNIT_CONTROL_E_BAD;
    /* The process has reached its limit of descriptors, or the message has more than any type. */
    if ((header->msg_flags & MSG_CTRUNC) != 0)
        return fd_count < knit_control_fds(message->type) ? KNIT_CONTROL_E_NO_FDS
                                                          : KNIT_CONTROL_E_BAD;
    return fd_count == knit_control_fds(message->type) ? 0 : KNIT_CONTROL_E_BAD;
}

int knit_control_receive(int fd, struct knit_control_message *ret_message,
    int ret_fds[KNIT_CONTROL_FDS_MAX], bool may_block)
{
    union ancillary ancillary;
    struct knit_control_message message;
    struct iovec body = {&message, sizeof(message)};
    struct msghdr header = {.msg_iov = &body,
        .msg_iovlen = 1,
        .msg_control = ancillary.bytes,
        .msg_controllen = sizeof(ancillary.bytes)};
    int fds[RECEIVE_FDS_MAX];
    uint32_t count;
    ssize_t len;
    int error;

    do
        len = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | (may_block ? 0 : MSG_DONTWAIT));
    while (len < 0 && errno == EINTR);
    if (len < 0) {
        if (errno == EAGAIN)
            return KNIT_CONTROL_E_AGAIN;
        return errno == ECONNRESET ? KNIT_CONTROL_E_CLOSED : -errno;
    }
    count = take_fds(&header, fds);
    error = check(&message, len, &header, count);
    if (error != 0) {
        for (uint32_t i = 0; i < count; i++)
            (void)close(fds[i]);
        count = 0;
        if (error != KNIT_CONTROL_E_NO_FDS)
            return error;
    }
    message.text[KNIT_CONTROL_TEXT_SIZE - 1] = '\0';
    *ret_message = message;
    for (uint32_t i = 0; i < KNIT_CONTROL_FDS_MAX; i++)
        ret_fds[i] = i < count ? fds[i] : -1;
    return error;
}

int knit_control_report(int fd, const struct knit_control_message *message)
{
    ssize_t sent;

    do
        sent = write(fd, message, sizeof(*message));
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)sizeof(*message))
        return 0;
    if (sent >= 0)
        return -EIO;
    if (errno == EAGAIN)
        return KNIT_CONTROL_E_AGAIN;
    return errno == EPIPE ? KNIT_CONTROL_E_CLOSED : -errno;
}

int knit_control_read_report(int fd, struct knit_control_message *ret_message)
{
    struct knit_control_message message;
    ssize_t len;
    int error;

    do
        len = read(fd, &message, sizeof(message));
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return errno == EAGAIN ? KNIT_CONTROL_E_AGAIN : -errno;
    error = check_bytes(&message, len);
    if (error != 0)
        return error;
    message.text[KNIT_CONTROL_TEXT_SIZE - 1] = '\0';
    *ret_message = message;
    return 0;
}
