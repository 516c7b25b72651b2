/* SPDX-License-Identifier: Apache-2.0 */
/* The newcomer is a plain client with two requests, and blocks for each: it has nothing else to do
 * while it starts, and the elder answers from a loop that serves.
 */
#include "server/daemon/takeover.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"
#include "proto/walk.h"
#include "server/net/socket_file.h"

_Static_assert(KNIT_LISTENING_MAX + 2 <= KNIT_INHERITED_MAX, "as many as are given are taken");

enum {
    REFUSED = 1,
    ANSWER_MS = 5000,
    ANSWER_BYTES_MAX = 1024, /* an error is a sentence */
};

#define SILENT "the daemon that serves does not answer"

/* ---- the elder ----------------------------------------------------------------------------- */

void knit_takeover_offer(struct knit_takeover *takeover, const struct knit_listening *listening)
{
    (void)pthread_mutex_lock(&takeover->mutex);
    takeover->listening = listening;
    (void)pthread_mutex_unlock(&takeover->mutex);
}

bool knit_takeover_withdraw(struct knit_takeover *takeover)
{
    bool is_taken;

    (void)pthread_mutex_lock(&takeover->mutex);
    takeover->listening = NULL;
    is_taken = takeover->is_taken;
    (void)pthread_mutex_unlock(&takeover->mutex);
    return is_taken;
}

uint32_t knit_takeover_give(struct knit_takeover *takeover, int ret_fds[KNIT_LISTENING_MAX + 1])
{
    size_t count = 0;

    (void)pthread_mutex_lock(&takeover->mutex);
    if (takeover->listening != NULL && !takeover->is_taken)
        count = knit_listening_duplicate(takeover->listening, ret_fds);
    takeover->is_taken = takeover->is_taken || count > 0;
    (void)pthread_mutex_unlock(&takeover->mutex);
    return (uint32_t)count;
}

void knit_takeover_give_back(struct knit_takeover *takeover)
{
    (void)pthread_mutex_lock(&takeover->mutex);
    takeover->is_taken = false;
    (void)pthread_mutex_unlock(&takeover->mutex);
}

/* ---- the newcomer -------------------------------------------------------------------------- */

static int refuse(struct knit_sentence *why, const char *reason)
{
    return knit_sentence_set(why, REFUSED, "cannot take over: %s", reason);
}

/* Whose path is that of the settings. *ret_fd is -1 if nobody is there. One whose queue is full is
 * waited for as long as for an answer: signals are held meanwhile, so nothing else would end it. */
static int connect_to(const char *path, int *ret_fd, struct knit_sentence *why)
{
    static const struct timeval patience = {ANSWER_MS / 1000, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    *ret_fd = -1;
    if (strlen(path) >= sizeof(address.sun_path))
        return refuse(why, "the path of the unix socket is too long");
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse(why, strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;

        (void)close(fd);
        if (error == EAGAIN)
            return refuse(why, SILENT);
        return error == ENOENT || error == ECONNREFUSED ? 0 : refuse(why, strerror(error));
    }
    *ret_fd = fd;
    return 0;
}

struct answer {
    uint8_t bytes[ANSWER_BYTES_MAX];
    size_t len;
    int fds[KNIT_INHERITED_MAX];
    size_t fd_count;
};

/* False: too many came, or some are lost. */
static bool note_fds(struct answer *answer, struct msghdr *head)
{
    bool is_fit = (head->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part != NULL; part = CMSG_NXTHDR(head, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
            if (answer->fd_count < KNIT_INHERITED_MAX)
                answer->fds[answer->fd_count++] = fd;
            else
                (void)close(fd), is_fit = false;
        }
    }
    return is_fit;
}

/* NULL, or what was wrong. */
static const char *receive(int fd, struct answer *answer, uint64_t until_ns)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int[KNIT_INHERITED_MAX]))];
        struct cmsghdr align;
    } control;
    struct iovec part = {answer->bytes + answer->len, sizeof(answer->bytes) - answer->len};
    struct msghdr head = {.msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes)};
    struct pollfd poll_fd = {fd, POLLIN, 0};
    uint64_t now_ns = knit_clock_ns();
    ssize_t n;

    if (part.iov_len == 0)
        return "the answer is too long";
    if (now_ns >= until_ns || poll(&poll_fd, 1, (int)((until_ns - now_ns) / 1000000 + 1)) == 0)
        return SILENT;
    n = recvmsg(fd, &head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? NULL : strerror(errno);
    if (!note_fds(answer, &head))
        return "the daemon that serves sent more descriptors than could be taken";
    if (n == 0)
        return "the daemon that serves has closed the connection";
    answer->len += (size_t)n;
    return NULL;
}

