/* SPDX-License-Identifier: Apache-2.0 */
/* What bench/tls.py measures with: the least that a server with TLS can do, and a client that does
 * the same to it and to a daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_load {
    uint16_t port;
    bool is_encrypted;
    bool is_call; /* of `echo`, by its protocol; else any bytes, which come back */
    unsigned connections;
    unsigned depth; /* messages in flight on each */
    size_t bytes;
    unsigned ms;
};

/* Echoes on 127.0.0.1, with libevent and with TLS if there is a certificate, until it is killed;
 * prints "ready" when it listens. Returns an exit status. */
int tls_serve(uint16_t port, const char *certificate, const char *key);

/* Messages a second; below 0: it failed, and said why. */
double tls_load_run(const struct tls_load *load);

/* Handshakes a second, one after the other on each thread; below 0: it failed, and said why. */
double tls_shake_run(uint16_t port, bool is_resumed, unsigned threads, unsigned ms);
