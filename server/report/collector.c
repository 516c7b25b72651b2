/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the answer beyond its first KiB are read and dropped, so that the collector sees its
 * answer taken and no reset; that has a moment, and an end. */
#include "server/report/collector.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fd.h"

enum {
    HEAD_MAX = 8192,
    ANSWER_MAX = 64 * 1024,
    REST_MS = 500, /* for what follows the head */
    LOOK_MS = 60000,
    REQUEST_MAX = 1024,
};

/* What came. */
struct answer {
    char head[HEAD_MAX + 1]; /* ends with a NUL, in front of the body */
    size_t kept, total;
    size_t whole; /* bytes of head and body, if that is known; 0 = it is not */
};

bool knit_collector_wait(struct knit_collector_post *post, int fd, short events)
{
    for (;;) {
        struct pollfd fds[] = {{fd, events, 0}, {post->end_fd, POLLIN, 0}};
        const uint64_t now_ns = knit_clock_ns();
        const uint64_t left_ms =
            now_ns < post->deadline_ns ? (post->deadline_ns - now_ns) / 1000000 + 1 : 0;

        if (left_ms == 0)
            return false;
        (void)poll(fds, 2, left_ms < LOOK_MS ? (int)left_ms : LOOK_MS);
        if (fds[1].revents != 0) {
            post->end_fd = -1;
            post->ended_ns = knit_clock_ns();
            if (post->ended_ns + post->end_ms * UINT64_C(1000000) < post->deadline_ns)
                post->deadline_ns = post->ended_ns + post->end_ms * UINT64_C(1000000);
        } else if (fds[0].revents != 0) {
            return true;
        }
    }
}

/* ---- there --------------------------------------------------------------------------------- */

static void say(struct knit_collector_answer *answer, const char *what, const char *why)
{
    (void)snprintf(answer->reason, sizeof(answer->reason), "%s: %s", what, why);
}

/* Below 0: -errno. */
static int try_address(struct knit_collector_post *post, const struct addrinfo *address)
{
    socklen_t len = sizeof(int);
    int error = 0;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
        error = errno;
    if (error == EINPROGRESS) {
        error = ETIMEDOUT;
        if (knit_collector_wait(post, fd, POLLOUT))
            (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    }
    if (error != 0) {
        knit_fd_close(&fd);
        return -error;
    }
    return fd;
}

/* Below 0: there is no connection, and the answer says why. */
static int connect_to(struct knit_collector_post *post, struct knit_collector_answer *answer)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int fd = -ENOENT;
    int r = getaddrinfo(post->url->host, post->url->port, &hints, &addresses);

    if (r != 0) {
        say(answer, "cannot find it", gai_strerror(r));
        return -1;
    }
    for (const struct addrinfo *at = addresses; fd < 0 && at != NULL; at = at->ai_next)
        fd = try_address(post, at);
    if (fd < 0)
        say(answer, "cannot connect", strerror(-fd));
    freeaddrinfo(addresses);
    return fd;
}

/* There is an answer, or there will be none. */
static bool has_answered(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* False: it was not all sent. One that does not read on may have said why. */
static bool send_all(struct knit_collector_post *post, int fd, struct knit_span bytes)
{
    size_t done = 0;

    while (done < bytes.len) {
        const ssize_t n = send(fd, bytes.bytes + done, bytes.len - done, MSG_NOSIGNAL);

        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR && errno != EAGAIN)
            return false;
        else if (!knit_collector_wait(post, fd, POLLOUT | POLLIN) || has_answered(fd))
            return false;
    }
    return true;
}

static bool send_request(struct knit_collector_post *post, int fd)
{
    const size_t parts = sizeof(post->parts) / sizeof(post->parts[0]);
    char head[REQUEST_MAX];
    size_t len = 0;
    bool is_sent;

    for (size_t i = 0; i < parts; i++)
        len += post->parts[i].len;
    (void)snprintf(head, sizeof(head),
        "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: knittingd\r\nContent-Type: "
        "application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
        post->url->path, post->url->authority, len);
    is_sent = send_all(post, fd, knit_span_text(head));
    for (size_t i = 0; is_sent && i < parts; i++)
        is_sent = send_all(post, fd, post->parts[i]);
    return is_sent;
}

