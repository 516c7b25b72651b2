/* SPDX-License-Identifier: Apache-2.0 */
/* What is paid later than in 2 seconds is more than 20 ms. */
#include "server/admin/budget.h"

uint64_t knit_budget_spend(struct knit_budget *budget, uint64_t now_ns, uint64_t work_ns)
{
    uint64_t since_ns = budget->paid_ns > now_ns ? budget->paid_ns : now_ns, ahead_ns;

    budget->paid_ns = since_ns + work_ns * KNIT_BUDGET_PART;
    ahead_ns = budget->paid_ns - now_ns;
    if (ahead_ns < KNIT_BUDGET_MOST_NS * KNIT_BUDGET_PART)
        return 0;
    return ahead_ns - (KNIT_BUDGET_MOST_NS - KNIT_BUDGET_RESUME_NS) * KNIT_BUDGET_PART;
}
