/* SPDX-License-Identifier: Apache-2.0 */
/* Callers of other uids, in the test's own process: what the client library does with a grant. */
#pragma once

#include <sys/types.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/segment.h"
#include "tests/fastpath/pools.h"

struct guest {
    struct knit_pool_grant grant;
    struct knit_mapping request, reply, board;
    struct knit_session *session;
};

/* Mapped, but the pool has not been told. */
void guests_map(struct pools *pools, uid_t uid, struct guest *guest);
/* That, sealed and told. */
void guests_open(struct pools *pools, uid_t uid, struct guest *guest);
void guests_close(struct pools *pools, struct guest *guest);
