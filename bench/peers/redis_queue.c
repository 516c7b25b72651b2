/* SPDX-License-Identifier: Apache-2.0 */
/* Redis as a queue, with a redis-server of one's own that keeps nothing on disk: the caller pushes
 * to a list that the worker pops from, blocking, and the worker pushes to another that the caller
 * pops from. An element is the call's number and the argument. The caller has a connection for each
 * direction, so that pushes need not wait for a blocking pop.
 *
 * Both sides pop all there is with one command and push all they have with one, and the worker asks
 * for more in the write that pushes. An element at a time would cost a round trip each. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

#define REQUESTS "requests"
#define REPLIES  "replies"

enum { PUSH_WORDS = 2 };

/* LPUSH LIST ELEMENT... */
struct push {
    const char *words[PUSH_WORDS + PEER_DEPTH_MAX];
    size_t lens[PUSH_WORDS + PEER_DEPTH_MAX];
    int count;
};

static redisContext *pushes, *pops;
static struct push requests;
static unsigned char *elements[PEER_DEPTH_MAX];
static uint32_t unacknowledged;

static redisContext *connect_to(int port)
{
    redisContext *context = redisConnect("127.0.0.1", port);

    if (context == NULL || context->err != 0)
        peer_fail(context == NULL ? "out of memory" : context->errstr);
    return context;
}

static void push_begin(struct push *push, const char *list)
{
    push->words[0] = "LPUSH";
    push->words[1] = list;
    push->lens[0] = 5;
    push->lens[1] = strlen(list);
    push->count = PUSH_WORDS;
}

static void push_add(struct push *push, const void *element, size_t len)
{
    push->words[push->count] = element;
    push->lens[push->count++] = len;
}

static void append(redisContext *context, const struct push *push)
{
    if (redisAppendCommandArgv(context, push->count, (const char **)push->words, push->lens) !=
        REDIS_OK)
        peer_fail(context->errstr);
}

static void append_pop(redisContext *context, const char *list)
{
    if (redisAppendCommand(context, "BLMPOP 60 1 %s RIGHT COUNT %d", list, PEER_DEPTH_MAX) !=
        REDIS_OK)
        peer_fail(context->errstr);
}

static redisReply *next(redisContext *context)
{
    redisReply *reply = NULL;

    if (redisGetReply(context, (void **)&reply) != REDIS_OK)
        peer_fail(context->errstr);
    return reply;
}

/* What BLMPOP answered with: [list, [element, ...]]. */
static const redisReply *elements_of(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[1]->elements > PEER_DEPTH_MAX)
        peer_fail("a pop failed");
    return reply->element[1];
}

static void serve(void)
{
    char port[PEER_TEXT_MAX];
    struct push answers;
    redisContext *context;

    peer_hear(port);
    context = connect_to((int)strtol(port, NULL, 10));
    append_pop(context, REQUESTS);
    for (;;) {
        redisReply *popped = next(context);
        const redisReply *found = elements_of(popped);

        push_begin(&answers, REPLIES);
        for (size_t i = 0; i < found->elements; i++)
            push_add(&answers, found->element[i]->str, found->element[i]->len);
        append(context, &answers);
        append_pop(context, REQUESTS);
        freeReplyObject(next(context));
        freeReplyObject(popped);
    }
}

static void open_calls(const struct peer_options *options)
{
    uint16_t port = peer_free_port();
    char text[8];

    if (options->server == NULL)
        peer_fail("needs the redis-server");
    (void)snprintf(text, sizeof(text), "%u", port);
    peer_fork(serve);
    peer_start_server((char *[]){(char *)options->server, "--bind", "127.0.0.1", "--port", text,
                          "--save", "", "--appendonly", "no", NULL},
        port);
    peer_tell(text);
    pushes = connect_to(port);
    pops = connect_to(port);
    push_begin(&requests, REQUESTS);
    for (uint32_t i = 0; i < PEER_DEPTH_MAX; i++) {
        elements[i] = malloc(sizeof(i) + PEER_BYTES_MAX);
        if (elements[i] == NULL)
            peer_fail("out of memory");
    }
}

/* Written together by what waits. */
static void send_call(uint32_t call, const void *bytes, size_t len)
{
    memcpy(elements[call], &call, sizeof(call));
    memcpy(elements[call] + sizeof(call), bytes, len);
    push_add(&requests, elements[call], sizeof(call) + len);
}

/* The pop is sent before what pushing says is waited for. */
static void wait_calls(void)
{
    const redisReply *found;
    redisReply *reply;
    int done = 0;

    if (requests.count > PUSH_WORDS) {
        append(pushes, &requests);
        push_begin(&requests, REQUESTS);
        unacknowledged++;
    }
    while (unacknowledged > 0 && done == 0) {
        if (redisBufferWrite(pushes, &done) != REDIS_OK)
            peer_fail(pushes->errstr);
    }
    append_pop(pops, REPLIES);
    reply = next(pops);
    found = elements_of(reply);
    for (size_t i = 0; i < found->elements; i++) {
        const redisReply *element = found->element[i];
        uint32_t call;

        memcpy(&call, element->str, sizeof(call));
        peer_done(call, element->str + sizeof(call), element->len - sizeof(call));
    }
    freeReplyObject(reply);
    for (; unacknowledged > 0; unacknowledged--)
        freeReplyObject(next(pushes));
}

static void close_calls(void)
{
    redisFree(pushes);
    redisFree(pops);
}

const struct peer peer = {"redis-queue", open_calls, send_call, wait_calls, close_calls};
