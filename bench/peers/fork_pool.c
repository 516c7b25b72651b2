/* SPDX-License-Identifier: Apache-2.0 */
/* A fork pool as it is written by hand: a worker forked at the start, a pipe there and a pipe back,
 * each message behind its call's number and its length. What was sent between two waits goes in one
 * write, and the worker answers all that one read brought in one write.
 *
 * A worker that dies ends the program, one that hangs is waited for, and no argument is checked. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/peers/peer.h"

enum { PIPE_BYTES = 1 << 20, READ_BYTES = 1 << 18 };

/* Twice as much as all calls in flight, since what was taken stays in front until the rest moves;
 * and another read. */
static const size_t room = (size_t)2 * PEER_DEPTH_MAX * PEER_BYTES_MAX +
                           (size_t)PEER_CALLS_MAX * 4 * sizeof(uint32_t) + READ_BYTES;

struct head {
    uint32_t call, len;
};

/* Bytes between two places of memory that holds all calls in flight. */
struct bytes {
    unsigned char *at;
    size_t from, to;
};

static int requests[2], replies[2]; /* pipes: read, write */
static struct bytes out, in;

static void new_bytes(struct bytes *bytes)
{
    bytes->at = malloc(room);
    if (bytes->at == NULL)
        peer_fail("out of memory");
}

static void to_front(struct bytes *bytes)
{
    memmove(bytes->at, bytes->at + bytes->from, bytes->to - bytes->from);
    bytes->to -= bytes->from;
    bytes->from = 0;
}

static void put(struct bytes *bytes, uint32_t call, const void *from, size_t len)
{
    struct head head = {call, (uint32_t)len};

    /* What is moved is less than what was taken since. */
    if (bytes->from >= bytes->to - bytes->from)
        to_front(bytes);
    memcpy(bytes->at + bytes->to, &head, sizeof(head));
    memcpy(bytes->at + bytes->to + sizeof(head), from, len);
    bytes->to += sizeof(head) + len;
}

/* For each whole message; the number of them. */
static size_t take_all(struct bytes *bytes, void (*on_message)(uint32_t, const void *, size_t))
{
    size_t taken = 0;
    struct head head;

    while (bytes->to - bytes->from >= sizeof(head)) {
        memcpy(&head, bytes->at + bytes->from, sizeof(head));
        if (bytes->to - bytes->from - sizeof(head) < head.len)
            break;
        on_message(head.call, bytes->at + bytes->from + sizeof(head), head.len);
        bytes->from += sizeof(head) + head.len;
        taken++;
    }
    to_front(bytes);
    return taken;
}

/* False: the other side is gone. */
static int read_some(struct bytes *bytes, int fd)
{
    ssize_t n = read(fd, bytes->at + bytes->to, READ_BYTES);

    bytes->to += n > 0 ? (size_t)n : 0;
    return n > 0 || (n < 0 && errno == EAGAIN);
}

/* The task. */
static void echo(uint32_t call, const void *argument, size_t len)
{
    put(&out, call, argument, len);
}

static void serve(void)
{
    while (read_some(&in, requests[0])) {
        (void)take_all(&in, echo);
        while (out.from < out.to) {
            ssize_t n = write(replies[1], out.at + out.from, out.to - out.from);

            if (n < 0)
                return;
            out.from += (size_t)n;
        }
    }
}

static void open_pool(const struct peer_options *options)
{
    (void)options;
    new_bytes(&out);
    new_bytes(&in);
    if (pipe2(requests, O_CLOEXEC) != 0 || pipe2(replies, O_CLOEXEC) != 0)
        peer_fail(strerror(errno));
    (void)fcntl(requests[1], F_SETPIPE_SZ, PIPE_BYTES);
    (void)fcntl(replies[1], F_SETPIPE_SZ, PIPE_BYTES);
    peer_fork(serve);
    (void)close(requests[0]);
    (void)close(replies[1]);
    (void)fcntl(requests[1], F_SETFL, O_NONBLOCK);
    (void)fcntl(replies[0], F_SETFL, O_NONBLOCK);
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    put(&out, call, bytes, len);
}

static void write_some(void)
{
    ssize_t n = write(requests[1], out.at + out.from, out.to - out.from);

    if (n < 0 && errno != EAGAIN)
        peer_fail(strerror(errno));
    out.from += n > 0 ? (size_t)n : 0;
}

static void wait_calls(void)
{
    do {
        struct pollfd look[2] = {
            {.fd = replies[0], .events = POLLIN}, {.fd = requests[1], .events = POLLOUT}};

        if (out.from < out.to)
            write_some();
        (void)poll(look, out.from < out.to ? 2 : 1, -1);
        if (!read_some(&in, replies[0]))
            peer_fail("the worker is gone");
    } while (take_all(&in, peer_done) == 0);
}

static void close_pool(void)
{
    (void)close(requests[1]);
    (void)close(replies[0]);
    free(out.at);
    free(in.at);
}

const struct peer peer = {"fork-pool", open_pool, send_call, wait_calls, close_pool};
