/* SPDX-License-Identifier: Apache-2.0 */
/* Callers of other uids, inside the test's process. They do with a grant what the client library
 * does.
 */
#pragma once

#include <sys/types.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/segment.h"
#include "tests/fastpath/pools.h"

struct guest {
    struct knit_host_grant grant;
    struct knit_mapping request, reply, board;
    struct knit_session *session;
};

/* Attaches and maps the segments, without a report to the pool. */
void guests_map(struct pools *pools, uid_t uid, struct guest *guest);
/* The same, and seals the request segment and reports it. */
void guests_open(struct pools *pools, uid_t uid, struct guest *guest);
void guests_close(struct pools *pools, struct guest *guest);
