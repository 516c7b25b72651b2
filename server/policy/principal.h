/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls: the one whom a daemon's policy, shares and log are about.
 *
 * A principal is one of
 *
 *     anonymous              whoever comes by TCP and shows nothing
 *     uid:1000               a user of this machine, by the unix socket; the kernel vouches for it
 *     token:NAME             whoever said a token in `$/hello` that stands in the file `tokens`
 *     cert:uri:..., cert:dns:...   whoever has the key of a certificate of that name
 *
 * There is one structure for all connections of a principal, on all loops (principals.h). It is
 * taken once when a connection is opened, or when its `$/hello` says who it is, and never on a
 * call's way, where its words are read alone.
 *
 * What a principal may do its right says (server/rpc/permit.h), which workers ask as well of calls
 * by shared memory; it is given by the policy, if there is one (policy.h).
 *
 * Threads: any may read. Names and ids are constant; the atomic words are written by the rule of
 * the table (knit_principals_set_rule()), which the main thread changes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "fastpath/lane/rights.h"
#include "server/policy/quota.h"

enum knit_principal_kind {
    KNIT_PRINCIPAL_ANONYMOUS,
    KNIT_PRINCIPAL_LOCAL,
    KNIT_PRINCIPAL_TOKEN,
    KNIT_PRINCIPAL_CERTIFICATE,
};

struct knit_principal {
    enum knit_principal_kind kind;
    /* Of a local one: its id, and all its groups, in ascending order. Two processes of one user
     * that are in different groups are two principals of one name. Else -1, and none. */
    uid_t uid;
    const gid_t *gids;
    size_t gid_count;
    /* What it may do, by fastpath/lane/rights.h. Without a policy KNIT_RIGHTS_ALL, or
     * KNIT_RIGHTS_NOTHING. */
    struct knit_right right;
    struct knit_quota quota; /* what it may ask for, and its weight */
    /* Made of its name, below 2^63: the flow of its sessions. Whoever comes again has the same, and
     * owes what it owed. */
    uint64_t number;
    /* The table's. */
    uint32_t refs;
    LIST_ENTRY(knit_principal) in_bucket;
    char name[]; /* as above; printable ASCII without blanks */
};

/* What the calls of a caller take. A slot counts until it is free, whatever the caller has been
 * told meanwhile. */
struct knit_account {
    uint32_t slots;
    size_t argument_bytes; /* in the request arena */
};

/* Whether nothing may be said to it but who it is (`$/hello`, `$/ping`). */
static inline bool knit_principal_is_stranger(const struct knit_principal *principal)
{
    /* What comes a moment later is decided by the new right. */
    return principal->kind == KNIT_PRINCIPAL_ANONYMOUS &&
           knit_right_class(&principal->right) == KNIT_RIGHTS_NOTHING;
}