/* Whether a response is whole; then its error, absent where there is none, and its result. */
static bool parse(const struct answer *answer, struct knit_span *ret_error, struct knit_item *ret)
{
    struct knit_walk walk;
    struct knit_item kind, msgid, error;

    if (knit_walk_array(&walk, knit_span(answer->bytes, answer->len)) != 0 ||
        knit_walk_next(&walk, &kind) != 0 || knit_walk_next(&walk, &msgid) != 0 ||
        knit_walk_next(&walk, &error) != 0 || knit_walk_next(&walk, ret) != 0)
        return false;
    *ret_error = error.head.type == KNIT_HEAD_STR ? error.body : knit_span(NULL, 0);
    return true;
}

/* One request without params, and its answer. */
static int ask(int fd, const char *method, struct answer *answer, struct knit_item *ret_result,
    struct knit_sentence *why)
{
    uint64_t until_ns = knit_clock_ns() + ANSWER_MS * UINT64_C(1000000);
    uint8_t request[32] = {0x94, 0, 1, (uint8_t)(0xa0 | strlen(method))};
    size_t len = 4 + strlen(method);
    const char *reason = NULL;
    struct knit_span error;

    memcpy(request + 4, method, len - 4);
    request[len++] = 0x90;
    *answer = (struct answer){.len = 0};
    if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
        return refuse(why, strerror(errno));
    while (reason == NULL && !parse(answer, &error, ret_result))
        reason = receive(fd, answer, until_ns);
    if (reason != NULL)
        return refuse(why, reason);
    if (error.len > 0)
        return knit_sentence_set(why, REFUSED,
            "cannot take over: the daemon that serves says: %.*s", (int)error.len,
            (const char *)error.bytes);
    return 0;
}

/* All descriptors, or none. */
static int keep(struct answer *answer, const struct knit_item *result,
    struct knit_inherited *inherited, struct knit_sentence *why)
{
    uint64_t count;
    int r = 0;

    if (!knit_item_uint(result, &count) || count != answer->fd_count)
        r = refuse(why, "the daemon that serves sent other descriptors than it said");
    for (size_t i = 0; i < answer->fd_count; i++) {
        if (r == 0)
            r = knit_inherited_add(inherited, answer->fds[i], why);
        else
            (void)close(answer->fds[i]);
    }
    return r;
}

static int take(
    const char *path, struct knit_inherited *inherited, int *ret_fd, struct knit_sentence *why)
{
    struct knit_item result;
    struct answer answer;
    int r = connect_to(path, ret_fd, why);

    if (r != 0 || *ret_fd < 0)
        return r;
    r = ask(*ret_fd, "$/takeover", &answer, &result, why);
    if (r == 0)
        return keep(&answer, &result, inherited, why);
    for (size_t i = 0; i < answer.fd_count; i++)
        (void)close(answer.fds[i]);
    return r;
}

int knit_takeover_ask(const struct knit_settings *settings, struct knit_inherited *inherited,
    int *ret_fd, struct knit_sentence *why)
{
    char *usual = NULL;
    int r = 0;

    if (settings->socket != NULL && strcmp(settings->socket, "none") == 0)
        return refuse(why, "--take-over asks by the unix socket, and server.socket is none");
    if (settings->socket == NULL)
        r = knit_socket_file_usual_path(false, &usual, why);
    if (r == 0)
        r = take(settings->socket != NULL ? settings->socket : usual, inherited, ret_fd, why);
    free(usual);
    return r;
}

void knit_takeover_finish(int *fd, struct knit_log *log)
{
    struct knit_sentence why = {""};
    struct knit_item result;
    struct answer answer;

    if (*fd < 0)
        return;
    if (ask(*fd, "$/drain", &answer, &result, &why) == 0)
        knit_log(log, KNIT_LOG_INFO, "taken over: the other daemon drains");
    else
        knit_log(log, KNIT_LOG_WARNING, "the other daemon was not told to drain",
            KNIT_LOG_TEXT("reason", why.text));
    for (size_t i = 0; i < answer.fd_count; i++)
        (void)close(answer.fds[i]);
    knit_fd_close(fd);
}
