/* SPDX-License-Identifier: Apache-2.0 */
/* One comparison serves both kinds of address, since those of IPv4 are mapped (RFC 4291). */
#include "server/config/networks.h"

#include <arpa/inet.h>
#include <string.h>

enum { MAPPED_BITS = 96, ADDRESS_BITS = 128 };

static struct in6_addr map(struct in_addr v4)
{
    struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    memcpy(mapped.s6_addr + 12, &v4, sizeof(v4));
    return mapped;
}

static int bit_of(const struct in6_addr *address, unsigned place)
{
    return address->s6_addr[place / 8] >> (7 - place % 8) & 1;
}

/* Digits alone, at most `most`. */
static bool read_bits(const char *text, unsigned most, unsigned *ret_bits)
{
    unsigned bits = 0;
    size_t len = strlen(text);

    if (len == 0 || len > 3 || strspn(text, "0123456789") != len)
        return false;
    for (; *text != '\0'; text++)
        bits = bits * 10 + (unsigned)(*text - '0');
    *ret_bits = bits;
    return bits <= most;
}

static bool parse(const char *text, struct knit_network *ret_network)
{
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct knit_network network = {.bits = ADDRESS_BITS};
    char host[INET6_ADDRSTRLEN];
    struct in_addr v4;
    bool is_v4;

    if (len >= sizeof(host))
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    is_v4 = inet_pton(AF_INET, host, &v4) == 1;
    if (is_v4)
        network.address = map(v4);
    else if (inet_pton(AF_INET6, host, &network.address) != 1)
        return false;
    if (slash != NULL && !read_bits(slash + 1, is_v4 ? 32 : ADDRESS_BITS, &network.bits))
        return false;
    if (slash != NULL && is_v4)
        network.bits += MAPPED_BITS;
    for (unsigned place = network.bits; place < ADDRESS_BITS; place++)
        if (bit_of(&network.address, place) != 0)
            return false;
    *ret_network = network;
    return true;
}

int knit_networks_parse(
    const char *key, const char *text, struct knit_network *ret_network, struct knit_sentence *why)
{
    return parse(text, ret_network)
               ? 0
               : knit_sentence_set(why, KNIT_NETWORKS_E_REFUSED,
                     "%s: expected an address, or a network as in 10.0.0.0/8 or fd00::/8 without "
                     "bits behind its own, not '%s'",
                     key, text);
}

bool knit_networks_hold(const struct knit_network *network, const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    struct in6_addr own;

    if (address->ss_family == AF_INET)
        own = map(v4->sin_addr);
    else if (address->ss_family == AF_INET6)
        own = v6->sin6_addr;
    else
        return false;
    for (unsigned place = 0; place < network->bits; place++)
        if (bit_of(&network->address, place) != bit_of(&own, place))
            return false;
    return true;
}
