/* SPDX-License-Identifier: Apache-2.0 */
/* Redis as a queue, with a redis-server of one's own that keeps nothing on disk: the caller pushes
 * to a list that the worker pops from, blocking, and the worker pushes to another that the caller
 * pops from. An element is the call's number and the argument. The caller has a connection for each
 * direction, so that pushes need not wait for a blocking pop. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

#define REQUESTS "requests"
#define REPLIES  "replies"

static redisContext *pushes, *pops;
static uint32_t unacknowledged;

static redisContext *connect_to(int port)
{
    redisContext *context = redisConnect("127.0.0.1", port);

    if (context == NULL || context->err != 0)
        peer_fail(context == NULL ? "out of memory" : context->errstr);
    return context;
}

/* The element that BRPOP answered with: [list, element]. */
static redisReply *element_of(const redisReply *reply)
{
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        peer_fail("a pop failed");
    return reply->element[1];
}

static void serve(void)
{
    char port[PEER_TEXT_MAX];
    redisContext *context;

    peer_hear(port);
    context = connect_to((int)strtol(port, NULL, 10));
    for (;;) {
        redisReply *popped = redisCommand(context, "BRPOP " REQUESTS " 0");
        const redisReply *element = element_of(popped);

        freeReplyObject(
            redisCommand(context, "LPUSH " REPLIES " %b", element->str, (size_t)element->len));
        freeReplyObject(popped);
    }
}

static void open_calls(const struct peer_options *options)
{
    uint16_t port = peer_free_port();
    char text[8];

    if (options->server == NULL)
        peer_fail("needs the redis-server");
    (void)snprintf(text, sizeof text, "%u", port);
    peer_fork(serve);
    peer_start_server((char *[]){(char *)options->server, "--bind", "127.0.0.1", "--port", text,
                          "--save", "", "--appendonly", "no", NULL},
        port);
    peer_tell(text);
    pushes = connect_to(port);
    pops = connect_to(port);
}

/* Written together by what waits. */
static void send_call(uint32_t call, const void *bytes, size_t len)
{
    static unsigned char element[sizeof call + PEER_BYTES_MAX];

    memcpy(element, &call, sizeof call);
    memcpy(element + sizeof call, bytes, len);
    if (redisAppendCommand(pushes, "LPUSH " REQUESTS " %b", element, sizeof call + len) != REDIS_OK)
        peer_fail(pushes->errstr);
    unacknowledged++;
}

static void wait_calls(void)
{
    const redisReply *element;
    redisReply *reply;
    uint32_t call;

    for (; unacknowledged > 0; unacknowledged--) {
        if (redisGetReply(pushes, (void **)&reply) != REDIS_OK)
            peer_fail(pushes->errstr);
        freeReplyObject(reply);
    }
    reply = redisCommand(pops, "BRPOP " REPLIES " 10");
    element = element_of(reply);
    memcpy(&call, element->str, sizeof call);
    peer_done(call, element->str + sizeof call, (size_t)element->len - sizeof call);
    freeReplyObject(reply);
}

static void close_calls(void)
{
    redisFree(pushes);
    redisFree(pops);
}

const struct peer peer = {"redis-queue", open_calls, send_call, wait_calls, close_calls};
