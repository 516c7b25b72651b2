/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing is strict: exactly one colon splits host and port, IPv6 stands in brackets, the port is
 * digits alone. inet_pton() knows the rest.
 */
#include "server/net/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum port {
    PORT_READ,
    PORT_NO_NUMBER,
    PORT_OUT_OF_RANGE,
};

static enum port read_port(const char *text, uint16_t *ret_port)
{
    unsigned long port = 0;
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || text[digits] != '\0')
        return PORT_NO_NUMBER;
    if (digits > 5)
        return PORT_OUT_OF_RANGE;
    for (; *text; text++)
        port = port * 10 + (unsigned long)(*text - '0');
    if (port > UINT16_MAX)
        return PORT_OUT_OF_RANGE;
    *ret_port = (uint16_t)port;
    return PORT_READ;
}

int knit_endpoint_parse(const char *text, const char *key, struct knit_endpoint *ret_endpoint,
    struct knit_sentence *why)
{
    struct knit_endpoint endpoint = {.address_len = 0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&endpoint.address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&endpoint.address;
    const char *colon = strrchr(text, ':');
    size_t host_len = colon != NULL ? (size_t)(colon - text) : 0;
    char host[INET6_ADDRSTRLEN + 2];
    uint16_t port = 0;
    enum port read = colon != NULL ? read_port(colon + 1, &port) : PORT_NO_NUMBER;

    if (read == PORT_OUT_OF_RANGE)
        return knit_sentence_set(why, KNIT_ENDPOINT_E_REFUSED,
            "%s: expected a port from 0 to 65535, not '%s'", key, text);
    if (read == PORT_NO_NUMBER || host_len == 0 || host_len >= sizeof(host))
        return knit_sentence_set(why, KNIT_ENDPOINT_E_REFUSED,
            "%s: expected ADDRESS:PORT or [ADDRESS]:PORT, not '%s'", key, text);
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    if (host[0] == '[' && host[host_len - 1] == ']') {
        host[host_len - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6;
            v6->sin6_port = htons(port);
            endpoint.address_len = sizeof(*v6);
        }
    } else if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        endpoint.address_len = sizeof(*v4);
    }
    if (endpoint.address_len == 0)
        return knit_sentence_set(why, KNIT_ENDPOINT_E_REFUSED,
            "%s: expected the number of an address, as in 127.0.0.1:5648 or "
            "[::1]:5648, not '%s'",
            key, text);
    *ret_endpoint = endpoint;
    return 0;
}

bool knit_endpoint_is_loopback(const struct knit_endpoint *endpoint)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&endpoint->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&endpoint->address;

    if (endpoint->address.ss_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        return v6->sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

bool knit_endpoint_is_same(const struct knit_endpoint *a, const struct knit_endpoint *b)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->address;
    bool takes_any = (a->address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port) == 0;

    return !takes_any && a->address_len == b->address_len &&
           memcmp(&a->address, &b->address, a->address_len) == 0;
}

bool knit_endpoint_answers(const struct knit_endpoint *bound, const struct knit_endpoint *wanted)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)&bound->address;
    const struct sockaddr_in *b4 = (const struct sockaddr_in *)&wanted->address;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)&bound->address;
    const struct sockaddr_in6 *b6 = (const struct sockaddr_in6 *)&wanted->address;

    if (bound->address.ss_family != wanted->address.ss_family)
        return false;
    if (bound->address.ss_family == AF_INET)
        return a4->sin_addr.s_addr == b4->sin_addr.s_addr &&
               (b4->sin_port == 0 || a4->sin_port == b4->sin_port);
    return bound->address.ss_family == AF_INET6 &&
           IN6_ARE_ADDR_EQUAL(&a6->sin6_addr, &b6->sin6_addr) &&
           (b6->sin6_port == 0 || a6->sin6_port == b6->sin6_port);
}

int knit_endpoint_of(int fd, struct knit_endpoint *ret_endpoint)
{
    struct knit_endpoint endpoint = {.address_len = sizeof(endpoint.address)};

    if (getsockname(fd, (struct sockaddr *)&endpoint.address, &endpoint.address_len) < 0)
        return -errno;
    *ret_endpoint = endpoint;
    return 0;
}

