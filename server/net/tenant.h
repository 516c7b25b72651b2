/* SPDX-License-Identifier: Apache-2.0 */
/* Where connections come from: all of one user, or of one address, are one tenant, which holds no
 * more of a loop's input together than input.h lets it, and keeps no more than references.h lets
 * it.
 *
 * A user is the uid that the kernel vouches for, on the unix socket. A process id would tell
 * nothing: who wants more makes another process. An address is an IPv4 address, or the first 64
 * bits of an IPv6 address, since a host has all that begin so. All of this machine's own addresses
 * are one: whoever reaches one of them has them all.
 *
 * Each loop counts for itself, as each has its own budget.
 *
 * Threads: the loop's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

struct knit_connection;

TAILQ_HEAD(knit_connection_list, knit_connection);

enum { KNIT_TENANT_BUCKETS = 256 };

struct knit_tenant {
    uint64_t key;                        /* see knit_endpoint_peer_tenant() */
    uint32_t connections;                /* and handshakes */
    uint32_t strangers, handshakes;      /* of them */
    size_t charged_bytes;                /* of the budget of input */
    size_t rest_bytes;                   /* of that, outside of places, see input.c */
    uint32_t places;                     /* for long messages, taken */
    size_t kept_bytes;                   /* of requests and results, by server/rpc/references.h */
    struct knit_connection_list waiting; /* for budget, in the order in which they began to wait */
    TAILQ_ENTRY(knit_tenant) in_waiting;
    LIST_ENTRY(knit_tenant) in_bucket;
};

LIST_HEAD(knit_tenant_bucket, knit_tenant);
TAILQ_HEAD(knit_tenant_list, knit_tenant);

/* Zeroed memory is one without tenants. */
struct knit_tenants {
    struct knit_tenant_bucket buckets[KNIT_TENANT_BUCKETS];
};

/* One connection more. NULL: no memory. */
KNIT_MUST_CHECK struct knit_tenant *knit_tenant_join(struct knit_tenants *tenants, uint64_t key);

/* One less, which holds nothing and does not wait; the last one frees the tenant. */
void knit_tenant_leave(struct knit_tenant *tenant);
