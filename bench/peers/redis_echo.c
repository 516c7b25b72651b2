/* SPDX-License-Identifier: Apache-2.0 */
/* Redis as a bare server, with a redis-server of one's own that keeps nothing on disk: ECHO carries
 * an argument there and back, and no worker does any work. What was sent between two waits goes in
 * one write, answers come in order; redis answers what it read at once in one write too. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

static redisContext *context;
static uint32_t order[PEER_DEPTH_MAX]; /* of sending: a ring */
static uint32_t first, count;

static void open_calls(const struct peer_options *options)
{
    uint16_t port = peer_free_port();
    char text[8];

    if (options->server == NULL)
        peer_fail("needs the redis-server");
    (void)snprintf(text, sizeof(text), "%u", port);
    peer_start_server((char *[]){(char *)options->server, "--bind", "127.0.0.1", "--port", text,
                          "--save", "", "--appendonly", "no", NULL},
        port);
    context = redisConnect("127.0.0.1", port);
    if (context == NULL || context->err != 0)
        peer_fail(context == NULL ? "out of memory" : context->errstr);
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    const char *arguments[] = {"ECHO", bytes};
    const size_t lens[] = {4, len};

    if (redisAppendCommandArgv(context, 2, arguments, lens) != REDIS_OK)
        peer_fail(context->errstr);
    order[(first + count++) % PEER_DEPTH_MAX] = call;
}

static void finish(redisReply *reply)
{
    uint32_t call = order[first];

    if (reply->type != REDIS_REPLY_STRING)
        peer_fail("an echo failed");
    first = (first + 1) % PEER_DEPTH_MAX;
    count--;
    peer_done(call, reply->str, reply->len);
    freeReplyObject(reply);
}

/* The oldest, and whatever else was read with it. */
static void wait_calls(void)
{
    redisReply *reply = NULL;

    if (redisGetReply(context, (void **)&reply) != REDIS_OK)
        peer_fail(context->errstr);
    while (reply != NULL) {
        finish(reply);
        if (redisGetReplyFromReader(context, (void **)&reply) != REDIS_OK)
            peer_fail(context->errstr);
    }
}

static void close_calls(void)
{
    redisFree(context);
}

const struct peer peer = {"redis-echo", open_calls, send_call, wait_calls, close_calls};
