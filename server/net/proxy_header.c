/* SPDX-License-Identifier: Apache-2.0 */
/* What is there of the signature is compared at once, since a peer that says anything else may wait
 * for an answer. The four bytes behind it are checked before what they announce is waited for.
 */
#include "server/net/proxy_header.h"

#include <netinet/in.h>
#include <string.h>

enum {
    COMMAND_LOCAL = 0x20, /* with version 2 */
    COMMAND_PROXY = 0x21,
    FAMILY_IPV4 = 1,
    FAMILY_IPV6 = 2,
    FAMILY_UNIX = 3,
    TRANSPORT_STREAM = 1,
    ADDRESSES_IPV4 = 12, /* source, destination, and both ports */
    ADDRESSES_IPV6 = 36,
};

static const uint8_t signature[12] = {
    '\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

static int refuse(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_PROXY_HEADER_E_BAD;
}

/* By the four bytes behind the signature: whether they may be. */
static const char *check(const uint8_t *bytes)
{
    size_t len = (size_t)(bytes[14] << 8 | bytes[15]);
    unsigned family = bytes[13] >> 4, transport = bytes[13] & 15;

    if (bytes[12] != COMMAND_LOCAL && bytes[12] != COMMAND_PROXY)
        return "its version or command is unknown";
    if (len > KNIT_PROXY_HEADER_MAX - KNIT_PROXY_HEADER_FIXED)
        return "it is longer than 1,024 bytes";
    if (bytes[12] == COMMAND_LOCAL)
        return NULL;
    if (family > FAMILY_UNIX || transport > TRANSPORT_STREAM)
        return "its family is unknown, or its transport no stream";
    if ((family == FAMILY_IPV4 && len < ADDRESSES_IPV4) ||
        (family == FAMILY_IPV6 && len < ADDRESSES_IPV6))
        return "it is too short for its addresses";
    return NULL;
}

static void read_source(const uint8_t *bytes, struct knit_endpoint *ret_from)
{
    const uint8_t *addresses = bytes + KNIT_PROXY_HEADER_FIXED;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&ret_from->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret_from->address;
    unsigned family = bytes[13] >> 4, transport = bytes[13] & 15;

    *ret_from = (struct knit_endpoint){.address_len = 0};
    if (bytes[12] == COMMAND_LOCAL || transport != TRANSPORT_STREAM)
        return;
    if (family == FAMILY_IPV4) {
        v4->sin_family = AF_INET;
        memcpy(&v4->sin_addr, addresses, 4);
        memcpy(&v4->sin_port, addresses + 8, 2);
        ret_from->address_len = sizeof(*v4);
    } else if (family == FAMILY_IPV6) {
        v6->sin6_family = AF_INET6;
        memcpy(&v6->sin6_addr, addresses, 16);
        memcpy(&v6->sin6_port, addresses + 32, 2);
        ret_from->address_len = sizeof(*v6);
    }
}

int knit_proxy_header_parse(const uint8_t *bytes, size_t len, size_t *ret_len,
    struct knit_endpoint *ret_from, const char **ret_reason)
{
    size_t whole = KNIT_PROXY_HEADER_FIXED;
    const char *reason;

    /* The first byte of anything else tells. */
    if (memcmp(bytes, signature, len < sizeof(signature) ? len : sizeof(signature)) != 0)
        return refuse(ret_reason, "there is none of version 2");
    if (len >= KNIT_PROXY_HEADER_FIXED) {
        reason = check(bytes);
        if (reason != NULL)
            return refuse(ret_reason, reason);
        whole += (size_t)(bytes[14] << 8 | bytes[15]);
    }
    *ret_len = whole;
    if (len < whole)
        return KNIT_PROXY_HEADER_E_SHORT;
    read_source(bytes, ret_from);
    return 0;
}
