/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes, each on a connection of its own that ends when both sides are through. A session that
 * is resumed is the first one's, again and again, so that every handshake is the same.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/ticks.h"
#include "bench/tls_bench.h"

enum { THREADS_MAX = 16 };

struct shaker {
    uint16_t port;
    bool is_resumed;
    uint64_t end_ns;
    uint64_t count; /* UINT64_MAX: it failed */
    SSL_CTX *context;
    SSL_SESSION *session;
};

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct shaker *shaker = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    /* A copy: the library forgets a session whose connection ended without a word. */
    if (shaker->is_resumed && shaker->session == NULL)
        shaker->session = SSL_SESSION_dup(session);
    return 0;
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    perror("connect");
    return -1;
}

/* Its ticket comes behind a handshake, before the end that the server says after ours. */
static void wait_for_end(SSL *ssl)
{
    char byte;

    (void)SSL_shutdown(ssl);
    (void)SSL_read(ssl, &byte, 1);
}

static void use_session(const struct shaker *shaker, SSL *ssl)
{
    SSL_SESSION *session = shaker->session != NULL ? SSL_SESSION_dup(shaker->session) : NULL;

    if (session != NULL)
        (void)SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
}

static bool shake_once(struct shaker *shaker)
{
    /* With a reset there are no ports that wait for late packets, of which there are too few. */
    const struct linger linger = {1, 0};
    int fd = dial(shaker->port);
    SSL *ssl = fd >= 0 ? SSL_new(shaker->context) : NULL;
    bool is_repeated = shaker->session != NULL, is_good;

    if (ssl == NULL)
        return false;
    (void)SSL_set_fd(ssl, fd);
    use_session(shaker, ssl);
    is_good = SSL_connect(ssl) == 1 && (!is_repeated || SSL_session_reused(ssl) == 1);
    if (!is_good)
        fprintf(stderr, "a handshake failed, or was not resumed\n");
    wait_for_end(ssl);
    SSL_free(ssl);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
    return is_good;
}

static void *shake(void *arg)
{
    struct shaker *shaker = arg;

    while (knit_ticks_clock_ns() < shaker->end_ns) {
        if (!shake_once(shaker)) {
            shaker->count = UINT64_MAX;
            break;
        }
        shaker->count++;
    }
    return NULL;
}

static void prepare(struct shaker *shaker)
{
    shaker->context = SSL_CTX_new(TLS_client_method());
    (void)SSL_CTX_set_app_data(shaker->context, shaker);
    (void)SSL_CTX_set_session_cache_mode(
        shaker->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(shaker->context, on_session);
}

double tls_shake_run(uint16_t port, bool is_resumed, unsigned threads, unsigned ms)
{
    struct shaker shakers[THREADS_MAX] = {{0}};
    pthread_t ids[THREADS_MAX];
    uint64_t count = 0, begin_ns, end_ns;
    bool is_good = threads <= THREADS_MAX;

    for (unsigned i = 0; is_good && i < threads; i++) {
        shakers[i].port = port;
        shakers[i].is_resumed = is_resumed;
        prepare(&shakers[i]);
        is_good = shake_once(&shakers[i]);
    }
    begin_ns = knit_ticks_clock_ns();
    for (unsigned i = 0; is_good && i < threads; i++) {
        shakers[i].end_ns = begin_ns + ms * UINT64_C(1000000);
        if (pthread_create(&ids[i], NULL, shake, &shakers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; is_good && i < threads; i++)
        (void)pthread_join(ids[i], NULL);
    end_ns = knit_ticks_clock_ns();
    for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
        is_good = is_good && shakers[i].count != UINT64_MAX;
        count += shakers[i].count;
        SSL_SESSION_free(shakers[i].session);
        SSL_CTX_free(shakers[i].context);
    }
    return is_good ? (double)count * 1e9 / (double)(end_ns - begin_ns) : -1;
}
