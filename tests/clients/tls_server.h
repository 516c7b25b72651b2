/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of encrypted connections: certificates, and a server on the test's own thread, which
 * keeps what it would send until the test lets so many bytes of it through.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

/* A certificate with its key. */
struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    char *certificate_path, *key_path; /* in the folder of the test */
};

/* How one is made. */
struct identity_wish {
    const char *name;
    const char *names;             /* "DNS:localhost,IP:127.0.0.1"; NULL = none */
    const struct identity *issuer; /* NULL: it signs itself */
    bool is_authority;
    const char *usage; /* "serverAuth", "clientAuth"; NULL = any */
    int from_days, to_days;
};

struct identity *identity_new(const char *dir, const struct identity_wish *wish);
struct identity *identity_free(struct identity *identity); /* returns NULL */

/* "sha256//..." of its key, to be freed. */
char *identity_pin(const struct identity *identity);

struct tls_server {
    SSL_CTX *context;
    SSL *ssl;
    int fd; /* the other end of the client's socket */
};

/* protocol: "knit/1", another one, or NULL for a server that knows of none. */
SSL_CTX *tls_server_context(const struct identity *identity, const char *protocol);

void tls_server_begin(struct tls_server *server, SSL_CTX *context, int fd);
void tls_server_end(struct tls_server *server); /* its end of the socket too */

/* Takes what has come from the client, and goes on with the handshake. */
void tls_server_turn(struct tls_server *server);

/* Lets at most `most` bytes through. Returns how many went. */
size_t tls_server_give(struct tls_server *server, size_t most);

/* How many bytes wait to be given. */
size_t tls_server_has(const struct tls_server *server);

/* What the client has sent, as far as it has come. */
size_t tls_server_read(struct tls_server *server, void *room, size_t max);

/* One record, to be given. */
void tls_server_write(struct tls_server *server, const void *bytes, size_t len);
