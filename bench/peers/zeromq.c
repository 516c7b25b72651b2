/* SPDX-License-Identifier: Apache-2.0 */
/* ZeroMQ: a DEALER on both sides, which is the least that keeps messages apart. The worker is a
 * process over TCP, or a thread over inproc (built with -DINPROC). A message is the call's number
 * and the argument, in one part. */
#include <pthread.h>
#include <string.h>
#include <zmq.h>

#include "bench/peers/peer.h"

#ifdef INPROC
#define NAME    "zeromq-inproc"
#define ADDRESS "inproc://calls"
#else
#define NAME    "zeromq"
#define ADDRESS "tcp://127.0.0.1:*"
#endif

static void *context, *calls;

/* Sends back what comes, without copying it. */
static void echo(void *worker)
{
    zmq_msg_t message;

    (void)zmq_msg_init(&message);
    while (zmq_msg_recv(&message, worker, 0) >= 0 && zmq_msg_send(&message, worker, 0) >= 0)
        ;
    (void)zmq_close(worker);
}

#ifdef INPROC
static pthread_t thread;

static void *serve(void *arg)
{
    void *worker = zmq_socket(context, ZMQ_DEALER);

    if (worker != NULL && zmq_connect(worker, arg) == 0)
        echo(worker);
    return NULL;
}

static void start_worker(void)
{
}

static void connect_worker(void)
{
    if (pthread_create(&thread, NULL, serve, ADDRESS) != 0)
        peer_fail("no thread");
}

static void join_worker(void)
{
    (void)zmq_ctx_shutdown(context);
    (void)pthread_join(thread, NULL);
}
#else
static void serve(void)
{
    char address[PEER_TEXT_MAX];
    void *own = zmq_ctx_new(), *worker = zmq_socket(own, ZMQ_DEALER);

    peer_hear(address);
    if (zmq_connect(worker, address) == 0)
        echo(worker);
}

static void start_worker(void)
{
    peer_fork(serve);
}

static void connect_worker(void)
{
    char address[PEER_TEXT_MAX];
    size_t len = sizeof(address);

    if (zmq_getsockopt(calls, ZMQ_LAST_ENDPOINT, address, &len) != 0)
        peer_fail(zmq_strerror(zmq_errno()));
    peer_tell(address);
}

static void join_worker(void)
{
}
#endif

static void open_calls(const struct peer_options *options)
{
    (void)options;
    start_worker();
    context = zmq_ctx_new();
    calls = zmq_socket(context, ZMQ_DEALER);
    if (calls == NULL || zmq_bind(calls, ADDRESS) != 0)
        peer_fail(zmq_strerror(zmq_errno()));
    connect_worker();
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    zmq_msg_t message;
    unsigned char *room;

    if (zmq_msg_init_size(&message, sizeof(call) + len) != 0)
        peer_fail("out of memory");
    room = zmq_msg_data(&message);
    memcpy(room, &call, sizeof(call));
    memcpy(room + sizeof(call), bytes, len);
    if (zmq_msg_send(&message, calls, 0) < 0)
        peer_fail(zmq_strerror(zmq_errno()));
}

static void wait_calls(void)
{
    int flags = 0;
    zmq_msg_t message;

    (void)zmq_msg_init(&message);
    while (zmq_msg_recv(&message, calls, flags) >= 0) {
        const unsigned char *bytes = zmq_msg_data(&message);
        uint32_t call;

        memcpy(&call, bytes, sizeof(call));
        peer_done(call, bytes + sizeof(call), zmq_msg_size(&message) - sizeof(call));
        flags = ZMQ_DONTWAIT;
    }
    (void)zmq_msg_close(&message);
}

static void close_calls(void)
{
    const int none = 0;

    (void)zmq_setsockopt(calls, ZMQ_LINGER, &none, sizeof(none));
    (void)zmq_close(calls);
    join_worker();
    (void)zmq_ctx_term(context);
}

const struct peer peer = {NAME, open_calls, send_call, wait_calls, close_calls};
