/* SPDX-License-Identifier: Apache-2.0 */
/* All sockets that the daemon listens on: the TCP addresses of [server] listen and listen_tls, and
 * the unix socket.
 *
 * They are opened before the workers start, so that a second daemon is refused in a moment and
 * connections made during a long start wait in the backlog instead of failing. Accepting begins
 * when everything else runs.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <event2/event.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"
#include "server/net/endpoint.h"
#include "server/net/inherited.h"
#include "server/net/listener.h"
#include "server/net/socket_file.h"

struct knit_log;

/* 16 addresses of [server] listen and 16 of listen_tls, and the unix socket. */
#define KNIT_LISTENING_TCP_MAX 32
#define KNIT_LISTENING_MAX     (KNIT_LISTENING_TCP_MAX + 1)

enum {
    KNIT_LISTENING_E_REFUSED = 1, /* the sentence says why */
};

struct knit_listening {
    int tcp_fds[KNIT_LISTENING_TCP_MAX];
    char tcp_names[KNIT_LISTENING_TCP_MAX][KNIT_ENDPOINT_TEXT_MAX]; /* where they really listen */
    bool tcp_is_tls[KNIT_LISTENING_TCP_MAX];
    size_t tcp_count;
    struct knit_socket_file socket; /* .fd = -1: none */
    struct knit_listener listeners[KNIT_LISTENING_MAX];
    size_t listener_count;
};

/* Whether there is something to listen on, the addresses can be read and may be listened on, the
 * socket's file can be made, and its group exists. What another program holds is not refused here.
 * log: gets knit_listening_warn() of each address; NULL: nobody does. Returns 0,
 * KNIT_LISTENING_E_REFUSED, or -errno of what the system refuses; with a sentence. */
KNIT_MUST_CHECK int knit_listening_check(
    const struct knit_settings *settings, struct knit_log *log, struct knit_sentence *why);

/* Whether callers must say who they are there, and nothing is taken by which they could. */
bool knit_listening_knows_nobody(const struct knit_settings *settings, bool is_tls);

/* Says so in the log, since nobody may call there then. It is not refused: what was asked for is
 * what there is, and callers on the unix socket are known. */
void knit_listening_warn(
    const struct knit_settings *settings, bool is_tls, const char *address, struct knit_log *log);

/* Whether an address that other machines reach, its text, is listened on only because the policy
 * lets nobody do anything who has not said who he is: then it has to be such a policy. */
KNIT_MUST_CHECK bool knit_listening_trusts_policy(
    const struct knit_settings *settings, char ret_text[KNIT_ENDPOINT_TEXT_MAX]);

/* listening: { .socket = {.fd = -1, .lock_fd = -1} }. Takes of the inherited sockets those that it
 * needs, and opens the others. Returns 0, KNIT_LISTENING_E_REFUSED, -errno, always with a sentence;
 * close it in any case. */
KNIT_MUST_CHECK int knit_listening_open(struct knit_listening *listening,
    const struct knit_settings *settings, struct knit_inherited *inherited,
    struct knit_sentence *why);

/* Descriptors of the same sockets, and of the unix socket's lock, which stand first; the caller's.
 * Returns how many, 0: not all could be made, and so none were. */
size_t knit_listening_duplicate(
    const struct knit_listening *listening, int ret_fds[KNIT_LISTENING_MAX + 1]);

/* Begins to accept; the callbacks are those of listener.h. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_listening_start(struct knit_listening *listening, struct event_base *base,
    knit_listener_on_accept *on_accept, knit_listener_on_exhausted *on_exhausted, void *arg);

/* Accepts no more. */
void knit_listening_stop(struct knit_listening *listening);

/* Closes the sockets and removes the socket file. */
void knit_listening_close(struct knit_listening *listening);
