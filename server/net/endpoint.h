/* SPDX-License-Identifier: Apache-2.0 */
/* TCP addresses to listen on: "127.0.0.1:5648", "[::1]:0".
 *
 * Addresses are numbers, never names: what a daemon listens on must not depend on a resolver.
 *
 * Each address has one listening socket, without SO_REUSEPORT, so that the kernel refuses a second
 * daemon on the same port and there is no moment at which both could get it. The main thread deals
 * connections to the event loops one by one, which spreads few long-lived connections evenly; the
 * kernel's hash over ports would not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <knitting/code.h>

#include "proto/sentence.h"

#define KNIT_ENDPOINT_TEXT_MAX 64

enum {
    KNIT_ENDPOINT_E_REFUSED = 1, /* the sentence says why */
};

struct ucred;

struct knit_endpoint {
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* key: the setting that has the text, for the sentence. Returns 0 or KNIT_ENDPOINT_E_REFUSED. */
KNIT_MUST_CHECK int knit_endpoint_parse(const char *text, const char *key,
    struct knit_endpoint *ret_endpoint, struct knit_sentence *why);

/* Whether only this machine can reach it. */
bool knit_endpoint_is_loopback(const struct knit_endpoint *endpoint);

/* Whether this machine has the address and this process may bind the port. Another program may
 * listen there. Returns 0, or -errno with the sentence. */
KNIT_MUST_CHECK int knit_endpoint_try(
    const struct knit_endpoint *endpoint, struct knit_sentence *why);

/* Whether both are one address and port. Port 0 is another one each time. */
bool knit_endpoint_is_same(const struct knit_endpoint *a, const struct knit_endpoint *b);

/* "host:port", with brackets round IPv6. */
void knit_endpoint_text(
    const struct knit_endpoint *endpoint, char ret_text[KNIT_ENDPOINT_TEXT_MAX]);

/* Whether a socket that is bound to `bound` is one for `wanted`, whose port 0 is any. */
bool knit_endpoint_answers(const struct knit_endpoint *bound, const struct knit_endpoint *wanted);

/* Where a socket is bound. 0 or -errno. */
KNIT_MUST_CHECK int knit_endpoint_of(int fd, struct knit_endpoint *ret_endpoint);

/* A non-blocking listening socket; connections wait in its backlog until they are accepted.
 * Returns 0 or KNIT_ENDPOINT_E_REFUSED. */
KNIT_MUST_CHECK int knit_endpoint_listen(
    const struct knit_endpoint *endpoint, int *ret_fd, struct knit_sentence *why);

/* Where a bound socket really listens, as "host:port" with brackets round IPv6. 0 or -errno. */
KNIT_MUST_CHECK int knit_endpoint_name(int fd, char ret_text[KNIT_ENDPOINT_TEXT_MAX]);

/* The same of the other end of a connection; "uid:U,pid:P" of a unix socket. 0 or -errno. */
KNIT_MUST_CHECK int knit_endpoint_peer_name(int fd, char ret_text[KNIT_ENDPOINT_TEXT_MAX]);

/* Whose process is at the other end of a unix socket. 0 or -errno. */
KNIT_MUST_CHECK int knit_endpoint_peer_credentials(int fd, struct ucred *ret_credentials);

/* Whether what goes over the connection does not leave this machine: a unix socket, or the loopback
 * address. */
bool knit_endpoint_stays_here(int fd);

/* A number for whoever is behind an address, as tenant.h says. */
uint64_t knit_endpoint_tenant(const struct knit_endpoint *endpoint);

/* For whoever is behind the other end of a connection; 0 for all of whom that is not known. */
uint64_t knit_endpoint_peer_tenant(int fd);
