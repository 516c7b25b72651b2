/* SPDX-License-Identifier: Apache-2.0 */
/* A ticket is encrypted with AES-256 and then has an HMAC, by the library. Whoever has a key can
 * make a ticket that names any client, so a file that others may read is refused.
 */
#include "server/tls/tls_tickets.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "server/tls/tls_parts.h"

#define REFUSED KNIT_TLS_TICKETS_E_REFUSED

static const uint64_t turn_ns = UINT64_C(12) * 3600 * 1000000000;

_Static_assert(sizeof(struct knit_tls_ticket_key) == 80, "a file consists of these");

/* Puts a random key before the others, of which the last goes. */
static bool add_random(struct knit_tls_ticket_ring *ring)
{
    struct knit_tls_ticket_key key;

    if (getrandom(&key, sizeof(key), 0) != sizeof(key))
        return false;
    if (ring->count < KNIT_TLS_TICKET_KEYS_MAX)
        ring->count++;
    memmove(&ring->keys[1], &ring->keys[0], (ring->count - 1) * sizeof(key));
    ring->keys[0] = key;
    OPENSSL_cleanse(&key, sizeof(key));
    return true;
}

int knit_tls_tickets_init(struct knit_tls_tickets *tickets)
{
    *tickets = (struct knit_tls_tickets){.made_ns = knit_clock_ns()};
    (void)pthread_mutex_init(&tickets->mutex, NULL);
    return add_random(&tickets->ring) ? 0 : -EIO;
}

void knit_tls_tickets_fini(struct knit_tls_tickets *tickets)
{
    (void)pthread_mutex_destroy(&tickets->mutex);
    OPENSSL_cleanse(&tickets->ring, sizeof(tickets->ring));
}

/* How many bytes there are, up to `size`; below 0: -errno. */
static ssize_t read_private(const char *path, uint8_t *room, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), error;
    struct stat facts;
    ssize_t len = -1;

    if (fd < 0)
        return -errno;
    errno = EPERM;
    if (fstat(fd, &facts) == 0 && (facts.st_mode & S_IRWXO) == 0)
        len = read(fd, room, size);
    error = errno;
    (void)close(fd);
    return len >= 0 ? len : -error;
}

int knit_tls_tickets_read(
    const char *path, struct knit_tls_ticket_ring *ret_ring, struct knit_sentence *why)
{
    struct knit_tls_ticket_ring ring = {.count = 0};
    uint8_t bytes[sizeof(ring.keys) + 1];
    ssize_t len = read_private(path, bytes, sizeof(bytes));
    int r = 0;

    if (len == -EPERM)
        r = knit_sentence_set(why, REFUSED,
            "server.tls_ticket_keys: expected a file that only its owner and group may read, not "
            "%s",
            path);
    else if (len < 0)
        r = knit_sentence_set(
            why, REFUSED, "server.tls_ticket_keys: cannot read %s: %s", path, strerror((int)-len));
    else if (len == 0 || (size_t)len > sizeof(ring.keys) || (size_t)len % sizeof(ring.keys[0]) != 0)
        r = knit_sentence_set(why, REFUSED,
            "server.tls_ticket_keys: expected 80, 160 or 240 random bytes in %s, a key each 80",
            path);
    if (r == 0) {
        ring.count = (size_t)len / sizeof(ring.keys[0]);
        memcpy(ring.keys, bytes, (size_t)len);
        *ret_ring = ring;
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
    OPENSSL_cleanse(&ring, sizeof(ring));
    return r;
}

void knit_tls_tickets_set(struct knit_tls_tickets *tickets, const struct knit_tls_ticket_ring *ring)
{
    (void)pthread_mutex_lock(&tickets->mutex);
    tickets->ring = *ring;
    tickets->made_ns = 0;
    (void)pthread_mutex_unlock(&tickets->mutex);
}

/* ---- as the library asks for them ---------------------------------------------------------- */

/* The key to make tickets with. */
static struct knit_tls_ticket_key first_key(struct knit_tls_tickets *tickets)
{
    struct knit_tls_ticket_key key;

    (void)pthread_mutex_lock(&tickets->mutex);
    if (tickets->made_ns != 0 && knit_clock_ns() - tickets->made_ns >= turn_ns &&
        add_random(&tickets->ring))
        tickets->made_ns = knit_clock_ns();
    key = tickets->ring.keys[0];
    (void)pthread_mutex_unlock(&tickets->mutex);
    return key;
}

/* Its place; below 0: there is none of that name any more. */
static int find_key(
    struct knit_tls_tickets *tickets, const uint8_t name[16], struct knit_tls_ticket_key *ret_key)
{
    int place = -1;

    (void)pthread_mutex_lock(&tickets->mutex);
    for (size_t i = 0; i < tickets->ring.count && place < 0; i++) {
        if (CRYPTO_memcmp(tickets->ring.keys[i].name, name, sizeof(ret_key->name)) != 0)
            continue;
        *ret_key = tickets->ring.keys[i];
        place = (int)i;
    }
    (void)pthread_mutex_unlock(&tickets->mutex);
    return place;
}

static bool begin_mac(EVP_MAC_CTX *mac, struct knit_tls_ticket_key *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* -1: no ticket is made, or taken. 0: the key is not known. 1: it is. 2: the client gets a new
 * ticket as well, since the key is not the first one any more. */
static int on_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int is_making)
{
    struct knit_tls_tickets *tickets = knit_tls_parts_of(SSL_get_SSL_CTX(ssl))->tickets;
    const EVP_CIPHER *aes = EVP_aes_256_cbc();
    struct knit_tls_ticket_key key;
    int place = 0, answer = -1;

    if (is_making) {
        key = first_key(tickets);
        memcpy(name, key.name, sizeof(key.name));
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) == 1 &&
            EVP_EncryptInit_ex2(cipher, aes, key.cipher, iv, NULL) == 1 && begin_mac(mac, &key))
            answer = 1;
    } else {
        place = find_key(tickets, name, &key);
        if (place < 0)
            return 0;
        if (EVP_DecryptInit_ex2(cipher, aes, key.cipher, iv, NULL) == 1 && begin_mac(mac, &key))
            answer = place == 0 ? 1 : 2;
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return answer;
}