/* ---- and back ------------------------------------------------------------------------------ */

/* The number that a field has. False: it is not there, or no number, or one of ten digits. name:
 * with what stands around it. */
static bool has_number(const char *head, const char *name, uint32_t *ret_number)
{
    const char *at = strcasestr(head, name);
    size_t digits;

    if (at == NULL)
        return false;
    at += strlen(name);
    at += strspn(at, " \t");
    digits = strspn(at, "0123456789");
    if (digits == 0 || digits > 9)
        return false;
    *ret_number = (uint32_t)strtoul(at, NULL, 10);
    return true;
}

/* More of the head has come. What follows a head is waited for a moment longer. */
static void look(struct knit_collector_post *post, struct answer *answer)
{
    char *end = strstr(answer->head, "\r\n\r\n");
    const uint64_t rest_ns = knit_clock_ns() + REST_MS * UINT64_C(1000000);
    uint32_t len;

    if (end == NULL && answer->kept < HEAD_MAX)
        return;
    answer->whole = ANSWER_MAX;
    if (end != NULL) {
        end[2] = '\0';
        if (has_number(answer->head, "\r\nContent-Length:", &len) && len < ANSWER_MAX)
            answer->whole = (size_t)(end - answer->head) + 4 + len;
    }
    answer->kept = HEAD_MAX;
    if (rest_ns < post->deadline_ns)
        post->deadline_ns = rest_ns;
}

static void receive(struct knit_collector_post *post, int fd, struct answer *answer)
{
    char dropped[4096];

    while ((answer->whole == 0 || answer->total < answer->whole) && answer->total < ANSWER_MAX &&
           knit_collector_wait(post, fd, POLLIN)) {
        const bool is_kept = answer->kept < HEAD_MAX;
        const ssize_t n = is_kept
                              ? recv(fd, answer->head + answer->kept, HEAD_MAX - answer->kept, 0)
                              : recv(fd, dropped, sizeof(dropped), 0);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return;
        answer->total += (size_t)n;
        if (!is_kept)
            continue;
        answer->kept += (size_t)n;
        answer->head[answer->kept] = '\0';
        look(post, answer);
    }
}

static int status_of(const char *head)
{
    int status = 0;

    if (sscanf(head, "HTTP/1.%*1[01] %3d", &status) != 1 || status < 200 || status > 599)
        return 0;
    return status;
}

/* As OTLP has it. */
static enum knit_collector_result judge(int status)
{
    if (status / 100 == 2)
        return KNIT_COLLECTOR_TAKEN;
    return status == 0 || status == 429 || (status >= 502 && status <= 504)
               ? KNIT_COLLECTOR_LATER
               : KNIT_COLLECTOR_REFUSED;
}

enum knit_collector_result knit_collector_ask(
    struct knit_collector_post *post, struct knit_collector_answer *ret_answer)
{
    struct answer answer = {.kept = 0};
    bool is_sent;
    int fd;

    *ret_answer = (struct knit_collector_answer){.status = 0};
    fd = connect_to(post, ret_answer);
    if (fd < 0)
        return judge(0);
    is_sent = send_request(post, fd);
    receive(post, fd, &answer);
    knit_fd_close(&fd);
    ret_answer->status = status_of(answer.head);
    if (!is_sent && ret_answer->status / 100 == 2)
        ret_answer->status = 0;
    if (ret_answer->status != 0) {
        (void)has_number(answer.head, "\r\nRetry-After:", &ret_answer->retry_after_s);
        (void)snprintf(
            ret_answer->reason, sizeof(ret_answer->reason), "it answered %d", ret_answer->status);
    } else if (is_sent && answer.kept > 0) {
        say(ret_answer, "no answer", "what came is none by HTTP/1");
    } else {
        say(ret_answer, "no answer", "the connection was lost, or it took too long");
    }
    return judge(ret_answer->status);
}
