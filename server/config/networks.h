/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of addresses, as a setting names them: 10.0.0.0/8, fd00::/8, or one address alone. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_NETWORKS_E_REFUSED = 1, /* the sentence says why */
};

/* IPv4 as the addresses of IPv6 that stand for it. */
struct knit_network {
    struct in6_addr address;
    unsigned bits;
};

/* key: the setting, for the sentence. Returns 0 or KNIT_NETWORKS_E_REFUSED. */
KNIT_MUST_CHECK int knit_networks_parse(
    const char *key, const char *text, struct knit_network *ret_network, struct knit_sentence *why);

/* Whether the address is in it; false for one that is of neither kind of internet. */
bool knit_networks_hold(const struct knit_network *network, const struct sockaddr_storage *address);
