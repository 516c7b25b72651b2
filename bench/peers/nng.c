/* SPDX-License-Identifier: Apache-2.0 */
/* nng's request and reply over TCP: on both sides a context for each call in flight on one
 * connection, since a context has one call at a time. The worker's work is done where its receives
 * complete, on nng's threads; the caller's completions come there too, so they are handed over. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/peers/peer.h"

struct call {
    nng_ctx context;
    nng_aio *aio;
    bool is_sent;
    nng_msg *answer;
};

static nng_socket requests;
static struct call calls[PEER_DEPTH_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static uint32_t done[PEER_DEPTH_MAX], done_count;

static void check(int error)
{
    if (error != 0)
        peer_fail(nng_strerror(error));
}

/* ---- the worker ------------------------------------------------------------------------------ */

struct place {
    nng_ctx context;
    nng_aio *aio;
    bool is_answering;
};

/* What was received is sent back; then the place receives again. */
static void on_worker_done(void *arg)
{
    struct place *place = arg;

    if (nng_aio_result(place->aio) != 0)
        return;
    place->is_answering = !place->is_answering;
    if (place->is_answering)
        nng_ctx_send(place->context, place->aio);
    else
        nng_ctx_recv(place->context, place->aio);
}

static void serve(void)
{
    static struct place places[PEER_DEPTH_MAX];
    char address[PEER_TEXT_MAX];
    nng_socket replies;
    nng_sockaddr at;
    nng_listener listener;

    check(nng_rep0_open(&replies));
    for (uint32_t i = 0; i < PEER_DEPTH_MAX; i++) {
        check(nng_ctx_open(&places[i].context, replies));
        check(nng_aio_alloc(&places[i].aio, on_worker_done, &places[i]));
        nng_ctx_recv(places[i].context, places[i].aio);
    }
    check(nng_listen(replies, "tcp://127.0.0.1:0", &listener, 0));
    check(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &at));
    (void)snprintf(address, sizeof(address), "tcp://127.0.0.1:%u",
        (unsigned)((at.s_in.sa_port & 0xff) << 8 | at.s_in.sa_port >> 8));
    peer_tell(address);
    for (;;)
        (void)pause();
}

/* ---- the caller ------------------------------------------------------------------------------ */

/* On a thread of nng's: after the send comes the receive. */
static void on_done(void *arg)
{
    struct call *call = arg;

    check(nng_aio_result(call->aio));
    if (!call->is_sent) {
        call->is_sent = true;
        nng_ctx_recv(call->context, call->aio);
        return;
    }
    call->answer = nng_aio_get_msg(call->aio);
    (void)pthread_mutex_lock(&mutex);
    done[done_count++] = (uint32_t)(call - calls);
    (void)pthread_cond_signal(&answered);
    (void)pthread_mutex_unlock(&mutex);
}

static void open_calls(const struct peer_options *options)
{
    char address[PEER_TEXT_MAX];

    (void)options;
    peer_fork(serve);
    peer_hear(address);
    check(nng_req0_open(&requests));
    check(nng_dial(requests, address, NULL, 0));
    for (uint32_t i = 0; i < PEER_DEPTH_MAX; i++) {
        check(nng_ctx_open(&calls[i].context, requests));
        check(nng_aio_alloc(&calls[i].aio, on_done, &calls[i]));
    }
}

static void send_call(uint32_t index, const void *bytes, size_t len)
{
    struct call *call = &calls[index];
    nng_msg *message;

    check(nng_msg_alloc(&message, 0));
    check(nng_msg_append(message, bytes, len));
    call->is_sent = false;
    nng_aio_set_msg(call->aio, message);
    nng_ctx_send(call->context, call->aio);
}

static void wait_calls(void)
{
    uint32_t taken[PEER_DEPTH_MAX], count;

    (void)pthread_mutex_lock(&mutex);
    while (done_count == 0)
        (void)pthread_cond_wait(&answered, &mutex);
    count = done_count;
    memcpy(taken, done, count * sizeof(*done));
    done_count = 0;
    (void)pthread_mutex_unlock(&mutex);
    for (uint32_t i = 0; i < count; i++) {
        nng_msg *answer = calls[taken[i]].answer;

        peer_done(taken[i], nng_msg_body(answer), nng_msg_len(answer));
        nng_msg_free(answer);
    }
}

static void close_calls(void)
{
    (void)nng_close(requests);
}

const struct peer peer = {"nng", open_calls, send_call, wait_calls, close_calls};