static void name_of(const struct sockaddr_storage *address, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)snprintf(ret_text, KNIT_ENDPOINT_TEXT_MAX, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        (void)snprintf(ret_text, KNIT_ENDPOINT_TEXT_MAX, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
}

void knit_endpoint_text(const struct knit_endpoint *endpoint, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    name_of(&endpoint->address, ret_text);
}

int knit_endpoint_try(const struct knit_endpoint *endpoint, struct knit_sentence *why)
{
    char name[KNIT_ENDPOINT_TEXT_MAX];
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    int on = 1, r = fd >= 0 ? 0 : -errno;

    name_of(&endpoint->address, name);
    /* So that the trial does not disturb a daemon that is about to listen there. */
    if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, (const struct sockaddr *)&endpoint->address, endpoint->address_len) < 0 &&
        errno != EADDRINUSE)
        r = -errno;
    if (fd >= 0)
        (void)close(fd);
    return r == 0 ? 0 : knit_sentence_set(why, r, "cannot listen on %s: %s", name, strerror(-r));
}

int knit_endpoint_listen(
    const struct knit_endpoint *endpoint, int *ret_fd, struct knit_sentence *why)
{
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    char name[KNIT_ENDPOINT_TEXT_MAX];
    int on = 1;
    int fd;

    name_of(&endpoint->address, name);
    fd = socket(
        endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return knit_sentence_set(
            why, KNIT_ENDPOINT_E_REFUSED, "cannot listen on %s: %s", name, strerror(errno));
    /* Connections of a former daemon in TIME_WAIT must not keep the next one from starting. A port
     * that another program listens on stays refused. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (endpoint->address.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, address, endpoint->address_len) < 0 || listen(fd, SOMAXCONN) < 0) {
        const char *hint =
            errno == EADDRINUSE ? "; another program listens there, choose another address" : "";
        int r = knit_sentence_set(
            why, KNIT_ENDPOINT_E_REFUSED, "cannot listen on %s: %s%s", name, strerror(errno), hint);

        (void)close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int knit_endpoint_name(int fd, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -errno;
    name_of(&address, ret_text);
    return 0;
}

int knit_endpoint_peer_credentials(int fd, struct ucred *ret_credentials)
{
    socklen_t len = sizeof(*ret_credentials);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_credentials, &len) < 0 ? -errno : 0;
}

int knit_endpoint_peer_name(int fd, char ret_text[KNIT_ENDPOINT_TEXT_MAX])
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(address);
    struct ucred credentials;
    int r;

    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0)
        return -errno;
    if (address.ss_family != AF_UNIX) {
        name_of(&address, ret_text);
        return 0;
    }
    r = knit_endpoint_peer_credentials(fd, &credentials);
    if (r != 0)
        return r;
    (void)snprintf(ret_text, KNIT_ENDPOINT_TEXT_MAX, "uid:%u,pid:%d", (unsigned)credentials.uid,
        (int)credentials.pid);
    return 0;
}

bool knit_endpoint_stays_here(int fd)
{
    struct knit_endpoint own = {.address_len = sizeof(own.address)};

    if (getsockname(fd, (struct sockaddr *)&own.address, &own.address_len) < 0)
        return false;
    return own.address.ss_family == AF_UNIX || knit_endpoint_is_loopback(&own);
}

/* Each kind has a range of its own: no address of IPv6 begins with 16 bits of zero, but for those
 * that stand for addresses of IPv4 and the loopback address. */
#define LOOPBACK      (UINT64_C(1) << 32)
#define OF_USER(uid)  (UINT64_C(2) << 32 | (uid))
#define OF_IPV4(bits) (UINT64_C(3) << 32 | (bits))

static uint64_t number_of(const uint8_t *bytes, size_t len)
{
    uint64_t number = 0;

    while (len-- > 0)
        number = number << 8 | *bytes++;
    return number;
}

uint64_t knit_endpoint_tenant(const struct knit_endpoint *endpoint)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&endpoint->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&endpoint->address;

    if (knit_endpoint_is_loopback(endpoint))
        return LOOPBACK;
    if (endpoint->address.ss_family == AF_INET)
        return OF_IPV4(ntohl(v4->sin_addr.s_addr));
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        return OF_IPV4(number_of(v6->sin6_addr.s6_addr + 12, 4));
    return number_of(v6->sin6_addr.s6_addr, 8);
}

uint64_t knit_endpoint_peer_tenant(int fd)
{
    struct knit_endpoint peer = {.address_len = sizeof(peer.address)};
    struct ucred credentials;

    if (getpeername(fd, (struct sockaddr *)&peer.address, &peer.address_len) < 0)
        return 0;
    if (peer.address.ss_family != AF_UNIX)
        return knit_endpoint_tenant(&peer);
    return knit_endpoint_peer_credentials(fd, &credentials) == 0 ? OF_USER(credentials.uid) : 0;
}
