/* SPDX-License-Identifier: Apache-2.0 */
/* Ids are splitmix64 of a sequence that begins at random: they need to be different, not secret. */
#include "server/rpc/reports.h"

#include <string.h>
#include <sys/random.h>

#include "fastpath/lane/bell.h"

uint64_t knit_reports_seed(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = knit_clock_ns();
    return seed;
}

static uint64_t next_id(struct knit_router *router)
{
    uint64_t id = router->ids += UINT64_C(0x9e3779b97f4a7c15);

    id = (id ^ id >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ id >> 27) * UINT64_C(0x94d049bb133111eb);
    id ^= id >> 31;
    return id != 0 ? id : 1;
}

bool knit_reports_identify(
    struct knit_router *router, struct knit_span text, struct knit_trace *ret_trace)
{
    uint64_t id;

    if (!knit_trace_parse(text, ret_trace))
        return false;
    id = next_id(router);
    memcpy(ret_trace->span, &id, sizeof(id));
    return true;
}
