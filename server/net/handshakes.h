/* SPDX-License-Identifier: Apache-2.0 */
/* Connections whose TLS handshake is not over: strangers, who get little. And those whose proxy has
 * not said yet for whom it connects (proxy_header.h), before a handshake or instead of one.
 *
 * One is a descriptor and the time when it came until its first record is there, and no connection
 * before its handshake is over. Handshakes move on in the order in which their sockets became
 * ready, a few steps a turn, since a step costs as much as a hundred calls.
 *
 * Limits: 256 of all loops together; one more ends the oldest one of the tenant (tenant.h) that has
 * the most, so that those who never finish do not keep out those who do. 10 s from when it was
 * accepted. What a handshake may bring is in transport_tls.h.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct event_base;
struct knit_handshake;
struct knit_net;
struct knit_tls_store;

TAILQ_HEAD(knit_handshake_list, knit_handshake);

struct knit_handshakes {
    struct knit_tls_store *store;   /* borrowed; NULL: there is no TLS */
    struct knit_handshake_list all; /* the longest there first */
    struct knit_handshake_list runnable;
    uint32_t count;
};

void knit_handshakes_init(struct knit_handshakes *handshakes);

/* Takes over a TCP socket that was accepted. One without TLS that comes from no proxy is a
 * connection at once. */
void knit_handshakes_begin(struct knit_net *net, int fd, bool is_tls);

/* In a turn: moves on those that can, for as long as there is time for them. */
void knit_handshakes_run(struct knit_net *net);

/* Whether some can. */
static inline bool knit_handshakes_has_work(const struct knit_handshakes *handshakes)
{
    return !TAILQ_EMPTY(&handshakes->runnable);
}

/* Once a second: ends those that take too long. */
void knit_handshakes_sweep(struct knit_net *net);

void knit_handshakes_close_all(struct knit_net *net);