static int on_making(SSL *ssl, void *arg)
{
    const struct knit_tls_parts *parts = arg;

    return SSL_SESSION_set1_ticket_appdata(
        SSL_get_session(ssl), parts->trust, KNIT_TLS_DIGEST_BYTES);
}

/* A session that is resumed is verified by nothing else, so with a list that is old it would go on
 * for as long as its client comes again. */
static bool is_trusted(SSL_SESSION *session, const struct knit_tls_parts *parts)
{
    const X509 *peer = SSL_SESSION_get0_peer(session);
    void *digest;
    size_t len;

    return SSL_SESSION_get0_ticket_appdata(session, &digest, &len) == 1 &&
           len == KNIT_TLS_DIGEST_BYTES && CRYPTO_memcmp(digest, parts->trust, len) == 0 &&
           (parts->lists_until == 0 || time(NULL) < parts->lists_until) &&
           (peer == NULL || X509_cmp_current_time(X509_get0_notAfter(peer)) > 0);
}

static SSL_TICKET_RETURN on_taking(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
    size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    /* By TLS 1.3 a client uses a ticket once, so that nobody can tell that two connections are the
     * same client's, and needs another. */
    bool has_another = status == SSL_TICKET_SUCCESS_RENEW || SSL_version(ssl) >= TLS1_3_VERSION;

    (void)name, (void)name_len;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (!is_trusted(session, arg))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return has_another ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

int knit_tls_tickets_use(struct knit_tls_tickets *tickets, SSL_CTX *context)
{
    struct knit_tls_parts *parts = knit_tls_parts_of(context);

    parts->tickets = tickets;
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_key) == 1 &&
                   SSL_CTX_set_session_ticket_cb(context, on_making, on_taking, parts) == 1 &&
                   SSL_CTX_set_num_tickets(context, 1) == 1
               ? 0
               : -ENOMEM;
}

/* What is in that memory. */
struct given {
    uint64_t made_ns;
    struct knit_tls_ticket_ring ring;
};

int knit_tls_tickets_give(struct knit_tls_tickets *tickets)
{
    int fd = memfd_create("tickets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct given given;
    int r = 0;

    if (fd < 0)
        return -errno;
    (void)pthread_mutex_lock(&tickets->mutex);
    given = (struct given){tickets->made_ns, tickets->ring};
    (void)pthread_mutex_unlock(&tickets->mutex);
    if (fchmod(fd, 0600) < 0 || write(fd, &given, sizeof(given)) != (ssize_t)sizeof(given) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        r = -EIO;
    OPENSSL_cleanse(&given, sizeof(given));
    if (r != 0)
        (void)close(fd);
    return r != 0 ? r : fd;
}

int knit_tls_tickets_take(struct knit_tls_tickets *tickets, int fd)
{
    uint64_t now_ns = knit_clock_ns();
    struct given given;
    struct stat status;

    if (fstat(fd, &status) < 0 || status.st_size != (off_t)sizeof(given) ||
        pread(fd, &given, sizeof(given), 0) != (ssize_t)sizeof(given) || given.ring.count == 0 ||
        given.ring.count > KNIT_TLS_TICKET_KEYS_MAX)
        return -EINVAL;
    (void)pthread_mutex_lock(&tickets->mutex);
    tickets->ring = given.ring;
    /* Keys of a file that this daemon has not go on as random ones do. */
    tickets->made_ns = given.made_ns != 0 && given.made_ns < now_ns ? given.made_ns : now_ns;
    (void)pthread_mutex_unlock(&tickets->mutex);
    OPENSSL_cleanse(&given, sizeof(given));
    return 0;
}
