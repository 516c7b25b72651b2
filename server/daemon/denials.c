/* SPDX-License-Identifier: Apache-2.0 */
/* By the difference of two counts. Rejected: that workers tell what they have left out, who would
 * have to wake up for that after the last call. */
#include "server/daemon/denials.h"

#include "fastpath/host/pool.h"
#include "fastpath/host/stats.h"
#include "server/base/log.h"

static uint64_t count(struct knit_host *pool)
{
    struct knit_host_lane_stats stats;
    uint64_t total = 0;

    for (uint32_t lane = 0; lane < knit_host_lanes(pool); lane++) {
        knit_host_lane_stats(pool, lane, &stats);
        total += stats.denied;
    }
    return total;
}

bool knit_denials_end_second(
    struct knit_denials *denials, struct knit_host *pool, struct knit_log *log)
{
    const uint64_t total = count(pool);
    const uint64_t left = total > denials->told ? total - denials->told : 0;
    const uint64_t sure = left < denials->left ? left : denials->left;

    if (sure > denials->said) {
        knit_log_leave_out(log, KNIT_LOG_DENIED, sure - denials->said);
        denials->said = sure;
    }
    denials->left = left;
    return left > denials->said;
}
