/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants are looked up when a connection is opened, and never later: it keeps a pointer. */
#include "server/net/tenant.h"

#include <assert.h>
#include <stdlib.h>

static struct knit_tenant_bucket *bucket_of(struct knit_tenants *tenants, uint64_t key)
{
    /* 2^64 divided by the golden ratio; the high bits are the well mixed ones. */
    return &tenants->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 56];
}

struct knit_tenant *knit_tenant_join(struct knit_tenants *tenants, uint64_t key)
{
    struct knit_tenant_bucket *bucket = bucket_of(tenants, key);
    struct knit_tenant *tenant;

    LIST_FOREACH(tenant, bucket, in_bucket)
    if (tenant->key == key)
        break;
    if (tenant == NULL) {
        tenant = calloc(1, sizeof(*tenant));
        if (tenant == NULL)
            return NULL;
        tenant->key = key;
        TAILQ_INIT(&tenant->waiting);
        LIST_INSERT_HEAD(bucket, tenant, in_bucket);
    }
    tenant->connections++;
    return tenant;
}

void knit_tenant_leave(struct knit_tenant *tenant)
{
    if (--tenant->connections > 0)
        return;
    assert(tenant->charged_bytes == 0 && tenant->kept_bytes == 0 && TAILQ_EMPTY(&tenant->waiting));
    LIST_REMOVE(tenant, in_bucket);
    free(tenant);
}
