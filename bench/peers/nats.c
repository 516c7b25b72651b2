/* SPDX-License-Identifier: Apache-2.0 */
/* NATS request and reply, through a nats-server of one's own: a worker that subscribes to a subject
 * and publishes what comes to the message's reply subject; a caller with one subscription for all
 * its replies, told apart by the last part of their subject.
 *
 * The client library either writes each message at once or has a thread of its own gather them for
 * a millisecond. At once is the faster one with one call in flight and with 64. */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

#define SUBJECT "echo"
#define INBOX   "_INBOX.calls."

static const int64_t WAIT_MS = 10000;

static natsConnection *connection;
static natsSubscription *replies;

static void check(natsStatus status)
{
    if (status != NATS_OK)
        peer_fail(natsStatus_GetText(status));
}

static natsConnection *connect_to(const char *url)
{
    natsConnection *made = NULL;
    natsOptions *options = NULL;

    check(natsOptions_Create(&options));
    check(natsOptions_SetURL(options, url));
    check(natsOptions_SetSendAsap(options, true));
    check(natsConnection_Connect(&made, options));
    natsOptions_Destroy(options);
    return made;
}

/* The worker waits for messages itself: a callback would run on one more thread. */
static void serve(void)
{
    char url[PEER_TEXT_MAX];
    natsSubscription *requests = NULL;
    natsMsg *message = NULL;

    peer_hear(url);
    connection = connect_to(url);
    check(natsConnection_SubscribeSync(&requests, connection, SUBJECT));
    check(natsConnection_Flush(connection));
    peer_tell("ready");
    for (;;) {
        natsStatus status = natsSubscription_NextMsg(&message, requests, WAIT_MS);

        if (status == NATS_TIMEOUT)
            continue;
        check(status);
        check(natsConnection_Publish(connection, natsMsg_GetReply(message),
            natsMsg_GetData(message), natsMsg_GetDataLength(message)));
        natsMsg_Destroy(message);
    }
}

static void open_calls(const struct peer_options *options)
{
    char url[PEER_TEXT_MAX], ready[PEER_TEXT_MAX], port[8];
    uint16_t number = peer_free_port();

    if (options->server == NULL)
        peer_fail("needs the nats-server");
    (void)snprintf(port, sizeof(port), "%u", number);
    (void)snprintf(url, sizeof(url), "nats://127.0.0.1:%u", number);
    peer_fork(serve);
    peer_start_server(
        (char *[]){(char *)options->server, "-a", "127.0.0.1", "-p", port, NULL}, number);
    peer_tell(url);
    peer_hear(ready);
    connection = connect_to(url);
    check(natsConnection_SubscribeSync(&replies, connection, INBOX "*"));
    check(natsConnection_Flush(connection));
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    char reply[PEER_TEXT_MAX];

    (void)snprintf(reply, sizeof(reply), INBOX "%u", call);
    check(natsConnection_PublishRequest(connection, SUBJECT, reply, bytes, (int)len));
}

static void wait_calls(void)
{
    natsMsg *message = NULL;
    int messages = 0, bytes = 0;

    do {
        check(natsSubscription_NextMsg(&message, replies, WAIT_MS));
        peer_done((uint32_t)strtoul(natsMsg_GetSubject(message) + sizeof(INBOX) - 1, NULL, 10),
            natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
        natsMsg_Destroy(message);
        check(natsSubscription_GetPending(replies, &messages, &bytes));
    } while (messages > 0);
}

static void close_calls(void)
{
    natsSubscription_Destroy(replies);
    natsConnection_Destroy(connection);
}

const struct peer peer = {"nats", open_calls, send_call, wait_calls, close_calls};
