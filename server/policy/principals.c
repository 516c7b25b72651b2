/* SPDX-License-Identifier: Apache-2.0 */
/* The anonymous one stands in no bucket and is never counted: most daemons have no other, and their
 * connections take no lock.
 */
#include "server/policy/principals.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/bell.h"

static void allow_all(void *arg, struct knit_principal *principal)
{
    (void)arg;
    knit_right_store(&principal->right, KNIT_RIGHTS_ALL);
}

/* FNV-1a. Names come from the operator, but for those of certificates, which the operator's
 * authority has signed. */
static uint64_t number_of(const char *name)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * UINT64_C(1099511628211);
    return hash >> 1;
}

/* gids: taken over when it returns one. */
static struct knit_principal *new_principal(
    enum knit_principal_kind kind, const char *name, uid_t uid, const gid_t *gids, size_t gid_count)
{
    size_t size = strlen(name) + 1;
    struct knit_principal *principal = calloc(1, sizeof(*principal) + size);

    if (principal == NULL)
        return NULL;
    principal->kind = kind;
    principal->uid = uid;
    principal->gids = gids;
    principal->gid_count = gid_count;
    memcpy(principal->name, name, size);
    principal->number = number_of(name);
    return principal;
}

static void free_principal(struct knit_principal *principal)
{
    if (principal == NULL)
        return;
    free((gid_t *)(uintptr_t)principal->gids);
    free(principal);
}

int knit_principals_init(struct knit_principals *principals)
{
    *principals = (struct knit_principals){.rule = allow_all};
    (void)pthread_mutex_init(&principals->mutex, NULL);
    principals->anonymous =
        new_principal(KNIT_PRINCIPAL_ANONYMOUS, "anonymous", (uid_t)-1, NULL, 0);
    if (principals->anonymous == NULL)
        return -ENOMEM;
    allow_all(NULL, principals->anonymous);
    return 0;
}

void knit_principals_fini(struct knit_principals *principals)
{
    if (principals->anonymous == NULL)
        return;
    for (size_t i = 0; i < KNIT_PRINCIPALS_BUCKETS; i++) {
        struct knit_principal *principal;

        while ((principal = LIST_FIRST(&principals->buckets[i])) != NULL) {
            LIST_REMOVE(principal, in_bucket);
            free_principal(principal);
        }
    }
    free_principal(principals->anonymous);
    (void)pthread_mutex_destroy(&principals->mutex);
    *principals = (struct knit_principals){0};
}

/* With the lock. */
static void classify(struct knit_principals *principals, struct knit_principal *principal)
{
    if (principals->is_required && principal->kind == KNIT_PRINCIPAL_ANONYMOUS)
        knit_right_store(&principal->right, KNIT_RIGHTS_NOTHING);
    else
        principals->rule(principals->arg, principal);
}

void knit_principals_require(struct knit_principals *principals)
{
    principals->is_required = true;
    classify(principals, principals->anonymous);
}

void knit_principals_set_rule(
    struct knit_principals *principals, knit_principals_rule *rule, void *arg)
{
    struct knit_principal *principal;

    (void)pthread_mutex_lock(&principals->mutex);
    principals->rule = rule;
    principals->arg = arg;
    classify(principals, principals->anonymous);
    for (size_t i = 0; i < KNIT_PRINCIPALS_BUCKETS; i++)
        LIST_FOREACH(principal, &principals->buckets[i], in_bucket)
    classify(principals, principal);
    (void)pthread_mutex_unlock(&principals->mutex);
}

static struct knit_principal_bucket *bucket_of(
    struct knit_principals *principals, const struct knit_principal *principal)
{
    return &principals->buckets[principal->number % KNIT_PRINCIPALS_BUCKETS];
}

static bool is_same(const struct knit_principal *a, const struct knit_principal *b)
{
    return a->kind == b->kind && a->gid_count == b->gid_count && strcmp(a->name, b->name) == 0 &&
           (a->gid_count == 0 || memcmp(a->gids, b->gids, a->gid_count * sizeof(*a->gids)) == 0);
}

/* With the lock. One that owes stays without anybody who has it: who hangs up and comes again gets
 * around no limit. */
static void free_unless_needed(struct knit_principal *principal, uint64_t now_ns)
{
    if (principal->refs > 0 || knit_quota_owes(&principal->quota, now_ns))
        return;
    LIST_REMOVE(principal, in_bucket);
    free_principal(principal);
}

/* The one that is there already, or this one; in its place go those that owe no more. */
static struct knit_principal *share(
    struct knit_principals *principals, struct knit_principal *brought)
{
    struct knit_principal_bucket *bucket = bucket_of(principals, brought);
    struct knit_principal *principal, *next, *found = NULL;
    const uint64_t now_ns = knit_clock_ns();

    (void)pthread_mutex_lock(&principals->mutex);
    for (principal = LIST_FIRST(bucket); principal != NULL; principal = next) {
        next = LIST_NEXT(principal, in_bucket);
        if (is_same(principal, brought))
            found = principal;
        else
            free_unless_needed(principal, now_ns);
    }
    if (found == NULL) {
        found = brought;
        brought = NULL;
        classify(principals, found);
        LIST_INSERT_HEAD(bucket, found, in_bucket);
    }
    found->refs++;
    (void)pthread_mutex_unlock(&principals->mutex);
    free_principal(brought);
    return found;
}

struct knit_principal *knit_principals_local(
    struct knit_principals *principals, const struct knit_credentials *credentials)
{
    struct knit_principal *principal;
    char name[32];
    gid_t *gids;
    int count;

    if (!credentials->is_local)
        return principals->anonymous;
    count = knit_credentials_groups(credentials, &gids);
    if (count < 0)
        return NULL;
    (void)snprintf(name, sizeof(name), "uid:%u", (unsigned)credentials->uid);
    principal = new_principal(KNIT_PRINCIPAL_LOCAL, name, credentials->uid, gids, (size_t)count);
    if (principal == NULL) {
        free(gids);
        return NULL;
    }
    return share(principals, principal);
}

struct knit_principal *knit_principals_named(
    struct knit_principals *principals, enum knit_principal_kind kind, const char *name)
{
    struct knit_principal *principal = new_principal(kind, name, (uid_t)-1, NULL, 0);

    assert(kind == KNIT_PRINCIPAL_TOKEN || kind == KNIT_PRINCIPAL_CERTIFICATE);
    return principal != NULL ? share(principals, principal) : NULL;
}

void knit_principals_hold(struct knit_principals *principals, struct knit_principal *principal)
{
    if (principal == principals->anonymous)
        return;
    (void)pthread_mutex_lock(&principals->mutex);
    assert(principal->refs > 0);
    principal->refs++;
    (void)pthread_mutex_unlock(&principals->mutex);
}

void knit_principals_drop(struct knit_principals *principals, struct knit_principal *principal)
{
    if (principal == NULL || principal == principals->anonymous)
        return;
    (void)pthread_mutex_lock(&principals->mutex);
    assert(principal->refs > 0);
    principal->refs--;
    free_unless_needed(principal, knit_clock_ns());
    (void)pthread_mutex_unlock(&principals->mutex);
}
