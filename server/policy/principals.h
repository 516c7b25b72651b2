/* SPDX-License-Identifier: Apache-2.0 */
/* All principals that something refers to: one of each name.
 *
 * A connection takes its principal when it is opened and when `$/hello` says another, so the lock
 * is taken then and not for calls. Whatever thread brings a principal, it gets its class before it
 * is seen, by the rule that holds; so a principal is never without one, and a new rule holds for
 * all at once.
 *
 * Rejected: a table that the main thread alone changes, which a loop asks by message. A certificate
 * is known on the loop only, whose connection would wait for the answer, and may be gone by then;
 * for a lock that is held for less than a microsecond, once a connection.
 *
 * Threads: any; one mutex. But the rule is set by the main thread.
 */
#pragma once

#include <pthread.h>

#include <knitting/code.h>

#include "server/policy/credentials.h"
#include "server/policy/principal.h"

enum { KNIT_PRINCIPALS_BUCKETS = 256 };

/* A longer one is not taken: the caller stays who it was. */
#define KNIT_PRINCIPAL_NAME_MAX 256

LIST_HEAD(knit_principal_bucket, knit_principal);

/* Gives the principal its class and whatever follows from it. With the table's lock, on any thread:
 * it takes no lock but the policy's (policy.h), and calls nothing of this file. */
typedef void knit_principals_rule(void *arg, struct knit_principal *principal);

struct knit_principals {
    pthread_mutex_t mutex;
    knit_principals_rule *rule;
    void *arg;
    struct knit_principal *anonymous; /* always there */
    bool is_required;                 /* that callers say who they are */
    struct knit_principal_bucket buckets[KNIT_PRINCIPALS_BUCKETS];
};

/* Under the first rule all may do everything. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_principals_init(struct knit_principals *principals);

/* Frees those as well that something still refers to. Accepts a zeroed one. */
void knit_principals_fini(struct knit_principals *principals);

/* From now on this rule decides: for all that there are, before it returns, and for all to come. */
void knit_principals_set_rule(
    struct knit_principals *principals, knit_principals_rule *rule, void *arg);

/* Before the first connection: whatever the rule says, the anonymous one may do nothing. */
void knit_principals_require(struct knit_principals *principals);

/* The principal of a peer: its user's, or anonymous if it is not local. Give it back by
 * knit_principals_drop(). NULL: no memory. */
KNIT_MUST_CHECK struct knit_principal *knit_principals_local(
    struct knit_principals *principals, const struct knit_credentials *credentials);

/* The one of that name, whose kind is TOKEN or CERTIFICATE. The same. */
KNIT_MUST_CHECK struct knit_principal *knit_principals_named(
    struct knit_principals *principals, enum knit_principal_kind kind, const char *name);

/* For one who has it already: it stays for another knit_principals_drop(). */
void knit_principals_hold(struct knit_principals *principals, struct knit_principal *principal);

/* Accepts NULL. */
void knit_principals_drop(struct knit_principals *principals, struct knit_principal *principal);
