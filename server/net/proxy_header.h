/* SPDX-License-Identifier: Apache-2.0 */
/* The header by which a proxy says for whom it connects: PROXY protocol, version 2 (of HAProxy).
 *
 *     signature[12] | version 2, command | family, transport | length u16 | addresses, more
 *
 * Only the source is of interest. What stands behind the addresses is skipped.
 *
 * Security: the bytes are hostile even from a proxy, which may be asked for it by anybody of its
 * network. Pure.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/net/endpoint.h"

enum {
    KNIT_PROXY_HEADER_FIXED = 16, /* up to the length */
    KNIT_PROXY_HEADER_MAX = 1024,

    KNIT_PROXY_HEADER_E_SHORT = 1, /* *ret_len bytes are needed, as far as is known */
    KNIT_PROXY_HEADER_E_BAD = 2,   /* *ret_reason says why */
};

/* Of a whole header: its length, and the client's address, whose address_len is 0 if there is none:
 * the proxy speaks for itself, or the client has none that is known here.
 * Returns 0, KNIT_PROXY_HEADER_E_SHORT, KNIT_PROXY_HEADER_E_BAD. */
KNIT_MUST_CHECK int knit_proxy_header_parse(const uint8_t *bytes, size_t len, size_t *ret_len,
    struct knit_endpoint *ret_from, const char **ret_reason);
