/* SPDX-License-Identifier: Apache-2.0 */
/* Entries stay where they are, so an attempt that is under way keeps its own. */
#include "clients/lib/endpoints.h"

#include <netdb.h>
#include <string.h>

#include "clients/lib/stream.h"

enum {
    FAILURES = 3,
    EJECTED_MS = 1000,
    EJECTED_MAX_MS = 60 * 1000,
    BACKOFF_MS = 50,
    BACKOFF_MAX_MS = 5000,
};

static const uint64_t ms = 1000000;

void knit_endpoints_init(struct knit_endpoints *all, uint32_t url_count)
{
    for (uint32_t i = 0; i < url_count; i++)
        all->at[i] = (struct knit_endpoint){.is_there = true, .url = i};
}

uint32_t knit_endpoints_count(const struct knit_endpoints *all)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        count += all->at[i].is_there;
    return count;
}

uint32_t knit_endpoints_count_of(const struct knit_endpoints *all, uint32_t url)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        count += all->at[i].is_there && all->at[i].url == url;
    return count;
}

/* ---- addresses ---- */

static bool is_same(const union knit_address *left, const union knit_address *right)
{
    if (left->any.sa_family != right->any.sa_family)
        return false;
    if (left->any.sa_family == AF_INET)
        return left->v4.sin_port == right->v4.sin_port &&
               left->v4.sin_addr.s_addr == right->v4.sin_addr.s_addr;
    return left->v6.sin6_port == right->v6.sin6_port &&
           left->v6.sin6_scope_id == right->v6.sin6_scope_id &&
           memcmp(&left->v6.sin6_addr, &right->v6.sin6_addr, sizeof(left->v6.sin6_addr)) == 0;
}

/* False: it is none of that family. */
static bool read_address(const struct addrinfo *from, int family, union knit_address *ret)
{
    const size_t size =
        family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    if (from->ai_family != family || from->ai_addrlen < size)
        return false;
    *ret = (union knit_address){0};
    memcpy(ret, from->ai_addr, size);
    return true;
}

static bool has_family(const struct addrinfo *list, int family)
{
    union knit_address address;

    for (; list != NULL; list = list->ai_next)
        if (read_address(list, family, &address))
            return true;
    return false;
}

static bool has_address(const struct addrinfo *list, int family, const union knit_address *address)
{
    union knit_address other;

    for (; list != NULL; list = list->ai_next)
        if (read_address(list, family, &other) && is_same(&other, address))
            return true;
    return false;
}

static int family_of(const struct knit_endpoints *all, uint32_t url)
{
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        if (all->at[i].is_there && all->at[i].url == url && all->at[i].has_address)
            return all->at[i].address.any.sa_family;
    return AF_UNSPEC;
}

struct knit_endpoint *knit_endpoints_find(
    struct knit_endpoints *all, uint32_t url, const union knit_address *address)
{
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        if (all->at[i].is_there && all->at[i].url == url && all->at[i].has_address &&
            is_same(&all->at[i].address, address))
            return &all->at[i];
    return NULL;
}

static void forget(struct knit_endpoint *endpoint)
{
    if (endpoint->stream != NULL)
        endpoint->stream->has_goaway = true;
    endpoint->stream = NULL;
    endpoint->is_there = false;
}

static void add(struct knit_endpoints *all, uint32_t url, const union knit_address *address)
{
    struct knit_endpoint *place = NULL;

    if (knit_endpoints_find(all, url, address) != NULL)
        return;
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++) {
        struct knit_endpoint *endpoint = &all->at[i];

        /* The URL's own, until it has one. */
        if (endpoint->is_there && endpoint->url == url && !endpoint->has_address) {
            endpoint->address = *address;
            endpoint->has_address = true;
            return;
        }
        /* A ping of one that has gone may still be under way. */
        if (place == NULL && !endpoint->is_there && endpoint->ping == NULL)
            place = endpoint;
    }
    if (place != NULL)
        *place = (struct knit_endpoint){
            .is_there = true, .has_address = true, .url = url, .address = *address};
}

void knit_endpoints_learn(
    struct knit_endpoints *all, uint32_t url, const struct addrinfo *list, int family)
{
    union knit_address address;

    if (family == AF_UNSPEC)
        family = family_of(all, url);
    /* A name that has none of that family any more is not believed. */
    if (!has_family(list, family))
        return;
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next)
        if (read_address(at, family, &address))
            add(all, url, &address);
    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++) {
        struct knit_endpoint *endpoint = &all->at[i];

        /* Where there was no room for the others it keeps what it has. */
        if (endpoint->is_there && endpoint->url == url && endpoint->has_address &&
            knit_endpoints_count_of(all, url) > 1 && !has_address(list, family, &endpoint->address))
            forget(endpoint);
    }
}

/* ---- how they fare ---- */

static bool may_eject(const struct knit_endpoints *all)
{
    uint32_t ejected = 0;

    for (uint32_t i = 0; i < KNIT_ENDPOINTS_MAX; i++)
        ejected += all->at[i].is_there && all->at[i].is_ejected;
    return 2 * (ejected + 1) <= knit_endpoints_count(all);
}

void knit_endpoint_eject_again(struct knit_endpoint *endpoint, uint64_t now_ns)
{
    endpoint->ejected_ns = endpoint->ejected_ns == 0 ? EJECTED_MS * ms : 2 * endpoint->ejected_ns;
    if (endpoint->ejected_ns > EJECTED_MAX_MS * ms)
        endpoint->ejected_ns = EJECTED_MAX_MS * ms;
    endpoint->is_ejected = true;
    endpoint->since_ns = now_ns;
    endpoint->due_ns = now_ns + endpoint->ejected_ns;
}

void knit_endpoint_fail(
    struct knit_endpoints *all, struct knit_endpoint *endpoint, uint64_t now_ns, uint64_t chance)
{
    uint64_t wait_ns = BACKOFF_MS * ms;

    if (endpoint->failures < 16)
        endpoint->failures++;
    if (endpoint->failures >= FAILURES && (endpoint->is_ejected || may_eject(all))) {
        /* One that has served for a minute begins anew. */
        if (!endpoint->is_ejected && endpoint->served_ns != 0 &&
            now_ns - endpoint->served_ns >= EJECTED_MAX_MS * ms)
            endpoint->ejected_ns = 0;
        knit_endpoint_eject_again(endpoint, now_ns);
        return;
    }
    wait_ns <<= endpoint->failures - 1;
    if (wait_ns > BACKOFF_MAX_MS * ms)
        wait_ns = BACKOFF_MAX_MS * ms;
    endpoint->due_ns = now_ns + wait_ns - chance % (wait_ns / 2);
}

void knit_endpoint_return(struct knit_endpoint *endpoint, uint64_t now_ns)
{
    endpoint->is_ejected = false;
    endpoint->served_ns = now_ns;
}
